//! Virtual time, and the one ordered set of deadlines that makes an idle peer cost nothing.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// A point in time: microseconds since any fixed start. Only differences matter; between calls it must never run
/// backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// The start of time.
    pub const ZERO: Micros = Micros(0);

    /// The time `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Never, as a deadline.
pub(crate) const NEVER: Micros = Micros(u64::MAX);

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// `Duration::as_micros` without its 128 bits.
fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
}

/// A duration in nanoseconds: one number instead of the two of a `Duration`. More than 584 years count as 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

impl Micros {
    /// The time that many nanoseconds later.
    pub(crate) fn after(self, nanos: u64) -> Micros {
        Micros(self.0.saturating_add(nanos / 1000))
    }

    /// Nanoseconds since `earlier`; zero when `earlier` is later.
    pub(crate) fn nanos_since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0).saturating_mul(1000)
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;

    /// Saturates: a configured "never" of [`Duration::MAX`] must not wrap into the past.
    fn add(self, by: Duration) -> Micros {
        Micros(self.0.saturating_add(micros(by)))
    }
}

impl AddAssign<Duration> for Micros {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Micros {
    type Output = Micros;

    fn sub(self, by: Duration) -> Micros {
        Micros(self.0.saturating_sub(micros(by)))
    }
}

impl Sub for Micros {
    type Output = Duration;

    fn sub(self, earlier: Micros) -> Duration {
        self.since(earlier)
    }
}

/// In the table of places: no place.
const NOWHERE: u32 = u32::MAX;
/// Places for which memory is kept for good.
const KEPT: usize = 128;

/// One deadline per slot, the earliest first: a binary heap that knows where each slot is in it, so that moving a
/// deadline neither allocates nor leaves anything behind.
///
/// Deadlines are moved lazily: when a later one is wanted, the earlier entry stays, fires once for nothing, and is then
/// set anew. So a busy connection, whose idle deadline moves with every packet, touches the heap a few times a second.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: Vec<(Micros, u32)>,
    /// Where each slot is in `heap`.
    places: Vec<u32>,
    /// The most deadlines of late.
    most: usize,
}

impl Deadlines {
    /// Makes sure that `slot` fires at `wanted` or earlier. `registered` is the entry that the slot has now.
    pub(crate) fn want(&mut self, slot: u32, registered: &mut Option<Micros>, wanted: Micros) {
        match registered {
            Some(at) if *at <= wanted => return,
            Some(_) => self.lift(self.places[slot as usize] as usize, (wanted, slot)),
            None => {
                if self.places.len() <= slot as usize {
                    self.places.resize(slot as usize + 1, NOWHERE);
                }
                self.heap.push((wanted, slot));
                self.most = self.most.max(self.heap.len());
                self.lift(self.heap.len() - 1, (wanted, slot));
            }
        }
        *registered = Some(wanted);
    }

    pub(crate) fn cancel(&mut self, slot: u32, registered: &mut Option<Micros>) {
        if registered.take().is_some() {
            self.remove(self.places[slot as usize] as usize);
        }
    }

    pub(crate) fn first(&self) -> Option<Micros> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Takes the next slot whose entry is due; its owner must forget `registered`.
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<u32> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    /// Gives back the memory that a crowd needed. Call once a second or so.
    pub(crate) fn trim(&mut self) {
        while self.places.len() > self.most && self.places.last() == Some(&NOWHERE) {
            self.places.pop();
        }
        if self.places.capacity() > KEPT.max(self.places.len() * 4) {
            self.places.shrink_to(KEPT.max(self.places.len() * 2));
        }
        if self.heap.capacity() > KEPT.max(self.most * 4) {
            self.heap.shrink_to(KEPT.max(self.most * 2));
        }
        self.most = self.heap.len().max(self.most / 2);
    }

    fn remove(&mut self, at: usize) {
        let (_, slot) = self.heap.swap_remove(at);
        self.places[slot as usize] = NOWHERE;
        if let Some(&moved) = self.heap.get(at) {
            self.sink(at, moved);
            self.lift(self.places[moved.1 as usize] as usize, moved);
        }
    }

    fn put(&mut self, at: usize, entry: (Micros, u32)) {
        self.heap[at] = entry;
        self.places[entry.1 as usize] = at as u32;
    }

    /// Puts `entry` at `at` or nearer to the front.
    fn lift(&mut self, mut at: usize, entry: (Micros, u32)) {
        while at > 0 && entry < self.heap[(at - 1) / 2] {
            let above = (at - 1) / 2;
            self.put(at, self.heap[above]);
            at = above;
        }
        self.put(at, entry);
    }

    /// Puts `entry` at `at` or nearer to the end.
    fn sink(&mut self, mut at: usize, entry: (Micros, u32)) {
        loop {
            let below = 2 * at + 1;
            let Some(&first) = self.heap.get(below) else { break };
            let below = match self.heap.get(below + 1) {
                Some(&second) if second < first => below + 1,
                _ => below,
            };
            if self.heap[below] >= entry {
                break;
            }
            self.put(at, self.heap[below]);
            at = below;
        }
        self.put(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_wish_keeps_the_entry_and_an_earlier_one_moves_it() {
        let mut deadlines = Deadlines::default();
        let mut registered = None;
        deadlines.want(7, &mut registered, Micros(50));
        deadlines.want(7, &mut registered, Micros(90));
        assert_eq!(deadlines.first(), Some(Micros(50)));
        deadlines.want(7, &mut registered, Micros(20));
        assert_eq!((deadlines.first(), deadlines.heap.len()), (Some(Micros(20)), 1));
        assert_eq!(deadlines.pop_due(Micros(19)), None);
        assert_eq!(deadlines.pop_due(Micros(20)), Some(7));
        assert_eq!(deadlines.first(), None);
    }

    #[test]
    fn the_heap_is_what_an_ordered_set_would_be() {
        let (mut deadlines, mut set) = (Deadlines::default(), std::collections::BTreeSet::new());
        let mut registered = [None; 50];
        let mut random = 1u64;
        for round in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (random >> 33) as u32 % 50;
            let own = &mut registered[slot as usize];
            let (old, wanted) = (*own, Micros(round / 4 + (random >> 50) % 300));
            match random >> 60 {
                0 => deadlines.cancel(slot, own),
                1..4 => {
                    while let Some(slot) = deadlines.pop_due(Micros(round / 4)) {
                        let expected = set.pop_first();
                        assert_eq!(expected, registered[slot as usize].take().map(|at| (at, slot)));
                    }
                    assert!(set.first().is_none_or(|&(at, _)| at > Micros(round / 4)));
                    continue;
                }
                _ => deadlines.want(slot, own, wanted),
            }
            old.map(|at| set.remove(&(at, slot)));
            own.map(|at| set.insert((at, slot)));
            assert_eq!(deadlines.first(), set.first().map(|&(at, _)| at));
            if round % 1000 == 0 {
                deadlines.trim();
            }
        }
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Micros(5) + Duration::MAX, Micros(u64::MAX));
        assert_eq!(Micros(5) - Micros(9), Duration::ZERO);
    }
}
