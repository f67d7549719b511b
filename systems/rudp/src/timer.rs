//! Virtual time, and the one ordered set of deadlines that makes an idle peer cost nothing.

use std::{
    collections::BTreeSet,
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// A moment: microseconds since any fixed start. Only differences matter; it must never run backwards between calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// The start of time.
    pub const ZERO: Micros = Micros(0);

    /// A moment `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;

    /// Saturates: a configured "never" of [`Duration::MAX`] must not wrap into the past.
    fn add(self, by: Duration) -> Micros {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Micros(self.0.saturating_add(by))
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
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Micros(self.0.saturating_sub(by))
    }
}

impl Sub for Micros {
    type Output = Duration;

    fn sub(self, earlier: Micros) -> Duration {
        self.since(earlier)
    }
}

/// One deadline per slot, ordered.
///
/// Deadlines are moved lazily: a later wish leaves the earlier entry in place, which then fires once for nothing and
/// is set anew. So a busy connection, whose idle deadline moves with every packet, touches the set a few times a second.
#[derive(Default)]
pub(crate) struct Deadlines {
    set: BTreeSet<(Micros, u32)>,
}

impl Deadlines {
    /// Makes sure that `slot` fires at `wanted` or before. `registered` is the entry that the slot has now.
    pub(crate) fn want(&mut self, slot: u32, registered: &mut Option<Micros>, wanted: Option<Micros>) {
        let Some(wanted) = wanted else { return };
        if registered.is_some_and(|at| at <= wanted) {
            return;
        }
        self.cancel(slot, registered);
        self.set.insert((wanted, slot));
        *registered = Some(wanted);
    }

    pub(crate) fn cancel(&mut self, slot: u32, registered: &mut Option<Micros>) {
        if let Some(at) = registered.take() {
            self.set.remove(&(at, slot));
        }
    }

    pub(crate) fn first(&self) -> Option<Micros> {
        self.set.first().map(|&(at, _)| at)
    }

    /// Takes the next slot whose entry is due; its owner must forget `registered`.
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<u32> {
        let &(at, slot) = self.set.first()?;
        if at > now {
            return None;
        }
        self.set.pop_first();
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_wish_keeps_the_entry_and_an_earlier_one_moves_it() {
        let mut deadlines = Deadlines::default();
        let mut registered = None;
        deadlines.want(7, &mut registered, Some(Micros(50)));
        deadlines.want(7, &mut registered, Some(Micros(90)));
        assert_eq!(deadlines.first(), Some(Micros(50)));
        deadlines.want(7, &mut registered, Some(Micros(20)));
        assert_eq!((deadlines.first(), deadlines.set.len()), (Some(Micros(20)), 1));
        assert_eq!(deadlines.pop_due(Micros(19)), None);
        assert_eq!(deadlines.pop_due(Micros(20)), Some(7));
        assert_eq!(deadlines.first(), None);
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Micros(5) + Duration::MAX, Micros(u64::MAX));
        assert_eq!(Micros(5) - Micros(9), Duration::ZERO);
    }
}
