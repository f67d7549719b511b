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

pub mod stats;

#[cfg(test)]
mod tests;
