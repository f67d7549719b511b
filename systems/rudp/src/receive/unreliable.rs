//! The receiving half of an unreliable channel, sequenced or not.

use std::{collections::VecDeque, time::Duration};

use super::{Fragment, InboxContext, Need, Taken, parts::Parts};
use crate::{channel::ChannelKind, error::Violation, timer::Micros};

/// Incomplete messages at once. At the bound the oldest is given up.
const PARTIAL_MAX: usize = 8;
/// How long a message may take from its first fragment to its last. They are sent together, so what has not come by
/// then was lost.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(1);

/// On a channel that is not sequenced, messages are dropped when they come after this many newer ones.
const LATE_MAX: u64 = 1024;
const WORDS: usize = LATE_MAX as usize / 64;

/// See the module.
pub(crate) struct Unreliable {
    is_sequenced: bool,
    /// The id after the newest message that was delivered.
    next: u64,
    /// On a channel that is not sequenced: a bit for each of the last ids, at its id modulo the size, set if the
    /// message was delivered. Made with the first gap, before which all were. No packet is opened twice, and no correct
    /// sender puts a message into two packets: this makes "at most once" hold for any sender.
    seen: Option<Box<[u64; WORDS]>>,
    /// Ordered by id.
    partial: VecDeque<Partial>,
}

struct Partial {
    id: u64,
    since: Micros,
    parts: Parts,
}

fn bit(id: u64) -> (usize, u64) {
    let at = (id % LATE_MAX) as usize;
    (at / 64, 1 << (at % 64))
}

impl Unreliable {
    pub(super) fn new(kind: ChannelKind) -> Unreliable {
        Unreliable {
            is_sequenced: kind == ChannelKind::Sequenced,
            // Ids on the wire begin at 0. Beginning higher here leaves room for those before the first that arrives.
            next: 1 << 16,
            seen: None,
            partial: VecDeque::new(),
        }
    }

    /// The whole id.
    fn unwrap(&self, id: u16) -> u64 {
        self.next.saturating_add_signed(i64::from(id.wrapping_sub(self.next as u16) as i16))
    }

    fn is_wanted(&self, id: u64) -> bool {
        if id >= self.next {
            return true;
        }
        let (word, bit) = bit(id);
        match &self.seen {
            Some(seen) if !self.is_sequenced => self.next - id <= LATE_MAX && seen[word] & bit == 0,
            _ => false,
        }
    }

    fn note_delivered(&mut self, id: u64) {
        if !self.is_sequenced {
            if id > self.next {
                self.seen.get_or_insert_with(|| Box::new([u64::MAX; WORDS]));
            }
            if let Some(seen) = &mut self.seen {
                // Those between the newest and this one are missing. A word at a time, since they may be many.
                let mut missed = self.next.max(id.saturating_sub(LATE_MAX));
                while missed < id {
                    let (word, bit) = bit(missed);
                    let count = (64 - missed % 64).min(id - missed);
                    seen[word] &= !((u64::MAX >> (64 - count)) * bit);
                    missed += count;
                }
                let (word, bit) = bit(id);
                seen[word] |= bit;
            }
        }
        self.next = self.next.max(id + 1);
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.partial.shrink_to_fit();
    }

    pub(super) fn message(&mut self, id: u16, bytes: &[u8], cx: &mut InboxContext<'_>) -> Taken {
        let id = self.unwrap(id);
        if self.is_wanted(id) {
            let message = cx.pool.copy(bytes);
            self.deliver(id, message, cx);
        } else {
            *cx.stale += 1;
        }
        Taken::Yes
    }

    pub(super) fn fragment(
        &mut self,
        now: Micros,
        id: u16,
        fragment: Fragment<'_>,
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        let id = self.unwrap(id);
        if !self.is_wanted(id) {
            // Counted once for a message, not for each of its fragments.
            *cx.stale += u64::from(fragment.index == 0);
            return Ok(Taken::Yes);
        }
        let at = match self.partial.binary_search_by_key(&id, |partial| partial.id) {
            Ok(at) => at,
            Err(at) => {
                if self.partial.len() == PARTIAL_MAX {
                    *cx.stale += 1;
                    if at == 0 {
                        return Ok(Taken::Yes);
                    }
                    self.drop_oldest(cx);
                }
                if !cx.book(Parts::cost_of(fragment.count), Need::Dispensable) {
                    return Ok(Taken::Yes);
                }
                let parts = Parts::new(fragment.count, cx.pool);
                let at = self.partial.partition_point(|partial| partial.id < id);
                self.partial.insert(at, Partial { id, since: now, parts });
                at
            }
        };
        let parts = &mut self.partial[at].parts;
        // A fragment that finds no room is lost, as if on its way.
        parts.add(fragment, Need::Dispensable, cx)?;
        if parts.is_complete()
            && let Some(partial) = self.partial.remove(at)
        {
            let message = partial.parts.join(cx);
            self.deliver(id, message, cx);
        }
        Ok(Taken::Yes)
    }

    #[inline]
    fn deliver(&mut self, id: u64, message: Vec<u8>, cx: &mut InboxContext<'_>) {
        cx.deliver(message);
        self.note_delivered(id);
        self.supersede(cx);
    }

    /// On a sequenced channel: gives up messages older than the last one delivered.
    fn supersede(&mut self, cx: &mut InboxContext<'_>) {
        while self.is_sequenced && self.partial.front().is_some_and(|oldest| oldest.id < self.next) {
            *cx.stale += 1;
            self.drop_oldest(cx);
        }
    }

    fn drop_oldest(&mut self, cx: &mut InboxContext<'_>) {
        if let Some(oldest) = self.partial.pop_front() {
            oldest.parts.give_up(cx);
        }
    }

    pub(super) fn deadline(&self) -> Option<Micros> {
        self.partial.iter().map(|partial| partial.since + PARTIAL_AGE_MAX).min()
    }

    pub(super) fn on_timeout(&mut self, now: Micros) -> (u64, usize) {
        let (mut count, mut cost) = (0, 0);
        self.partial.retain(|partial| {
            let stays = partial.since + PARTIAL_AGE_MAX > now;
            if !stays {
                (count, cost) = (count + 1, cost + partial.parts.cost());
            }
            stays
        });
        (count, cost)
    }
}
