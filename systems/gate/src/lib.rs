//! The doors: UDP, WebSocket and HTTP, where outside things come in and go out.
//!
//! In reading order: `kaos` is KaosNet's own protocol and `identity` decides who gets in; `doors` is what the frame thread
//! sees (`peers` by their numbers, `intake` bounds what one frame takes), with `udp` behind it and `bridge` towards all other
//! threads; `http` and `websocket` run on one tokio thread and end at the bridge; `jobs` are the threads of what left the
//! frame. Nothing here decides anything inside a frame: what comes in becomes an input, and the kernel's outputs go out.
#![forbid(unsafe_code)]

pub mod kaos;

pub mod identity;

pub mod doors;
mod intake;
mod peers;

pub mod udp;

pub mod bridge;

pub mod http;
mod websocket;

pub mod jobs;

pub mod stats;

pub use http::{Access, Holder, Protocol, Proxies, holder};

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
