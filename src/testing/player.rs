//! A player of the test kit: a client as a test handles it, one call at a time.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use bytes::Bytes;
use kaos_client::{Core, Create, Credentials, Error, Join};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::SessionId;
use kaos_wire::{EVERYONE, v1};
use serde_json::{Value as Json, json};

use super::client::{Client, Reply};
use super::door::MemoryDoor;
use super::event::Event;
use super::filter::Filter;
use super::run::Inner;

/// Frames that a player waits for an answer.
const WAIT_FRAMES: u32 = 1000;

/// A client. Cheap to clone: all clones are the same client.
#[derive(Clone)]
pub struct Player {
    inner: Rc<RefCell<Inner>>,
    at: usize,
}

impl Player {
    /// Connects a client and runs the frame in which its session starts.
    pub(super) fn connect(inner: &Rc<RefCell<Inner>>, credentials: Credentials) -> Player {
        let player = Player::add(inner, credentials, Filter::default());
        inner.borrow_mut().step();
        player
    }

    /// A connection without a session: it does not say who it is.
    pub(super) fn stranger(inner: &Rc<RefCell<Inner>>) -> Player {
        Player::add(inner, Credentials::anonymous("stranger"), Filter::mute())
    }

    fn add(inner: &Rc<RefCell<Inner>>, credentials: Credentials, filter: Filter) -> Player {
        let mut state = inner.borrow_mut();
        let Inner { clients, door, .. } = &mut *state;
        let at = clients.len();
        let mut client = Client::new(door.now(), at as u64, credentials, filter);
        client.turn(door);
        clients.push(client);
        Player { inner: inner.clone(), at }
    }

    fn client(&self) -> RefMut<'_, Client> {
        RefMut::map(self.inner.borrow_mut(), |inner| &mut inner.clients[self.at])
    }

    fn with<R>(&self, work: impl FnOnce(&mut Client, &mut MemoryDoor) -> R) -> R {
        let mut state = self.inner.borrow_mut();
        let Inner { clients, door, .. } = &mut *state;
        work(&mut clients[self.at], door)
    }

    /// Its session, once there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.client().core.identity().map(|identity| SessionId(identity.session_id))
    }

    /// Its user, once there is one.
    pub fn user_id(&self) -> Option<String> {
        self.client().core.identity().map(|identity| identity.user_id.clone())
    }

    /// Sends bytes as they are, in the next frame. The client knows nothing of them: for hostile ones.
    pub fn send_raw(&self, bytes: impl Into<Bytes>) {
        self.with(|client, door| client.inject(door, bytes.into()));
    }

    fn data(&self, send: impl FnOnce(&mut Core, u16) -> Result<(), Error>) {
        self.with(|client, door| {
            let Some(handle) = client.last_room() else { return };
            match send(&mut client.core, handle) {
                Ok(()) => client.turn(door),
                // Whose session is over says nothing any more.
                Err(Error::Ended(_)) => {}
                #[expect(clippy::panic, reason = "a test kit fails tests")]
                Err(error) => panic!("a test sends what no client can: {error}"),
            }
        });
    }

    /// Sends reliable data to the room that was joined last; the next frame takes it.
    pub fn send(&self, op: u8, data: impl AsRef<[u8]>) {
        self.send_to(EVERYONE, op, data);
    }

    /// Sends data that may be lost.
    pub fn send_unreliable(&self, op: u8, data: impl AsRef<[u8]>) {
        self.data(|core, handle| core.send_unreliable(handle, op, data.as_ref()));
    }

    /// In a relayed room: sends to one member.
    pub fn send_to(&self, index: u16, op: u8, data: impl AsRef<[u8]>) {
        self.data(|core, handle| core.send_to(handle, index, op, data.as_ref()));
    }

    /// Sends a request and runs until its answer is there, at most 1,000 frames.
    fn request(&self, ask: impl FnOnce(&mut Core) -> Result<u32, Error>) -> Result<Reply, Fault> {
        let cid = self.with(|client, door| client.ask(door, ask))?;
        for _ in 0..WAIT_FRAMES {
            self.inner.borrow_mut().step();
            let mut client = self.client();
            if let Some(answer) = client.replies.remove(&cid) {
                return answer;
            }
            if let Some(reason) = client.ended() {
                return Err(Fault::new(FaultKind::SessionGone, reason));
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
        let v1::RoomJoin { cid: _, room_id, module, params, metadata, label, max_players } = request;
        let join = Join { room_id, module, params, metadata, label, max_players };
        match self.request(|core| core.join(join))? {
            Reply::Joined(joined) => Ok(joined),
            _ => Err(another_kind()),
        }
    }

    /// Makes a room.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn create(&self, request: v1::RoomCreate) -> Result<String, Fault> {
        let v1::RoomCreate { cid: _, module, params, label, max_players } = request;
        let create = Create { module, params, label, max_players };
        match self.request(|core| core.create(create))? {
            Reply::Created(room_id) => Ok(room_id),
            _ => Err(another_kind()),
        }
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn leave(&self, room_id: &str) -> Result<(), Fault> {
        let known = self.client().room(room_id);
        match known {
            Some(handle) => self.request(|core| core.leave(handle)).map(drop),
            // The client leaves what it knows; the server has the last word on anything else.
            None => self.call("room.leave", &json!({ "room_id": room_id })).map(drop),
        }
    }

    /// Calls a script's function.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn rpc(&self, id: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, Fault> {
        match self.request(|core| core.rpc(id, payload.as_ref()))? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(another_kind()),
        }
    }

    /// Calls an operation by name, JSON in and out.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn call(&self, op: &str, request: &Json) -> Result<Json, Fault> {
        match self.request(|core| core.call(op, request.to_string().as_bytes()))? {
            Reply::Bytes(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Fault::internal(error.to_string()))
            }
            _ => Err(another_kind()),
        }
    }

    /// Starts a call without waiting; [`Player::answer`] takes its answer.
    ///
    /// # Panics
    /// When its session is over, or has started more calls than a client may.
    pub fn start_call(&self, op: &str, request: &Json) -> u32 {
        let call = |core: &mut Core| core.call(op, request.to_string().as_bytes());
        match self.with(|client, door| client.ask(door, call)) {
            Ok(cid) => cid,
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            Err(fault) => panic!("a test calls what no client can: {fault}"),
        }
    }

    /// The answer of a call that was started, once it is there.
    pub fn answer(&self, cid: u32) -> Option<Result<Vec<u8>, Fault>> {
        let reply = self.client().replies.remove(&cid)?;
        Some(reply.and_then(|reply| match reply {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(another_kind()),
        }))
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

    /// Why its session ended, if it did, or else why the server closed its connection.
    pub fn ended(&self) -> Option<String> {
        self.client().ended()
    }

    /// Its connection dies without a goodbye. The server hears of it in the next frame; the client sleeps until
    /// [`Player::resume`].
    pub fn drop_connection(&self) {
        self.with(|client, door| client.lose_connection(door));
    }

    /// Its connection dies unnoticed, as UDP does: its peer stays, nothing is heard of it any more, and what is sent
    /// to it goes nowhere. The client sleeps until [`Player::resume`].
    pub fn play_dead(&self) {
        self.client().play_dead();
    }

    /// It goes on sending heartbeats that acknowledge nothing: a reader that is too slow.
    pub fn stop_acknowledging(&self) {
        self.client().filter.deaf = true;
    }

    /// Comes back on a new connection, tells what it received and sends again what was not acknowledged.
    ///
    /// # Errors
    /// The name of the server's refusal.
    pub fn resume(&self) -> Result<(), String> {
        self.with(|client, door| client.resume(door))?;
        for _ in 0..WAIT_FRAMES {
            self.inner.borrow_mut().step();
            let client = self.client();
            if let Some(reason) = client.ended() {
                return Err(reason);
            }
            if client.core.is_live() {
                return Ok(());
            }
        }
        Err("no answer".to_owned())
    }

    /// Says goodbye, as soon as everything that it sent is acknowledged.
    pub fn end(&self) {
        self.with(|client, door| {
            client.core.close(door.now());
            client.turn(door);
        });
    }
}

/// The client gives each request an answer of its own kind.
fn another_kind() -> Fault {
    Fault::internal("an answer of another kind than its request")
}
