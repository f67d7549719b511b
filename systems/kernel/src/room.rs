//! Rooms as data: what they are, what waits for them, and how they are found. What they do is in kaos-rooms.

mod inbox;
pub mod presence;
mod seats;
mod settings;
pub use inbox::{Inbox, InboxLimits, ReadyRooms, RoomFact, RoomMessage};
pub use seats::Seats;
pub use settings::{RoomCreation, RoomSettings};

use bevy_ecs::prelude::*;
use serde_json::Value as Json;

use crate::ids::RoomId;

/// A room: its id, what runs in it, and what clients see of it.
#[derive(Component, Clone, Debug)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Its number among the rooms of this server, by creation; spreads their ticks over the grid.
    pub number: u64,
    /// The match module; empty for a relayed room, which has no script.
    pub module: String,
    /// Text or an object, at most `room.label_bytes_max` as JSON.
    pub label: Json,
    /// Ticks per second, 1 to 128; 0 for a relayed room.
    pub tick_rate: u8,
    /// How many seats it has.
    pub max_players: u32,
    /// Whether it ends after it was empty for `room.empty_ms`: set for rooms that clients create.
    pub ends_empty: bool,
    /// The frame in which it was made.
    pub created: u64,
    /// The frame since which nobody is in it; `None` while somebody is.
    pub empty_since: Option<u64>,
}

/// The watchdog found a room's match stuck: the room has to end before its next tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomStuck {
    /// The room.
    pub room: RoomId,
    /// How long its match had run when it was found, in milliseconds.
    pub ms: u64,
}

/// When a room ticks: tick k is due at `start + ceil(k·F/R)`, with F frames per second and R ticks per second. Integers
/// only, so that nothing drifts.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickSchedule {
    /// The frame of tick 0.
    pub start: u64,
    /// The next tick to run.
    pub next: u64,
    /// How many ticks were left out because they came too late.
    pub skipped: u64,
}

impl TickSchedule {
    /// The frame in which tick `k` is due.
    pub fn due(&self, k: u64, frames_per_sec: u64, rate: u8) -> u64 {
        let frames = (u128::from(k) * u128::from(frames_per_sec)).div_ceil(u128::from(rate.max(1)));
        self.start.saturating_add(u64::try_from(frames).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift() {
        let beat = TickSchedule { start: 100, next: 0, skipped: 0 };
        for rate in [1u8, 7, 30, 33, 60, 127, 128] {
            for second in [0u64, 1, 59, 86_400] {
                assert_eq!(
                    beat.due(second * u64::from(rate), 2000, rate),
                    100 + second * 2000,
                    "rate {rate}"
                );
            }
            let gaps: Vec<u64> =
                (0..500).map(|k| beat.due(k + 1, 2000, rate) - beat.due(k, 2000, rate)).collect();
            let (min, max) = (gaps.iter().min(), gaps.iter().max());
            assert!(max.zip(min).is_some_and(|(max, min)| max - min <= 1), "rate {rate}");
        }
    }
}
