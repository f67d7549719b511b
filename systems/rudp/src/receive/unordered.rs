//! The receiving half of a reliable channel without order.

use std::collections::VecDeque;

use super::{Fragment, IDS_AHEAD_MAX, InboxContext, Need, Taken, parts::Parts, place};
use crate::{error::Violation, queue::shrink};

/// Incomplete messages at once. A sender with more of them under way has to repeat some.
const PARTIAL_MAX: usize = 256;
const WORDS: usize = IDS_AHEAD_MAX / 64;

/// See the module.
#[derive(Default)]
pub(crate) struct Unordered {
    /// All messages with lower ids were delivered or will not come.
    next: u64,
    /// A bit for each id from `next` on, at its id modulo the size: whether that message was delivered or will not
    /// come. Made with the first gap: 1 KiB.
    done: Option<Box<[u64; WORDS]>>,
    /// Ordered by id, so that a frame costs a binary search.
    partial: VecDeque<(u64, Parts)>,
}

fn bit(id: u64) -> (usize, u64) {
    let at = id as usize % IDS_AHEAD_MAX;
    (at / 64, 1 << (at % 64))
}

impl Unordered {
    fn is_done(&self, id: u64) -> bool {
        let (word, bit) = bit(id);
        self.done.as_ref().is_some_and(|done| done[word] & bit != 0)
    }

    /// Notes that a message was delivered, or will not come.
    fn finish(&mut self, id: u64) {
        if id != self.next {
            let (word, bit) = bit(id);
            self.done.get_or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
            return;
        }
        self.next += 1;
        let Some(done) = &mut self.done else { return };
        loop {
            let (word, bit) = bit(self.next);
            if done[word] & bit == 0 {
                return;
            }
            done[word] &= !bit;
            self.next += 1;
        }
    }

    /// The whole id of a message; an error if nothing of it is of use.
    pub(super) fn place(&self, id: u16) -> Result<u64, Taken> {
        let id = self.next + place(id, self.next)? as u64;
        if self.is_done(id) { Err(Taken::Yes) } else { Ok(id) }
    }

    /// Where the fragments of a message are, or the place for them.
    fn find(&self, id: u64) -> Result<usize, usize> {
        self.partial.binary_search_by_key(&id, |(partial, _)| *partial)
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.partial.shrink_to_fit();
        self.done.take_if(|done| done.iter().all(|&word| word == 0));
    }

    pub(super) fn message(
        &mut self,
        id: u64,
        bytes: &[u8],
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        if self.find(id).is_ok() {
            return Err(Violation::BadFragment);
        }
        let message = cx.pool.copy(bytes);
        cx.deliver(message);
        self.finish(id);
        Ok(Taken::Yes)
    }

    pub(super) fn fragment(
        &mut self,
        id: u64,
        fragment: Fragment<'_>,
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        let need = Need::awaited_if(id == self.next);
        let at = match self.find(id) {
            Ok(at) => at,
            Err(at) => {
                let has_place = self.partial.len() < PARTIAL_MAX || need == Need::Awaited;
                if !has_place || !cx.book(Parts::cost_of(fragment.count), need) {
                    return Ok(Taken::No);
                }
                self.partial.insert(at, (id, Parts::new(fragment.count, cx.pool)));
                at
            }
        };
        let Some((_, parts)) = self.partial.get_mut(at) else { return Ok(Taken::No) };
        let taken = parts.add(fragment, need, cx)?;
        if parts.is_complete()
            && let Some((_, parts)) = self.partial.remove(at)
        {
            let message = parts.join(cx);
            cx.deliver(message);
            self.finish(id);
            shrink(&mut self.partial);
        }
        Ok(taken)
    }

    /// The sender gave a message up.
    pub(super) fn skip(&mut self, id: u64, cx: &mut InboxContext<'_>) -> Taken {
        if let Some((_, parts)) = self.find(id).ok().and_then(|at| self.partial.remove(at)) {
            parts.give_up(cx);
        }
        self.finish(id);
        Taken::Yes
    }
}
