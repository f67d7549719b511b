//! The state that a thread keeps for its jobs: how long it lives, and what happens when it or its work panics.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc::channel;

use super::*;

/// A job that says what its thread keeps.
#[derive(Serialize, Deserialize)]
struct Look(Then);

/// What happens after that.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Then {
    Nothing,
    Panics,
    PanicsAndItsStateToo,
    RestPanics,
    RestWaits,
}

impl job::Job for Look {
    /// Which state it is, how many jobs it saw, and how often it rested.
    type Out = (u32, u32, u32);
    const NAME: &'static str = "test.look";
    const POOL: &'static str = "one";
}

/// What the thread keeps.
struct State {
    number: u32,
    jobs: u32,
    rests: u32,
    then: Then,
}

impl Drop for State {
    fn drop(&mut self) {
        assert!(!matches!(self.then, Then::PanicsAndItsStateToo), "on purpose, once more");
    }
}

fn look(state: &mut State, Look(then): Look, _: &mut JobContext<'_>) -> Result<(u32, u32, u32), Fault> {
    state.jobs += 1;
    state.then = then;
    assert!(!matches!(then, Then::Panics | Then::PanicsAndItsStateToo), "on purpose");
    Ok((state.number, state.jobs, state.rests))
}

/// One thread with a state, of which the one with the number `broken` cannot be made; and what lets a rest that waits go on.
fn one_thread(broken: u32) -> (Arc<Bridge>, JobPools, Sender<()>) {
    let (go_on, waits) = channel::<()>();
    let waits = Arc::new(Mutex::new(waits));
    let made = Arc::new(AtomicU32::new(0));
    let (bridge, pools) = pools_of(LONG, |app| {
        let (made, waits) = (made.clone(), waits.clone());
        app.pool(Pool::new(<Look as job::Job>::POOL).threads(1)).job_with(
            move |_| match made.fetch_add(1, Ordering::Relaxed) + 1 {
                number if number == broken => Err(FaultKind::Precondition.into()),
                number => Ok(State { number, jobs: 0, rests: 0, then: Then::Nothing }),
            },
            look,
            move |state: &mut State| {
                state.rests += 1;
                assert!(!matches!(state.then, Then::RestPanics), "on purpose");
                if matches!(state.then, Then::RestWaits) {
                    lock(&waits).recv_timeout(Duration::from_secs(20)).expect("the answer is out");
                }
            },
        );
    });
    (bridge, pools, go_on)
}

/// What a job that then does this answers.
fn looks(bridge: &Bridge, pools: &JobPools, then: Then) -> Result<(u32, u32, u32), Fault> {
    let body = postcard::to_allocvec(&Look(then)).expect("it is plain").into();
    assert_eq!(pools.submit(Job { ticket: Ticket(1), name: "test.look", body }), None);
    let Input::Done { answer, .. } = completed(bridge) else { panic!("no answer") };
    answer.map(|bytes| postcard::from_bytes(&bytes).expect("three numbers"))
}

#[test]
fn a_thread_keeps_its_state_until_a_panic_and_then_makes_another() {
    let (bridge, pools, _go_on) = one_thread(3);
    let looks = |then| looks(&bridge, &pools, then);
    assert_eq!(looks(Then::Nothing), Ok((1, 1, 0)));
    assert_eq!(looks(Then::Nothing), Ok((1, 2, 1)));
    assert_eq!(looks(Then::Panics), Err(FaultKind::Internal.into()));
    assert_eq!(looks(Then::Nothing), Ok((2, 1, 0)));
    assert_eq!(looks(Then::Panics), Err(FaultKind::Internal.into()));
    // The third cannot be made: its job is refused with the reason, and the next one tries again.
    assert_eq!(looks(Then::Nothing), Err(FaultKind::Precondition.into()));
    assert_eq!(looks(Then::Nothing), Ok((4, 1, 0)));
}

#[test]
fn a_panic_of_a_rest_or_of_a_state_that_goes_costs_the_state_and_no_thread() {
    let (bridge, pools, _go_on) = one_thread(0);
    let looks = |then| looks(&bridge, &pools, then);
    assert_eq!(looks(Then::RestPanics), Ok((1, 1, 0)));
    assert_eq!(looks(Then::Nothing), Ok((2, 1, 0)));
    assert_eq!(looks(Then::PanicsAndItsStateToo), Err(FaultKind::Internal.into()));
    assert_eq!(looks(Then::Nothing), Ok((3, 1, 0)));
}

#[test]
fn an_answer_is_out_before_its_worker_rests() {
    let (bridge, pools, go_on) = one_thread(0);
    assert_eq!(looks(&bridge, &pools, Then::RestWaits), Ok((1, 1, 0)));
    go_on.send(()).expect("it waits");
    // The state that waited was not lost to an answer that never came.
    assert_eq!(looks(&bridge, &pools, Then::Nothing), Ok((1, 2, 1)));
}
