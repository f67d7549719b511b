//! Work that left the frame: threads in named pools, bounded queues, answers as inputs.
//!
//! `pool` has the threads of one pool, `slots` says how many of them run.

mod pool;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kaos_kernel::call::job::Jobs;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::Input;
use kaos_kernel::output::{Answer, Job};

use crate::bridge::Bridge;
use crate::bridge::link::lock;
use crate::stats::Stats;
use pool::PoolThreads;

/// The jobs that wait for the frame's answer to a question.
type Asking = Arc<Mutex<BTreeMap<Ticket, Sender<Answer>>>>;

/// All pools. Dropping it ends idle threads; one that works ends after its job.
pub struct JobPools {
    jobs: Jobs,
    queues: BTreeMap<String, SyncSender<Job>>,
    asking: Asking,
    stats: Arc<Stats>,
}

impl JobPools {
    /// Starts the threads of every pool that was registered. `wait` is how long a job may wait for answers, from its
    /// beginning: `call.wait_ms`. What it asks later is refused with `deadline` at once.
    ///
    /// # Errors
    /// The operating system gives no more threads.
    pub fn start(bridge: &Arc<Bridge>, stats: &Arc<Stats>, jobs: Jobs, wait: Duration) -> io::Result<Self> {
        let asking = Asking::default();
        let mut queues = BTreeMap::new();
        for pool in jobs.pools() {
            let (queue, waiting) = sync_channel(pool.queue);
            PoolThreads::start(pool, waiting, jobs.clone(), asking.clone(), bridge, stats, wait)?;
            queues.insert(pool.name.clone(), queue);
        }
        Ok(JobPools { jobs, queues, asking, stats: stats.clone() })
    }

    /// Takes a job. What cannot be taken is answered at once, with the input that is returned.
    pub fn submit(&self, job: Job) -> Option<Input> {
        let ticket = job.ticket;
        // Counted before it is there: its thread may be done with it, and count down, in this moment.
        self.stats.jobs.fetch_add(1, Ordering::Relaxed);
        match self.try_submit(job) {
            Ok(()) => None,
            Err(fault) => {
                self.stats.jobs.fetch_sub(1, Ordering::Relaxed);
                self.stats.jobs_refused.fetch_add(1, Ordering::Relaxed);
                Some(Input::Done { ticket, answer: Err(fault) })
            }
        }
    }

    fn try_submit(&self, job: Job) -> Result<(), Fault> {
        let (pool, _) = self.jobs.get(job.name)?;
        let queue = self.queues.get(pool).ok_or(FaultKind::Internal)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                Fault::new(FaultKind::Busy, format!("too many jobs of the pool `{pool}` wait already"))
                    .retry_in_ms(1000)
            }
            TrySendError::Disconnected(_) => FaultKind::Stopping.into(),
        })
    }

    /// Hands the frame's answer to the job that asked.
    pub fn answer(&self, answer: Answer) {
        let asking = lock(&self.asking);
        if let Some(sender) = asking.get(&answer.ticket) {
            // The job may have ended in this moment.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for JobPools {
    fn drop(&mut self) {
        // Whoever waits for an answer gets none: the frame thread is gone.
        lock(&self.asking).clear();
    }
}
