//! The receiving half of a reliable ordered channel.

use std::{collections::VecDeque, mem};

use super::{Budget, Fragment, PIECE_COST, Place, SLOT_COST, Taken, parts::Parts, place};
use crate::{
    error::Violation,
    queue::{shrink, thin},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Ordered {
    /// Id of the next message to deliver.
    next: u64,
    /// What is here of the messages from `next` on. The last one is never `Missing`.
    slots: VecDeque<Slot>,
}

enum Slot {
    Missing,
    /// The sender gave it up.
    Skipped,
    Whole(Vec<u8>),
    Parts(Parts),
}

impl Ordered {
    /// Bytes of a place in the order.
    #[cfg(test)]
    pub(super) fn place_bytes() -> usize {
        size_of::<Slot>()
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.slots.shrink_to_fit();
    }

    pub(super) fn message(
        &mut self,
        id: u16,
        bytes: &[u8],
        budget: &mut Budget<'_>,
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Result<Taken, Violation> {
        let at = match place(id, self.next) {
            Place::Known => return Ok(Taken::Yes),
            Place::TooFar => return Ok(Taken::No),
            Place::Ahead(at) => at,
        };
        match self.slots.get(at) {
            None | Some(Slot::Missing) => {}
            Some(Slot::Skipped | Slot::Whole(_)) => return Ok(Taken::Yes),
            Some(Slot::Parts(_)) => return Err(Violation::BadFragment),
        }
        if at == 0 {
            deliver(budget.pool.copy(bytes));
            self.next += 1;
            if self.slots.pop_front().is_some() {
                budget.give_back(SLOT_COST);
                self.release(budget, deliver);
            }
        } else if self.reach(at, bytes.len() + PIECE_COST, budget) {
            self.slots[at] = Slot::Whole(budget.pool.copy(bytes));
        } else {
            return Ok(Taken::No);
        }
        Ok(Taken::Yes)
    }

    /// Books `cost` and makes places up to the one at `at`, or neither.
    fn reach(&mut self, at: usize, cost: usize, budget: &mut Budget<'_>) -> bool {
        let places = (at + 1).saturating_sub(self.slots.len());
        let fits = budget.take(cost + places * SLOT_COST, at == 0);
        if fits {
            self.slots.extend((0..places).map(|_| Slot::Missing));
        }
        fits
    }

    pub(super) fn fragment(
        &mut self,
        id: u16,
        fragment: Fragment<'_>,
        budget: &mut Budget<'_>,
        deliver: impl FnMut(Vec<u8>),
    ) -> Result<Taken, Violation> {
        let at = match place(id, self.next) {
            Place::Known => return Ok(Taken::Yes),
            Place::TooFar => return Ok(Taken::No),
            Place::Ahead(at) => at,
        };
        match self.slots.get(at) {
            Some(Slot::Skipped) => return Ok(Taken::Yes),
            Some(Slot::Whole(_)) => return Err(Violation::BadFragment),
            Some(Slot::Parts(_)) => {}
            None | Some(Slot::Missing) => {
                if !self.reach(at, Parts::cost_of(fragment.count), budget) {
                    return Ok(Taken::No);
                }
                self.slots[at] = Slot::Parts(Parts::new(fragment.count, budget.pool));
            }
        }
        let Some(Slot::Parts(parts)) = self.slots.get_mut(at) else { return Ok(Taken::No) };
        let taken = parts.add(fragment, at == 0, budget)?;
        self.release(budget, deliver);
        Ok(taken)
    }

    /// The sender gave a message up: the order goes on without it, unless it is here.
    pub(super) fn skip(&mut self, id: u16, budget: &mut Budget<'_>, deliver: impl FnMut(Vec<u8>)) -> Taken {
        let at = match place(id, self.next) {
            Place::Known => return Taken::Yes,
            Place::TooFar => return Taken::No,
            Place::Ahead(at) => at,
        };
        match self.slots.get(at) {
            Some(Slot::Skipped | Slot::Whole(_)) => return Taken::Yes,
            Some(Slot::Parts(parts)) if parts.is_complete() => return Taken::Yes,
            Some(Slot::Missing | Slot::Parts(_)) | None => {}
        }
        if !self.reach(at, 0, budget) {
            return Taken::No;
        }
        if let Slot::Parts(parts) = mem::replace(&mut self.slots[at], Slot::Skipped) {
            parts.give_up(budget);
        }
        self.release(budget, deliver);
        Taken::Yes
    }

    /// Delivers what is whole and next.
    fn release(&mut self, budget: &mut Budget<'_>, mut deliver: impl FnMut(Vec<u8>)) {
        loop {
            match self.slots.front() {
                None => return shrink(&mut self.slots),
                Some(Slot::Missing) => return thin(&mut self.slots),
                Some(Slot::Parts(parts)) if !parts.is_complete() => return,
                Some(Slot::Skipped | Slot::Whole(_) | Slot::Parts(_)) => {}
            }
            budget.give_back(SLOT_COST);
            match self.slots.pop_front() {
                Some(Slot::Whole(bytes)) => {
                    budget.give_back(bytes.len() + PIECE_COST);
                    deliver(bytes);
                }
                Some(Slot::Parts(parts)) => deliver(parts.join(budget)),
                Some(Slot::Skipped | Slot::Missing) | None => {}
            }
            self.next += 1;
        }
    }
}
