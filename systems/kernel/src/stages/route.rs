//! `Core::Route`: bytes become messages; messages become calls or entries in room inboxes. The only reader of messages.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::call::calls::{Calls, ReplyTo, Routed};
use crate::clock::Clock;
use crate::codec::{Codec, Inbound, InboundData, InboundMessage, Outbound, SessionCodec, TO_ROOM};
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId};
use crate::input::Counts;
use crate::op::{Auth, Caller, OpTable};
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
    // Without a codec nothing can be read, and the data is dropped.
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
                let PeerData { peer, session: id, entity, bytes } = data;
                let mut reader = Reader { world, calls: &mut calls, ops: &ops, limits: &limits, id, entity };
                reader.read(&*codec.0, peer, &bytes, &mut messages);
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

/// Something panicked while this session's data was read: it ends, because its numbers of messages can no
/// longer be trusted.
fn end_after_panic(world: &mut World, id: SessionId) {
    tracing::error!(session = %id, "reading what a session sent panicked: it ends, the server goes on");
    if guarded(|| end_session(world, id, Some(FaultKind::Internal.into()))).is_none() {
        tracing::error!(session = %id, "nor could it be ended without a panic");
    }
}

/// One session's data, on its way from bytes to calls and inboxes.
struct Reader<'f> {
    world: &'f mut World,
    calls: &'f mut Calls,
    ops: &'f OpTable,
    limits: &'f FrameLimits,
    id: SessionId,
    entity: Entity,
}

impl Reader<'_> {
    /// Reads the bytes of one [`Input::Data`](crate::input::Input::Data). `messages` is empty before and after.
    fn read(&mut self, codec: &dyn Codec, peer: PeerId, bytes: &Bytes, messages: &mut Vec<Inbound>) {
        if !self.carries(peer) {
            return;
        }
        let mut credit = 0;
        if let Some(mut state) = self.world.get_mut::<SessionState>(self.entity) {
            // Something was heard on the present peer: the client has what its SessionStarted said.
            state.former_token = None;
            credit = state.replay_credit.0;
        }
        let split = codec.decode(bytes, self.ops, &mut |message| messages.push(message));
        let split = match split {
            // Data without a message would cost nothing and still count as a sign of life.
            Ok(()) if messages.is_empty() => {
                Err(Fault::new(FaultKind::Protocol, "an empty piece came: each holds at least one message"))
            }
            split => split,
        };
        for message in messages.drain(..) {
            self.handle(message);
            // What comes after a goodbye, or after what ended the session, is ignored.
            if self.world.get::<Session>(self.entity).is_none_or(|session| session.ending.is_some()) {
                break;
            }
        }
        if let Err(fault) = split {
            self.end(Some(Fault::new(FaultKind::Protocol, fault.message)));
        }
        // After the messages were handled: only then is it known how much of the credit they took.
        if let Some(mut state) = self.world.get_mut::<SessionState>(self.entity) {
            let credited = credit.saturating_sub(state.replay_credit.0);
            let counts = bytes.len().saturating_sub(credited) as u64;
            if state.flood_bytes.take(self.limits.now_ns, counts, self.limits.flood_bytes).is_err() {
                let why = "bytes came without end, whatever was refused";
                self.end(Some(Fault::new(FaultKind::RateLimited, why)));
            }
        }
        acknowledge(self.world, self.entity);
    }

    /// Whether data of this peer still belongs to the session. It does not after a newer peer took over in this frame:
    /// the client sends it again there.
    fn carries(&self, peer: PeerId) -> bool {
        let session = self.world.get::<Session>(self.entity);
        let Some(session) = session.filter(|session| session.ending.is_none()) else { return false };
        match session.peer {
            Some(current) => current == peer,
            None => {
                let state = self.world.get::<SessionState>(self.entity);
                state.is_some_and(|state| state.lost_peer == Some(peer))
            }
        }
    }

    /// Counts a message, charges it to the session, and does what it asks for. In this order: a message that is refused
    /// was received all the same, and a client that does not see it counted would send it again.
    fn handle(&mut self, inbound: Inbound) {
        let Some(mut state) = self.world.get_mut::<SessionState>(self.entity) else { return };
        match inbound.counted {
            Some(Channel::Control) => state.received.control += 1,
            Some(Channel::Data | Channel::Unreliable) => state.received.data += 1,
            None => {}
        }
        if inbound.counted.is_some() {
            state.unacknowledged += inbound.size;
        }
        let again = is_sent_again(&mut state, self.limits, &inbound);
        let limited = match again {
            true => Ok(Ok(())),
            false => take_from_budget(&mut state, self.ops, self.limits, &inbound),
        };
        let Ok(limited) = limited else {
            let why = "messages came without end, whatever was refused";
            self.end(Some(Fault::new(FaultKind::RateLimited, why)));
            return;
        };
        if matches!(inbound.message, InboundMessage::Data(_) | InboundMessage::Call { .. })
            && let Some(mut session) = self.world.get_mut::<Session>(self.entity)
        {
            session.last_input = self.limits.frame;
        }
        match inbound.message {
            InboundMessage::Heartbeat { client_time_us, received, rtt_us } => {
                self.heartbeat(client_time_us, received, rtt_us);
            }
            InboundMessage::End => self.end(None),
            InboundMessage::Data(data) => {
                let taken = limited.map_err(too_much_data).and_then(|()| self.deliver(data, again));
                if let Err(fault) = taken {
                    self.refuse_data(fault);
                }
            }
            InboundMessage::Call { cid, op, request, form } => {
                let auth = self.ops.get(op).map_or(Auth::Session, |row| row.op.auth);
                let caller = Caller::Session(self.id);
                let allowed = limited.map_err(too_many_calls).and_then(|()| caller.allowed(auth));
                let reply_to = ReplyTo::Session { session: self.id, cid, form };
                // Refused calls are routed, too, so that refusals leave in the order of the calls.
                let request = allowed.map(|()| request);
                self.calls.routed.push(Routed { op, caller, request, reply_to });
            }
            InboundMessage::Bad { cid, channel, fault } => {
                let limited = limited.map_err(too_many_calls);
                self.bad(cid, channel, limited, fault);
            }
        }
    }

    fn end(&mut self, fault: Option<Fault>) {
        end_session(self.world, self.id, fault);
    }

    fn heartbeat(&mut self, client_time_us: u64, received: Counts, rtt_us: u32) {
        let resend_bytes = self.limits.resend_bytes;
        let acknowledged = self.world.get_mut::<ResendBuffer>(self.entity).is_some_and(|mut resend| {
            let true_counts = resend.acknowledge(received);
            if resend.bytes <= resend_bytes {
                resend.over_since = None;
            }
            true_counts
        });
        if !acknowledged {
            let why = "the client acknowledges messages that were never sent";
            self.end(Some(Fault::new(FaultKind::Protocol, why)));
            return;
        }
        let Some(mut session) = self.world.get_mut::<Session>(self.entity) else { return };
        if rtt_us != 0 {
            session.rtt_us = rtt_us;
        }
        if let Some(peer) = session.peer {
            send_heartbeat(self.world, self.entity, peer, client_time_us);
        }
    }

    /// Puts room data into the inbox of its room. What is sent `again` after a resume goes past the inbox's bounds.
    fn deliver(&mut self, data: InboundData, again: bool) -> Result<(), Fault> {
        let InboundData { handle, to, op, data, reliable } = data;
        let not_in_room = || Fault::not_found(format!("this session is in no room that it calls {handle}"));
        let handles = self.world.get::<Handles>(self.entity);
        let presence = handles.and_then(|handles| handles.get(handle)).ok_or_else(not_in_room)?;
        let at = self.world.get_entity(presence).map_err(|_| not_in_room())?;
        let sender = at.get::<Presence>().map(|presence| presence.info.clone()).ok_or_else(not_in_room)?;
        let room = at.get::<InRoom>().map(|room| room.0).ok_or_else(not_in_room)?;
        let mut room = self.world.get_entity_mut(room).map_err(|_| not_in_room())?;
        let (id, relayed) =
            room.get::<Room>().map(|room| (room.id, room.tick_rate == 0)).ok_or_else(not_in_room)?;
        if to != TO_ROOM && !relayed {
            return Err(Fault::invalid(
                "this room has a match: its members send to the room, not to one another",
            ));
        }
        let mut inbox = room.get_mut::<Inbox>().ok_or_else(not_in_room)?;
        if !again {
            inbox.admit(data.len(), self.limits.inbox)?;
        }
        let frame = self.limits.frame;
        inbox.push(RoomMessage { sender: Some(sender), to, op, data, reliable, frame });
        if relayed {
            self.world.resource_mut::<ReadyRooms>().0.insert(id);
        }
        Ok(())
    }

    /// Tells a session that its room data was refused: at most once a second, so that refusals do not
    /// multiply traffic.
    fn refuse_data(&mut self, fault: Fault) {
        let limits = self.limits;
        let Some(mut state) = self.world.get_mut::<SessionState>(self.entity) else { return };
        if limits.frame >= state.told_limited {
            state.told_limited = limits.frame + limits.second;
            self.refuse(0, Channel::Data, fault);
        }
    }

    /// Handles a message that could not be read. If it has a cid, or only names what this server does not have, that
    /// request alone is refused. Otherwise it counts as unreadable, and too many of those end the session.
    fn bad(&mut self, cid: u32, channel: Channel, limited: Result<(), Fault>, fault: Fault) {
        let unreadable = cid == 0 && matches!(fault.kind, FaultKind::Invalid | FaultKind::Protocol);
        if !unreadable {
            self.refuse(cid, channel, limited.err().unwrap_or(fault));
            return;
        }
        let limits = self.limits;
        let Some(mut state) = self.world.get_mut::<SessionState>(self.entity) else { return };
        match state.bad_messages.take(limits.now_ns, 1, limits.bad) {
            Ok(()) => self.refuse(cid, channel, fault),
            Err(_) => self.end(Some(Fault::new(FaultKind::Protocol, fault.message))),
        }
    }

    fn refuse(&mut self, cid: u32, channel: Channel, fault: Fault) {
        match post(self.world, &Outbound::Refusal { cid, channel, fault }) {
            Ok(payload) => self.world.resource_mut::<Outbox>().to(self.id.slot(), 0, payload),
            Err(fault) => tracing::error!(%fault, "a refusal cannot be encoded"),
        }
    }
}

fn too_many_calls(retry_ms: u32) -> Fault {
    Fault::new(FaultKind::RateLimited, "calls faster than this session may make").retry_in_ms(retry_ms)
}

fn too_much_data(retry_ms: u32) -> Fault {
    Fault::new(FaultKind::RateLimited, "room data faster than this session may send").retry_in_ms(retry_ms)
}

/// Tells a client what was received. `client_time_us` is echoed; 0 when nothing is answered.
fn send_heartbeat(world: &mut World, entity: Entity, peer: PeerId, client_time_us: u64) {
    let Some(mut state) = world.get_mut::<SessionState>(entity) else { return };
    state.unacknowledged = 0;
    let received = state.received;
    let server_time_ms = world.resource::<Clock>().now_ms();
    send_now(world, peer, &Outbound::Heartbeat { client_time_us, received, server_time_ms });
}

/// A client that sends a lot is told early what arrived, so that it can free its own resend buffer.
pub(crate) fn acknowledge(world: &mut World, entity: Entity) {
    let much =
        world.get::<SessionState>(entity).is_some_and(|state| state.unacknowledged >= ACKNOWLEDGE_BYTES);
    if !much {
        return;
    }
    let peer = world.get::<Session>(entity).and_then(|session| session.peer);
    if let Some(peer) = peer {
        send_heartbeat(world, entity, peer, 0);
    }
}
