//! Rpcs: outside the frame, each on a machine of its own that nothing was run on before.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::op::OpRow;
use kaos_kernel::output::Level;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{RpcContext, RunRpc};
use serde::Deserialize;

use crate::context::{CallContext, ScriptContext};
use crate::error::ScriptError;
use crate::functions::{FunctionHost, parse_request};
use crate::host::{Broadcast, Host, Raised, session_text};
use crate::library::Library;
use crate::runtime::{RegisterKind, RuntimeId, ServiceMachine};
use crate::value::Value;

/// What the workers of rpcs need, once the server is built.
#[derive(Clone)]
pub(crate) struct Scripting {
    pub(crate) library: Arc<Library>,
    /// Of one request, with every rpc that it calls.
    pub(crate) fuel: i64,
    pub(crate) context: ScriptContext,
    pub(crate) dev: bool,
}

/// One thread's worth of rpcs. Each request gets a machine that no other request has used; the next ones are
/// made ready after the answer is out.
pub(crate) struct Worker {
    scripts: Scripting,
    /// Seeds of machines; the order of tables in an rpc is not part of any replay, its answer is.
    seed: u64,
    /// One of each runtime that runs rpcs.
    spare: BTreeMap<RuntimeId, Box<dyn ServiceMachine>>,
}

/// Rpcs that call each other, the first one counted: each holds a machine.
const DEPTH_MAX: u32 = 8;

impl Worker {
    /// `seed` should differ between the workers of a server.
    pub(crate) fn new(scripts: &Scripting, seed: u64) -> Self {
        Worker { scripts: scripts.clone(), seed, spare: BTreeMap::new() }
    }

    /// Makes the next machines ready. Call it when there is nothing else to do.
    pub(crate) fn warm(&mut self) {
        for runtime in self.scripts.library.runtimes_of(RegisterKind::Rpc) {
            if !self.spare.contains_key(&runtime) {
                self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                // A failure shows itself, with its sentence, in the request that needs the machine.
                if let Ok((machine, _)) = self.scripts.library.services(runtime, self.seed) {
                    self.spare.insert(runtime, machine);
                }
            }
        }
    }

    /// Runs one rpc. An rpc that calls another runs it in itself, on a machine of its own, with what is left of its fuel:
    /// one request takes no more than `call.fuel` in all.
    ///
    /// # Errors
    /// `not_found`: no script registers `id`. What the script refused with. `script`: it failed or used up its fuel.
    pub(crate) fn run(&mut self, rpc: &RunRpc, cx: &mut JobContext<'_>) -> Result<Bytes, Fault> {
        self.warm();
        let runtime = self.scripts.library.rpc(&rpc.id)?;
        let machine = match self.spare.remove(&runtime) {
            Some(machine) => Ok(machine),
            None => self.scripts.library.services(runtime, self.seed).map(|(machine, _)| machine),
        };
        let mut fuel = self.scripts.fuel;
        let mut run = Run { scripts: &self.scripts, job: cx, nested: 0, depth: 1 };
        run.rpc(machine, &rpc.id, &rpc.payload, &rpc.context, &mut fuel)
    }
}

/// One request with all that its rpcs call.
struct Run<'a, 'b> {
    scripts: &'a Scripting,
    job: &'a mut JobContext<'b>,
    /// Rpcs that were called in it so far: each has dice of its own.
    nested: u32,
    /// Rpcs that run in each other.
    depth: u32,
}

impl Run<'_, '_> {
    /// Runs an rpc on a machine that nothing was run on, and takes what it used from `fuel`.
    fn rpc(
        &mut self,
        machine: Result<Box<dyn ServiceMachine>, ScriptError>,
        id: &str,
        payload: &[u8],
        context: &RpcContext,
        fuel: &mut i64,
    ) -> Result<Bytes, Fault> {
        let mut machine = machine.map_err(|error| self.failed(id, &error.to_string()))?;
        let arguments = [self.scripts.context.of_call(&CallContext::rpc(context)), Value::text(payload)];
        let budget = (*fuel).max(0);
        let mut host = RpcHost { run: self, source: id, context, dice: Dice::of(context.seed, "rpc", 0) };
        let Some(called) = machine.call(&mut host, (RegisterKind::Rpc, id), &arguments, budget) else {
            return Err(Fault::not_found(format!("no script registers an rpc `{id}` any more")));
        };
        *fuel -= called.as_ref().map_or_else(|error| error.fuel, |called| called.fuel);
        match called {
            Ok(called) => self.answer(id, called.value.into_iter().next().unwrap_or_default()),
            Err(error) => Err(self.raised(id, &error)),
        }
    }

    /// The bytes of what an rpc returned: text as it is, other values as JSON.
    fn answer(&mut self, id: &str, value: Value) -> Result<Bytes, Fault> {
        match value {
            Value::Text(bytes) => Ok(bytes.into()),
            Value::Nil => Ok(Bytes::new()),
            value => match value.to_json() {
                Ok(json) => Ok(json.to_string().into()),
                Err(unfit) => {
                    Err(self.failed(id, &format!("rpc {id} returned what JSON cannot hold: {unfit}")))
                }
            },
        }
    }

    /// What whoever called is told of an rpc that raised.
    fn raised(&mut self, id: &str, error: &ScriptError) -> Fault {
        let told = error.refusal.as_ref().and_then(|refusal| self.scripts.library.functions.told(refusal));
        told.unwrap_or_else(|| {
            let text = format!("{error}\n  in the rpc {id}\n  {}", error.stack_line());
            self.failed(id, &text)
        })
    }

    fn failed(&mut self, id: &str, text: &str) -> Fault {
        self.job.log(Level::Error, format!("rpc {id}"), text);
        if self.scripts.dev {
            Fault::new(FaultKind::Script, text.to_owned())
        } else {
            FaultKind::Script.into()
        }
    }

    /// `kaos.rpc(id, payload)` of a script: run here, where the asking rpc would only wait, as whom a script
    /// asks: the server. So rpcs never wait for each other's threads.
    fn nested(&mut self, request: Value, context: &RpcContext, fuel: &mut i64) -> Result<Value, Raised> {
        let (id, payload) = match request {
            Value::Map(mut fields) => (fields.remove("id"), fields.remove("payload")),
            _ => (None, None),
        };
        let id = id.as_ref().and_then(Value::as_str).ok_or("`id` is the name of an rpc, a string")?;
        let payload =
            Blob::deserialize(payload.unwrap_or_default()).map_err(|e| format!("`payload`: {e}"))?;
        if self.depth == DEPTH_MAX {
            return Err(format!("rpcs call each other {DEPTH_MAX} deep at most, and this is one more").into());
        }
        self.nested += 1;
        let mut dice = Dice::of(context.seed, "nested rpc", self.nested.into());
        let context = RpcContext {
            seed: dice.roll(),
            now_ms: context.now_ms,
            node: context.node.clone(),
            ..RpcContext::default()
        };
        let runtime = self.scripts.library.rpc(id).map_err(Raised::of)?;
        let machine = self.scripts.library.services(runtime, dice.roll()).map(|(machine, cost)| {
            *fuel -= cost;
            machine
        });
        if *fuel < 0 {
            return Err("too little fuel is left to begin it".into());
        }
        self.depth += 1;
        let answer = self.rpc(machine, id, &payload.0, &context, fuel);
        self.depth -= 1;
        let answer = answer.map_err(Raised::of)?;
        Ok(Value::map([("payload", Value::text(answer))]))
    }
}

/// A host whose every function asks the frame and waits.
struct RpcHost<'r, 'a, 'b> {
    run: &'r mut Run<'a, 'b>,
    source: &'r str,
    context: &'r RpcContext,
    dice: Dice,
}

impl RpcHost<'_, '_, '_> {
    fn ask(&mut self, op: &str, request: &Value) -> Result<Value, Raised> {
        let json = request.to_json().map_err(|unfit| unfit.to_string())?;
        let reply = self.run.job.ask(op, json.to_string().into()).map_err(Raised::of)?;
        let json: serde_json::Value = serde_json::from_slice(&reply).map_err(|error| error.to_string())?;
        Ok(Value::from_json(&json))
    }
}

impl Host for RpcHost<'_, '_, '_> {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.context.now_ms).unwrap_or(i64::MAX)
    }

    fn log(&mut self, level: Level, line: &str) {
        self.run.job.log(level, format!("rpc {}", self.source), line);
    }

    fn broadcast(&mut self, broadcast: Broadcast<'_>) -> Result<(), String> {
        let id = |session: &u64| Value::text(session_text(*session));
        let mut request = vec![
            ("room_id", Value::text(broadcast.room)),
            ("op", Value::Int(broadcast.op.into())),
            // JSON knows no bytes: a list of numbers holds what text cannot.
            (
                "data",
                match std::str::from_utf8(broadcast.data) {
                    Ok(text) => Value::text(text),
                    Err(_) => {
                        Value::List(broadcast.data.iter().map(|byte| Value::Int((*byte).into())).collect())
                    }
                },
            ),
            ("reliable", Value::Bool(broadcast.reliable)),
        ];
        if let Some(sender) = &broadcast.sender {
            request.push(("sender", id(sender)));
        }
        if let Some(to) = broadcast.to {
            request.push(("to", Value::List(to.iter().map(id).collect())));
        }
        let op = self.run.scripts.library.functions.broadcast();
        let op = op.ok_or("this server has no operation that broadcasts")?;
        self.ask(op, &Value::map(request)).map(drop).map_err(|raised| raised.text)
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, fuel: &mut i64) -> Result<Vec<Value>, Raised> {
        let scripts = self.run.scripts;
        scripts.library.functions.call(self, function, arguments, fuel)
    }
}

impl FunctionHost for RpcHost<'_, '_, '_> {
    fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn op(&mut self, row: &OpRow, request: Value, fuel: &mut i64) -> Result<Value, Raised> {
        if row.op.script == ScriptUse::Rpc {
            let context = self.context;
            return self.run.nested(request, context, fuel);
        }
        parse_request(&self.run.scripts.library.matches, row, request.clone())?;
        let reply = self.ask(&row.op.name, &request)?;
        // The same answer as in a match: the id, not the reply that holds it.
        Ok(match row.op.draws {
            Some(field) => reply.get(field).cloned().unwrap_or_default(),
            None => reply,
        })
    }
}
