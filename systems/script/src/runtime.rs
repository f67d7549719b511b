//! A language that scripts are written in: what the server asks of it, and what it is made from.

use std::collections::BTreeSet;
use std::sync::Arc;

use kaos_kernel::prelude::*;

use crate::contract::{Left, MatchInit};
use crate::error::ScriptError;
use crate::functions::FunctionName;
use crate::host::{Host, Message, Presence};
use crate::sources::{Diagnostic, Sources};
use crate::value::Value;

/// A language that scripts are written in. The extension of a file chooses it.
///
/// A runtime makes machines: one for each match, and others for what rpcs and hooks run on. A machine stays on the thread
/// that made it, and what happens in it depends on nothing but its seed and what it is handed: no clock, no randomness, no
/// file. What a script raises leaves a machine as a [`ScriptError`].
pub trait Runtime: Send + Sync + 'static {
    /// What people call the language.
    fn name(&self) -> &'static str;

    /// Extensions of the files that it takes, without the dot. Each belongs to one runtime.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a file with one of its extensions is for editors alone, such as `kaos.d.lua`: such a file is never loaded.
    fn passes_over(&self, _file_name: &str) -> bool {
        false
    }

    /// Loads each of its files once and says what it is. Whatever is wrong with them is found here, so that none of it is
    /// found by players.
    fn check(&self, program: &Program) -> Checked;

    /// A machine that rpcs and hooks run on: each of its files that is no match was loaded. Beside it the fuel that this
    /// took, which whoever asked for the machine pays.
    ///
    /// # Errors
    /// A file failed that did not fail in [`check`](Runtime::check): it depends on the order of a table or on chance.
    fn services(&self, program: &Program, seed: u64) -> Result<(Box<dyn ServiceMachine>, i64), ScriptError>;

    /// A machine with the match of a file, whose `match_init` was called.
    ///
    /// # Errors
    /// The file does not load, a required callback is missing, or `match_init` failed or gave what it must not give.
    fn open(
        &self,
        program: &Program,
        opening: &Opening<'_>,
        host: &mut dyn Host,
    ) -> Result<(Box<dyn MatchMachine>, MatchInit), ScriptError>;
}

/// A match on its way.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Of all chance in the machine, the order of tables included.
    pub seed: u64,
    /// The file, inside the scripts' directory.
    pub path: &'a str,
    /// The fields of `ctx`. The runtime adds `now`, [`Host::now_ms`], in each callback.
    pub ctx: &'a Value,
    /// The second argument of `match_init`.
    pub params: &'a Value,
}

/// What every machine of a server is made from.
#[derive(Debug, Clone)]
pub struct Program {
    /// All files, those of other runtimes too.
    pub sources: Arc<Sources>,
    /// Functions that [`Host::call`] answers, by their place in this list.
    pub functions: Arc<[FunctionName]>,
    /// What a machine may use.
    pub limits: Limits,
    /// Files that are matches: the machines of rpcs and hooks do not load them. Empty while files are checked.
    pub matches: BTreeSet<String>,
}

impl Program {
    /// The files of a runtime, in order.
    pub fn files<'a>(&'a self, runtime: &dyn Runtime) -> impl Iterator<Item = &'a str> {
        let extensions = runtime.extensions();
        self.sources.paths().filter(move |path| extensions.contains(&extension(path)))
    }

    /// The files of a runtime that are no matches, in order.
    pub fn service_files<'a>(&'a self, runtime: &dyn Runtime) -> impl Iterator<Item = &'a str> {
        self.files(runtime).filter(|path| !self.matches.contains(*path))
    }
}

/// What a machine may use. `MatchSettings::fuel` says what a unit of fuel is in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of everything that the machine holds. 16 MiB by default; a bare one of Lua has 30 KB.
    pub memory_bytes: usize,
    /// Fuel for loading a file with all that it requires, and for `match_init`. 5 million by default.
    pub load_fuel: i64,
    /// Fuel for every callback, the tick included. 100,000 by default.
    pub fuel: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 16 << 20, load_fuel: 5_000_000, fuel: 100_000 }
    }
}

/// What a runtime found in its files.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that are matches.
    pub matches: Vec<String>,
    /// What the files registered.
    pub registered: Vec<Registered>,
    /// What is wrong, each at its place.
    pub wrong: Vec<Diagnostic>,
}

/// What a function is registered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterKind {
    /// `kaos.register_rpc`.
    Rpc,
    /// `kaos.register_before`.
    Before,
    /// `kaos.register_after`.
    After,
}

impl RegisterKind {
    /// As in the function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// One function that a file registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As what.
    pub kind: RegisterKind,
    /// Under which name.
    pub name: String,
    /// In which file, as shown.
    pub file: String,
    /// In which line; 0 when it is not known.
    pub line: u32,
}

impl Registered {
    /// Something wrong with it, at its place.
    pub fn diagnostic(&self, message: String) -> Diagnostic {
        Diagnostic { file: self.file.clone(), line: self.line, message }
    }
}

/// What a call gave and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called<R> {
    /// What it gave.
    pub value: R,
    /// Fuel.
    pub fuel: i64,
}

/// The hash of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateHash {
    /// Equal in two processes exactly when scripts could tell no difference.
    pub hash: u64,
    /// Values that were visited.
    pub values: u32,
    /// False: the state is too large, and the hash covers a part of it: the same part wherever the states are equal.
    pub complete: bool,
}

/// A machine that rpcs and hooks run on.
pub trait ServiceMachine {
    /// What its files registered.
    fn registered(&self) -> Vec<Registered>;

    /// Calls what is registered under a name, with at most `fuel`. `None`: nothing is.
    fn call(
        &mut self,
        host: &mut dyn Host,
        function: (RegisterKind, &str),
        arguments: &[Value],
        fuel: i64,
    ) -> Option<Result<Called<Vec<Value>>, ScriptError>>;

    /// Frees what no script can reach any more. Called now and then, by a rule that counts calls.
    fn collect(&mut self);

    /// A number that is equal when the state is, in any process.
    fn hash(&mut self) -> StateHash;
}

/// A match on a machine of its own: the callbacks of the [contract](crate::contract), and the state between them.
///
/// A callback that fails leaves the state as it had changed it, and the next one is called with that. Whether there is a
/// next one is the policy of the server. An optional callback that is missing does nothing.
pub trait MatchMachine {
    /// `match_join_attempt`. `Ok(Err(reason))`: refused.
    ///
    /// # Errors
    /// The callback failed.
    fn join_attempt(
        &mut self,
        host: &mut dyn Host,
        presence: Presence<'_>,
        metadata: &Value,
    ) -> Result<Result<(), String>, ScriptError>;

    /// `match_join`.
    ///
    /// # Errors
    /// The callback failed.
    fn join(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError>;

    /// `match_leave`; each presence with its reason.
    ///
    /// # Errors
    /// The callback failed.
    fn leave(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError>;

    /// `match_loop` with what came since the last tick. The hot path.
    ///
    /// # Errors
    /// The callback failed.
    fn tick(&mut self, host: &mut dyn Host, tick: u64, messages: &[Message<'_>])
    -> Result<Left, ScriptError>;

    /// `match_signal`.
    ///
    /// # Errors
    /// The callback failed, or answered with what is not plain data.
    fn signal(&mut self, host: &mut dyn Host, data: &Value) -> Result<Value, ScriptError>;

    /// `match_terminate`.
    ///
    /// # Errors
    /// The callback failed.
    fn terminate(&mut self, host: &mut dyn Host, grace_s: u32) -> Result<(), ScriptError>;

    /// Sets a field of `ctx`.
    ///
    /// # Errors
    /// The machine is out of memory.
    fn set_ctx(&mut self, field: &str, value: &Value) -> Result<(), ScriptError>;

    /// Called after each tick: frees what no script can reach any more, by a rule that knows bytes and ticks alone.
    fn rest(&mut self, tick: u64);

    /// A number that is equal when the state is, in any process.
    fn hash(&mut self) -> StateHash;

    /// The state as plain data.
    ///
    /// # Errors
    /// What in it is not plain data, or that it is larger than [`Bounds::STATE`](crate::value::Bounds::STATE).
    fn state(&mut self) -> Result<Value, String>;

    /// Bytes that the machine holds.
    fn memory_bytes(&self) -> usize;
}

/// The runtimes of a server.
#[derive(Resource, Clone, Default)]
pub struct Runtimes(Vec<Arc<dyn Runtime>>);

/// The number of a runtime among those of a server.
pub(crate) type RuntimeId = usize;

impl Runtimes {
    /// Adds a runtime.
    ///
    /// # Errors
    /// A sentence: another one takes an extension of it.
    pub fn add(&mut self, runtime: Arc<dyn Runtime>) -> Result<(), String> {
        for extension in runtime.extensions() {
            if let Some(other) = self.0.iter().find(|other| other.extensions().contains(extension)) {
                let (name, other) = (runtime.name(), other.name());
                return Err(format!("two runtimes take files that end in .{extension}: {other} and {name}"));
            }
        }
        self.0.push(runtime);
        Ok(())
    }

    /// Each runtime with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RuntimeId, &dyn Runtime)> {
        self.0.iter().map(|runtime| &**runtime).enumerate()
    }

    /// A runtime by its number.
    pub(crate) fn get(&self, id: RuntimeId) -> Option<&dyn Runtime> {
        self.0.get(id).map(|runtime| &**runtime)
    }

    /// Which runtime takes a file.
    ///
    /// # Errors
    /// A sentence that names those that there are.
    pub(crate) fn of(&self, path: &str) -> Result<RuntimeId, String> {
        let extension = extension(path);
        let taken = self.iter().find(|(_, runtime)| runtime.extensions().contains(&extension));
        taken.map(|(id, _)| id).ok_or_else(|| {
            let known = self.iter().map(|(_, runtime)| {
                let extensions: Vec<_> = runtime.extensions().iter().map(|one| format!(".{one}")).collect();
                format!("{} takes {}", runtime.name(), extensions.join(" and "))
            });
            format!("no runtime takes this file: {}", known.collect::<Vec<_>>().join(", "))
        })
    }

    /// Whether a file is for editors alone.
    pub(crate) fn pass_over(&self, file_name: &str) -> bool {
        self.iter().any(|(_, runtime)| runtime.passes_over(file_name))
    }
}

/// What stands behind the last dot of a file's name; empty when there is none.
pub(crate) fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}
