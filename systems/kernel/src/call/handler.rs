//! What runs for each row of the operation table.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bevy_ecs::prelude::*;

use crate::call::Call;
use crate::fault::Fault;
use crate::op::{Caller, OpId, OpRow, Payload, Reply, Request, unpack};

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Box<dyn Payload>, Fault>>>>;

type ReadFn = dyn Fn(&World, &Caller, Box<dyn Payload>) -> Result<Box<dyn Payload>, Fault> + Send + Sync;

type StartFn = dyn Fn(Call, Box<dyn Payload>) -> HandlerFuture + Send + Sync;

/// A handler, with its types behind it.
pub(crate) enum Handler {
    Read(Box<ReadFn>),
    Start(Box<StartFn>),
}

/// The handlers by [`OpId`]. Filled together with the table of operations, and shared for the same reason as
/// [`Ops`](crate::op::Ops).
#[derive(Resource, Clone, Default)]
pub(crate) struct Handlers(pub(crate) Arc<Vec<Handler>>);

impl Handlers {
    pub(crate) fn get(&self, op: OpId) -> Option<&Handler> {
        self.0.get(usize::from(op.0))
    }
}

impl Handler {
    pub(crate) fn read<Req, Rep>(
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + Send + Sync + 'static,
    ) -> Self
    where
        Req: Request,
        Rep: Reply,
    {
        Handler::Read(Box::new(move |world, caller, request| {
            let request = unpack::<Req>(request)?;
            handler(world, caller, request).map(|reply| Box::new(reply) as Box<dyn Payload>)
        }))
    }

    pub(crate) fn start<Req, Rep, F, Fut>(handler: F) -> Self
    where
        Req: Request,
        Rep: Reply,
        F: Fn(Call, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static,
    {
        Handler::Start(Box::new(move |call, request| match unpack::<Req>(request) {
            Ok(request) => {
                let work = handler(call, request);
                Box::pin(async move { work.await.map(|reply| Box::new(reply) as Box<dyn Payload>) })
            }
            Err(fault) => Box::pin(std::future::ready(Err(fault))),
        }))
    }
}

impl OpRow {
    /// Runs a [`ScriptUse::Read`](crate::op::ScriptUse::Read) operation on a world that it cannot change.
    ///
    /// # Errors
    /// The handler's, or [`FaultKind::Internal`](crate::fault::FaultKind::Internal) for an operation that does not
    /// read.
    pub fn read(
        &self,
        world: &World,
        caller: &Caller,
        request: Box<dyn Payload>,
    ) -> Result<Box<dyn Payload>, Fault> {
        match world.resource::<Handlers>().get(self.id) {
            Some(Handler::Read(read)) => read(world, caller, request),
            Some(Handler::Start(_)) | None => {
                Err(Fault::internal(format!("{} does not only read", self.op.name)))
            }
        }
    }
}
