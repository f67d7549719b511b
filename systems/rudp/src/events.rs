//! Events that wait for the application, with their weight, so that their queue has a bound.

use std::collections::VecDeque;

use crate::{endpoint::Event, send::shrink};

/// The queue behind `poll_event`.
#[derive(Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    pub(crate) bytes: usize,
}

/// What an event weighs beside the bytes of its message.
const EVENT_COST: usize = 64;

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += Events::weight(&event);
        self.queue.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front();
        match &event {
            Some(event) => self.bytes -= Events::weight(event),
            None => shrink(&mut self.queue),
        }
        event
    }

    fn weight(event: &Event) -> usize {
        match event {
            Event::Message { bytes, .. } => EVENT_COST + bytes.len(),
            _ => EVENT_COST,
        }
    }
}
