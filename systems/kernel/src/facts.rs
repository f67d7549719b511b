//! Facts: reports of what happened, for any number of readers. Each reader sees every fact exactly once, however seldom
//! it runs, as long as no more than [`FACTS_MAX`] facts of that kind wait for it.
//!
//! Bevy drops its own messages two frames after they were written, so a system that runs once a second misses most of
//! them. A fact stays until every registered reader has seen it. Readers write nothing that they share, so two of them
//! need no order between them.

use std::any::TypeId;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use crate::clock::Clock;
use crate::failures;

/// The most facts of one kind that wait for a reader. A reader that is this far behind has a defect: the oldest facts
/// are dropped, and the frame reports the reader like a system that failed. 65,536 is over three times the number of
/// sessions that a server admits by default.
pub const FACTS_MAX: usize = 65_536;

/// The type of a fact: plain data. It has to be complete in itself, because its subject may be gone when a reader sees
/// it.
pub trait Fact: Send + Sync + 'static {}

impl<F: Send + Sync + 'static> Fact for F {}

/// The facts of one kind that some reader has not seen yet.
#[derive(Resource, Debug)]
pub struct Facts<F: Fact> {
    kept: VecDeque<F>,
    /// The number of the first fact in `kept`. Facts are numbered from 0 in the order of writing.
    first: u64,
    /// The number of the first fact after the last [`mark`]: facts with lower numbers were written before it.
    marked: u64,
    /// The number of the first fact after the last frame.
    settled: u64,
    /// For each reader the number of the first fact that it has not seen. Each is shared with its reader, which
    /// advances it without writing to the world. When the reader is dropped, this is the only reference left.
    readers: Vec<Arc<AtomicU64>>,
}

impl<F: Fact> Default for Facts<F> {
    fn default() -> Self {
        Facts { kept: VecDeque::new(), first: 0, marked: 0, settled: 0, readers: Vec::new() }
    }
}

impl<F: Fact> Facts<F> {
    /// Adds a fact. Readers that run later in this frame see it in this frame, all others in the next frame, which is
    /// then run even if nothing else requests it.
    pub fn write(&mut self, fact: F) {
        self.kept.push_back(fact);
    }

    /// The facts that were written before the last [`mark`], among those that are still kept.
    pub(crate) fn before_mark(&self) -> impl Iterator<Item = &F> + '_ {
        let count = usize::try_from(self.marked - self.first).unwrap_or(usize::MAX);
        self.kept.iter().take(count)
    }

    /// The number of the next fact to be written.
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Drops the facts that every reader has seen, and the oldest ones beyond [`FACTS_MAX`].
    fn settle(&mut self) -> Settled {
        self.readers.retain(|reader| Arc::strong_count(reader) > 1);
        let seen = self.readers.iter().map(|reader| reader.load(Ordering::Relaxed)).min();
        // Facts after the mark stay: the kernel reads them with `before_mark` after the next mark.
        let seen = seen.unwrap_or(self.end()).min(self.marked);
        let excess = self.kept.len().saturating_sub(FACTS_MAX);
        let dropped = usize::try_from(seen.saturating_sub(self.first)).unwrap_or(usize::MAX).max(excess);
        let from = self.first + dropped as u64;
        let missed = self.readers.iter().any(|reader| reader.load(Ordering::Relaxed) < from);
        // A reader in an earlier stage than the writer sees the fact in the next frame, so that frame has to run. Only
        // that one: a reader that does not run in every frame makes its own wake-up requests.
        let end = self.end();
        let unread = self.readers.iter().any(|reader| reader.load(Ordering::Relaxed) < end);
        let late = end > self.marked || (unread && end > self.settled);
        self.settled = end;
        self.kept.drain(..dropped.min(self.kept.len()));
        self.first = from;
        self.marked = self.marked.max(self.first);
        if self.kept.is_empty() {
            // Frees the memory of a burst.
            self.kept.shrink_to(64);
        }
        Settled { late, missed }
    }
}

/// The result of [`Facts::settle`].
struct Settled {
    /// Whether the next frame has to run: a fact of this frame was written after the mark, or some reader has not seen
    /// it.
    late: bool,
    /// Whether facts were dropped that some reader had not seen.
    missed: bool,
}

/// The position of one reader: for exclusive systems, which cannot have a [`FactReader`]. Create it while the plugin is
/// built.
#[derive(Debug)]
pub struct FactCursor<F: Fact> {
    /// The number of the first fact that the reader has not seen.
    next: Arc<AtomicU64>,
    of: PhantomData<fn() -> F>,
}

impl<F: Fact> FactCursor<F> {
    /// The facts that this reader has not seen, in the order of writing, which count as seen from now on. Facts that
    /// were dropped because the reader was more than [`FACTS_MAX`] behind are missing.
    pub fn read<'f>(&self, facts: &'f Facts<F>) -> impl Iterator<Item = &'f F> + use<'f, F> {
        let from = self.next.swap(facts.end(), Ordering::Relaxed);
        let skip = usize::try_from(from.saturating_sub(facts.first)).unwrap_or(usize::MAX);
        facts.kept.iter().skip(skip)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self, facts: &Facts<F>) -> bool {
        self.next.load(Ordering::Relaxed) >= facts.end()
    }
}

impl<F: Fact> FromWorld for FactCursor<F> {
    /// Registers a reader, which sees the facts that are written from now on.
    fn from_world(world: &mut World) -> Self {
        let mut facts = world.get_resource_or_init::<Facts<F>>();
        let next = Arc::new(AtomicU64::new(facts.end()));
        facts.readers.push(next.clone());
        FactCursor { next, of: PhantomData }
    }
}

/// Reads facts in a system. It sees every fact that is written after the server was built, exactly once, even if it
/// runs only once a second; see [`FACTS_MAX`] for the bound.
///
/// ```
/// # use kaos_kernel::prelude::*;
/// fn say_goodbye(mut ends: FactReader<SessionEnding>) {
///     for end in ends.read() {
///         tracing::info!(user = %end.user_id, reason = end.reason, "gone");
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct FactReader<'w, 's, F: Fact> {
    facts: Res<'w, Facts<F>>,
    cursor: Local<'s, FactCursor<F>>,
}

impl<F: Fact> FactReader<'_, '_, F> {
    /// The facts that this system has not seen, in the order of writing, which count as seen from now on.
    pub fn read(&mut self) -> impl Iterator<Item = &F> + '_ {
        self.cursor.read(&self.facts)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.cursor.is_empty(&self.facts)
    }
}

/// One kind of fact, and what a frame does with it.
#[derive(Clone, Copy)]
struct FactKind {
    id: TypeId,
    name: &'static str,
    mark: fn(&mut World),
    settle: fn(&mut World) -> Settled,
}

/// The kinds of facts that are registered.
#[derive(Resource, Default)]
pub(crate) struct FactKinds(Vec<FactKind>);

/// Registers a kind of fact. A second registration changes nothing.
pub(crate) fn add<F: Fact>(app: &mut App) {
    app.init_resource::<Facts<F>>().init_resource::<FactKinds>();
    let kind = FactKind {
        id: TypeId::of::<F>(),
        name: std::any::type_name::<F>(),
        mark: |world| {
            let mut facts = world.resource_mut::<Facts<F>>();
            let facts = facts.bypass_change_detection();
            facts.marked = facts.end();
        },
        settle: |world| world.resource_mut::<Facts<F>>().bypass_change_detection().settle(),
    };
    let mut kinds = app.world_mut().resource_mut::<FactKinds>();
    if !kinds.0.iter().any(|known| known.id == kind.id) {
        kinds.0.push(kind);
    }
}

/// Divides a frame at the end of `Core::Serve`: readers in `Core::Match` and `Stage::Match` see in this frame every
/// fact that was written before the mark.
pub(crate) fn mark(world: &mut World) {
    for index in 0..world.resource::<FactKinds>().0.len() {
        if let Some(kind) = world.resource::<FactKinds>().0.get(index).copied() {
            (kind.mark)(world);
        }
    }
}

/// Drops the facts that every reader has seen, at the end of a frame. Requests the next frame if readers of this one
/// missed a fact because it was written too late for them.
pub(crate) fn settle(world: &mut World) {
    for index in 0..world.resource::<FactKinds>().0.len() {
        let Some(kind) = world.resource::<FactKinds>().0.get(index).copied() else { continue };
        let settled = (kind.settle)(world);
        if settled.late {
            let clock = world.resource::<Clock>();
            clock.wake_at(clock.frame() + 1);
        }
        if settled.missed {
            let error = format!("it has not run for {FACTS_MAX} facts, and missed the oldest of them");
            failures::note(format!("a reader of `{}`", kind.name), error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cursor: &FactCursor<u32>, facts: &Facts<u32>) -> Vec<u32> {
        cursor.read(facts).copied().collect()
    }

    #[test]
    fn every_reader_sees_every_fact_once_however_seldom_it_reads() {
        let mut world = World::new();
        world.init_resource::<Facts<u32>>();
        let (often, seldom) =
            (FactCursor::<u32>::from_world(&mut world), FactCursor::<u32>::from_world(&mut world));
        let mut facts = world.resource_mut::<Facts<u32>>();
        for n in 0..10 {
            facts.write(n);
            facts.marked = facts.end();
            assert_eq!(read(&often, &facts), [n]);
            assert!(!facts.settle().missed);
            assert_eq!(facts.kept.len() as u32, n + 1, "kept for the other");
        }
        assert_eq!(read(&seldom, &facts), (0..10).collect::<Vec<_>>());
        facts.settle();
        assert!(facts.kept.is_empty() && seldom.is_empty(&facts));
        drop(seldom);
        facts.write(10);
        facts.marked = facts.end();
        assert_eq!(read(&often, &facts), [10]);
        facts.settle();
        assert!(facts.kept.is_empty(), "a reader that is gone keeps nothing");
    }

    #[test]
    fn what_is_written_after_the_mark_stays_for_the_next_frame() {
        let mut facts = Facts::<u32>::default();
        facts.write(1);
        facts.marked = facts.end();
        facts.write(2);
        assert_eq!(facts.before_mark().copied().collect::<Vec<_>>(), [1]);
        assert!(facts.settle().late);
        facts.marked = facts.end();
        assert_eq!(facts.before_mark().copied().collect::<Vec<_>>(), [2]);
        assert!(!facts.settle().late && facts.kept.is_empty());
    }

    #[test]
    fn a_reader_that_never_runs_is_told_of_and_holds_no_memory_without_end() {
        let mut world = World::new();
        let idle = FactCursor::<u32>::from_world(&mut world);
        let mut facts = world.resource_mut::<Facts<u32>>();
        for n in 0..=FACTS_MAX as u32 {
            facts.write(n);
        }
        facts.marked = facts.end();
        assert!(facts.settle().missed);
        assert_eq!((facts.kept.len(), read(&idle, &facts)[0]), (FACTS_MAX, 1));
    }
}
