//! The doors: UDP, WebSocket and HTTP, where outside things come in and go out.
//!
//! In reading order: `codec` and `encode` are the wire format; `start` and `credentials` decide who gets in;
//! `doors` is what the frame thread sees, with `udp` behind it and `bridge` towards all other threads;
//! `web` and its neighbours run on one tokio thread and end at the bridge. Nothing here decides anything
//! inside a frame: what comes in becomes an input, and the kernel's outputs go out.
#![forbid(unsafe_code)]

pub mod codec;
mod encode;

pub mod credentials;
pub mod keys;
pub mod start;

pub mod doors;
mod link;
pub mod udp;

pub mod bridge;
pub mod jobs;
pub mod waker;

mod access;
mod budget;
mod files;
mod handlers;
mod handshakes;
mod impatient;
mod proxies;
mod reply;
mod routes;
mod socket;
pub mod web;

mod metrics;
pub mod stats;

pub use access::Access;
pub use proxies::Proxies;

mod port_holder;
pub use port_holder::{Holder, Protocol, holder};

#[cfg(test)]
mod tests;

/// Randomness of the operating system: it comes in at the doors and nowhere else.
///
/// # Errors
/// The operating system has none to give.
pub fn random<const BYTES: usize>() -> std::io::Result<[u8; BYTES]> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; BYTES];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("the operating system gives no randomness"))?;
    Ok(bytes)
}
