//! Joining and leaving: seats, handles, and who is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, RoomFact, Seats, TickSchedule};
use kaos_kernel::script::{Admission, MatchError};
use kaos_kernel::send::kicked;
use kaos_kernel::session::Handles;
use kaos_wire::limits::PRESENCES_MAX;
use serde::Serialize;
use serde_json::Value as Json;

use crate::broadcast::{Audience, tell};
use crate::due_rooms::DueRooms;
use crate::errors::client_text;
use crate::events::{MembersChanged, MembersJoined, MembersLeft, RoomClosed, RoomState};
use crate::lifecycle::find;
use crate::matches::ask_match;
use crate::relay::relay_waiting;
use crate::seats::{member, seats_changed, vacate};

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
    let session_entity = world.session(session).ok_or_else(gone)?;
    if member(world, room, session).is_some() {
        return Err(Fault::new(FaultKind::Exists, "this session is in the room already"));
    }
    may_join(world, session)?;
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
    relay_waiting(world, room);
    let mut handles = world.get_mut::<Handles>(session_entity).ok_or_else(gone)?;
    let handle = handles.draw();
    // The others first: who joins learns of itself from its RoomState.
    tell(world, room, Audience::All, MembersJoined(vec![(*info).clone()]))?;
    let presence = Presence { handle, session_slot: session.slot(), info: info.clone() };
    let entity = world.spawn((presence, InRoom(room), PresenceOf(session_entity))).id();
    if let Some(mut handles) = world.get_mut::<Handles>(session_entity) {
        handles.set(handle, entity);
    }
    if let Some(mut seats) = world.get_mut::<Seats>(room) {
        seats.take(index, entity);
    }
    seats_changed(world, room);
    tell_match(world, room, RoomFact::Joined(vec![info]));
    send_state(world, room, entity, 0);
    Ok(Seated { handle, index })
}

/// May this session join one more room?
///
/// # Errors
/// `busy` at `limit.session_rooms_max`, `session_gone`.
pub(crate) fn may_join(world: &World, session: SessionId) -> Result<(), Fault> {
    let entity = world.session(session).ok_or(FaultKind::SessionGone)?;
    let rooms_max = world.resource::<LimitSettings>().session_rooms_max as usize;
    if world.get::<Handles>(entity).is_some_and(|handles| handles.len() >= rooms_max) {
        return Err(Fault::new(FaultKind::Busy, format!("a session may be in {rooms_max} rooms at a time")));
    }
    Ok(())
}

/// Asks the match whether a presence may come in.
fn attempt(world: &mut World, id: RoomId, info: &PresenceInfo, metadata: &Json) -> Result<(), Fault> {
    let answer =
        ask_match(world, id, "match_join_attempt", |game, env| game.join_attempt(env, info, metadata));
    match answer {
        None | Some(Ok(Admission::Yes)) => Ok(()),
        Some(Ok(Admission::No(reason))) if reason.is_empty() => Err(FaultKind::Refused.into()),
        Some(Ok(Admission::No(reason))) => Err(Fault::new(FaultKind::Refused, reason)),
        Some(Err(MatchError { refusal: Some(fault), .. })) => Err(fault),
        Some(Err(error)) => {
            let dev = world.resource::<NodeSettings>().dev;
            Err(Fault::new(
                FaultKind::Script,
                client_text(dev, &error, "the room's match_join_attempt failed"),
            ))
        }
    }
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
    world.resource_mut::<DueRooms>().events.insert(id);
}

/// Sends a presence the whole room: who is there beyond what one message holds follows as joined.
pub(crate) fn send_state(world: &mut World, room: Entity, to: Entity, lost: u64) {
    let Some((of, beat)) = world.get::<Room>(room).zip(world.get::<TickSchedule>(room)) else { return };
    let members = world.get::<Presences>(room).map(Presences::entities).unwrap_or_default();
    let mut presences: Vec<PresenceInfo> = members
        .iter()
        .filter_map(|entity| world.get::<Presence>(*entity))
        .map(|presence| (*presence.info).clone())
        .collect();
    let rest = presences.split_off(presences.len().min(PRESENCES_MAX));
    let state = RoomState {
        room_id: of.id,
        module: of.module.clone(),
        label: of.label.clone(),
        tick_rate: of.tick_rate,
        tick: beat.next.saturating_sub(1),
        server_time_ms: world.resource::<Clock>().now_ms(),
        max_players: of.max_players,
        presences,
        lost,
    };
    if let Err(fault) = tell(world, room, Audience::One(to), state) {
        tracing::error!(%fault, "a room's state cannot be sent");
    }
    tell_members(world, room, Audience::One(to), &rest, MembersJoined);
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
    let closed = RoomClosed::fault(kicked(reason.to_owned()));
    tell(world, room, Audience::One(presence), closed)?;
    depart(world, room, presence, "kicked");
    Ok(())
}

fn depart(world: &mut World, room: Entity, presence: Entity, reason: &str) {
    relay_waiting(world, room);
    let Some(info) = vacate(world, presence) else { return };
    departed(world, room, vec![PresenceInfo { reason: Some(reason.to_owned()), ..(*info).clone() }]);
}

/// Tells a room who left it: in as few messages as they fit in.
fn departed(world: &mut World, room: Entity, left: Vec<PresenceInfo>) {
    tell_members(world, room, Audience::All, &left, MembersLeft);
    seats_changed(world, room);
    tell_match(world, room, RoomFact::Left(left.into_iter().map(Arc::new).collect()));
}

fn tell_members<T: Serialize + Send + 'static>(
    world: &mut World,
    room: Entity,
    to: Audience<'_>,
    presences: &[PresenceInfo],
    event: fn(Vec<PresenceInfo>) -> T,
) {
    for some in presences.chunks(PRESENCES_MAX) {
        if let Err(fault) = tell(world, room, to, event(some.to_vec())) {
            tracing::error!(%fault, "what happened to members cannot be told");
        }
    }
}

/// What happened to members of one room in one frame, by room: told together, or a crowd that goes at once would
/// be told of in the square of its number.
type ByRoom = BTreeMap<RoomId, (Entity, Vec<(Entity, PresenceInfo)>)>;

fn presences_of(world: &World, session: SessionId) -> Vec<Entity> {
    let joined = world.of_session::<Joined>(session);
    joined.map(|joined| joined.entities().to_vec()).unwrap_or_default()
}

fn room_of(world: &World, presence: Entity) -> Option<(RoomId, Entity)> {
    let room = world.get::<InRoom>(presence)?.0;
    Some((world.get::<Room>(room)?.id, room))
}

/// Sessions end: they leave all their rooms.
pub(crate) fn leave_all(world: &mut World, ending: &[SessionEnding]) {
    let mut rooms = ByRoom::new();
    for SessionEnding { session, reason, .. } in ending {
        for presence in presences_of(world, *session).into_iter().rev() {
            let Some((id, room)) = room_of(world, presence) else { continue };
            relay_waiting(world, room);
            let Some(info) = vacate(world, presence) else { continue };
            let left = PresenceInfo { reason: Some((*reason).to_owned()), ..(*info).clone() };
            rooms.entry(id).or_insert_with(|| (room, Vec::new())).1.push((presence, left));
        }
    }
    for (room, left) in rooms.into_values() {
        departed(world, room, left.into_iter().map(|(_, info)| info).collect());
    }
}

/// Sessions lost their peer or have one again: the others see it, and so do scripts. The number is how much room
/// data was lost of which a fresh state has to tell.
pub(crate) fn connections_changed(world: &mut World, sessions: &[ConnectionChanged]) {
    let mut rooms = ByRoom::new();
    for ConnectionChanged { session, .. } in sessions {
        let Some(of) = world.of_session::<Session>(*session) else { continue };
        if of.ending.is_some() {
            continue;
        }
        // What it came to: a peer may have come and gone in one frame.
        let connected = of.peer.is_some();
        for entity in presences_of(world, *session) {
            let Some((id, room)) = room_of(world, entity) else { continue };
            let Some(mut presence) = world.get_mut::<Presence>(entity) else { continue };
            if presence.info.connected != connected {
                let info = PresenceInfo { connected, ..(*presence.info).clone() };
                presence.info = Arc::new(info.clone());
                rooms.entry(id).or_insert_with(|| (room, Vec::new())).1.push((entity, info));
            }
        }
    }
    for (room, changed) in rooms.into_values() {
        // One alone is not told of itself; of many together each finds itself among them.
        let to = match changed.as_slice() {
            [(one, _)] => Audience::Except(*one),
            _ => Audience::All,
        };
        let changed: Vec<PresenceInfo> = changed.into_iter().map(|(_, info)| info).collect();
        tell_members(world, room, to, &changed, MembersChanged);
    }
    for ConnectionChanged { session, lost } in sessions.iter().filter(|change| change.lost > 0) {
        for entity in presences_of(world, *session) {
            if let Some((_, room)) = room_of(world, entity) {
                send_state(world, room, entity, *lost);
            }
        }
    }
}
