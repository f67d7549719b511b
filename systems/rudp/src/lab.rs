//! The test kit: endpoints on a deterministic network in virtual time. Feature `lab`.
//!
//! A [`World`] holds endpoints, the [`Network`] between them, and the time. Everything follows from its seed. The
//! network alone can carry any other stack as well.
//!
//! ```
//! use kaos_rudp::{Channel, Event, lab::{Link, World}};
//! use std::time::Duration;
//!
//! let mut world = World::new(7, Link { loss: 0.1, ..Link::default() });
//! let (client, server) = world.pair();
//! let peer = world.connect(client, server);
//! world.endpoint(client).send(peer, Channel::DATA, &[b"hello"]).unwrap();
//! world.run_for(Duration::from_secs(2));
//! let said = world.take_events(server);
//! assert!(matches!(&said[1], Event::Message { bytes, .. } if bytes == b"hello"));
//! ```

mod emulator;
mod network;
mod rng;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub use emulator::{Emulation, Emulator};
pub use network::{Datagram, HEADER_BYTES, Link, Network, Traffic};
pub use rng::Rng;

use crate::{
    config::Config, endpoint::Endpoint, events::Event, job::HandshakeDone, peer_id::PeerId, timer::Micros,
};

/// Index of an endpoint in its world.
pub type Node = usize;

/// Turns that may pass without time passing. Everything that arrives at one time is taken in one turn, so more than a
/// few are a bug.
const TURNS_MAX: u32 = 1000;

struct Host {
    endpoint: Endpoint,
    addr: SocketAddr,
    events: Vec<Event>,
    is_down: bool,
}

/// Endpoints, the network between them, and the time.
pub struct World {
    now: Micros,
    rng: Rng,
    hosts: Vec<Host>,
    /// The current network, for every direction without a link of its own. May be changed at any time.
    pub link: Link,
    /// How long a handshake job takes, as if on another thread. Default zero: done at once.
    pub job_time: Duration,
    /// Jobs under way, by when they are done and their number, with the endpoint that each belongs to.
    jobs: BTreeMap<(Micros, u64), (Node, HandshakeDone)>,
    jobs_begun: u64,
    network: Network,
    buf: Vec<u8>,
    /// Every datagram that was sent, if asked for with `record`.
    recorded: Option<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
}

impl World {
    /// An empty world in which everything random follows from `seed`.
    pub fn new(seed: u64, link: Link) -> World {
        World {
            now: Micros::from_millis(1_000),
            rng: Rng::new(seed),
            hosts: Vec::new(),
            network: Network::new(seed, link.clone()),
            link,
            job_time: Duration::ZERO,
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            buf: Vec::new(),
            recorded: None,
        }
    }

    /// Adds an endpoint with an address of its own.
    pub fn add(&mut self, config: Config) -> Node {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let index = self.hosts.len() as u16;
        let [high, low] = index.to_be_bytes();
        let addr = SocketAddr::from(([10, 0, high, low], 7352));
        let endpoint = Endpoint::new(config, seed);
        self.hosts.push(Host { endpoint, addr, events: Vec::new(), is_down: false });
        self.hosts.len() - 1
    }

    /// A client and a server with default settings.
    pub fn pair(&mut self) -> (Node, Node) {
        (self.add(Config::default()), self.add(Config::server()))
    }

    /// The time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The address of an endpoint.
    pub fn addr(&self, node: Node) -> SocketAddr {
        self.hosts[node].addr
    }

    /// An endpoint, to call directly. What it has to send leaves with the next `run`.
    pub fn endpoint(&mut self, node: Node) -> &mut Endpoint {
        &mut self.hosts[node].endpoint
    }

    /// Begins a connection between two endpoints.
    ///
    /// # Panics
    /// If `Endpoint::connect` fails.
    pub fn connect(&mut self, from: Node, to: Node) -> PeerId {
        let addr = self.hosts[to].addr;
        self.hosts[from].endpoint.connect(self.now, addr, None).expect("a connection can be begun")
    }

    /// Begins a connection and runs until both sides have it. Other events of the two are kept.
    ///
    /// # Panics
    /// When that takes over ten seconds.
    pub fn connected(&mut self, from: Node, to: Node) -> (PeerId, PeerId) {
        let here = self.connect(from, to);
        let addr = self.hosts[from].addr;
        for _ in 0..10_000 {
            self.run_for(Duration::from_millis(1));
            let there = self.hosts[to]
                .events
                .iter()
                .position(|event| matches!(event, Event::Connected { addr: theirs, .. } if *theirs == addr));
            if let Some(index) = there
                && let Event::Connected { peer: there, .. } = self.hosts[to].events.remove(index)
            {
                self.hosts[from].events.retain(|event| !matches!(event, Event::Connected { .. }));
                return (here, there);
            }
        }
        panic!("no connection came about");
    }

    /// What an endpoint has reported since the last call.
    pub fn take_events(&mut self, node: Node) -> Vec<Event> {
        self.drain_events();
        std::mem::take(&mut self.hosts[node].events)
    }

    /// Takes a host down: from now on it neither sends nor receives, and its endpoint is not called.
    pub fn take_down(&mut self, node: Node) {
        self.hosts[node].is_down = true;
    }

    /// Gives a host a new endpoint at the same address, as if its process was started again.
    pub fn restart(&mut self, node: Node, config: Config) {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        self.hosts[node].endpoint = Endpoint::new(config, seed);
        self.jobs.retain(|_, (whose, _)| *whose != node);
        self.hosts[node].events.clear();
    }

    /// Gives a host a new address, as a router does that forgot its mapping. Datagrams to the old one are lost.
    pub fn rebind(&mut self, node: Node, addr: SocketAddr) {
        let old = std::mem::replace(&mut self.hosts[node].addr, addr);
        self.network.rename(old, addr);
    }

    /// Gives one direction a link of its own, or with `None` the world's again. The host keeps it when its address
    /// changes.
    pub fn set_link(&mut self, from: Node, to: Node, link: Option<Link>) {
        self.network.set_link(self.hosts[from].addr, self.hosts[to].addr, link);
    }

    /// The longest that `percent` of a direction's datagrams waited at the bottleneck: see [`Network::wait`].
    pub fn wait(&self, from: Node, to: Node, percent: f64) -> Duration {
        self.network.wait(self.hosts[from].addr, self.hosts[to].addr, percent)
    }

    /// Begins the count of [`wait`](World::wait) anew.
    pub fn forget_waits(&mut self) {
        self.network.forget_waits();
    }

    /// Counters of the network.
    pub fn traffic(&self) -> Traffic {
        self.network.traffic()
    }

    /// From now on keeps a copy of every datagram that is sent: from, to, bytes.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// What was recorded since the last call.
    pub fn take_recorded(&mut self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts an attacker's datagram on the network, exempt from its faults.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.network.inject(self.now, from, to, bytes);
    }

    /// Runs for a time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until a point in time.
    ///
    /// # Panics
    /// If an endpoint asks for the same time again and again: a server would spin.
    pub fn run_until(&mut self, end: Micros) {
        let (mut since, mut turns) = (self.now, 0);
        loop {
            self.transmit();
            let arrival = self.network.next_arrival();
            let timer = self
                .hosts
                .iter()
                .filter(|host| !host.is_down)
                .filter_map(|host| host.endpoint.poll_timeout());
            let done = self.jobs.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = timer.chain(arrival).chain(done).min().filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            turns = if since == self.now { turns + 1 } else { 0 };
            since = self.now;
            assert!(
                turns < TURNS_MAX,
                "time stands still at {:?}: a timer that is due again and again",
                self.now
            );
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// One point in time: all datagrams that are here, then the timers, then events, in the order that the crate asks
    /// for.
    fn step(&mut self) {
        while let Some(mut datagram) = self.network.deliver(self.now) {
            let host = self.hosts.iter_mut().find(|host| host.addr == datagram.to && !host.is_down);
            if let Some(host) = host {
                host.endpoint.handle(self.now, datagram.from, &mut datagram.bytes);
            }
        }
        self.work();
        for host in self.hosts.iter_mut().filter(|host| !host.is_down) {
            host.endpoint.handle_timeout(self.now);
        }
        self.drain_events();
    }

    /// Begins the jobs that endpoints have, and finishes those whose time is over.
    fn work(&mut self) {
        for (node, host) in self.hosts.iter_mut().enumerate() {
            while let Some(job) = host.endpoint.poll_job() {
                self.jobs_begun += 1;
                self.jobs.insert((self.now + self.job_time, self.jobs_begun), (node, job.run()));
            }
        }
        while let Some(entry) = self.jobs.first_entry()
            && entry.key().0 <= self.now
        {
            let (node, done) = entry.remove();
            self.hosts[node].endpoint.finish_job(self.now, done);
        }
    }

    fn drain_events(&mut self) {
        for host in &mut self.hosts {
            while let Some(event) = host.endpoint.poll_event() {
                host.events.push(event);
            }
        }
    }

    fn transmit(&mut self) {
        let mut buf = std::mem::take(&mut self.buf);
        self.network.link.clone_from(&self.link);
        for node in 0..self.hosts.len() {
            if self.hosts[node].is_down {
                continue;
            }
            while let Some(to) = self.hosts[node].endpoint.poll_transmit(self.now, &mut buf) {
                let from = self.hosts[node].addr;
                if let Some(recorded) = &mut self.recorded {
                    recorded.push((from, to, buf.clone()));
                }
                self.network.send(self.now, from, to, &buf);
            }
        }
        self.buf = buf;
    }
}
