//! Sockets for an [`Endpoint`](crate::Endpoint), which move many datagrams with one system call if the system can.
//! Feature `io`.
//!
//! The endpoint itself knows no socket. This module moves its datagrams: [`Socket`] for a thread that polls,
//! [`tokio::Driver`] (feature `tokio`) for a task. Both have two backends:
//!
//! * [`Backend::Batched`] through `quinn-udp`: `recvmmsg` and GRO in; out, datagrams in a row to one peer as one
//!   segmented send (GSO). On loopback that makes a datagram of a bulk transfer some thirty times cheaper; single
//!   datagrams for many peers cost as much as without it. The don't-fragment bit is set if the system has it.
//! * [`Backend::Plain`]: one `recv_from` and one `send_to` a datagram, with the standard library alone.
//!
//! [`Backend::Auto`] takes the first and falls back to the second, but never silently: [`Features`] says what is used
//! and why. If the network card refuses segmented sends later, each datagram is sent by itself, and `Features` says
//! that as well.
//!
//! # What it leaves out
//! * ECN marks are neither set nor read.
//! * Replies leave from the address that the system chooses. A server with several addresses should bind each of them
//!   instead of the unspecified one.
//!
//! # Errors of sending
//! A datagram that the system refuses (no route, a firewall, longer than the path takes) counts as lost on the way: the
//! transport repeats what must arrive, and the search for longer datagrams learns from silence. Refusals are counted
//! ([`Counters`]), and the last one is kept ([`Socket::take_error`]). Only a full socket is different: then datagrams
//! wait, none is dropped, and [`Flow::Blocked`] says to call again when the socket can be written.

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
    /// The system's receive buffer, in bytes. It may give less without saying so (Linux: at most `net.core.rmem_max`).
    /// Default `None`: the system's own default.
    pub receive_buffer_bytes: Option<usize>,
    /// The system's send buffer, likewise. Default `None`.
    pub send_buffer_bytes: Option<usize>,
    /// How many reads one system call may do, 1 to 32. Each takes 64 KiB of address space, of which only what datagrams
    /// fill becomes memory. Default 32, for a server; 4 suffice for a client.
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

/// What a socket can do, and why it cannot do more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    /// `Batched` or `Plain`.
    pub backend: Backend,
    /// Datagrams that one send can carry; 1 when the system does not segment, or has refused to.
    pub segments_out_max: usize,
    /// Datagrams that one read can carry.
    pub segments_in_max: usize,
    /// Whether a datagram longer than the path takes may be cut up on the way instead of getting lost. If so, the
    /// answer to a long probe proves nothing: switch the search off with [`Features::mtu_max`].
    pub may_fragment: bool,
    /// Why this is less than was asked for.
    pub fallback: Option<String>,
}

impl Features {
    /// The most that [`Config::mtu_max`](crate::Config::mtu_max) may be on this socket: 1,200 if datagrams may be cut
    /// up on the way.
    pub fn mtu_max(&self) -> usize {
        if self.may_fragment { DATAGRAM_BYTES_BASE } else { DATAGRAM_BYTES_MAX }
    }
}

/// What a socket did since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams that came.
    pub datagrams_in: u64,
    /// System calls that brought datagrams.
    pub reads: u64,
    /// Datagrams that the system took.
    pub datagrams_out: u64,
    /// System calls that took datagrams.
    pub writes: u64,
    /// Datagrams refused as too long for the path, mostly probes.
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

/// How far sending got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flow {
    /// The endpoint has nothing more to send now.
    Drained,
    /// The socket is full. What was taken from the endpoint is kept: call again when the socket can be written.
    Blocked,
}
