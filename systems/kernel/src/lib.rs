//! The server as a deterministic state machine: frame, sessions, rooms, operations.
//!
//! In reading order: `frame` is the order of everything, `server` runs it, `input` and `output` are its
//! two ends; `ingest`, `route`, `hooks`, `call` and `flush` are the kernel's part of the stages;
//! `session`, `keep`, `room` and `presence` are what there is; `op` and `script` are the seams for
//! features and scripts. Nothing here reads a clock, a socket or the operating system's randomness.
#![forbid(unsafe_code)]

pub mod frame;
pub mod server;

pub mod input;
pub mod output;

mod flush;
mod hooks;
mod ingest;
mod route;

pub mod call;
pub mod codec;
pub mod fault;
pub mod job;
pub mod op;
pub mod script;

mod deadline;
pub mod failures;
pub mod limit;
pub mod presence;
mod resend;
pub mod room;
pub mod running;
pub mod send;
pub mod session;

pub mod app;
pub mod blob;
pub mod burst;
pub mod clock;
pub mod dice;
pub mod hash;
pub mod ids;
pub mod journal;
pub mod settings;
mod strict;

pub use hooks::apply_effects;
pub use ingest::Stopping;

/// What a plugin needs: bevy's words and ours.
pub mod prelude {
    pub use bevy_app::{self, App, Plugin};
    pub use bevy_ecs::{self, prelude::*};
    pub use bytes::Bytes;

    pub use crate::app::KaosApp;
    pub use crate::blob::Blob;
    pub use crate::call::{Call, Caller};
    pub use crate::clock::{Clock, every, every_ms};
    pub use crate::dice::{Dice, ServerDice};
    pub use crate::fault::{Fault, FaultKind};
    pub use crate::frame::{Frame, Stage};
    pub use crate::ids::{RoomId, SessionId};
    pub use crate::op::{Auth, Op, ScriptUse};
    pub use crate::presence::{InRoom, Joined, Presence, PresenceInfo, PresenceOf, Presences};
    pub use crate::room::Room;
    pub use crate::send::{Broadcasts, Kicks};
    pub use crate::session::{Peer, Session, SessionIndex};
    pub use crate::settings::Settings;
}
