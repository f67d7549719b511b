//! Work that left the frame: a few threads, bounded queues, answers as inputs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use bytes::Bytes;
use kaos_kernel::call::job::Jobs;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::Input;
use kaos_kernel::output::{Answer, Job, JobKind, RpcContext};

use crate::bridge::Bridge;
use crate::stats::Stats;
use crate::websocket::link::lock;

/// Jobs of each kind that wait for a thread. Beyond it they are refused with `busy` at once.
pub const QUEUE_MAX: usize = 1024;

/// Threads for the jobs that plugins registered; they may block.
const NAMED_THREADS: usize = 2;

/// Rpcs that run at a time, each on a virtual machine of its own. One that waits for an answer of the frame
/// does not count: it may be a frame or two, or as long as a plugin's slow job takes.
const RPC_TURNS: usize = 2;

/// Threads for rpcs, those included whose rpc waits: each holds a machine with its memory. They are made
/// when they are needed. When the rpcs of all of them wait, the queue waits, until the first answer or the
/// first deadline: no rpc waits longer than `call.wait_ms` in all.
const RPC_THREADS_MAX: usize = 32;

/// A call of a script's rpc.
#[derive(Clone, PartialEq, Debug)]
pub struct RpcJob {
    /// Names the job.
    pub ticket: Ticket,
    /// The registered name.
    pub id: String,
    /// The request's bytes.
    pub payload: Bytes,
    /// Who calls, and when.
    pub context: RpcContext,
}

/// How a script asks the server while its rpc runs: number of the ask, operation, request as JSON. Blocks
/// until the frame has answered.
pub type Asks<'a> = &'a mut dyn FnMut(u32, String, Bytes) -> Result<Bytes, Fault>;

/// Runs rpcs, one after the other, on the thread on which it was made.
pub trait RpcWorker {
    /// Runs one.
    ///
    /// # Errors
    /// The script's, as a fault that the caller may see.
    fn run(&mut self, job: RpcJob, asks: Asks<'_>) -> Result<Bytes, Fault>;

    /// Called after an answer is out: the time to make the next one ready.
    fn rest(&mut self) {}
}

/// Makes a worker for each thread, on that thread; also a new one after a panic.
pub type RpcFactory = Arc<dyn Fn() -> Result<Box<dyn RpcWorker>, Fault> + Send + Sync>;

type Asking = Arc<Mutex<BTreeMap<Ticket, Sender<Answer>>>>;

/// The threads and their queues. Dropping it ends idle threads; one that works ends after its job.
pub struct JobPool {
    named: SyncSender<(Ticket, String, Bytes)>,
    rpcs: Option<SyncSender<RpcJob>>,
    asking: Asking,
    stats: Arc<Stats>,
}

impl JobPool {
    /// Starts the threads. Without a factory every rpc is refused. `wait` is how long an rpc may wait for
    /// answers, from its beginning: `call.wait_ms`. What it asks later is refused with `deadline` at once.
    ///
    /// # Errors
    /// The operating system gives no more threads.
    pub fn start(
        bridge: &Arc<Bridge>,
        stats: &Arc<Stats>,
        jobs: Jobs,
        factory: Option<RpcFactory>,
        wait: Duration,
    ) -> io::Result<Self> {
        let asking = Asking::default();
        let (named, waiting) = sync_channel::<(Ticket, String, Bytes)>(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 0..NAMED_THREADS {
            let (waiting, jobs) = (waiting.clone(), jobs.clone());
            let (bridge, stats) = (bridge.clone(), stats.clone());
            spawn(&format!("kaos-job-{n}"), move || {
                while let Some((ticket, name, body)) = next(&waiting) {
                    done(&bridge, &stats, ticket, guarded(&name, || jobs.run(&name, body)).0);
                }
            })?;
        }
        let rpcs = match factory {
            None => None,
            Some(factory) => {
                let (rpcs, waiting) = sync_channel(QUEUE_MAX);
                let threads = Arc::new(RpcThreads {
                    waiting: Mutex::new(waiting),
                    factory,
                    asking: asking.clone(),
                    bridge: bridge.clone(),
                    stats: stats.clone(),
                    wait,
                    counts: Mutex::default(),
                    turn: Condvar::new(),
                });
                for _ in 0..RPC_TURNS {
                    threads.grow()?;
                }
                Some(rpcs)
            }
        };
        Ok(JobPool { named, rpcs, asking, stats: stats.clone() })
    }

    /// Takes a job. What cannot be taken is answered at once, with the input that is returned.
    pub fn submit(&self, Job { ticket, kind }: Job) -> Option<Input> {
        let refused = match kind {
            JobKind::Named { name, body } => refusal(self.named.try_send((ticket, name, body))),
            JobKind::Rpc { id, payload, context } => match &self.rpcs {
                Some(rpcs) => refusal(rpcs.try_send(RpcJob { ticket, id, payload, context })),
                None => Some(Fault::new(FaultKind::Unimplemented, "this server runs no rpc scripts")),
            },
        };
        match refused {
            Some(fault) => {
                self.stats.jobs_refused.fetch_add(1, Ordering::Relaxed);
                Some(Input::Done { ticket, answer: Err(fault) })
            }
            None => {
                self.stats.jobs.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// ThreadCounts the answer to a script's question to the thread that waits for it.
    pub fn answer(&self, answer: Answer) {
        let asking = lock(&self.asking);
        if let Some(sender) = asking.get(&answer.ticket) {
            // The job may have ended in this moment.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for JobPool {
    fn drop(&mut self) {
        // Whoever waits for an answer gets none: the frame thread is gone.
        lock(&self.asking).clear();
    }
}

fn refusal<T>(sent: Result<(), TrySendError<T>>) -> Option<Fault> {
    match sent {
        Ok(()) => None,
        Err(TrySendError::Full(_)) => {
            Some(Fault::new(FaultKind::Busy, "too many jobs wait already").retry_in_ms(1000))
        }
        Err(TrySendError::Disconnected(_)) => Some(FaultKind::Stopping.into()),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Threads of one kind take turns at the queue; `None`: the pool is gone.
fn next<T>(waiting: &Mutex<Receiver<T>>) -> Option<T> {
    lock(waiting).recv().ok()
}

fn done(bridge: &Bridge, stats: &Stats, ticket: Ticket, answer: Result<Bytes, Fault>) {
    stats.jobs.fetch_sub(1, Ordering::Relaxed);
    bridge.input(Input::Done { ticket, answer });
}

/// The result, and whether there was no panic.
fn guarded(name: &str, work: impl FnOnce() -> Result<Bytes, Fault>) -> (Result<Bytes, Fault>, bool) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => (result, true),
        Err(_) => {
            tracing::error!(job = name, "a job panicked: its call is refused, the server goes on");
            (Err(FaultKind::Internal.into()), false)
        }
    }
}

/// What the threads of rpcs share.
struct RpcThreads {
    waiting: Mutex<Receiver<RpcJob>>,
    factory: RpcFactory,
    asking: Asking,
    bridge: Arc<Bridge>,
    stats: Arc<Stats>,
    wait: Duration,
    counts: Mutex<ThreadCounts>,
    turn: Condvar,
}

/// Where the threads of a [`RpcThreads`] are.
#[derive(Default)]
struct ThreadCounts {
    /// All of them.
    threads: usize,
    /// Those that wait for a job.
    idle: usize,
    /// Those whose rpc runs: [`RPC_TURNS`] at most.
    running: usize,
    /// Those whose rpc has its answer and goes on as soon as there is a turn: before any new one.
    back: usize,
}

impl RpcThreads {
    /// Starts one more thread.
    fn grow(self: &Arc<Self>) -> io::Result<()> {
        let number = {
            let mut counts = lock(&self.counts);
            counts.threads += 1;
            counts.threads
        };
        let threads = self.clone();
        let started = spawn(&format!("kaos-rpc-{number}"), move || threads.work());
        if started.is_err() {
            lock(&self.counts).threads -= 1;
        }
        started
    }

    fn work(self: &Arc<Self>) {
        let mut worker = None;
        loop {
            lock(&self.counts).idle += 1;
            let job = next(&self.waiting);
            lock(&self.counts).idle -= 1;
            let Some(job) = job else { return };
            self.begin(false);
            let ticket = job.ticket;
            let answer = self.run(&mut worker, job);
            done(&self.bridge, &self.stats, ticket, answer);
            if let Some(mut made) = worker.take() {
                let rested = catch_unwind(AssertUnwindSafe(|| made.rest())).is_ok();
                worker = rested.then_some(made);
            }
            self.pause();
        }
    }

    fn run(self: &Arc<Self>, worker: &mut Option<Box<dyn RpcWorker>>, job: RpcJob) -> Result<Bytes, Fault> {
        let mut made = match worker.take() {
            Some(worker) => worker,
            None => (self.factory)()?,
        };
        let ticket = job.ticket;
        let (answers, answer) = channel();
        lock(&self.asking).insert(ticket, answers);
        let name = job.id.clone();
        let until = now() + self.wait;
        let mut asks = |seq, op, body| self.ask(ticket, &answer, until, seq, op, body);
        let (result, whole) = guarded(&name, || made.run(job, &mut asks));
        lock(&self.asking).remove(&ticket);
        *worker = whole.then_some(made);
        result
    }

    /// Waits for a turn to run.
    fn begin(&self, back: bool) {
        let mut counts = lock(&self.counts);
        counts.back += usize::from(back);
        while counts.running >= RPC_TURNS || (!back && counts.back > 0) {
            counts = self.turn.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.back -= usize::from(back);
        counts.running += 1;
    }

    /// Gives the turn to another.
    fn pause(&self) {
        lock(&self.counts).running -= 1;
        self.turn.notify_all();
    }

    /// Asks the frame. Meanwhile another rpc may run, on another thread.
    fn ask(
        self: &Arc<Self>,
        ticket: Ticket,
        answers: &Receiver<Answer>,
        until: Instant,
        seq: u32,
        op: String,
        body: Bytes,
    ) -> Result<Bytes, Fault> {
        if until <= now() {
            return Err(FaultKind::Deadline.into());
        }
        self.pause();
        let short = {
            let counts = lock(&self.counts);
            counts.idle == 0 && counts.threads < RPC_THREADS_MAX
        };
        if short && let Err(error) = self.grow() {
            tracing::warn!(%error, "no more threads for rpcs: they wait for each other");
        }
        self.bridge.input(Input::Ask { ticket, seq, op, body });
        let answer = loop {
            match answers.recv_timeout(until.saturating_duration_since(now())) {
                Ok(answer) if answer.seq == seq => break answer.result,
                // To an earlier question that was given up.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break Err(FaultKind::Deadline.into()),
                Err(RecvTimeoutError::Disconnected) => break Err(FaultKind::Stopping.into()),
            }
        };
        self.begin(true);
        answer
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "threads outside of the frame wait for a time, not for a frame"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{Completion, Drained};

    struct Echo;

    impl RpcWorker for Echo {
        fn run(&mut self, job: RpcJob, asks: Asks<'_>) -> Result<Bytes, Fault> {
            match job.id.as_str() {
                "ask" => asks(1, "room.list".into(), job.payload),
                "panic" => panic!("on purpose"),
                _ => Ok(job.payload),
            }
        }
    }

    fn rpc(ticket: u64, id: &str) -> Job {
        let context = RpcContext::default();
        let kind = JobKind::Rpc { id: id.into(), payload: Bytes::from_static(b"hi"), context };
        Job { ticket: Ticket(ticket), kind }
    }

    /// As long as a call may wait at most.
    const LONG: Duration = Duration::from_secs(600);

    fn pool(factory: Option<RpcFactory>) -> (Arc<Bridge>, JobPool) {
        pool_that_waits(factory, LONG)
    }

    fn pool_that_waits(factory: Option<RpcFactory>, wait: Duration) -> (Arc<Bridge>, JobPool) {
        let bridge = Arc::new(Bridge::new().expect("a descriptor"));
        let stats = Arc::new(Stats::default());
        let pool = JobPool::start(&bridge, &stats, Jobs::default(), factory, wait).expect("threads");
        (bridge, pool)
    }

    fn complete(bridge: &Bridge) -> Input {
        let mut taken = Drained::default();
        while taken.completions.is_empty() {
            bridge.wait(None, None, true);
            bridge.take(0, &mut taken);
        }
        match taken.completions.pop() {
            Some(Completion::Input(input)) => input,
            _ => panic!("no input"),
        }
    }

    #[test]
    fn rpcs_run_ask_and_panic_without_harm() {
        let factory: RpcFactory = Arc::new(|| Ok(Box::new(Echo)));
        let (bridge, pool) = pool(Some(factory));
        for round in 0..4 {
            assert_eq!(pool.submit(rpc(round * 10 + 1, "echo")), None);
            let answer = Ok(Bytes::from_static(b"hi"));
            assert_eq!(complete(&bridge), Input::Done { ticket: Ticket(round * 10 + 1), answer });
            pool.submit(rpc(round * 10 + 3, "panic"));
            let answer = Err(FaultKind::Internal.into());
            assert_eq!(complete(&bridge), Input::Done { ticket: Ticket(round * 10 + 3), answer });
            pool.submit(rpc(round * 10 + 5, "ask"));
            let ticket = Ticket(round * 10 + 5);
            let body = Bytes::from_static(b"hi");
            assert_eq!(complete(&bridge), Input::Ask { ticket, seq: 1, op: "room.list".into(), body });
            pool.answer(Answer { ticket, seq: 1, result: Ok(Bytes::from_static(b"[]")) });
            assert_eq!(complete(&bridge), Input::Done { ticket, answer: Ok(Bytes::from_static(b"[]")) });
        }
        // Whoever waits for an answer when the pool goes is told.
        pool.submit(rpc(99, "ask"));
        assert!(matches!(complete(&bridge), Input::Ask { .. }));
        drop(pool);
        let answer = Err(FaultKind::Stopping.into());
        assert_eq!(complete(&bridge), Input::Done { ticket: Ticket(99), answer });
    }

    #[test]
    fn what_nobody_can_do_is_refused_by_name() {
        let (bridge, pool) = pool(None);
        let Some(Input::Done { answer: Err(fault), .. }) = pool.submit(rpc(1, "echo")) else {
            panic!("taken");
        };
        assert_eq!(fault.kind, FaultKind::Unimplemented);
        let kind = JobKind::Named { name: "mail".into(), body: Bytes::new() };
        assert_eq!(pool.submit(Job { ticket: Ticket(3), kind }), None);
        let Input::Done { answer: Err(fault), .. } = complete(&bridge) else { panic!("no answer") };
        assert!(fault.message.contains("mail"), "{fault}");
    }

    #[test]
    fn rpcs_that_wait_hold_up_no_other() {
        let factory: RpcFactory = Arc::new(|| Ok(Box::new(Echo)));
        let (bridge, pool) = pool(Some(factory));
        for n in 0..RPC_THREADS_MAX as u64 - 1 {
            pool.submit(rpc(n * 2 + 1, "ask"));
            assert!(matches!(complete(&bridge), Input::Ask { .. }));
        }
        for ticket in [1001, 1003, 1005] {
            pool.submit(rpc(ticket, "echo"));
            let answer = Ok(Bytes::from_static(b"hi"));
            assert_eq!(complete(&bridge), Input::Done { ticket: Ticket(ticket), answer });
        }
        // And each of those that wait gets its answer.
        for n in 0..RPC_THREADS_MAX as u64 - 1 {
            let ticket = Ticket(n * 2 + 1);
            pool.answer(Answer { ticket, seq: 1, result: Ok(Bytes::from_static(b"[]")) });
            assert_eq!(complete(&bridge), Input::Done { ticket, answer: Ok(Bytes::from_static(b"[]")) });
        }
    }

    #[test]
    fn an_rpc_waits_no_longer_than_it_may() {
        let factory: RpcFactory = Arc::new(|| Ok(Box::new(Echo)));
        let (bridge, pool) = pool_that_waits(Some(factory.clone()), Duration::from_millis(20));
        let done = |ticket| Input::Done { ticket: Ticket(ticket), answer: Err(FaultKind::Deadline.into()) };
        // No answer ever comes; more rpcs than there are threads.
        let count = RPC_THREADS_MAX as u64 + 8;
        for n in 0..count {
            pool.submit(rpc(n * 2 + 1, "ask"));
        }
        let mut ended = 0;
        let mut taken = Drained::default();
        while ended < count {
            bridge.wait(None, None, true);
            bridge.take(0, &mut taken);
            for completion in taken.completions.drain(..) {
                match completion {
                    Completion::Input(Input::Ask { .. }) => {}
                    Completion::Input(input @ Input::Done { ticket, .. }) => {
                        assert_eq!(input, done(ticket.0));
                        ended += 1;
                    }
                    _ => panic!("neither asked nor done"),
                }
            }
        }
        // And what is asked when the time is over never reaches the frame.
        let (bridge, pool) = pool_that_waits(Some(factory), Duration::ZERO);
        pool.submit(rpc(1, "ask"));
        assert_eq!(complete(&bridge), done(1));
    }

    #[test]
    fn a_full_queue_is_busy_at_once() {
        let factory: RpcFactory = Arc::new(|| Ok(Box::new(Echo)));
        let (bridge, pool) = pool(Some(factory));
        // All threads wait for answers that do not come.
        for n in 0..RPC_THREADS_MAX as u64 {
            pool.submit(rpc(n * 2 + 1, "ask"));
            assert!(matches!(complete(&bridge), Input::Ask { .. }));
        }
        let refused = (0..=QUEUE_MAX as u64).filter_map(|n| pool.submit(rpc(n * 2 + 101, "echo"))).count();
        assert_eq!(refused, 1);
    }
}
