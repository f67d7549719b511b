//! The async client: `connect`, join a room, send, take its events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kaos_rudp::PublicKey;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio::task::JoinHandle;

use crate::core::{Core, Create, Identity, Join};
use crate::credentials::{Credentials, Options};
use crate::dispatcher::Dispatcher;
use crate::door::Door;
use crate::driver::{Shared, drive};
use crate::error::{End, Error, Refusal};
use crate::event::{Answer, Status};
use crate::link::Dialing;
use crate::listen::{Listener, Offered};
use crate::room::Room;

/// Starts a session. See [`Door::find`] for the urls.
///
/// Must be called within a tokio runtime, which then runs the connection; so the runtime has to live as long as the
/// client.
///
/// # Errors
/// [`Error::Url`], [`Error::Unreachable`] when no connection comes about within 5 s, and [`Error::Ended`] with the
/// server's reason when it refuses the session, or with `wrong_key` when the server has another key than the url says.
pub async fn connect(url: &str, credentials: Credentials) -> Result<Client, Error> {
    connect_with(url, credentials, Options::default()).await
}

/// Like [`connect`], with settings.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(url: &str, credentials: Credentials, options: Options) -> Result<Client, Error> {
    let door = Door::find(url).await?;
    let name = door.to_string();
    let (started, start) = oneshot::channel();
    let (status, watched) = watch::channel(Status::Connecting);
    let dispatcher = Dispatcher::new(started, status);
    let dialing = Dialing::of(&options);
    let core = Core::new(crate::clock::now(), credentials, options, random());
    let shared = Shared::new(core, dispatcher, door, dialing);
    let task = tokio::spawn(drive(shared.clone()));
    let client = Client { shared, status: watched, task: Some(task), offered: OnceCell::new() };
    match start.await {
        Ok(Ok(())) => Ok(client),
        Ok(Err(end)) if end.reason == "unreachable" => {
            Err(Error::Unreachable { door: name, why: end.message })
        }
        Ok(Err(end)) => Err(Error::Ended(end)),
        Err(_) => Err(Error::Unreachable { door: name, why: "the runtime is stopping".to_owned() }),
    }
}

pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // It only spreads the attempts to come back: any number is better than none.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A session with a server. It comes back by itself when its connection breaks, within the seat time of the server.
///
/// Dropping it ends the session; its rooms get `Closed("closed")`.
pub struct Client {
    shared: Arc<Shared<Dispatcher>>,
    status: watch::Receiver<Status>,
    task: Option<JoinHandle<()>>,
    /// The events that the server offers, once it was asked. See [`Client::ask_for_events`].
    offered: OnceCell<Option<Vec<String>>>,
}

impl Client {
    /// Joins an open room of this module, or creates one, in one atomic step.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's reason, such as `full`, `refused` or `not_found`; [`Error::Ended`],
    /// [`Error::KeepFull`], [`Error::TooManyRequests`], [`Error::TooLong`].
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw the request; a seat that it still gets is given up at once.
    pub async fn join_or_create(&self, module: &str) -> Result<Room, Error> {
        self.join_with(Join { module: module.to_owned(), ..Join::default() }).await
    }

    /// Joins the room with this id.
    ///
    /// # Errors
    /// As [`Client::join_or_create`].
    pub async fn join(&self, room_id: &str) -> Result<Room, Error> {
        self.join_with(Join { room_id: room_id.to_owned(), ..Join::default() }).await
    }

    /// Joins with label, params or metadata.
    ///
    /// # Errors
    /// As [`Client::join_or_create`].
    pub async fn join_with(&self, join: Join) -> Result<Room, Error> {
        match self.request(|core| core.join(join)).await? {
            Answer::Joined(handle) => Room::new(self.shared.clone(), handle),
            other => Err(unexpected(&other)),
        }
    }

    /// Creates a room without joining it; returns its id. An empty `module` creates a relayed room.
    ///
    /// # Errors
    /// As [`Client::join_or_create`].
    pub async fn create(&self, module: &str) -> Result<String, Error> {
        self.create_with(Create { module: module.to_owned(), ..Create::default() }).await
    }

    /// Creates a room with params, label or seats.
    ///
    /// # Errors
    /// As [`Client::join_or_create`].
    pub async fn create_with(&self, create: Create) -> Result<String, Error> {
        match self.request(|core| core.create(create)).await? {
            Answer::Created(room_id) => Ok(room_id),
            other => Err(unexpected(&other)),
        }
    }

    /// Leaves a room; the same as [`Room::leave`].
    ///
    /// # Errors
    /// As [`Client::join_or_create`].
    pub async fn leave(&self, room: Room) -> Result<(), Error> {
        room.leave().await
    }

    /// Calls a function that a script registered; returns what it returns.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's reason: `not_found`, `script`, `deadline`, ...; else as
    /// [`Client::join_or_create`].
    pub async fn rpc(&self, id: &str, payload: &[u8]) -> Result<Bytes, Error> {
        match self.request(|core| core.rpc(id, payload)).await? {
            Answer::Rpc(payload) => Ok(payload),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls an operation of the server or of a plugin, such as `room.list`.
    ///
    /// # Errors
    /// [`Error::Json`] when the body cannot be written or the answer not be read as `R`; else as [`Client::rpc`].
    pub async fn call<R: DeserializeOwned>(
        &self,
        op: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<R, Error> {
        let json = |error: serde_json::Error| Error::Json { op: op.to_owned(), why: error.to_string() };
        let body = serde_json::to_vec(body).map_err(json)?;
        match self.request(|core| core.call(op, &body)).await? {
            Answer::Call(body) => serde_json::from_slice(&body).map_err(json),
            other => Err(unexpected(&other)),
        }
    }

    /// Listens to an event that a feature of the server pushes, such as `guestbook.signed`, from now on.
    ///
    /// The name is looked up among those that the server offers, which it is asked for once per session. A server from
    /// before that list is believed, whatever the name.
    ///
    /// # Errors
    /// [`Error::NoSuchEvent`] with the nearest name; else as [`Client::call`].
    pub async fn listen<T: DeserializeOwned>(&self, event: &str) -> Result<Listener<T>, Error> {
        let (feed, listener) = Listener::new(event);
        {
            // Before the list is asked for, so that nothing that comes meanwhile is missed.
            let mut state = self.shared.lock();
            if let Some(end) = state.core.end() {
                return Err(Error::Ended(end.clone()));
            }
            state.handler.listen(event, feed);
        }
        match self.offered.get_or_try_init(|| self.ask_for_events()).await? {
            Some(offered) if !offered.iter().any(|name| name == event) => {
                Err(Error::NoSuchEvent { event: event.to_owned(), offered: offered.clone() })
            }
            Some(_) | None => Ok(listener),
        }
    }

    /// The names of the events that the server can send; `None`: it is of before it could tell.
    async fn ask_for_events(&self) -> Result<Option<Vec<String>>, Error> {
        match self.call::<Offered>("server.describe", &serde_json::json!({})).await {
            Ok(offered) => Ok(Some(offered.events.into_iter().map(|event| event.name).collect())),
            Err(Error::Refused(refusal)) if refusal.name == "unimplemented" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many events were dropped because their [`Listener`] did not keep up.
    pub fn missed(&self) -> u64 {
        self.shared.lock().handler.missed
    }

    /// The session and user that the server gave this client.
    pub fn identity(&self) -> Identity {
        let state = self.shared.lock();
        // Known since `connect` returned.
        state.core.identity().cloned().unwrap_or_else(|| Identity {
            session_id: 0,
            user_id: String::new(),
            username: String::new(),
            node: String::new(),
        })
    }

    /// The key that the server proved to have over UDP; `None`: this session has not been on UDP. Every later UDP
    /// connection of the session goes to the server with this key or to nobody, unless [`Client::resume_over`] is given
    /// an address with another key. A game that keeps it and connects to `kaos://host:port#key` the next time, where
    /// `key` is this one as text, refuses another server then, too.
    pub fn server_key(&self) -> Option<PublicKey> {
        self.shared.lock().core.server_key()
    }

    /// The last round trip to the server's frame and back, measured by heartbeats once a second.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.lock().core.rtt()
    }

    /// The state of the session.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status changes, and returns it.
    pub async fn changed(&mut self) -> Status {
        // The sender lives as long as the driver; when it is gone the last status stands.
        let _ = self.status.changed().await;
        self.status.borrow_and_update().clone()
    }

    /// The last error that belonged to no request, such as room data that the server refused (`rate_limited`, `busy`).
    pub fn notice(&self) -> Option<Refusal> {
        self.shared.lock().handler.notice.clone()
    }

    /// How often the session resumed over a new connection, and how many reliable room messages were lost in all.
    pub fn resumed(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.handler.resumed, state.handler.lost)
    }

    /// Moves the living session to another door, from UDP to a WebSocket for example. Rooms and requests go on. Later
    /// attempts to come back go there, too.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Unreachable`] as [`Door::find`]; the session stays where it is then.
    /// [`Error::Ended`] when it could not come back within the seat time.
    pub async fn resume_over(&self, url: &str) -> Result<(), Error> {
        let door = Door::find(url).await?;
        let before = self.shared.with(|now, state| {
            state.door = door;
            state.keep_old = true;
            state.core.lose(now, Duration::ZERO);
            state.handler.resumed
        });
        let mut status = self.status.clone();
        loop {
            if let Status::Ended(end) = &*status.borrow_and_update() {
                return Err(Error::Ended(end.clone()));
            }
            if self.shared.lock().handler.resumed > before {
                return Ok(());
            }
            if status.changed().await.is_err() {
                return Err(Error::Ended(End::own("closed", "the runtime is stopping")));
            }
        }
    }

    /// For tests: the connection dies without a goodbye, and the client comes back at once.
    pub fn drop_connection(&self) {
        self.drop_connection_for(Duration::ZERO);
    }

    /// For tests: the connection dies without a goodbye, and the client begins to come back after `pause`.
    pub fn drop_connection_for(&self, pause: Duration) {
        self.shared.with(|now, state| {
            state.keep_old = false;
            state.core.lose(now, pause);
        });
    }

    /// Ends the session: what was sent is delivered before, for which it waits a second at most.
    pub async fn close(mut self) {
        self.shared.with(|now, state| state.core.close(now));
        if let Some(task) = self.task.take() {
            // It cannot fail but by a panic, which has been reported.
            let _ = task.await;
        }
    }

    async fn request(&self, ask: impl FnOnce(&mut Core) -> Result<u32, Error>) -> Result<Answer, Error> {
        let answer = self.shared.with(|_, state| state.handler.request(&mut state.core, ask))?;
        answer.await.unwrap_or_else(|_| Err(Error::Ended(End::own("closed", "the runtime is stopping"))))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.task.is_some() {
            self.shared.with(|now, state| state.core.close(now));
        }
    }
}

fn unexpected(answer: &Answer) -> Error {
    // The core gives each request an answer of its own kind.
    Error::Ended(End::protocol(&format!("{answer:?} is no answer to this")))
}
