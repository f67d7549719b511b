//! KaosNet's own protocol at the server's doors: bytes become typed messages and typed messages bytes, and a SessionStart
//! is checked before the frame hears of it.

pub mod codec;
pub(crate) mod encode;
pub mod handshake;
pub mod start;
