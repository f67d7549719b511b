//! Jobs of a test server: done at once, on the thread of the test.

use std::time::{Duration, Instant};

use kaos_kernel::call::job::{Jobs, Worker};
use kaos_kernel::fault::Fault;

/// The workers of all jobs.
pub(super) struct Workers {
    jobs: Jobs,
    seed: u64,
    /// Those that do nothing now, with the names of their jobs. A job may wait for an operation that sends another of its
    /// type, as in production.
    idle: Vec<(&'static str, Box<dyn Worker>)>,
}

impl Workers {
    pub(super) fn new(jobs: Jobs, seed: u64) -> Workers {
        Workers { jobs, seed, idle: Vec::new() }
    }

    /// A worker that has nothing to do.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Box<dyn Worker>, Fault> {
        match self.idle.iter().position(|(of, _)| *of == name) {
            Some(at) => Ok(self.idle.swap_remove(at).1),
            None => (self.jobs.get(name)?.1)(self.seed),
        }
    }

    /// It has done its job.
    pub(super) fn give_back(&mut self, name: &'static str, mut worker: Box<dyn Worker>) {
        worker.rest();
        self.idle.push((name, worker));
    }
}

/// The deadline of a job that begins now.
#[expect(
    clippy::disallowed_methods,
    reason = "a job stands outside of the frame and waits for what knows no virtual time"
)]
pub(super) fn deadline(wait_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait_ms)
}
