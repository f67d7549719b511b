//! Listening to events that features of the server push, by name.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::error::Error;

/// Events that wait for a [`Listener`]. When it does not keep up, further ones are dropped and counted.
pub const LISTENER_EVENTS_MAX: usize = 1024;

/// The events of one name, from the moment of [`Client::listen`](crate::Client::listen).
#[derive(Debug)]
pub struct Listener<T> {
    event: String,
    queue: mpsc::Receiver<Bytes>,
    of: PhantomData<fn() -> T>,
}

/// The end of the queue that a listener is fed through.
pub(crate) type Feed = mpsc::Sender<Bytes>;

impl<T: DeserializeOwned> Listener<T> {
    pub(crate) fn new(event: &str) -> (Feed, Self) {
        let (feed, queue) = mpsc::channel(LISTENER_EVENTS_MAX);
        (feed, Listener { event: event.to_owned(), queue, of: PhantomData })
    }

    /// The next event; `None` when the session is over and all its events were taken.
    ///
    /// # Errors
    /// [`Error::Json`] when the event's body is no `T`. The next call goes on with the next event.
    ///
    /// # Cancel safety
    /// When the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        let body = self.queue.recv().await?;
        let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
        let read = serde_json::from_slice(&body);
        Some(read.map_err(|error| Error::Json { op: self.event.clone(), why: error.to_string() }))
    }
}

/// What `server.describe` says about events; the rest of its answer is ignored.
#[derive(Deserialize)]
pub(crate) struct Offered {
    pub(crate) events: Vec<Named>,
}

#[derive(Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}
