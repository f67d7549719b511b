//! Between the threads of the doors and the frame thread: bounded queues by importance, and one wake.
//!
//! * Completions (job answers, questions of scripts, room in a connection's queue): never refused. There are at most
//!   as many as jobs and connections were admitted.
//! * Calls: at most [`CALLS_MAX`] and [`CALL_BYTES_MAX`] wait for the frame, and at most [`WAITING_MAX`] for
//!   their answers; what comes beyond is refused with `busy` at once.
//! * The stream of WebSocket connections: each has a byte credit of its own and all share one of
//!   [`STREAM_BYTES_MAX`]; a connection without credit is not read.

pub(crate) mod link;
pub mod waker;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kaos_kernel::burst::CapacityWindow;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::{Body, Gone, Identity, Input, RestRequest};
use kaos_kernel::output::Reply;
use rustix::fd::BorrowedFd;
use tokio::sync::{Semaphore, oneshot};

use crate::bridge::link::{IN_CREDIT, Link, lock};
use crate::bridge::waker::Waker;
use crate::kaos::start::Opening;

/// Calls that wait for the next frame.
pub const CALLS_MAX: usize = 2048;

/// The bytes of their requests.
pub const CALL_BYTES_MAX: usize = 32 << 20;

/// Calls whose answer somebody waits for.
pub const WAITING_MAX: usize = 16_384;

/// Bytes of all WebSocket connections that wait for the frame.
pub const STREAM_BYTES_MAX: usize = 32 << 20;

/// What each message, and each piece that holds messages, costs in credit on top of its bytes, so that nothing is free.
pub(crate) const MESSAGE_WEIGHT: usize = 29;

/// What one frame takes in, by weight: 512 KiB are 1 GiB a second, and at most 16,384 messages a frame.
pub(crate) const FRAME_WEIGHT_MAX: usize = 512 * 1024;

/// The window of [`CapacityWindow`] for the lists of doors: a second, in microseconds.
pub(crate) const BURST_US: u64 = 1_000_000;

/// Inputs that one frame takes from each door; what comes beyond waits for the next one.
pub(crate) const FRAME_INPUTS_MAX: usize = 16_384;

/// Calls that one frame takes in.
const FRAME_CALLS_MAX: usize = 512;

/// What a piece of messages costs in credit: for itself, for each of its messages, and for its bytes.
pub(crate) fn weight(bytes: &[u8]) -> usize {
    bytes.len() + (1 + kaos_wire::messages(bytes).count()) * MESSAGE_WEIGHT
}

/// Something that is never refused.
pub(crate) enum Completion {
    /// An input as it is.
    Input(Input),
    /// A connection that refused messages has room again.
    Writable(Arc<Link>),
}

/// What happens to a WebSocket connection, in order.
pub(crate) enum SocketEvent {
    /// It is there.
    Open(Arc<Link>),
    /// It began.
    Start(Arc<Link>, Box<Opening>),
    /// It said something, which took this much of its credits.
    Data(Arc<Link>, Bytes, usize),
    /// It is gone.
    Gone(Arc<Link>, Gone),
}

#[derive(Default)]
struct Queues {
    completions: Vec<Completion>,
    calls: VecDeque<Input>,
    call_bytes: usize,
    events: VecDeque<SocketEvent>,
    window: CapacityWindow,
}

impl Queues {
    /// Gives the memory of bursts back, once a second.
    fn give_back(&mut self, now_us: u64) {
        let most = self.completions.len().max(self.calls.len()).max(self.events.len());
        if let Some(rows) = self.window.keep(now_us, BURST_US, most) {
            self.completions.shrink_to(rows);
            self.calls.shrink_to(rows);
            self.events.shrink_to(rows);
        }
    }

    fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.calls.is_empty() && self.events.is_empty()
    }
}

/// What the frame thread took; its lists are used again and again.
#[derive(Default)]
pub(crate) struct Drained {
    pub(crate) completions: Vec<Completion>,
    pub(crate) calls: Vec<Input>,
    pub(crate) events: Vec<SocketEvent>,
}

/// Where the answer to each call goes.
type Replies = BTreeMap<Ticket, oneshot::Sender<Result<Bytes, Fault>>>;

/// The meeting place of the frame thread and all other threads.
pub struct Bridge {
    queues: Mutex<Queues>,
    /// Whoever waits for the answer to a call. `None`: the server stops.
    waiting: Mutex<Option<Replies>>,
    next_ticket: AtomicU64,
    pub(crate) credit: Semaphore,
    waker: Waker,
    /// Something that lies in no queue wants the frame thread to look.
    nudged: AtomicBool,
    stop: AtomicBool,
}

impl Bridge {
    /// Makes one.
    ///
    /// # Errors
    /// The operating system gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Bridge {
            queues: Mutex::default(),
            waiting: Mutex::new(Some(BTreeMap::new())),
            // Tickets of doors are even, those of jobs odd.
            next_ticket: AtomicU64::new(2),
            credit: Semaphore::new(STREAM_BYTES_MAX),
            waker: Waker::new()?,
            nudged: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        })
    }

    // ---- for all threads ----

    /// Hands an input to the next frame. For what is never refused: answers of jobs and questions of scripts.
    pub fn input(&self, input: Input) {
        self.complete(Completion::Input(input));
    }

    pub(crate) fn complete(&self, completion: Completion) {
        lock(&self.queues).completions.push(completion);
        self.waker.wake();
    }

    pub(crate) fn event(&self, event: SocketEvent) {
        lock(&self.queues).events.push_back(event);
        self.waker.wake();
    }

    /// Calls an operation.
    ///
    /// # Errors
    /// `busy` when too many calls wait, `stopping` at the end.
    pub(crate) fn call(
        self: &Arc<Self>,
        op: String,
        identity: Option<Identity>,
        address: IpAddr,
        body: Body,
    ) -> Result<Waiting, Fault> {
        let (sender, receiver) = oneshot::channel();
        let ticket = Ticket(self.next_ticket.fetch_add(2, Ordering::Relaxed));
        let busy = || Fault::from(FaultKind::Busy).retry_in_ms(1000);
        {
            let mut waiting = lock(&self.waiting);
            let waiting = waiting.as_mut().ok_or(FaultKind::Stopping)?;
            if waiting.len() >= WAITING_MAX {
                return Err(busy());
            }
            waiting.insert(ticket, sender);
        }
        let waiting = Waiting { ticket, receiver, bridge: self.clone(), answered: false };
        let bytes = size(&body);
        {
            let mut queues = lock(&self.queues);
            if queues.calls.len() >= CALLS_MAX || queues.call_bytes + bytes > CALL_BYTES_MAX {
                return Err(busy());
            }
            queues.call_bytes += bytes;
            queues.calls.push_back(Input::Call { ticket, op, identity, address, body });
        }
        self.waker.wake();
        Ok(waiting)
    }

    /// Wakes the frame thread, or keeps it from its next sleep: something lies ready in a door.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Asks the runner to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    // ---- for the frame thread ----

    /// Returns whether the runner was asked to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Returns whether the queues are empty.
    pub fn is_empty(&self) -> bool {
        lock(&self.queues).is_empty()
    }

    /// Sleeps until there is something to take, until the runner is asked to stop, until `socket` can be read (or written,
    /// if it says so), or until the time is over (`None`: never). Returns whether it was anything but the time.
    pub(crate) fn wait(&self, socket: Option<(BorrowedFd<'_>, bool)>, time_out: Option<Duration>) -> bool {
        self.waker.wait(socket, time_out, || self.something_came() || self.stopping())
    }

    /// As [`Bridge::wait`], for a runner that is stopping already: the wish to stop does not wake it.
    pub(crate) fn wait_while_stopping(
        &self,
        socket: Option<(BorrowedFd<'_>, bool)>,
        time_out: Option<Duration>,
    ) -> bool {
        self.waker.wait(socket, time_out, || self.something_came())
    }

    /// Whether something lies in a queue or a door. Takes the nudge.
    fn something_came(&self) -> bool {
        self.nudged.swap(false, Ordering::SeqCst) || !self.is_empty()
    }

    /// Takes what one frame should take: all completions, and calls and events up to a bound. `now_us` is the
    /// runner's clock.
    pub(crate) fn drain(&self, now_us: u64, drained: &mut Drained) {
        let mut back = 0;
        {
            let mut queues = lock(&self.queues);
            queues.give_back(now_us);
            if queues.is_empty() {
                return;
            }
            drained.completions.append(&mut queues.completions);
            let calls = queues.calls.len().min(FRAME_CALLS_MAX);
            drained.calls.extend(queues.calls.drain(..calls));
            let bytes: usize = drained.calls.iter().map(call_size).sum();
            queues.call_bytes = queues.call_bytes.saturating_sub(bytes);
            while back < FRAME_WEIGHT_MAX && drained.events.len() < FRAME_INPUTS_MAX {
                let Some(event) = queues.events.pop_front() else { break };
                if let SocketEvent::Data(link, _, weight) = &event {
                    back += weight;
                    link.credit.add_permits((*weight).min(IN_CREDIT));
                }
                drained.events.push(event);
            }
        }
        if back > 0 {
            self.credit.add_permits(back);
        }
    }

    /// Hands an answer to the caller that waits for it.
    pub(crate) fn reply(&self, reply: Reply) {
        let sender = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&reply.ticket));
        if let Some(sender) = sender {
            // The caller may have left a moment ago; then nobody wants the answer.
            let _ = sender.send(reply.result);
        }
    }

    /// The frame thread ends: nobody gets an answer any more.
    pub(crate) fn close(&self) {
        lock(&self.waiting).take();
        self.credit.close();
    }
}

fn size(body: &Body) -> usize {
    match body {
        Body::Json(bytes) => bytes.len(),
        Body::Rest(came) => {
            let RestRequest { parameters, query, body, .. } = &**came;
            let pairs = parameters.iter().chain(query);
            body.len() + pairs.map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
        }
    }
}

fn call_size(input: &Input) -> usize {
    match input {
        Input::Call { body, .. } => size(body),
        _ => 0,
    }
}

/// A call whose answer is awaited. If it is dropped before the answer, the frame is told that nobody waits any more.
pub(crate) struct Waiting {
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<Bytes, Fault>>,
    bridge: Arc<Bridge>,
    answered: bool,
}

impl Waiting {
    /// The answer.
    pub(crate) async fn answer(mut self) -> Result<Bytes, Fault> {
        let answer = (&mut self.receiver).await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(FaultKind::Stopping.into()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waited = lock(&self.bridge.waiting).as_mut().and_then(|waiting| waiting.remove(&self.ticket));
        if waited.is_some() {
            self.bridge.input(Input::Cancel { ticket: self.ticket });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge() -> Arc<Bridge> {
        Arc::new(Bridge::new().expect("a descriptor"))
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn calls_are_bounded_and_their_answers_find_them() {
        let bridge = bridge();
        let call = |bridge: &Arc<Bridge>| bridge.call("a".into(), None, HERE, Body::Json(Bytes::new()));
        let mut waiting: Vec<Waiting> = (0..CALLS_MAX).map(|_| call(&bridge).expect("room")).collect();
        assert_eq!(call(&bridge).err().map(|fault| fault.kind), Some(FaultKind::Busy));
        let mut drained = Drained::default();
        bridge.drain(0, &mut drained);
        assert_eq!(drained.calls.len(), FRAME_CALLS_MAX);
        let last = waiting.pop().expect("many");
        bridge.reply(Reply { ticket: last.ticket, result: Ok(Bytes::from_static(b"7")) });
        let mut last = last;
        assert_eq!(last.receiver.try_recv(), Ok(Ok(Bytes::from_static(b"7"))));
        last.answered = true;
        // The frame is told of a caller that leaves without its answer.
        let first = waiting.remove(0);
        let ticket = first.ticket;
        drop(first);
        let mut drained = Drained::default();
        bridge.drain(0, &mut drained);
        let cancelled = drained.completions.iter().any(
            |completion| matches!(completion, Completion::Input(Input::Cancel { ticket: cancelled }) if *cancelled == ticket),
        );
        assert!(cancelled);
        bridge.close();
        assert_eq!(call(&bridge).err().map(|fault| fault.kind), Some(FaultKind::Stopping));
    }

    #[test]
    fn a_frame_takes_a_bounded_part_of_the_stream_and_gives_credit_back() {
        let bridge = bridge();
        let link = Arc::new(Link::new(HERE));
        for _ in 0..10 {
            bridge.event(SocketEvent::Data(link.clone(), Bytes::new(), FRAME_WEIGHT_MAX / 4));
        }
        let before = (bridge.credit.available_permits(), link.credit.available_permits());
        let mut drained = Drained::default();
        bridge.drain(0, &mut drained);
        assert_eq!(drained.events.len(), 4);
        assert_eq!(bridge.credit.available_permits(), before.0 + FRAME_WEIGHT_MAX);
        assert_eq!(link.credit.available_permits(), before.1 + FRAME_WEIGHT_MAX);
        assert!(!bridge.is_empty());
    }

    #[test]
    fn no_piece_is_free_and_a_frame_takes_a_bounded_number_of_them() {
        assert_eq!([weight(b""), weight(&[3, 0, 0]), weight(&[3, 0, 0, 3, 0, 0])], [29, 61, 93]);
        let bridge = bridge();
        let link = Arc::new(Link::new(HERE));
        for _ in 0..100_000 {
            bridge.event(SocketEvent::Data(link.clone(), Bytes::new(), 0));
        }
        let mut drained = Drained::default();
        bridge.drain(0, &mut drained);
        assert_eq!(drained.events.len(), FRAME_INPUTS_MAX);
    }
}
