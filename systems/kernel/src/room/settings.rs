//! What can be set for rooms.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may create rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
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

crate::settings! {
    /// Rooms.
    pub struct RoomSettings in "room" {
        /// Who may create rooms: anyone, users (with a token), or server (scripts and plugins only).
        create: RoomCreation = RoomCreation::Anyone;
        /// How long a room that a client created may be empty before it ends.
        empty_ms: u64 = 30_000, in 0..=86_400_000, unit "ms";
        /// Seats of a room that does not say how many it has; at most seats_max.
        max_players: u32 = 64, within |room| 1..=room.seats_max;
        /// Seats that a room may have; a room that asks for more is not created. Whoever joins is told of every member,
        /// in up to 352 bytes each: from about 2900 seats session.resend_bytes has to be raised as well.
        seats_max: u32 = 1000, in 1..=65_535;
        /// Rooms on this node.
        rooms_max: u32 = 10_000, in 1..=1 << 20;
        /// Matches that one frame opens for clients; the rest wait for the next frames, in order. Opening one takes
        /// half a millisecond and more. What scripts and the server open is counted too, and never waits.
        frame_openings_max: u32 = 4, in 1..=10_000;
        /// Messages that wait for a room's next tick; beyond it senders are refused as busy.
        inbox_messages: usize = 4096, in 1..=1 << 20;
        /// The same in bytes of data.
        inbox_bytes: usize = 1 << 20, in 1 << 16..=1 << 30, unit "bytes";
        /// A room's label, as JSON. The protocol carries no longer one than 2048 bytes.
        label_bytes_max: usize = 2048, in 2..=2048, unit "bytes";
        /// Ticks that a late room may catch up, one a frame, before the rest is left out.
        lag_ticks_max: u64 = 4, in 1..=128;
    }
}
