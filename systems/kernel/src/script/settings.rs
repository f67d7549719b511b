//! What can be set for matches, the scripts that run in rooms.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to a room whose callback failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The callback is abandoned, the state stays as it left it; `errors_max` failed ticks in a row end the room.
    #[default]
    Skip,
    /// The room ends.
    End,
}

crate::settings! {
    /// Matches.
    pub struct MatchSettings in "match" {
        /// What happens when a callback fails: skip (the room goes on) or end (the room ends).
        on_error: Policy = Policy::Skip;
        /// With skip: how many ticks in a row have to fail until the room ends. A tick fails when its match_loop does;
        /// other callbacks that fail are written to the log.
        errors_max: u32 = 10, in 1..=1000;
        /// Memory of one room's virtual machine. A room that needs more ends.
        memory_bytes: usize = 16 << 20, in 256 << 10..=1 << 30, unit "bytes";
        /// Fuel of one callback, or of one hook. A unit takes 2 to 35 ns, mostly about 5: the default is half a
        /// millisecond of usual work, and 3.5 ms of the worst that was found.
        fuel: i64 = 100_000, in 1000..=10_000_000_000;
        /// Fuel of match_init, and of loading a module.
        fuel_init: i64 = 5_000_000, in 1000..=10_000_000_000;
    }
}
