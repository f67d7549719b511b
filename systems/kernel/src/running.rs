//! Which room's match runs now: written by the frame, read from outside of it, so that a watchdog can name a room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::*;
use uuid::Uuid;

use crate::ids::RoomId;

/// The match that runs now. A runner that wants to know keeps a clone and inserts the other; a server without one
/// notes nothing. Nothing inside of a frame reads it, so it decides nothing there.
#[derive(Resource, Clone, Default, Debug)]
pub struct RunningMatch(Arc<Marks>);

#[derive(Default, Debug)]
struct Marks {
    /// How many times a match began or came to the end of its turn: odd while one runs.
    turns: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

impl RunningMatch {
    /// The number of the turn and whose it is; `None` while no match runs. From any thread.
    pub fn look(&self) -> Option<(u64, RoomId)> {
        let turn = self.0.turns.load(Ordering::SeqCst);
        let room = (self.0.high.load(Ordering::SeqCst), self.0.low.load(Ordering::SeqCst));
        // Another turn may have begun between these loads: then the halves may be of two rooms.
        (turn % 2 == 1 && self.0.turns.load(Ordering::SeqCst) == turn)
            .then(|| (turn, RoomId(Uuid::from_u64_pair(room.0, room.1))))
    }

    /// A match begins its turn, which lasts until the mark is dropped.
    pub(crate) fn enter(&self, room: RoomId) -> MatchGuard<'_> {
        let (high, low) = room.0.as_u64_pair();
        self.0.high.store(high, Ordering::SeqCst);
        self.0.low.store(low, Ordering::SeqCst);
        self.0.turns.fetch_add(1, Ordering::SeqCst);
        MatchGuard(&self.0)
    }
}

/// A match's turn: what it does between two points at which other rooms run.
pub(crate) struct MatchGuard<'a>(&'a Marks);

impl Drop for MatchGuard<'_> {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_seen_while_its_match_runs_and_each_turn_has_its_number() {
        let running = RunningMatch::default();
        let (here, there) = (running.clone(), RoomId(Uuid::from_u128(7 << 100 | 9)));
        assert_eq!(here.look(), None);
        let turn = running.enter(there);
        assert_eq!(here.look(), Some((1, there)));
        drop(turn);
        assert_eq!(here.look(), None);
        let _turn = running.enter(there);
        assert_eq!(here.look(), Some((3, there)));
    }
}
