//! Listening to the events of a server's features, by their names.

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

/// What feeds a listener.
pub(crate) type Feed = mpsc::Sender<Bytes>;

impl<T: DeserializeOwned> Listener<T> {
    pub(crate) fn new(event: &str) -> (Feed, Self) {
        let (feed, queue) = mpsc::channel(LISTENER_EVENTS_MAX);
        (feed, Listener { event: event.to_owned(), queue, of: PhantomData })
    }

    /// The next one; `None` when the session is over.
    ///
    /// # Errors
    /// [`Error::Json`]: it holds something else than a `T`. The next call goes on with the next event.
    ///
    /// # Cancel safety
    /// When the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        let body = self.queue.recv().await?;
        let read = serde_json::from_slice(&body);
        Some(read.map_err(|error| Error::Json { op: self.event.clone(), why: error.to_string() }))
    }
}

/// What `server.describe` says of events; everything else is passed over.
#[derive(Deserialize)]
pub(crate) struct Offered {
    pub(crate) events: Vec<Named>,
}

#[derive(Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}
