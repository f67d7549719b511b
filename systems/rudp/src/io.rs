//! Sockets for an [`Endpoint`](crate::Endpoint): many datagrams a system call where the system can. Feature `io`.
//!
//! The endpoint itself knows no socket. This module moves its datagrams: [`Socket`] for a thread that polls,
//! [`tokio::Driver`] (feature `tokio`) for a task. Both have two backends:
//!
//! * [`Backend::Batched`] through `quinn-udp`: `recvmmsg` and GRO in; out, datagrams in a row to one peer as one
//!   segmented send (GSO). On loopback that makes a datagram of a bulk transfer some thirty times cheaper; one datagram
//!   for each of many peers costs what it costs. The don't-fragment bit is set where the system has it.
//! * [`Backend::Plain`]: one `recv_from` and one `send_to` a datagram, with the standard library alone.
//!
//! [`Backend::Auto`] takes the first and falls back to the second. Nothing falls back silently: [`Features`] says what
//! is used and why. When the network card refuses segmented sends later, every datagram goes by itself, and `Features`
//! says that, too.
//!
//! # What it leaves out
//! * ECN marks are neither set nor read.
//! * Replies leave from the address that the system chooses. A server with several addresses should bind each of them
//!   instead of the unspecified one.
//!
//! # Errors of sending
//! A datagram that the system refuses (no route, a firewall, longer than the path takes) is a datagram lost on the way:
//! the transport repeats what must arrive, and path discovery learns from silence. They are counted ([`Counters`]), the
//! last one is kept ([`Socket::take_error`]). Only "full for now" is different: the datagrams wait, none is dropped,
//! and [`Flow::Blocked`] asks to come again when the socket can be written.

mod backend;
mod inbox;
mod outbox;
mod socket;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use socket::Socket;

use crate::packet::{DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX};

/// Which system calls move the datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backend {
    /// `Batched` if it works here, else `Plain`.
    #[default]
    Auto,
    /// Many datagrams a call, through `quinn-udp`.
    Batched,
    /// One datagram a call.
    Plain,
}

/// How a socket is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Default [`Backend::Auto`].
    pub backend: Backend,
    /// Whether datagrams to one peer may leave as one segmented send. Default `true`; without effect on `Plain`.
    pub segmented: bool,
    /// What the system should buffer for reading, in bytes. It may give less without telling (Linux: at most
    /// `net.core.rmem_max`). Default `None`: what the system thinks.
    pub receive_buffer_bytes: Option<usize>,
    /// The same for writing. Default `None`.
    pub send_buffer_bytes: Option<usize>,
    /// How many reads a system call may do, 1 to 32; each takes 64 KiB of address space, of which only what datagrams
    /// fill becomes memory. Default 32: a server. Clients do well with 4.
    pub reads_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            backend: Backend::Auto,
            segmented: true,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
            reads_max: quinn_udp::BATCH_SIZE,
        }
    }
}

impl Options {
    /// For a socket with one peer: four reads a call.
    pub fn client() -> Options {
        Options { reads_max: 4, ..Options::default() }
    }
}

/// What a socket can do, and why not more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    /// `Batched` or `Plain`.
    pub backend: Backend,
    /// Datagrams that one send can carry; 1 when the system does not segment, or has refused to.
    pub segments_out_max: usize,
    /// Datagrams that one read can carry.
    pub segments_in_max: usize,
    /// Whether a datagram longer than the path takes may be cut on the way instead of lost. If so, an answer to a long
    /// probe proves nothing: leave the search off, by [`Features::mtu_max`].
    pub may_fragment: bool,
    /// Why this is less than was asked for.
    pub fallback: Option<String>,
}

impl Features {
    /// The most that [`Config::mtu_max`](crate::Config::mtu_max) may be on this socket: 1,200 where datagrams may be
    /// cut on the way.
    pub fn mtu_max(&self) -> usize {
        if self.may_fragment { DATAGRAM_BYTES_BASE } else { DATAGRAM_BYTES_MAX }
    }
}

/// What a socket did since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams that came.
    pub datagrams_in: u64,
    /// System calls that brought some.
    pub reads: u64,
    /// Datagrams that the system took.
    pub datagrams_out: u64,
    /// System calls that took some.
    pub writes: u64,
    /// Datagrams refused as too long for the path: probes mostly.
    pub too_long: u64,
    /// Datagrams refused for any other reason.
    pub refused: u64,
    /// How often the socket was full.
    pub blocked: u64,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intake {
    /// Datagrams.
    pub datagrams: usize,
    /// The bound was reached before the socket was empty.
    pub more: bool,
}

/// How far sending came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flow {
    /// The endpoint has nothing more to send now.
    Drained,
    /// The socket is full. What was taken from the endpoint is kept: come again when the socket can be written.
    Blocked,
}
