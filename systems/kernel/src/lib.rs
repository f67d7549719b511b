//! The server as a deterministic state machine: frame, sessions, rooms, operations.
//!
//! In reading order: `frame` is the order of everything, `server` runs it, `input` and `output` are its two ends, and
//! `stages` is the kernel's part, one file per stage. `session` and `room` are what there is, and `world` finds it.
//! Features come in through tables: `op` is what clients ask for and `call` runs it, `event` is what they are told and
//! `send` sends it, `settings` is what can be set, `facts` is what systems hear; `app` registers all of it. `script` is
//! the seam to scripts, and `codec` the one to the bytes of a door. The rest are tools: `fault`, `limit`, `clock`,
//! `dice`, `ids`, `journal`, `hash`, `failures`, `running`, `spelling`, `burst`, `blob`, `strict` and `stopping`.
//! Nothing here reads the system's clock, a socket or the operating system's randomness.
//!
//! Words: a *door* is a way in: UDP, WebSocket, HTTP, or the test kit's memory. The *grid* is the times at which frames
//! may run, a quantum apart; a *quiet frame* has no input and nothing that requested it, and is skipped. A *peer* is
//! one transport connection; a *session* outlives it, and keeps its *seats* in rooms meanwhile. A *presence* is one
//! session in one room, its *handle* the session's number for that room. A *relayed* room has no script: it passes on
//! what members send. A *face* is one way in which doors reach an operation.
#![forbid(unsafe_code)]

pub mod frame;
pub mod server;

pub mod input;
pub mod output;

mod stages;

pub mod call;
pub mod codec;
pub mod event;
pub mod fault;
pub mod op;
pub mod script;

pub mod limit;
pub mod room;
pub mod send;
pub mod session;

pub mod app;
pub mod blob;
pub mod burst;
pub mod clock;
pub mod dice;
pub mod facts;
pub mod failures;
pub mod hash;
pub mod ids;
pub mod journal;
pub mod running;
pub mod settings;
pub mod spelling;
mod stopping;
mod strict;
pub mod world;

pub use stages::hooks::apply_effects;
pub use stopping::{ServerStopping, Stopping};

/// What a plugin needs: bevy's items and ours.
pub mod prelude {
    pub use bevy_app::{self, App, Plugin};
    pub use bevy_ecs::{self, prelude::*};
    pub use bytes::Bytes;
    pub use schemars::{self, JsonSchema};
    pub use serde_json;
    pub use tracing;

    pub use crate::app::KaosApp;
    pub use crate::blob::Blob;
    pub use crate::call::job::{Job, JobContext, Pool};
    pub use crate::call::{Call, CallSettings};
    pub use crate::clock::{Clock, every, every_ms};
    pub use crate::dice::{Dice, ServerDice};
    pub use crate::event::Event;
    pub use crate::facts::{FactCursor, FactReader, Facts};
    pub use crate::fault::{Fault, FaultKind};
    pub use crate::frame::{Frame, Stage};
    pub use crate::ids::{RoomId, SessionId};
    pub use crate::limit::LimitSettings;
    pub use crate::op::{Auth, Caller, CheckContext, Face, Op, Payload, Price, Refusal};
    pub use crate::op::{Rest, RestBody, RestReply, ScriptUse, Tree};
    pub use crate::output::Level;
    pub use crate::room::presence::{InRoom, Joined, Presence, PresenceInfo, PresenceOf, Presences};
    pub use crate::room::{Room, RoomSettings};
    pub use crate::script::MatchSettings;
    pub use crate::send::{Broadcasts, Kicks, Push, Pushed, Target, push};
    pub use crate::session::{
        ConnectionChanged, Peer, Session, SessionEnding, SessionSettings, SessionStarted,
    };
    pub use crate::settings;
    pub use crate::settings::{NodeSettings, Settings};
    pub use crate::world::{RoomIndex, SessionIndex, WorldExt};
}
