//! Facts: what happened, told to any number of readers. Each reader sees every fact exactly once, however seldom it runs.
//!
//! Bevy's own messages are gone two frames after they were written, so that a system which runs once a second misses most
//! of them. A fact stays until every registered reader has seen it. Readers do not share anything that is written, so two
//! of them need no order between them.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use crate::clock::Clock;
use crate::failures;

/// Facts of one kind that may wait for a reader. A reader that has not run for so many has a defect: the oldest are
/// dropped, and the frame reports it as it reports a system that failed. 65,536 ends of sessions are over three times
/// the sessions that a server holds by default.
pub const FACTS_MAX: usize = 65_536;

/// What can be told: plain data. It has to say everything by itself, since a reader may see it when what it is about is
/// gone.
pub trait Fact: Send + Sync + 'static {}

impl<F: Send + Sync + 'static> Fact for F {}

/// The facts of one kind that some reader has not seen yet.
#[derive(Resource, Debug)]
pub struct Facts<F: Fact> {
    kept: VecDeque<F>,
    /// The number of the first that is kept; facts are numbered from 0 in the order of writing.
    first: u64,
    /// The number of the first that was written after [`mark`].
    marked: u64,
    /// The number of the first that was written after the last frame.
    settled: u64,
    /// How far each reader has come. Shared with the reader, which moves it without writing to the world: a reader that
    /// is gone leaves the only reference here.
    readers: Vec<Arc<AtomicU64>>,
}

impl<F: Fact> Default for Facts<F> {
    fn default() -> Self {
        Facts { kept: VecDeque::new(), first: 0, marked: 0, settled: 0, readers: Vec::new() }
    }
}

impl<F: Fact> Facts<F> {
    /// Tells a fact. Readers that run later in this frame see it in this frame, all others in the next one, which comes
    /// even when nothing else asks for it.
    pub fn write(&mut self, fact: F) {
        self.kept.push_back(fact);
    }

    /// The facts that were written before the last [`mark`], among those that are still kept.
    pub(crate) fn before_mark(&self) -> impl Iterator<Item = &F> + '_ {
        let count = usize::try_from(self.marked - self.first).unwrap_or(usize::MAX);
        self.kept.iter().take(count)
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Drops what every reader has seen. Returns whether something was written after the mark.
    fn settle(&mut self) -> Settled {
        self.readers.retain(|reader| Arc::strong_count(reader) > 1);
        let seen = self.readers.iter().map(|reader| reader.load(Ordering::Relaxed)).min();
        // What the kernel itself has to look at once more stays until the next mark has passed it.
        let seen = seen.unwrap_or(self.end()).min(self.marked);
        let over = self.kept.len().saturating_sub(FACTS_MAX);
        let drop = usize::try_from(seen.saturating_sub(self.first)).unwrap_or(usize::MAX).max(over);
        let from = self.first + drop as u64;
        let missed = self.readers.iter().any(|reader| reader.load(Ordering::Relaxed) < from);
        // A reader in an earlier stage than the writer sees it in the next frame, so that has to come. Once: a reader that
        // does not run in each frame asks for its own.
        let end = self.end();
        let unread = self.readers.iter().any(|reader| reader.load(Ordering::Relaxed) < end);
        let late = end > self.marked || (unread && end > self.settled);
        self.settled = end;
        self.kept.drain(..drop.min(self.kept.len()));
        self.first = from;
        self.marked = self.marked.max(self.first);
        if self.kept.is_empty() {
            // The memory of a burst.
            self.kept.shrink_to(64);
        }
        Settled { late, missed }
    }
}

struct Settled {
    /// A reader that may run in each frame has not seen what was written in this one: the next frame has to come.
    late: bool,
    /// A reader lost facts.
    missed: bool,
}

/// How far one reader has come: for exclusive systems, which have no [`FactReader`]. Make it while the plugin is built.
#[derive(Debug)]
pub struct FactCursor<F: Fact> {
    at: Arc<AtomicU64>,
    of: PhantomData<fn() -> F>,
}

impl<F: Fact> FactCursor<F> {
    /// The facts that this reader has not seen, in the order of writing. Those that were dropped since it did not run
    /// for [`FACTS_MAX`] of them are missing.
    pub fn read<'f>(&self, facts: &'f Facts<F>) -> impl Iterator<Item = &'f F> + use<'f, F> {
        let from = self.at.swap(facts.end(), Ordering::Relaxed);
        let skip = usize::try_from(from.saturating_sub(facts.first)).unwrap_or(usize::MAX);
        facts.kept.iter().skip(skip)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self, facts: &Facts<F>) -> bool {
        self.at.load(Ordering::Relaxed) >= facts.end()
    }
}

impl<F: Fact> FromWorld for FactCursor<F> {
    /// Registers a reader, which sees what is written from now on.
    fn from_world(world: &mut World) -> Self {
        let mut facts = world.get_resource_or_init::<Facts<F>>();
        let at = Arc::new(AtomicU64::new(facts.end()));
        facts.readers.push(at.clone());
        FactCursor { at, of: PhantomData }
    }
}

/// Reads facts in a system. It sees every one that is written after the server was built, exactly once: also when it runs
/// once a second.
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
    /// The facts that this system has not seen, in the order of writing.
    pub fn read(&mut self) -> impl Iterator<Item = &F> + '_ {
        self.cursor.read(&self.facts)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.cursor.is_empty(&self.facts)
    }
}

type Mark = fn(&mut World);
type Settle = fn(&mut World) -> (&'static str, Settled);

/// What is done with every kind of fact in every frame.
#[derive(Resource, Default)]
pub(crate) struct FactKinds(Vec<(Mark, Settle)>);

/// Adds a kind of fact to the server.
pub(crate) fn add<F: Fact>(app: &mut App) {
    app.init_resource::<Facts<F>>().init_resource::<FactKinds>();
    let mark: Mark = |world| {
        let mut facts = world.resource_mut::<Facts<F>>();
        let facts = facts.bypass_change_detection();
        facts.marked = facts.end();
    };
    let settle: Settle = |world| {
        let settled = world.resource_mut::<Facts<F>>().bypass_change_detection().settle();
        (std::any::type_name::<F>(), settled)
    };
    let mut kinds = app.world_mut().resource_mut::<FactKinds>();
    if !kinds.0.iter().any(|(known, _)| std::ptr::fn_addr_eq(*known, mark)) {
        kinds.0.push((mark, settle));
    }
}

/// Divides a frame: every reader of `Core::Match` and `Stage::Match` sees in this frame what was written before.
pub(crate) fn mark(world: &mut World) {
    for at in 0..world.resource::<FactKinds>().0.len() {
        if let Some((mark, _)) = world.resource::<FactKinds>().0.get(at).copied() {
            mark(world);
        }
    }
}

/// Forgets what every reader has seen, at the end of a frame. What was written too late for this frame's readers brings
/// the next one.
pub(crate) fn settle(world: &mut World) {
    for at in 0..world.resource::<FactKinds>().0.len() {
        let Some((_, settle)) = world.resource::<FactKinds>().0.get(at).copied() else { continue };
        let (name, settled) = settle(world);
        if settled.late {
            let clock = world.resource::<Clock>();
            clock.wake_at(clock.frame() + 1);
        }
        if settled.missed {
            let said = format!("it has not run for {FACTS_MAX} facts, and missed the oldest of them");
            failures::note(format!("a reader of `{name}`"), said);
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
