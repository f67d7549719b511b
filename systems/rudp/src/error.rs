//! What can go wrong, and why a connection ended.

use std::net::SocketAddr;

use thiserror::Error;

use crate::{channel::Channel, identity::PublicKey};

/// Close and refusal codes of the transport itself. Codes under `0xff00` are the application's.
pub mod code {
    /// The other side broke the protocol.
    pub const PROTOCOL: u16 = 0xff01;
    /// The other side was silent for `idle_timeout`.
    pub const TIMED_OUT: u16 = 0xff02;
    /// The keys must not be used any longer.
    pub const KEYS_WORN: u16 = 0xff03;
    /// Refusal: the client speaks only versions older than the server's.
    pub const CLIENT_TOO_OLD: u16 = 0xff10;
    /// Refusal: the server speaks only versions older than the client's.
    pub const SERVER_TOO_OLD: u16 = 0xff11;
    /// Refusal: no place for another connection.
    pub const FULL: u16 = 0xff12;
    /// Refusal: no suite that both sides allow, or plaintext with an address other than loopback.
    pub const NO_SUITE: u16 = 0xff13;
    /// Refusal: the two sides have different channels.
    pub const CHANNELS: u16 = 0xff14;
}

/// Why `connect` did not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// `Config::peers_max` connections exist. Close one first.
    #[error("{peers_max} connections exist, the most that this endpoint may have")]
    Full {
        /// The bound.
        peers_max: usize,
    },
    /// This endpoint has a connection to that address. Datagrams to a client carry no connection id, so a second one
    /// needs a second socket, and with it a second endpoint.
    #[error("there is a connection to {0} already; a second one needs its own socket")]
    AlreadyConnected(SocketAddr),
    /// Nothing can be sent to port 0 or to the unspecified address.
    #[error("{0} is not an address one can send to")]
    InvalidAddress(SocketAddr),
    /// `Config::plaintext` is for loopback addresses only.
    #[error("{0} is not a loopback address, and this endpoint does not encrypt (`plaintext`)")]
    PlaintextOffLoopback(SocketAddr),
    /// `Config::suites` has none that encrypts, and `Config::plaintext` is not set.
    #[error("the configuration allows no suite that encrypts")]
    NoSuite,
}

/// Why a message was not queued. No part of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The queue to this peer is full. `Event::Writable` follows when it is less than half full.
    #[error("the queue to this peer is full")]
    WouldBlock,
    /// `Config::channels` has no such channel.
    #[error("there is no {0:?}")]
    NoSuchChannel(Channel),
    /// The message can never be sent on this channel.
    #[error("a message of {bytes} bytes is over the bound of {max} for this channel")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that this channel takes.
        max: usize,
    },
    /// The connection was closed, or will be once it is flushed.
    #[error("the connection is closed")]
    Closed,
    /// This endpoint never gave out such a peer id.
    #[error("no such peer")]
    NotConnected,
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The other side closed it.
    #[error("closed by the other side: {reason} (code {code})")]
    Remote {
        /// The other side's code. Codes from `0xff00` on are the transport's own ([`code`]).
        code: u16,
        /// The other side's words, at most 200 bytes of UTF-8.
        reason: String,
    },
    /// Nothing was heard from the other side for `idle_timeout`, or the handshake took longer than `handshake_timeout`.
    #[error("timed out")]
    TimedOut,
    /// The server answered the Hello with a refusal.
    #[error("refused: {reason} (code {code})")]
    Refused {
        /// One of [`code`].
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// A server with another key than the expected one answered: the wrong server, or the right one with a new key. No
    /// message was sent to it.
    #[error("the server has the key {found}, not the expected {expected}")]
    WrongKey {
        /// What `connect` was given.
        expected: PublicKey,
        /// What the server proved to have.
        found: PublicKey,
    },
    /// So many forged packets came, or so many packets went unacknowledged, that the keys must not be used any longer
    /// (RFC 9001, section 6.6). This does not happen between honest peers.
    #[error("the keys of the connection are worn out")]
    KeysWorn,
    /// The other side sent something that the protocol does not allow, and was told so.
    #[error("protocol error: {0}")]
    Protocol(Violation),
}

/// How a peer broke the protocol in packets that were genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Violation {
    /// It acknowledged a packet that was never sent.
    #[error("acknowledgement of packet {number}, but the next to be sent is {next}")]
    AckOfUnsent {
        /// The packet number.
        number: u64,
        /// The first number not used yet.
        next: u64,
    },
    /// A frame or acknowledgement ends too early, or says something impossible.
    #[error("malformed frame")]
    Malformed,
    /// A frame type that this version does not have.
    #[error("unknown frame type {0:#04x}")]
    UnknownFrame(u8),
    /// A channel that `Config::channels` does not have, or a skip on an unreliable one.
    #[error("frame for channel {0}, which cannot take it")]
    BadChannel(u8),
    /// A message over `message_bytes_max`.
    #[error("message over the bound of {0} bytes")]
    TooLarge(usize),
    /// Fragments that disagree about their message, or a short fragment that is not the last.
    #[error("impossible fragment of a message")]
    BadFragment,
    /// A new handshake from the same address was completed, so this connection is dead. No fault of the peer's.
    #[error("replaced by a new connection from the same address")]
    Replaced,
}
