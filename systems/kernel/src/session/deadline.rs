//! The frames in which to check peers and sessions for having waited too long; nothing else is scanned.

use std::collections::{BTreeMap, BTreeSet};

use bevy_ecs::prelude::*;

use crate::ids::{PeerId, SessionId};

/// What is checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum DeadlineOf {
    /// A peer that has to start a session.
    Peer(PeerId),
    /// A session: its silence, its seats, and how long it may read slowly.
    Session(SessionId),
}

/// The frames in which to check peers and sessions: one entry each, the earliest.
///
/// What postpones a deadline, such as a heartbeat or a resume, leaves the entry where it is. The check finds that it
/// came early, and schedules the next one: one check per `session.idle_ms` for a healthy session, however often it is
/// heard.
#[derive(Resource, Default, Debug)]
pub(crate) struct Deadlines {
    order: BTreeSet<(u64, DeadlineOf)>,
    entries: BTreeMap<DeadlineOf, u64>,
}

impl Deadlines {
    /// Schedules a check in `frame`; an earlier one that is scheduled stays.
    pub(crate) fn add(&mut self, who: DeadlineOf, frame: u64) {
        match self.entries.get(&who) {
            Some(entered) if *entered <= frame => return,
            Some(entered) => {
                self.order.remove(&(*entered, who));
            }
            None => {}
        }
        self.entries.insert(who, frame);
        self.order.insert((frame, who));
    }

    /// Removes the check of `who`.
    pub(crate) fn forget(&mut self, who: DeadlineOf) {
        if let Some(entered) = self.entries.remove(&who) {
            self.order.remove(&(entered, who));
        }
    }

    /// The frame of the next check.
    pub(crate) fn first(&self) -> Option<u64> {
        self.order.first().map(|(frame, _)| *frame)
    }

    /// Takes out the next that is due by `frame`.
    pub(crate) fn pop(&mut self, frame: u64) -> Option<DeadlineOf> {
        self.order.first().filter(|(due, _)| *due <= frame)?;
        let (_, who) = self.order.pop_first()?;
        self.entries.remove(&who);
        Some(who)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.order.len().max(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(slot: u32) -> DeadlineOf {
        DeadlineOf::Peer(PeerId { slot, generation: 1 })
    }

    #[test]
    fn the_earliest_wish_counts_and_there_is_one_entry_each() {
        let mut deadlines = Deadlines::default();
        for frame in [50, 20, 90, 20] {
            deadlines.add(who(1), frame);
        }
        deadlines.add(who(0), 30);
        assert_eq!((deadlines.first(), deadlines.len()), (Some(20), 2));
        assert_eq!(deadlines.pop(19), None);
        assert_eq!(deadlines.pop(30), Some(who(1)));
        assert_eq!(deadlines.pop(30), Some(who(0)));
        assert_eq!((deadlines.pop(u64::MAX), deadlines.len()), (None, 0));
    }

    #[test]
    fn the_forgotten_leave_nothing() {
        let mut deadlines = Deadlines::default();
        deadlines.add(who(1), 5);
        deadlines.forget(who(1));
        deadlines.forget(who(2));
        assert_eq!((deadlines.first(), deadlines.len()), (None, 0));
    }
}
