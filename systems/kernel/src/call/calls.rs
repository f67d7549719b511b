//! Every call under way: started, polled in the order in which they started, finished.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::payer::Payer;
use super::{Call, Outstanding, WorldCell};
use crate::call::CallSettings;
use crate::call::handler::{Handler, HandlerFuture, Handlers};
use crate::call::hooked::AfterHooks;
use crate::clock::Clock;
use crate::codec::Form;
use crate::failures::{fault_of, guarded_or_fault};
use crate::fault::{Fault, FaultKind};
use crate::ids::{SessionId, Ticket};
use crate::input::Body;
use crate::op::{Caller, OpId, OpRow, OpTable, Payload};
use crate::output::FrameOutputs;
use crate::room::RoomSettings;
use crate::world::WorldExt;

/// Where a call's reply goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum ReplyTo {
    /// To a session, as the reply to its `cid`.
    Session { session: SessionId, cid: u32, form: Form },
    /// To a door that waits with a ticket.
    Door { ticket: Ticket, face: Option<u16>, address: IpAddr },
    /// To a script that runs as a job.
    Ask { ticket: Ticket, seq: u32 },
    /// Nobody: the door that waited is gone, and its address still pays.
    Gone { address: IpAddr },
    /// Nobody: a script's command. A refusal goes to the log.
    Log,
}

impl ReplyTo {
    /// Who pays for a call whose answer goes there.
    pub(crate) fn payer(&self) -> Payer {
        match self {
            ReplyTo::Session { session, .. } => Payer::Session(*session),
            ReplyTo::Door { address, .. } | ReplyTo::Gone { address } => Payer::Address(*address),
            ReplyTo::Ask { .. } | ReplyTo::Log => Payer::Nobody,
        }
    }
}

/// A call that waits for its before-hook and for Serve. With `request: Err` it is refused already.
pub(crate) struct Routed {
    pub(crate) op: OpId,
    pub(crate) caller: Caller,
    pub(crate) request: Result<Box<dyn Payload>, Fault>,
    pub(crate) reply_to: ReplyTo,
}

/// A call that has its reply.
pub(crate) struct Finished {
    pub(crate) op: OpId,
    pub(crate) caller: Caller,
    /// The request as JSON, kept only for an after-hook.
    pub(crate) request: Option<serde_json::Value>,
    pub(crate) result: Result<Box<dyn Payload>, Fault>,
    pub(crate) reply_to: ReplyTo,
}

/// A call that waits.
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
    /// Whose bound of waiting calls it counts against. `None` for scripts and the server: their calls are bounded by
    /// them, and have to pass when clients fill the queue.
    fn waiter(&self) -> Option<Waiter> {
        match &self.caller {
            Caller::Session(id) => Some(Waiter::Session(*id)),
            Caller::User(_) | Caller::Anonymous => Some(Waiter::Door),
            Caller::Room(_) | Caller::Server => None,
        }
    }
}

/// Whose calls wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Session(SessionId),
    /// Everyone who has no session: doors have limits by address.
    Door,
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
    /// How many of them are clients'.
    clients_waiting: u32,
    /// Calls that something came for since they were polled.
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
            clients_waiting: 0,
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

    /// How many calls wait, those of scripts and the server included.
    pub(crate) fn waiting(&self) -> usize {
        self.active.len()
    }

    /// The caller of the call that waits for this job.
    pub(crate) fn caller_of(&self, ticket: Ticket) -> Option<Caller> {
        let call = self.by_ticket.get(&ticket)?;
        self.active.get(call).map(|active| active.caller.clone())
    }

    /// What a ticket stands for has come: a job's result, or a turn. Dropped when nobody waits for it.
    pub(crate) fn done(&mut self, ticket: Ticket, answer: Result<Bytes, Fault>) {
        if let Some(call) = self.by_ticket.remove(&ticket) {
            self.cell.answers.borrow_mut().insert(ticket, answer);
            self.ready.push(call);
        }
    }

    /// The door that waited is gone; the call goes on to its end.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        let call = self.by_door.remove(&ticket);
        if let Some(active) = call.and_then(|call| self.active.get_mut(&call))
            && let ReplyTo::Door { address, .. } = active.reply_to
        {
            active.reply_to = ReplyTo::Gone { address };
        }
    }
}

impl Calls {
    /// Resumes the calls that something came for, then starts those that were routed. Meanwhile the world is in the
    /// cell, where handlers reach it.
    pub(crate) fn serve(&mut self, world: &mut World) {
        if self.routed.is_empty() && self.ready.is_empty() && self.active.is_empty() {
            return;
        }
        let ops = world.ops();
        let handlers = world.resource::<Handlers>().clone();
        let frame = world.resource::<Clock>().frame();
        let cell = self.cell.clone();
        std::mem::swap(world, &mut cell.world.borrow_mut());
        self.poll_all(&ops, &handlers, frame);
        self.expire(frame);
        std::mem::swap(world, &mut cell.world.borrow_mut());
        let mut outputs = world.resource_mut::<FrameOutputs>();
        outputs.bypass_change_detection().0.jobs.append(&mut cell.jobs.borrow_mut());
    }

    fn poll_all(&mut self, ops: &OpTable, handlers: &Handlers, frame: u64) {
        // Older calls first, so that a new one cannot take the turn of one that waits.
        self.give_turns();
        self.ready.sort_unstable();
        self.ready.dedup();
        for call in std::mem::take(&mut self.ready) {
            self.poll(call);
        }
        for routed in std::mem::take(&mut self.routed) {
            self.start(ops, handlers, frame, routed);
        }
        if !self.cell.queue.borrow().is_empty() {
            self.cell.world.borrow().resource::<Clock>().wake_at(frame + 1);
        }
    }

    /// Gives this frame's turns to those who waited longest.
    fn give_turns(&mut self) {
        let cell = self.cell.clone();
        cell.turns.set(cell.world.borrow().resource::<RoomSettings>().frame_openings_max);
        while cell.turns.get() > 0 {
            let Some(ticket) = cell.queue.borrow_mut().pop_front() else { break };
            // A call that ended meanwhile uses no turn.
            if self.by_ticket.contains_key(&ticket) {
                cell.turns.set(cell.turns.get() - 1);
                self.done(ticket, Ok(Bytes::new()));
            }
        }
    }

    /// Starts a call and polls it once. One that only reads, or is refused, is never active.
    fn start(&mut self, ops: &OpTable, handlers: &Handlers, frame: u64, routed: Routed) {
        let Routed { op, caller, request, reply_to } = routed;
        let request = match request {
            Ok(request) => request,
            Err(fault) => {
                self.finished.push(Finished { op, caller, request: None, result: Err(fault), reply_to });
                return;
            }
        };
        let Some(row) = ops.get(op) else { return };
        let kept = self.kept_for_hook(row, &*request);
        let Some(handler) = handlers.get(op) else { return };
        let result = match handler {
            Handler::Read(read) => {
                let world = self.cell.world.borrow();
                guarded_or_fault(&row.op.name, "the call is refused", || read(&world, &caller, request))
            }
            Handler::Start(start) => {
                let outstanding = Outstanding::default();
                let call = Call {
                    cell: self.cell.clone(),
                    caller: caller.clone(),
                    payer: reply_to.payer(),
                    outstanding: outstanding.clone(),
                };
                // Before the handler runs: a refused call must have no effect.
                let started = self.admit(&caller).and_then(|wait_frames| {
                    guarded_or_fault(&row.op.name, "the call is refused", || {
                        Ok((start(call, request), frame + wait_frames))
                    })
                });
                match started {
                    Ok((work, deadline)) => {
                        let entered = Vec::new();
                        let request = kept;
                        self.begin(Active {
                            op,
                            caller,
                            request,
                            reply_to,
                            work,
                            outstanding,
                            entered,
                            deadline,
                        });
                        return;
                    }
                    Err(fault) => Err(fault),
                }
            }
        };
        self.finished.push(Finished { op, caller, request: kept, result, reply_to });
    }

    /// The request as JSON for an after-hook, since the handler takes the request itself.
    fn kept_for_hook(&self, row: &OpRow, request: &dyn Payload) -> Option<serde_json::Value> {
        let world = self.cell.world.borrow();
        let hooked = world.get_resource::<AfterHooks>().is_some_and(|hooks| hooks.0.contains(&row.id));
        drop(world);
        hooked.then(|| {
            let json = guarded_or_fault(&row.op.name, "the call is refused", || {
                Ok(serde_json::to_value(request).unwrap_or_default())
            });
            json.unwrap_or_default()
        })
    }

    /// Gives a call its number and polls it for the first time.
    fn begin(&mut self, active: Active) {
        let number = self.next_call;
        self.next_call += 1;
        self.enter(number, active);
        self.poll(number);
    }

    fn poll(&mut self, number: u64) {
        let Some(active) = self.active.get_mut(&number) else { return };
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| active.work.as_mut().poll(&mut context)));
        let result = match polled {
            Ok(Poll::Pending) if active.outstanding.borrow().is_empty() => {
                Err(Fault::internal("the handler awaits neither a job nor a turn: nothing would wake it"))
            }
            Ok(Poll::Pending) => {
                // A ticket that is answered and not awaited yet stays among the answers; one that was dropped needs no
                // row.
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

    /// Whether a call of this caller may start. Returns for how many frames it may wait.
    fn admit(&self, caller: &Caller) -> Result<u64, Fault> {
        let world = self.cell.world.borrow();
        let settings = world.resource::<CallSettings>();
        let busy = |why: &'static str| Err(Fault::new(FaultKind::Busy, why).retry_in_ms(1000));
        if !caller.is_server() && self.clients_waiting >= settings.waiting_max {
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
        if let Some(waiter) = active.waiter() {
            *self.waiters.entry(waiter).or_default() += 1;
            self.clients_waiting += 1;
        }
        if let ReplyTo::Door { ticket, .. } = active.reply_to {
            self.by_door.insert(ticket, number);
        }
        self.active.insert(number, active);
    }

    /// A call is over, whether its handler came to its end or not.
    fn finish(&mut self, number: u64, result: Result<Box<dyn Payload>, Fault>) {
        let Some(active) = self.active.remove(&number) else { return };
        if let Some(waiter) = active.waiter()
            && let Some(count) = self.waiters.get_mut(&waiter)
        {
            self.clients_waiting -= 1;
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
        // A handler's destructor may touch the world through its Call, or panic; both are contained here.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        self.finished.push(Finished { op, caller, request, result, reply_to });
    }

    /// Forgets the tickets of a call that is over: what comes for them is dropped.
    fn forget(&mut self, entered: &[Ticket], outstanding: &Outstanding) {
        for ticket in entered {
            self.by_ticket.remove(ticket);
        }
        for ticket in outstanding.borrow().iter() {
            self.cell.answers.borrow_mut().remove(ticket);
        }
    }

    /// Gives up calls that waited too long, and requests the frame in which the next one will have.
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

/// Makes a call that can be routed: looks up its operation, checks who calls and reads the request.
pub(crate) fn read_call(
    ops: &OpTable,
    name: &str,
    caller: Caller,
    body: &Body,
    reply_to: ReplyTo,
) -> Result<Routed, Fault> {
    let row = ops.named(name)?;
    caller.allowed(row.op.auth)?;
    let request = row.parse_body(body);
    Ok(Routed { op: row.id, caller, request, reply_to })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::app::KaosApp;
    use crate::call::job::{Job, JobContext};
    use crate::input::{Boot, Input};
    use crate::op::Op;
    use crate::output::Outputs;
    use crate::server::{Build, Server};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Echo(String);

    impl Job for Echo {
        type Out = String;
        const NAME: &'static str = "echo";
    }

    #[test]
    fn nothing_of_a_call_stays_in_whatever_order_its_jobs_are_answered_or_dropped() {
        let built = Server::build(Build::default(), |app| {
            app.job(|job: Echo, _: &mut JobContext<'_>| Ok(job.0));
            app.op(Op::new("two").public().price(1), async |cx: Call, _: ()| -> Result<(), Fault> {
                let (a, b, unasked) =
                    (cx.job(Echo("a".into())), cx.job(Echo("b".into())), cx.job(Echo("c".into())));
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
                let done = Input::Done { ticket: jobs[at], answer: Ok(Bytes::from_static(&[0])) };
                replies +=
                    run(&mut server, Some(done)).replies.iter().filter(|reply| reply.result.is_ok()).count();
            }
            assert_eq!(replies, 1, "{order:?}");
            let calls = server.world().get_non_send::<Calls>().expect("always there");
            assert_eq!((calls.waiting(), calls.rows()), (0, (0, 0)), "{order:?}");
        }
    }
}
