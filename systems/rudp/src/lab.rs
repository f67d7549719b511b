//! The test kit: endpoints on a deterministic network in virtual time. Feature `lab`.
//!
//! A [`World`] holds endpoints, the datagrams under way between them, and the time. Everything follows from its seed.
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
//! assert!(matches!(&said[1], Event::Message { bytes, .. } if bytes == "hello"));
//! ```

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::{
    config::Config,
    endpoint::{Endpoint, Event},
    peers::PeerId,
    timer::Micros,
};

/// A small generator for tests: SplitMix64. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// What the network does to each datagram. Probabilities are 0 to 1.
#[derive(Clone, Debug)]
pub struct Link {
    /// One way. Default 25 ms.
    pub delay: Duration,
    /// At random on top of `delay`, up to this. Default 0. Reorders when it is longer than the gaps between datagrams.
    pub jitter: Duration,
    /// Lost, each datagram for itself.
    pub loss: f64,
    /// Begins a burst: this datagram and the following `burst_datagrams` − 1 are lost.
    pub burst: f64,
    /// Length of a burst.
    pub burst_datagrams: u32,
    /// Delivered twice, the second time up to `late` later.
    pub duplicate: f64,
    /// Held back for up to `late`.
    pub reorder: f64,
    /// A few random bits are flipped.
    pub corrupt: f64,
    /// Cut at a random length.
    pub truncate: f64,
    /// See `duplicate` and `reorder`. Default 60 ms.
    pub late: Duration,
    /// Bottleneck of each direction between two hosts, IP and UDP headers counted. Default 0: none.
    pub bytes_per_second: u64,
    /// What the bottleneck holds, in time; what comes on top is lost. Default 100 ms.
    pub queue: Duration,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 0.0,
            burst_datagrams: 3,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            truncate: 0.0,
            late: Duration::from_millis(60),
            bytes_per_second: 0,
            queue: Duration::from_millis(100),
        }
    }
}

/// Index of an endpoint in its world.
pub type Node = usize;

struct Host {
    endpoint: Endpoint,
    addr: SocketAddr,
    events: Vec<Event>,
    is_down: bool,
}

struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Counters of the network.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Datagrams that endpoints sent.
    pub sent: u64,
    /// Their bytes, UDP payload.
    pub sent_bytes: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Datagrams that were delivered, copies included.
    pub delivered: u64,
    /// Longest time that a datagram waited at a bottleneck.
    pub queue_max: Duration,
}

/// Endpoints, the network between them, and the time.
pub struct World {
    now: Micros,
    rng: Rng,
    hosts: Vec<Host>,
    /// The network as it is now; may be changed at any time.
    pub link: Link,
    burst_left: u32,
    /// Until when the bottleneck of each direction is taken.
    busy: BTreeMap<(SocketAddr, SocketAddr), Micros>,
    flights: BTreeMap<(Micros, u64), Flight>,
    sequence: u64,
    traffic: Traffic,
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
            link,
            burst_left: 0,
            busy: BTreeMap::new(),
            flights: BTreeMap::new(),
            sequence: 0,
            traffic: Traffic::default(),
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
    /// Where `Endpoint::connect` errs.
    pub fn connect(&mut self, from: Node, to: Node) -> PeerId {
        let addr = self.hosts[to].addr;
        self.hosts[from].endpoint.connect(self.now, addr).expect("a connection can be begun")
    }

    /// Begins a connection and runs until both sides have it. Other events of both are kept.
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

    /// A host that is down neither sends nor receives, and its endpoint is not called.
    pub fn set_down(&mut self, node: Node, is_down: bool) {
        self.hosts[node].is_down = is_down;
    }

    /// Gives a host a new endpoint at the same address, as a process that was started again.
    pub fn restart(&mut self, node: Node, config: Config) {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        self.hosts[node].endpoint = Endpoint::new(config, seed);
        self.hosts[node].events.clear();
    }

    /// Gives a host a new address, as a router that forgot its mapping. Datagrams to the old one are lost.
    pub fn rebind(&mut self, node: Node, addr: SocketAddr) {
        self.hosts[node].addr = addr;
    }

    /// Counters of the network.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// From now on keeps a copy of every datagram that is sent: from, to, bytes.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// What was recorded since the last call.
    pub fn take_recorded(&mut self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts a datagram on the network, exempt from its faults: an attacker's.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.fly(self.now, Flight { from, to, bytes });
    }

    /// Runs for a time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until a moment.
    pub fn run_until(&mut self, end: Micros) {
        loop {
            self.transmit();
            let flight = self.flights.first_key_value().map(|(&(at, _), _)| at);
            let timer = self
                .hosts
                .iter()
                .filter(|host| !host.is_down)
                .filter_map(|host| host.endpoint.poll_timeout());
            let Some(next) = timer.chain(flight).min().filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// One moment: all datagrams that are here, then the timers, then events.
    fn step(&mut self) {
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let flight = entry.remove();
            let host = self.hosts.iter_mut().find(|host| host.addr == flight.to && !host.is_down);
            if let Some(host) = host {
                self.traffic.delivered += 1;
                host.endpoint.handle(self.now, flight.from, &flight.bytes);
            }
        }
        for host in self.hosts.iter_mut().filter(|host| !host.is_down) {
            host.endpoint.handle_timeout(self.now);
        }
        self.drain_events();
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
        for node in 0..self.hosts.len() {
            if self.hosts[node].is_down {
                continue;
            }
            while let Some(to) = self.hosts[node].endpoint.poll_transmit(self.now, &mut buf) {
                let from = self.hosts[node].addr;
                self.traffic.sent += 1;
                self.traffic.sent_bytes += buf.len() as u64;
                if let Some(recorded) = &mut self.recorded {
                    recorded.push((from, to, buf.clone()));
                }
                self.cross(Flight { from, to, bytes: buf.clone() });
            }
        }
        self.buf = buf;
    }

    /// What happens to a datagram on its way.
    fn cross(&mut self, mut flight: Flight) {
        let link = self.link.clone();
        if self.burst_left == 0 && self.rng.chance(link.burst) {
            self.burst_left = link.burst_datagrams;
        }
        let in_burst = self.burst_left > 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        if self.rng.chance(link.loss) || in_burst {
            self.traffic.lost += 1;
            return;
        }
        if self.rng.chance(link.corrupt) && !flight.bytes.is_empty() {
            for _ in 0..1 + self.rng.below(3) {
                let bit = self.rng.below(flight.bytes.len() as u64 * 8) as usize;
                flight.bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        if self.rng.chance(link.truncate) {
            let length = self.rng.below(flight.bytes.len() as u64 + 1) as usize;
            flight.bytes.truncate(length);
        }
        let late = link.late.as_micros() as u64 + 1;
        let mut at = self.now + link.delay;
        at += Duration::from_micros(self.rng.below(link.jitter.as_micros() as u64 + 1));
        let wire_bytes = flight.bytes.len() as u64 + 28;
        if let Some(micros) = (wire_bytes * 1_000_000).checked_div(link.bytes_per_second) {
            let busy = self.busy.entry((flight.from, flight.to)).or_default();
            let start = (*busy).max(self.now);
            if start - self.now > link.queue {
                self.traffic.lost += 1;
                return;
            }
            *busy = start + Duration::from_micros(micros);
            at += *busy - self.now;
            self.traffic.queue_max = self.traffic.queue_max.max(*busy - self.now);
        }
        if self.rng.chance(link.duplicate) {
            let again = at + Duration::from_micros(self.rng.below(late));
            self.fly(again, Flight { from: flight.from, to: flight.to, bytes: flight.bytes.clone() });
        }
        if self.rng.chance(link.reorder) {
            at += Duration::from_micros(self.rng.below(late));
        }
        self.fly(at, flight);
    }

    fn fly(&mut self, at: Micros, flight: Flight) {
        self.sequence += 1;
        self.flights.insert((at, self.sequence), flight);
    }
}
