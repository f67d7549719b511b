//! `Core::Route`: bytes become messages, messages become calls and room inboxes. The only reader of messages.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::call::{Caller, Calls, ReplyTo, Routed};
use crate::clock::Clock;
use crate::codec::{Inbound, InboundMessage, Outbound, SessionCodec};
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId};
use crate::ingest::FrameInputs;
use crate::input::Counts;
use crate::keep::Keep;
use crate::limit::Rate;
use crate::op::{OpTable, Ops};
use crate::output::Lane;
use crate::presence::{InRoom, Presence};
use crate::room::{Inbox, ReadyRooms, Room, RoomMessage};
use crate::send::{Outbox, post};
use crate::session::{
    Handles, Peer, PeerIndex, Session, SessionIndex, SessionState, close_peer, end_session, send_now,
};
use crate::settings::Settings;

/// Bytes received after which an acknowledgement goes out at once.
const ACKNOWLEDGE_BYTES: usize = 32 * 1024;

/// The whole of `Core::Route`.
pub(crate) fn route(world: &mut World) {
    if world.resource::<FrameInputs>().data.is_empty() {
        return;
    }
    let mut data = std::mem::take(&mut world.resource_mut::<FrameInputs>().data);
    let codec = world.get_resource::<SessionCodec>().cloned();
    if let Some((codec, mut calls)) = codec.zip(world.remove_non_send::<Calls>()) {
        let ops = world.resource::<Ops>().0.clone();
        let mut messages = Vec::new();
        for (peer, bytes) in data.drain(..) {
            let split = codec.0.decode(&bytes, &ops, &mut |message| messages.push(message));
            if let Some((session, entity)) = session_of(world, peer) {
                for message in messages.drain(..) {
                    one(world, &mut calls, &ops, session, entity, message);
                }
                if let Err(fault) = split {
                    end_session(world, session, Some(Fault::new(FaultKind::Protocol, fault.message)));
                }
            }
            messages.clear();
        }
        world.insert_non_send(calls);
    }
    world.resource_mut::<FrameInputs>().data = data;
}

/// The session that a peer carries. A peer that sends data before its SessionStart is closed.
fn session_of(world: &mut World, peer: PeerId) -> Option<(SessionId, Entity)> {
    let entity = world.resource::<PeerIndex>().get(peer)?;
    let Some(session) = world.get::<Peer>(entity)?.session else {
        let fault = Fault::new(FaultKind::Protocol, "the first message has to be a SessionStart");
        send_now(world, peer, &Outbound::Ended(fault));
        close_peer(world, peer, Some(FaultKind::Protocol));
        return None;
    };
    let entity = world.resource::<SessionIndex>().get(session)?;
    Some((session, entity))
}

fn one(world: &mut World, calls: &mut Calls, ops: &OpTable, id: SessionId, entity: Entity, inbound: Inbound) {
    let frame = world.resource::<Clock>().frame();
    match world.get_mut::<Session>(entity) {
        Some(session) if session.ending.is_some() => return,
        Some(mut session) => session.last_input = frame,
        None => return,
    }
    if let Some(mut state) = world.get_mut::<SessionState>(entity) {
        state.bypass_change_detection().former_token = None;
    }
    if let Some(lane) = inbound.counted {
        let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
        match lane {
            Lane::Control => state.received.control += 1,
            Lane::Data | Lane::Unreliable => state.received.data += 1,
        }
        state.unacknowledged += inbound.size;
    }
    let lane = inbound.counted.unwrap_or(Lane::Data);
    let limited = take_from_budget(world, entity, ops, &inbound);
    match inbound.message {
        InboundMessage::Heartbeat { client_time_us, received, rtt_us } => {
            heartbeat(world, id, entity, client_time_us, received, rtt_us);
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
                Ok(()) => to_room(world, entity, handle, to, op, data, reliable),
            };
            if let Err(fault) = taken {
                refuse_data(world, id, entity, fault);
            }
        }
        InboundMessage::Call { cid, op, request, form } => {
            let row = ops.get(op);
            let auth = row.map_or(crate::op::Auth::Session, |row| row.op.auth);
            let caller = Caller::Session(id);
            let allowed = match limited {
                Err(retry_ms) => {
                    Err(Fault::new(FaultKind::RateLimited, "calls faster than this session may make")
                        .retry_in_ms(retry_ms))
                }
                Ok(()) => caller.allowed(auth),
            };
            let reply_to = ReplyTo::Session { session: id, cid, form };
            calls.routed.push(Routed { op, caller, request: allowed.map(|()| request), reply_to });
        }
        InboundMessage::Bad { cid, fault } => {
            let bad_max = world.resource::<Settings>().limit.bad_messages_max;
            let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
            state.bad_messages += 1;
            if state.bad_messages >= bad_max {
                end_session(world, id, Some(Fault::new(FaultKind::Protocol, fault.message)));
            } else {
                refuse(world, id, cid, lane, fault);
            }
        }
    }
    acknowledge(world, entity);
}

/// Takes a message from its session's budget. Heartbeats and goodbyes are free: their number is bounded
/// by the bytes that the transport takes in, and refusing them would only lose a healthy session.
fn take_from_budget(world: &mut World, entity: Entity, ops: &OpTable, inbound: &Inbound) -> Result<(), u32> {
    let cost = match &inbound.message {
        InboundMessage::Heartbeat { .. } | InboundMessage::End => return Ok(()),
        InboundMessage::Call { op, .. } => ops.get(*op).map_or(1, |row| row.op.cost),
        InboundMessage::Data { .. } | InboundMessage::Bad { .. } => 1,
    };
    let limits = &world.resource::<Settings>().limit;
    let messages = Rate::new(limits.session_messages, limits.session_messages_burst);
    let bytes = Rate::new(limits.session_bytes, limits.session_bytes_burst);
    let clock = world.resource::<Clock>();
    let now_ns = clock.frame().saturating_mul(clock.quantum().us() * 1000);
    let frame = clock.frame();
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return Ok(()) };
    let (credit, until) = state.replay_credit;
    if frame < until && inbound.size <= credit {
        state.replay_credit.0 -= inbound.size;
        return Ok(());
    }
    state.messages.take(now_ns, u64::from(cost), messages)?;
    state.bytes.take(now_ns, inbound.size as u64, bytes)
}

fn heartbeat(
    world: &mut World,
    id: SessionId,
    entity: Entity,
    client_time_us: u64,
    received: Counts,
    rtt_us: u32,
) {
    let acknowledged = world.get_mut::<Keep>(entity).is_some_and(|mut keep| keep.acknowledge(received));
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
fn acknowledge(world: &mut World, entity: Entity) {
    let much =
        world.get::<SessionState>(entity).is_some_and(|state| state.unacknowledged >= ACKNOWLEDGE_BYTES);
    let peer = world.get::<Session>(entity).and_then(|session| session.peer);
    if let Some(peer) = peer.filter(|_| much) {
        answer_heartbeat(world, entity, peer, 0);
    }
}

/// Puts room data into the inbox of its room.
fn to_room(
    world: &mut World,
    session: Entity,
    handle: u16,
    to: u16,
    op: u8,
    data: Bytes,
    reliable: bool,
) -> Result<(), Fault> {
    let not_in_room = || Fault::not_found(format!("this session is in no room that it calls {handle}"));
    let presence =
        world.get::<Handles>(session).and_then(|handles| handles.get(handle)).ok_or_else(not_in_room)?;
    let sender =
        world.get::<Presence>(presence).map(|presence| presence.info.clone()).ok_or_else(not_in_room)?;
    let room = world.get::<InRoom>(presence).map(|room| room.0).ok_or_else(not_in_room)?;
    let frame = world.resource::<Clock>().frame();
    let settings = &world.resource::<Settings>().room;
    let (messages_max, bytes_max) = (settings.inbox_messages, settings.inbox_bytes);
    let mut inbox = world.get_mut::<Inbox>(room).ok_or_else(not_in_room)?;
    if inbox.messages.len() >= messages_max || inbox.bytes + data.len() > bytes_max {
        return Err(Fault::new(FaultKind::Busy, "the room's inbox is full").retry_in_ms(100));
    }
    inbox.bytes += data.len();
    inbox.messages.push_back(RoomMessage { sender: Some(sender), to, op, data, reliable, frame });
    let relayed = world.get::<Room>(room).filter(|room| room.tick_rate == 0).map(|room| room.id);
    if let Some(id) = relayed {
        world.resource_mut::<ReadyRooms>().0.insert(id);
    }
    Ok(())
}

/// Tells a session that its room data was refused: once a second, so that telling is no amplifier.
fn refuse_data(world: &mut World, id: SessionId, entity: Entity, fault: Fault) {
    let clock = world.resource::<Clock>();
    let (frame, second) = (clock.frame(), clock.hz());
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
    if frame >= state.told_limited {
        state.told_limited = frame + second;
        refuse(world, id, 0, Lane::Data, fault);
    }
}

fn refuse(world: &mut World, id: SessionId, cid: u32, lane: Lane, fault: Fault) {
    match post(world, &Outbound::Refusal { cid, lane, fault }) {
        Ok(payload) => world.resource_mut::<Outbox>().to(id.slot(), 0, payload),
        Err(fault) => tracing::error!(%fault, "a refusal cannot be encoded"),
    }
}
