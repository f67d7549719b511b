//! A running test server: frames, jobs and calls, when a test wants them.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use bytes::Bytes;
use kaos_client::Credentials;
use kaos_kernel::call::job::JobContext;
use kaos_kernel::ids::Ticket;
use kaos_kernel::input::{Body, Boot, Identity, Input};
use kaos_kernel::output::{Log, Outputs};
use kaos_kernel::prelude::*;
use kaos_kernel::server::{Population, Server};
use serde_json::Value as Json;

use super::client::Client;
use super::door::MemoryDoor;
use super::jobs::{Workers, deadline};
use super::player::Player;
use super::setup::Setup;
use super::view::RoomView;
use crate::replay::{Replayed, replay};

/// A running test server.
pub struct Test {
    inner: Rc<RefCell<Inner>>,
}

pub(super) struct Inner {
    setup: Setup,
    pub(super) server: Server,
    workers: Workers,
    pub(super) clients: Vec<Client>,
    pub(super) door: MemoryDoor,
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
    pub(super) fn step(&mut self) {
        self.turn_clients();
        self.server.frame(self.door.frame, &mut self.door.inputs, &mut self.outputs);
        if !self.setup.tolerant {
            self.check_failures();
        }
        self.door.frame += 1;
        let outputs = std::mem::take(&mut self.outputs);
        self.tell_clients(&outputs);
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

    /// Clients do what is due, as clients do: heartbeats, acknowledgements, goodbyes.
    fn turn_clients(&mut self) {
        for client in &mut self.clients {
            client.turn(&mut self.door);
        }
    }

    fn tell_clients(&mut self, outputs: &Outputs) {
        let now = self.door.now();
        for send in &outputs.sends {
            if let Some(client) = self.clients.iter_mut().find(|client| client.is_on(send.peer)) {
                client.receive(now, send);
            }
        }
        for close in &outputs.closes {
            self.door.closed(close.peer);
            if let Some(client) = self.clients.iter_mut().find(|client| client.is_on(close.peer)) {
                client.closed(now, close.reason);
            }
        }
        self.turn_clients();
    }

    /// Does a job at once, where it is seen by the test.
    fn run_job(&mut self, job: kaos_kernel::output::Job) {
        let ticket = job.ticket;
        let answer = self.try_job(&job);
        self.door.inputs.push(Input::Done { ticket, answer });
    }

    fn try_job(&mut self, job: &kaos_kernel::output::Job) -> Result<Bytes, Fault> {
        let mut worker = self.workers.take(job.name)?;
        let deadline = deadline(self.server.world().resource::<CallSettings>().wait_ms);
        let (mut seq, mut logs) = (0, Vec::new());
        let mut ask = |op: &str, request| {
            seq += 1;
            self.ask(job.ticket, seq, op, request)
        };
        let answer = worker.run(&job.body, &mut JobContext::new(deadline, &mut ask, &mut logs));
        self.logs.extend(logs);
        self.workers.give_back(job.name, worker);
        answer
    }

    fn ask(&mut self, ticket: Ticket, seq: u32, op: &str, body: Bytes) -> Result<Bytes, Fault> {
        self.door.inputs.push(Input::Ask { ticket, seq, op: op.to_owned(), body });
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
        while self.door.frame < frame {
            if !self.setup.strict && self.door.inputs.is_empty() {
                let clients = self.clients.iter().filter_map(|client| client.due(&self.door));
                let due = clients.chain(self.server.due()).min().unwrap_or(frame).min(frame);
                if due > self.door.frame {
                    self.door.frame = due;
                    continue;
                }
            }
            self.step();
        }
    }

    fn check_failures(&self) {
        let failures = self.server.failures();
        #[expect(clippy::panic, reason = "a test kit fails tests")]
        if !failures.is_empty() {
            panic!("frame {}: {}", self.door.frame, failures.sentences().join("\n"));
        }
    }

    fn check_noise(&self) -> Result<(), String> {
        if self.server.noise().is_empty() { Ok(()) } else { Err(self.server.noise().join("\n")) }
    }
}

impl Test {
    /// Boots a server that was built from `setup`.
    pub(super) fn start(setup: Setup, server: Server) -> Test {
        let workers = Workers::new(server.jobs(), setup.seed);
        let door = MemoryDoor::new(setup.quantum);
        let mut inner = Inner {
            setup,
            server,
            workers,
            clients: Vec::new(),
            door,
            outputs: Outputs::default(),
            replies: Vec::new(),
            answers: Vec::new(),
            logs: Vec::new(),
            tickets: 0,
            held: None,
            stopped: false,
        };
        let boot = Boot { seed: inner.setup.seed, wall_ms: 1_700_000_000_000, node: 1 };
        inner.door.inputs.push(Input::Boot(boot));
        inner.step();
        Test { inner: Rc::new(RefCell::new(inner)) }
    }

    fn inner(&self) -> RefMut<'_, Inner> {
        self.inner.borrow_mut()
    }

    /// Connects an anonymous client.
    pub fn connect(&mut self, name: &str) -> Player {
        Player::connect(&self.inner, Credentials::anonymous(name))
    }

    /// Connects a client with a session token of this user, whose name is the same.
    pub fn login(&mut self, user: &str) -> Player {
        let token = self.inner().door.token(user);
        Player::connect(&self.inner, Credentials::token(token))
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
        let to = inner.door.frame + n;
        inner.run_to(to);
    }

    /// Runs that many milliseconds of virtual time.
    pub fn run_ms(&mut self, ms: u64) {
        let frames = (ms * 1000).div_ceil(self.inner().setup.quantum.us());
        self.frames(frames);
    }

    /// Leaves that many frames out, as a server does whose machine was busy: the next one that runs is late.
    pub fn miss(&mut self, n: u64) {
        self.inner().door.frame += n;
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
            Some((_, id)) => RoomView::new(&self.inner, id),
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
        inner.door.inputs.push(Input::Call { ticket, op: op.to_owned(), identity, address, body });
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
        inner.door.inputs.push(Input::Stop { grace_s: 5 });
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
        self.inner().door.inputs.push(input);
    }

    /// The journal so far, with a check of outputs and state at its end.
    ///
    /// # Panics
    /// Never: the kit keeps the whole journal.
    pub fn journal(&mut self) -> Vec<u8> {
        let mut inner = self.inner();
        if !inner.door.inputs.is_empty() {
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
