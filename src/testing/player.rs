//! A client of the test kit: it speaks the wire format into memory, counts as clients count, and resumes.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::{PeerId, SessionId};
use kaos_kernel::input::{Claim, Counts, Door, Gone, Input};
use kaos_kernel::session::Session;
use kaos_kernel::world::WorldExt;
use kaos_wire::prost::Message as _;
use kaos_wire::{Channel, EVERYONE, Opcode, RoomData, ServerMessage, counted, decode_server, messages, v1};
use serde_json::Value as Json;

use super::run::Inner;

/// Messages that a client sends again in one piece: no more than a quarter of what a door takes in one.
const PIECE: usize = 1024;

/// What a client was told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Others joined; their names.
    Joined(Vec<String>),
    /// Others left; their names and why.
    Left(Vec<(String, String)>),
    /// Others lost their connection or have it again.
    Changed(Vec<(String, bool)>),
    /// Room data: the sender's index (65535: the server), the game's number and bytes.
    Data(u16, u8, Vec<u8>),
    /// A room, whole; the number of reliable messages that were lost before.
    State(Box<v1::RoomState>),
    /// The room is over, for this reason.
    Closed(String),
    /// The label is another.
    Label(String),
    /// A feature told something: the event's name, and its body.
    Pushed(String, Json),
    /// A request was refused that belongs to no call, by its word.
    Refused(String),
}

/// The client's side of a session.
#[derive(Default)]
pub(super) struct Client {
    pub(super) peer: Option<PeerId>,
    session: Option<SessionId>,
    token: [u8; 16],
    received: Counts,
    sent: Counts,
    /// Reliable messages that the server has not acknowledged: channel, count, bytes.
    kept: Vec<(Channel, u64, Vec<u8>)>,
    /// Room ids by handle.
    rooms: BTreeMap<u16, String>,
    events: Vec<Event>,
    answers: BTreeMap<u32, Result<Vec<u8>, Fault>>,
    next_cid: u32,
    ended: Option<String>,
    /// The sentence with which a room of it closed last.
    closing: Option<String>,
    last_beat: u64,
    /// Sends heartbeats. A test may switch it off to play dead.
    alive: bool,
    /// What is sent to it does not arrive either.
    dead: bool,
    /// Acknowledges nothing in its heartbeats.
    deaf: bool,
}

impl Client {
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if self.dead {
            return;
        }
        for message in messages(bytes) {
            let Ok((op, payload)) = message else { continue };
            match counted(op) {
                Some(Channel::Control) => self.received.control += 1,
                Some(Channel::Data | Channel::Unreliable) => self.received.data += 1,
                None => {}
            }
            if let Ok(message) = decode_server(op, payload) {
                self.take(message, payload);
            }
        }
    }

    fn take(&mut self, message: ServerMessage<'_>, payload: &[u8]) {
        let answer = payload.to_vec();
        match message {
            ServerMessage::SessionStarted(started) => self.started(&started),
            ServerMessage::SessionEnd(end) => self.ended = Some(end.reason),
            ServerMessage::Heartbeat(beat) => {
                let counts = beat.received.unwrap_or_default();
                self.acknowledged(counts.control, counts.data);
            }
            ServerMessage::RoomCreated(m) => drop(self.answers.insert(m.cid, Ok(answer))),
            ServerMessage::RoomJoined(m) => {
                if let Ok(handle) = u16::try_from(m.handle) {
                    self.rooms.insert(handle, m.room_id.clone());
                }
                self.answers.insert(m.cid, Ok(answer));
            }
            ServerMessage::RoomLeft(m) => {
                self.rooms.retain(|_, room| *room != m.room_id);
                self.answers.insert(m.cid, Ok(answer));
            }
            ServerMessage::RoomData(data) | ServerMessage::RoomDataUnreliable(data) => {
                self.events.push(Event::Data(data.index, data.op, data.data.to_vec()));
            }
            ServerMessage::RoomState(state) => self.events.push(Event::State(Box::new(state))),
            ServerMessage::RoomEvent(event) => self.event(event),
            ServerMessage::RpcResponse(m) => drop(self.answers.insert(m.cid, Ok(m.payload))),
            ServerMessage::CallReply(m) => drop(self.answers.insert(m.cid, Ok(m.body))),
            ServerMessage::Event(m) | ServerMessage::EventUnreliable(m) => {
                let body = serde_json::from_slice(&m.body).unwrap_or(Json::Null);
                self.events.push(Event::Pushed(m.name, body));
            }
            ServerMessage::Error(m) | ServerMessage::RoomError(m) => {
                let kind = FaultKind::ALL.iter().find(|kind| u32::from(kind.code()) == m.code);
                let kind = kind.copied().unwrap_or(FaultKind::Internal);
                if m.cid == 0 {
                    self.events.push(Event::Refused(m.name));
                } else {
                    self.answers.insert(m.cid, Err(Fault::new(kind, m.message).retry_in_ms(m.retry_ms)));
                }
            }
        }
    }

    fn started(&mut self, started: &v1::SessionStarted) {
        self.session = Some(SessionId(started.session_id));
        if let Ok(token) = <[u8; 16]>::try_from(&started.resume_token[..]) {
            self.token = token;
        }
        if started.resumed {
            let (base, received) = (started.base.unwrap_or_default(), started.received.unwrap_or_default());
            self.received = Counts { control: base.control, data: base.data };
            self.acknowledged(received.control, received.data);
        }
    }

    fn acknowledged(&mut self, control: u64, data: u64) {
        self.kept.retain(|(channel, count, _)| match channel {
            Channel::Control => *count > control,
            Channel::Data | Channel::Unreliable => *count > data,
        });
    }

    fn event(&mut self, event: v1::RoomEvent) {
        use v1::room_event::Event as Told;
        let event = match event.event {
            Some(Told::Joined(list)) => {
                Event::Joined(list.presences.into_iter().map(|p| p.username).collect())
            }
            Some(Told::Left(list)) => {
                Event::Left(list.presences.into_iter().map(|p| (p.username, p.reason)).collect())
            }
            Some(Told::Changed(list)) => {
                Event::Changed(list.presences.into_iter().map(|p| (p.username, p.connected)).collect())
            }
            Some(Told::Closed(closed)) => {
                if let Ok(handle) = u16::try_from(event.handle) {
                    self.rooms.remove(&handle);
                }
                self.closing = Some(closed.message);
                Event::Closed(closed.reason)
            }
            Some(Told::Label(label)) => Event::Label(label),
            None => return,
        };
        self.events.push(event);
    }

    pub(super) fn closed_by_server(&mut self, reason: &str) {
        self.peer = None;
        self.ended.get_or_insert_with(|| reason.to_owned());
    }

    /// Counts and keeps a message of ours.
    fn count(&mut self, op: Opcode, bytes: &[u8]) {
        let Some(channel) = op.counted() else { return };
        let count = match channel {
            Channel::Control => &mut self.sent.control,
            Channel::Data | Channel::Unreliable => &mut self.sent.data,
        };
        *count += 1;
        let count = *count;
        self.kept.push((channel, count, bytes.to_vec()));
    }

    pub(super) fn heartbeat(&mut self, frame: u64, hz: u64) -> Option<(PeerId, Bytes)> {
        let peer = self.peer.filter(|_| self.alive && self.session.is_some())?;
        if frame < self.last_beat + hz {
            return None;
        }
        self.last_beat = frame;
        let Counts { control, data } = if self.deaf { Counts::default() } else { self.received };
        let received = Some(v1::Counts { control, data });
        let beat = v1::Heartbeat { client_time_us: frame * 500, received, ..v1::Heartbeat::default() };
        let mut bytes = Vec::new();
        kaos_wire::encode(Opcode::Heartbeat, &beat, &mut bytes).ok()?;
        Some((peer, bytes.into()))
    }
}

/// A client. Cheap to clone: all clones are the same client.
#[derive(Clone)]
pub struct Player {
    inner: Rc<RefCell<Inner>>,
    at: usize,
}

impl Player {
    pub(super) fn connect(inner: &Rc<RefCell<Inner>>, name: &str) -> Player {
        let at = {
            let mut inner = inner.borrow_mut();
            inner.clients.push(Client { alive: true, ..Client::default() });
            inner.clients.len() - 1
        };
        let player = Player { inner: inner.clone(), at };
        player.open(Claim::Anonymous { name: name.to_owned() });
        player
    }

    /// A connection without a session: it does not say who it is.
    pub(super) fn stranger(inner: &Rc<RefCell<Inner>>) -> Player {
        let mut state = inner.borrow_mut();
        let peer = state.slots.open(1 << 20);
        if let Some(peer) = peer {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            state.inputs.push(Input::Open { peer, door: Door::Memory, address });
        }
        state.clients.push(Client { peer, ..Client::default() });
        let at = state.clients.len() - 1;
        drop(state);
        Player { inner: inner.clone(), at }
    }

    fn open(&self, claim: Claim) {
        let mut inner = self.inner.borrow_mut();
        let Some(peer) = inner.slots.open(1 << 20) else { return };
        let fresh = u128::from(inner.frame) << 64 | self.at as u128;
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        inner.inputs.push(Input::Open { peer, door: Door::Memory, address });
        inner.inputs.push(Input::Start { peer, claim, fresh: fresh.to_le_bytes(), vars: BTreeMap::new() });
        if let Some(client) = inner.clients.get_mut(self.at) {
            client.peer = Some(peer);
            client.ended = None;
        }
        inner.step();
    }

    fn client(&self) -> RefMut<'_, Client> {
        RefMut::map(self.inner.borrow_mut(), |inner| &mut inner.clients[self.at])
    }

    /// Its session, once there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.client().session
    }

    /// Its user, once there is one.
    pub fn user_id(&self) -> Option<String> {
        let session = self.session()?;
        let mut inner = self.inner.borrow_mut();
        inner.server.world().of_session::<Session>(session).map(|session| session.identity.user_id.clone())
    }

    /// Sends bytes as they are, in the next frame. They are not counted: for hostile clients.
    pub fn send_raw(&self, bytes: impl Into<Bytes>) {
        let mut inner = self.inner.borrow_mut();
        if let Some(peer) = inner.clients[self.at].peer {
            inner.inputs.push(Input::Data { peer, bytes: bytes.into() });
        }
    }

    fn transmit(&self, op: Opcode, bytes: Vec<u8>) {
        self.client().count(op, &bytes);
        self.send_raw(bytes);
    }

    fn message(&self, op: Opcode, message: &impl kaos_wire::prost::Message) {
        let mut bytes = Vec::new();
        if kaos_wire::encode(op, message, &mut bytes).is_ok() {
            self.transmit(op, bytes);
        }
    }

    fn data(&self, op: u8, data: &[u8], to: u16, reliable: bool) {
        let Some(handle) = self.client().rooms.keys().next_back().copied() else { return };
        let mut bytes = Vec::new();
        let data = RoomData { handle, index: to, op, data };
        let (op, encoded) = if reliable {
            (Opcode::RoomData, data.encode(&mut bytes))
        } else {
            (Opcode::RoomDataUnreliable, data.encode_unreliable(&mut bytes))
        };
        assert_eq!(encoded, Ok(()), "a test sends what no client can");
        self.transmit(op, bytes);
    }

    /// Sends reliable data to the room that was joined last; the next frame takes it.
    pub fn send(&self, op: u8, data: impl AsRef<[u8]>) {
        self.data(op, data.as_ref(), EVERYONE, true);
    }

    /// Sends data that may be lost.
    pub fn send_unreliable(&self, op: u8, data: impl AsRef<[u8]>) {
        self.data(op, data.as_ref(), EVERYONE, false);
    }

    /// In a relayed room: sends to one member.
    pub fn send_to(&self, index: u16, op: u8, data: impl AsRef<[u8]>) {
        self.data(op, data.as_ref(), index, true);
    }

    /// Sends a request and runs until its answer is there, at most 1,000 frames.
    fn request(&self, op: Opcode, build: impl FnOnce(u32) -> Vec<u8>) -> Result<Vec<u8>, Fault> {
        let cid = {
            let mut client = self.client();
            client.next_cid += 1;
            client.next_cid
        };
        let mut bytes = Vec::new();
        kaos_wire::encode_raw(op, &build(cid), &mut bytes)
            .map_err(|error| Fault::invalid(error.to_string()))?;
        self.transmit(op, bytes);
        for _ in 0..1000 {
            self.inner.borrow_mut().step();
            if let Some(answer) = self.client().answers.remove(&cid) {
                return answer;
            }
            if let Some(reason) = &self.client().ended {
                return Err(Fault::new(FaultKind::SessionGone, reason.clone()));
            }
        }
        Err(FaultKind::Deadline.into())
    }

    /// Joins an open room of a module, which is made when there is none.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn join(&self, module: &str) -> Result<v1::RoomJoined, Fault> {
        self.join_with(v1::RoomJoin { module: module.to_owned(), ..v1::RoomJoin::default() })
    }

    /// Joins a room by its id.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn join_id(&self, room_id: &str) -> Result<v1::RoomJoined, Fault> {
        self.join_with(v1::RoomJoin { room_id: room_id.to_owned(), ..v1::RoomJoin::default() })
    }

    /// Joins with every field of the request.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn join_with(&self, request: v1::RoomJoin) -> Result<v1::RoomJoined, Fault> {
        let bytes = self.request(Opcode::RoomJoin, |cid| v1::RoomJoin { cid, ..request }.encode_to_vec())?;
        v1::RoomJoined::decode(&bytes[..]).map_err(|error| Fault::internal(error.to_string()))
    }

    /// Makes a room.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn create(&self, request: v1::RoomCreate) -> Result<String, Fault> {
        let bytes =
            self.request(Opcode::RoomCreate, |cid| v1::RoomCreate { cid, ..request }.encode_to_vec())?;
        let created =
            v1::RoomCreated::decode(&bytes[..]).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(created.room_id)
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn leave(&self, room_id: &str) -> Result<(), Fault> {
        let room_id = room_id.to_owned();
        self.request(Opcode::RoomLeave, |cid| v1::RoomLeave { cid, room_id }.encode_to_vec()).map(|_| ())
    }

    /// Calls a script's function.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn rpc(&self, id: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, Fault> {
        let (id, payload) = (id.to_owned(), payload.as_ref().to_vec());
        self.request(Opcode::Rpc, |cid| v1::Rpc { cid, id, payload }.encode_to_vec())
    }

    /// Calls an operation by name, JSON in and out.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn call(&self, op: &str, request: &Json) -> Result<Json, Fault> {
        let (op, body) = (op.to_owned(), request.to_string().into_bytes());
        let bytes = self.request(Opcode::Call, |cid| v1::Call { cid, op, body }.encode_to_vec())?;
        serde_json::from_slice(&bytes).map_err(|error| Fault::internal(error.to_string()))
    }

    /// Starts a call without waiting; [`Player::answer`] takes its answer.
    pub fn start_call(&self, op: &str, request: &Json) -> u32 {
        let cid = {
            let mut client = self.client();
            client.next_cid += 1;
            client.next_cid
        };
        self.message(
            Opcode::Call,
            &v1::Call { cid, op: op.to_owned(), body: request.to_string().into_bytes() },
        );
        cid
    }

    /// The answer of a call that was started, once it is there.
    pub fn answer(&self, cid: u32) -> Option<Result<Vec<u8>, Fault>> {
        self.client().answers.remove(&cid)
    }

    /// What it was told since the last time.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.client().events)
    }

    /// The room data with this number that it was told since the last time, other events left alone.
    pub fn data_of(&self, op: u8) -> Vec<(u16, Vec<u8>)> {
        let mut client = self.client();
        let (found, rest) = std::mem::take(&mut client.events)
            .into_iter()
            .partition::<Vec<Event>, _>(|event| matches!(event, Event::Data(_, of, _) if *of == op));
        client.events = rest;
        let data = found.into_iter().filter_map(|event| match event {
            Event::Data(sender, _, data) => Some((sender, data)),
            _ => None,
        });
        data.collect()
    }

    /// The sentence for people with which a room of it closed last, if one did.
    pub fn closed_because(&self) -> Option<String> {
        self.client().closing.clone()
    }

    /// Why its session ended, if it did.
    pub fn ended(&self) -> Option<String> {
        self.client().ended.clone()
    }

    /// Its connection dies without a goodbye. The server hears of it in the next frame.
    pub fn drop_connection(&self) {
        let mut inner = self.inner.borrow_mut();
        if let Some(peer) = inner.clients[self.at].peer.take() {
            inner.slots.close(peer);
            inner.inputs.push(Input::Gone { peer, reason: Gone::Closed });
        }
    }

    /// Its connection dies unnoticed, as UDP does: its peer stays, nothing is heard of it any more, and what is sent
    /// to it goes nowhere.
    pub fn play_dead(&self) {
        let mut client = self.client();
        client.alive = false;
        client.dead = true;
    }

    /// It goes on sending heartbeats that acknowledge nothing: a reader that is too slow.
    pub fn stop_acknowledging(&self) {
        self.client().deaf = true;
    }

    /// Comes back on a new connection, tells what it received and sends again what was not acknowledged.
    ///
    /// # Errors
    /// The word with which the server refuses.
    pub fn resume(&self) -> Result<(), String> {
        let claim = {
            let client = self.client();
            let session = client.session.ok_or("no session")?;
            Claim::Resume { session, token: client.token, received: client.received }
        };
        self.client().alive = true;
        self.client().dead = false;
        self.open(claim);
        if let Some(reason) = &self.client().ended {
            return Err(reason.clone());
        }
        let again: Vec<Vec<u8>> = self.client().kept.iter().map(|(_, _, bytes)| bytes.clone()).collect();
        for piece in again.chunks(PIECE) {
            self.send_raw(piece.concat());
        }
        Ok(())
    }

    /// Says goodbye.
    pub fn end(&self) {
        self.message(Opcode::SessionEnd, &v1::SessionEnd::default());
    }
}
