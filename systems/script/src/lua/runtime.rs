//! Lua as a runtime: what its files are, and the machines that rpcs, hooks and matches run on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::game::Game;
use super::scan;
use super::vm::{Config, FnRef, Vm};
use crate::contract::{Callback, Left, MatchInit};
use crate::error::{ErrorKind, ScriptError};
use crate::functions::KAOS;
use crate::host::{Host, Loading, Message, Presence};
use crate::runtime::{
    Called, Checked, Limits, MatchMachine, Opening, Program, RegisterKind, Registered, Runtime,
    ServiceMachine, StateHash,
};
use crate::sources::{Diagnostic, Sources};
use crate::value::Value;

/// Files of Lua end so.
pub(super) const EXTENSION: &str = "lua";

/// What a machine with nothing loaded costs whoever has one made: some 0.2 ms.
const MACHINE_FUEL: i64 = 20_000;

/// Lua 5.4, with fuel and seeds.
pub struct Lua;

impl Runtime for Lua {
    fn name(&self) -> &'static str {
        "Lua"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &[EXTENSION]
    }

    fn passes_over(&self, file_name: &str) -> bool {
        file_name.ends_with(".d.lua")
    }

    fn check(&self, program: &Program) -> Checked {
        let mut checked = Checked::default();
        if let Err(error) = load_all(self, program, &mut checked) {
            checked.wrong.push(error.into());
            return checked;
        }
        checked.wrong.extend(unknown_functions(self, program));
        checked
    }

    fn services(&self, program: &Program, seed: u64) -> Result<(Box<dyn ServiceMachine>, i64), ScriptError> {
        let mut vm = machine(program, seed)?;
        let mut fuel = MACHINE_FUEL;
        for path in program.service_files(self) {
            fuel += vm.load(&mut Loading, path)?.fuel;
        }
        let handlers = vm.registered().into_iter().map(|row| ((row.kind, row.name), row.function)).collect();
        Ok((Box::new(Services { vm, handlers }), fuel))
    }

    fn open(
        &self,
        program: &Program,
        opening: &Opening<'_>,
        host: &mut dyn Host,
    ) -> Result<(Box<dyn MatchMachine>, MatchInit), ScriptError> {
        let vm = machine(program, opening.seed)?;
        let (game, init) = Game::begin(vm, host, opening.path, opening.ctx, opening.params)?;
        Ok((Box::new(game), init))
    }
}

/// A machine with nothing loaded.
fn machine(program: &Program, seed: u64) -> Result<Vm, ScriptError> {
    let Program { sources, functions, limits, .. } = program;
    Vm::new(Config { seed, limits: *limits, sources: sources.clone(), functions: functions.clone() })
}

/// Loads each file and says what it is.
///
/// # Errors
/// The machine is out of memory, so that nothing more can be said.
fn load_all(lua: &Lua, program: &Program, checked: &mut Checked) -> Result<(), ScriptError> {
    let mut vm = machine(program, 0)?;
    for path in program.files(lua) {
        let module = match vm.load(&mut Loading, path) {
            Ok(called) => called.value,
            Err(error) if error.kind == ErrorKind::Memory => return Err(error),
            Err(error) => {
                // Each file that requires a broken one says the same of it.
                let diagnostic = Diagnostic::from(error);
                if !checked.wrong.contains(&diagnostic) {
                    checked.wrong.push(diagnostic);
                }
                continue;
            }
        };
        match Callback::missing(|callback| vm.function(&module, callback.name()).map(|found| found.is_some()))
        {
            Ok(None) => checked.wrong.extend(no_match(&program.sources, path)),
            Ok(Some(missing)) if missing.is_empty() => checked.matches.push(path.to_owned()),
            Ok(Some(missing)) => {
                let missing = missing.join(", ");
                let message = format!("this match lacks {missing}: add the function to the table it returns");
                checked.wrong.push(at_return(&program.sources, path, message));
            }
            Err(error) => checked.wrong.push(error.into()),
        }
    }
    checked.registered = registered(&vm);
    Ok(())
}

/// What the loaded files registered.
fn registered(vm: &Vm) -> Vec<Registered> {
    let rows = vm.registered().into_iter().map(|row| {
        let (file, line) = row.place.rsplit_once(':').unwrap_or((&row.place, ""));
        let (file, line) = line.parse().map_or((row.place.as_str(), 0), |line| (file, line));
        Registered { kind: row.kind, name: row.name, file: file.to_owned(), line }
    });
    rows.collect()
}

/// What lies in matches/ is meant as a match: a file there that returns none is not finished.
fn no_match(sources: &Sources, path: &str) -> Option<Diagnostic> {
    path.strip_prefix("matches/")?;
    let message = "this file gives no match: it returns no table with the functions match_init, match_join, \
                   match_leave and match_loop. End it with `return M`, or move it out of matches/";
    Some(at_return(sources, path, message.to_owned()))
}

/// Something wrong with what a file returns: at the line in which it returns, or should, which is its last one that is not
/// empty.
fn at_return(sources: &Sources, path: &str, message: String) -> Diagnostic {
    let text = sources.get(path).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let lines = || text.lines().zip(1..);
    let returns = lines().filter(|(line, _)| line.starts_with("return")).last();
    let last = || lines().filter(|(line, _)| !line.trim().is_empty()).last();
    let line = returns.or_else(last).map_or(0, |(_, number)| number);
    Diagnostic { file: sources.shown(path), line, message }
}

/// Calls of functions that no machine has, with the nearest name. A name that a file also looks at without calling it is
/// passed over: it asks whether the function is there.
fn unknown_functions(lua: &Lua, program: &Program) -> Vec<Diagnostic> {
    // Each once: it takes a machine to find out what a module has.
    let modules: BTreeSet<&str> =
        program.functions.iter().map(|function| function.module.as_str()).chain([KAOS]).collect();
    let modules: BTreeMap<&str, Vec<String>> =
        modules.into_iter().filter_map(|module| Some((module, known_names(program, module)?))).collect();
    let names: Vec<&str> = modules.keys().copied().collect();
    let mut wrong = Vec::new();
    for path in program.files(lua) {
        let text = program.sources.get(path).map(|bytes| &bytes[..]).unwrap_or_default();
        let uses = scan::uses(text, &names);
        let asked = |found: &scan::Use| {
            uses.iter()
                .any(|other| (other.module, &other.name) == (found.module, &found.name) && !other.called)
        };
        for found in &uses {
            let known = modules.get(found.module).map(Vec::as_slice).unwrap_or_default();
            if !found.called || known.contains(&found.name) || asked(found) {
                continue;
            }
            let nearest = kaos_kernel::spelling::nearest(&found.name, known.iter().cloned());
            let message = format!("there is no `{}.{}`{nearest}", found.module, found.name);
            wrong.push(Diagnostic { file: program.sources.shown(path), line: found.line, message });
        }
    }
    wrong
}

/// What a module has in a machine, asked of a machine.
fn known_names(program: &Program, module: &str) -> Option<Vec<String>> {
    const ASK: &str =
        "return { names = function(m) local n = {} for k in pairs(_G[m]) do n[#n + 1] = k end return n end }";
    let mut sources = Sources::new("");
    sources.insert("names.lua", ASK);
    let functions = program.functions.clone();
    let config = Config { seed: 0, limits: Limits::default(), sources: Arc::new(sources), functions };
    let mut vm = Vm::new(config).ok()?;
    let loaded = vm.load(&mut Loading, "names.lua").ok()?.value;
    let names = vm.function(&loaded, "names").ok()??;
    let called = vm.call(&mut Loading, "names", names, &[Value::text(module)], 1_000_000).ok()?;
    match called.value.into_iter().next()? {
        Value::List(list) => list.into_iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A machine of rpcs and hooks.
struct Services {
    vm: Vm,
    handlers: BTreeMap<(RegisterKind, String), FnRef>,
}

impl ServiceMachine for Services {
    fn registered(&self) -> Vec<Registered> {
        registered(&self.vm)
    }

    fn call(
        &mut self,
        host: &mut dyn Host,
        (kind, name): (RegisterKind, &str),
        arguments: &[Value],
        fuel: i64,
    ) -> Option<Result<Called<Vec<Value>>, ScriptError>> {
        let handler = *self.handlers.get(&(kind, name.to_owned()))?;
        Some(self.vm.call(host, name, handler, arguments, fuel))
    }

    fn collect(&mut self) {
        self.vm.collect();
    }

    fn hash(&mut self) -> StateHash {
        self.vm.hash()
    }
}

impl MatchMachine for Game {
    fn join_attempt(
        &mut self,
        host: &mut dyn Host,
        presence: Presence<'_>,
        metadata: &Value,
    ) -> Result<Result<(), String>, ScriptError> {
        Game::join_attempt(self, host, presence, metadata)
    }

    fn join(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        Game::join(self, host, presences)
    }

    fn leave(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        Game::leave(self, host, presences)
    }

    fn tick(
        &mut self,
        host: &mut dyn Host,
        tick: u64,
        messages: &[Message<'_>],
    ) -> Result<Left, ScriptError> {
        Game::tick(self, host, tick, messages).map(|called| called.value)
    }

    fn signal(&mut self, host: &mut dyn Host, data: &Value) -> Result<Value, ScriptError> {
        Game::signal(self, host, data)
    }

    fn terminate(&mut self, host: &mut dyn Host, grace_s: u32) -> Result<(), ScriptError> {
        Game::terminate(self, host, grace_s)
    }

    fn set_ctx(&mut self, field: &str, value: &Value) -> Result<(), ScriptError> {
        Game::set_ctx(self, field, value)
    }

    fn rest(&mut self, tick: u64) {
        self.vm().rest(tick);
    }

    fn hash(&mut self) -> StateHash {
        Game::hash(self)
    }

    fn state(&mut self) -> Result<Value, String> {
        Game::state(self)
    }

    fn memory_bytes(&self) -> usize {
        Game::memory_bytes(self)
    }
}
