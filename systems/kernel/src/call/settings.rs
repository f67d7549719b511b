//! What can be set for calls of operations.

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// Calls of operations.
#[derive(Resource, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallSettings {
    /// Calls of clients that may wait, for jobs or their turn, at a time. Default 10000; beyond it calls are refused with `busy`. What
    /// scripts and plugins call is not counted: it has to pass when clients fill the queue.
    pub waiting_max: u32,
    /// The same for one session. Default 64; so no one session fills the queue for all.
    pub session_waiting_max: u32,
    /// How long a call may wait for its jobs in all, in ms. Default 30000; then it ends with `deadline`.
    pub wait_ms: u64,
    /// Fuel of one rpc with every rpc that it calls, outside of the frame; a unit as in `match.fuel`. Default 5000000.
    pub fuel: i64,
}

impl Default for CallSettings {
    fn default() -> Self {
        CallSettings { waiting_max: 10_000, session_waiting_max: 64, wait_ms: 30_000, fuel: 5_000_000 }
    }
}
