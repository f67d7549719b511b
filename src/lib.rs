//! KaosNet: a headless multiplayer game server.

pub mod config;
pub mod replay;
pub mod runner;
pub mod testing;
