//! Runtimes for match logic, rpcs and hooks: Lua behind one contract.

pub mod host;
pub mod lua;
pub mod sources;
pub mod value;

pub use host::{Cast, Host, LogLevel, Message, Presence};
pub use sources::Sources;
pub use value::{Bounds, Value};
