//! What a transport has to do to be measured: one trait for what speaks over a socket, one for a stack with its
//! settings.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::Micros;

/// One end on one socket: a client with one peer, or a server with many.
///
/// The order of calls is always the same: `handle` for all datagrams that are there, `tick`, `receive`, then `send`,
/// then `transmit`. How often that happens is [`Stack::poll`].
pub(crate) trait Host {
    /// A datagram came. Some stacks decrypt in place.
    fn handle(&mut self, now: Micros, from: SocketAddr, bytes: &mut [u8]);

    /// Timers.
    fn tick(&mut self, now: Micros);

    /// Every message that has arrived.
    fn receive(&mut self, message: &mut dyn FnMut(&[u8]));

    /// Queues a message for a peer, numbered in the order of connecting. Returns whether there was room.
    fn send(&mut self, now: Micros, peer: usize, bytes: &[u8]) -> bool;

    /// Every datagram that may leave now.
    fn transmit(&mut self, now: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8]));

    /// The next of them, one at a time, for stacks that are [batched](Stack::is_batched).
    fn next_datagram(&mut self, _now: Micros, _buf: &mut Vec<u8>) -> Option<SocketAddr> {
        None
    }

    /// Peers that have connected.
    fn connected(&self) -> usize;
}

/// What messages are promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    /// All, once, in order.
    Ordered,
    /// All, once, in any order.
    Unordered,
    /// Whatever the network lets through.
    Unreliable,
}

/// A transport with its settings, which makes hosts.
pub(crate) trait Stack {
    /// Name and settings, as in the tables.
    fn name(&self) -> String;

    /// How often it is polled. A millisecond, unless the stack is made for the frames of a game.
    fn poll(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// Whether its real sockets are those of `kaos_rudp::io`.
    fn is_batched(&self) -> bool {
        false
    }

    /// The side that accepts, with room for so many peers.
    fn server(&self, now: Micros, addr: SocketAddr, peers: usize, seed: u64) -> Box<dyn Host>;

    /// One side that connects; `index` numbers the clients of one server.
    fn client(&self, now: Micros, to: SocketAddr, index: usize, seed: u64) -> Box<dyn Host>;
}
