//! What rooms say, and to whom: written once, addressed to every member.

use kaos_kernel::codec::{Outbound, TO_ROOM};
use kaos_kernel::prelude::*;
use kaos_kernel::send::{Broadcast, Outbox, post, write};
use serde::Serialize;

use crate::seats::member;

/// Who of a room's members is meant.
#[derive(Clone, Copy)]
pub(crate) enum Audience<'a> {
    /// Everyone.
    All,
    /// Everyone but this presence.
    Except(Entity),
    /// This presence.
    One(Entity),
    /// These sessions, as far as they are members; in order.
    Sessions(&'a [SessionId]),
}

/// Data of the game, which nobody but the game reads.
pub(crate) struct RoomData {
    /// A member's index, or [`TO_ROOM`]: the server.
    pub(crate) sender: u16,
    /// The game's own number.
    pub(crate) op: u8,
    /// The game's own bytes.
    pub(crate) data: Bytes,
    /// Must it arrive?
    pub(crate) reliable: bool,
}

/// Tells members of a room that something happened.
///
/// # Errors
/// The event is longer than the wire can carry.
pub(crate) fn tell<T: Serialize + Send + 'static>(
    world: &mut World,
    room: Entity,
    to: Audience<'_>,
    event: T,
) -> Result<(), Fault> {
    // What is told to nobody is not written at all.
    if world.get::<Presences>(room).is_some()
        && let Some(target) = target(world, room, to)
    {
        let payload = write(world, &target, event)?;
        address(world, room, to, payload);
    }
    Ok(())
}

/// Sends members of a room data of the game.
///
/// # Errors
/// It is longer than the wire can carry.
pub(crate) fn send(world: &mut World, room: Entity, to: Audience<'_>, data: RoomData) -> Result<(), Fault> {
    if world.get::<Presences>(room).is_some() {
        let RoomData { sender, op, data, reliable } = data;
        let payload = post(world, &Outbound::Data { sender, op, data, reliable })?;
        address(world, room, to, payload);
    }
    Ok(())
}

/// What hooks are told of whom an event of a room is for.
fn target(world: &World, room: Entity, to: Audience<'_>) -> Option<Target> {
    match to {
        Audience::One(presence) => {
            world.get::<Presence>(presence).map(|presence| Target::Session(presence.info.session_id))
        }
        Audience::All | Audience::Except(_) | Audience::Sessions(_) => {
            world.get::<Room>(room).map(|room| Target::Room(room.id))
        }
    }
}

fn address(world: &mut World, room: Entity, to: Audience<'_>, payload: u32) {
    world.resource_scope(|world, mut outbox: Mut<'_, Outbox>| {
        let Some(presences) = world.get::<Presences>(room) else { return };
        for entity in presences.entities() {
            let Some(presence) = world.get::<Presence>(*entity) else { continue };
            let meant = match to {
                Audience::All => true,
                Audience::Except(other) => other != *entity,
                Audience::One(one) => one == *entity,
                Audience::Sessions(sessions) => sessions.binary_search(&presence.info.session_id).is_ok(),
            };
            if meant {
                outbox.to(presence.session_slot, presence.handle, payload);
            }
        }
    });
}

/// Sends a script's broadcast.
///
/// # Errors
/// `not_found`: no such room, or the sender is not in it. `invalid`: longer than the wire can carry.
pub(crate) fn broadcast(world: &mut World, broadcast: Broadcast) -> Result<(), Fault> {
    let Broadcast { room, sender, op, data, to, reliable } = broadcast;
    let entity = world
        .resource::<RoomIndex>()
        .get(room)
        .ok_or_else(|| Fault::not_found(format!("there is no room {room} to broadcast to")))?;
    let sender = match sender {
        None => TO_ROOM,
        Some(session) => member(world, entity, session)
            .and_then(|presence| world.get::<Presence>(presence))
            .map(|presence| presence.info.index)
            .ok_or_else(|| {
                Fault::not_found(format!("session {session} is not in room {room}: it cannot be the sender"))
            })?,
    };
    // In order, so that each member is looked for quickly.
    let to = to.map(|to| {
        let mut to = to.to_vec();
        to.sort_unstable();
        to
    });
    let audience = to.as_deref().map_or(Audience::All, Audience::Sessions);
    send(world, entity, audience, RoomData { sender, op, data, reliable })
}
