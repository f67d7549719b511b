//! The methods that KaosNet adds to bevy's [`App`]: a plugin registers operations, jobs, pools, events, targets,
//! settings and facts with them, and reads the clock.

use std::future::Future;
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;

use crate::call::Call;
use crate::call::handler::{Handler, Handlers};
use crate::call::job::{Job, JobContext, Jobs, Pool, make_worker};
use crate::clock::Clock;
use crate::event::{Event, Events};
use crate::facts::{self, Fact};
use crate::fault::Fault;
use crate::hash;
use crate::op::{Caller, Op, Ops, Reply, Request};
use crate::send::{Resolve, Targets};
use crate::server::BuildErrors;
use crate::settings::{self, Section};

/// KaosNet's methods on a bevy [`App`].
pub trait KaosApp {
    /// Registers an operation. From its row follow a message on every door, a function in scripts, a metric and a
    /// price.
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Request,
        Rep: Reply,
        F: Fn(Call, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static;

    /// Registers an operation that only reads the world: scripts may call it in the middle of a tick and get the reply
    /// at once.
    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + Send + Sync + 'static,
    ) -> &mut Self
    where
        Req: Request,
        Rep: Reply;

    /// Registers the work of a job type. It runs on a thread of [its pool](Job::POOL) and may block.
    fn job<J: Job>(
        &mut self,
        work: impl Fn(J, &mut JobContext<'_>) -> Result<J::Out, Fault> + Send + Sync + 'static,
    ) -> &mut Self {
        self.job_with(|_| Ok(()), move |(): &mut (), job, cx| work(job, cx), |_| ())
    }

    /// Registers the work of a job type with a state that each thread of [its pool](Job::POOL) keeps, such as a
    /// connection or a virtual machine. `make` creates the state on the thread, for the first job and again after a
    /// panic; it gets a random number from the door. `rest` is called after each job, when its result has been sent.
    fn job_with<J: Job, S: 'static>(
        &mut self,
        make: impl Fn(u64) -> Result<S, Fault> + Send + Sync + 'static,
        work: impl Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault> + Send + Sync + 'static,
        rest: impl Fn(&mut S) + Send + Sync + 'static,
    ) -> &mut Self;

    /// Adds a pool of threads for jobs. Its name has to be new.
    fn pool(&mut self, pool: Pool) -> &mut Self;

    /// Registers an event, which the server sends to clients unprompted: with [`push`](crate::send::push), or with
    /// [`Push`](crate::send::Push) from a system. Clients get it by its name over every door that carries KaosNet's
    /// protocol. `T` is the type of its body; each event needs its own type.
    fn event<T: Request>(&mut self, event: Event) -> &mut Self;

    /// Registers a kind of [`Target::Named`](crate::send::Target::Named): `resolve` finds the sessions of one target.
    fn target(&mut self, kind: &str, resolve: Resolve) -> &mut Self;

    /// Registers a section of the configuration, defined by [`settings!`](crate::settings!). It becomes a resource of
    /// its type at once and can be read while plugins are built. Call it in a plugin's `build`: only keys that are
    /// registered there may be in a file or flag.
    fn settings<S: Section>(&mut self) -> &mut Self;

    /// Registers a kind of fact: [`FactReader`](crate::facts::FactReader)s see the facts that are
    /// [written](crate::facts::Facts::write).
    fn fact<F: Fact>(&mut self) -> &mut Self;

    /// Adds a resource to the hash of the server's state, by which a replay and the test kit's `replays_equally`
    /// compare two runs. For everything that a feature keeps and that decides what it does: without this, a difference
    /// is found only when it comes out. It is serialized for each check, so it should be small.
    fn hashed<R: Resource + Serialize>(&mut self) -> &mut Self;

    /// The clock, to convert seconds to frames while plugins are built.
    fn clock(&self) -> &Clock;
}

/// Adds an operation and its handler at the same position of both tables.
fn add_op<Req: Request, Rep: Reply>(app: &mut App, op: Op, handler: Handler) {
    app.init_resource::<Ops>().init_resource::<Handlers>();
    let world = app.world_mut();
    // Nothing shares the tables before the first frame, and no plugin is built after it.
    let added = Arc::get_mut(&mut world.resource_mut::<Ops>().0).map(|table| table.add::<Req, Rep>(op));
    match (added, Arc::get_mut(&mut world.resource_mut::<Handlers>().0)) {
        (Some(Some(_)), Some(handlers)) => handlers.push(handler),
        // The table is full, which is one of its errors.
        (Some(None), _) => {}
        _ => tracing::error!("an operation was registered after the server was built: it is not there"),
    }
}

impl KaosApp for App {
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Request,
        Rep: Reply,
        F: Fn(Call, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static,
    {
        add_op::<Req, Rep>(self, op, Handler::start(handler));
        self
    }

    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + Send + Sync + 'static,
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
        make: impl Fn(u64) -> Result<S, Fault> + Send + Sync + 'static,
        work: impl Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault> + Send + Sync + 'static,
        rest: impl Fn(&mut S) + Send + Sync + 'static,
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

    fn hashed<R: Resource + Serialize>(&mut self) -> &mut Self {
        hash::add::<R>(self);
        self
    }

    fn clock(&self) -> &Clock {
        self.world().resource::<Clock>()
    }
}
