//! When rooms are due: the one place to look in a frame, however many rooms there are.

use std::collections::BTreeSet;

use kaos_kernel::ids::Uuid;
use kaos_kernel::prelude::*;
use kaos_kernel::room::ReadyRooms;

use crate::matches::Matches;

/// When rooms are due: the one place to look in a frame, however many rooms there are.
#[derive(Resource, Default)]
pub(crate) struct DueRooms {
    /// Ticks by frame, then by room.
    pub(crate) ticks: BTreeSet<(u64, RoomId)>,
    /// Rooms with joins or leaves to be told.
    pub(crate) events: BTreeSet<RoomId>,
    /// Empty rooms by the frame in which they end.
    pub(crate) empty: BTreeSet<(u64, RoomId)>,
    /// The server stops: the grace in seconds that every match is told, some of them in each frame.
    pub(crate) stop_grace_s: Option<u32>,
}

/// Counts rooms.
#[derive(Resource, Default)]
pub(crate) struct RoomCounter {
    pub(crate) next: u64,
}

/// The rooms that have something to do now, by id; `true`: a tick is due.
pub(crate) fn due_rooms(world: &mut World, frame: u64) -> std::collections::BTreeMap<RoomId, bool> {
    let mut due = std::collections::BTreeMap::new();
    if !world.resource::<DueRooms>().events.is_empty() {
        due.extend(
            std::mem::take(&mut world.resource_mut::<DueRooms>().events).into_iter().map(|id| (id, false)),
        );
    }
    if !world.resource::<ReadyRooms>().0.is_empty() {
        due.extend(
            std::mem::take(&mut world.resource_mut::<ReadyRooms>().0).into_iter().map(|id| (id, false)),
        );
    }
    let any = world.resource::<DueRooms>().ticks.first().is_some_and(|(at, _)| *at <= frame);
    if any {
        let ticks = &mut world.resource_mut::<DueRooms>().ticks;
        let later = ticks.split_off(&(frame + 1, RoomId(Uuid::nil())));
        let now = std::mem::replace(ticks, later);
        due.extend(now.into_iter().map(|(_, id)| (id, true)));
    }
    due
}

/// Asks for the frame in which the next room is due.
pub(crate) fn rearm(world: &World) {
    let due = world.resource::<DueRooms>();
    let clock = world.resource::<Clock>();
    for at in due.ticks.first().into_iter().chain(due.empty.first()).map(|(at, _)| *at) {
        clock.wake_at(at);
    }
    // A match that a command made in this frame may have wished for something when it began.
    let effects = world
        .get_non_send::<Matches>()
        .is_some_and(|matches| !(matches.effects.is_empty() && matches.ends.is_empty()));
    let ending = due.stop_grace_s.is_some() && !world.resource::<RoomIndex>().is_empty();
    if effects || ending || !due.events.is_empty() {
        clock.wake_at(clock.frame() + 1);
    }
}
