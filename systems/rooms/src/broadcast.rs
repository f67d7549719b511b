//! What rooms say, and to whom: written once, addressed to every member.

use kaos_kernel::codec::{Outbound, TO_ROOM};
use kaos_kernel::prelude::*;
use kaos_kernel::room::RoomIndex;
use kaos_kernel::script::Broadcast;
use kaos_kernel::send::{Outbox, post};

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

/// Sends a message to members of a room.
///
/// # Errors
/// The message is longer than the wire can carry.
pub(crate) fn send_to_room(
    world: &mut World,
    room: Entity,
    to: Audience<'_>,
    message: &Outbound,
) -> Result<(), Fault> {
    // A message to nobody is not written at all.
    if world.get::<Presences>(room).is_none() {
        return Ok(());
    }
    let payload = post(world, message)?;
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
    Ok(())
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
    send_to_room(world, entity, audience, &Outbound::Data { sender, op, data, reliable })
}
