//! Pools as the frame thread sees them: what goes in, what comes back, and what others notice of it.

use bytes::Bytes;
use kaos_kernel::app::KaosApp;
use kaos_kernel::call::job::{self, JobContext, Pool};
use kaos_kernel::prelude::App;
use kaos_kernel::server::{Build, Server};
use serde::{Deserialize, Serialize};

use super::pool::now;
mod state;

use super::*;
use crate::bridge::{Completion, Drained};

/// Jobs of the tests' pool that wait at most.
const QUEUE_MAX: usize = 1024;

/// Its threads: two of them run.
const THREADS_MAX: usize = 32;

#[derive(Serialize, Deserialize)]
struct Do(String);

impl job::Job for Do {
    type Out = String;
    const NAME: &'static str = "test.do";
    const POOL: &'static str = "test";
}

fn work(job: Do, cx: &mut JobContext<'_>) -> Result<String, Fault> {
    match job.0.as_str() {
        "ask" => cx.ask("room.list", Bytes::from_static(b"hi")).map(|_| "asked".to_owned()),
        "panic" => panic!("on purpose"),
        "minutes" => Ok((cx.deadline().saturating_duration_since(now()).as_secs() / 60).to_string()),
        _ => Ok("hi".to_owned()),
    }
}

fn plugin(app: &mut App) {
    app.pool(Pool::new("test").threads(THREADS_MAX).running(2).queue(QUEUE_MAX)).job_with(
        |_| Ok(()),
        |(): &mut (), job: Do, cx: &mut JobContext<'_>| work(job, cx),
        |()| (),
    );
}

fn job(ticket: u64, what: &str) -> Job {
    Job { ticket: Ticket(ticket), name: "test.do", body: text(what) }
}

/// A text as it crosses between the threads: its length, then its bytes.
fn text(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).expect("short");
    [&[length], text.as_bytes()].concat().into()
}

fn said(answer: &str) -> Result<Bytes, Fault> {
    Ok(text(answer))
}

/// As long as a call may wait at most.
const LONG: Duration = Duration::from_secs(600);

fn pools() -> (Arc<Bridge>, JobPools) {
    pools_that_wait(LONG)
}

fn pools_that_wait(wait: Duration) -> (Arc<Bridge>, JobPools) {
    pools_of(wait, plugin)
}

fn pools_of(wait: Duration, plugin: impl Fn(&mut App)) -> (Arc<Bridge>, JobPools) {
    let bridge = Arc::new(Bridge::new().expect("a descriptor"));
    let stats = Arc::new(Stats::default());
    let jobs = Server::build(Build::default(), plugin).expect("it fits").jobs();
    let pools = JobPools::start(&bridge, &stats, jobs, wait).expect("threads");
    (bridge, pools)
}

fn completed(bridge: &Bridge) -> Input {
    let mut drained = Drained::default();
    while drained.completions.is_empty() {
        bridge.wait_while_stopping(None, None);
        bridge.drain(0, &mut drained);
    }
    match drained.completions.pop() {
        Some(Completion::Input(input)) => input,
        _ => panic!("no input"),
    }
}

#[test]
fn jobs_run_ask_and_panic_without_harm() {
    let (bridge, pools) = pools();
    for round in 0..4 {
        assert_eq!(pools.submit(job(round * 10 + 1, "echo")), None);
        let answer = said("hi");
        assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(round * 10 + 1), answer });
        pools.submit(job(round * 10 + 3, "panic"));
        let answer = Err(FaultKind::Internal.into());
        assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(round * 10 + 3), answer });
        pools.submit(job(round * 10 + 5, "ask"));
        let ticket = Ticket(round * 10 + 5);
        let body = Bytes::from_static(b"hi");
        assert_eq!(completed(&bridge), Input::Ask { ticket, seq: 1, op: "room.list".into(), body });
        pools.answer(Answer { ticket, seq: 1, result: Ok(Bytes::from_static(b"[]")) });
        assert_eq!(completed(&bridge), Input::Done { ticket, answer: said("asked") });
    }
    // Whoever waits for an answer when the pool goes is told.
    pools.submit(job(99, "ask"));
    assert!(matches!(completed(&bridge), Input::Ask { .. }));
    drop(pools);
    let answer = Err(FaultKind::Stopping.into());
    assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(99), answer });
}

#[test]
fn what_nobody_can_do_is_refused_by_name() {
    let (_bridge, pools) = pools();
    let lost = Job { ticket: Ticket(3), name: "test.d", body: Bytes::new() };
    let Some(Input::Done { answer: Err(fault), .. }) = pools.submit(lost) else { panic!("taken") };
    assert_eq!(fault.kind, FaultKind::Unimplemented);
    assert!(fault.message.contains("`test.d`") && fault.message.contains("`test.do`"), "{fault}");
}

#[test]
fn an_input_that_cannot_be_read_is_a_fault_and_the_thread_goes_on() {
    let (bridge, pools) = pools();
    pools.submit(Job { ticket: Ticket(1), name: "test.do", body: Bytes::from_static(b"\xff") });
    let Input::Done { answer: Err(fault), .. } = completed(&bridge) else { panic!("no answer") };
    assert_eq!(fault.kind, FaultKind::Internal);
    pools.submit(job(3, "echo"));
    assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(3), answer: said("hi") });
}

#[test]
fn jobs_that_wait_hold_up_no_other() {
    let (bridge, pools) = pools();
    for n in 0..THREADS_MAX as u64 - 1 {
        pools.submit(job(n * 2 + 1, "ask"));
        assert!(matches!(completed(&bridge), Input::Ask { .. }));
    }
    for ticket in [1001, 1003, 1005] {
        pools.submit(job(ticket, "echo"));
        let answer = said("hi");
        assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(ticket), answer });
    }
    // And each of those that wait gets its answer.
    for n in 0..THREADS_MAX as u64 - 1 {
        let ticket = Ticket(n * 2 + 1);
        pools.answer(Answer { ticket, seq: 1, result: Ok(Bytes::from_static(b"[]")) });
        assert_eq!(completed(&bridge), Input::Done { ticket, answer: said("asked") });
    }
}

#[test]
fn a_job_waits_no_longer_than_it_may() {
    let (bridge, pools) = pools_that_wait(Duration::from_millis(20));
    let done = |ticket| Input::Done { ticket: Ticket(ticket), answer: Err(FaultKind::Deadline.into()) };
    // No answer ever comes; more rpcs than there are threads.
    let count = THREADS_MAX as u64 + 8;
    for n in 0..count {
        pools.submit(job(n * 2 + 1, "ask"));
    }
    let mut ended = 0;
    let mut drained = Drained::default();
    while ended < count {
        bridge.wait_while_stopping(None, None);
        bridge.drain(0, &mut drained);
        for completion in drained.completions.drain(..) {
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
    let (bridge, pools) = pools_that_wait(Duration::ZERO);
    pools.submit(job(1, "ask"));
    assert_eq!(completed(&bridge), done(1));
}

#[test]
fn a_job_is_told_until_when_somebody_waits_for_it() {
    for (wait_s, minutes) in [(10 * 60 + 30, "10"), (0, "0")] {
        let (bridge, pools) = pools_that_wait(Duration::from_secs(wait_s));
        pools.submit(job(1, "minutes"));
        assert_eq!(completed(&bridge), Input::Done { ticket: Ticket(1), answer: said(minutes) });
    }
}

#[test]
fn a_full_queue_is_busy_at_once() {
    let (bridge, pools) = pools();
    // All threads wait for answers that do not come.
    for n in 0..THREADS_MAX as u64 {
        pools.submit(job(n * 2 + 1, "ask"));
        assert!(matches!(completed(&bridge), Input::Ask { .. }));
    }
    let refused = (0..=QUEUE_MAX as u64).filter_map(|n| pools.submit(job(n * 2 + 101, "echo"))).count();
    assert_eq!(refused, 1);
}
