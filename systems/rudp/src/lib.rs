//! Reliable UDP for games as a sans-I/O state machine: no socket, no clock, no thread, no randomness of its own.
//!
//! One [`Endpoint`] speaks for one UDP socket. It opens connections, accepts them when its [`Config`] says so, and
//! turns datagrams into messages and messages into datagrams. Time is an argument ([`Micros`]), randomness is a seed.
//! The same calls with the same arguments give the same datagrams, byte for byte.
//!
//! # The four kinds of methods of [`Endpoint`]
//! * **In**: [`handle`](Endpoint::handle) takes a datagram, [`handle_timeout`](Endpoint::handle_timeout) the time.
//! * **By the application**: [`connect`](Endpoint::connect), [`send`](Endpoint::send), [`close`](Endpoint::close),
//!   [`close_after_flush`](Endpoint::close_after_flush), [`recycle`](Endpoint::recycle).
//! * **Out**: [`poll_event`](Endpoint::poll_event), [`poll_transmit`](Endpoint::poll_transmit),
//!   [`poll_timeout`](Endpoint::poll_timeout).
//! * **Getters**: [`stats`](Endpoint::stats), [`totals`](Endpoint::totals), [`peer_count`](Endpoint::peer_count).
//!
//! # Order of polling
//! 1. `handle` for **every** datagram that the socket has; only then
//! 2. `handle_timeout`, so that no timer judges a packet whose acknowledgement lay unread in the socket;
//! 3. `poll_event` until `None`, and whatever the application does in answer;
//! 4. `poll_transmit` until `None`;
//! 5. sleep until `poll_timeout`, a datagram, or the application's next wish to send.
//!
//! Another order is safe, merely worse: nothing is lost, but acknowledgements leave later or packets are resent.
//!
//! # What it promises
//! * Messages on [`Channel::CONTROL`] and [`Channel::DATA`] arrive once and in order, each channel for itself, or the
//!   connection ends. Messages on [`Channel::UNRELIABLE`] may be lost; none arrives after a newer one.
//! * A full queue answers [`SendError::WouldBlock`]; reliable messages are never dropped silently and fullness never
//!   ends a connection. Every queue and table has a bound, named in [`Config`].
//! * No datagram, however forged, makes it panic, loop by a value from the wire, or reply with more bytes than came.
//!   Before an address has proved itself with a cookie it costs no memory at all.
//!
//! # What it does not promise yet
//! This version speaks one suite, *plaintext*: datagrams carry a checksum keyed by the handshake, so corruption is
//! noticed and someone who cannot read the traffic cannot forge it. **It is not encryption**: whoever reads the
//! handshake can read and forge everything. The byte format (README.md) keeps the place for keys.
#![forbid(unsafe_code)]

mod config;
mod error;
mod stats;

mod endpoint;
mod events;
mod peers;

mod connection;
mod handshake;
mod linger;

mod packet;
mod protect;

mod channel;
mod pool;
mod receive;
mod send;

mod ack;
mod recovery;
mod rtt;
mod window;

mod cookie;
mod random;
mod timer;

#[cfg(any(test, feature = "lab"))]
pub mod lab;

#[cfg(test)]
mod attacks;

/// The example of the README is compiled and run with the other documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use channel::Channel;
pub use config::Config;
pub use endpoint::{Endpoint, Event};
pub use error::{CloseReason, ConnectError, SendError, Violation, code};
pub use packet::{DATAGRAM_BYTES_MAX, UNRELIABLE_BYTES_MAX, VERSION};
pub use peers::PeerId;
pub use stats::{Stats, Totals};
pub use timer::Micros;
