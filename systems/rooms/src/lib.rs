//! What is live: joining and leaving rooms, the match loop, relaying.
//!
//! In reading order: `ops` is what can be asked for, a file an operation; `lifecycle` opens and closes rooms, `members` joins
//! and leaves, `seats` and `label` are what changes in a room. `tick` runs in `Core::Match` what `due_rooms` says is due:
//! `matches` with a script, `relay` without. `directory` finds rooms, `quota` bounds who creates how many, `errors` tells what
//! failed, `events` is what rooms tell their members, `broadcast` sends it. `sessions`, `rpc` and `server` are the operations on sessions,
//! scripts and the server itself that every door has.
#![forbid(unsafe_code)]

mod broadcast;
mod directory;
mod due_rooms;
mod errors;
mod events;
mod label;
mod lifecycle;
mod matches;
mod members;
pub mod ops;
mod quota;
mod relay;
pub mod rpc;
mod seats;
pub mod server;
pub mod sessions;
#[cfg(test)]
mod tests;
mod tick;

use kaos_kernel::frame::Core;
use kaos_kernel::hash::StateHashers;
use kaos_kernel::prelude::*;

pub use events::RoomClosed;
pub use lifecycle::{Spec, close_room, create_room};
pub use matches::{match_memory_bytes, match_state};
pub use quota::Creator;

use due_rooms::{DueRooms, RoomCounter};
use matches::{Matches, hash_matches};

/// Rooms, sessions and rpcs: everything that a server does while nobody keeps anything.
pub struct Rooms;

impl Plugin for Rooms {
    fn build(&self, app: &mut App) {
        app.init_resource::<DueRooms>()
            .init_resource::<RoomCounter>()
            .init_resource::<directory::RoomDirectory>()
            .init_resource::<quota::RoomQuota>()
            .init_resource::<tick::RoomReaders>()
            .insert_non_send(Matches::default())
            .add_systems(Frame, tick::run.in_set(Core::Match));
        app.world_mut().resource_mut::<StateHashers>().0.push(hash_matches);
        events::register(app);
        ops::register(app);
        sessions::register(app);
        rpc::register(app);
        server::register(app);
    }
}
