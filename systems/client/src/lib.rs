#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod clock;
pub mod fault;
pub mod swarm;

mod client;
mod core;
mod credentials;
mod dispatcher;
mod door;
mod driver;
mod error;
mod event;
mod link;
mod listen;
mod queue;
mod room;

pub use crate::core::{Action, Core, Create, Identity, Join, REQUESTS_MAX};
pub use client::{Client, connect, connect_with};
pub use credentials::{Credentials, Options};
pub use door::Door;
pub use error::{End, Error, Refusal};
pub use event::{Answer, Event as CoreEvent, Presence, RoomEvent as Event, RoomInfo, Sender, Status};
pub use kaos_rudp::lab::Emulation;
pub use kaos_rudp::{Micros, PublicKey};
pub use listen::{LISTENER_EVENTS_MAX, Listener};
pub use queue::{EVENT_BYTES_MAX, EVENTS_MAX};
pub use room::Room;
