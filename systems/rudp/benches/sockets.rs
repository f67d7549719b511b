//! What datagrams cost on real sockets over loopback, compared with the bare system calls in the same run.
//!
//! `cargo bench -p kaos-rudp --bench sockets -- [PART …]`, parts: `peers`, `rtt`, `bulk`; all by default. About half a
//! minute. Compare only figures of the same run. *CPU* is the time of one thread as the system counts it, which a busy
//! machine disturbs less than wall time.
//!
//! * **peers**: K peers, each of which sends 64 bytes unreliably and is sent 64 bytes, as in a frame. Only the server's
//!   half is measured: reading, the endpoint, writing. Bare: the same datagrams, read and written by the same calls
//!   without an endpoint, and by `recv_from` and `send_to`. Rounds of each take turns, and the least of each counts.
//! * **rtt**: 64 bytes there and back between two threads that never sleep.
//! * **bulk**: one peer streams 64-byte messages, reliable and ordered, to another thread. They are coalesced into
//!   datagrams, and datagrams into segmented sends. Every message must arrive in every run.

#![expect(clippy::print_stdout, reason = "a bench shows what it measured")]

use std::{
    hint::{black_box, spin_loop},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use kaos_rudp::{
    Channel, Config, Endpoint, Event, Micros, PeerId, SendError,
    io::{Backend, Options, Socket},
};
use rustix::time::{ClockId, clock_gettime};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const MESSAGE: [u8; 64] = [7; 64];
const BUFFER: usize = 4 << 20;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|arg| arg == part);
    if is_asked("peers") {
        println!("peers: CPU of the server's thread for one datagram in and one out, µs");
        println!(
            "{:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "K", "in", "core", "out", "all", "bare", "ratio"
        );
        for count in [100, 1000] {
            peers(count);
        }
    }
    if is_asked("rtt") {
        println!("\nrtt: 64 bytes there and back, both sides spinning, µs");
        println!("{:>10} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99");
        rtt();
    }
    if is_asked("bulk") {
        println!("\nbulk: 64-byte reliable ordered messages, one way");
        bulk_runs();
    }
}

/// A clock that begins at zero.
#[derive(Clone, Copy)]
struct Clock(u64);

impl Clock {
    fn start() -> Clock {
        Clock(wall())
    }

    fn now(self) -> Micros {
        Micros((wall() - self.0) / 1000)
    }
}

fn options() -> Options {
    Options { receive_buffer_bytes: Some(BUFFER), send_buffer_bytes: Some(BUFFER), ..Options::default() }
}

/// CPU time of this thread, in nanoseconds.
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn take(socket: &mut Socket, endpoint: &mut Endpoint, now: Micros) {
    let read = socket.receive(4096, |from, datagram| endpoint.handle(now, from, datagram));
    assert!(read.is_ok(), "{read:?}");
    endpoint.run_jobs(now);
    endpoint.handle_timeout(now);
}

/// Sends what there is.
fn give(socket: &mut Socket, endpoint: &mut Endpoint, now: Micros) {
    let _full_sockets_are_tried_again = socket.transmit(endpoint, now);
}

// ---- peers ----

/// Rounds of each kind. The least of them is as good as undisturbed.
const ROUNDS: usize = 12;

/// A server and its clients, each on a socket of its own.
struct Crowd {
    clock: Clock,
    server: Endpoint,
    home: Socket,
    clients: Vec<(Socket, Endpoint, PeerId)>,
    known: Vec<PeerId>,
    /// Messages that arrived at the server, and at the clients.
    came: u64,
    got: u64,
}

impl Crowd {
    /// Connects `count` clients, and waits until nothing has happened for a while.
    fn connected(count: usize) -> Crowd {
        let clock = Clock::start();
        let home = Socket::bind(LOCAL, &options()).expect("loopback");
        let address = home.local_addr().expect("bound");
        let plain = Options { backend: Backend::Plain, ..Options::default() };
        let client = |at: usize| {
            let mut seed = [2; 32];
            seed[..8].copy_from_slice(&(at as u64).to_le_bytes());
            let mut endpoint = Endpoint::new(Config::default(), seed);
            let peer = endpoint.connect(clock.now(), address, None).expect("an address");
            (Socket::bind(LOCAL, &plain).expect("loopback"), endpoint, peer)
        };
        let server = Endpoint::new(Config::server(), [1; 32]);
        let clients = (0..count).map(client).collect();
        let mut crowd = Crowd { clock, server, home, clients, known: Vec::new(), came: 0, got: 0 };
        let quiet = Duration::from_millis(300);
        let mut last = clock.now();
        while crowd.known.len() < count || clock.now() - last < quiet {
            let before = crowd.known.len();
            crowd.connect();
            let now = clock.now();
            if crowd.known.len() > before {
                last = now;
            }
            assert!(now < Micros(30_000_000), "{} of {count} peers connected", crowd.known.len());
        }
        crowd
    }

    fn connect(&mut self) {
        for (socket, endpoint, _) in &mut self.clients {
            let now = self.clock.now();
            take(socket, endpoint, now);
            while endpoint.poll_event().is_some() {}
            give(socket, endpoint, now);
        }
        let now = self.clock.now();
        take(&mut self.home, &mut self.server, now);
        while let Some(event) = self.server.poll_event() {
            if let Event::Connected { peer, .. } = event {
                self.known.push(peer);
            }
        }
        give(&mut self.home, &mut self.server, now);
    }

    /// A message each way. Returns the server's CPU time for what came in, for the messages, and for what went out.
    fn tick(&mut self) -> [u64; 3] {
        let now = self.clock.now();
        for (socket, endpoint, peer) in &mut self.clients {
            endpoint.send(*peer, Channel::UNRELIABLE, &[&MESSAGE]).expect("a connection");
            give(socket, endpoint, now);
        }
        let now = self.clock.now();
        let start = cpu();
        take(&mut self.home, &mut self.server, now);
        let read = cpu();
        while let Some(event) = self.server.poll_event() {
            if let Event::Message { bytes, .. } = event {
                self.came += 1;
                self.server.recycle(black_box(bytes));
            }
        }
        for peer in &self.known {
            self.server.send(*peer, Channel::UNRELIABLE, &[&MESSAGE]).expect("a connection");
        }
        let filled = cpu();
        give(&mut self.home, &mut self.server, now);
        let sent = cpu();
        let now = self.clock.now();
        for (socket, endpoint, _) in &mut self.clients {
            take(socket, endpoint, now);
            while let Some(event) = endpoint.poll_event() {
                if let Event::Message { bytes, .. } = event {
                    self.got += 1;
                    endpoint.recycle(bytes);
                }
            }
        }
        [read - start, filled - read, sent - filled]
    }
}

fn peers(count: usize) {
    let ticks = (20_000 / count).max(10) as u64;
    let mut crowd = Crowd::connected(count);
    let mut bare = Bare::new(count);
    let (mut best, mut least) = ([u64::MAX; 3], u64::MAX);
    let mut bare_least = [u64::MAX; 2];
    for round in 0..=ROUNDS {
        let mut spent = [0; 3];
        for _ in 0..ticks {
            let tick = crowd.tick();
            spent.iter_mut().zip(tick).for_each(|(all, this)| *all += this);
        }
        let bare_round = [bare.round(ticks, Calls::Batched), bare.round(ticks, Calls::Plain)];
        // The first warms up.
        if round > 0 {
            let all: u64 = spent.iter().sum();
            if all < least {
                (least, best) = (all, spent);
            }
            for (least, this) in bare_least.iter_mut().zip(bare_round) {
                *least = this.min(*least);
            }
        }
    }
    let sent = (ROUNDS as u64 + 1) * ticks * count as u64;
    let each = |ns: u64| ns as f64 / (ticks * count as u64) as f64 / 1000.0;
    let bare = bare_least.into_iter().min().unwrap_or(1);
    println!(
        "{count:>6} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>7.2}",
        each(best[0]),
        each(best[1]),
        each(best[2]),
        each(least),
        each(bare),
        least as f64 / bare as f64
    );
    println!(
        "       bare: batched reads {:.2}, recv_from {:.2}; messages in {} and out {} of {sent}; {:?}",
        each(bare_least[0]),
        each(bare_least[1]),
        crowd.came,
        crowd.got,
        crowd.home.features()
    );
}

/// The same traffic without endpoints.
struct Bare {
    home: Socket,
    plain: UdpSocket,
    clients: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
}

/// Which system calls move the datagrams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    Batched,
    /// `recv_from` and `send_to`.
    Plain,
}

/// A 64-byte message with the transport's bytes.
const DATAGRAM: [u8; 88] = [7; 88];

impl Bare {
    fn new(count: usize) -> Bare {
        let plain = Options { backend: Backend::Plain, ..options() };
        let bare = |options: &Options| Socket::bind(LOCAL, options).expect("loopback");
        let clients: Vec<UdpSocket> = (0..count)
            .map(|_| {
                let socket = UdpSocket::bind(LOCAL).expect("loopback");
                socket.set_nonblocking(true).expect("a socket");
                socket
            })
            .collect();
        let addresses = clients.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        Bare { home: bare(&options()), plain: bare(&plain).into_std(), clients, addresses }
    }

    fn round(&mut self, ticks: u64, calls: Calls) -> u64 {
        let home = match calls {
            Calls::Batched => self.home.local_addr(),
            Calls::Plain => self.plain.local_addr(),
        };
        let home = home.expect("bound");
        let mut spent = 0;
        let mut buf = [0; 2048];
        for _ in 0..ticks {
            for client in &self.clients {
                client.send_to(&DATAGRAM, home).expect("loopback");
            }
            let start = cpu();
            if calls == Calls::Batched {
                let read = self.home.receive(4096, |from, datagram| {
                    black_box((from, datagram));
                });
                assert!(read.is_ok(), "{read:?}");
                let mut next = self.addresses.iter();
                let _full_sockets_lose_nothing = self.home.transmit_with(|datagram| {
                    datagram.clear();
                    let to = next.next()?;
                    datagram.extend_from_slice(&DATAGRAM);
                    Some(*to)
                });
            } else {
                while let Ok(read) = self.plain.recv_from(&mut buf) {
                    black_box(read);
                }
                for to in &self.addresses {
                    self.plain.send_to(&DATAGRAM, to).expect("loopback");
                }
            }
            spent += cpu() - start;
            for client in &self.clients {
                while client.recv_from(&mut buf).is_ok() {}
            }
        }
        spent
    }
}

// ---- rtt ----

const TRIPS: usize = 50_000;

fn print_times(name: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!("{name:>10} {:>9.2} {:>9.2} {:>9.2}", at(0.5), at(0.9), at(0.99));
}

/// Wall time in nanoseconds since any start.
fn wall() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn rtt() {
    print_times("bare", bare_trips());
    print_times("kaos-rudp", trips());
}

/// The times of many trips, after some that warm up.
fn times(mut trip: impl FnMut() -> u64) -> Vec<u64> {
    (0..1000).for_each(|_| _ = trip());
    (0..TRIPS).map(|_| trip()).collect()
}

fn bare_trips() -> Vec<u64> {
    let stop = AtomicBool::new(false);
    let socket = || {
        let socket = UdpSocket::bind(LOCAL).expect("loopback");
        socket.set_nonblocking(true).expect("a socket");
        socket
    };
    let (here, there) = (socket(), socket());
    let away = there.local_addr().expect("bound");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buf = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                match there.recv_from(&mut buf) {
                    Ok((length, from)) => drop(there.send_to(&buf[..length], from)),
                    Err(_) => spin_loop(),
                }
            }
        });
        let mut buf = [0; 2048];
        let times = times(|| {
            let start = wall();
            here.send_to(&DATAGRAM, away).expect("loopback");
            while here.recv_from(&mut buf).is_err() {
                spin_loop();
            }
            wall() - start
        });
        stop.store(true, Ordering::Relaxed);
        times
    })
}

fn trips() -> Vec<u64> {
    let (clock, stop) = (Clock::start(), AtomicBool::new(false));
    let mut away = Socket::bind(LOCAL, &options()).expect("loopback");
    let address = away.local_addr().expect("bound");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut endpoint = Endpoint::new(Config::server(), [1; 32]);
            while !stop.load(Ordering::Relaxed) {
                let now = clock.now();
                take(&mut away, &mut endpoint, now);
                while let Some(event) = endpoint.poll_event() {
                    if let Event::Message { peer, bytes, .. } = event {
                        let _ = endpoint.send(peer, Channel::UNRELIABLE, &[&bytes]);
                        endpoint.recycle(bytes);
                    }
                }
                give(&mut away, &mut endpoint, now);
            }
        });
        let (mut home, mut endpoint, peer) = connected(clock, address);
        let times = times(|| {
            let start = wall();
            endpoint.send(peer, Channel::UNRELIABLE, &[&MESSAGE]).expect("a connection");
            give(&mut home, &mut endpoint, clock.now());
            loop {
                let now = clock.now();
                take(&mut home, &mut endpoint, now);
                let mut is_back = false;
                while let Some(event) = endpoint.poll_event() {
                    if let Event::Message { bytes, .. } = event {
                        is_back = true;
                        endpoint.recycle(bytes);
                    }
                }
                if is_back {
                    return wall() - start;
                }
                give(&mut home, &mut endpoint, now);
            }
        });
        stop.store(true, Ordering::Relaxed);
        times
    })
}

/// A client that is connected to `address`.
fn connected(clock: Clock, address: SocketAddr) -> (Socket, Endpoint, PeerId) {
    let mut socket = Socket::bind(LOCAL, &options()).expect("loopback");
    let mut endpoint = Endpoint::new(Config::default(), [2; 32]);
    let peer = endpoint.connect(clock.now(), address, None).expect("an address");
    let mut is_open = false;
    while !is_open {
        let now = clock.now();
        take(&mut socket, &mut endpoint, now);
        while let Some(event) = endpoint.poll_event() {
            is_open |= matches!(event, Event::Connected { .. });
        }
        give(&mut socket, &mut endpoint, now);
        assert!(now < Micros(30_000_000), "no connection");
    }
    (socket, endpoint, peer)
}

// ---- bulk ----

const BULK_MESSAGES: u64 = 1_000_000;
const BULK_RUNS: usize = 20;
/// A run that takes longer has failed.
const BULK_DEADLINE: Micros = Micros(20_000_000);

fn bulk_config() -> Config {
    Config { queue_bytes_max: 4 << 20, window_bytes_max: 1 << 20, ..Config::server() }
}

struct Bulk {
    delivered: u64,
    seconds: f64,
    sender_cpu: u64,
    receiver_cpu: u64,
    segments: f64,
    reads: f64,
    lost: u64,
}

fn bulk_runs() {
    let config = bulk_config();
    let mut rates = Vec::new();
    let mut whole = 0;
    println!(
        "{:>4} {:>10} {:>8} {:>12} {:>12} {:>10} {:>9} {:>6}",
        "run", "delivered", "M/s", "CPU out, ns", "CPU in, ns", "per write", "per read", "lost"
    );
    for run in 0..BULK_RUNS {
        let bulk = bulk(run as u8);
        let rate = bulk.delivered as f64 / bulk.seconds / 1e6;
        whole += usize::from(bulk.delivered == BULK_MESSAGES);
        rates.push(rate);
        println!(
            "{:>4} {:>10} {:>8.2} {:>12.0} {:>12.0} {:>10.1} {:>9.1} {:>6}",
            run + 1,
            bulk.delivered,
            rate,
            bulk.sender_cpu as f64 / bulk.delivered.max(1) as f64,
            bulk.receiver_cpu as f64 / bulk.delivered.max(1) as f64,
            bulk.segments,
            bulk.reads,
            bulk.lost
        );
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{whole} of {BULK_RUNS} runs whole; M messages/s: least {:.2}, median {:.2}, most {:.2}; queue at most {} KiB, \
         window at most {} KiB, socket buffers {} KiB",
        rates[0],
        rates[rates.len() / 2],
        rates[rates.len() - 1],
        config.queue_bytes_max >> 10,
        config.window_bytes_max >> 10,
        BUFFER >> 10
    );
}

fn bulk(seed: u8) -> Bulk {
    let clock = Clock::start();
    let stop = AtomicBool::new(false);
    let mut from = Socket::bind(LOCAL, &options()).expect("loopback");
    let mut to = Socket::bind(LOCAL, &options()).expect("loopback");
    let address = to.local_addr().expect("bound");
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_bulk(seed, clock, &mut to, &stop));
        let sent = send_bulk(seed, clock, &mut from, address);
        stop.store(true, Ordering::Relaxed);
        (sent, receiver.join().expect("no panic"))
    });
    let (out, inward) = (from.counters(), to.counters());
    Bulk {
        delivered: received.count,
        seconds: received.took.as_secs_f64(),
        sender_cpu: sent.cpu,
        receiver_cpu: received.cpu,
        segments: out.datagrams_out as f64 / out.writes.max(1) as f64,
        reads: inward.datagrams_in as f64 / inward.reads.max(1) as f64,
        lost: sent.lost,
    }
}

/// What arrived, from the first message to the last.
struct BulkReceived {
    count: u64,
    took: Duration,
    cpu: u64,
}

fn receive_bulk(seed: u8, clock: Clock, socket: &mut Socket, stop: &AtomicBool) -> BulkReceived {
    let mut endpoint = Endpoint::new(bulk_config(), [seed; 32]);
    let (mut next, mut started, mut ended, mut spent) = (0, Micros(0), Micros(0), 0);
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        take(socket, &mut endpoint, now);
        while let Some(event) = endpoint.poll_event() {
            if let Event::Message { bytes, .. } = event {
                let number = bytes.first_chunk().map(|number| u64::from_le_bytes(*number));
                assert_eq!(number, Some(next), "in order and once");
                if next == 0 {
                    (started, spent) = (now, cpu());
                }
                next += 1;
                endpoint.recycle(bytes);
                if next == BULK_MESSAGES {
                    (ended, spent) = (clock.now(), cpu() - spent);
                }
            }
        }
        give(socket, &mut endpoint, now);
    }
    BulkReceived { count: next, took: ended - started, cpu: spent }
}

struct BulkSent {
    cpu: u64,
    lost: u64,
}

/// Sends all messages, and waits until they are acknowledged, the connection ends or the time is over.
fn send_bulk(seed: u8, clock: Clock, socket: &mut Socket, address: SocketAddr) -> BulkSent {
    let mut endpoint = Endpoint::new(bulk_config(), [100 + seed; 32]);
    let peer = endpoint.connect(clock.now(), address, None).expect("an address");
    let (mut next, mut begun, mut is_blocked) = (0u64, None, false);
    let mut message = MESSAGE;
    loop {
        let now = clock.now();
        take(socket, &mut endpoint, now);
        let mut is_closed = false;
        while let Some(event) = endpoint.poll_event() {
            match event {
                Event::Connected { .. } => begun = Some(cpu()),
                Event::Writable { .. } => is_blocked = false,
                Event::Closed { .. } => is_closed = true,
                _ => {}
            }
        }
        // Some at a time, so that acknowledgements are read in between.
        for _ in 0..1024 {
            if begun.is_none() || is_blocked || next == BULK_MESSAGES {
                break;
            }
            message[..8].copy_from_slice(&next.to_le_bytes());
            match endpoint.send(peer, Channel::DATA, &[&message]) {
                Ok(()) => next += 1,
                Err(SendError::WouldBlock) => is_blocked = true,
                Err(error) => panic!("{error}"),
            }
        }
        give(socket, &mut endpoint, now);
        let stats = endpoint.stats(peer).unwrap_or_default();
        let is_done = next == BULK_MESSAGES && stats.queued_bytes == 0;
        if is_closed || is_done || now > BULK_DEADLINE {
            return BulkSent { cpu: begun.map_or(0, |begun| cpu() - begun), lost: stats.lost };
        }
    }
}
