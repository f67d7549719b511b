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
//! 2. `handle_timeout`, so that no timer gives up a packet whose acknowledgement lies unread in the socket;
//! 3. `poll_event` until `None`, and whatever the application does in answer;
//! 4. `poll_transmit` until `None`;
//! 5. sleep until the time of `poll_timeout`, until a datagram comes, or until the application wants to send.
//!
//! Any other order is safe but worse: nothing is lost, but acknowledgements leave later or packets are sent again.
//!
//! # What it promises
//! * Up to 32 channels, each of a [`ChannelKind`] and with a sequence of its own. Messages on reliable channels arrive
//!   exactly once, and in order on ordered channels, or the connection ends; only messages with a lifetime may be given
//!   up ([`SendOptions`]). Messages on unreliable channels may be lost; on sequenced channels no message arrives after
//!   a newer one.
//! * A full queue answers [`SendError::WouldBlock`]; reliable messages are never dropped silently, and a full queue
//!   never ends a connection. Every queue and table has a bound, named in [`Config`].
//! * A peer whose address changes keeps its connection: [`Event::Moved`], after it has proved that it receives there.
//!   Nobody else can take it over or stall it by copying packets. [`Config::migration`] switches this off.
//! * No datagram, however forged, makes it panic, loop as often as a value on the wire says, or reply with more bytes
//!   than came. An address costs no memory at all before it has proved itself with a cookie.
//!
//! * Everything but the handshake's first bytes is encrypted and authenticated ([`Suite`]). A client that gives
//!   [`connect`](Endpoint::connect) the server's [`PublicKey`] talks to whoever has the secret half, or to nobody. Keys
//!   are forgotten with the connection: a recording cannot be read later, not even with the server's secret
//!   (forward secrecy). Headers are readable: connection id, packet number, length and time of each datagram.
//!
//! # What it does not promise
//! * Without an expected key, an attacker on the path can pose as the server.
//! * The transport does not know who a client is: an address and fresh keys, nothing more. Credentials belong in the
//!   first message.
//! * **Nobody but its authors has reviewed the cryptography yet.**
//!
//! # Handshake jobs
//! Accepting a connection takes some 100 µs of key exchange, which is never done inside `handle`. A Hello that proved
//! its address becomes a [`HandshakeJob`]: [`poll_job`](Endpoint::poll_job) hands it out, any thread may run it, and
//! [`finish_job`](Endpoint::finish_job) takes back the result. [`run_jobs`](Endpoint::run_jobs) does all of that on the
//! spot. A connector does its half, which takes about as long, in `handle` when the Accept comes.
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
