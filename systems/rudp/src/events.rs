//! Events that wait for the application, with their weight, so that their queue has a bound.

use crate::{endpoint::Event, queue::Queue};

/// The queue behind `poll_event`.
#[derive(Default)]
pub(crate) struct Events {
    queue: Queue<Event>,
    pub(crate) bytes: usize,
}

/// What an event weighs beside the bytes of its message.
const EVENT_COST: usize = 64;

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += Events::weight(&event);
        self.queue.push(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop()?;
        self.bytes -= Events::weight(&event);
        Some(event)
    }

    /// Gives the memory of a burst back. Call once a second or so.
    pub(crate) fn trim(&mut self) {
        self.queue.trim();
    }

    fn weight(event: &Event) -> usize {
        match event {
            Event::Message { bytes, .. } => EVENT_COST + bytes.len(),
            _ => EVENT_COST,
        }
    }
}
