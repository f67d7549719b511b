//! Runtimes for match logic, rpcs and hooks: Lua behind one contract.
//!
//! In reading order: `plugin` reads a directory and gives the server its scripts, `library` is what was
//! read (`scan` looks for mistakes in its text), `functions` is `kaos.*` from the operation table; `live` runs matches and hooks inside the frame,
//! `worker` runs rpcs outside of it. `host` and `value` are what a runtime sees of both; `lua` is one.

mod de;
mod functions;
pub mod host;
pub mod library;
mod live;
pub mod lua;
mod plugin;
mod scan;
pub mod sources;
pub mod value;
mod worker;

pub use host::{Broadcast, Host, Message, Presence, Raised};
pub use library::{Diagnostic, Library, read_dir};
pub use plugin::Scripts;
pub use sources::Sources;
pub use value::{Bounds, Value};
