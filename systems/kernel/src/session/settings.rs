//! What can be set for sessions.

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// Sessions and their connections.
#[derive(Resource, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// How long a peer may take to its SessionStart, in ms. Default 5000. Bounds what a silent stranger holds.
    pub start_ms: u64,
    /// How often a client sends a heartbeat at least, in ms. Default 1000; also how late an acknowledgement
    /// may be, so it bounds what both sides keep.
    pub heartbeat_ms: u64,
    /// Silence after which a peer counts as lost, in ms. Default 10000. Must exceed twice `heartbeat_ms`, or
    /// one late heartbeat loses a healthy peer.
    pub idle_ms: u64,
    /// How long a lost session's seats wait for it, in ms. Default 30000; 0: not at all.
    pub seat_ms: u64,
    /// Reliable messages kept for a client that has not acknowledged them, in bytes. Default 262144. Beyond
    /// it a lost session's room data is dropped, oldest first, and a connected one has `slow_reader_ms`.
    /// At four times this the session closes at once.
    pub resend_bytes: usize,
    /// How long a connected session may stay over `resend_bytes`, in ms. Default 10000.
    pub slow_reader_ms: u64,
    /// A second login of the same user: `true` replaces the first, `false` lets both be. Default false.
    pub replace: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            start_ms: 5_000,
            heartbeat_ms: 1_000,
            idle_ms: 10_000,
            seat_ms: 30_000,
            resend_bytes: 256 * 1024,
            slow_reader_ms: 10_000,
            replace: false,
        }
    }
}
