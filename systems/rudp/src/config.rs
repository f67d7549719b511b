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
/// **Bytes and memory.** Unless its documentation says otherwise, a bound counts the bytes of messages. Their buffers
/// come in a few sizes, so that they can be used again, and are up to half as large again; tables have up to twice the
/// places that are in use. The memory behind a bound is therefore up to one and a half times the bound, or two and a
/// half times if most messages have only a few bytes and a table has just grown. A lifetime adds 50 bytes for each
/// message that waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether incoming Hellos are answered. Default `false`: a client.
    pub accept: bool,
    /// Connections at once, both accepted and dialled, half-open ones included. Default 4,096; values above
    /// [`Config::PEERS_MAX`] count as that. At the bound, Hellos are refused with [`code::FULL`](crate::code::FULL) and
    /// `connect` with [`ConnectError::Full`](crate::ConnectError::Full). Connections that are closing may take as many
    /// places again, within `PEERS_MAX`; when these are taken, newcomers wait for one.
    pub peers_max: usize,
    /// Half-open connections: accepted ones whose client has shown a cookie but sent no packet yet. Default 1,024. At
    /// the bound, or when they are what fills `peers_max`, a newcomer displaces the oldest of them if its Accept left
    /// over a second ago; otherwise Hellos are dropped unanswered, and clients try again. Keeping the table full takes
    /// over fifty addresses that all use up their `handshake_interval`.
    pub half_open_max: usize,
    /// The channels. Their kinds must be the same at both ends.
    pub channels: Channels,
    /// Bytes of reliable messages per peer that are queued or unacknowledged; each counts 64 bytes more than it is
    /// long. Default 256 KiB. At the bound `send` answers [`SendError::WouldBlock`](crate::SendError::WouldBlock).
    pub queue_bytes_max: usize,
    /// Bytes of one message. Default 65,538 = 65,535 and three bytes of opcode and length. Sending a longer one is
    /// [`SendError::TooLarge`](crate::SendError::TooLarge), receiving one a protocol error. Must be the same at both
    /// ends. The effective bound is never over `queue_bytes_max` − 64 on reliable channels, and
    /// [`UNRELIABLE_BYTES_MAX`](crate::UNRELIABLE_BYTES_MAX) on others.
    pub message_bytes_max: usize,
    /// Messages per peer and unreliable channel that wait to be sent. Default 256. At the bound the oldest is dropped.
    /// On a sequenced channel, a new message also drops all those that still waited when `poll_transmit` last returned
    /// `None`: messages that were queued together stay together, and congestion control holds back one batch at most.
    pub unreliable_messages_max: usize,
    /// Bytes of these messages. Default 64 KiB. At the bound the oldest are dropped.
    pub unreliable_bytes_max: usize,
    /// Bytes per peer of received messages that are incomplete or wait for an earlier one; each piece counts 64 bytes
    /// more than it is long, and each place in a channel's order and each fragment of a message, whether it has come or
    /// not, counts 32. Default 384 KiB, as much as a peer with the default `queue_bytes_max` can have under way. At the
    /// bound, packets with reliable messages are dropped unacknowledged, so that the sender repeats them later; only
    /// the message that a channel waits for is let in beyond the bound. Fragments of unreliable messages are lost.
    pub reassembly_bytes_max: usize,
    /// The same for all peers together, not counting their shares (see the next setting). Default 64 MiB.
    pub reassembly_bytes_total_max: usize,
    /// What each peer may hold even when `reassembly_bytes_total_max` is reached. Default 32 KiB, as much as a stream
    /// of 2 Mbit/s needs on a path that loses 5 %. Peers that begin many messages and finish none thus cannot take the
    /// shares of others: a peer that lost a few packets waits only for these. All peers together hold at most
    /// `reassembly_bytes_total_max` + `peers_max` × this, and the messages that their channels wait for.
    pub reassembly_bytes_share: usize,
    /// Bytes of events (64 each and the message's buffer) that wait in `poll_event`. Default 8 MiB. At the bound
    /// `handle` drops datagrams unread: an application that does not poll slows its peers down and does not eat memory.
    pub events_bytes_max: usize,
    /// Bytes of buffers, and of their places in lists, that the endpoint keeps for the next messages. Default 4 MiB.
    /// Beyond the bound buffers are freed, and so is, once a second, half of those that were not needed during it.
    pub pool_bytes_max: usize,
    /// Silence after which a peer is gone. Default 10 s. Must exceed twice `keepalive`, or one lost ping closes a
    /// healthy connection.
    pub idle_timeout: Duration,
    /// A connector that has sent nothing for this long sends a ping. Default 5 s: most home routers forget a UDP
    /// mapping after 30 s, the worst known ones after 10. Acceptors never ping.
    pub keepalive: Duration,
    /// Time for the handshake, at the connector from `connect`, at the acceptor from the valid cookie. Default 5 s.
    pub handshake_timeout: Duration,
    /// Longest delay of an acknowledgement of reliable messages, at both ends: how long this end holds one back for a
    /// second packet or for one of its own to ride on, and the longest delay that it expects of the other. Default 25
    /// ms: longer than a tick at 60 Hz, so that such a stream gets one acknowledgement for two packets. After a pause,
    /// after a gap, and for a while after losses, acknowledgements leave at once.
    pub ack_delay_max: Duration,
    /// Which algorithm limits what is under way. Default [`Congestion::Delay`]. Each side chooses for itself.
    pub congestion: Congestion,
    /// Largest congestion window, in bytes with IP and UDP headers. Default 4 MiB: 80 MB/s at 50 ms of round trip. The
    /// window opens only as far as the path was seen to carry, so it is not what bounds the memory for a peer;
    /// `packets_in_flight_max` does that. At the bound messages wait.
    pub window_bytes_max: usize,
    /// Packets under way at once to a peer, however small. Default 4,096. Each takes 40 bytes in the table of sent
    /// packets and 16 for every reliable message in it; as many again may stay there for late acknowledgements. The
    /// table grows with what is under way, and its memory is given back when nothing is. At the bound messages wait.
    pub packets_in_flight_max: usize,
    /// The identity of this endpoint when it accepts. Default `None`: the key is made from the seed, so that it changes
    /// with the seed, and clients that expect the old key refuse it.
    pub secret_key: Option<SecretKey>,
    /// Ciphers that may be used. Default: all that encrypt ([`Suite::CIPHERS`]). `Suite::Plaintext` in this list is
    /// ignored. If the two sides have no cipher in common, the Hello is refused with
    /// [`code::NO_SUITE`](crate::code::NO_SUITE).
    pub suites: &'static [Suite],
    /// Whether this machine is fast at AES; if one of the two sides is not, ChaCha20-Poly1305 is preferred. Default:
    /// what the processor says. Set it if runs on several machines must be the same byte for byte.
    pub aes_hardware: bool,
    /// **Nothing is encrypted** ([`Suite::Plaintext`]): for packet captures on one machine. Default `false`. Both sides
    /// must ask for it; addresses other than loopback are refused with
    /// [`ConnectError::PlaintextOffLoopback`](crate::ConnectError::PlaintextOffLoopback) and
    /// [`code::NO_SUITE`](crate::code::NO_SUITE).
    pub plaintext: bool,
    /// Packets that each direction sends under one key. Default 2^23 (RFC 9001, section 6.6). Small values are for
    /// tests; the key changes at most once in a round trip.
    pub key_packets: u64,
    /// Handshakes with a good cookie that an address (IPv4, or /64 of IPv6) may begin at once. Default 128: a whole
    /// network behind one router that comes back after a restart of the server. Further Hellos are dropped unanswered,
    /// and clients repeat them. Loopback addresses have no limit. At most 4,096 addresses are remembered, each until
    /// its burst is whole again; when the table is full, Hellos from new addresses are dropped as well.
    pub handshake_burst: u32,
    /// The time after which such an address may begin one more. Default 50 ms. Zero: no limit.
    pub handshake_interval: Duration,
    /// Whether an accepted connection follows its peer to another address. Default `true`. If `false`, packets from any
    /// address but the handshake's are dropped. Four trials without a proof may follow each other, then one in five
    /// seconds; meanwhile packets are taken from anywhere and answered at the proven address.
    pub migration: bool,
    /// Bytes of the longest datagram that is ever sent, UDP payload. 1,200 to 1,472; default 1,472. With 1,200 no
    /// search for longer datagrams takes place. Over IPv6 the search ends 20 bytes earlier. Sockets must forbid
    /// fragmentation (DF), or routers cut up what they should drop.
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
    /// The largest `peers_max`: 1,048,576, which is how many places the connection ids of packets can name.
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
