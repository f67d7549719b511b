//! `Core::Route`: bytes become messages, messages become calls and room inboxes. The only reader of messages.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::call::calls::{Calls, ReplyTo, Routed};
use crate::clock::Clock;
use crate::codec::{Codec, Inbound, InboundMessage, Outbound, SessionCodec, TO_ROOM};
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId};
use crate::input::Counts;
use crate::op::{Caller, OpTable};
use crate::output::Channel;
use crate::room::presence::{InRoom, Presence};
use crate::room::{Inbox, ReadyRooms, Room, RoomMessage};
use crate::send::{Outbox, post};
use crate::session::budget::{FrameLimits, is_sent_again, take_from_budget};
use crate::session::end::{end_session, send_now};
use crate::session::resend::ResendBuffer;
use crate::session::{Handles, Session, SessionState};
use crate::stages::ingest::{FrameInputs, PeerData};
use crate::world::WorldExt;

/// Bytes received after which an acknowledgement goes out at once.
const ACKNOWLEDGE_BYTES: usize = 32 * 1024;

/// The whole of `Core::Route`.
pub(crate) fn route(world: &mut World) {
    if world.resource::<FrameInputs>().data.is_empty() {
        return;
    }
    let mut data = std::mem::take(&mut world.resource_mut::<FrameInputs>().data);
    if let Some(codec) = world.get_resource::<SessionCodec>().cloned()
        && let Some(mut calls) = world.remove_non_send::<Calls>()
    {
        let ops = world.ops();
        let limits = FrameLimits::of(world);
        let mut messages = Vec::new();
        for data in data.drain(..) {
            let id = data.session;
            let done = guarded(|| {
                read(world, &mut calls, &ops, &limits, &*codec.0, data, &mut messages);
            });
            if done.is_none() {
                end_after_panic(world, id);
                messages.clear();
            }
        }
        world.insert_non_send(calls);
    }
    data.clear();
    world.resource_mut::<FrameInputs>().data = data;
}

/// Something panicked while this session's data was read: it ends, since what was counted is not known.
fn end_after_panic(world: &mut World, id: SessionId) {
    tracing::error!(session = %id, "reading what a session sent panicked: it ends, the server goes on");
    if guarded(|| end_session(world, id, Some(FaultKind::Internal.into()))).is_none() {
        tracing::error!(session = %id, "nor could it be ended without a panic");
    }
}

/// Reads one piece: whole messages of one session, in order.
fn read(
    world: &mut World,
    calls: &mut Calls,
    ops: &OpTable,
    limits: &FrameLimits,
    codec: &dyn Codec,
    data: PeerData,
    messages: &mut Vec<Inbound>,
) {
    let PeerData { peer, session: id, entity, bytes } = data;
    if !carries(world, entity, peer) {
        return;
    }
    // Something was heard on the present peer: the client has what its SessionStarted said.
    if let Some(mut state) = world.get_mut::<SessionState>(entity) {
        state.former_token = None;
    }
    let credit = world.get::<SessionState>(entity).map_or(0, |state| state.replay_credit.0);
    let split = codec.decode(&bytes, ops, &mut |message| messages.push(message));
    let split = match split {
        // What holds no message would spend nothing and still count as heard.
        Ok(()) if messages.is_empty() => {
            Err(Fault::new(FaultKind::Protocol, "an empty piece came: each holds at least one message"))
        }
        split => split,
    };
    for message in messages.drain(..) {
        handle_message(world, calls, ops, limits, id, entity, message);
        // What comes after a goodbye, or after what ended the session, is nothing.
        if world.get::<Session>(entity).is_none_or(|session| session.ending.is_some()) {
            break;
        }
    }
    if let Err(fault) = split {
        end_session(world, id, Some(Fault::new(FaultKind::Protocol, fault.message)));
    }
    if let Some(mut state) = world.get_mut::<SessionState>(entity) {
        let credited = credit.saturating_sub(state.replay_credit.0);
        let counts = bytes.len().saturating_sub(credited) as u64;
        if state.flood_bytes.take(limits.now_ns, counts, limits.flood_bytes).is_err() {
            let fault = Fault::new(FaultKind::RateLimited, "bytes came without end, whatever was refused");
            end_session(world, id, Some(fault));
        }
    }
    acknowledge(world, entity);
}

/// Does what this peer brought count for the session? Not when a newer one took over in this frame: the client
/// sends it again there.
fn carries(world: &World, entity: Entity, peer: PeerId) -> bool {
    let Some(session) = world.get::<Session>(entity).filter(|session| session.ending.is_none()) else {
        return false;
    };
    match session.peer {
        Some(current) => current == peer,
        None => world.get::<SessionState>(entity).is_some_and(|state| state.lost_peer == Some(peer)),
    }
}

fn handle_message(
    world: &mut World,
    calls: &mut Calls,
    ops: &OpTable,
    limits: &FrameLimits,
    id: SessionId,
    entity: Entity,
    inbound: Inbound,
) {
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
    match inbound.counted {
        Some(Channel::Control) => state.received.control += 1,
        Some(Channel::Data | Channel::Unreliable) => state.received.data += 1,
        None => {}
    }
    if inbound.counted.is_some() {
        state.unacknowledged += inbound.size;
    }
    let again = is_sent_again(&mut state, limits, &inbound);
    let Ok(limited) = (if again { Ok(Ok(())) } else { take_from_budget(&mut state, ops, limits, &inbound) })
    else {
        let fault = Fault::new(FaultKind::RateLimited, "messages came without end, whatever was refused");
        end_session(world, id, Some(fault));
        return;
    };
    if matches!(inbound.message, InboundMessage::Data { .. } | InboundMessage::Call { .. })
        && let Some(mut session) = world.get_mut::<Session>(entity)
    {
        session.last_input = limits.frame;
    }
    match inbound.message {
        InboundMessage::Heartbeat { client_time_us, received, rtt_us } => {
            heartbeat(world, limits, id, entity, client_time_us, received, rtt_us);
        }
        InboundMessage::End => {
            end_session(world, id, None);
        }
        InboundMessage::Data { handle, to, op, data, reliable } => {
            let taken = match limited {
                Err(retry_ms) => {
                    Err(Fault::new(FaultKind::RateLimited, "room data faster than this session may send")
                        .retry_in_ms(retry_ms))
                }
                Ok(()) => to_room(world, limits, entity, again, handle, to, op, data, reliable),
            };
            if let Err(fault) = taken {
                refuse_data(world, limits, id, entity, fault);
            }
        }
        InboundMessage::Call { cid, op, request, form } => {
            let row = ops.get(op);
            let auth = row.map_or(crate::op::Auth::Session, |row| row.op.auth);
            let caller = Caller::Session(id);
            let allowed = limited.map_err(too_many_calls).and_then(|()| caller.allowed(auth));
            let reply_to = ReplyTo::Session { session: id, cid, form };
            calls.routed.push(Routed { op, caller, request: allowed.map(|()| request), reply_to });
        }
        InboundMessage::Bad { cid, channel, fault } => {
            let unreadable = cid == 0 && matches!(fault.kind, FaultKind::Invalid | FaultKind::Protocol);
            if !unreadable {
                // A request that tells its number is readable: for what this server does not have, or with an
                // argument that is none. It is refused like any other.
                refuse(world, id, cid, channel, limited.map_err(too_many_calls).err().unwrap_or(fault));
                return;
            }
            let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
            if state.bad_messages.take(limits.now_ns, 1, limits.bad).is_err() {
                end_session(world, id, Some(Fault::new(FaultKind::Protocol, fault.message)));
            } else {
                refuse(world, id, cid, channel, fault);
            }
        }
    }
}

fn too_many_calls(retry_ms: u32) -> Fault {
    Fault::new(FaultKind::RateLimited, "calls faster than this session may make").retry_in_ms(retry_ms)
}

fn heartbeat(
    world: &mut World,
    limits: &FrameLimits,
    id: SessionId,
    entity: Entity,
    client_time_us: u64,
    received: Counts,
    rtt_us: u32,
) {
    let acknowledged = world.get_mut::<ResendBuffer>(entity).is_some_and(|mut resend| {
        let true_counts = resend.acknowledge(received);
        if resend.bytes <= limits.resend_bytes {
            resend.over_since = None;
        }
        true_counts
    });
    if !acknowledged {
        let fault = Fault::new(FaultKind::Protocol, "the client acknowledges messages that were never sent");
        end_session(world, id, Some(fault));
        return;
    }
    let Some(mut session) = world.get_mut::<Session>(entity) else { return };
    if rtt_us != 0 {
        session.rtt_us = rtt_us;
    }
    if let Some(peer) = session.peer {
        answer_heartbeat(world, entity, peer, client_time_us);
    }
}

fn answer_heartbeat(world: &mut World, entity: Entity, peer: PeerId, client_time_us: u64) {
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
    state.unacknowledged = 0;
    let received = state.received;
    let server_time_ms = world.resource::<Clock>().now_ms();
    send_now(world, peer, &Outbound::Heartbeat { client_time_us, received, server_time_ms });
}

/// A client that sends much is told early what arrived, so that it need not keep it.
pub(crate) fn acknowledge(world: &mut World, entity: Entity) {
    let much =
        world.get::<SessionState>(entity).is_some_and(|state| state.unacknowledged >= ACKNOWLEDGE_BYTES);
    if !much {
        return;
    }
    let peer = world.get::<Session>(entity).and_then(|session| session.peer);
    if let Some(peer) = peer {
        answer_heartbeat(world, entity, peer, 0);
    }
}

/// Puts room data into the inbox of its room. What is sent `again` after a resume goes past the inbox's bounds.
#[expect(clippy::too_many_arguments, reason = "the fields of a message, on the hot path")]
fn to_room(
    world: &mut World,
    limits: &FrameLimits,
    session: Entity,
    again: bool,
    handle: u16,
    to: u16,
    op: u8,
    data: Bytes,
    reliable: bool,
) -> Result<(), Fault> {
    let not_in_room = || Fault::not_found(format!("this session is in no room that it calls {handle}"));
    let presence =
        world.get::<Handles>(session).and_then(|handles| handles.get(handle)).ok_or_else(not_in_room)?;
    let at = world.get_entity(presence).map_err(|_| not_in_room())?;
    let sender = at.get::<Presence>().map(|presence| presence.info.clone()).ok_or_else(not_in_room)?;
    let room = at.get::<InRoom>().map(|room| room.0).ok_or_else(not_in_room)?;
    let mut room = world.get_entity_mut(room).map_err(|_| not_in_room())?;
    let (id, relayed) =
        room.get::<Room>().map(|room| (room.id, room.tick_rate == 0)).ok_or_else(not_in_room)?;
    if to != TO_ROOM && !relayed {
        return Err(Fault::invalid(
            "this room has a match: its members send to the room, not to one another",
        ));
    }
    let mut inbox = room.get_mut::<Inbox>().ok_or_else(not_in_room)?;
    if !again {
        inbox.admit(data.len(), limits.inbox)?;
    }
    inbox.push(RoomMessage { sender: Some(sender), to, op, data, reliable, frame: limits.frame });
    if relayed {
        world.resource_mut::<ReadyRooms>().0.insert(id);
    }
    Ok(())
}

/// Tells a session that its room data was refused: once a second, so that telling is no amplifier.
fn refuse_data(world: &mut World, limits: &FrameLimits, id: SessionId, entity: Entity, fault: Fault) {
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
    if limits.frame >= state.told_limited {
        state.told_limited = limits.frame + limits.second;
        refuse(world, id, 0, Channel::Data, fault);
    }
}

fn refuse(world: &mut World, id: SessionId, cid: u32, channel: Channel, fault: Fault) {
    match post(world, &Outbound::Refusal { cid, channel, fault }) {
        Ok(payload) => world.resource_mut::<Outbox>().to(id.slot(), 0, payload),
        Err(fault) => tracing::error!(%fault, "a refusal cannot be encoded"),
    }
}
