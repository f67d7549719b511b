//! Lua: one virtual machine behind a small safe surface. Everything that touches its stack is in here.
//!
//! ```text
//! Lua         the runtime: checks files, makes machines                       runtime.rs  scan.rs
//!  └ Game     a match on a Vm: the callbacks, its state, batches of messages  game.rs  batch.rs
//!     └ Vm    one machine: seed, limits, sandbox, calls that end              vm.rs  sandbox.rs  error.rs
//!        └ slot   lends the host to the functions of scripts during a call    slot.rs  functions.rs  broadcast.rs
//!        └ data   values in and out, JSON, the canonical hash                 convert.rs  json.rs  hash.rs
//! ```
//!
//! A `Vm` stays on the thread that made it. Nothing of mlua shows outside of this folder.

#![allow(unsafe_code, reason = "the hot paths use Lua's C API; each use says why it is sound")]

mod batch;
mod broadcast;
mod convert;
mod error;
mod functions;
mod game;
mod hash;
mod json;
mod runtime;
mod sandbox;
mod scan;
mod slot;
mod vm;

pub use game::Game;
pub use runtime::Lua;
pub use vm::{Config, FnRef, Handler, ModuleRef, Vm};
