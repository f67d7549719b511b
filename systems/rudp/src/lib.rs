//! Reliable UDP for games as a sans-I/O state machine: no socket, no clock, no thread, no randomness of its own.
//!
//! One [`Endpoint`] speaks for one UDP socket. It opens connections, accepts them when its [`Config`] says so, and
//! turns datagrams into messages and messages into datagrams. Time is an argument ([`Micros`]), randomness is a seed.
//! The same calls with the same arguments give the same datagrams, byte for byte.
//!
//! # The four kinds of methods of [`Endpoint`]
//! * **In**: [`handle`](Endpoint::handle) takes a datagram, [`handle_timeout`](Endpoint::handle_timeout) the time,
//!   [`finish_job`](Endpoint::finish_job) a key exchange that is done.
//! * **By the application**: [`connect`](Endpoint::connect), [`send`](Endpoint::send),
//!   [`send_with`](Endpoint::send_with), [`close`](Endpoint::close),
//!   [`close_after_flush`](Endpoint::close_after_flush), [`recycle`](Endpoint::recycle).
//! * **Out**: [`poll_event`](Endpoint::poll_event), [`poll_transmit`](Endpoint::poll_transmit),
//!   [`poll_timeout`](Endpoint::poll_timeout), and at an acceptor [`poll_job`](Endpoint::poll_job).
//! * **Getters**: [`stats`](Endpoint::stats), [`totals`](Endpoint::totals), [`peer_count`](Endpoint::peer_count).
//!
//! # Order of polling
//! 1. `handle` for **every** datagram that the socket has, `finish_job` and `poll_job` for handshakes; only then
//! 2. `handle_timeout`, so that no timer judges a packet whose acknowledgement lay unread in the socket;
//! 3. `poll_event` until `None`, and whatever the application does in answer;
//! 4. `poll_transmit` until `None`;
//! 5. sleep until `poll_timeout`, a datagram, or the application's next wish to send.
//!
//! Another order is safe, merely worse: nothing is lost, but acknowledgements leave later or packets are resent.
//!
//! # What it promises
//! * Up to 32 channels, each of a [`ChannelKind`] and with a sequence of its own. Messages on reliable channels arrive
//!   once, on ordered ones in order, or the connection ends; only those with a lifetime may be given up
//!   ([`SendOptions`]). Messages on unreliable channels may be lost; on sequenced ones none arrives after a newer one.
//! * A full queue answers [`SendError::WouldBlock`]; reliable messages are never dropped silently and fullness never
//!   ends a connection. Every queue and table has a bound, named in [`Config`].
//! * A peer whose address changes keeps its connection: [`Event::Moved`], after it has proved that it receives there.
//!   Nobody else can take it over or stall it by copying packets. [`Config::migration`] switches this off.
//! * No datagram, however forged, makes it panic, loop by a value from the wire, or reply with more bytes than came.
//!   Before an address has proved itself with a cookie it costs no memory at all.
//!
//! * Everything but the handshake's first bytes is encrypted and authenticated ([`Suite`]). A client that gives
//!   [`connect`](Endpoint::connect) the server's [`PublicKey`] talks to whoever has the secret half, or to nobody. Keys
//!   are forgotten with the connection: a recording cannot be read later, not even with the server's secret
//!   (forward secrecy). Headers are readable: connection id, packet number, length and time of each datagram.
//!
//! # What it does not promise
//! * Without an expected key an attacker on the way can be the server.
//! * The transport does not know who a client is: an address and fresh keys, nothing more. Credentials belong into the
//!   first message.
//! * **Nobody but its authors has reviewed the cryptography yet.**
//!
//! # Handshake jobs
//! Accepting a connection takes some 100 µs of key exchange. It is never done inside `handle`: a Hello that proved its
//! address becomes a [`HandshakeJob`] that [`poll_job`](Endpoint::poll_job) gives out, any thread runs, and
//! [`finish_job`](Endpoint::finish_job) takes back; [`run_jobs`](Endpoint::run_jobs) does it on the spot. A connector
//! does its half, about as much, in `handle` when the Accept comes.
#![forbid(unsafe_code)]

mod config;
mod error;
mod stats;

mod endpoint;
mod events;
mod path;
mod peer_id;
mod peers;

mod closing;
mod connection;
mod handshake;

mod identity;
mod job;
mod keys;
mod limit;
mod noise;

mod coding;
mod packet;

mod channel;
mod pool;
mod queue;
mod receive;
mod send;

mod ack;
mod congestion;
mod mtu;
mod pacer;
mod recovery;
mod rtt;

mod cookie;
mod random;
mod timer;

#[cfg(feature = "io")]
pub mod io;

#[cfg(any(test, feature = "lab"))]
pub mod lab;

#[cfg(any(test, feature = "lab"))]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod attacks;

/// The example of the README is compiled and run with the other documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use channel::{Channel, ChannelConfig, ChannelKind, Channels, Repeats, SendOptions};
pub use config::Config;
pub use congestion::Congestion;
pub use endpoint::Endpoint;
pub use error::{CloseReason, ConnectError, SendError, Violation, code};
pub use events::Event;
pub use identity::{KeyTextError, PublicKey, SecretKey};
pub use job::{HandshakeDone, HandshakeJob};
pub use keys::Suite;
pub use packet::{DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, FRAGMENT_BYTES, UNRELIABLE_BYTES_MAX, VERSION};
pub use peer_id::PeerId;
pub use stats::{Stats, Totals};
pub use timer::Micros;
