//! KaosNet: a headless multiplayer game server.

pub mod config;
