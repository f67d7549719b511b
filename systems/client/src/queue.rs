//! The events of a room that wait to be taken, in bounds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::End;
use crate::event::RoomEvent;
use crate::fault;

/// Events of a room that may wait for [`Room::next`](crate::Room::next).
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
    pub(crate) changed: Notify,
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

    /// The next event, or `None` after the last one; `Err` when it has not come yet.
    pub(crate) fn pop(&self) -> Result<Option<RoomEvent>, ()> {
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

    /// Why the room is over; `None` while it is not.
    pub(crate) fn closed(&self) -> Option<String> {
        self.lock().closed.clone()
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
