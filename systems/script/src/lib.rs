//! Scripts: match logic, rpcs and hooks, in any language that a runtime is there for. Lua is one.
//!
//! In reading order: `plugin` reads a directory (`directory`) and gives the server its scripts, `library` is what was read,
//! `functions` is what scripts call, from the operation table and from features; `context` is `ctx`. `live` runs matches and
//! hooks inside the frame, `worker` runs rpcs outside of it. All of them know a language by `runtime` alone: its machines,
//! `contract` with the callbacks of matches, `host` for what a script reaches, `error` for what it raises, `value` and
//! `sources` for what goes in and out. `lua` is one.

pub mod context;
pub mod contract;
mod de;
mod directory;
pub mod error;
pub mod functions;
pub mod host;
mod library;
mod live;
pub mod lua;
mod plugin;
pub mod runtime;
pub mod sources;
pub mod value;
mod worker;

pub use context::show_init;
pub use contract::{Callback, Left, MatchInit};
pub use error::{ErrorKind, RefusalCode, ScriptError, ScriptRefusal};
pub use functions::{FunctionCall, FunctionName, ScriptFunction, ScriptModule, Waits};
pub use host::{Broadcast, Host, Message, Presence, Raised};
pub use plugin::{ScriptApp, Scripts};
pub use runtime::Runtime;
pub use sources::{Diagnostic, Sources};
pub use value::{Bounds, Value};
