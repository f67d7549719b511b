//! The Lua machine from outside: sandbox, limits, errors, values, hash, matches.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod games;
mod hashes;
mod sandbox;
mod values;

use std::sync::Arc;

use kaos_kernel::output::Level;
use kaos_script::lua::{Config, ModuleRef, Vm};
use kaos_script::runtime::Limits;
use kaos_script::{Broadcast, FunctionName, Host, Raised, ScriptError, Sources, Value};

/// A host that remembers.
#[derive(Default)]
struct Desk {
    now_ms: i64,
    logs: Vec<(Level, String)>,
    broadcasts: Vec<Sent>,
    calls: Vec<(usize, Vec<Value>)>,
    answer: Option<Result<Value, String>>,
    panics: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    room: String,
    sender: Option<u64>,
    data: Vec<u8>,
    to: Option<Vec<u64>>,
    op: u8,
    reliable: bool,
}

impl Host for Desk {
    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn log(&mut self, level: Level, line: &str) {
        self.logs.push((level, line.to_owned()));
    }

    fn broadcast(&mut self, broadcast: Broadcast<'_>) -> Result<(), String> {
        assert!(!self.panics, "the host's own mistake");
        if broadcast.room == "nowhere" {
            return Err("there is no room nowhere".to_owned());
        }
        self.broadcasts.push(Sent {
            room: broadcast.room.to_owned(),
            sender: broadcast.sender,
            data: broadcast.data.to_vec(),
            to: broadcast.to.map(<[u64]>::to_vec),
            op: broadcast.op,
            reliable: broadcast.reliable,
        });
        Ok(())
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, _: &mut i64) -> Result<Vec<Value>, Raised> {
        self.calls.push((function, arguments));
        self.answer.clone().unwrap_or(Ok(Value::Nil)).map(|value| vec![value]).map_err(Raised::from)
    }
}

const FUNCTIONS: [&str; 2] = ["room_presences", "room_label"];

fn sources(files: &[(&str, &str)]) -> Arc<Sources> {
    let mut sources = Sources::new("scripts");
    for (path, text) in files {
        sources.insert(*path, text);
    }
    Arc::new(sources)
}

fn config(seed: u64, files: &[(&str, &str)]) -> Config {
    Config {
        seed,
        limits: Limits::default(),
        sources: sources(files),
        functions: FUNCTIONS.iter().copied().map(FunctionName::kaos).collect(),
    }
}

/// Loads `text` as `scripts/a.lua`.
fn load(text: &str) -> (Vm, Desk, Result<ModuleRef, ScriptError>) {
    let mut vm = Vm::new(config(7, &[("a.lua", text)])).unwrap();
    let mut desk = Desk::default();
    let module = vm.load(&mut desk, "a.lua").map(|called| called.value);
    (vm, desk, module)
}

/// Runs `text` as the body of `scripts/a.lua`, line 1, and gives what it returned.
fn eval(text: &str) -> Result<Vec<Value>, ScriptError> {
    eval_with(text, &mut Desk::default(), &[])
}

fn eval_with(text: &str, desk: &mut Desk, arguments: &[Value]) -> Result<Vec<Value>, ScriptError> {
    let file = format!("return {{ f = function(...) {text}\nend }}");
    let mut vm = Vm::new(config(7, &[("a.lua", &file)])).unwrap();
    let module = vm.load(desk, "a.lua")?.value;
    let function = vm.function(&module, "f")?.unwrap();
    let fuel = vm.limits().load_fuel;
    Ok(vm.call(desk, "f", function, arguments, fuel)?.value)
}

fn one(text: &str) -> Value {
    eval(text).unwrap().into_iter().next().unwrap_or_default()
}
