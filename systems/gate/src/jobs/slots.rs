//! How many jobs of a pool run at a time. Those that wait for the frame give their slot to another, and take one back before
//! any new job begins.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::bridge::link::lock;

/// The slots of a pool, and where its threads are.
pub(super) struct Slots {
    running_max: usize,
    threads_max: usize,
    counts: Mutex<ThreadCounts>,
    freed: Condvar,
}

/// Where the threads of a pool are.
#[derive(Default)]
struct ThreadCounts {
    /// All of them.
    threads: usize,
    /// Those that wait for a job.
    idle: usize,
    /// Those whose job runs.
    running: usize,
    /// Those whose job has its answer and goes on as soon as there is a slot.
    returning: usize,
}

impl Slots {
    pub(super) fn new(running_max: usize, threads_max: usize) -> Self {
        Slots { running_max, threads_max, counts: Mutex::default(), freed: Condvar::new() }
    }

    /// Counts one more thread and gives its number. `None`: there are as many as there may be.
    pub(super) fn add_thread(&self) -> Option<usize> {
        let mut counts = lock(&self.counts);
        (counts.threads < self.threads_max).then(|| {
            counts.threads += 1;
            counts.threads
        })
    }

    /// A thread did not start.
    pub(super) fn lose_thread(&self) {
        lock(&self.counts).threads -= 1;
    }

    /// Waits for a job with `next`, counted as idle meanwhile.
    pub(super) fn idle<T>(&self, next: impl FnOnce() -> T) -> T {
        lock(&self.counts).idle += 1;
        let job = next();
        lock(&self.counts).idle -= 1;
        job
    }

    /// Whether no thread waits for a job.
    pub(super) fn is_short(&self) -> bool {
        lock(&self.counts).idle == 0
    }

    /// Takes a slot for a new job: after those that come back to theirs.
    pub(super) fn begin(&self) {
        let mut counts = lock(&self.counts);
        while counts.running >= self.running_max || counts.returning > 0 {
            counts = self.freed.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.running += 1;
    }

    /// Takes a slot for a job that goes on.
    pub(super) fn resume(&self) {
        let mut counts = lock(&self.counts);
        counts.returning += 1;
        while counts.running >= self.running_max {
            counts = self.freed.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.returning -= 1;
        counts.running += 1;
        drop(counts);
        // One that begins may have waited for this one to be back.
        self.freed.notify_all();
    }

    /// Gives the slot to another.
    pub(super) fn release(&self) {
        lock(&self.counts).running -= 1;
        self.freed.notify_all();
    }
}
