//! Functions that scripts call: one row each, by module and name. Operations become rows of `kaos` by themselves; features
//! add others.
//!
//! This file is the row and what its function can reach; `table` is all of them, and calls them.

mod table;
pub use table::Functions;
pub(crate) use table::parse_request;

use std::fmt;
use std::sync::Arc;

use kaos_kernel::op::{OpRow, OpTable};
use kaos_kernel::prelude::*;

use crate::host::{Host, Raised};
use crate::value::Value;

/// The module of the server's own functions.
pub const KAOS: &str = "kaos";

/// Functions of `kaos` that each runtime makes by itself: they are about values of the language, know the running file, or
/// are called most of all. No row has such a name.
pub const OWN: [&str; 11] = [
    "broadcast",
    "json_array",
    "json_decode",
    "json_encode",
    "logger_error",
    "logger_info",
    "logger_warn",
    "register_after",
    "register_before",
    "register_rpc",
    "time_now",
];

/// What scripts call a function: `kaos.room_create`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FunctionName {
    /// The module: `kaos`.
    pub module: String,
    /// The name in it: `room_create`.
    pub name: String,
}

impl FunctionName {
    /// A function of `kaos`.
    pub fn kaos(name: impl Into<String>) -> Self {
        FunctionName { module: KAOS.to_owned(), name: name.into() }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// What a function does: it is given as many arguments as its row names, nil for those that were left out, and gives back
/// any number of results.
pub type Work = Arc<dyn Fn(&mut FunctionCall<'_>, Vec<Value>) -> Result<Vec<Value>, Raised> + Send + Sync>;

/// A function that scripts of every language call.
///
/// ```
/// use kaos_script::{ScriptFunction, ScriptApp, Value};
/// use kaos_kernel::prelude::*;
///
/// fn plugin(app: &mut App) {
///     app.script_function(ScriptFunction::new("dice", "roll", |cx, arguments| {
///         let sides = arguments[0].as_int().filter(|sides| (2..=1000).contains(sides));
///         let sides = sides.ok_or("sides is a whole number from 2 to 1000")?;
///         Ok(vec![Value::Int(1 + (cx.dice().roll() % sides as u64) as i64)])
///     }).args(&["sides"]));
/// }
/// ```
#[derive(Clone)]
pub struct ScriptFunction {
    name: FunctionName,
    args: &'static [&'static str],
    waits: Waits,
    work: Work,
}

/// Where a function may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// It answers at once: everywhere.
    Never,
    /// It may wait for an answer: in rpcs alone, since nothing waits in a frame.
    InRpcs,
}

impl ScriptFunction {
    /// A function that answers at once and takes no arguments.
    pub fn new(
        module: impl Into<String>,
        name: impl Into<String>,
        work: impl Fn(&mut FunctionCall<'_>, Vec<Value>) -> Result<Vec<Value>, Raised> + Send + Sync + 'static,
    ) -> Self {
        let name = FunctionName { module: module.into(), name: name.into() };
        ScriptFunction { name, args: &[], waits: Waits::Never, work: Arc::new(work) }
    }

    /// Names its arguments, by position. More of them are refused at the script's line.
    pub fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    /// Says where it may be called.
    pub fn waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }
}

/// What a module says of itself.
#[derive(Clone)]
pub struct ScriptModule {
    name: String,
    numbers: Option<Numbers>,
}

/// What the number of a refusal means; `None`: it is no number of the module, and what was raised is a defect.
type Numbers = fn(i64) -> Option<FaultKind>;

impl ScriptModule {
    /// A module without a meaning for numbers.
    pub fn new(name: impl Into<String>) -> Self {
        ScriptModule { name: name.into(), numbers: None }
    }

    /// Says what scripts mean that refuse with a number. One module of a server may.
    pub fn numbers(mut self, meaning: Numbers) -> Self {
        self.numbers = Some(meaning);
        self
    }
}

/// Rows that features registered, until the scripts are loaded.
#[derive(Resource, Default)]
pub(crate) struct Registry {
    functions: Vec<ScriptFunction>,
    modules: Vec<ScriptModule>,
}

/// Registers a function of scripts.
pub(crate) fn register(app: &mut App, function: ScriptFunction) {
    app.init_resource::<Registry>();
    app.world_mut().resource_mut::<Registry>().functions.push(function);
}

/// Registers what a module says of itself.
pub(crate) fn register_module(app: &mut App, module: ScriptModule) {
    app.init_resource::<Registry>();
    app.world_mut().resource_mut::<Registry>().modules.push(module);
}

/// Why a function that waits cannot be called in the frame.
pub(crate) const WAITS: &str = "waits for its answer, and nothing may wait here: call it in an rpc";

/// What a function that a script calls can reach.
pub struct FunctionCall<'a> {
    host: &'a mut dyn FunctionHost,
    ops: &'a OpTable,
    fuel: &'a mut i64,
}

impl FunctionCall<'_> {
    /// Unix time of the frame, in milliseconds. In an rpc that of the frame in which it was called.
    pub fn now_ms(&self) -> i64 {
        self.host.now_ms()
    }

    /// Where randomness comes from: the only source that is the same in a replay.
    pub fn dice(&mut self) -> &mut Dice {
        self.host.dice()
    }

    /// Writes a line to the log.
    pub fn log(&mut self, level: Level, line: &str) {
        self.host.log(level, line);
    }

    /// Takes so much fuel from the script, for work that grows with what it gave.
    pub fn charge(&mut self, fuel: u32) {
        *self.fuel = self.fuel.saturating_sub(fuel.into());
    }

    /// Calls an operation, with what scripts may do: in the frame one that reads answers at once, and a command is applied
    /// later and gives only an id that was drawn for it; in an rpc every one is waited for.
    ///
    /// # Errors
    /// The operation's refusal, which stays itself when it is passed on. What does not fit its request. In the frame:
    /// whatever would wait.
    pub fn op(&mut self, name: &str, request: Value) -> Result<Value, Raised> {
        let row = self.ops.named(name).map_err(|fault| fault.message.into_owned())?;
        self.host.op(row, request, self.fuel)
    }
}

/// A host that answers functions of scripts.
pub(crate) trait FunctionHost: Host {
    /// Dice of the running call.
    fn dice(&mut self) -> &mut Dice;

    /// Whether a script waits for answers here.
    fn may_wait(&self) -> bool;

    /// Calls an operation.
    ///
    /// # Errors
    /// What the script is told at its line.
    fn op(&mut self, row: &OpRow, request: Value, fuel: &mut i64) -> Result<Value, Raised>;
}

/// `kaos.uuid()`: a version 4 UUID.
fn uuid() -> ScriptFunction {
    ScriptFunction::new(KAOS, "uuid", |cx, _| {
        Ok(vec![Value::text(cx.dice().uuid().hyphenated().to_string())])
    })
}
