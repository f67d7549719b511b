//! Jobs: typed work that leaves the frame for a thread of a named pool, and comes back as an input.
//!
//! What goes out and what comes back are bytes: the journal keeps the answer, so that a replay needs no job, and the
//! hash of a frame's outputs covers what was asked.
//!
//! This file is what a handler and a job hold; `pool` describes the threads, `worker` does the jobs of a type on one of
//! them, `table` holds what was registered.

mod pool;
mod table;
#[cfg(test)]
mod tests;
mod worker;

pub use pool::{DEFAULT_POOL, Pool};
pub use table::Jobs;
pub(crate) use worker::make_worker;
pub use worker::{MakeWorker, Worker};

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JobAnswer;
use crate::fault::{Fault, FaultKind};
use crate::output::{Level, Log};

/// Work that leaves the frame; the value is its input. It is sent with [`Call::job`](super::Call::job), and done by
/// what [`KaosApp::job`](crate::app::KaosApp::job) registered for its type.
///
/// Input and answer are written in postcard: no `serde_json::Value`, no untagged enum and no `flatten` in them. An
/// answer is read from a journal, too, which is a file: no recursive types and no lists of zero-sized values, so that
/// damaged bytes are always a fault and never a stack or a loop without end.
///
/// ```
/// # use kaos_kernel::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Hash(String);
///
/// impl Job for Hash {
///     type Out = u64;
///     const NAME: &'static str = "example.hash";
/// }
///
/// # fn plugin(app: &mut App) {
/// app.job(|job: Hash, _: &mut JobContext<'_>| Ok(job.0.len() as u64));
/// # }
/// ```
pub trait Job: Serialize + DeserializeOwned + 'static {
    /// Its result.
    type Out: Serialize + DeserializeOwned + 'static;

    /// Its name in logs and journals: dotted, lower case, with the plugin's name first.
    const NAME: &'static str;

    /// The pool whose threads do it: one that [`KaosApp::pool`](crate::app::KaosApp::pool) added, or [`DEFAULT_POOL`].
    const POOL: &'static str = DEFAULT_POOL;
}

/// Calls an operation from a job: takes its name and its request as JSON, blocks, and returns its reply as JSON.
pub type Ask<'a> = &'a mut dyn FnMut(&str, Bytes) -> Result<Bytes, Fault>;

/// What a job has while it runs, besides its input.
pub struct JobContext<'a> {
    deadline: Instant,
    ask: Ask<'a>,
    logs: &'a mut Vec<Log>,
}

impl<'a> JobContext<'a> {
    /// For pools, and for tests that do a job themselves.
    pub fn new(deadline: Instant, ask: Ask<'a>, logs: &'a mut Vec<Log>) -> Self {
        JobContext { deadline, ask, logs }
    }

    /// The latest time at which somebody still waits for the result: `call.wait_ms` after the job began. Whatever
    /// blocks in between, such as a query or a connection, should give up by then. A job is not ended at its deadline.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Calls an operation with the server's rights and waits for its reply. Meanwhile another job of the pool may run,
    /// on another thread. If the operation sends a job to the same pool, a second thread has to be free: in a pool of
    /// one the job waits for itself until the deadline.
    ///
    /// # Errors
    /// The operation's own. `deadline`: there was no reply until [the deadline](JobContext::deadline). `stopping`: the
    /// server ends.
    pub fn ask(&mut self, op: &str, request: Bytes) -> Result<Bytes, Fault> {
        (self.ask)(op, request)
    }

    /// Adds a line to the log. Lines are written when the job ends.
    pub fn log(&mut self, level: Level, source: impl Into<String>, text: impl Into<String>) {
        self.logs.push(Log { level, source: source.into(), text: text.into() });
    }
}

pub(crate) fn write<T: Serialize>(name: &str, what: &str, value: &T) -> Result<Bytes, Fault> {
    postcard::to_allocvec(value).map(Bytes::from).map_err(|error| unfit(name, what, &error))
}

/// Reads all of what was written; bytes left over are as wrong as bytes that are missing.
fn read<T: DeserializeOwned>(name: &str, what: &str, bytes: &[u8]) -> Result<T, Fault> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => {
            Err(Fault::internal(format!("the {what} of the job {name} has {} bytes too many", rest.len())))
        }
        Err(error) => Err(unfit(name, what, &error)),
    }
}

fn unfit(name: &str, what: &str, error: &postcard::Error) -> Fault {
    Fault::internal(format!("the {what} of the job {name} cannot be carried in postcard: {error}"))
}

/// The future of a job's result.
pub struct Answered<J: Job> {
    waiting: Result<JobAnswer, Option<Fault>>,
    of: PhantomData<fn() -> J>,
}

impl<J: Job> Answered<J> {
    pub(crate) fn new(waiting: Result<JobAnswer, Fault>) -> Self {
        Answered { waiting: waiting.map_err(Some), of: PhantomData }
    }
}

impl<J: Job> Future for Answered<J> {
    type Output = Result<J::Out, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.waiting {
            // It never left the frame.
            Err(fault) => Poll::Ready(Err(fault.take().unwrap_or_else(|| FaultKind::Internal.into()))),
            Ok(waiting) => Pin::new(waiting).poll(context).map(|answer| read(J::NAME, "answer", &answer?)),
        }
    }
}
