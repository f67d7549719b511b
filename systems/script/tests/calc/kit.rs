//! A server without doors and rooms, with Lua and Calc, a few operations and a module of functions.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use kaos_kernel::call::job::JobContext;
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::{Body, Boot, Identity, Input};
use kaos_kernel::output::{Log, Outputs};
use kaos_kernel::prelude::*;
use kaos_kernel::script::{Env, RpcContext, RunRpc, ScriptHost};
use kaos_kernel::server::{Build, BuildError, Server};
use kaos_script::{Raised, ScriptApp, ScriptFunction, ScriptModule, Scripts, Sources, Value, Waits};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::calc::Calc;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Note {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Rpc {
    id: String,
    #[serde(default)]
    payload: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Answer {
    payload: String,
}

/// What the feature of this test adds.
pub(crate) fn feature(app: &mut App) {
    let read = Op::new("note.read").public().args(&["id"]).price(1);
    app.read_op(read, |_, _, note: Note| match note.id {
        1 => Ok(json!({ "id": 1, "tags": ["a", { "b": [] }] })),
        _ => Err(Fault::not_found("there is no such note").retry_in_ms(7)),
    });
    let write = Op::new("note.write").public().script(ScriptUse::Command).args(&["text"]).price(1);
    app.op(write, async |_: Call, note: Note| Ok::<_, Fault>(note));
    let rpc = Op::new("rpc").public().script(ScriptUse::Rpc).args(&["id", "payload"]).price(1);
    app.op(rpc, async |cx: Call, rpc: Rpc| {
        let context = RpcContext { user_id: "ada".to_owned(), seed: 5, ..RpcContext::default() };
        let answer = cx.job(RunRpc { id: rpc.id, payload: rpc.payload.into(), context }).await?;
        Ok::<_, Fault>(Answer { payload: String::from_utf8_lossy(&answer).into_owned() })
    });
    let divide = |_: &mut kaos_script::FunctionCall<'_>, given: Vec<Value>| {
        let (a, b) = given[0].as_int().zip(given[1].as_int()).ok_or("a and b are whole numbers")?;
        if b == 0 {
            return Err("nothing is divided by zero".into());
        }
        Ok(vec![Value::Int(a / b), Value::Int(a % b)])
    };
    app.script_function(ScriptFunction::new("demo", "divide", divide).args(&["a", "b"]))
        .script_function(
            ScriptFunction::new("demo", "note", |cx, given| {
                Ok(vec![cx.op("note.read", Value::map([("id", given[0].clone())]))?])
            })
            .args(&["id"]),
        )
        .script_function(
            ScriptFunction::new("demo", "slow", |_, _| Ok::<_, Raised>(vec![Value::text("done")]))
                .waits(Waits::InRpcs),
        )
        .script_module(
            ScriptModule::new("demo").numbers(|number| (number == 9).then_some(FaultKind::RateLimited)),
        );
}

pub(crate) struct Kit {
    pub(crate) server: Server,
    frame: u64,
    outputs: Outputs,
    pub(crate) logs: Vec<Log>,
}

/// Builds a server of the files.
pub(crate) fn build(files: &[(&str, &str)], plugin: impl FnOnce(&mut App)) -> Result<Server, BuildError> {
    let mut sources = Sources::new("scripts");
    for (path, text) in files {
        sources.insert(*path, text);
    }
    Server::build(Build::default(), |app| {
        plugin(app);
        app.add_plugins(Scripts::from_sources(sources));
    })
}

/// The sentences with which a server of the files is refused.
pub(crate) fn refused(files: &[(&str, &str)], plugin: impl FnOnce(&mut App)) -> Vec<String> {
    build(files, plugin).err().expect("refused").0
}

/// A server of the files, with Calc and the feature.
pub(crate) fn kit(files: &[(&str, &str)]) -> Kit {
    let server = build(files, |app| {
        feature(app);
        app.script_runtime(Calc);
    });
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let mut kit = Kit { server, frame: 0, outputs: Outputs::default(), logs: Vec::new() };
    kit.run(vec![Input::Boot(Boot { seed: 1, wall_ms: 1_700_000_000_000, node: 1 })]);
    kit
}

impl Kit {
    fn run(&mut self, mut inputs: Vec<Input>) {
        self.server.frame(self.frame, &mut inputs, &mut self.outputs);
        self.logs.extend(self.outputs.logs.iter().cloned());
        self.frame += 1;
    }

    /// Calls an operation, does its jobs, and gives the reply or the fault.
    pub(crate) fn call(&mut self, op: &str, body: &Json) -> Result<Json, Fault> {
        let (body, address) = (Body::Json(body.to_string().into()), Ipv4Addr::LOCALHOST.into());
        let identity = Some(Identity::default());
        let mut inputs = vec![Input::Call { ticket: Ticket(2), op: op.into(), identity, address, body }];
        for _ in 0..10 {
            self.run(inputs);
            if let Some(reply) = self.outputs.replies.pop() {
                return reply.result.map(|bytes| serde_json::from_slice(&bytes).unwrap());
            }
            let jobs = std::mem::take(&mut self.outputs.jobs);
            inputs = jobs.into_iter().map(|job| self.job(&job)).collect();
        }
        panic!("no reply")
    }

    fn job(&mut self, job: &kaos_kernel::output::Job) -> Input {
        let jobs = self.server.jobs();
        let mut worker = (jobs.get(job.name).unwrap().1)(3).unwrap();
        let (mut seq, mut logs) = (0, Vec::new());
        let mut ask = |op: &str, body: Bytes| {
            seq += 1;
            self.run(vec![Input::Ask { ticket: job.ticket, seq, op: op.to_owned(), body }]);
            while self.outputs.answers.is_empty() {
                self.run(Vec::new());
            }
            self.outputs.answers.remove(0).result
        };
        #[expect(clippy::disallowed_methods, reason = "a job runs outside of the frame")]
        let deadline = Instant::now() + Duration::from_secs(5);
        let answer = worker.run(&job.body, &mut JobContext::new(deadline, &mut ask, &mut logs));
        self.logs.extend(logs);
        Input::Done { ticket: job.ticket, answer }
    }

    /// Calls an rpc: what it answered, or the word and the sentence of the fault.
    pub(crate) fn rpc(&mut self, id: &str, payload: &str) -> Result<String, (String, String)> {
        let reply = self.call("rpc", &json!({ "id": id, "payload": payload }));
        reply
            .map(|reply| reply["payload"].as_str().unwrap().to_owned())
            .map_err(|fault| (fault.kind.name().to_owned(), fault.message.into_owned()))
    }

    /// Does something with the scripts of the frame, as a room does.
    pub(crate) fn scripts<R>(
        &mut self,
        work: impl FnOnce(&mut dyn kaos_kernel::script::Scripts, &mut Env<'_>) -> R,
    ) -> R {
        let ops = self.server.ops();
        let world = self.server.world();
        let mut host = world.remove_non_send::<ScriptHost>().unwrap();
        let mut dice = Dice::of(1, "test", 0);
        let mut env = Env::new(world, &ops, Caller::Server, &mut dice);
        let result = work(&mut *host.0, &mut env);
        self.logs.extend(env.finish().logs);
        self.server.world().insert_non_send(host);
        result
    }
}
