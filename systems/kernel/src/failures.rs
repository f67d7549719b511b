//! What fails in a frame and must not end it: systems that panic or cannot run, and guards around single pieces of work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_ecs::error::{BevyError, ErrorContext};

use crate::fault::{Fault, FaultKind};

thread_local! {
    /// What failed since it was taken last. Bevy's handler is a plain function without a world: this is its way
    /// into the frame that runs on this thread, and empty between frames.
    static FAILED: RefCell<BTreeMap<String, (u64, String)>> = const { RefCell::new(BTreeMap::new()) };
}

/// The crates whose systems hold the state of the whole server: half of one of their stages is no state to go on from.
const OWN: [&str; 2] = ["kaos_kernel::", "kaos_rooms::"];

/// Bevy's error handler: a plugin's system, run condition, command or observer is noted and the frame goes on
/// without it; a panic that escapes a system of the server itself goes on to whoever runs the frame.
pub(crate) fn failed(mut error: BevyError, context: ErrorContext) {
    let name = context.name().to_string();
    if matches!(context, ErrorContext::System { .. }) && OWN.iter().any(|own| name.starts_with(own)) {
        bevy_ecs::error::panic(error, context);
        return;
    }
    let what = format!("{} `{name}`", context.kind());
    let said = match error.take_payload() {
        Some(payload) => panicked(&*payload),
        // The first line: a backtrace may follow, when the environment asks for one.
        None => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    note(what, said);
}

/// Notes that something failed in this frame that is no system: `what` names it, `said` says how.
pub(crate) fn note(what: String, said: String) {
    FAILED.with_borrow_mut(|failed| {
        let row = failed.entry(what).or_default();
        row.0 += 1;
        row.1 = said;
    });
}

/// What a panic said.
fn panicked(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("with something that is no text"))
}

/// Forgets what failed before, on this thread.
pub(crate) fn forget() {
    FAILED.with_borrow_mut(BTreeMap::clear);
}

/// A system, run condition, command or observer that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// How many times.
    pub count: u64,
    /// What it said the last time.
    pub error: String,
    /// The frame before which it is not written to the log again.
    log_after: u64,
    /// Failures that were not written.
    unlogged: u64,
}

/// Everything that failed, by kind and name: ``system `game::move_all` ``. As many rows as there are systems.
#[derive(Default, Debug)]
pub struct Failures(BTreeMap<String, Failure>);

impl Failures {
    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Failure)> + '_ {
        self.0.iter().map(|(name, failure)| (name.as_str(), failure))
    }

    /// Did nothing fail?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A sentence for each.
    pub fn sentences(&self) -> Vec<String> {
        self.iter().map(|(name, Failure { count, error, .. })| sentence(name, *count, error)).collect()
    }

    /// Takes what failed in this frame. Of each, one failure in `second` frames is written to the log, with a count.
    pub(crate) fn take(&mut self, frame: u64, second: u64) {
        if FAILED.with_borrow(BTreeMap::is_empty) {
            return;
        }
        for (name, (count, error)) in FAILED.take() {
            let new = Failure { count: 0, error: String::new(), log_after: 0, unlogged: 0 };
            let failure = self.0.entry(name.clone()).or_insert(new);
            failure.count += count;
            failure.unlogged += count;
            failure.error = error;
            if frame >= failure.log_after {
                tracing::error!(
                    "{}; the frame goes on without it",
                    sentence(&name, failure.unlogged, &failure.error)
                );
                failure.log_after = frame.saturating_add(second);
                failure.unlogged = 0;
            }
        }
    }
}

fn sentence(name: &str, count: u64, error: &str) -> String {
    let times = if count == 1 { String::new() } else { format!(" {count} times, the last time") };
    format!("{name} failed{times}: {}", error)
}

/// Does a piece of work that may be a plugin's: its request type, its observer. `None`: it panicked, which the
/// process's panic hook has written.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Unwinds out of [`Call::me`](crate::call::Call::me) when it has no session to work on; never seen by a panic hook.
pub(crate) struct Ended(pub(crate) Fault);

/// How a call that unwound is refused: as it says itself, otherwise as `internal`.
pub(crate) fn fault_of(panic: &(dyn std::any::Any + Send)) -> Fault {
    panic.downcast_ref::<Ended>().map_or_else(|| FaultKind::Internal.into(), |ended| ended.0.clone())
}

/// Does work that may be a plugin's, for an operation or event of that name. A panic becomes a fault, and a line of the log
/// that says what follows from it.
pub(crate) fn guarded_or_fault<R>(
    name: &str,
    consequence: &str,
    work: impl FnOnce() -> Result<R, Fault>,
) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        if !panic.is::<Ended>() {
            tracing::error!(name, "panicked: {consequence}, the server goes on");
        }
        Err(fault_of(panic.as_ref()))
    })
}
