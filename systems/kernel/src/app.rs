//! What a plugin says to the app beside bevy's own words: operations, jobs, and the clock.

use std::future::Future;
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::call::job::Jobs;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::op::{Caller, Op, OpTable, Ops};

/// KaosNet's words on a bevy [`App`].
pub trait KaosApp {
    /// Registers an operation: at once a message on every door, a function in scripts, a metric, a limit.
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static,
        F: Fn(Call, Req) -> Fut + std::marker::Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static;

    /// Registers an operation that only reads: scripts may call it in the middle of a tick.
    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self
    where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static;

    /// Registers work that leaves the frame, for [`Call::job`]. It runs on a thread of the doors and may block.
    fn job(
        &mut self,
        name: &str,
        work: impl Fn(Bytes) -> Result<Bytes, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self;

    /// The clock: for turning seconds into frames while building.
    fn clock(&self) -> &Clock;
}

fn table(app: &mut App) -> bevy_ecs::change_detection::Mut<'_, Ops> {
    app.init_resource::<Ops>();
    app.world_mut().resource_mut::<Ops>()
}

fn with_table(app: &mut App, work: impl FnOnce(&mut OpTable)) {
    let mut ops = table(app);
    // Nothing shares the table before the first frame, and no plugin is built after it.
    if let Some(table) = Arc::get_mut(&mut ops.0) {
        work(table);
    } else {
        tracing::error!("an operation was registered after the server was built: it is not there");
    }
}

impl KaosApp for App {
    fn op<Req, Rep, F, Fut>(&mut self, op: Op, handler: F) -> &mut Self
    where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static,
        F: Fn(Call, Req) -> Fut + std::marker::Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static,
    {
        with_table(self, |table| table.add_start(op, handler));
        self
    }

    fn read_op<Req, Rep>(
        &mut self,
        op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self
    where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static,
    {
        with_table(self, |table| table.add_read(op, handler));
        self
    }

    fn job(
        &mut self,
        name: &str,
        work: impl Fn(Bytes) -> Result<Bytes, Fault> + std::marker::Send + Sync + 'static,
    ) -> &mut Self {
        self.init_resource::<Jobs>();
        self.world_mut().resource_mut::<Jobs>().0.insert(name.to_owned(), Arc::new(work));
        self
    }

    fn clock(&self) -> &Clock {
        self.world().resource::<Clock>()
    }
}
