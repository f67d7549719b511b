//! Pools: threads for jobs, under a name, with a bounded queue.

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
    /// Jobs that run at a time, 1 to `threads`. One that waits for the frame's answer to a question does not count, so
    /// a pool whose jobs ask has more threads than may run. Default `None`: as many as there are threads.
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
    pub(super) fn wrong(&self) -> Vec<String> {
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
