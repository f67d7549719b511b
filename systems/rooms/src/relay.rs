//! Rooms without a script: what a member sends goes to the others.

use kaos_kernel::codec::TO_ROOM;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, RoomMessage, Seats};

use crate::broadcast::{Audience, RoomData, send};

/// Passes on what members of a room without a script sent so far, before its members change: whoever comes
/// now was not there, and the index of who leaves may be another's next.
pub(crate) fn relay_waiting(world: &mut World, entity: Entity) {
    let relayed = world.get::<Room>(entity).is_some_and(|room| room.tick_rate == 0);
    if relayed && world.get::<Inbox>(entity).is_some_and(|inbox| !inbox.messages.is_empty()) {
        relay(world, entity);
    }
}

/// Passes on what members of a room without a script sent.
pub(crate) fn relay(world: &mut World, entity: Entity) {
    let Some(mut inbox) = world.get_mut::<Inbox>(entity) else { return };
    inbox.bytes = 0;
    inbox.events.clear();
    let messages = std::mem::take(&mut inbox.messages);
    for RoomMessage { sender, to, op, data, reliable, .. } in messages {
        let index = sender.as_ref().map_or(TO_ROOM, |sender| sender.index);
        let seat = |index: u16| world.get::<Seats>(entity).and_then(|seats| seats.get(index));
        let audience = match (to, &sender) {
            (TO_ROOM, None) => Some(Audience::All),
            (TO_ROOM, Some(sender)) => Some(seat(sender.index).map_or(Audience::All, Audience::Except)),
            // A member that left meanwhile gets nothing, and nobody else gets it instead.
            (member, _) => seat(member).map(Audience::One),
        };
        if let Some(audience) = audience
            && let Err(fault) = send(world, entity, audience, RoomData { sender: index, op, data, reliable })
        {
            tracing::error!(%fault, "a relayed message cannot be sent");
        }
    }
}
