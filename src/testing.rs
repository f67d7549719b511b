//! The test kit: a whole server on virtual time, in memory, from a seed. For plugins and for match scripts.
//!
//! ```no_run
//! let mut t = kaosnet::testing::server("scripts").seed(7).start();
//! let ada = t.join("arena", "ada");
//! ada.send(2, b"fire");
//! t.ticks(1);
//! assert_eq!(t.room("arena").state("/players/ada/alive"), true);
//! t.replays_equally();
//! ```
//!
//! The server is the one that runs in production, without its doors and threads: clients speak the wire
//! format into memory, rpcs and jobs run at once, and time moves only when a test moves it. It runs in
//! strict mode: a frame that should have been quiet and changed something fails the test by name. So does a plugin's
//! system that panics or cannot run, in the frame in which it does.

mod player;

use std::cell::{RefCell, RefMut};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kaos_gate::kaos::codec::KaosCodec;
use kaos_kernel::call::job::{JobContext, Jobs, Worker};
use kaos_kernel::clock::Quantum;
use kaos_kernel::ids::{PeerSlots, Ticket};
use kaos_kernel::input::{Body, Boot, Identity, Input};
use kaos_kernel::output::{Log, Outputs};
use kaos_kernel::prelude::*;
use kaos_kernel::server::{Build, BuildError, Population, Server};
use kaos_script::{Scripts, Sources};
use serde_json::Value as Json;

use player::Client;
pub use player::{Event, Player};

use crate::compose::compose;
use crate::replay::{Replayed, replay};

/// Adds a plugin; called once for each server that is built.
type Plugins = Arc<dyn Fn(&mut App)>;

/// A server about to start. See [`server`].
#[derive(Clone)]
pub struct Setup {
    scripts: Where,
    seed: u64,
    settings: Settings,
    quantum: Quantum,
    strict: bool,
    tolerant: bool,
    plugins: Vec<Plugins>,
}

#[derive(Clone)]
enum Where {
    Dir(PathBuf),
    Sources(Sources),
}

/// A test server with the scripts of a directory.
pub fn server(scripts: impl Into<PathBuf>) -> Setup {
    Setup::new(Where::Dir(scripts.into()))
}

/// A test server with scripts in memory: pairs of path and source.
pub fn server_of<'a>(scripts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Setup {
    let mut sources = Sources::new("scripts");
    for (path, source) in scripts {
        sources.insert(path, source);
    }
    Setup::new(Where::Sources(sources))
}

impl Setup {
    fn new(scripts: Where) -> Self {
        Setup {
            scripts,
            seed: 1,
            settings: Settings::default(),
            quantum: Quantum::default(),
            strict: true,
            tolerant: false,
            plugins: Vec::new(),
        }
    }

    /// The seed of everything random. Default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes what was set.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Sets a key of the configuration that the frame is told, such as `room.empty_ms` or `guestbook.pages`. Whether it is
    /// there and takes the value is found out when the server is built.
    pub fn set(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.settings.set(key, value);
        self
    }

    /// Skips quiet frames, as a server in production does, instead of running and watching every one.
    pub fn skipping(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Goes on when systems, run conditions, commands or observers of plugins fail, as a server in production does:
    /// [`Test::failures`] tells of them. Without this the test fails with the frame in which the first one did.
    pub fn tolerating_failures(mut self) -> Self {
        self.tolerant = true;
        self
    }

    /// Adds plugins.
    pub fn plugins(mut self, add: impl Fn(&mut App) + 'static) -> Self {
        self.plugins.push(Arc::new(add));
        self
    }

    /// Builds the server without starting it.
    ///
    /// # Errors
    /// What is wrong with scripts, plugins and settings, as sentences.
    pub fn build(&self) -> Result<Server, BuildError> {
        let build = Build {
            settings: self.settings.clone(),
            quantum: self.quantum,
            journal_bytes_max: usize::MAX,
            strict: self.strict,
        };
        let scripts = match &self.scripts {
            Where::Dir(dir) => Scripts::from_dir(dir),
            Where::Sources(sources) => Scripts::from_sources(sources.clone()),
        };
        compose(build, KaosCodec::default(), scripts, |app| {
            self.plugins.iter().for_each(|add| add(app));
        })
    }

    /// Starts the server.
    ///
    /// # Panics
    /// With the sentences of [`BuildError`] when it cannot be built.
    pub fn start(self) -> Test {
        match self.try_start() {
            Ok(test) => test,
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            Err(error) => panic!("the server cannot be built:\n{error}"),
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Setup::build`].
    pub fn try_start(self) -> Result<Test, BuildError> {
        let server = self.build()?;
        let jobs = server.jobs();
        let mut inner = Inner {
            setup: self,
            server,
            workers: Vec::new(),
            jobs,
            slots: PeerSlots::default(),
            clients: Vec::new(),
            frame: 0,
            inputs: Vec::new(),
            outputs: Outputs::default(),
            replies: Vec::new(),
            answers: Vec::new(),
            logs: Vec::new(),
            tickets: 0,
            held: None,
            stopped: false,
        };
        let boot = Boot { seed: inner.setup.seed, wall_ms: 1_700_000_000_000, node: 1 };
        inner.inputs.push(Input::Boot(boot));
        inner.step();
        Ok(Test { inner: Rc::new(RefCell::new(inner)) })
    }
}

/// A running test server.
pub struct Test {
    inner: Rc<RefCell<Inner>>,
}

pub(crate) struct Inner {
    setup: Setup,
    pub(crate) server: Server,
    /// Those that do nothing now, with the names of their jobs. A job may wait for an operation that sends another of its
    /// type, as in production.
    workers: Vec<(&'static str, Box<dyn Worker>)>,
    jobs: Jobs,
    pub(crate) slots: PeerSlots,
    pub(crate) clients: Vec<Client>,
    pub(crate) frame: u64,
    pub(crate) inputs: Vec<Input>,
    outputs: Outputs,
    replies: Vec<(Ticket, Result<Bytes, Fault>)>,
    answers: Vec<(Ticket, u32, Result<Bytes, Fault>)>,
    logs: Vec<Log>,
    tickets: u64,
    /// Jobs that a test keeps back.
    held: Option<Vec<kaos_kernel::output::Job>>,
    stopped: bool,
}

impl Inner {
    /// Runs one frame with what came in, and does what it asked for.
    pub(crate) fn step(&mut self) {
        self.server.frame(self.frame, &mut self.inputs, &mut self.outputs);
        if !self.setup.tolerant {
            self.check_failures();
        }
        self.frame += 1;
        let outputs = std::mem::take(&mut self.outputs);
        for send in &outputs.sends {
            if let Some(client) = self.clients.iter_mut().find(|client| client.peer == Some(send.peer)) {
                let mut bytes = send.head.to_vec();
                bytes.extend_from_slice(&send.body);
                client.receive(&bytes);
            }
        }
        for close in &outputs.closes {
            self.slots.close(close.peer);
            if let Some(client) = self.clients.iter_mut().find(|client| client.peer == Some(close.peer)) {
                client.closed_by_server(close.reason);
            }
        }
        self.replies.extend(outputs.replies.iter().map(|reply| (reply.ticket, reply.result.clone())));
        self.answers.extend(outputs.answers.iter().map(|a| (a.ticket, a.seq, a.result.clone())));
        self.logs.extend(outputs.logs.iter().cloned());
        self.stopped |= outputs.stopped;
        for job in outputs.jobs.clone() {
            match &mut self.held {
                Some(held) => held.push(job),
                None => self.run_job(job),
            }
        }
        self.outputs = outputs;
    }

    /// Does a job at once, where it is seen by the test.
    fn run_job(&mut self, job: kaos_kernel::output::Job) {
        let ticket = job.ticket;
        let answer = self.try_job(&job);
        self.inputs.push(Input::Done { ticket, answer });
    }

    fn try_job(&mut self, job: &kaos_kernel::output::Job) -> Result<Bytes, Fault> {
        let idle = self.workers.iter().position(|(name, _)| *name == job.name);
        let mut worker = match idle {
            Some(at) => self.workers.swap_remove(at).1,
            None => (self.jobs.get(job.name)?.1)(self.setup.seed)?,
        };
        let deadline = deadline(self.server.world().resource::<CallSettings>().wait_ms);
        let (mut seq, mut logs) = (0, Vec::new());
        let mut ask = |op: &str, request| {
            seq += 1;
            self.ask(job.ticket, seq, op, request)
        };
        let answer = worker.run(&job.body, &mut JobContext::new(deadline, &mut ask, &mut logs));
        self.logs.extend(logs);
        worker.rest();
        self.workers.push((job.name, worker));
        answer
    }

    fn ask(&mut self, ticket: Ticket, seq: u32, op: &str, body: Bytes) -> Result<Bytes, Fault> {
        self.inputs.push(Input::Ask { ticket, seq, op: op.to_owned(), body });
        for _ in 0..1000 {
            self.step();
            if let Some(at) = self.answers.iter().position(|(t, s, _)| (*t, *s) == (ticket, seq)) {
                return self.answers.swap_remove(at).2;
            }
        }
        Err(FaultKind::Deadline.into())
    }

    /// Runs to `frame`: every one in strict mode, otherwise those that are due.
    fn run_to(&mut self, frame: u64) {
        while self.frame < frame {
            if !self.setup.strict && self.inputs.is_empty() {
                let due = self.server.due().unwrap_or(frame).min(frame);
                if due > self.frame {
                    self.frame = due;
                    continue;
                }
            }
            self.beat_hearts();
            self.step();
        }
    }

    /// Clients send their heartbeats, as clients do.
    fn beat_hearts(&mut self) {
        let hz = self.setup.quantum.hz();
        let mut beats = Vec::new();
        for client in &mut self.clients {
            if let Some((peer, bytes)) = client.heartbeat(self.frame, hz) {
                beats.push(Input::Data { peer, bytes });
            }
        }
        self.inputs.extend(beats);
    }

    fn check_failures(&self) {
        let failures = self.server.failures();
        #[expect(clippy::panic, reason = "a test kit fails tests")]
        if !failures.is_empty() {
            panic!("frame {}: {}", self.frame, failures.sentences().join("\n"));
        }
    }

    fn check_noise(&self) -> Result<(), String> {
        if self.server.noise().is_empty() { Ok(()) } else { Err(self.server.noise().join("\n")) }
    }
}

impl Test {
    pub(crate) fn inner(&self) -> RefMut<'_, Inner> {
        self.inner.borrow_mut()
    }

    /// Connects an anonymous client.
    pub fn connect(&mut self, name: &str) -> Player {
        Player::connect(&self.inner, name)
    }

    /// Connects a client that starts no session: the server closes it after `session.start_ms`.
    pub fn stranger(&mut self) -> Player {
        Player::stranger(&self.inner)
    }

    /// Connects an anonymous client and joins an open room of a module, which is made when there is none.
    ///
    /// # Panics
    /// When the server refuses; [`Player::join`] gives the refusal instead.
    pub fn join(&mut self, module: &str, name: &str) -> Player {
        let player = self.connect(name);
        #[expect(clippy::panic, reason = "a test kit fails tests")]
        if let Err(refusal) = player.join(module) {
            panic!("{name} cannot join {module}: {refusal}");
        }
        player
    }

    /// Runs until every room has run `n` more ticks.
    pub fn ticks(&mut self, n: u64) {
        let rates: Vec<u64> = {
            let mut inner = self.inner();
            let world = inner.server.world();
            let rooms: Vec<Entity> = world.resource::<RoomIndex>().iter().map(|(_, entity)| entity).collect();
            rooms
                .iter()
                .filter_map(|room| world.get::<Room>(*room))
                .map(|room| u64::from(room.tick_rate))
                .collect()
        };
        let hz = self.inner().setup.quantum.hz();
        let slowest = rates.into_iter().filter(|rate| *rate > 0).min().unwrap_or(1);
        let frames = (n * hz).div_ceil(slowest);
        self.frames(frames);
    }

    /// Runs that many frames.
    ///
    /// # Panics
    /// When a system of a plugin fails in one; see [`Setup::tolerating_failures`].
    pub fn frames(&mut self, n: u64) {
        let mut inner = self.inner();
        let to = inner.frame + n;
        inner.run_to(to);
    }

    /// Runs that many milliseconds of virtual time.
    pub fn run_ms(&mut self, ms: u64) {
        let frames = (ms * 1000).div_ceil(self.inner().setup.quantum.us());
        self.frames(frames);
    }

    /// Leaves that many frames out, as a server does whose machine was busy: the next one that runs is late.
    pub fn miss(&mut self, n: u64) {
        self.inner().frame += n;
    }

    /// The oldest room of a module.
    ///
    /// # Panics
    /// When there is none.
    pub fn room(&self, module: &str) -> RoomView {
        let mut inner = self.inner();
        let world = inner.server.world();
        let rooms: Vec<(u64, RoomId)> = world
            .resource::<RoomIndex>()
            .iter()
            .filter_map(|(id, entity)| {
                let room = world.get::<Room>(entity)?;
                (room.module == module).then_some((room.number, id))
            })
            .collect();
        drop(inner);
        match rooms.into_iter().min() {
            Some((_, id)) => RoomView { inner: self.inner.clone(), id },
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            None => panic!("there is no room of `{module}`"),
        }
    }

    /// Calls an operation as over HTTP: with an identity or without, JSON in and out.
    ///
    /// # Errors
    /// The operation's fault.
    pub fn call(&mut self, user: Option<&str>, op: &str, request: Json) -> Result<Json, Fault> {
        let identity = user.map(|user| Identity {
            user_id: user.to_owned(),
            username: user.to_owned(),
            ..Identity::default()
        });
        self.call_as(identity, op, request)
    }

    /// As [`Test::call`], with all that a token can say, its variables too.
    ///
    /// # Errors
    /// The operation's fault.
    pub fn call_as(&mut self, identity: Option<Identity>, op: &str, request: Json) -> Result<Json, Fault> {
        let bytes = self.call_body(identity, op, Body::Json(request.to_string().into()))?;
        serde_json::from_slice(&bytes).map_err(|error| Fault::internal(error.to_string()))
    }

    /// As [`Test::call_as`], with the request as a door gives it: for a route of the operation, or another of its faces.
    ///
    /// # Errors
    /// The operation's fault.
    pub fn call_body(&mut self, identity: Option<Identity>, op: &str, body: Body) -> Result<Bytes, Fault> {
        let mut inner = self.inner();
        inner.tickets += 2;
        let ticket = Ticket(inner.tickets);
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        inner.inputs.push(Input::Call { ticket, op: op.to_owned(), identity, address, body });
        for _ in 0..1000 {
            inner.step();
            if let Some(at) = inner.replies.iter().position(|(t, _)| *t == ticket) {
                return inner.replies.swap_remove(at).1;
            }
        }
        Err(FaultKind::Deadline.into())
    }

    /// Keeps jobs back from now on, until [`Test::release_jobs`].
    pub fn hold_jobs(&mut self) {
        self.inner().held.get_or_insert_with(Vec::new);
    }

    /// Does the jobs that were kept back.
    pub fn release_jobs(&mut self) {
        let mut inner = self.inner();
        for job in inner.held.take().unwrap_or_default() {
            inner.run_job(job);
        }
    }

    /// Stops the server and runs until it says that it may end.
    pub fn stop(&mut self) {
        let mut inner = self.inner();
        inner.inputs.push(Input::Stop { grace_s: 5 });
        for _ in 0..100 {
            inner.step();
            if inner.stopped {
                break;
            }
        }
    }

    /// Did the server say that it may end?
    pub fn is_stopped(&self) -> bool {
        self.inner().stopped
    }

    /// What scripts and the server wrote to the log since the last time.
    pub fn logs(&mut self) -> Vec<Log> {
        std::mem::take(&mut self.inner().logs)
    }

    /// A sentence for each system, run condition, command and observer that failed since the start; see
    /// [`Setup::tolerating_failures`].
    pub fn failures(&self) -> Vec<String> {
        self.inner().server.failures().sentences()
    }

    /// How much there is of everything.
    pub fn population(&mut self) -> Population {
        self.inner().server.population()
    }

    /// The server itself. What is changed in its world is in no journal.
    pub fn with_server<R>(&mut self, work: impl FnOnce(&mut Server) -> R) -> R {
        work(&mut self.inner().server)
    }

    /// The inputs that the next frame gets beside those of clients: for what no client does.
    pub fn input(&mut self, input: Input) {
        self.inner().inputs.push(input);
    }

    /// The journal so far, with a check of outputs and state at its end.
    ///
    /// # Panics
    /// Never: the kit keeps the whole journal.
    pub fn journal(&mut self) -> Vec<u8> {
        let mut inner = self.inner();
        if !inner.inputs.is_empty() {
            inner.step();
        }
        let _ = inner.server.check();
        let header = inner.server.header().clone();
        inner.server.journal().to_bytes(&header).unwrap_or_default()
    }

    /// Makes the same run again on a fresh server that skips quiet frames.
    ///
    /// # Panics
    /// When outputs or state differ, or a frame of this run should have been quiet and was not.
    pub fn replays_equally(&mut self) {
        let journal = self.journal();
        let noise = self.inner().check_noise();
        let setup = self.inner().setup.clone().skipping();
        let again = setup.build().map_err(|error| error.to_string());
        let result = again.and_then(|server| replay(&journal, server).map_err(|error| error.to_string()));
        match (result, noise) {
            (Ok(Replayed { .. }), Ok(())) => {}
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            (Ok(_), Err(noise)) => panic!("{noise}"),
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            (Err(error), _) => panic!("seed {}: the run does not replay: {error}", setup.seed),
        }
    }
}

/// The deadline of a job that begins now.
#[expect(
    clippy::disallowed_methods,
    reason = "a job stands outside of the frame and waits for what knows no virtual time"
)]
fn deadline(wait_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait_ms)
}

/// A room, looked at from outside.
pub struct RoomView {
    inner: Rc<RefCell<Inner>>,
    id: RoomId,
}

impl RoomView {
    /// Its id.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// A part of its match's state, by JSON pointer (RFC 6901); `""` is the whole. Null when it is not there.
    pub fn state(&self, pointer: &str) -> Json {
        let mut inner = self.inner.borrow_mut();
        let state = kaos_rooms::match_state(inner.server.world(), self.id).unwrap_or_default();
        state.pointer(pointer).cloned().unwrap_or_default()
    }

    /// Who is in it, in the order of joining.
    pub fn members(&self) -> Vec<String> {
        let mut inner = self.inner.borrow_mut();
        let world = inner.server.world();
        let Some(room) = world.room(self.id) else { return Vec::new() };
        let members = world.get::<Presences>(room).map(Presences::entities).unwrap_or_default();
        let infos = members.iter().filter_map(|entity| world.get::<Presence>(*entity));
        infos.map(|presence| presence.info.username.clone()).collect()
    }

    /// Is it still there?
    pub fn exists(&self) -> bool {
        self.inner.borrow_mut().server.world().room(self.id).is_some()
    }
}
