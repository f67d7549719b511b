//! A joined room: send to it, take its events.

use std::sync::Arc;

use crate::dispatcher::Dispatcher;
use crate::driver::Shared;
use crate::error::Error;
use crate::event::{Answer, RoomEvent, RoomInfo};
use crate::queue::Queue;

/// A seat in a room. Dropping it gives the seat up.
pub struct Room {
    shared: Arc<Shared<Dispatcher>>,
    queue: Arc<Queue>,
    /// As it was when it was joined; the newest is in the core.
    info: RoomInfo,
}

impl Room {
    pub(crate) fn new(shared: Arc<Shared<Dispatcher>>, handle: u16) -> Result<Room, Error> {
        let mut state = shared.lock();
        // Otherwise it was closed between the answer and this.
        let info = state.core.room(handle).cloned().ok_or(Error::Closed { reason: "ended".to_owned() })?;
        let queue = state.handler.queue(handle);
        drop(state);
        Ok(Room { shared, queue, info })
    }

    /// The room's id, a UUID.
    pub fn id(&self) -> &str {
        &self.info.room_id
    }

    /// This session's index among the members.
    pub fn index(&self) -> u16 {
        self.info.index
    }

    /// The room as it is now, with its members and label; after its end, as it was when it was joined.
    pub fn info(&self) -> RoomInfo {
        let state = self.shared.lock();
        let now = state.core.room(self.info.handle).filter(|room| room.room_id == self.info.room_id);
        now.cloned().unwrap_or_else(|| self.info.clone())
    }

    /// Sends data to the match, or in a relayed room to everyone else. It arrives once and in order, over lost
    /// connections too. Waits while 256 KiB are unacknowledged.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Ended`], [`Error::TooLong`] over 65,530 bytes.
    ///
    /// # Cancel safety
    /// A future that is dropped has either sent the data or not begun.
    pub async fn send(&self, op: u8, data: &[u8]) -> Result<(), Error> {
        self.send_to(u16::MAX, op, data).await
    }

    /// Like [`Room::send`], to the member with this index; relayed rooms only.
    ///
    /// # Errors
    /// As [`Room::send`].
    pub async fn send_to(&self, index: u16, op: u8, data: &[u8]) -> Result<(), Error> {
        let writable = self.shared.lock().handler.writable.clone();
        loop {
            // Listening before trying: nothing that is freed in between goes unnoticed.
            let freed = writable.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_send_to(index, op, data) {
                Err(Error::KeepFull) => freed.await,
                other => return other,
            }
        }
    }

    /// Like [`Room::send`], without waiting.
    ///
    /// # Errors
    /// As [`Room::send`], and [`Error::KeepFull`].
    pub fn try_send(&self, op: u8, data: &[u8]) -> Result<(), Error> {
        self.try_send_to(u16::MAX, op, data)
    }

    fn try_send_to(&self, index: u16, op: u8, data: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.shared.with(|_, state| state.core.send_to(self.info.handle, index, op, data))
    }

    /// Sends data that may be lost, such as a position that is soon stale. Over UDP it never arrives after newer data.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Ended`], [`Error::TooLong`] over 1,112 bytes.
    pub fn send_unreliable(&self, op: u8, data: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.shared.with(|_, state| state.core.send_unreliable(self.info.handle, op, data))
    }

    /// The next event; `None` after [`RoomEvent::Closed`]. Events wait, up to 8,192 of them or 8 MiB of data; beyond it
    /// unreliable data is dropped, and then the room is left: `Closed("slow_reader")`.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<RoomEvent> {
        loop {
            match self.queue.pop() {
                Ok(event) => return event,
                Err(()) => self.queue.changed.notified().await,
            }
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<RoomEvent> {
        self.queue.pop().ok().flatten()
    }

    /// Gives the seat up, after everything that was sent before has arrived.
    ///
    /// # Errors
    /// [`Error::Closed`] when the room is over already, [`Error::Ended`], [`Error::KeepFull`].
    pub async fn leave(self) -> Result<(), Error> {
        self.check()?;
        let handle = self.info.handle;
        let answer =
            self.shared.with(|_, state| state.handler.request(&mut state.core, |core| core.leave(handle)))?;
        match answer.await {
            Ok(Ok(Answer::Left)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(Error::Closed { reason: "ended".to_owned() }),
        }
    }

    fn check(&self) -> Result<(), Error> {
        match self.queue.closed() {
            Some(reason) => Err(Error::Closed { reason }),
            None => Ok(()),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.queue.closed().is_none() {
            // When it cannot be sent, the session's end frees the seat.
            self.shared.with(|_, state| {
                let _ = state.core.leave(self.info.handle);
            });
        }
    }
}
