//! What can be set for rooms.

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// Who may make rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomCreation {
    /// Every session.
    #[default]
    Anyone,
    /// Sessions with a token; the anonymous only join.
    Users,
    /// Scripts and plugins only.
    Server,
}

/// Rooms.
#[derive(Resource, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomSettings {
    /// Who may make rooms: `anyone`, `users` or `server`. Default anyone.
    pub create: RoomCreation,
    /// How long a room that a client created may be empty, in ms. Default 30000.
    pub empty_ms: u64,
    /// Seats of a room that does not say, 1 to `seats_max`. Default 64.
    pub max_players: u32,
    /// Seats that a room may have, 1 to 65535. Default 1000; a room that asks for more is not made (`invalid`). Who
    /// joins is told of every member, in up to 352 bytes each, and a session closes at four times
    /// `session.resend_bytes`: from about 2900 seats that has to be raised as well.
    pub seats_max: u32,
    /// Rooms on this node. Default 10000.
    pub rooms_max: u32,
    /// Matches that clients' requests open in one frame, 1 to 10000. Default 4: a match takes half a millisecond and
    /// more to open. What comes beyond waits for the next frames, in the order in which it came. What scripts and the
    /// server open is counted too, and never waits.
    pub frame_openings_max: u32,
    /// Messages that wait for a room's next tick. Default 4096; beyond it senders are refused with `busy`.
    pub inbox_messages: usize,
    /// The same in bytes of data. Default 1048576.
    pub inbox_bytes: usize,
    /// A label as JSON, in bytes. Default 2048, which is also the most that the protocol carries.
    pub label_bytes_max: usize,
    /// Ticks that a late room may run after the other, one a frame, before the rest is left out. Default 4.
    pub lag_ticks_max: u64,
}

impl Default for RoomSettings {
    fn default() -> Self {
        RoomSettings {
            create: RoomCreation::Anyone,
            empty_ms: 30_000,
            max_players: 64,
            seats_max: 1000,
            rooms_max: 10_000,
            frame_openings_max: 4,
            inbox_messages: 4096,
            inbox_bytes: 1 << 20,
            label_bytes_max: 2048,
            lag_ticks_max: 4,
        }
    }
}
