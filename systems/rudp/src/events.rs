//! What the application learns: events, and the queue in which they wait. The queue knows their size, so that it can
//! have a bound.

use std::net::SocketAddr;

use crate::{channel::Channel, error::CloseReason, identity::PublicKey, peer_id::PeerId, queue::Queue};

/// What the application learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A connection is open. At the acceptor this is its first event.
    Connected {
        /// Who.
        peer: PeerId,
        /// The other side's address. It has proved that it receives there.
        addr: SocketAddr,
        /// At the connector, the key whose secret half the server proved to have; pass it to the next `connect`. At the
        /// acceptor `None`: the transport does not know who its clients are.
        server_key: Option<PublicKey>,
    },
    /// The peer has moved to another address, and has proved that it receives there.
    Moved {
        /// Who.
        peer: PeerId,
        /// Its new address.
        addr: SocketAddr,
    },
    /// A whole message.
    Message {
        /// From whom.
        peer: PeerId,
        /// On which channel.
        channel: Channel,
        /// What. [`Endpoint::recycle`](crate::Endpoint::recycle) takes it back when it has been read.
        bytes: Vec<u8>,
    },
    /// After a [`SendError::WouldBlock`](crate::SendError::WouldBlock): the queue is now less than half full.
    Writable {
        /// To whom.
        peer: PeerId,
    },
    /// The last event of a peer, whoever closed the connection. A failed attempt to connect ends with it, too.
    Closed {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
}

/// The queue behind `poll_event`.
#[derive(Default)]
pub(crate) struct Events {
    queue: Queue<Waiting>,
    pub(crate) bytes: usize,
}

/// An event in half the size, since most are messages.
enum Waiting {
    Message { peer: PeerId, channel: Channel, bytes: Vec<u8> },
    Writable { peer: PeerId },
    Other(Box<Event>),
}

/// What an event counts besides the buffer of its message.
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

    /// Gives back the memory of a burst. Call once a second or so.
    pub(crate) fn trim(&mut self) {
        self.queue.trim();
    }
}
