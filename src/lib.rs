//! KaosNet: a headless multiplayer game server.
//!
//! The application around the crates in systems/: [`config`] is what can be set, [`runner`] owns the threads and the clock,
//! [`cli`] is the command line of `kaosnet` and of anyone's own binary, [`testing`] is the server on virtual time.
//! A plugin is a bevy plugin and needs [`prelude`] alone:
//!
//! ```no_run
//! use kaosnet::prelude::*;
//!
//! fn say_hello(clock: Res<Clock>) {
//!     tracing::info!(now_ms = clock.now_ms(), "a minute has passed");
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     kaosnet::cli(|app: &mut App| {
//!         app.add_systems(Frame, say_hello.in_set(Stage::Match).run_if(every_ms(60_000)));
//!     })
//! }
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod replay;
pub mod runner;
pub mod testing;

mod cli;
mod compose;

pub use cli::cli;

/// What a plugin needs: bevy's words and ours.
pub mod prelude {
    pub use kaos_kernel::prelude::*;
    pub use kaos_script::{FunctionCall, Raised, ScriptApp, ScriptFunction, ScriptModule, Value, Waits};
}
