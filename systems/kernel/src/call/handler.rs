//! A handler as the table holds it.

use std::future::Future;
use std::pin::Pin;

use bevy_ecs::prelude::*;

use crate::call::Call;
use crate::fault::Fault;
use crate::op::{Caller, Payload};

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Box<dyn Payload>, Fault>>>>;

type ReadFn = dyn Fn(&World, &Caller, Box<dyn Payload>) -> Result<Box<dyn Payload>, Fault> + Send + Sync;

type StartFn = dyn Fn(Call, Box<dyn Payload>) -> HandlerFuture + Send + Sync;

pub(crate) enum Handler {
    Read(Box<ReadFn>),
    Start(Box<StartFn>),
}
