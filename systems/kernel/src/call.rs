//! Calls: `async fn` handlers, polled inside the frame in the order of their tickets.
//!
//! While calls are polled the world stands in a cell that handlers reach through [`Call::with`], and
//! only for the length of a closure: the compiler sees to it that no borrow of the world crosses an
//! `.await`. Nothing can be awaited but a job or a turn; a future that waits for anything else is refused.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bevy_ecs::prelude::*;
use bevy_ecs::system::{IntoSystem, SystemInput};
use bytes::Bytes;

use crate::clock::Clock;
use crate::codec::Form;
use crate::failures::{Ended, fault_of, guarded_or_fault};
use crate::fault::{Fault, FaultKind};
use crate::ids::{RoomId, SessionId, Ticket};
use crate::input::{Body, Identity};
use crate::op::{Auth, Handler, HandlerFuture, OpId, OpTable, Ops, Payload};
use crate::output::{Channel, Job, JobKind, Outputs};
use crate::session::{Session, SessionIndex};
use crate::settings::Settings;

/// Who calls.
#[derive(Clone, PartialEq, Debug)]
pub enum Caller {
    /// A live session.
    Session(SessionId),
    /// Credentials that a door proved, without a session.
    User(Identity),
    /// Nobody in particular.
    Anonymous,
    /// A room's script.
    Room(RoomId),
    /// The server, a hook or a plugin.
    Server,
}

impl Caller {
    /// The calling session, if it is one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Caller::Session(id) => Some(*id),
            _ => None,
        }
    }

    /// Who stands behind it: the identity that a door proved. `None`: nobody in particular, a script or the server,
    /// or a session that is gone.
    pub fn identity<'a>(&'a self, world: &'a World) -> Option<&'a Identity> {
        match self {
            Caller::Session(id) => {
                let entity = world.resource::<SessionIndex>().get(*id)?;
                world.get::<Session>(entity).map(|session| &session.identity)
            }
            Caller::User(identity) => Some(identity),
            Caller::Anonymous | Caller::Room(_) | Caller::Server => None,
        }
    }

    /// Is it a script, a plugin or the server itself?
    pub fn is_server(&self) -> bool {
        matches!(self, Caller::Room(_) | Caller::Server)
    }

    /// May this caller call an operation with that auth?
    ///
    /// # Errors
    /// `unauthenticated`, `needs_session` or `denied`.
    pub fn allowed(&self, auth: Auth) -> Result<(), Fault> {
        match (auth, self) {
            (Auth::Public, _) | (_, Caller::Server) => Ok(()),
            (Auth::User, Caller::Anonymous) => Err(Fault::new(
                FaultKind::Unauthenticated,
                "credentials are missing: send a session token as `Authorization: Bearer …`",
            )),
            (Auth::User, _) | (Auth::Session, Caller::Session(_)) | (Auth::Server, Caller::Room(_)) => Ok(()),
            (Auth::Session, _) => Err(FaultKind::NeedsSession.into()),
            (Auth::Server, _) => {
                Err(Fault::new(FaultKind::Denied, "only scripts and the server may do this"))
            }
        }
    }
}

/// Where a call's answer goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum ReplyTo {
    /// A session's message.
    Session { session: SessionId, cid: u32, form: Form },
    /// A door that holds a ticket.
    Door { ticket: Ticket, wire: bool },
    /// A script that runs as a job.
    Ask { ticket: Ticket, seq: u32 },
    /// Nobody: a script's command. A refusal goes to the log.
    Log,
}

/// A call that was routed and waits for its hook and its turn.
pub(crate) struct Routed {
    pub(crate) op: OpId,
    pub(crate) caller: Caller,
    pub(crate) request: Result<Box<dyn Payload>, Fault>,
    pub(crate) reply_to: ReplyTo,
}

/// A call that has its answer.
pub(crate) struct Finished {
    pub(crate) op: OpId,
    pub(crate) caller: Caller,
    /// The request as JSON, kept only when a hook will ask for it.
    pub(crate) request: Option<serde_json::Value>,
    pub(crate) result: Result<Box<dyn Payload>, Fault>,
    pub(crate) reply_to: ReplyTo,
}

struct Active {
    op: OpId,
    caller: Caller,
    request: Option<serde_json::Value>,
    reply_to: ReplyTo,
    work: HandlerFuture,
    outstanding: Outstanding,
    /// Its rows in `by_ticket`.
    entered: Vec<Ticket>,
    deadline: u64,
}

impl Active {
    /// Counts against the bounds of those who wait? What scripts and the server call does not: it is bounded by
    /// them, and has to pass when clients fill the queue.
    fn waits_for(&self) -> Option<Waiter> {
        match &self.caller {
            Caller::Session(id) => Some(Waiter::Session(*id)),
            Caller::User(_) | Caller::Anonymous => Some(Waiter::Door),
            Caller::Room(_) | Caller::Server => None,
        }
    }
}

/// Who waits for calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Session(SessionId),
    /// Everyone who has no session: doors have limits by address.
    Door,
}

/// The jobs of one call that have no answer yet, from the moment they are sent.
type Outstanding = Rc<RefCell<BTreeSet<Ticket>>>;

/// The cell in which the world stands while calls are polled.
struct WorldCell {
    world: RefCell<World>,
    jobs: RefCell<Vec<Job>>,
    next_ticket: Cell<u64>,
    answers: RefCell<BTreeMap<Ticket, Result<Bytes, Fault>>>,
    /// Turns that this frame may still give: see [`Call::turn`].
    turns: Cell<u32>,
    /// Who waits for one, in the order of asking. At most as many as calls may wait.
    queue: RefCell<VecDeque<Ticket>>,
}

/// Every call under way. Lives beside the world as non-send data.
pub(crate) struct Calls {
    cell: Rc<WorldCell>,
    pub(crate) routed: Vec<Routed>,
    /// By number, so also by deadline: all calls may wait equally long.
    active: BTreeMap<u64, Active>,
    by_ticket: BTreeMap<Ticket, u64>,
    by_door: BTreeMap<Ticket, u64>,
    waiters: BTreeMap<Waiter, u32>,
    /// Clients' calls that wait.
    waiting: u32,
    ready: Vec<u64>,
    pub(crate) finished: Vec<Finished>,
    next_call: u64,
}

impl Calls {
    pub(crate) fn new() -> Self {
        let cell = WorldCell {
            world: RefCell::new(World::new()),
            jobs: RefCell::default(),
            // Tickets of doors are even, those of jobs odd: one number never means both.
            next_ticket: Cell::new(1),
            answers: RefCell::default(),
            turns: Cell::new(0),
            queue: RefCell::default(),
        };
        Calls {
            cell: Rc::new(cell),
            routed: Vec::new(),
            active: BTreeMap::new(),
            by_ticket: BTreeMap::new(),
            by_door: BTreeMap::new(),
            waiters: BTreeMap::new(),
            waiting: 0,
            ready: Vec::new(),
            finished: Vec::new(),
            next_call: 0,
        }
    }

    /// Rows of tickets and answers, for tests: none when nobody waits.
    #[cfg(test)]
    fn rows(&self) -> (usize, usize) {
        (self.by_ticket.len(), self.cell.answers.borrow().len())
    }

    /// Calls that wait for a job.
    pub(crate) fn waiting(&self) -> usize {
        self.active.len()
    }

    /// The caller of the call that waits for this job.
    pub(crate) fn caller_of(&self, ticket: Ticket) -> Option<Caller> {
        let call = self.by_ticket.get(&ticket)?;
        self.active.get(call).map(|active| active.caller.clone())
    }

    /// A job's answer. One that nobody waits for is dropped.
    pub(crate) fn done(&mut self, ticket: Ticket, answer: Result<Bytes, Fault>) {
        if let Some(call) = self.by_ticket.remove(&ticket) {
            self.cell.answers.borrow_mut().insert(ticket, answer);
            self.ready.push(call);
        }
    }

    /// The door that waited is gone; the call goes on to its end.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        let call = self.by_door.remove(&ticket);
        if let Some(active) = call.and_then(|call| self.active.get_mut(&call)) {
            active.reply_to = ReplyTo::Log;
        }
    }
}

/// Runs what was routed and what has its answer. The whole of `Core::Serve`.
pub(crate) fn serve(world: &mut World) {
    let Some(mut calls) = world.remove_non_send::<Calls>() else { return };
    let idle = calls.routed.is_empty() && calls.ready.is_empty() && calls.active.is_empty();
    if !idle {
        let ops = world.resource::<Ops>().0.clone();
        let frame = world.resource::<Clock>().frame();
        let cell = calls.cell.clone();
        std::mem::swap(world, &mut cell.world.borrow_mut());
        calls.poll_all(&ops, frame);
        calls.expire(frame);
        std::mem::swap(world, &mut cell.world.borrow_mut());
        world
            .resource_mut::<FrameOutputs>()
            .bypass_change_detection()
            .0
            .jobs
            .append(&mut cell.jobs.borrow_mut());
    }
    world.insert_non_send(calls);
}

/// The outputs that systems of this frame fill.
#[derive(Resource, Default)]
pub(crate) struct FrameOutputs(pub(crate) Outputs);

impl Calls {
    fn poll_all(&mut self, ops: &Arc<OpTable>, frame: u64) {
        self.give_turns();
        self.ready.sort_unstable();
        self.ready.dedup();
        for call in std::mem::take(&mut self.ready) {
            self.poll(call);
        }
        for routed in std::mem::take(&mut self.routed) {
            self.start(ops, frame, routed);
        }
        if !self.cell.queue.borrow().is_empty() {
            self.cell.world.borrow().resource::<Clock>().wake_at(frame + 1);
        }
    }

    /// Gives this frame's turns to those who waited longest.
    fn give_turns(&mut self) {
        let cell = self.cell.clone();
        cell.turns.set(cell.world.borrow().resource::<Settings>().room.frame_openings_max);
        while cell.turns.get() > 0 {
            let Some(ticket) = cell.queue.borrow_mut().pop_front() else { break };
            // One that ended meanwhile takes nothing.
            if self.by_ticket.contains_key(&ticket) {
                cell.turns.set(cell.turns.get() - 1);
                self.done(ticket, Ok(Bytes::new()));
            }
        }
    }

    fn start(&mut self, ops: &Arc<OpTable>, frame: u64, routed: Routed) {
        let Routed { op, caller, request, reply_to } = routed;
        let request = match request {
            Ok(request) => request,
            Err(fault) => {
                self.finished.push(Finished { op, caller, request: None, result: Err(fault), reply_to });
                return;
            }
        };
        let Some(row) = ops.get(op) else { return };
        let hooked = {
            let world = self.cell.world.borrow();
            world.get_resource::<crate::script::AfterHooks>().is_some_and(|hooks| hooks.0.contains(&op))
        };
        let kept = hooked.then(|| {
            let json =
                guarded_or_fault(&row.op.name, || Ok(serde_json::to_value(&*request).unwrap_or_default()));
            json.unwrap_or_default()
        });
        match &row.handler {
            Handler::Read(read) => {
                let world = self.cell.world.borrow();
                let result = guarded_or_fault(&row.op.name, || read(&world, &caller, request));
                self.finished.push(Finished { op, caller, request: kept, result, reply_to });
            }
            Handler::Start(start) => {
                let wait_frames = match self.admit(&caller) {
                    Ok(wait_frames) => wait_frames,
                    Err(busy) => {
                        let result = Err(busy);
                        self.finished.push(Finished { op, caller, request: kept, result, reply_to });
                        return;
                    }
                };
                let outstanding = Outstanding::default();
                let call = Call {
                    cell: self.cell.clone(),
                    caller: caller.clone(),
                    outstanding: outstanding.clone(),
                };
                let started = guarded_or_fault(&row.op.name, || Ok(start(call, request)));
                match started {
                    Ok(work) => {
                        let number = self.next_call;
                        self.next_call += 1;
                        let deadline = frame + wait_frames;
                        let entered = Vec::new();
                        let active = Active {
                            op,
                            caller,
                            request: kept,
                            reply_to,
                            work,
                            outstanding,
                            entered,
                            deadline,
                        };
                        self.enter(number, active);
                        self.poll(number);
                    }
                    Err(fault) => {
                        self.finished.push(Finished {
                            op,
                            caller,
                            request: kept,
                            result: Err(fault),
                            reply_to,
                        });
                    }
                }
            }
        }
    }

    fn poll(&mut self, number: u64) {
        let Some(active) = self.active.get_mut(&number) else { return };
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| active.work.as_mut().poll(&mut context)));
        let result = match polled {
            Ok(Poll::Pending) if active.outstanding.borrow().is_empty() => {
                Err(Fault::internal("the handler awaits something that is not a job: nothing would wake it"))
            }
            Ok(Poll::Pending) => {
                // One that was answered and not asked for yet waits among the answers; one that was dropped unasked
                // waits for nothing.
                let (waits, answers) = (active.outstanding.borrow(), self.cell.answers.borrow());
                for ticket in active.entered.drain(..) {
                    self.by_ticket.remove(&ticket);
                }
                active.entered.extend(waits.iter().filter(|ticket| !answers.contains_key(ticket)));
                self.by_ticket.extend(active.entered.iter().map(|ticket| (*ticket, number)));
                return;
            }
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(fault_of(panic.as_ref())),
        };
        self.finish(number, result);
    }

    /// May this caller's call begin, which may wait? How long, in frames.
    fn admit(&self, caller: &Caller) -> Result<u64, Fault> {
        let world = self.cell.world.borrow();
        let settings = &world.resource::<Settings>().call;
        let busy = |why: &'static str| Err(Fault::new(FaultKind::Busy, why).retry_in_ms(1000));
        if !caller.is_server() && self.waiting >= settings.waiting_max {
            return busy("too many calls wait for an answer on this server");
        }
        if let Some(id) = caller.session()
            && self.waiters.get(&Waiter::Session(id)).is_some_and(|n| *n >= settings.session_waiting_max)
        {
            return busy("too many calls of this session wait for an answer");
        }
        Ok(world.resource::<Clock>().frames_in_ms(settings.wait_ms))
    }

    fn enter(&mut self, number: u64, active: Active) {
        if let Some(waiter) = active.waits_for() {
            *self.waiters.entry(waiter).or_default() += 1;
            self.waiting += 1;
        }
        if let ReplyTo::Door { ticket, .. } = active.reply_to {
            self.by_door.insert(ticket, number);
        }
        self.active.insert(number, active);
    }

    /// A call is over, whether its handler came to its end or not.
    fn finish(&mut self, number: u64, result: Result<Box<dyn Payload>, Fault>) {
        let Some(active) = self.active.remove(&number) else { return };
        if let Some(waiter) = active.waits_for()
            && let Some(count) = self.waiters.get_mut(&waiter)
        {
            self.waiting -= 1;
            *count -= 1;
            if *count == 0 {
                self.waiters.remove(&waiter);
            }
        }
        let Active { op, caller, request, reply_to, work, outstanding, entered, .. } = active;
        if let ReplyTo::Door { ticket, .. } = reply_to {
            self.by_door.remove(&ticket);
        }
        self.forget(&entered, &outstanding);
        // A handler's destructor may touch the world through its Call, or panic: both stay here.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        self.finished.push(Finished { op, caller, request, result, reply_to });
    }

    /// A call is over: answers to its jobs have nobody to come to.
    fn forget(&mut self, entered: &[Ticket], outstanding: &Outstanding) {
        for ticket in entered {
            self.by_ticket.remove(ticket);
        }
        for ticket in outstanding.borrow().iter() {
            self.cell.answers.borrow_mut().remove(ticket);
        }
    }

    /// Gives up calls that waited too long, and asks for the frame in which the next one does.
    fn expire(&mut self, frame: u64) {
        while let Some((number, active)) = self.active.first_key_value() {
            if active.deadline > frame {
                self.cell.world.borrow().resource::<Clock>().wake_at(active.deadline);
                return;
            }
            self.finish(*number, Err(FaultKind::Deadline.into()));
        }
    }
}

/// An operation that works on the calling session was called by something that is none.
fn no_session() -> Fault {
    let why = "this works on the session that calls: a script, the server or a request over HTTP is none";
    Fault::new(FaultKind::NeedsSession, why)
}

/// A handler's way to the world and to jobs.
pub struct Call {
    cell: Rc<WorldCell>,
    caller: Caller,
    outstanding: Outstanding,
}

impl Call {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Works on the world, now.
    ///
    /// # Panics
    /// When called inside itself. The panic ends this call with a fault and nothing else.
    pub fn with<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        work(&mut self.cell.world.borrow_mut())
    }

    /// Works on a component of the calling session.
    ///
    /// Ends the call with `session_gone` when the session ended meanwhile, with `needs_session` when there never
    /// was one, with `internal` when sessions do not have the component. A client that calls an operation registered
    /// with [`Op::session`](crate::op::Op::session) always has one until its first `.await`; a script that calls it
    /// is no session.
    pub fn me<C: Component<Mutability = bevy_ecs::component::Mutable>, R>(
        &self,
        work: impl FnOnce(&mut C) -> R,
    ) -> R {
        let done = self.with(|world| {
            let id = self.caller.session().ok_or_else(no_session)?;
            let entity = world.resource::<SessionIndex>().get(id).ok_or(FaultKind::SessionGone)?;
            let mut component = world.get_mut::<C>(entity).ok_or_else(|| {
                let name = std::any::type_name::<C>();
                Fault::internal(format!(
                    "sessions have no {name}: register it with `register_required_components::<Session, _>()`"
                ))
            })?;
            Ok(work(&mut component))
        });
        done.unwrap_or_else(|fault: Fault| resume_unwind(Box::new(Ended(fault))))
    }

    /// Runs a bevy system with an input.
    ///
    /// # Errors
    /// [`FaultKind::Internal`] when the system cannot run, for example since it asks for a resource that is not there.
    pub fn run<I, O, M, S>(&self, system: S, input: I::Inner<'static>) -> Result<O, Fault>
    where
        I: SystemInput + 'static,
        O: 'static,
        S: IntoSystem<I, O, M> + 'static,
        I::Inner<'static>: 'static,
    {
        self.with(|world| world.run_system_cached_with(system, input))
            .map_err(|error| Fault::internal(format!("a system of this operation cannot run: {error}")))
    }

    /// Sends work out of the frame by the name under which it was registered, and waits for its answer.
    ///
    /// # Errors
    /// The job's own; `busy` when the queue of jobs is full, `deadline` when it took too long (then the
    /// whole call is given up).
    pub fn job(&self, name: &str, body: impl Into<Bytes>) -> JobAnswer {
        self.job_of(JobKind::Named { name: name.to_owned(), body: body.into() })
    }

    /// [`Call::job`] for the kinds that the server itself knows.
    pub fn job_of(&self, kind: JobKind) -> JobAnswer {
        let ticket = self.draw();
        self.cell.jobs.borrow_mut().push(Job { ticket, kind });
        self.wait_for(ticket)
    }

    fn draw(&self) -> Ticket {
        let ticket = Ticket(self.cell.next_ticket.get());
        self.cell.next_ticket.set(ticket.0 + 2);
        ticket
    }

    fn wait_for(&self, ticket: Ticket) -> JobAnswer {
        self.outstanding.borrow_mut().insert(ticket);
        JobAnswer { cell: self.cell.clone(), outstanding: self.outstanding.clone(), ticket }
    }

    /// Waits for its turn to do what takes a frame long, such as opening a match. A frame gives
    /// `room.frame_openings_max` turns, to those first who asked first; what scripts and the server call has its turn
    /// at once, and one of the frame's less is left. Returns whether it waited: then the world may have changed.
    ///
    /// # Errors
    /// None of its own: a call that waits too long ends as one that waits for a job does.
    pub async fn turn(&self) -> Result<bool, Fault> {
        let left = self.cell.turns.get();
        if self.caller.is_server() || (left > 0 && self.cell.queue.borrow().is_empty()) {
            self.cell.turns.set(left.saturating_sub(1));
            return Ok(false);
        }
        let ticket = self.draw();
        self.cell.queue.borrow_mut().push_back(ticket);
        self.wait_for(ticket).await.map(|_| true)
    }

    /// The session that calls.
    ///
    /// # Errors
    /// [`FaultKind::NeedsSession`] when the caller is none, [`FaultKind::SessionGone`] when it ended meanwhile.
    pub fn session(&self) -> Result<Session, Fault> {
        let id = self.caller.session().ok_or_else(no_session)?;
        self.with(|world| {
            let entity = world.resource::<SessionIndex>().get(id)?;
            world.get::<Session>(entity).cloned()
        })
        .ok_or_else(|| FaultKind::SessionGone.into())
    }
}

/// What a job answers, once it does.
pub struct JobAnswer {
    cell: Rc<WorldCell>,
    outstanding: Outstanding,
    ticket: Ticket,
}

impl JobAnswer {
    /// The job's number.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl Drop for JobAnswer {
    /// Nobody will ask for it: the call waits for it no longer, and its answer is dropped.
    fn drop(&mut self) {
        if let Ok(mut outstanding) = self.outstanding.try_borrow_mut() {
            outstanding.remove(&self.ticket);
        }
        if let Ok(mut answers) = self.cell.answers.try_borrow_mut() {
            answers.remove(&self.ticket);
        }
    }
}

impl Future for JobAnswer {
    type Output = Result<Bytes, Fault>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.answers.borrow_mut().remove(&self.ticket) {
            Some(answer) => {
                self.outstanding.borrow_mut().remove(&self.ticket);
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

/// Routes one call: looks up its operation, checks who calls and reads the request.
pub(crate) fn route(
    calls: &mut Calls,
    ops: &OpTable,
    name: &str,
    caller: Caller,
    body: &Body,
    reply_to: ReplyTo,
) -> Result<(), Fault> {
    let row = ops.by_name(name).ok_or_else(|| {
        Fault::new(FaultKind::Unimplemented, format!("there is no operation `{name}` on this server"))
    })?;
    caller.allowed(row.op.auth)?;
    let request = row.parse_body(body);
    calls.routed.push(Routed { op: row.id, caller, request, reply_to });
    Ok(())
}

/// The channel in which an operation's answer is counted.
pub(crate) fn channel_of(ops: &OpTable, op: OpId, form: Form) -> Channel {
    match form {
        Form::Json => Channel::Control,
        Form::Wire => ops.get(op).map_or(Channel::Control, |row| row.op.channel),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::app::KaosApp;
    use crate::input::{Boot, Input};
    use crate::op::Op;
    use crate::server::{Build, Server};

    #[test]
    fn nothing_of_a_call_stays_in_whatever_order_its_jobs_are_answered_or_dropped() {
        let built = Server::build(Build::default(), |app| {
            app.job("x", Ok).op(Op::new("two").public(), async |cx: Call, _: ()| -> Result<(), Fault> {
                let (a, b, unasked) = (cx.job("x", "a"), cx.job("x", "b"), cx.job("x", "c"));
                a.await?;
                drop(unasked);
                b.await?;
                Ok(())
            });
        });
        let mut server = built.expect("it fits");
        let (mut inputs, mut outputs) =
            (vec![Input::Boot(Boot { seed: 1, wall_ms: 1, node: 1 })], Outputs::default());
        let mut frame = 0;
        let mut run = |server: &mut Server, input: Option<Input>| {
            inputs.extend(input);
            server.frame(frame, &mut inputs, &mut outputs);
            frame += 1;
            std::mem::take(&mut outputs)
        };
        run(&mut server, None);
        for (call, order) in
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
        {
            let ticket = Ticket(2 * call as u64 + 2);
            let asked = Input::Call {
                ticket,
                op: "two".into(),
                identity: None,
                address: Ipv4Addr::LOCALHOST.into(),
                body: Body::Json("".into()),
            };
            let jobs: Vec<Ticket> = run(&mut server, Some(asked)).jobs.iter().map(|job| job.ticket).collect();
            assert_eq!(jobs.len(), 3);
            let mut replies = 0;
            for at in order {
                let done = Input::Done { ticket: jobs[at], answer: Ok(Bytes::new()) };
                replies +=
                    run(&mut server, Some(done)).replies.iter().filter(|reply| reply.result.is_ok()).count();
            }
            assert_eq!(replies, 1, "{order:?}");
            let calls = server.world().get_non_send::<Calls>().expect("always there");
            assert_eq!((calls.waiting(), calls.rows()), (0, (0, 0)), "{order:?}");
        }
    }
}
