//! Every knob and limit of an endpoint, with its unit, default and edge.

use std::time::Duration;

use crate::{
    channel::Channels,
    congestion::Congestion,
    identity::SecretKey,
    keys::Suite,
    packet::{DATAGRAM_BYTES_MAX, VERSION},
    peer_id::SLOTS_MAX,
};

/// Settings of an [`Endpoint`](crate::Endpoint). All peers share them.
///
/// **Bytes and memory.** Where nothing else is said a bound counts the bytes of messages, and what it names beside them.
/// Their buffers are up to half as large again, since they come in sizes that are used again and again, and tables have
/// up to twice the places that are taken. So the memory behind a bound is at most half as much again; two and a half
/// times as much where most messages have only a few bytes and a table has just grown. A lifetime is another 50 bytes
/// for each message that waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether incoming Hellos are answered. Default `false`: a client.
    pub accept: bool,
    /// Connections at once, both ways, half-open ones included. Default 4,096; more than [`Config::PEERS_MAX`] means
    /// that. At the bound, Hellos are refused with [`code::FULL`](crate::code::FULL) and `connect` with
    /// [`ConnectError::Full`](crate::ConnectError::Full). Connections that were closed and whose close is still repeated
    /// may take as many places again, of `PEERS_MAX` at most; when these are taken, newcomers wait for them.
    pub peers_max: usize,
    /// Accepted connections that have shown a cookie but no packet yet. Default 1,024. At the bound, and where they are
    /// what fills `peers_max`, a newcomer displaces the oldest of them if its Accept left over a second ago; otherwise
    /// Hellos are dropped unanswered, and clients try again. To keep it full takes over fifty addresses that all use up
    /// `handshake_interval`.
    pub half_open_max: usize,
    /// The channels. Their kinds must be the same at both ends.
    pub channels: Channels,
    /// Bytes of reliable messages per peer that are queued or unacknowledged; each counts 64 bytes more than it is
    /// long. Default 256 KiB. At the bound `send` answers [`SendError::WouldBlock`](crate::SendError::WouldBlock).
    pub queue_bytes_max: usize,
    /// Bytes of one message. Default 65,538 = 65,535 and three bytes of opcode and length. A longer one is
    /// [`SendError::TooLarge`](crate::SendError::TooLarge), and a protocol error when it is received. Must be the same
    /// at both ends. The effective bound is never over `queue_bytes_max` − 64 on reliable channels, and
    /// [`UNRELIABLE_BYTES_MAX`](crate::UNRELIABLE_BYTES_MAX) on others.
    pub message_bytes_max: usize,
    /// Messages per peer and unreliable channel that wait to be sent. Default 256. At the bound the oldest is dropped. On
    /// a sequenced channel, furthermore, a new message drops all that a `poll_transmit` answering `None` has left behind:
    /// those that were queued together stay together, and the congestion control holds back one batch at most.
    pub unreliable_messages_max: usize,
    /// Bytes of them. Default 64 KiB. At the bound the oldest are dropped.
    pub unreliable_bytes_max: usize,
    /// Bytes per peer of received messages that are incomplete or wait for an earlier one; each piece counts 64 bytes
    /// more than it is long, and 32 for each place in a channel's order and for each fragment of a message, come or
    /// still to come. Default 384 KiB, as much as a peer with the default `queue_bytes_max` can have under way. At the
    /// bound packets with reliable messages are dropped unacknowledged, so the sender repeats them later; the message
    /// that a channel waits for is always let in, over the bound. Fragments of unreliable messages are lost.
    pub reassembly_bytes_max: usize,
    /// The same over all peers, beside their shares (see the next). Default 64 MiB.
    pub reassembly_bytes_total_max: usize,
    /// What each peer may hold of it although `reassembly_bytes_total_max` is reached. Default 32 KiB, as much as a
    /// stream of 2 Mbit/s over a path that loses 5 % needs. Peers that begin much and finish nothing thus take no other's
    /// share: who has lost a few packets waits for these alone. All peers together hold at most
    /// `reassembly_bytes_total_max` + `peers_max` × this, and the messages that their channels wait for.
    pub reassembly_bytes_share: usize,
    /// Bytes of events (64 each and the message's buffer) that wait in `poll_event`. Default 8 MiB. At the bound `handle` drops
    /// datagrams unread: an application that does not poll slows its peers down instead of eating memory.
    pub events_bytes_max: usize,
    /// Bytes of buffers, and of their places in lists, that are kept for the next messages, at the endpoint. Default
    /// 4 MiB. At the bound further ones are freed; half of those that were not needed for a second are freed, too.
    pub pool_bytes_max: usize,
    /// Silence after which a peer is gone. Default 10 s. Must exceed twice `keepalive`, or one lost ping closes a
    /// healthy connection.
    pub idle_timeout: Duration,
    /// A connector that has sent nothing for so long sends a ping. Default 5 s: most home routers forget a UDP mapping
    /// after 30 s, the worst known after 10. Acceptors never ping.
    pub keepalive: Duration,
    /// Time for the handshake, at the connector from `connect`, at the acceptor from the valid cookie. Default 5 s.
    pub handshake_timeout: Duration,
    /// Longest delay of an acknowledgement of reliable messages, at both ends: how long this one holds one back for a
    /// second packet or one of its own to ride on, and the most that it believes the other to do. Default 25 ms: longer
    /// than a tick at 60 Hz, so that such a stream gets one acknowledgement for two packets. Alone, after a gap, and
    /// for a while after losses they leave at once.
    pub ack_delay_max: Duration,
    /// Which algorithm limits what is under way. Default [`Congestion::Delay`]. Each side chooses for itself.
    pub congestion: Congestion,
    /// Largest congestion window, in bytes with IP and UDP headers. Default 4 MiB: 80 MB/s at 50 ms of round trip. The
    /// window opens only as far as the path was seen to carry, so this is no memory that a peer costs; that bound is
    /// `packets_in_flight_max`. At the bound messages wait.
    pub window_bytes_max: usize,
    /// Packets under way at once to a peer, however small. Default 4,096. Each takes 56 bytes in the table of sent
    /// packets and 16 for every reliable message in it; as many again may wait there for late acknowledgements. The
    /// table grows with what is under way and is given back when nothing is. At the bound messages wait.
    pub packets_in_flight_max: usize,
    /// Who this endpoint is when it accepts. Default `None`: made from the seed, so another with each seed, which
    /// clients that expect a key refuse.
    pub secret_key: Option<SecretKey>,
    /// Ciphers that may be used. Default: all that encrypt ([`Suite::CIPHERS`]). `Suite::Plaintext` in it means
    /// nothing. Where the two sides have none in common the Hello is refused with
    /// [`code::NO_SUITE`](crate::code::NO_SUITE).
    pub suites: &'static [Suite],
    /// Whether this machine is fast at AES; if one of the two sides is not, ChaCha20-Poly1305 is preferred. Default: what
    /// the processor says. Set it where runs on several machines must be the same byte for byte.
    pub aes_hardware: bool,
    /// **Nothing is encrypted** ([`Suite::Plaintext`]): for packet captures on one machine. Default `false`. Both sides
    /// must ask for it; addresses other than loopback are refused with
    /// [`ConnectError::PlaintextOffLoopback`](crate::ConnectError::PlaintextOffLoopback) and
    /// [`code::NO_SUITE`](crate::code::NO_SUITE).
    pub plaintext: bool,
    /// Packets that a direction sends under one key. Default 2^23 (RFC 9001, section 6.6). Small values are for tests;
    /// the key changes once a round trip at most.
    pub key_packets: u64,
    /// Handshakes with a good cookie that an address (IPv4, or /64 of IPv6) may begin at once. Default 128: a whole
    /// network behind one router that comes back after a restart of the server. What is over it is dropped unanswered;
    /// clients repeat their Hello. Loopback addresses have no limit. At most 4,096 addresses are remembered, each until
    /// its burst is whole again; when the table is full, new addresses are dropped, too.
    pub handshake_burst: u32,
    /// The time after which it may begin one more. Default 50 ms. Zero: no limit.
    pub handshake_interval: Duration,
    /// Whether an accepted connection follows its peer to another address. Default `true`. Without it, packets from
    /// another address than the handshake's are dropped. Four attempts without a proof may follow each other, then
    /// one in five seconds; until then packets are taken from anywhere and answered at the proven address.
    pub migration: bool,
    /// Bytes of the longest datagram that is ever sent, UDP payload. Default 1,472, which is also the most; 1,200, the
    /// least, switches the search for longer ones off. Over IPv6 the search ends 20 bytes earlier. Sockets must forbid
    /// fragmentation (DF), or routers cut what they should drop.
    pub mtu_max: usize,
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
            channels: Channels::default(),
            queue_bytes_max: 256 * 1024,
            message_bytes_max: 65_538,
            unreliable_messages_max: 256,
            unreliable_bytes_max: 64 * 1024,
            reassembly_bytes_max: 384 * 1024,
            reassembly_bytes_total_max: 64 * 1024 * 1024,
            reassembly_bytes_share: 32 * 1024,
            events_bytes_max: 8 * 1024 * 1024,
            pool_bytes_max: 4 * 1024 * 1024,
            idle_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            ack_delay_max: Duration::from_millis(25),
            congestion: Congestion::Delay,
            window_bytes_max: 4 * 1024 * 1024,
            packets_in_flight_max: 4096,
            secret_key: None,
            suites: Suite::CIPHERS,
            aes_hardware: has_aes(),
            plaintext: false,
            key_packets: 1 << 23,
            handshake_burst: 128,
            handshake_interval: Duration::from_millis(50),
            migration: true,
            mtu_max: DATAGRAM_BYTES_MAX,
            version_min: VERSION,
            version_max: VERSION,
        }
    }
}

impl Config {
    /// The largest `peers_max`: 1,048,576. So many places the connection ids of packets can name.
    pub const PEERS_MAX: usize = SLOTS_MAX;

    /// The default of an endpoint that accepts.
    pub fn server() -> Config {
        Config { accept: true, ..Config::default() }
    }
}

/// Whether the processor has instructions for AES-GCM.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let has = false;
    has
}
