//! The threads of one pool: each has a worker for every type of job that it has done.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use bytes::Bytes;
use kaos_kernel::call::job::{JobContext, Jobs, Pool, Worker};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::Input;
use kaos_kernel::output::{Answer, Job, write_log};

use super::Asking;
use super::slots::Slots;
use crate::bridge::Bridge;
use crate::bridge::link::lock;
use crate::stats::Stats;

/// What the threads of a pool share.
pub(super) struct PoolThreads {
    name: String,
    waiting: Mutex<Receiver<Job>>,
    jobs: Jobs,
    asking: Asking,
    bridge: Arc<Bridge>,
    stats: Arc<Stats>,
    wait: Duration,
    slots: Slots,
}

/// The workers of one thread, by the names of their jobs.
type Workers = BTreeMap<&'static str, Box<dyn Worker>>;

impl PoolThreads {
    /// Starts as many threads as may run. Further ones start when those that run wait for the frame.
    pub(super) fn start(
        pool: &Pool,
        waiting: Receiver<Job>,
        jobs: Jobs,
        asking: Asking,
        bridge: &Arc<Bridge>,
        stats: &Arc<Stats>,
        wait: Duration,
    ) -> io::Result<()> {
        let running = pool.running_max();
        let threads = Arc::new(PoolThreads {
            name: pool.name.clone(),
            waiting: Mutex::new(waiting),
            jobs,
            asking,
            bridge: bridge.clone(),
            stats: stats.clone(),
            wait,
            slots: Slots::new(running, pool.threads),
        });
        for _ in 0..running {
            threads.grow()?;
        }
        Ok(())
    }

    /// Starts one more thread, when there may be one.
    fn grow(self: &Arc<Self>) -> io::Result<()> {
        let Some(number) = self.slots.add_thread() else { return Ok(()) };
        let threads = self.clone();
        let name = format!("kaos-{}-{number}", self.name);
        let started = thread::Builder::new().name(name).spawn(move || threads.work());
        started.map(drop).inspect_err(|_| self.slots.lose_thread())
    }

    fn work(self: &Arc<Self>) {
        let mut workers = Workers::new();
        // Threads of one pool take turns at the queue; when its other end is gone, so is the pool.
        while let Ok(job) = self.slots.idle(|| lock(&self.waiting).recv()) {
            self.slots.begin();
            let (ticket, name) = (job.ticket, job.name);
            let answer = self.run(&mut workers, job);
            self.stats.jobs.fetch_sub(1, Ordering::Relaxed);
            self.bridge.input(Input::Done { ticket, answer });
            rest(&mut workers, name);
            self.slots.release();
        }
    }

    fn run(self: &Arc<Self>, workers: &mut Workers, job: Job) -> Result<Bytes, Fault> {
        let Job { ticket, name, body } = job;
        let mut worker = match workers.remove(name) {
            Some(worker) => worker,
            None => self.make(name)?,
        };
        let (sender, answers) = channel();
        lock(&self.asking).insert(ticket, sender);
        let deadline = now() + self.wait;
        let mut question = Question { ticket, answers, deadline, seq: 0 };
        let mut logs = Vec::new();
        let mut ask = |op: &str, request| self.ask(&mut question, op, request);
        let mut context = JobContext::new(deadline, &mut ask, &mut logs);
        let ran = catch_unwind(AssertUnwindSafe(|| worker.run(&body, &mut context)));
        lock(&self.asking).remove(&ticket);
        logs.iter().for_each(write_log);
        match ran {
            Ok(answer) => {
                workers.insert(name, worker);
                answer
            }
            // Its worker goes with it: half of a job is no state to go on from.
            Err(_) => {
                tracing::error!(job = name, "a job panicked: its call is refused, the server goes on");
                discard(name, worker);
                Err(FaultKind::Internal.into())
            }
        }
    }

    fn make(&self, name: &str) -> Result<Box<dyn Worker>, Fault> {
        let seed = crate::random().map_err(|error| Fault::internal(error.to_string()))?;
        let (_, make) = self.jobs.get(name)?;
        let made = catch_unwind(AssertUnwindSafe(|| make(u64::from_le_bytes(seed))));
        made.unwrap_or_else(|_| {
            tracing::error!(job = name, "what a job needs cannot be made: that panicked");
            Err(FaultKind::Internal.into())
        })
    }

    /// Asks the frame. Meanwhile another job may run, on another thread.
    fn ask(self: &Arc<Self>, question: &mut Question, op: &str, body: Bytes) -> Result<Bytes, Fault> {
        if question.deadline <= now() {
            return Err(FaultKind::Deadline.into());
        }
        question.seq += 1;
        self.slots.release();
        if self.slots.is_short()
            && let Err(error) = self.grow()
        {
            tracing::warn!(%error, pool = self.name, "no more threads for jobs: they wait for each other");
        }
        let (ticket, seq) = (question.ticket, question.seq);
        self.bridge.input(Input::Ask { ticket, seq, op: op.to_owned(), body });
        let answer = question.wait();
        self.slots.resume();
        answer
    }
}

/// Lets a worker make ready for its next job, now that the answer is out.
fn rest(workers: &mut Workers, name: &'static str) {
    let Some(mut worker) = workers.remove(name) else { return };
    match catch_unwind(AssertUnwindSafe(|| worker.rest())) {
        Ok(()) => drop(workers.insert(name, worker)),
        Err(_) => {
            tracing::error!(job = name, "a worker panicked after its answer: the next job gets a new one");
            discard(name, worker);
        }
    }
}

/// Drops a worker that panicked. What it holds is in any state, and may panic as it goes: its thread has a slot to give back
/// and an answer to give, and must not end with it.
fn discard(name: &str, worker: Box<dyn Worker>) {
    if catch_unwind(AssertUnwindSafe(|| drop(worker))).is_err() {
        tracing::error!(job = name, "what a job kept on its thread panicked as it was dropped");
    }
}

/// What a job asks the frame, one question after the other.
struct Question {
    ticket: Ticket,
    answers: Receiver<Answer>,
    deadline: Instant,
    /// Counts them.
    seq: u32,
}

impl Question {
    fn wait(&self) -> Result<Bytes, Fault> {
        loop {
            match self.answers.recv_timeout(self.deadline.saturating_duration_since(now())) {
                Ok(answer) if answer.seq == self.seq => return answer.result,
                // To an earlier question that was given up.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(FaultKind::Deadline.into()),
                Err(RecvTimeoutError::Disconnected) => return Err(FaultKind::Stopping.into()),
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "threads outside of the frame wait for a time, not for a frame"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
