//! What messages cost when many share a datagram: from `send` at one endpoint to `poll_event` at the other, on one
//! thread, without sockets, encrypted.
//!
//! `cargo bench -p kaos-rudp --bench channels`. Time is the CPU time of this thread, since others use the machine as
//! well; each figure is the best of several runs.
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{Channel, ChannelConfig, ChannelKind, Config, Endpoint, Event, Micros, PeerId, SendError};
use rustix::time::{ClockId, clock_gettime};

const RUNS: usize = 5;

/// CPU time of this thread, in nanoseconds.
fn computed() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn home() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7352))
}

fn away() -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 1], 5000))
}

struct Pair {
    now: Micros,
    client: Endpoint,
    server: Endpoint,
    peer: PeerId,
    buf: Vec<u8>,
}

impl Pair {
    fn new(config: &Config) -> Pair {
        let now = Micros::from_millis(5_000);
        let server = Endpoint::new(Config { accept: true, ..config.clone() }, [1; 32]);
        let mut client = Endpoint::new(config.clone(), [2; 32]);
        let peer = client.connect(now, home(), Some(server.public_key())).expect("possible");
        let mut pair = Pair { now, client, server, peer, buf: Vec::with_capacity(1500) };
        for _ in 0..3 {
            pair.cross(Duration::from_micros(50));
            pair.server.run_jobs(pair.now);
        }
        while pair.server.poll_event().is_some() {}
        while pair.client.poll_event().is_some() {}
        pair
    }

    /// Carries everything across in both directions. Returns how many datagrams went to the server.
    fn cross(&mut self, time: Duration) -> u64 {
        self.now += time;
        let mut datagrams = 0;
        self.client.handle_timeout(self.now);
        while self.client.poll_transmit(self.now, &mut self.buf).is_some() {
            datagrams += 1;
            self.server.handle(self.now, away(), &mut self.buf);
        }
        self.now += time;
        self.server.handle_timeout(self.now);
        while self.server.poll_transmit(self.now, &mut self.buf).is_some() {
            self.client.handle(self.now, home(), &mut self.buf);
        }
        datagrams
    }

    /// Sends `count` messages of `length` bytes and takes them at the other end.
    fn stream(&mut self, channel: Channel, length: usize, count: u64) -> Figures {
        let message = vec![7; length];
        let (mut sent, mut got, mut datagrams) = (0, 0, 0);
        let begin = computed();
        while got < count {
            while sent < count {
                match self.client.send(self.peer, channel, &[&message]) {
                    Ok(()) => sent += 1,
                    Err(SendError::WouldBlock) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            datagrams += self.cross(Duration::from_micros(100));
            while let Some(event) = self.server.poll_event() {
                if let Event::Message { bytes, .. } = event {
                    assert_eq!(bytes.len(), length);
                    got += 1;
                    self.server.recycle(bytes);
                }
            }
            while self.client.poll_event().is_some() {}
        }
        Figures {
            nanoseconds: (computed() - begin) / count as f64,
            per_datagram: count as f64 / datagrams as f64,
        }
    }
}

#[derive(Clone, Copy)]
struct Figures {
    nanoseconds: f64,
    per_datagram: f64,
}

fn main() {
    let mut config = Config { queue_bytes_max: 1 << 20, window_bytes_max: 1 << 20, ..Config::default() };
    let unordered = Channel::new(8).expect("under 32");
    config.channels.set(unordered, ChannelConfig::new(ChannelKind::Unordered));
    println!("from core to core in one process on one thread, AES-256-GCM, best of {RUNS}");
    for (name, channel, length, count) in [
        ("ordered, 64 bytes", Channel::DATA, 64, 2_000_000),
        ("unordered, 64 bytes", unordered, 64, 2_000_000),
        ("ordered, 8 bytes", Channel::DATA, 8, 2_000_000),
        ("ordered, 1,000 bytes", Channel::DATA, 1_000, 300_000),
        ("ordered, 60,000 bytes in fragments", Channel::DATA, 60_000, 5_000),
    ] {
        let mut pair = Pair::new(&config);
        pair.stream(channel, length, count / 10);
        let runs = (0..RUNS).map(|_| pair.stream(channel, length, count));
        let best = runs.min_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds)).expect("some");
        println!(
            "  {name:<36} {:>8.0} ns a message, {:>6.2} M/s, {:.1} messages a datagram",
            best.nanoseconds,
            1e3 / best.nanoseconds,
            best.per_datagram
        );
    }
}
