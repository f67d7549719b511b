//! The driver of the test kit: one [`Core`] of the real client, over connections in memory and on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kaos_client::{
    Action, Answer, Core, CoreEvent, Credentials, End, Error, Event as RoomEvent, Micros, Options,
};
use kaos_gate::kaos::start::farewell;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::input::Gone;
use kaos_kernel::output::{Channel, Send};
use kaos_wire::{ServerMessage, v1};
use serde_json::Value as Json;

use super::door::{Connection, MemoryDoor};
use super::event::Event;
use super::filter::Filter;

/// A connection in memory opens at once, and a test may let its server take all the time it likes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3600);

/// What came of a request.
pub(super) enum Reply {
    Created(String),
    Joined(v1::RoomJoined),
    Left,
    /// What an rpc or a call returned.
    Bytes(Vec<u8>),
}

/// One client: the core, its connection, and what a test has not asked for yet.
pub(super) struct Client {
    pub(super) core: Core,
    pub(super) filter: Filter,
    /// Which of the test's clients it is.
    number: u64,
    connection: Option<Connection>,
    /// Its time goes on. A client whose connection was taken sleeps until it is told to resume.
    awake: bool,
    /// The frame before which its connection closes, if the server does not close it before.
    hang_up_at: Option<u64>,
    /// Why the server closed its connection, if it did.
    closed: Option<String>,
    /// Handles of rooms, in the order of joining.
    rooms: Vec<u16>,
    /// Requests without an answer.
    waiting: BTreeSet<u32>,
    pub(super) replies: BTreeMap<u32, Result<Reply, Fault>>,
    pub(super) events: Vec<Event>,
    /// The sentence with which a room of it closed last.
    pub(super) closing: Option<String>,
}

impl Client {
    /// A client that is about to connect: its next turn does.
    pub(super) fn new(now: Micros, number: u64, credentials: Credentials, filter: Filter) -> Client {
        let options = Options {
            client: "kaosnet::testing".to_owned(),
            open_timeout: OPEN_TIMEOUT,
            ..Options::default()
        };
        Client {
            core: Core::new(now, credentials, options, number),
            filter,
            number,
            connection: None,
            awake: true,
            hang_up_at: None,
            closed: None,
            rooms: Vec::new(),
            waiting: BTreeSet::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            closing: None,
        }
    }

    /// Why its session, or else its connection, ended.
    pub(super) fn ended(&self) -> Option<String> {
        self.core.end().map(|end| end.reason.clone()).or_else(|| self.closed.clone())
    }

    /// The room that it joined last and is still in.
    pub(super) fn last_room(&self) -> Option<u16> {
        self.rooms.iter().rev().copied().find(|handle| self.core.room(*handle).is_some())
    }

    /// Its handle for a room that it is in.
    pub(super) fn room(&self, room_id: &str) -> Option<u16> {
        let is = |handle: &u16| self.core.room(*handle).is_some_and(|room| room.room_id == room_id);
        self.rooms.iter().rev().copied().find(is)
    }

    /// Has it this connection now?
    pub(super) fn is_on(&self, peer: kaos_kernel::ids::PeerId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.peer == peer)
    }

    /// The frame before which it wants its next turn.
    pub(super) fn due(&self, door: &MemoryDoor) -> Option<u64> {
        let timeout = self.core.poll_timeout().filter(|_| self.awake).map(|at| door.frame_at(at));
        let hang_up = self.hang_up_at.filter(|_| self.connection.is_some());
        timeout.into_iter().chain(hang_up).min()
    }

    /// Does what is due, and hands everything that it has to say to the door.
    pub(super) fn turn(&mut self, door: &mut MemoryDoor) {
        if self.hang_up_at.is_some_and(|frame| frame <= door.frame) {
            self.hang_up(door);
        }
        if self.awake {
            self.core.handle_timeout(door.now());
        }
        loop {
            self.take_events();
            match self.core.poll_action() {
                None => break,
                // The goodbye goes first; whoever hears it closes the connection.
                Some(Action::Hangup) => self.hang_up_at = Some(door.frame + 1),
                Some(Action::Dial) => self.dial(door),
            }
        }
        self.flush(door);
        self.awake &= self.core.end().is_none();
    }

    fn dial(&mut self, door: &mut MemoryDoor) {
        self.connection = door.open(self.number);
        match self.connection {
            Some(_) => self.core.opened(door.now()),
            None => self.core.closed(door.now(), "the door has no room for another connection"),
        }
    }

    fn flush(&mut self, door: &mut MemoryDoor) {
        while self.connection.is_some()
            && let Some((_, message)) = self.core.peek()
        {
            let message = message.clone();
            self.core.advance();
            if let Some(bytes) = self.filter.outward(message) {
                self.hand_over(door, bytes);
            }
        }
    }

    fn hand_over(&mut self, door: &mut MemoryDoor, bytes: Bytes) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(fault) = door.take(connection, bytes) {
            let goodbye = Bytes::from(farewell(&fault));
            self.core.receive(door.now(), Some(kaos_wire::Channel::Control), &goodbye);
            self.closed(door.now(), fault.kind.name());
        }
    }

    /// Sends bytes in its name, without its knowledge.
    pub(super) fn inject(&mut self, door: &mut MemoryDoor, bytes: Bytes) {
        if self.connection.is_some()
            && let Some(bytes) = self.filter.inject(bytes)
        {
            self.hand_over(door, bytes);
        }
    }

    /// Takes a message of the server.
    pub(super) fn receive(&mut self, now: Micros, send: &Send) {
        let bytes = Bytes::from([&send.head[..], &send.body].concat());
        let (core, waiting) = (&self.core, &self.waiting);
        let asked = |message: &ServerMessage<'_>| match message {
            ServerMessage::RoomState(state) => {
                let known = u16::try_from(state.handle).ok().and_then(|handle| core.room(handle));
                known.is_some() || !waiting.is_empty()
            }
            answer => answer.cid() == 0 || waiting.contains(&answer.cid()),
        };
        if let Some(bytes) = self.filter.inward(now, bytes, asked) {
            let channel = match send.channel {
                Channel::Control => kaos_wire::Channel::Control,
                Channel::Data => kaos_wire::Channel::Data,
                Channel::Unreliable => kaos_wire::Channel::Unreliable,
            };
            self.core.receive(now, Some(channel), &bytes);
            self.take_events();
        }
    }

    /// Its connection was closed. It does not come back by itself: a test says when.
    pub(super) fn closed(&mut self, now: Micros, reason: &str) {
        self.connection = None;
        self.awake = false;
        self.closed.get_or_insert_with(|| reason.to_owned());
        if !self.filter.dead {
            self.core.closed(now, reason);
        }
    }

    /// Its connection breaks. It notices when it resumes.
    pub(super) fn lose_connection(&mut self, door: &mut MemoryDoor) {
        self.awake &= self.connection.is_none();
        self.hang_up(door);
    }

    fn hang_up(&mut self, door: &mut MemoryDoor) {
        self.hang_up_at = None;
        if let Some(connection) = self.connection.take() {
            door.close(connection.peer, Gone::Closed);
        }
    }

    /// Nothing passes between it and the server any more, and neither hears why.
    pub(super) fn play_dead(&mut self) {
        self.filter.dead = true;
        self.awake = false;
    }

    /// Begins to come back on a new connection.
    ///
    /// # Errors
    /// There is no session that could.
    pub(super) fn resume(&mut self, door: &mut MemoryDoor) -> Result<(), String> {
        if self.core.identity().is_none() {
            return Err("no session".to_owned());
        }
        if let Some(end) = self.core.end() {
            return Err(end.reason.clone());
        }
        self.filter.dead = false;
        self.awake = true;
        self.closed = None;
        self.core.lose(door.now(), Duration::ZERO);
        self.turn(door);
        Ok(())
    }

    /// Makes a request; its answer is in `replies` when it has come.
    ///
    /// # Errors
    /// The client does not send it.
    pub(super) fn ask(
        &mut self,
        door: &mut MemoryDoor,
        request: impl FnOnce(&mut Core) -> Result<u32, Error>,
    ) -> Result<u32, Fault> {
        let cid = request(&mut self.core).map_err(fault)?;
        self.waiting.insert(cid);
        self.turn(door);
        Ok(cid)
    }

    fn take_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                CoreEvent::Lost => self.connection = None,
                CoreEvent::Answer { cid, answer } => {
                    self.waiting.remove(&cid);
                    let reply = answer.map_err(fault).and_then(|answer| self.reply(cid, answer));
                    self.replies.insert(cid, reply);
                }
                CoreEvent::Room { event: RoomEvent::Closed(end), .. } => self.room_closed(end),
                CoreEvent::Room { event, .. } => self.events.push(Event::of_room(event)),
                CoreEvent::Pushed { name, body } => {
                    let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
                    self.events.push(Event::Pushed(name, body));
                }
                CoreEvent::Notice(refusal) => self.events.push(Event::Refused(refusal.name)),
                CoreEvent::Started
                | CoreEvent::Resumed { .. }
                | CoreEvent::RoundTrip(_)
                | CoreEvent::Ended(_) => {}
            }
        }
    }

    fn reply(&mut self, cid: u32, answer: Answer) -> Result<Reply, Fault> {
        Ok(match answer {
            Answer::Created(room_id) => Reply::Created(room_id),
            Answer::Joined(handle) => {
                let gone = || Fault::internal("a room is known when its join is answered");
                let info = self.core.room(handle).ok_or_else(gone)?;
                let joined = v1::RoomJoined {
                    cid,
                    room_id: info.room_id.clone(),
                    handle: handle.into(),
                    index: info.index.into(),
                    created: info.created,
                };
                self.events.push(Event::state(0, info));
                self.rooms.push(handle);
                Reply::Joined(joined)
            }
            Answer::Left => Reply::Left,
            Answer::Rpc(bytes) | Answer::Call(bytes) => Reply::Bytes(bytes.to_vec()),
        })
    }

    /// What the server said of the end of a room. That the client left, or its session ended, is no such event.
    fn room_closed(&mut self, end: End) {
        let own = end.code == 0 && end.reason == "left";
        if !own && self.core.end() != Some(&end) {
            self.closing = Some(end.message.clone());
            self.events.push(Event::of_room(RoomEvent::Closed(end)));
        }
    }
}

/// A refusal as the server's own type, so that tests compare it as they do everywhere.
fn fault(error: Error) -> Fault {
    match error {
        Error::Refused(refusal) => {
            let kind = FaultKind::ALL.iter().find(|kind| u32::from(kind.code()) == refusal.code);
            let kind = kind.copied().unwrap_or(FaultKind::Internal);
            Fault::new(kind, refusal.message).retry_in_ms(refusal.retry_ms)
        }
        Error::Ended(end) => Fault::new(FaultKind::SessionGone, end.reason),
        other => Fault::invalid(other.to_string()),
    }
}
