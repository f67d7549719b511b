//! Calls: `async fn` handlers, polled inside the frame in the order in which they started.
//!
//! While calls are polled, the world is in a cell that handlers reach through [`Call::with`], and only
//! for the length of a closure: the compiler sees to it that no borrow of the world crosses an
//! `.await`. A handler can await only jobs and turns; awaiting anything else ends its call with `internal`.
//!
//! This file is what a handler holds; `calls` is the machinery, `handler` what runs for each operation, `job` what
//! leaves the frame.

pub(crate) mod calls;
pub(crate) mod handler;
pub(crate) mod hooked;
pub mod job;
pub(crate) mod payer;
mod settings;

pub use settings::CallSettings;

use payer::Payer;

use job::{Answered, Job, Jobs};

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bevy_ecs::prelude::*;
use bevy_ecs::system::{IntoSystem, SystemInput};
use bytes::Bytes;

use crate::failures::Ended;
use crate::fault::{Fault, FaultKind};
use crate::ids::Ticket;
pub(crate) use crate::op::Caller;
use crate::output;
use crate::session::Session;
use crate::world::WorldExt;

/// The cell that holds the world while calls are polled.
struct WorldCell {
    pub(crate) world: RefCell<World>,
    pub(crate) jobs: RefCell<Vec<output::Job>>,
    next_ticket: Cell<u64>,
    answers: RefCell<BTreeMap<Ticket, Result<Bytes, Fault>>>,
    /// Turns that this frame may still give: see [`Call::turn`].
    turns: Cell<u32>,
    /// Tickets that wait for a turn, the oldest first. Bounded by `call.waiting_max`.
    queue: RefCell<VecDeque<Ticket>>,
}

/// The jobs and turns that one call waits for, from the moment they are requested.
type Outstanding = Rc<RefCell<BTreeSet<Ticket>>>;

/// The fault of an operation that works on the calling session, when the caller is not one.
fn no_session() -> Fault {
    let why = "this works on the calling session; scripts, the server and requests over HTTP have none";
    Fault::new(FaultKind::NeedsSession, why)
}

/// What a handler holds: its way to the world, to jobs and to its caller.
pub struct Call {
    cell: Rc<WorldCell>,
    caller: Caller,
    payer: Payer,
    outstanding: Outstanding,
}

impl Call {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Charges the caller `messages` more, even into debt: for costs that only the handler knows. A
    /// caller in debt is refused with `rate_limited` until it has paid. Scripts and the server pay nothing here.
    pub fn charge(&self, messages: u32) {
        self.with(|world| self.payer.charge(world, messages));
    }

    /// Runs `work` on the world.
    ///
    /// # Panics
    /// When called inside of itself. The panic ends only this call.
    pub fn with<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        #[expect(
            clippy::expect_used,
            reason = "a defect of the handler, which ends its call; documented above"
        )]
        let mut world = self.cell.world.try_borrow_mut().expect("`Call::with` was called inside of itself");
        work(&mut world)
    }

    /// Works on a component of the calling session.
    ///
    /// Does not return when there is no such component, but ends the call: with `session_gone` when the session ended
    /// meanwhile, with `needs_session` when there never was one, with `internal` when sessions do not have the
    /// component. A client that calls an operation registered with [`Op::session`](crate::op::Op::session) always has
    /// one until its first `.await`; a script that calls it is no session.
    pub fn me<C: Component<Mutability = bevy_ecs::component::Mutable>, R>(
        &self,
        work: impl FnOnce(&mut C) -> R,
    ) -> R {
        let done = self.with(|world| {
            let id = self.caller.session().ok_or_else(no_session)?;
            let entity = world.session(id).ok_or(FaultKind::SessionGone)?;
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
    /// [`FaultKind::Internal`] when the system cannot run, for example because it needs a resource that is not there.
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

    /// Sends work to a thread of its job's pool, and returns a future of the result. It is sent now, whether the future
    /// is awaited at once, later or never.
    ///
    /// # Errors
    /// The job's own; `busy` when the queue of its pool is full, `unimplemented` when nobody registered it, `deadline`
    /// when it took too long (then the whole call is given up).
    pub fn job<J: Job>(&self, job: J) -> Answered<J> {
        let known = self.with(|world| world.resource::<Jobs>().get(J::NAME).map(drop));
        let body = known.and_then(|()| job::write(J::NAME, "input", &job));
        Answered::new(body.map(|body| {
            let ticket = self.draw();
            self.cell.jobs.borrow_mut().push(output::Job { ticket, name: J::NAME, body });
            self.wait_for(ticket)
        }))
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

    /// Waits for a turn to do what takes a large part of a frame, such as opening a match. Each frame gives
    /// `room.frame_openings_max` turns, the oldest request first. Calls of scripts and the server get theirs at once,
    /// which uses up one of the frame's. Returns whether it waited, because then the world may have changed.
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

    /// The id of the user who calls: of a session, or of a token that came over HTTP.
    ///
    /// # Errors
    /// `unauthenticated`: nobody in particular, such as a request over HTTP without a token on a server that lets
    /// anyone in; and a script or the server, which call for nobody. `session_gone`: the session ended meanwhile.
    pub fn user_id(&self) -> Result<String, Fault> {
        let known = self.with(|world| self.caller.identity(world).map(|identity| identity.user_id.clone()));
        match (known.filter(|id| !id.is_empty()), self.caller.session()) {
            (Some(id), _) => Ok(id),
            (None, Some(_)) => Err(FaultKind::SessionGone.into()),
            (None, None) => {
                Err(Fault::new(FaultKind::Unauthenticated, "this works for a user who calls by name"))
            }
        }
    }

    /// The session that calls.
    ///
    /// # Errors
    /// [`FaultKind::NeedsSession`] when the caller is not one, [`FaultKind::SessionGone`] when it ended meanwhile.
    pub fn session(&self) -> Result<Session, Fault> {
        let id = self.caller.session().ok_or_else(no_session)?;
        self.with(|world| {
            let entity = world.session(id)?;
            world.get::<Session>(entity).cloned()
        })
        .ok_or_else(|| FaultKind::SessionGone.into())
    }
}

/// The future of what a ticket stands for: a job's result as bytes, or nothing for a turn.
pub(crate) struct JobAnswer {
    cell: Rc<WorldCell>,
    outstanding: Outstanding,
    ticket: Ticket,
}

impl Drop for JobAnswer {
    /// The call waits for it no longer, and what comes of it is dropped.
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
