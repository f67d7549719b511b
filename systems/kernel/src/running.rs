//! The room whose match is running. The frame writes it, and a watchdog reads it from outside to name the room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::*;
use uuid::Uuid;

use crate::ids::RoomId;

/// The room whose match is running. A runner that watches matches keeps one clone and inserts another as a resource; a
/// server without the resource records nothing. Nothing inside a frame reads it, so no outcome of a frame depends on
/// it.
#[derive(Resource, Clone, Default, Debug)]
pub struct RunningMatch(Arc<Marks>);

#[derive(Default, Debug)]
struct Marks {
    /// The number of beginnings and ends of runs: odd while a match is running.
    changes: AtomicU64,
    /// The upper half of the room's id.
    high: AtomicU64,
    /// The lower half of the room's id.
    low: AtomicU64,
}

impl RunningMatch {
    /// The run's number, which is odd and grows, and its room; `None`: no match is running. May be called on any
    /// thread.
    pub fn look(&self) -> Option<(u64, RoomId)> {
        let run = self.0.changes.load(Ordering::SeqCst);
        let room = (self.0.high.load(Ordering::SeqCst), self.0.low.load(Ordering::SeqCst));
        // Another run may have begun between these loads, and then the halves may belong to two rooms.
        (run % 2 == 1 && self.0.changes.load(Ordering::SeqCst) == run)
            .then(|| (run, RoomId(Uuid::from_u64_pair(room.0, room.1))))
    }

    /// Begins a run of a room's match, which lasts until the guard is dropped.
    pub(crate) fn enter(&self, room: RoomId) -> MatchGuard<'_> {
        let (high, low) = room.0.as_u64_pair();
        self.0.high.store(high, Ordering::SeqCst);
        self.0.low.store(low, Ordering::SeqCst);
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        MatchGuard(&self.0)
    }
}

/// A run of a match. No other match runs while it exists.
pub(crate) struct MatchGuard<'a>(&'a Marks);

impl Drop for MatchGuard<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_seen_while_its_match_runs_and_each_run_has_its_number() {
        let running = RunningMatch::default();
        let (here, there) = (running.clone(), RoomId(Uuid::from_u128(7 << 100 | 9)));
        assert_eq!(here.look(), None);
        let run = running.enter(there);
        assert_eq!(here.look(), Some((1, there)));
        drop(run);
        assert_eq!(here.look(), None);
        let _run = running.enter(there);
        assert_eq!(here.look(), Some((3, there)));
    }
}
