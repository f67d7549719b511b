//! Seats: who sits where, and what follows when one is taken or freed.

use std::sync::Arc;

use kaos_kernel::prelude::*;
use kaos_kernel::room::Seats;
use kaos_kernel::session::Handles;

use crate::directory;
use crate::due_rooms::DueRooms;

/// Frees a presence's seat and handle and removes it, telling nobody.
pub(crate) fn vacate(world: &mut World, presence: Entity) -> Option<Arc<PresenceInfo>> {
    let (handle, info) =
        world.get::<Presence>(presence).map(|presence| (presence.handle, presence.info.clone()))?;
    if let Some(room) = world.get::<InRoom>(presence).map(|room| room.0)
        && let Some(mut seats) = world.get_mut::<Seats>(room)
    {
        seats.leave(info.index);
    }
    if let Some(session) = world.get::<PresenceOf>(presence).map(|session| session.0)
        && let Some(mut handles) = world.get_mut::<Handles>(session)
    {
        handles.clear(handle);
    }
    world.despawn(presence);
    Some(info)
}

/// Seats were taken or left: is the room empty now? Then its end is entered. Is it open?
pub(crate) fn seats_changed(world: &mut World, entity: Entity) {
    directory::seats_changed(world, entity);
    let frame = world.resource::<Clock>().frame();
    let empty = world.get::<Seats>(entity).is_none_or(|seats| seats.taken == 0);
    let Some(mut room) = world.get_mut::<Room>(entity) else { return };
    let before = room.empty_since;
    if before.is_some() == empty {
        return;
    }
    room.empty_since = empty.then_some(frame);
    let (id, ends) = (room.id, room.ends_empty);
    if !ends {
        return;
    }
    let end = end_of_empty(world, before.unwrap_or(frame));
    let mut due = world.resource_mut::<DueRooms>();
    if empty {
        due.empty.insert((end, id));
    } else {
        due.empty.remove(&(end, id));
    }
}

/// The frame in which a room ends that is empty since `since`.
pub(crate) fn end_of_empty(world: &World, since: u64) -> u64 {
    let empty_ms = world.resource::<RoomSettings>().empty_ms;
    since + world.resource::<Clock>().frames_in_ms(empty_ms).max(1)
}

/// The presence of a session in a room.
pub(crate) fn member(world: &World, room: Entity, session: SessionId) -> Option<Entity> {
    // By the session's own rooms, which are few, and not by the room's members, which may be many.
    let joined = world.of_session::<Joined>(session)?;
    joined
        .entities()
        .iter()
        .copied()
        .find(|presence| world.get::<InRoom>(*presence).is_some_and(|of| of.0 == room))
}
