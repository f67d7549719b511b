//! A joined room: send to it, take its events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::dispatcher::Dispatcher;
use crate::driver::Shared;
use crate::error::{End, Error};
use crate::event::{Answer, RoomEvent, RoomInfo};
use crate::fault;

/// Events of a room that may wait for [`Room::next`].
pub const EVENTS_MAX: usize = 8192;

/// Bytes of data in them.
pub const EVENT_BYTES_MAX: usize = 8 << 20;

/// Events that wait to be taken.
///
/// At the bound the oldest unreliable data goes first. When there is none, the reader has fallen behind too far to be told
/// everything, so it is told nothing more: the room is left, and its last event is `Closed("slow_reader")`.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<RoomEvent>,
    bytes: usize,
    closed: Option<String>,
}

impl Inner {
    fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes > EVENT_BYTES_MAX
    }
}

fn size(event: &RoomEvent) -> usize {
    match event {
        RoomEvent::Data { data, .. } => data.len(),
        _ => 0,
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: the reader is too far behind, and the queue was closed.
    pub(crate) fn push(&self, event: RoomEvent) -> bool {
        let mut inner = self.lock();
        if inner.closed.is_some() {
            return true;
        }
        let mut kept_up = true;
        let event = if inner.is_full() && !matches!(event, RoomEvent::Closed(_)) {
            let stale =
                inner.events.iter().position(|e| matches!(e, RoomEvent::Data { reliable: false, .. }));
            match (stale, &event) {
                (Some(at), _) => {
                    let gone = inner.events.remove(at).as_ref().map_or(0, size);
                    inner.bytes -= gone;
                    event
                }
                (None, RoomEvent::Data { reliable: false, .. }) => return true,
                (None, _) => {
                    kept_up = false;
                    RoomEvent::Closed(End::fault(
                        fault::SLOW_READER,
                        "this client did not take the room's events",
                    ))
                }
            }
        } else {
            event
        };
        if let RoomEvent::Closed(end) = &event {
            inner.closed = Some(end.reason.clone());
        }
        inner.bytes += size(&event);
        inner.events.push_back(event);
        drop(inner);
        self.changed.notify_one();
        kept_up
    }

    fn pop(&self) -> Result<Option<RoomEvent>, ()> {
        let mut inner = self.lock();
        match inner.events.pop_front() {
            Some(event) => {
                inner.bytes -= size(&event);
                Ok(Some(event))
            }
            None if inner.closed.is_some() => Ok(None),
            None => Err(()),
        }
    }

    fn closed(&self) -> Option<String> {
        self.lock().closed.clone()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Sender;

    fn data(reliable: bool, n: usize) -> RoomEvent {
        let sender = Sender { index: 0, presence: None };
        RoomEvent::Data { sender, op: 0, data: n.to_le_bytes().to_vec().into(), reliable }
    }

    #[test]
    fn a_full_queue_drops_stale_data_first_and_then_its_reader() {
        let queue = Queue::default();
        assert!(queue.push(data(false, 0)));
        for n in 1..EVENTS_MAX {
            assert!(queue.push(data(true, n)));
        }
        assert!(queue.push(data(true, EVENTS_MAX)), "the unreliable one made room");
        assert!(queue.push(data(false, 0)), "dropped, nobody is at fault");
        assert!(!queue.push(data(true, 0)), "too far behind");
        assert_eq!(queue.closed().as_deref(), Some("slow_reader"));
        let mut taken = 0;
        while let Ok(Some(event)) = queue.pop() {
            taken += usize::from(matches!(event, RoomEvent::Data { reliable: true, .. }));
        }
        assert_eq!(taken, EVENTS_MAX);
        assert_eq!(queue.pop(), Ok(None));
    }
}
