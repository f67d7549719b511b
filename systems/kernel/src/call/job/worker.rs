//! How the jobs of a type are done on a thread: what crosses between the threads is bytes, what the work sees is typed.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use super::{Job, JobContext, read, write};
use crate::fault::Fault;

/// Does the jobs of one type on one thread, one after the other.
pub trait Worker {
    /// Does one: its input and its answer as they cross between the threads.
    ///
    /// # Errors
    /// The job's own; `internal` when input or answer cannot be read or written.
    fn run(&mut self, input: &Bytes, cx: &mut JobContext<'_>) -> Result<Bytes, Fault>;

    /// Called when an answer is out: the time to make ready for the next one.
    fn rest(&mut self) {}
}

/// Makes a worker on its thread, from randomness of the door; anew after a panic.
pub type MakeWorker = Arc<dyn Fn(u64) -> Result<Box<dyn Worker>, Fault> + Send + Sync>;

/// A worker of one type of job, with the state that its thread keeps.
struct Typed<J, S, W, R> {
    state: S,
    work: W,
    rest: R,
    of: PhantomData<fn(J)>,
}

impl<J: Job, S, W, R> Worker for Typed<J, S, W, R>
where
    W: Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault>,
    R: Fn(&mut S),
{
    fn run(&mut self, input: &Bytes, cx: &mut JobContext<'_>) -> Result<Bytes, Fault> {
        let job = read(J::NAME, "input", input)?;
        let out = (self.work)(&mut self.state, job, cx)?;
        write(J::NAME, "answer", &out)
    }

    fn rest(&mut self) {
        (self.rest)(&mut self.state);
    }
}

/// What makes the workers of a type of job.
pub(crate) fn make_worker<J: Job, S: 'static>(
    make: impl Fn(u64) -> Result<S, Fault> + Send + Sync + 'static,
    work: impl Fn(&mut S, J, &mut JobContext<'_>) -> Result<J::Out, Fault> + Send + Sync + 'static,
    rest: impl Fn(&mut S) + Send + Sync + 'static,
) -> MakeWorker {
    let (work, rest) = (Arc::new(work), Arc::new(rest));
    Arc::new(move |seed| {
        let (work, rest) = (work.clone(), rest.clone());
        let state = make(seed)?;
        let work = move |state: &mut S, job: J, cx: &mut JobContext<'_>| work(state, job, cx);
        Ok(Box::new(Typed { state, work, rest: move |state: &mut S| rest(state), of: PhantomData }))
    })
}
