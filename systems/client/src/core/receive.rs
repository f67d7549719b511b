//! Messages from the server. They come from a stranger: they may be refused, and cannot break anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kaos_rudp::Micros;
use kaos_wire::limits::{ACKNOWLEDGE_AFTER, HEADER, STRIKES};
use kaos_wire::{
    Channel, PROTOCOL_MAX, PROTOCOL_MIN, RoomData, SERVER, ServerMessage, WireError, counted, decode_server,
    messages, v1,
};

use super::{Action, Core, EARLY_BYTES_MAX, Identity, Member, Phase, Request};
use crate::error::{End, Error, Refusal};
use crate::event::{Answer, Event, Presence, RoomEvent, RoomInfo, Sender};
use crate::fault;

/// A message that the server should not have sent.
struct Bad(&'static str);

impl Core {
    /// Takes one WebSocket frame (`channel` is `None`) or one rudp message of the connection that is open now.
    pub fn receive(&mut self, now: Micros, channel: Option<Channel>, bytes: &Bytes) {
        for message in messages(bytes) {
            if !matches!(self.phase, Phase::Live | Phase::Opening { open: true, .. }) {
                return;
            }
            self.heard = now;
            match message {
                Ok((op, payload)) => self.message(now, channel, op, bytes.slice_ref(payload)),
                Err(error) => return self.violated(&error.to_string()),
            }
        }
    }

    fn message(&mut self, now: Micros, channel: Option<Channel>, op: u8, payload: Bytes) {
        let counted = counted(op);
        let own = kaos_wire::Opcode::from_u8(op).map(kaos_wire::Opcode::channel);
        if own.is_some() && channel.is_some() && own != channel {
            return self.violated("a message came on a channel that is not its own");
        }
        if self.phase != Phase::Live && (counted.is_some() || own == Some(Channel::Unreliable)) {
            // UDP: another channel was faster than SessionStarted. What is counted waits for it; unreliable messages are
            // dropped.
            if counted.is_some() {
                self.early_bytes += HEADER + payload.len();
                if self.early_bytes > EARLY_BYTES_MAX {
                    return self.violated("too much came before SessionStarted");
                }
                self.early.push((op, payload));
            }
            return;
        }
        if let Some(channel) = counted {
            self.received[channel as usize] += 1;
            self.unacknowledged += HEADER + payload.len();
        }
        match decode_server(op, &payload) {
            Ok(message) => {
                if let Err(Bad(what)) = self.decoded(now, message, &payload) {
                    self.bad(what);
                }
            }
            // A newer server may say more than this client knows.
            Err(WireError::UnknownOp { .. }) => {}
            Err(error) => {
                // Whoever waits for this answer waits no longer.
                if self.requests.remove(&error.cid()).is_some() {
                    let answer = Err(Error::Ended(End::protocol(&error.to_string())));
                    self.events.push_back(Event::Answer { cid: error.cid(), answer });
                }
                self.bad("a message that cannot be read");
            }
        }
        if self.unacknowledged >= ACKNOWLEDGE_AFTER && self.phase == Phase::Live {
            self.acknowledge();
        }
    }

    fn bad(&mut self, what: &str) {
        self.bad_messages += 1;
        if self.bad_messages >= STRIKES {
            self.violated(what);
        }
    }

    fn decoded(&mut self, now: Micros, message: ServerMessage<'_>, payload: &Bytes) -> Result<(), Bad> {
        match message {
            ServerMessage::SessionStarted(started) => self.started(now, *started),
            ServerMessage::SessionEnd(end) => {
                self.session_end(now, end);
                Ok(())
            }
            ServerMessage::Heartbeat(beat) => self.heartbeat(now, &beat),
            ServerMessage::RoomCreated(created) => self.answer(created.cid, |kind| {
                (kind == Request::Create).then_some(Answer::Created(created.room_id))
            }),
            ServerMessage::RoomJoined(joined) => self.joined(joined),
            ServerMessage::RoomLeft(left) => self.left(left.cid),
            ServerMessage::RoomData(data) => self.room_data(data, payload, true),
            ServerMessage::RoomDataUnreliable(data) => self.room_data(data, payload, false),
            ServerMessage::RoomState(state) => self.room_state(state),
            ServerMessage::RoomEvent(event) => self.room_event(event),
            ServerMessage::RpcResponse(response) => {
                let payload = Bytes::from(response.payload);
                self.answer(response.cid, |kind| (kind == Request::Rpc).then_some(Answer::Rpc(payload)))
            }
            ServerMessage::CallReply(reply) => {
                let body = Bytes::from(reply.body);
                self.answer(reply.cid, |kind| (kind == Request::Call).then_some(Answer::Call(body)))
            }
            ServerMessage::Event(event) | ServerMessage::EventUnreliable(event) => {
                let (name, body) = (event.name, event.body.into());
                self.events.push_back(Event::Pushed { name, body });
                Ok(())
            }
            ServerMessage::Error(error) | ServerMessage::RoomError(error) => {
                self.refusal(error);
                Ok(())
            }
        }
    }

    // ---- the session ----

    fn started(&mut self, now: Micros, started: v1::SessionStarted) -> Result<(), Bad> {
        if self.phase == Phase::Live {
            return Err(Bad("a second SessionStarted"));
        }
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&started.protocol) {
            self.violated("it chose a protocol version that was not offered");
            return Ok(());
        }
        let resuming = self.identity.is_some();
        if started.resumed != resuming {
            self.violated("it answered a resume with a new session, or the other way round");
            return Ok(());
        }
        let (received, base) = (started.received.unwrap_or_default(), started.base.unwrap_or_default());
        if resuming {
            let freed = [received.control, received.data];
            for (buffer, count) in self.resend.iter_mut().zip(freed) {
                match buffer.rewind(count) {
                    Some(bytes) => self.kept_bytes = self.kept_bytes.saturating_sub(bytes),
                    None => {
                        self.violated(
                            "it acknowledged what was never sent, or forgot what it had acknowledged",
                        );
                        return Ok(());
                    }
                }
            }
            if base.control != self.received[0] || base.data < self.received[1] {
                self.violated("it resumed at another place than was asked");
                return Ok(());
            }
            self.received = [base.control, base.data];
        }
        self.token = started.resume_token;
        self.heartbeat = Duration::from_millis(u64::from(started.heartbeat_ms).clamp(50, 30_000));
        self.seat = Duration::from_millis(u64::from(started.seat_ms));
        self.identity = Some(Identity {
            session_id: started.session_id,
            user_id: started.user_id,
            username: started.username,
            node: started.node,
        });
        self.phase = Phase::Live;
        self.give_up = None;
        self.unacknowledged = 0;
        let event = if resuming { Event::Resumed { lost: started.lost } } else { Event::Started };
        self.events.push_back(event);
        // The first round trip is known early, and what was lost on the way is acknowledged at once.
        self.beat(now);
        for (op, payload) in std::mem::take(&mut self.early) {
            self.message(now, None, op, payload);
        }
        self.early_bytes = 0;
        Ok(())
    }

    fn session_end(&mut self, now: Micros, end: v1::SessionEnd) {
        // A server that has too much to do just now still holds the seat.
        let come_back =
            self.identity.is_some() && [fault::RATE_LIMITED.code, fault::BUSY.code].contains(&end.code);
        match self.phase {
            Phase::Opening { attempt, .. } if come_back => self.attempt_failed(now, attempt, &end.reason),
            _ => {
                self.actions.push_back(Action::Hangup);
                self.finish(End::from(end));
            }
        }
    }

    fn heartbeat(&mut self, now: Micros, beat: &v1::Heartbeat) -> Result<(), Bad> {
        if self.phase != Phase::Live {
            return Ok(());
        }
        let received = beat.received.unwrap_or_default();
        for (channel, count) in
            [Channel::Control, Channel::Data].into_iter().zip([received.control, received.data])
        {
            match self.resend[channel as usize].acknowledge(count) {
                Some(bytes) => self.kept_bytes = self.kept_bytes.saturating_sub(bytes),
                None => {
                    self.violated("it acknowledged what was never sent");
                    return Ok(());
                }
            }
        }
        if beat.client_time_us > 0 {
            let sent = Micros(beat.client_time_us - 1);
            if sent > now {
                return Err(Bad("a heartbeat from the future"));
            }
            let rtt = now.since(sent);
            self.rtt = Some(rtt);
            self.events.push_back(Event::RoundTrip(rtt));
        }
        if self.closing.is_some() && self.resend.iter().all(super::ResendBuffer::is_empty) {
            self.say_goodbye();
        }
        Ok(())
    }

    // ---- answers ----

    fn answer(&mut self, cid: u32, fits: impl FnOnce(Request) -> Option<Answer>) -> Result<(), Bad> {
        let kind = self.requests.get(&cid).copied().ok_or(Bad("an answer to no request"))?;
        let answer = fits(kind).ok_or(Bad("an answer of another kind than its request"))?;
        self.requests.remove(&cid);
        self.events.push_back(Event::Answer { cid, answer: Ok(answer) });
        Ok(())
    }

    fn refusal(&mut self, error: v1::Error) {
        let cid = error.cid;
        let refusal = Refusal::from(error);
        if self.requests.remove(&cid).is_some() {
            self.forget_unjoined();
            self.events.push_back(Event::Answer { cid, answer: Err(Error::Refused(refusal)) });
        } else {
            self.events.push_back(Event::Notice(refusal));
        }
    }

    fn joined(&mut self, joined: v1::RoomJoined) -> Result<(), Bad> {
        let handle = u16::try_from(joined.handle).map_err(|_| Bad("a handle over 65535"))?;
        let index = u16::try_from(joined.index).map_err(|_| Bad("an index over 65535"))?;
        if self.requests.get(&joined.cid) != Some(&Request::Join) {
            return Err(Bad("RoomJoined for no join"));
        }
        let member = self.rooms.get_mut(&handle).ok_or(Bad("RoomJoined without RoomState"))?;
        if member.joined || member.info.room_id != joined.room_id {
            return Err(Bad("RoomJoined for another room"));
        }
        member.joined = true;
        member.info.index = index;
        member.info.created = joined.created;
        self.answer(joined.cid, |_| Some(Answer::Joined(handle)))?;
        self.forget_unjoined();
        Ok(())
    }

    fn left(&mut self, cid: u32) -> Result<(), Bad> {
        let Some(Request::Leave(handle)) = self.requests.get(&cid).copied() else {
            return Err(Bad("RoomLeft for no leave"));
        };
        self.answer(cid, |_| Some(Answer::Left))?;
        if self.rooms.remove(&handle).is_some_and(|member| member.joined) {
            let event = RoomEvent::Closed(End::own("left", "this client left"));
            self.events.push_back(Event::Room { handle, event });
        }
        Ok(())
    }

    /// Rooms whose join came to nothing; there is none without an open join.
    fn forget_unjoined(&mut self) {
        if !self.requests.values().any(|kind| *kind == Request::Join) {
            self.rooms.retain(|_, member| member.joined);
        }
    }

    // ---- rooms ----

    fn room_data(&mut self, data: RoomData<'_>, payload: &Bytes, reliable: bool) -> Result<(), Bad> {
        // Late data of a room that was left is nobody's mistake.
        if let Some(member) = self.rooms.get(&data.handle) {
            let presence = (data.index != SERVER).then(|| member.info.members.get(&data.index).cloned());
            let event = RoomEvent::Data {
                sender: Sender { index: data.index, presence: presence.flatten() },
                op: data.op,
                data: payload.slice_ref(data.data),
                reliable,
            };
            self.events.push_back(Event::Room { handle: data.handle, event });
        }
        Ok(())
    }

    fn room_state(&mut self, state: v1::RoomState) -> Result<(), Bad> {
        let handle = u16::try_from(state.handle).map_err(|_| Bad("a handle over 65535"))?;
        let members = read_presences(state.presences)?;
        let known = self.rooms.get(&handle).filter(|member| member.joined);
        if known.is_none() {
            // Hostile states must not fill the memory: as many as there are joins under way.
            let joins = self.requests.values().filter(|kind| **kind == Request::Join).count();
            let unjoined = self.rooms.iter().filter(|(other, m)| !m.joined && **other != handle).count();
            if unjoined >= joins {
                return Err(Bad("RoomState of a room that nobody asked for"));
            }
        }
        let (index, created) = known.map_or((0, false), |member| (member.info.index, member.info.created));
        let joined = known.is_some();
        let info = RoomInfo {
            room_id: state.room_id,
            handle,
            index,
            created,
            module: state.module,
            label: state.label,
            tick_rate: state.tick_rate,
            tick: state.tick,
            server_time_ms: state.server_time_ms,
            max_players: state.max_players,
            members: members
                .into_iter()
                .map(|presence| (presence.index, presence))
                .collect::<BTreeMap<_, _>>(),
        };
        if joined {
            let event = RoomEvent::State { lost: state.lost, info: Box::new(info.clone()) };
            self.events.push_back(Event::Room { handle, event });
        }
        self.rooms.insert(handle, Member { info, joined });
        Ok(())
    }

    fn room_event(&mut self, event: v1::RoomEvent) -> Result<(), Bad> {
        use v1::room_event::Event as Wire;
        let handle = u16::try_from(event.handle).map_err(|_| Bad("a handle over 65535"))?;
        let Some(member) = self.rooms.get_mut(&handle) else { return Ok(()) };
        let members = &mut member.info.members;
        let event = match event.event {
            Some(Wire::Joined(list)) => {
                let list = read_presences(list.presences)?;
                members.extend(list.iter().map(|presence| (presence.index, presence.clone())));
                RoomEvent::Joined(list)
            }
            Some(Wire::Changed(list)) => {
                let list = read_presences(list.presences)?;
                members.extend(list.iter().map(|presence| (presence.index, presence.clone())));
                RoomEvent::Changed(list)
            }
            Some(Wire::Left(list)) => {
                let list = read_presences(list.presences)?;
                for presence in &list {
                    members.remove(&presence.index);
                }
                RoomEvent::Left(list)
            }
            Some(Wire::Label(label)) => {
                member.info.label.clone_from(&label);
                RoomEvent::Label(label)
            }
            Some(Wire::Closed(closed)) => {
                let reason = if closed.reason.is_empty() { "ended".to_owned() } else { closed.reason };
                RoomEvent::Closed(End { code: closed.code, reason, message: closed.message })
            }
            // A newer server's.
            None => return Ok(()),
        };
        let joined = member.joined;
        if matches!(event, RoomEvent::Closed(_)) {
            self.rooms.remove(&handle);
        }
        // Before RoomJoined the members are still being told.
        if joined {
            self.events.push_back(Event::Room { handle, event });
        }
        Ok(())
    }
}

fn read_presences(list: Vec<v1::Presence>) -> Result<Vec<Arc<Presence>>, Bad> {
    let read = list.into_iter().map(|presence| Presence::read(presence).map(Arc::new));
    read.collect::<Option<Vec<_>>>().ok_or(Bad("a presence with an index over 65534"))
}
