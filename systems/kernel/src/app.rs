//! What a plugin says to the app beside bevy's own words: operations, jobs, and the clock.

use std::future::Future;
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::prelude::*;

use crate::call::Call;
use crate::call::handler::{Handler, Handlers};
use crate::call::job::{Job, JobContext, Jobs, Pool, make_worker};
use crate::clock::Clock;
use crate::event::{Event, Events};
use crate::facts::{self, Fact};
use crate::fault::Fault;
use crate::op::{Caller, Op, Ops, Reply, Request};
use crate::send::{Resolve, Targets};
use crate::server::BuildErrors;
use crate::settings::{self, Section};

/// KaosNet's words on a bevy [`App`].
pub trait KaosApp {
    /// Registers an operation: at once a message on every door, a function in scripts, a metric, a limit.
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Request,
        Rep: Reply,
        F: Fn(Call, Req) -> Fut + std::marker::Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static;

    /// Registers an operation that only reads: scripts may call it in the middle of a tick.
    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self
    where
        Req: Request,
        Rep: Reply;

    /// Registers how a type of job is done, on a thread of [its pool](Job::POOL). It may block.
    fn job<J: Job>(
        &mut self,
        work: impl Fn(J, &mut JobContext<'_>) -> Result<J::Out, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self {
        self.job_with(|_| Ok(()), move |(): &mut (), job, cx| work(job, cx), |_| ())
    }

    /// Registers how a type of job is done, with a state that each thread of [its pool](Job::POOL) keeps: a connection, a
    /// virtual machine. `make` makes it on the thread, from randomness of the door, with the first job and after a panic;
    /// `rest` is called when an answer is out.
    fn job_with<J: Job, S: 'static>(
        &mut self,
        make: impl Fn(u64) -> Result<S, Fault> + std::marker::Send + Sync + 'static,
        work: impl Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault>
        + std::marker::Send
        + Sync
        + 'static,
        rest: impl Fn(&mut S) + std::marker::Send + Sync + 'static,
    ) -> &mut Self;

    /// Adds a pool of threads for jobs, under a name of its own.
    fn pool(&mut self, pool: Pool) -> &mut Self;

    /// Registers an event: what the server tells clients by itself, pushed by [`push`](crate::send::push) or a system's
    /// [`Push`](crate::send::Push), and heard by its name on every door that carries KaosNet's protocol. Each event has a
    /// type of its own, which says what its body holds.
    fn event<T: Request>(&mut self, event: Event) -> &mut Self;

    /// Registers a kind of [`Target::Named`](crate::send::Target::Named): how the sessions behind one of its names are found.
    fn target(&mut self, kind: &str, resolve: Resolve) -> &mut Self;

    /// Registers a section of the configuration, which [`settings!`](crate::settings!) wrote: it is a resource of its type
    /// then, and can be read while plugins are built. It belongs in a plugin's `build`: the keys that a file or flag may
    /// have are those that are registered there.
    fn settings<S: Section>(&mut self) -> &mut Self;

    /// Registers a kind of fact: [`FactReader`](crate::facts::FactReader)s see all that is
    /// [written](crate::facts::Facts::write) of it.
    fn fact<F: Fact>(&mut self) -> &mut Self;

    /// The clock: for turning seconds into frames while building.
    fn clock(&self) -> &Clock;
}

fn add_op<Req: Request, Rep: Reply>(app: &mut App, op: Op, handler: Handler) {
    app.init_resource::<Ops>().init_resource::<Handlers>();
    let world = app.world_mut();
    // Nothing shares the tables before the first frame, and no plugin is built after it.
    let added = Arc::get_mut(&mut world.resource_mut::<Ops>().0).map(|table| table.add::<Req, Rep>(op));
    match (added, Arc::get_mut(&mut world.resource_mut::<Handlers>().0)) {
        (Some(Some(_)), Some(handlers)) => handlers.push(handler),
        // The table is full, and says so.
        (Some(None), _) => {}
        _ => tracing::error!("an operation was registered after the server was built: it is not there"),
    }
}

impl KaosApp for App {
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Request,
        Rep: Reply,
        F: Fn(Call, Req) -> Fut + std::marker::Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static,
    {
        add_op::<Req, Rep>(self, op, Handler::start(handler));
        self
    }

    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self
    where
        Req: Request,
        Rep: Reply,
    {
        let op = op.read_by_scripts();
        add_op::<Req, Rep>(self, op, Handler::read(handler));
        self
    }

    fn job_with<J: Job, S: 'static>(
        &mut self,
        make: impl Fn(u64) -> Result<S, Fault> + std::marker::Send + Sync + 'static,
        work: impl Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault>
        + std::marker::Send
        + Sync
        + 'static,
        rest: impl Fn(&mut S) + std::marker::Send + Sync + 'static,
    ) -> &mut Self {
        self.init_resource::<Jobs>();
        self.world_mut().resource_mut::<Jobs>().add(J::NAME, J::POOL, make_worker::<J, S>(make, work, rest));
        self
    }

    fn pool(&mut self, pool: Pool) -> &mut Self {
        self.init_resource::<Jobs>();
        self.world_mut().resource_mut::<Jobs>().add_pool(pool);
        self
    }

    fn event<T: Request>(&mut self, event: Event) -> &mut Self {
        self.init_resource::<Events>();
        // Nothing shares the table before the first frame, and no plugin is built after it.
        match Arc::get_mut(&mut self.world_mut().resource_mut::<Events>().0) {
            Some(table) => table.add::<T>(event),
            None => tracing::error!("an event was registered after the server was built: it is not there"),
        }
        self
    }

    fn target(&mut self, kind: &str, resolve: Resolve) -> &mut Self {
        self.init_resource::<Targets>();
        let known = self.world_mut().resource_mut::<Targets>().0.insert(kind.to_owned(), resolve);
        if known.is_some() {
            self.init_resource::<BuildErrors>();
            let sentence = format!("target `{kind}`: registered twice; a kind belongs to one plugin");
            self.world_mut().resource_mut::<BuildErrors>().0.push(sentence);
        }
        self
    }

    fn settings<S: Section>(&mut self) -> &mut Self {
        settings::add::<S>(self);
        self
    }

    fn fact<F: Fact>(&mut self) -> &mut Self {
        facts::add::<F>(self);
        self
    }

    fn clock(&self) -> &Clock {
        self.world().resource::<Clock>()
    }
}
