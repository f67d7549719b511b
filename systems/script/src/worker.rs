//! Rpcs: outside the frame, each on a machine of its own that nothing was run on before.

use kaos_kernel::output::Level;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{RpcContext, RunRpc};
use serde::Deserialize;

use crate::functions::{FunctionKind, bind_args, no_args, parse_request};
use crate::host::{Broadcast, Host, Raised, session_text};
use crate::lua::{RegisterKind, ScriptError, Vm};
use crate::plugin::Scripting;
use crate::value::Value;

/// One thread's worth of rpcs. Each request gets a machine that no other request has used; the next one is
/// made ready after the answer is out.
pub(crate) struct Worker {
    scripts: Scripting,
    /// Seeds of machines; the order of tables in an rpc is not part of any replay, its answer is.
    seed: u64,
    spare: Option<Vm>,
}

/// Rpcs that call each other, the first one counted: each holds a machine.
const DEPTH_MAX: u32 = 8;

impl Worker {
    /// `seed` should differ between the workers of a server.
    pub(crate) fn new(scripts: &Scripting, seed: u64) -> Self {
        Worker { scripts: scripts.clone(), seed, spare: None }
    }

    /// Makes the next machine ready. Call it when there is nothing else to do.
    pub(crate) fn warm(&mut self) {
        if self.spare.is_none() {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // A failure shows itself, with its sentence, in the request that needs the machine.
            self.spare = self.scripts.library.service_vm(self.seed, &mut Vec::new()).ok().map(|made| made.0);
        }
    }

    /// Runs one rpc. An rpc that calls another runs it in itself, on a machine of its own, with what is left of its fuel:
    /// one request takes no more than `call.fuel` in all.
    ///
    /// # Errors
    /// `not_found`: no script registers `id`. `script`: it failed or used up its fuel.
    pub(crate) fn run(&mut self, rpc: &RunRpc, cx: &mut JobContext<'_>) -> Result<Bytes, Fault> {
        self.warm();
        let vm = match self.spare.take() {
            Some(vm) => Ok(vm),
            None => self.scripts.library.service_vm(self.seed, &mut Vec::new()).map(|made| made.0),
        };
        let mut fuel = self.scripts.fuel;
        let mut run = Run { scripts: &self.scripts, job: cx, nested: 0, depth: 1 };
        run.rpc(vm, &rpc.id, &rpc.payload, &rpc.context, &mut fuel)
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
        vm: Result<Vm, ScriptError>,
        id: &str,
        payload: &[u8],
        context: &RpcContext,
        fuel: &mut i64,
    ) -> Result<Bytes, Fault> {
        let mut vm = vm.map_err(|error| self.failed(id, &error.to_string()))?;
        let rows = vm.registered();
        let Some(row) = rows.iter().find(|row| row.kind == RegisterKind::Rpc && row.name == id) else {
            let known = rows.iter().filter(|row| row.kind == RegisterKind::Rpc).map(|row| row.name.clone());
            let nearest = kaos_kernel::spelling::nearest(id, known);
            return Err(Fault::not_found(format!("no script registers an rpc `{id}`{nearest}")));
        };
        let ctx = ctx(context, self.scripts.wait_ms, self.scripts.settings.as_ref());
        let arguments = [ctx, Value::text(payload)];
        let budget = (*fuel).max(0);
        let mut host = RpcHost { run: self, source: id, context, uuids: Dice::of(context.seed, "rpc", 0) };
        let called = vm.call(&mut host, id, row.function, &arguments, budget);
        *fuel -= called.as_ref().map_or_else(|error| error.fuel, |called| called.fuel);
        match called {
            Ok(called) => match called.value.into_iter().next().unwrap_or_default() {
                Value::Text(bytes) => Ok(bytes.into()),
                Value::Nil => Ok(Bytes::new()),
                value => match value.to_json() {
                    Ok(json) => Ok(json.to_string().into()),
                    Err(unfit) => {
                        Err(self.failed(id, &format!("rpc {id} returned what JSON cannot hold: {unfit}")))
                    }
                },
            },
            Err(ScriptError { refusal: Some(fault), .. }) => Err(fault),
            Err(error) => {
                let text = format!("{error}\n  in the rpc {id}\n  {}", error.stack_line());
                Err(self.failed(id, &text))
            }
        }
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
        let vm = self.scripts.library.service_vm(dice.roll(), &mut Vec::new()).map(|(vm, cost)| {
            *fuel -= cost;
            vm
        });
        if *fuel < 0 {
            return Err("too little fuel is left to begin it".into());
        }
        self.depth += 1;
        let answer = self.rpc(vm, id, &payload.0, &context, fuel);
        self.depth -= 1;
        let answer = answer.map_err(Raised::of)?;
        Ok(Value::map([("payload", Value::text(answer))]))
    }
}

fn ctx(context: &RpcContext, wait_ms: u64, settings: Option<&Value>) -> Value {
    let deadline = context.now_ms.saturating_add(wait_ms);
    let mut fields = vec![
        ("deadline", Value::Int(i64::try_from(deadline).unwrap_or(i64::MAX))),
        ("user_id", Value::text(&context.user_id)),
        ("username", Value::text(&context.username)),
        ("now", Value::Int(i64::try_from(context.now_ms).unwrap_or(i64::MAX))),
        ("node", Value::text(&context.node)),
        ("vars", Value::map(context.vars.iter().map(|(name, value)| (name.clone(), Value::text(value))))),
    ];
    if let Some(session) = context.session_id {
        fields.push(("session_id", Value::text(session.to_string())));
    }
    fields.extend(settings.cloned().map(|settings| ("settings", settings)));
    Value::map(fields)
}

/// A host whose every function asks the frame and waits.
struct RpcHost<'r, 'a, 'b> {
    run: &'r mut Run<'a, 'b>,
    source: &'r str,
    context: &'r RpcContext,
    uuids: Dice,
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
        self.ask("room.broadcast", &Value::map(request)).map(drop).map_err(|raised| raised.text)
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, fuel: &mut i64) -> Result<Value, Raised> {
        let scripts = self.run.scripts;
        let (_, does) = scripts.library.function(function).ok_or("this function is not there")?;
        match does {
            FunctionKind::Call { script: ScriptUse::Rpc, args, .. } => {
                let request = bind_args(args, arguments)?;
                let context = self.context;
                self.run.nested(request, context, fuel)
            }
            FunctionKind::Uuid => {
                no_args(&arguments)?;
                Ok(Value::text(self.uuids.uuid().hyphenated().to_string()))
            }
            FunctionKind::Call { op, args, draws, .. } => {
                let (op, draws) = (op.clone(), *draws);
                let request = bind_args(args, arguments)?;
                if let Some(row) = scripts.ops.by_name(&op) {
                    parse_request(&scripts.library, row, request.clone())?;
                }
                let reply = self.ask(&op, &request)?;
                // The same answer as in a match: the id, not the reply that holds it.
                Ok(match draws {
                    Some(field) => reply.get(field).cloned().unwrap_or_default(),
                    None => reply,
                })
            }
        }
    }
}
