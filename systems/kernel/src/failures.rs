//! Failures that must not end a frame: systems that panic or cannot run, and guards around single pieces of work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_ecs::error::{BevyError, ErrorContext};

use crate::fault::{Fault, FaultKind};

thread_local! {
    /// The failures of this frame: the number and the last error of each, by kind and name. Bevy's error handler is a
    /// plain function without access to the world, so it leaves failures here, for the frame that runs on this thread.
    /// Between frames it is empty.
    static FAILED: RefCell<BTreeMap<String, (u64, String)>> = const { RefCell::new(BTreeMap::new()) };
}

/// The crates whose systems own the state of the whole server. The server cannot go on after half of one of their
/// stages.
const OWN: [&str; 2] = ["kaos_kernel::", "kaos_rooms::"];

/// Bevy's error handler. It notes the failure of a plugin's system, run condition, command or observer, and the frame
/// goes on without it. The failure of one of the server's own systems goes on as a panic to the caller of the frame.
pub(crate) fn failed(mut error: BevyError, context: ErrorContext) {
    let name = context.name().to_string();
    if matches!(context, ErrorContext::System { .. }) && OWN.iter().any(|own| name.starts_with(own)) {
        bevy_ecs::error::panic(error, context);
        return;
    }
    let what = format!("{} `{name}`", context.kind());
    let error = match error.take_payload() {
        Some(payload) => panic_text(&*payload),
        // Only the first line, because a backtrace may follow if the environment enables it.
        None => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    note(what, error);
}

/// Notes a failure of this frame: `what` is its kind and name, `error` a sentence.
pub(crate) fn note(what: String, error: String) {
    FAILED.with_borrow_mut(|failed| {
        let (count, last_error) = failed.entry(what).or_default();
        *count += 1;
        *last_error = error;
    });
}

/// The sentence about a panic.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("with a value that is not text"))
}

/// Removes the failures that were noted on this thread.
pub(crate) fn forget() {
    FAILED.with_borrow_mut(BTreeMap::clear);
}

/// A system, run condition, command or observer that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The number of its failures.
    pub count: u64,
    /// Its last error.
    pub error: String,
    /// The first frame in which it may be written to the log again.
    log_after: u64,
    /// The number of failures since it was written to the log.
    unlogged: u64,
}

/// Everything that failed, by kind and name: ``system `game::move_all` ``. There is at most one row per system, run
/// condition, command, observer and kind of fact.
#[derive(Default, Debug)]
pub struct Failures(BTreeMap<String, Failure>);

impl Failures {
    /// All failures with their kind and name, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Failure)> + '_ {
        self.0.iter().map(|(name, failure)| (name.as_str(), failure))
    }

    /// Whether nothing failed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One sentence per row.
    pub fn sentences(&self) -> Vec<String> {
        self.iter().map(|(name, Failure { count, error, .. })| sentence(name, *count, error)).collect()
    }

    /// Adds the failures of this frame. Each row is written to the log at most once per `frames_per_sec` frames, with
    /// the number of failures since the last time.
    pub(crate) fn take(&mut self, frame: u64, frames_per_sec: u64) {
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
                failure.log_after = frame.saturating_add(frames_per_sec);
                failure.unlogged = 0;
            }
        }
    }
}

/// The sentence about `count` failures.
fn sentence(name: &str, count: u64, error: &str) -> String {
    let times = if count == 1 { String::new() } else { format!(" {count} times, the last time") };
    format!("{name} failed{times}: {}", error)
}

/// Does work that may run a plugin's code, such as an observer. `None`: it panicked, and the process's panic hook has
/// written that to the log.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The payload with which [`Call::me`](crate::call::Call::me) unwinds when its session is gone. It does not reach the
/// panic hook.
pub(crate) struct Ended(pub(crate) Fault);

/// The fault of a call that unwound: the one in [`Ended`], or `internal` for a panic.
pub(crate) fn fault_of(panic: &(dyn std::any::Any + Send)) -> Fault {
    panic.downcast_ref::<Ended>().map_or_else(|| FaultKind::Internal.into(), |ended| ended.0.clone())
}

/// Does work that may run a plugin's code, for the operation or event `name`. A panic becomes a fault, and is written
/// to the log with its consequence.
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
