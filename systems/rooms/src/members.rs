//! Joining and leaving: seats, handles, and who is told.

use std::sync::Arc;

use kaos_kernel::codec::{Closed, Outbound, RoomEvent};
use kaos_kernel::op::Ops;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Beat, Inbox, RoomFact, RoomIndex, Seats};
use kaos_kernel::script::{Admission, Env};
use kaos_kernel::session::Handles;
use kaos_wire::limits::PRESENCES_MAX;
use serde_json::Value as Json;

use crate::cast::{Audience, member, send_to_room};
use crate::life::{describe, find, note_empty};
use crate::{Agenda, Matches};

/// A seat that was taken.
pub(crate) struct Seated {
    pub(crate) handle: u16,
    pub(crate) index: u16,
}

/// Joins a session to a room.
///
/// # Errors
/// `not_found`, `exists` when it is there already, `full`, `refused` with the script's sentence, `busy` at
/// `limit.session_rooms_max`, `script` when match_join_attempt failed.
pub(crate) fn join(
    world: &mut World,
    session: SessionId,
    id: RoomId,
    metadata: &Json,
) -> Result<Seated, Fault> {
    let room = find(world, id)?;
    let gone = || Fault::from(FaultKind::SessionGone);
    let session_entity = world.resource::<SessionIndex>().get(session).ok_or_else(gone)?;
    if member(world, room, session).is_some() {
        return Err(Fault::new(FaultKind::Exists, "this session is in the room already"));
    }
    let rooms_max = world.resource::<Settings>().limit.session_rooms_max as usize;
    if world.get::<Handles>(session_entity).ok_or_else(gone)?.len() >= rooms_max {
        return Err(Fault::new(FaultKind::Busy, format!("a session may be in {rooms_max} rooms at a time")));
    }
    let (taken, index) =
        world.get::<Seats>(room).map(|seats| (seats.taken, seats.free_index())).unwrap_or_default();
    let seats = world.get::<Room>(room).map_or(0, |room| room.max_players);
    if taken >= seats {
        return Err(Fault::new(FaultKind::Full, format!("the room has {seats} seats and all are taken")));
    }
    let of = world.get::<Session>(session_entity).ok_or_else(gone)?;
    let info = Arc::new(PresenceInfo {
        session_id: session,
        user_id: of.identity.user_id.clone(),
        username: of.identity.username.clone(),
        index,
        connected: of.peer.is_some(),
        reason: None,
    });
    attempt(world, id, &info, metadata)?;
    let mut handles = world.get_mut::<Handles>(session_entity).ok_or_else(gone)?;
    let handle = handles.next();
    // The others first: who joins learns of itself from its RoomState.
    let joined = Outbound::Event(RoomEvent::Joined(vec![(*info).clone()]));
    send_to_room(world, room, Audience::All, &joined)?;
    let presence = Presence { handle, session_slot: session.slot(), info: info.clone() };
    let entity = world.spawn((presence, InRoom(room), PresenceOf(session_entity))).id();
    if let Some(mut handles) = world.get_mut::<Handles>(session_entity) {
        handles.set(handle, entity);
    }
    if let Some(mut seats) = world.get_mut::<Seats>(room) {
        seats.take(index, entity);
    }
    note_empty(world, room);
    tell_match(world, room, RoomFact::Joined(vec![info]));
    send_state(world, room, entity, 0);
    Ok(Seated { handle, index })
}

/// Asks the match whether a presence may come in.
fn attempt(world: &mut World, id: RoomId, info: &PresenceInfo, metadata: &Json) -> Result<(), Fault> {
    let Some(mut matches) = world.remove_non_send::<Matches>() else { return Ok(()) };
    let ops = world.resource::<Ops>().0.clone();
    let result = match matches.by_room.get_mut(&id) {
        None => Ok(()),
        Some(playing) => {
            let mut env = Env::new(world, &ops, Caller::Room(id), &mut playing.dice);
            let answer = playing.game.join_attempt(&mut env, info, metadata);
            let mut wishes = env.finish();
            let result = match answer {
                Ok(Admission::Yes) => Ok(()),
                Ok(Admission::No(reason)) if reason.is_empty() => Err(FaultKind::Refused.into()),
                Ok(Admission::No(reason)) => Err(Fault::new(FaultKind::Refused, reason)),
                Err(error) => {
                    wishes.logs.push(kaos_kernel::output::Log {
                        level: kaos_kernel::output::Level::Error,
                        source: format!("room {id}"),
                        text: describe(&error, &format!("room {id}"), "the join was refused"),
                    });
                    Err(Fault::new(FaultKind::Script, "the room's match_join_attempt failed"))
                }
            };
            matches.wishes.push(wishes);
            result
        }
    };
    world.insert_non_send(matches);
    result
}

/// Tells a match what happened, in this frame's Match stage.
fn tell_match(world: &mut World, room: Entity, fact: RoomFact) {
    let Some((id, relayed)) = world.get::<Room>(room).map(|room| (room.id, room.tick_rate == 0)) else {
        return;
    };
    if relayed {
        return;
    }
    if let Some(mut inbox) = world.get_mut::<Inbox>(room) {
        inbox.events.push(fact);
    }
    world.resource_mut::<Agenda>().events.insert(id);
}

/// Sends a presence the whole room: who is there beyond what one message holds follows as joined.
pub(crate) fn send_state(world: &mut World, room: Entity, to: Entity, lost: u64) {
    let Some((of, beat)) = world.get::<Room>(room).zip(world.get::<Beat>(room)) else { return };
    let members = world.get::<Presences>(room).map(Presences::entities).unwrap_or_default();
    let mut presences: Vec<PresenceInfo> = members
        .iter()
        .filter_map(|entity| world.get::<Presence>(*entity))
        .map(|presence| (*presence.info).clone())
        .collect();
    let rest = presences.split_off(presences.len().min(PRESENCES_MAX));
    let state = Outbound::State {
        room: of.id,
        module: of.module.clone(),
        label: of.label.clone(),
        tick_rate: of.tick_rate,
        tick: beat.next.saturating_sub(1),
        server_time_ms: world.resource::<Clock>().now_ms(),
        max_players: of.max_players,
        presences,
        lost,
    };
    let further = rest.chunks(PRESENCES_MAX).map(|chunk| Outbound::Event(RoomEvent::Joined(chunk.to_vec())));
    for message in std::iter::once(state).chain(further) {
        if let Err(fault) = send_to_room(world, room, Audience::One(to), &message) {
            tracing::error!(%fault, "a room's state cannot be sent");
        }
    }
}

/// Takes a session out of a room; the others and the match are told why.
///
/// # Errors
/// `not_found`: no such room, or the session is not in it.
pub(crate) fn leave(world: &mut World, session: SessionId, id: RoomId, reason: &str) -> Result<(), Fault> {
    let room = find(world, id)?;
    let presence = member(world, room, session)
        .ok_or_else(|| Fault::not_found(format!("session {session} is not in room {id}")))?;
    depart(world, room, presence, reason);
    Ok(())
}

/// Takes a session out of a room against its will; it is told so.
///
/// # Errors
/// As [`leave`].
pub(crate) fn kick(world: &mut World, session: SessionId, id: RoomId, reason: &str) -> Result<(), Fault> {
    let room = find(world, id)?;
    let presence = member(world, room, session)
        .ok_or_else(|| Fault::not_found(format!("session {session} is not in room {id}")))?;
    let message = if reason.is_empty() { FaultKind::Kicked.text() } else { reason };
    let closed =
        Closed { code: FaultKind::Kicked.code(), reason: "kicked".to_owned(), message: message.to_owned() };
    send_to_room(world, room, Audience::One(presence), &Outbound::Event(RoomEvent::Closed(closed)))?;
    depart(world, room, presence, "kicked");
    Ok(())
}

fn depart(world: &mut World, room: Entity, presence: Entity, reason: &str) {
    let Some(info) = vacate(world, presence) else { return };
    let left = PresenceInfo { reason: Some(reason.to_owned()), ..(*info).clone() };
    let message = Outbound::Event(RoomEvent::Left(vec![left.clone()]));
    if let Err(fault) = send_to_room(world, room, Audience::All, &message) {
        tracing::error!(%fault, "a departure cannot be told");
    }
    note_empty(world, room);
    tell_match(world, room, RoomFact::Left(vec![Arc::new(left)]));
}

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

/// A session ends: it leaves every room, the newest first.
pub(crate) fn leave_all(world: &mut World, session: SessionId, reason: &str) {
    let Some(entity) = world.resource::<SessionIndex>().get(session) else { return };
    let joined: Vec<Entity> =
        world.get::<Joined>(entity).map(|joined| joined.entities().to_vec()).unwrap_or_default();
    for presence in joined.into_iter().rev() {
        if let Some(room) = world.get::<InRoom>(presence).map(|room| room.0) {
            depart(world, room, presence, reason);
        }
    }
}

/// A session lost its peer or has one again: the others see it, and so do scripts.
pub(crate) fn connection_changed(world: &mut World, session: SessionId, connected: bool, lost: u64) {
    let Some(entity) = world.resource::<SessionIndex>().get(session) else { return };
    let joined: Vec<Entity> =
        world.get::<Joined>(entity).map(|joined| joined.entities().to_vec()).unwrap_or_default();
    for entity in joined {
        let Some(room) = world.get::<InRoom>(entity).map(|room| room.0) else { continue };
        let Some(mut presence) = world.get_mut::<Presence>(entity) else { continue };
        if presence.info.connected != connected {
            let info = PresenceInfo { connected, ..(*presence.info).clone() };
            presence.info = Arc::new(info.clone());
            let message = Outbound::Event(RoomEvent::Changed(vec![info]));
            if let Err(fault) = send_to_room(world, room, Audience::Except(entity), &message) {
                tracing::error!(%fault, "a change of connection cannot be told");
            }
        }
        if lost > 0 {
            send_state(world, room, entity, lost);
        }
    }
}

/// Rooms of a module that may have a seat, the oldest first: they fill up before new ones open.
pub(crate) fn candidates(world: &World, module: &str, label: &str, most: usize) -> Vec<RoomId> {
    let mut rooms: Vec<(u64, RoomId)> = world
        .resource::<RoomIndex>()
        .iter()
        .filter_map(|(id, entity)| {
            let room = world.get::<Room>(entity)?;
            let seats = world.get::<Seats>(entity)?;
            let open = room.label.get("open").and_then(Json::as_bool).unwrap_or(true);
            let fits = label.is_empty() || label_text(&room.label) == label;
            (room.module == module && open && fits && seats.taken < room.max_players)
                .then_some((room.number, id))
        })
        .collect();
    rooms.sort_unstable();
    rooms.truncate(most);
    rooms.into_iter().map(|(_, id)| id).collect()
}

/// A label as text: itself, or an object as JSON.
pub(crate) fn label_text(label: &Json) -> String {
    match label {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}
