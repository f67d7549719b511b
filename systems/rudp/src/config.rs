//! Every knob and limit of an endpoint, with its unit, default and edge.

use std::time::Duration;

use crate::packet::VERSION;

/// Settings of an [`Endpoint`](crate::Endpoint). All peers share them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether Hellos of strangers are answered. Default `false`: a client.
    pub accept: bool,
    /// Connections at once, both ways, half-open ones included. Default 4,096; at most 1,048,576 (20 bits of the
    /// connection id name the slot). At the bound, Hellos are refused with [`code::FULL`](crate::code::FULL) and
    /// `connect` with [`ConnectError::Full`](crate::ConnectError::Full).
    pub peers_max: usize,
    /// Accepted connections that have shown a cookie but no packet yet. Default 1,024. At the bound Hellos are dropped
    /// unanswered; clients try again.
    pub half_open_max: usize,
    /// Bytes of reliable messages per peer that are queued or unacknowledged; each counts 64 bytes more than it is
    /// long. Default 256 KiB. At the bound `send` answers [`SendError::WouldBlock`](crate::SendError::WouldBlock).
    pub queue_bytes_max: usize,
    /// Bytes of one reliable message. Default 65,538 = 65,535 and three bytes of opcode and length. A longer one is
    /// [`SendError::TooLarge`](crate::SendError::TooLarge), and a protocol error when it is received. Must be the same
    /// at both ends. The effective bound is never over `queue_bytes_max` − 64.
    pub message_bytes_max: usize,
    /// Unreliable messages per peer that wait to be sent. Default 256. At the bound the oldest is dropped.
    pub unreliable_messages_max: usize,
    /// Bytes of them. Default 64 KiB. At the bound the oldest are dropped.
    pub unreliable_bytes_max: usize,
    /// Bytes per peer of received messages that are incomplete or wait for an earlier one; each piece counts 64 bytes
    /// more than it is long. Default 384 KiB, more than a peer with the default `queue_bytes_max` can have under way.
    /// At the bound packets are dropped unacknowledged, so the sender repeats them later; the message that a channel
    /// waits for is always let in, over the bound.
    pub reassembly_bytes_max: usize,
    /// The same over all peers. Default 64 MiB.
    pub reassembly_bytes_total_max: usize,
    /// Bytes of events (64 each and the message) that wait in `poll_event`. Default 8 MiB. At the bound `handle` drops
    /// datagrams unread: an application that does not poll slows its peers down instead of eating memory.
    pub events_bytes_max: usize,
    /// Bytes of buffers that are kept for the next messages, at the endpoint. Default 4 MiB. At the bound further ones
    /// are freed; half of those that were not needed for a second are freed, too.
    pub pool_bytes_max: usize,
    /// Silence after which a peer is gone. Default 10 s. Must exceed twice `keepalive`, or one lost ping closes a
    /// healthy connection.
    pub idle_timeout: Duration,
    /// A connector that has sent nothing for so long sends a ping. Default 5 s: most home routers forget a UDP mapping
    /// after 30 s, the worst known after 10. Acceptors never ping.
    pub keepalive: Duration,
    /// Time for the handshake, at the connector from `connect`, at the acceptor from the valid cookie. Default 5 s.
    pub handshake_timeout: Duration,
    /// Longest delay of an acknowledgement of reliable messages. Default 10 ms; the delay is a quarter of the round
    /// trip, from 5 ms to this. Both ends must agree within a few milliseconds, or packets are repeated too early.
    pub ack_delay_max: Duration,
    /// Largest congestion window, in bytes. Default 64 KiB: at 50 ms of round trip 1.3 MB/s per peer.
    pub window_bytes_max: usize,
    /// Oldest protocol version spoken. Default 1. Other ranges serve tests of the refusal.
    pub version_min: u8,
    /// Newest protocol version spoken. Default 1.
    pub version_max: u8,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            accept: false,
            peers_max: 4096,
            half_open_max: 1024,
            queue_bytes_max: 256 * 1024,
            message_bytes_max: 65_538,
            unreliable_messages_max: 256,
            unreliable_bytes_max: 64 * 1024,
            reassembly_bytes_max: 384 * 1024,
            reassembly_bytes_total_max: 64 * 1024 * 1024,
            events_bytes_max: 8 * 1024 * 1024,
            pool_bytes_max: 4 * 1024 * 1024,
            idle_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            ack_delay_max: Duration::from_millis(10),
            window_bytes_max: 64 * 1024,
            version_min: VERSION,
            version_max: VERSION,
        }
    }
}

impl Config {
    /// The default of an endpoint that accepts.
    pub fn server() -> Config {
        Config { accept: true, ..Config::default() }
    }
}
