//! Events that wait for the application, with their weight, so that their queue has a bound.

use crate::{channel::Channel, endpoint::Event, peers::PeerId, queue::Queue};

/// The queue behind `poll_event`.
#[derive(Default)]
pub(crate) struct Events {
    queue: Queue<Waiting>,
    pub(crate) bytes: usize,
}

/// An event in half of its size: most of them are messages.
enum Waiting {
    Message { peer: PeerId, channel: Channel, bytes: Vec<u8> },
    Writable { peer: PeerId },
    Other(Box<Event>),
}

/// What an event weighs beside the buffer of its message.
const EVENT_COST: usize = 64;

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        match event {
            Event::Message { peer, channel, bytes } => self.message(peer, channel, bytes),
            Event::Writable { peer } => self.keep(0, Waiting::Writable { peer }),
            event => self.keep(0, Waiting::Other(Box::new(event))),
        }
    }

    /// A message came.
    pub(crate) fn message(&mut self, peer: PeerId, channel: Channel, bytes: Vec<u8>) {
        self.keep(bytes.capacity(), Waiting::Message { peer, channel, bytes });
    }

    fn keep(&mut self, bytes: usize, event: Waiting) {
        self.bytes += EVENT_COST + bytes;
        self.queue.push(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let (bytes, event) = match self.queue.pop()? {
            Waiting::Message { peer, channel, bytes } => {
                (bytes.capacity(), Event::Message { peer, channel, bytes })
            }
            Waiting::Writable { peer } => (0, Event::Writable { peer }),
            Waiting::Other(event) => (0, *event),
        };
        self.bytes -= EVENT_COST + bytes;
        Some(event)
    }

    /// Gives the memory of a burst back. Call once a second or so.
    pub(crate) fn trim(&mut self) {
        self.queue.trim();
    }
}
