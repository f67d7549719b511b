//! What is live: joining and leaving rooms, the match loop, relaying.
//!
//! In reading order: `ops` is what can be asked for, `life` makes and ends rooms, `members` joins and
//! leaves, `lobby` finds rooms, `quota` bounds who makes how many, `tick` runs what is due in `Core::Match`, `errors`
//! tells what failed, `broadcast` sends what rooms say. `sessions` and `rpc` are the operations on sessions and scripts that
//! every door has.
#![forbid(unsafe_code)]

mod broadcast;
mod errors;
mod life;
mod lobby;
mod members;
pub mod ops;
mod quota;
pub mod rpc;
pub mod sessions;
#[cfg(test)]
mod tests;
mod tick;

use std::collections::{BTreeMap, BTreeSet};

use kaos_kernel::codec::Closed;
use kaos_kernel::frame::Core;
use kaos_kernel::hash::StateHashers;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{Match, ScriptEffects};

pub use life::{Spec, close_room, create_room};
pub use quota::Creator;

/// Rooms, sessions and rpcs: everything that a server does while nobody keeps anything.
pub struct Rooms;

impl Plugin for Rooms {
    fn build(&self, app: &mut App) {
        app.init_resource::<Agenda>()
            .init_resource::<Numbers>()
            .init_resource::<lobby::Lobby>()
            .init_resource::<quota::RoomQuota>()
            .init_resource::<tick::RoomReaders>()
            .insert_non_send(Matches::default())
            .add_systems(Frame, tick::run.in_set(Core::Match));
        app.world_mut().resource_mut::<StateHashers>().0.push(hash_matches);
        ops::register(app);
        sessions::register(app);
        rpc::register(app);
    }
}

/// The match of a room and what is counted about it.
struct Playing {
    game: Box<dyn Match>,
    dice: Dice,
    /// Ticks in a row that failed.
    errors_in_row: u32,
    /// What the log has of its errors.
    written: errors::Written,
    /// The frame of its next tick: its entry in the agenda.
    due: u64,
}

/// The running matches, by room. Beside the world, since virtual machines stay on their thread.
#[derive(Default)]
struct Matches {
    by_room: BTreeMap<RoomId, Playing>,
    /// What matches wished outside their ticks, waiting for the Match stage.
    effects: Vec<ScriptEffects>,
    /// Rooms whose match broke outside its tick, waiting for the Match stage.
    ends: Vec<(RoomId, Closed)>,
}

/// When rooms are due: the one place to look in a frame, however many rooms there are.
#[derive(Resource, Default)]
struct Agenda {
    /// Ticks by frame, then by room.
    ticks: BTreeSet<(u64, RoomId)>,
    /// Rooms with joins or leaves to be told.
    events: BTreeSet<RoomId>,
    /// Empty rooms by the frame in which they end.
    empty: BTreeSet<(u64, RoomId)>,
    /// The server stops: the grace in seconds that every match is told, some of them in each frame.
    last_words: Option<u32>,
}

/// Counts rooms.
#[derive(Resource, Default)]
struct Numbers {
    next: u64,
}

/// The state of every match: what the hash of the world cannot see.
fn hash_matches(world: &mut World) -> u64 {
    let Some(mut matches) = world.remove_non_send::<Matches>() else { return 0 };
    let mut sum = 0u64;
    for (id, playing) in &mut matches.by_room {
        let state = playing.game.hash();
        sum = sum
            .wrapping_add(state.rotate_left((id.0.as_u128() as u32) % 64) ^ u64::from(playing.errors_in_row));
    }
    world.insert_non_send(matches);
    if let Some(mut scripts) = world.get_non_send_mut::<kaos_kernel::script::ScriptHost>() {
        sum = sum.wrapping_add(scripts.0.hash());
    }
    sum
}

/// What a match holds, for tests and inspection; `None` when the room has none.
pub fn match_state(world: &mut World, room: RoomId) -> Option<serde_json::Value> {
    let mut matches = world.get_non_send_mut::<Matches>()?;
    Some(matches.by_room.get_mut(&room)?.game.state())
}

/// Bytes that all virtual machines of rooms hold.
pub fn match_memory_bytes(world: &mut World) -> usize {
    let Some(mut matches) = world.get_non_send_mut::<Matches>() else { return 0 };
    matches.by_room.values_mut().map(|playing| playing.game.memory_bytes()).sum()
}
