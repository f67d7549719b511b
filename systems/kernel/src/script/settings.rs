//! What can be set for matches, the scripts that run in rooms.

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// What happens to a room whose callback failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The callback is abandoned, the state stays as it left it; `errors_max` failed ticks in a row end the room.
    #[default]
    Skip,
    /// The room ends.
    End,
}

/// Matches.
#[derive(Resource, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchSettings {
    /// `skip` or `end`. Default skip.
    pub on_error: Policy,
    /// With `skip`: failed ticks in a row that end the room, 1 to 1000. Default 10. A tick has failed when match_loop
    /// did; other callbacks that fail are written to the log.
    pub errors_max: u32,
    /// Memory of one room's virtual machine, in bytes. Default 16777216. A room out of memory ends.
    pub memory_bytes: usize,
    /// Fuel of one callback, and of one hook, which run in the frame like them. A unit is counted, not timed: it
    /// takes 2 to 35 ns, whatever the script does, mostly about 5. Default 100000: half a millisecond of usual
    /// work, 3.5 ms of the worst that was found.
    pub fuel: i64,
    /// Fuel of `match_init` and of loading a module. Default 5000000.
    pub fuel_init: i64,
}

impl Default for MatchSettings {
    fn default() -> Self {
        MatchSettings {
            on_error: Policy::Skip,
            errors_max: 10,
            memory_bytes: 16 << 20,
            fuel: 100_000,
            fuel_init: 5_000_000,
        }
    }
}
