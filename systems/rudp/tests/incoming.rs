//! A server whose incoming peers want its memory or its places and not its service, and an honest peer among them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, Config, Endpoint, Event, Micros, PeerId,
    lab::{Link, Network},
};

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_micros(16_667);

fn home() -> SocketAddr {
    "10.0.0.1:7352".parse().unwrap()
}

/// The server of a test, and the time.
struct Scene {
    now: Micros,
    server: Endpoint,
    buf: Vec<u8>,
}

impl Scene {
    fn new(config: Config) -> Scene {
        let server = Endpoint::new(config, [1; 32]);
        Scene { now: Micros::from_millis(1_000), server, buf: Vec::with_capacity(1500) }
    }

    fn client(&mut self, seed: u32, config: &Config) -> (Endpoint, PeerId) {
        let mut bytes = [5; 32];
        bytes[..4].copy_from_slice(&seed.to_le_bytes());
        let mut client = Endpoint::new(config.clone(), bytes);
        let peer = client.connect(self.now, home(), None).unwrap();
        (client, peer)
    }

    /// Connects a peer, sends 400 messages of 1,100 bytes, and keeps the first of them back for ever: the server holds
    /// what it takes of the others. Returns whose they are.
    fn hoarder(&mut self, index: u32) -> PeerId {
        let from = SocketAddr::from(([10, 9, (index >> 8) as u8, index as u8], 9));
        let config = Config { queue_bytes_max: 1 << 20, window_bytes_max: 1 << 20, ..Config::default() };
        let (mut client, peer) = self.client(index, &config);
        let mut there = None;
        for round in 0..40 {
            // What is sent again leaves before what is new.
            let mut first = round >= 3;
            if round == 3 {
                (0..400).for_each(|_| client.send(peer, Channel::DATA, &[&[1; 1100]]).unwrap());
            }
            client.handle_timeout(self.now);
            while client.poll_transmit(self.now, &mut self.buf).is_some() {
                if self.buf.len() > 1000 && std::mem::take(&mut first) {
                    continue;
                }
                self.server.handle(self.now, from, &mut self.buf);
            }
            self.server.run_jobs(self.now);
            while let Some(event) = self.server.poll_event() {
                match event {
                    Event::Connected { peer, .. } => there = Some(peer),
                    other => panic!("{other:?}"),
                }
            }
            while self.server.poll_transmit(self.now, &mut self.buf).is_some() {
                client.handle(self.now, home(), &mut self.buf);
            }
            // Shorter than it takes to miss a lost packet.
            self.now += Duration::from_micros(20);
        }
        there.unwrap()
    }
}

/// Addresses that each begin as many handshakes as they may, and finish none.
struct Crowd {
    hello: Vec<u8>,
    port: u16,
}

impl Crowd {
    fn new(scene: &mut Scene) -> Crowd {
        let (mut client, _) = scene.client(1, &Config::default());
        let mut hello = Vec::new();
        client.poll_transmit(scene.now, &mut hello).unwrap();
        Crowd { hello, port: 1 }
    }

    /// Each of `addresses` tries once: Hello, cookie, Hello; the Accept is not read.
    fn try_all(&mut self, scene: &mut Scene, addresses: u8) {
        self.port += 1;
        for last in 0..addresses {
            let from = SocketAddr::from(([10, 66, 0, last], self.port));
            scene.server.handle(scene.now, from, &mut self.hello.clone());
            while let Some(to) = scene.server.poll_transmit(scene.now, &mut scene.buf) {
                if to == from && scene.buf[0] == 0x82 {
                    let mut again = self.hello.clone();
                    again[48] = 1;
                    again[49..81].copy_from_slice(&scene.buf[21..53]);
                    scene.server.handle(scene.now, from, &mut again);
                }
            }
        }
        scene.server.run_jobs(scene.now);
        while scene.server.poll_transmit(scene.now, &mut scene.buf).is_some() {}
    }
}

/// Eleven addresses are enough to fill the table: 16 handshakes each at once, then 27 a second. Once with a bound for
/// half-open connections, and once where they take the last places of all.
#[test]
fn a_table_that_is_held_full_lets_somebody_honest_in() {
    let some =
        Config { handshake_burst: 16, handshake_interval: MS * 400, half_open_max: 128, ..Config::server() };
    for config in [some.clone(), Config { half_open_max: 1024, peers_max: 128, ..some }] {
        let mut scene = Scene::new(config);
        let mut crowd = Crowd::new(&mut scene);
        for round in 0..400 {
            scene.now += MS * 10;
            scene.server.handle_timeout(scene.now);
            crowd.try_all(&mut scene, 11);
            let totals = scene.server.totals();
            assert!(totals.jobs - totals.displaced <= 128, "{totals:?}");
            assert!(round < 20 || totals.dropped + totals.refused > 0, "{totals:?}");
        }
        // Thirty clients, one after the other: each gets in with its first or second Hello.
        for seed in 100..130 {
            let (mut client, _) = scene.client(seed, &Config::default());
            let (me, start) = (SocketAddr::from(([10, 8, 0, seed as u8], 1)), scene.now);
            while scene.server.peer_count() < seed as usize - 99 {
                assert!(scene.now < start + MS * 500, "client {seed}: {:?}", scene.server.totals());
                scene.now += MS * 10;
                scene.server.handle_timeout(scene.now);
                crowd.try_all(&mut scene, 11);
                client.handle_timeout(scene.now);
                while client.poll_transmit(scene.now, &mut scene.buf).is_some() {
                    scene.server.handle(scene.now, me, &mut scene.buf);
                }
                scene.server.run_jobs(scene.now);
                while let Some(to) = scene.server.poll_transmit(scene.now, &mut scene.buf) {
                    if to == me {
                        client.handle(scene.now, home(), &mut scene.buf);
                    }
                }
            }
            assert!(matches!(client.poll_event(), Some(Event::Connected { .. })), "client {seed}");
        }
        assert_eq!(scene.server.peer_count(), 30);
        assert!(scene.server.totals().displaced >= 30);
    }
}

/// Younger ones stay: an honest client's first packet may be on its way.
#[test]
fn a_newcomer_displaces_nobody_whose_accept_left_within_a_second() {
    let mut scene = Scene::new(Config { half_open_max: 4, ..Config::server() });
    let mut crowd = Crowd::new(&mut scene);
    crowd.try_all(&mut scene, 4);
    // Repeating a Hello makes no connection younger.
    for (now, jobs, displaced) in [(500, 4, 0), (1_000, 4, 0), (1_001, 8, 4), (2_001, 8, 4), (2_002, 12, 8)] {
        scene.now = Micros::from_millis(1_000 + now);
        crowd.try_all(&mut scene, 4);
        let totals = scene.server.totals();
        assert_eq!((totals.jobs, totals.displaced), (jobs, displaced), "after {now} ms");
    }
}

/// How streams do over a path that loses 5 %.
#[derive(Default)]
struct Figures {
    /// Latencies of the ordered messages, the shortest first.
    latencies: Vec<Duration>,
    sent: usize,
    /// Unreliable messages in three fragments that arrived.
    long: usize,
}

impl Figures {
    fn at(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

/// Four ordered messages of 900 bytes sixty times a second for six seconds, and a long unreliable one with each of the
/// first sixty times.
fn stream(scene: &mut Scene, seed: u64, figures: &mut Figures) {
    let me: SocketAddr = "10.8.0.1:1".parse().unwrap();
    let mut net = Network::new(seed, Link::default());
    let (mut client, here) = scene.client(77_777, &Config::default());
    let (start, mut tick, mut there) = (scene.now, scene.now, None);
    let (mut sent_at, mut next, mut longs_sent) = (BTreeMap::new(), 0u64, 0);
    while scene.now < start + MS * 8_500 {
        let now = scene.now;
        let (server, buf) = (&mut scene.server, &mut scene.buf);
        let since = now - start;
        if since > MS * 500 {
            net.link.loss = 0.05;
        }
        while let Some(mut datagram) = net.deliver(now) {
            match datagram.to == home() {
                true => server.handle(now, me, &mut datagram.bytes),
                false => client.handle(now, home(), &mut datagram.bytes),
            }
        }
        server.run_jobs(now);
        server.handle_timeout(now);
        while let Some(event) = server.poll_event() {
            match event {
                Event::Connected { peer, addr, .. } if addr == me => there = Some(peer),
                Event::Message { peer, channel, bytes } if Some(peer) == there => {
                    if channel == Channel::DATA {
                        let number = u64::from_le_bytes(*bytes.first_chunk().unwrap());
                        figures.latencies.push(now - sent_at[&number]);
                    } else {
                        figures.long += 1;
                    }
                }
                _ => {}
            }
        }
        if since > MS * 500 && since < MS * 6_500 && tick <= now {
            tick = now + TICK;
            for _ in 0..4 {
                // Full queues are part of the test.
                if client.send(here, Channel::DATA, &[&next.to_le_bytes(), &[0; 892]]).is_ok() {
                    sent_at.insert(next, now);
                    next += 1;
                }
            }
            if longs_sent < 60 {
                longs_sent += 1;
                client.send(here, Channel::UNRELIABLE, &[&[1; 3000]]).unwrap();
            }
        }
        client.handle_timeout(now);
        while client.poll_event().is_some() {}
        while let Some(to) = client.poll_transmit(now, buf) {
            net.send(now, me, to, buf);
        }
        while let Some(to) = server.poll_transmit(now, buf) {
            if to == me {
                net.send(now, home(), to, buf);
            }
        }
        scene.now += MS;
    }
    figures.sent += next as usize;
    figures.latencies.sort();
}

/// Two hundred connections hold all that the server has for messages that wait, and never finish any.
#[test]
fn hoarders_do_not_starve_an_innocent_peer() {
    let total_max = 16 << 20;
    let config = Config { reassembly_bytes_total_max: total_max, ..Config::server() };
    let share = config.reassembly_bytes_share;
    let (mut alone, mut among) = (Figures::default(), Figures::default());
    for seed in 0..4 {
        stream(&mut Scene::new(config.clone()), seed, &mut alone);
        let mut scene = Scene::new(config.clone());
        let peers: Vec<_> = (0..200).map(|index| scene.hoarder(index)).collect();
        let holds = |peer: &PeerId| scene.server.stats(*peer).unwrap().reassembly_bytes;
        let held: Vec<_> = peers.iter().map(holds).collect();
        let total: usize = held.iter().sum();
        assert!(total > total_max && total <= total_max + 200 * share, "{total}");
        // The last to come still has a share.
        assert!(held.iter().all(|&bytes| bytes > share * 9 / 10), "{held:?}");
        stream(&mut scene, seed, &mut among);
    }
    for (name, figures) in [("alone", &alone), ("among two hundred hoarders", &among)] {
        let (p50, p99) = (figures.at(50), figures.at(99));
        println!("{name}: p50 {p50:?}, p99 {p99:?}, {} long ones", figures.long);
        assert_eq!(figures.latencies.len(), figures.sent, "{name}: all of them arrive");
    }
    // Its share is enough for what it needs.
    assert!(among.at(50) <= alone.at(50) + MS * 5 && among.at(99) <= alone.at(99) + MS * 25);
    assert!(among.sent == alone.sent && among.long * 20 >= alone.long * 19);
}
