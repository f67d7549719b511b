//! The receiving half of an unreliable channel, sequenced or not.

use std::{collections::VecDeque, time::Duration};

use super::{Budget, Fragment, Taken, parts::Parts};
use crate::{error::Violation, timer::Micros};

/// Incomplete messages at once. At the bound the oldest is given up.
const PARTIAL_MAX: usize = 8;
/// How long a message may take from its first fragment to its last. They leave together, so what comes later than this
/// was lost.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Loose {
    is_sequenced: bool,
    /// The id after the newest that was seen; on a sequenced channel after the newest delivered.
    next: u64,
    /// Ordered by id.
    partial: VecDeque<Partial>,
}

struct Partial {
    id: u64,
    since: Micros,
    parts: Parts,
}

impl Loose {
    pub(super) fn new(is_sequenced: bool) -> Loose {
        // Ids begin at 0; the start leaves room for what comes before the first that arrives.
        Loose { is_sequenced, next: 1 << 16, partial: VecDeque::new() }
    }

    /// The whole id, and whether it is newer than all before.
    fn unwrap(&self, id: u16) -> (u64, bool) {
        let distance = i64::from(id.wrapping_sub(self.next as u16) as i16);
        (self.next.saturating_add_signed(distance), distance >= 0)
    }

    pub(super) fn message(
        &mut self,
        id: u16,
        bytes: &[u8],
        budget: &mut Budget<'_>,
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Taken {
        let (id, is_newer) = self.unwrap(id);
        if is_newer {
            self.next = id + 1;
        }
        if is_newer || !self.is_sequenced {
            deliver(budget.pool.copy(bytes));
            self.supersede(budget);
        } else {
            *budget.stale += 1;
        }
        Taken::Yes
    }

    pub(super) fn fragment(
        &mut self,
        now: Micros,
        id: u16,
        fragment: Fragment<'_>,
        budget: &mut Budget<'_>,
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Result<Taken, Violation> {
        let (id, is_newer) = self.unwrap(id);
        if !is_newer && self.is_sequenced {
            // Counted once, not for each of its fragments.
            *budget.stale += u64::from(fragment.index == 0);
            return Ok(Taken::Yes);
        }
        if is_newer && !self.is_sequenced {
            self.next = id + 1;
        }
        let at = match self.partial.binary_search_by_key(&id, |partial| partial.id) {
            Ok(at) => at,
            Err(at) => {
                if self.partial.len() == PARTIAL_MAX {
                    *budget.stale += 1;
                    if at == 0 {
                        return Ok(Taken::Yes);
                    }
                    self.drop_oldest(budget);
                }
                if !budget.take(Parts::cost_of(fragment.count), false) {
                    return Ok(Taken::Yes);
                }
                let parts = Parts::new(fragment.count, budget.pool);
                let at = self.partial.partition_point(|partial| partial.id < id);
                self.partial.insert(at, Partial { id, since: now, parts });
                at
            }
        };
        let parts = &mut self.partial[at].parts;
        // What finds no room is lost, as it might have been on the way.
        parts.add(fragment, false, budget)?;
        if parts.is_complete()
            && let Some(partial) = self.partial.remove(at)
        {
            deliver(partial.parts.join(budget));
            if self.is_sequenced {
                self.next = id + 1;
                self.supersede(budget);
            }
        }
        Ok(Taken::Yes)
    }

    /// Gives up what may not be delivered any more.
    fn supersede(&mut self, budget: &mut Budget<'_>) {
        while self.is_sequenced && self.partial.front().is_some_and(|oldest| oldest.id < self.next) {
            *budget.stale += 1;
            self.drop_oldest(budget);
        }
    }

    fn drop_oldest(&mut self, budget: &mut Budget<'_>) {
        if let Some(oldest) = self.partial.pop_front() {
            oldest.parts.give_up(budget);
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
