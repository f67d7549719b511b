//! Counters: of one connection, and of the endpoint.

use std::time::Duration;

use crate::keys::Suite;

/// Counters and estimates of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Smoothed round trip; 100 ms until the first sample.
    pub rtt: Duration,
    /// Mean deviation of the round trip.
    pub rttvar: Duration,
    /// Datagrams received and found genuine.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// UDP payload bytes of `packets_in`.
    pub bytes_in: u64,
    /// UDP payload bytes of `packets_out`.
    pub bytes_out: u64,
    /// Share of sent datagrams that is being lost, in millionths: a moving average over some 256 of them.
    pub loss_ppm: u32,
    /// Sent datagrams that were declared lost.
    pub lost: u64,
    /// Datagrams that were declared lost, but acknowledged later.
    pub lost_spurious: u64,
    /// Reliable messages, or fragments of them, sent again.
    pub retransmitted: u64,
    /// Received datagrams dropped as doubled, too old, or with a wrong tag.
    pub rejected: u64,
    /// Repeats of small reliable messages: those sent before anything was known of the message (`Repeats`,
    /// `tail_repeat`), and the second copy of messages that were lost.
    pub repeated: u64,
    /// Bytes of these repeats, frame headers included.
    pub repeated_bytes: u64,
    /// Unreliable messages dropped unsent to make room for newer ones.
    pub superseded: u64,
    /// Messages given up at the end of their lifetime: unreliable ones that were not sent, and reliable ones that were
    /// not acknowledged, some of which may have arrived.
    pub expired: u64,
    /// Unreliable messages that were dropped because they arrived after a newer one on a sequenced channel, or because
    /// some of their fragments did not arrive in time.
    pub stale: u64,
    /// Bytes that are queued or unacknowledged, counted as in `Config::queue_bytes_max`.
    pub queued_bytes: usize,
    /// Bytes held for messages that are incomplete or wait for an earlier one.
    pub reassembly_bytes: usize,
    /// Whether messages wait because the path cannot take more now.
    pub is_limited: bool,
    /// Times that the peer moved to another address and proved it.
    pub moves: u64,
    /// Packets from another address that was not tried because of too many earlier trials (`Config::migration`).
    pub moves_refused: u64,
    /// Bytes of the longest datagram that the path is known to carry, UDP payload.
    pub mtu: usize,
    /// Congestion window in bytes.
    pub window_bytes: usize,
    /// Bytes a second at which datagrams leave while messages wait; `u64::MAX` before the path is known.
    pub pacing_rate: u64,
    /// Bytes sent on the current path that are neither acknowledged nor found lost.
    pub in_flight_bytes: usize,
    /// How packets are protected; `None` until the keys are made.
    pub suite: Option<Suite>,
    /// Changes of keys, both directions.
    pub key_changes: u64,
}

/// Counters of an endpoint since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Datagrams given to `handle`.
    pub datagrams_in: u64,
    /// Datagrams filled by `poll_transmit`.
    pub datagrams_out: u64,
    /// Datagrams that belonged to no connection and no handshake, and those that are longer than any may be.
    pub unknown: u64,
    /// Hellos answered with a cookie.
    pub retries: u64,
    /// Hellos that were refused, for example because of their version or because the endpoint is full.
    pub refused: u64,
    /// Hellos dropped without an answer: the queue of answers or the half-open table was full.
    pub dropped: u64,
    /// Hellos with a good cookie dropped because their address asks for too many handshakes.
    pub limited: u64,
    /// Half-open connections that were forgotten for newcomers, over a second after their Accept left, because their
    /// table was full.
    pub displaced: u64,
    /// Handshake jobs begun.
    pub jobs: u64,
    /// Datagrams dropped unread because the application does not take its events (`Config::events_bytes_max`).
    pub overrun: u64,
    /// Connections that became open.
    pub connected: u64,
    /// How often peers moved to another address.
    pub moves: u64,
}
