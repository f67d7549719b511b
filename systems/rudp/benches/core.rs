//! What the core costs without sockets: a handshake at the server, a packet in, a packet out, an idle peer.
//!
//! `cargo bench -p kaos-rudp --bench core [peers]`. Each figure is the best of several runs: others use this machine, too.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kaos_rudp::{Channel, Config, Endpoint, Event, Micros, PeerId, Suite};

const RUNS: usize = 12;

fn home() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7352))
}

fn away(index: usize) -> SocketAddr {
    let [_, _, high, low] = (index as u32).to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5000))
}

fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(v4) => {
            let [_, _, high, low] = v4.ip().octets();
            usize::from(u16::from_be_bytes([high, low]))
        }
        SocketAddr::V6(_) => unreachable!(),
    }
}

/// One server and its clients, all open.
struct Crowd {
    now: Micros,
    server: Endpoint,
    clients: Vec<(Endpoint, PeerId)>,
    peers: Vec<PeerId>,
    handshake: Duration,
}

impl Crowd {
    fn new(count: usize, config: &Config) -> Crowd {
        let now = Micros::from_millis(5_000);
        let mut server = Endpoint::new(Config { accept: true, ..config.clone() }, [1; 32]);
        let mut clients = Vec::new();
        let (mut buf, mut best) = (Vec::with_capacity(1500), Duration::MAX);
        for index in 0..count {
            let mut seed = [2; 32];
            seed[..8].copy_from_slice(&index.to_le_bytes());
            let mut client = Endpoint::new(config.clone(), seed);
            let peer = client.connect(now, home(), Some(server.public_key())).expect("possible");
            for step in 0..3 {
                while client.poll_transmit(now, &mut buf).is_some() {
                    let begin = Instant::now();
                    server.handle(now, away(index), &mut buf);
                    server.run_jobs(now);
                    if step == 1 {
                        best = best.min(begin.elapsed());
                    }
                }
                while server.poll_transmit(now, &mut buf).is_some() {
                    client.handle(now, home(), &mut buf);
                }
            }
            clients.push((client, peer));
        }
        let mut peers = Vec::new();
        while let Some(event) = server.poll_event() {
            if let Event::Connected { peer, .. } = event {
                peers.push(peer);
            }
        }
        assert_eq!(peers.len(), count);
        Crowd { now, server, clients, peers, handshake: best }
    }

    /// One tick: 64 bytes each way. Nanoseconds per packet in and out at the server.
    fn tick(&mut self) -> (f64, f64) {
        self.now += Duration::from_millis(16);
        let mut datagrams: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        for (index, (client, peer)) in self.clients.iter_mut().enumerate() {
            client.handle_timeout(self.now);
            client.send(*peer, Channel::UNRELIABLE, &[&[1; 64]]).expect("room");
            let mut buf = Vec::with_capacity(1500);
            while client.poll_transmit(self.now, &mut buf).is_some() {
                datagrams.push((away(index), std::mem::take(&mut buf)));
            }
        }
        let begin = Instant::now();
        for (from, datagram) in &mut datagrams {
            self.server.handle(self.now, *from, datagram);
        }
        while let Some(event) = self.server.poll_event() {
            if let Event::Message { bytes, .. } = event {
                self.server.recycle(bytes);
            }
        }
        let inward = begin.elapsed().as_nanos() as f64 / datagrams.len() as f64;
        self.server.handle_timeout(self.now);
        let mut out: Vec<(SocketAddr, Vec<u8>)> =
            vec![(home(), Vec::with_capacity(1500)); self.peers.len() * 2];
        let mut sent = 0;
        let begin = Instant::now();
        for &peer in &self.peers {
            self.server.send(peer, Channel::UNRELIABLE, &[&[2; 64]]).expect("room");
        }
        while let Some(slot) = out.get_mut(sent)
            && let Some(to) = self.server.poll_transmit(self.now, &mut slot.1)
        {
            slot.0 = to;
            sent += 1;
        }
        let outward = begin.elapsed().as_nanos() as f64 / sent.max(1) as f64;
        for (to, mut datagram) in out.drain(..sent) {
            let client = &mut self.clients[index_of(to)].0;
            client.handle(self.now, home(), &mut datagram);
            while client.poll_event().is_some() {}
        }
        (inward, outward)
    }
}

fn main() {
    let peers = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1000);
    println!("{peers} peers, 64 bytes a packet, without sockets; best of {RUNS} runs");
    for (name, suites) in
        [("AES-256-GCM", &[Suite::Aes256Gcm]), ("ChaCha20-Poly1305", &[Suite::ChaCha20Poly1305])]
    {
        let mut crowd = Crowd::new(peers, &Config { suites, ..Config::default() });
        let (mut inward, mut outward) = (f64::MAX, f64::MAX);
        for _ in 0..RUNS * 10 {
            let (one, other) = crowd.tick();
            (inward, outward) = (inward.min(one), outward.min(other));
        }
        println!("{name}");
        println!(
            "  handshake, from the Hello with a cookie to the finished Accept  {:>6.1} µs",
            crowd.handshake.as_nanos() as f64 / 1e3
        );
        println!("  packet in, with its event                                       {inward:>6.0} ns");
        println!("  packet out, with its send                                       {outward:>6.0} ns");
    }
}
