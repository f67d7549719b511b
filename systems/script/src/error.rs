//! What a script raised, as it leaves any runtime: a refusal or a defect, with its sentence, its place and its stack.

use kaos_kernel::fault::{Fault, FaultKind};

use crate::value::Value;

/// A call into a script that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The file, as shown: `scripts/matches/arena.lua`. Empty when it is not known.
    pub file: String,
    /// The line; 0 when it is not known.
    pub line: u32,
    /// The sentence, without file and line.
    pub message: String,
    /// The stack, innermost first, each `file:line in function`.
    pub traceback: Vec<String>,
    /// Fuel that the call had used when it failed.
    pub fuel: i64,
    /// The script meant to refuse: what it says to whoever asked. `None`: a defect, which stays with the server.
    pub refusal: Option<Box<ScriptRefusal>>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The script raised an error, or its text cannot be read. It may be called again.
    Error,
    /// It used up its fuel. It may be called again.
    Fuel,
    /// It is out of memory. The machine must not be used again.
    Memory,
    /// It recursed too deep. It may be called again.
    Depth,
    /// It broke the contract: a missing callback, a return value of the wrong kind.
    Contract,
}

/// What a script refused a request with.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptRefusal {
    /// Which kind of refusal.
    pub code: RefusalCode,
    /// The sentence for whoever asked.
    pub message: String,
    /// Milliseconds after which the same request may pass; 0: do not repeat it.
    pub retry_ms: u32,
    /// What the script gave besides. No door of today sends it.
    pub data: Option<Value>,
}

/// How a script says why it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// By a word of the fault table that a request may be refused with, [`FaultKind::OF_REQUESTS`].
    Kind(FaultKind),
    /// By a number. It is a refusal where a module says what its numbers mean ([`ScriptModule::numbers`]), and otherwise a
    /// defect.
    ///
    /// [`ScriptModule::numbers`]: crate::functions::ScriptModule::numbers
    Number(i64),
}

impl ErrorKind {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Depth => "depth",
            Self::Contract => "contract",
        }
    }
}

/// A fault that passes through a script stays itself.
impl From<Fault> for ScriptRefusal {
    fn from(fault: Fault) -> Self {
        ScriptRefusal {
            code: RefusalCode::Kind(fault.kind),
            message: fault.message.into_owned(),
            retry_ms: fault.retry_ms,
            data: None,
        }
    }
}

impl ScriptRefusal {
    /// As the fault that whoever asked is told.
    pub fn fault(&self, kind: FaultKind) -> Fault {
        Fault::new(kind, self.message.clone()).retry_in_ms(self.retry_ms)
    }
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place() {
            place if place.is_empty() => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

impl std::error::Error for ScriptError {}

impl ScriptError {
    /// A failure without a place, a stack or a refusal.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            file: String::new(),
            line: 0,
            message: message.into(),
            traceback: Vec::new(),
            fuel: 0,
            refusal: None,
        }
    }

    /// A broken contract, found in a file as a whole.
    pub fn contract(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::new(ErrorKind::Contract, message) }
    }

    /// Where it happened, `scripts/matches/arena.lua:24`; the file alone when the line is not known, and empty when nothing
    /// is.
    pub fn place(&self) -> String {
        match (self.file.as_str(), self.line) {
            ("", _) => String::new(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        }
    }

    /// The stack in one line: `stack: scripts/matches/arena.lua:24 in fire < … in match_loop`.
    pub fn stack_line(&self) -> String {
        format!("stack: {}", self.traceback.join(" < "))
    }
}
