//! Jobs: typed work that leaves the frame for a thread of a named pool, and comes back as an input.
//!
//! What goes out and what comes back are bytes: the journal keeps the answer, so that a replay needs no job, and the hash of
//! a frame's outputs covers what was asked.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JobAnswer;
use crate::fault::{Fault, FaultKind};
use crate::output::{Level, Log};
use crate::spelling::{is_dotted_name, nearest};

/// Work that leaves the frame; the value is what it is told. It is sent with [`Call::job`](super::Call::job), and done by
/// what [`KaosApp::job`](crate::app::KaosApp::job) registered for its type.
///
/// Input and answer are written in postcard: no `serde_json::Value`, no untagged enum and no `flatten` in them.
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
    /// What comes of it.
    type Out: Serialize + DeserializeOwned + 'static;

    /// Its name in logs and journals: dotted, lower case, with the plugin's name first.
    const NAME: &'static str;

    /// The pool whose threads do it: one that [`KaosApp::pool`](crate::app::KaosApp::pool) added, or [`DEFAULT_POOL`].
    const POOL: &'static str = DEFAULT_POOL;
}

/// The pool of jobs that name no other: two threads, and a queue of 1024. Every server has it.
pub const DEFAULT_POOL: &str = "jobs";

/// Threads for jobs, under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Its name: 1 to 32 lower-case letters, digits and underscores. Its threads are called `kaos-<name>-<n>`.
    pub name: String,
    /// Threads at most, 1 to 256; each holds the state of the jobs that it has done. As many as may run start with the
    /// server, further ones when a job waits for the frame and no thread is idle. Default 2.
    pub threads: usize,
    /// Jobs that run at a time, 1 to `threads`. One that waits for the frame's answer to a question does not count, so a
    /// pool whose jobs ask has more threads than may run. Default `None`: as many as there are threads.
    pub running: Option<usize>,
    /// Jobs that wait for a thread, 1 to 65,536. Beyond it they are refused with `busy` at once. Default 1024.
    pub queue: usize,
}

impl Pool {
    /// Two threads, and 1024 jobs that may wait.
    pub fn new(name: impl Into<String>) -> Self {
        Pool { name: name.into(), threads: 2, running: None, queue: 1024 }
    }

    /// Sets the number of threads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Bounds how many jobs run at a time.
    pub fn running(mut self, running: usize) -> Self {
        self.running = Some(running);
        self
    }

    /// Bounds how many jobs wait.
    pub fn queue(mut self, queue: usize) -> Self {
        self.queue = queue;
        self
    }

    /// How many of its jobs run at a time.
    pub fn running_max(&self) -> usize {
        self.running.unwrap_or(self.threads)
    }

    /// What is wrong with it, as sentences.
    fn wrong(&self) -> Vec<String> {
        let Pool { name, threads, queue, .. } = self;
        let in_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let mut wrong = Vec::new();
        if !(1..=32).contains(&name.len()) || !name.bytes().all(in_name) {
            wrong
                .push(format!("pool `{name}`: a name is 1 to 32 lower-case letters, digits and underscores"));
        }
        if !(1..=256).contains(threads) {
            wrong.push(format!("pool `{name}`: a pool has 1 to 256 threads, not {threads}"));
        } else if !(1..=*threads).contains(&self.running_max()) {
            let running = self.running_max();
            wrong.push(format!("pool `{name}`: of {threads} threads 1 to {threads} may run, not {running}"));
        }
        if !(1..=65_536).contains(queue) {
            wrong.push(format!("pool `{name}`: a queue holds 1 to 65536 jobs, not {queue}"));
        }
        wrong
    }
}

/// How a job asks the frame: the operation and its request as JSON; the reply as JSON. It blocks until the frame has
/// answered.
pub type Ask<'a> = &'a mut dyn FnMut(&str, Bytes) -> Result<Bytes, Fault>;

/// What a job has while it runs, beside its input.
pub struct JobContext<'a> {
    ask: Ask<'a>,
    logs: &'a mut Vec<Log>,
}

impl<'a> JobContext<'a> {
    /// For pools, and for tests that do a job themselves.
    pub fn new(ask: Ask<'a>, logs: &'a mut Vec<Log>) -> Self {
        JobContext { ask, logs }
    }

    /// Calls an operation in the server's name and waits for its answer. Meanwhile another job of the pool may run.
    ///
    /// # Errors
    /// The operation's own. `deadline`: the call that sent this job has waited for `call.wait_ms`. `stopping`: the server
    /// ends.
    pub fn ask(&mut self, op: &str, request: Bytes) -> Result<Bytes, Fault> {
        (self.ask)(op, request)
    }

    /// Adds a line to the log, which is written when the job is done.
    pub fn log(&mut self, level: Level, source: impl Into<String>, text: impl Into<String>) {
        self.logs.push(Log { level, source: source.into(), text: text.into() });
    }
}

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

/// The jobs and pools that were registered.
#[derive(Resource, Clone)]
pub struct Jobs {
    rows: BTreeMap<String, (String, MakeWorker)>,
    pools: BTreeMap<String, Pool>,
    /// What is wrong with them, as sentences; a server is not built while there is any.
    errors: Vec<String>,
}

impl Default for Jobs {
    fn default() -> Self {
        let pools = BTreeMap::from([(DEFAULT_POOL.to_owned(), Pool::new(DEFAULT_POOL))]);
        Jobs { rows: BTreeMap::new(), pools, errors: Vec::new() }
    }
}

impl Jobs {
    /// The pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> + '_ {
        self.pools.values()
    }

    /// The pool of a job and what makes its workers.
    ///
    /// # Errors
    /// `unimplemented`, with the nearest name: nobody registered the job.
    pub fn get(&self, name: &str) -> Result<(&str, &MakeWorker), Fault> {
        let row = self.rows.get(name).ok_or_else(|| {
            let near = nearest(name, self.rows.keys().cloned());
            let sentence =
                format!("no job `{name}` is registered on this server: add it with `app.job(…)`{near}");
            Fault::new(FaultKind::Unimplemented, sentence)
        })?;
        Ok((&row.0, &row.1))
    }

    pub(crate) fn add_pool(&mut self, pool: Pool) {
        self.errors.extend(pool.wrong());
        if self.pools.contains_key(&pool.name) {
            let whose = if pool.name == DEFAULT_POOL {
                "every server has it; give yours another name"
            } else {
                "registered twice; a name belongs to one plugin"
            };
            self.errors.push(format!("pool `{}`: {whose}", pool.name));
        }
        self.pools.insert(pool.name.clone(), pool);
    }

    pub(crate) fn add(&mut self, name: &str, pool: &str, make: MakeWorker) {
        if !is_dotted_name(name) {
            self.errors
                .push(format!("job `{name}`: a name is lower-case letters, digits, dots and underscores"));
        }
        if self.rows.insert(name.to_owned(), (pool.to_owned(), make)).is_some() {
            self.errors.push(format!("job `{name}`: registered twice; a name belongs to one plugin"));
        }
    }

    /// Everything that is wrong, once all plugins are built.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let lost = self.rows.iter().filter(|(_, (pool, _))| !self.pools.contains_key(pool));
        let lost = lost.map(|(name, (pool, _))| {
            let near = nearest(pool, self.pools.keys().cloned());
            format!("job `{name}`: there is no pool `{pool}`: add it with `app.pool(…)`{near}")
        });
        self.errors.iter().cloned().chain(lost).collect()
    }
}

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
        let job = postcard::from_bytes(input).map_err(|error| unfit(J::NAME, "input", &error))?;
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

pub(crate) fn write<T: Serialize>(name: &str, what: &str, value: &T) -> Result<Bytes, Fault> {
    postcard::to_allocvec(value).map(Bytes::from).map_err(|error| unfit(name, what, &error))
}

fn unfit(name: &str, what: &str, error: &postcard::Error) -> Fault {
    Fault::internal(format!("the {what} of the job {name} cannot be carried in postcard: {error}"))
}

/// What a job answers, once it does.
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
            Ok(waiting) => Pin::new(waiting).poll(context).map(|answer| {
                postcard::from_bytes(&answer?).map_err(|error| unfit(J::NAME, "answer", &error))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::KaosApp;
    use crate::prelude::App;
    use crate::server::{Build, Server};

    /// A job of any name and pool.
    macro_rules! job {
        ($job:ident, $name:literal, $pool:expr) => {
            #[derive(serde::Serialize, serde::Deserialize)]
            struct $job;

            impl Job for $job {
                type Out = ();
                const NAME: &'static str = $name;
                const POOL: &'static str = $pool;
            }
        };
    }

    job!(Read, "store.read", "store");
    job!(Plain, "store.plain", DEFAULT_POOL);
    job!(Again, "store.read", "store");
    job!(Shouted, "Store read", "store");

    fn does<J: Job<Out = ()>>(_: J, _: &mut JobContext<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// What a server that is built with a plugin says of it.
    fn wrong(plugin: impl Fn(&mut App)) -> String {
        Server::build(Build::default(), plugin).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn wrong_pool(pool: Pool) -> String {
        wrong(|app| {
            app.pool(pool.clone());
        })
    }

    #[test]
    fn jobs_find_their_pools_and_a_pool_has_its_defaults() {
        let server = Server::build(Build::default(), |app| {
            app.job(does::<Read>).job(does::<Plain>).pool(Pool::new("store").threads(1));
        });
        let jobs = server.expect("it fits").jobs();
        assert_eq!(jobs.get("store.read").map(|(pool, _)| pool), Ok("store"));
        assert_eq!(jobs.get("store.plain").map(|(pool, _)| pool), Ok("jobs"));
        let pools: Vec<_> =
            jobs.pools().map(|p| (p.name.as_str(), p.threads, p.running_max(), p.queue)).collect();
        assert_eq!(pools, [("jobs", 2, 2, 1024), ("store", 1, 1, 1024)]);
    }

    #[test]
    fn names_that_clash_or_lead_nowhere_are_sentences_at_the_start() {
        let cases: [(&str, fn(&mut App)); 5] = [
            (
                "job `store.read`: there is no pool `store`: add it with `app.pool(…)`. Did you mean `stor`?",
                |app| {
                    app.job(does::<Read>).pool(Pool::new("stor"));
                },
            ),
            ("job `store.read`: registered twice", |app| {
                app.pool(Pool::new("store")).job(does::<Read>).job(does::<Again>);
            }),
            ("pool `store`: registered twice", |app| {
                app.pool(Pool::new("store")).pool(Pool::new("store").threads(1));
            }),
            ("pool `jobs`: every server has it", |app| {
                app.pool(Pool::new(DEFAULT_POOL).threads(8));
            }),
            ("job `Store read`: a name is lower-case", |app| {
                app.pool(Pool::new("store")).job(does::<Shouted>);
            }),
        ];
        for (sentence, plugin) in cases {
            let wrong = wrong(plugin);
            assert!(wrong.contains(sentence), "{sentence}: {wrong:?}");
        }
    }

    #[test]
    fn what_a_pool_cannot_be_is_a_sentence_at_the_start() {
        let good = || Pool::new("store");
        for pool in [
            good().threads(1),
            good().threads(256).running(256).queue(1),
            good().threads(32).running(1).queue(65_536),
            Pool::new("a".repeat(32)),
        ] {
            assert_eq!(wrong_pool(pool.clone()), "", "{pool:?}");
        }
        for (sentence, pool) in [
            ("1 to 256 threads, not 0", good().threads(0)),
            ("1 to 256 threads, not 257", good().threads(257)),
            ("of 2 threads 1 to 2 may run, not 0", good().running(0)),
            ("of 2 threads 1 to 2 may run, not 3", good().running(3)),
            ("a queue holds 1 to 65536 jobs, not 0", good().queue(0)),
            ("a queue holds 1 to 65536 jobs, not 65537", good().queue(65_537)),
            ("1 to 32 lower-case letters", Pool::new("")),
            ("1 to 32 lower-case letters", Pool::new("a".repeat(33))),
            ("1 to 32 lower-case letters", Pool::new("a\0b")),
        ] {
            let wrong = wrong_pool(pool.clone());
            assert!(wrong.contains(sentence), "{pool:?}: {wrong:?}");
        }
    }
}
