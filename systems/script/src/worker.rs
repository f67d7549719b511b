//! Rpcs: outside the frame, each on a machine of its own that nothing was run on before.

use std::sync::Arc;

use kaos_kernel::output::{Level, Log, RpcContext};
use kaos_kernel::prelude::*;

use crate::functions::{Does, request};
use crate::host::{Cast, Host, LogLevel, session_text};
use crate::library::Library;
use crate::lua::{RegisterKind, Vm};
use crate::plugin::Scripting;
use crate::value::Value;

/// One thread's worth of rpcs. Each request gets a machine that no other request has used; the next one is
/// made ready after the answer is out.
pub struct Worker {
    library: Arc<Library>,
    fuel: i64,
    dev: bool,
    /// Seeds of machines; the order of tables in an rpc is not part of any replay, its answer is.
    seed: u64,
    spare: Option<Vm>,
}

/// How an rpc calls an operation: number of the call, operation, request as JSON; the reply as JSON.
pub type Ask<'a> = &'a mut dyn FnMut(u32, &str, Bytes) -> Result<Bytes, Fault>;

impl Worker {
    /// `seed` should differ between the workers of a server.
    pub fn new(scripts: &Scripting, seed: u64) -> Self {
        Worker { library: scripts.library.clone(), fuel: scripts.fuel, dev: scripts.dev, seed, spare: None }
    }

    /// Makes the next machine ready. Call it when there is nothing else to do.
    pub fn warm(&mut self) {
        if self.spare.is_none() {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // A failure shows itself, with its sentence, in the request that needs the machine.
            self.spare = self.library.service_vm(self.seed, &mut Vec::new()).ok();
        }
    }

    /// Runs one rpc. Lines for the log go to `logs`.
    ///
    /// # Errors
    /// `not_found`: no script registers `id`. `script`: it failed or used up its fuel.
    pub fn run(
        &mut self,
        id: &str,
        payload: &[u8],
        context: &RpcContext,
        ask: Ask<'_>,
        logs: &mut Vec<Log>,
    ) -> Result<Bytes, Fault> {
        self.warm();
        let mut vm = match self.spare.take() {
            Some(vm) => vm,
            None => {
                let error = self.library.service_vm(self.seed, &mut Vec::new()).err();
                return Err(self.failed(
                    id,
                    &error.map_or_else(String::new, |error| error.to_string()),
                    logs,
                ));
            }
        };
        let function =
            vm.registered().into_iter().find(|row| row.kind == RegisterKind::Rpc && row.name == id);
        let Some(function) = function.map(|row| row.function) else {
            return Err(Fault::not_found(format!("no script registers an rpc `{id}`")));
        };
        let mut host = Asking {
            library: &self.library,
            source: id,
            context,
            ask,
            seq: 0,
            logs,
            uuids: Dice::of(context.seed, "rpc", 0),
        };
        let called = vm.call(&mut host, id, function, &[ctx(context), Value::text(payload)], self.fuel);
        match called {
            Ok(called) => match called.value.into_iter().next().unwrap_or_default() {
                Value::Text(bytes) => Ok(bytes.into()),
                Value::Nil => Ok(Bytes::new()),
                value => match value.to_json() {
                    Ok(json) => Ok(json.to_string().into()),
                    Err(unfit) => Err(self.failed(
                        id,
                        &format!("rpc {id} returned what JSON cannot hold: {unfit}"),
                        logs,
                    )),
                },
            },
            Err(error) => {
                let text = format!("{error}\n  in the rpc {id}\n  {}", error.stack_line());
                Err(self.failed(id, &text, logs))
            }
        }
    }

    fn failed(&self, id: &str, text: &str, logs: &mut Vec<Log>) -> Fault {
        logs.push(Log { level: Level::Error, source: format!("rpc {id}"), text: text.to_owned() });
        if self.dev { Fault::new(FaultKind::Script, text.to_owned()) } else { FaultKind::Script.into() }
    }
}

fn ctx(context: &RpcContext) -> Value {
    let mut fields = vec![
        ("user_id", Value::text(&context.user_id)),
        ("username", Value::text(&context.username)),
        ("now", Value::Int(i64::try_from(context.now_ms).unwrap_or(i64::MAX))),
        ("node", Value::text(&context.node)),
        ("vars", Value::map(context.vars.iter().map(|(name, value)| (name.clone(), Value::text(value))))),
    ];
    if let Some(session) = context.session_id {
        fields.push(("session_id", Value::text(session.to_string())));
    }
    Value::map(fields)
}

/// A host whose every function asks the frame and waits.
struct Asking<'a, 'b> {
    library: &'a Library,
    source: &'a str,
    context: &'a RpcContext,
    ask: Ask<'b>,
    seq: u32,
    logs: &'a mut Vec<Log>,
    uuids: Dice,
}

impl Asking<'_, '_> {
    fn ask(&mut self, op: &str, request: &Value) -> Result<Value, String> {
        let json = request.to_json().map_err(|unfit| unfit.to_string())?;
        self.seq += 1;
        let reply =
            (self.ask)(self.seq, op, json.to_string().into()).map_err(|fault| fault.message.into_owned())?;
        let json: serde_json::Value = serde_json::from_slice(&reply).map_err(|error| error.to_string())?;
        Ok(Value::from_json(&json))
    }
}

impl Host for Asking<'_, '_> {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.context.now_ms).unwrap_or(i64::MAX)
    }

    fn log(&mut self, level: LogLevel, line: &str) {
        let level = match level {
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
            LogLevel::Error => Level::Error,
        };
        self.logs.push(Log { level, source: format!("rpc {}", self.source), text: line.to_owned() });
    }

    fn broadcast(&mut self, cast: Cast<'_>) -> Result<(), String> {
        let id = |session: &u64| Value::text(session_text(*session));
        let mut request = vec![
            ("room_id", Value::text(cast.room)),
            ("op", Value::Int(cast.op.into())),
            // JSON knows no bytes: a list of numbers holds what text cannot.
            (
                "data",
                match std::str::from_utf8(cast.data) {
                    Ok(text) => Value::text(text),
                    Err(_) => Value::List(cast.data.iter().map(|byte| Value::Int((*byte).into())).collect()),
                },
            ),
            ("reliable", Value::Bool(cast.reliable)),
        ];
        if let Some(sender) = &cast.sender {
            request.push(("sender", id(sender)));
        }
        if let Some(to) = cast.to {
            request.push(("to", Value::List(to.iter().map(id).collect())));
        }
        self.ask("room.broadcast", &Value::map(request)).map(|_| ())
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, _: &mut i64) -> Result<Value, String> {
        let (_, does) = self.library.function(function).ok_or("this function is not there")?;
        match does {
            Does::Uuid => Ok(Value::text(self.uuids.uuid().hyphenated().to_string())),
            Does::Call { op, args, draws, .. } => {
                let (op, draws) = (op.clone(), *draws);
                let request = request(args, arguments)?;
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
