//! What the core costs without sockets: a handshake at the server, a packet in, a packet out, an idle peer.
//!
//! `cargo bench -p kaos-rudp --bench core [peers]`. Time is the CPU time of this thread, since others use the machine
//! as well; each figure is the least and the median of all ticks.
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{Channel, Config, Endpoint, Event, Micros, PeerId, Suite};
use rustix::time::{ClockId, clock_gettime};

/// Ticks that are measured, and those before that warm up.
const TICKS: usize = 240;
const WARM: usize = 60;

/// CPU time of this thread, in nanoseconds.
fn computed() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The least and the median.
fn figures(mut all: Vec<f64>) -> (f64, f64) {
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

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

/// One server and its clients, all connected.
struct Crowd {
    now: Micros,
    server: Endpoint,
    clients: Vec<(Endpoint, PeerId)>,
    peers: Vec<PeerId>,
    /// Nanoseconds of each.
    handshakes: Vec<f64>,
    /// Datagrams with the addresses of their other ends, in buffers like those that sockets are read into.
    wire: Vec<(SocketAddr, Vec<u8>)>,
}

impl Crowd {
    fn new(count: usize, config: &Config) -> Crowd {
        let now = Micros::from_millis(5_000);
        let mut server = Endpoint::new(Config { accept: true, ..config.clone() }, [1; 32]);
        let mut clients = Vec::new();
        let (mut buf, mut handshakes) = (Vec::with_capacity(1500), Vec::new());
        for index in 0..count {
            let mut seed = [2; 32];
            seed[..8].copy_from_slice(&index.to_le_bytes());
            let mut client = Endpoint::new(config.clone(), seed);
            let peer = client.connect(now, home(), Some(server.public_key())).expect("possible");
            for step in 0..3 {
                while client.poll_transmit(now, &mut buf).is_some() {
                    let begin = computed();
                    server.handle(now, away(index), &mut buf);
                    server.run_jobs(now);
                    if step == 1 {
                        handshakes.push(computed() - begin);
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
        let wire = (0..count * 2).map(|_| (home(), Vec::with_capacity(1500))).collect();
        Crowd { now, server, clients, peers, handshakes, wire }
    }

    /// One tick: 64 bytes each way. Nanoseconds per packet in and out at the server.
    fn tick(&mut self) -> (f64, f64) {
        self.now += Duration::from_millis(16);
        let mut count = 0;
        for (index, (client, peer)) in self.clients.iter_mut().enumerate() {
            client.handle_timeout(self.now);
            client.send(*peer, Channel::UNRELIABLE, &[&[1; 64]]).expect("room");
            while client.poll_transmit(self.now, &mut self.wire[count].1).is_some() {
                self.wire[count].0 = away(index);
                count += 1;
            }
        }
        let begin = computed();
        for (from, datagram) in &mut self.wire[..count] {
            self.server.handle(self.now, *from, datagram);
        }
        while let Some(event) = self.server.poll_event() {
            if let Event::Message { bytes, .. } = event {
                self.server.recycle(bytes);
            }
        }
        let inward = (computed() - begin) / count as f64;
        self.server.handle_timeout(self.now);
        let mut sent = 0;
        let begin = computed();
        for &peer in &self.peers {
            self.server.send(peer, Channel::UNRELIABLE, &[&[2; 64]]).expect("room");
        }
        while let Some(slot) = self.wire.get_mut(sent)
            && let Some(to) = self.server.poll_transmit(self.now, &mut slot.1)
        {
            slot.0 = to;
            sent += 1;
        }
        let outward = (computed() - begin) / sent.max(1) as f64;
        for (to, datagram) in &mut self.wire[..sent] {
            let client = &mut self.clients[index_of(*to)].0;
            client.handle(self.now, home(), datagram);
            while client.poll_event().is_some() {}
        }
        (inward, outward)
    }
}

fn main() {
    let peers = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1000);
    println!(
        "{peers} peers, 64 bytes a packet, without sockets; least and median of {TICKS} ticks, CPU time"
    );
    for (name, suites) in
        [("AES-256-GCM", &[Suite::Aes256Gcm]), ("ChaCha20-Poly1305", &[Suite::ChaCha20Poly1305])]
    {
        let mut crowd = Crowd::new(peers, &Config { suites, ..Config::default() });
        for _ in 0..WARM {
            crowd.tick();
        }
        let (inward, outward): (Vec<_>, Vec<_>) = (0..TICKS).map(|_| crowd.tick()).unzip();
        let handshakes = crowd.handshakes.iter().map(|time| time / 1e3).collect();
        println!("{name}");
        for (what, unit, all) in [
            ("handshake, from the Hello with a cookie to the finished Accept", "µs", handshakes),
            ("packet in, with its event", "ns", inward),
            ("packet out, with its send", "ns", outward),
        ] {
            let (least, median) = figures(all);
            println!("  {what:<62} {least:>6.0} {median:>6.0} {unit}");
        }
    }
}
