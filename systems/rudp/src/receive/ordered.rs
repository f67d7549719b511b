//! The receiving half of a reliable ordered channel.

use std::{collections::VecDeque, mem};

use super::{Fragment, InboxContext, Need, PIECE_COST, SLOT_COST, Taken, parts::Parts, place};
use crate::{
    error::Violation,
    queue::{shrink, thin},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Ordered {
    /// Id of the next message to deliver.
    next: u64,
    /// What has come of the messages from `next` on. The last slot is never `Missing`.
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
    /// Bytes of a slot.
    #[cfg(test)]
    pub(super) fn place_bytes() -> usize {
        size_of::<Slot>()
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.slots.shrink_to_fit();
    }

    /// The slot of a message; an error if nothing of it is of use.
    pub(super) fn place(&self, id: u16) -> Result<usize, Taken> {
        place(id, self.next)
    }

    pub(super) fn message(
        &mut self,
        at: usize,
        bytes: &[u8],
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        match self.slots.get(at) {
            None | Some(Slot::Missing) => {}
            Some(Slot::Skipped | Slot::Whole(_)) => return Ok(Taken::Yes),
            Some(Slot::Parts(_)) => return Err(Violation::BadFragment),
        }
        if at == 0 {
            // Straight to the application: nothing to book, and mostly there is no slot to remove.
            let message = cx.pool.copy(bytes);
            cx.deliver(message);
            self.next += 1;
            if self.slots.pop_front().is_some() {
                cx.give_back(SLOT_COST);
                self.release(cx);
            }
        } else if self.reach(at, bytes.len() + PIECE_COST, cx) {
            self.slots[at] = Slot::Whole(cx.pool.copy(bytes));
        } else {
            return Ok(Taken::No);
        }
        Ok(Taken::Yes)
    }

    /// Books `cost` and makes slots up to the one at `at`, or does neither.
    fn reach(&mut self, at: usize, cost: usize, cx: &mut InboxContext<'_>) -> bool {
        let places = (at + 1).saturating_sub(self.slots.len());
        let fits = cx.book(cost + places * SLOT_COST, Need::awaited_if(at == 0));
        if fits {
            self.slots.extend((0..places).map(|_| Slot::Missing));
        }
        fits
    }

    pub(super) fn fragment(
        &mut self,
        at: usize,
        fragment: Fragment<'_>,
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        match self.slots.get(at) {
            Some(Slot::Skipped) => return Ok(Taken::Yes),
            Some(Slot::Whole(_)) => return Err(Violation::BadFragment),
            Some(Slot::Parts(_)) => {}
            None | Some(Slot::Missing) => {
                if !self.reach(at, Parts::cost_of(fragment.count), cx) {
                    return Ok(Taken::No);
                }
                self.slots[at] = Slot::Parts(Parts::new(fragment.count, cx.pool));
            }
        }
        let Some(Slot::Parts(parts)) = self.slots.get_mut(at) else { return Ok(Taken::No) };
        let taken = parts.add(fragment, Need::awaited_if(at == 0), cx)?;
        self.release(cx);
        Ok(taken)
    }

    /// The sender gave a message up: the order goes on without it, unless it is here.
    pub(super) fn skip(&mut self, at: usize, cx: &mut InboxContext<'_>) -> Taken {
        match self.slots.get(at) {
            Some(Slot::Skipped | Slot::Whole(_)) => return Taken::Yes,
            Some(Slot::Parts(parts)) if parts.is_complete() => return Taken::Yes,
            Some(Slot::Missing | Slot::Parts(_)) | None => {}
        }
        if !self.reach(at, 0, cx) {
            return Taken::No;
        }
        if let Slot::Parts(parts) = mem::replace(&mut self.slots[at], Slot::Skipped) {
            parts.give_up(cx);
        }
        self.release(cx);
        Taken::Yes
    }

    /// Delivers the messages that are next and whole.
    fn release(&mut self, cx: &mut InboxContext<'_>) {
        loop {
            match self.slots.front() {
                None => return shrink(&mut self.slots),
                Some(Slot::Missing) => return thin(&mut self.slots),
                Some(Slot::Parts(parts)) if !parts.is_complete() => return,
                Some(Slot::Skipped | Slot::Whole(_) | Slot::Parts(_)) => {}
            }
            cx.give_back(SLOT_COST);
            match self.slots.pop_front() {
                Some(Slot::Whole(bytes)) => {
                    cx.give_back(bytes.len() + PIECE_COST);
                    cx.deliver(bytes);
                }
                Some(Slot::Parts(parts)) => {
                    let message = parts.join(cx);
                    cx.deliver(message);
                }
                Some(Slot::Skipped | Slot::Missing) | None => {}
            }
            self.next += 1;
        }
    }
}
