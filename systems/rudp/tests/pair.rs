//! Two endpoints, a bad network, random use; and the oracle: each reliable message once and in order, bounds hold.
//!
//! `RUDP_SEED=17 cargo test -p kaos-rudp --test pair` repeats one seed; `RUDP_SEEDS=5000` runs more of them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{collections::VecDeque, time::Duration};

use kaos_rudp::{
    Channel, CloseReason, Config, Event, Micros, PeerId, SendError,
    lab::{Link, Node, Rng, World},
};

/// One side's view: what it sent and the other side has not got yet.
struct Side {
    node: Node,
    peer: PeerId,
    expected: [VecDeque<Vec<u8>>; 2],
    /// The last unreliable number sent, and the last that the other side got.
    sent: u64,
    got: Option<u64>,
    is_blocked: bool,
    delivered: usize,
}

impl Side {
    fn new(node: Node, peer: PeerId) -> Side {
        let expected = [VecDeque::new(), VecDeque::new()];
        Side { node, peer, expected, sent: 0, got: None, is_blocked: false, delivered: 0 }
    }

    fn send_something(&mut self, world: &mut World, rng: &mut Rng) {
        let endpoint = world.endpoint(self.node);
        if rng.chance(0.4) {
            self.sent += 1;
            let padding = vec![0; rng.below(1100) as usize];
            endpoint.send(self.peer, Channel::UNRELIABLE, &[&self.sent.to_le_bytes(), &padding]).unwrap();
            return;
        }
        let channel = if rng.chance(0.3) { Channel::CONTROL } else { Channel::DATA };
        let length = match rng.below(20) {
            0 => rng.below(65_539),
            1..4 => rng.below(5_000),
            4..6 => [0, 1, 1119, 1120, 1121, 2240, 2241][rng.below(7) as usize],
            _ => rng.below(200),
        };
        let mut bytes = vec![0; length as usize];
        rng.fill(&mut bytes);
        let (head, tail) = bytes.split_at(rng.below(length + 1) as usize);
        match endpoint.send(self.peer, channel, &[head, tail]) {
            Ok(()) => self.expected[usize::from(channel.number())].push_back(bytes),
            Err(SendError::WouldBlock) => self.is_blocked = true,
            Err(error) => panic!("{error}"),
        }
    }

    fn is_delivered(&self) -> bool {
        self.expected.iter().all(VecDeque::is_empty)
    }
}

/// What `here` got, which `there` sent. Returns the reason if the connection ended.
fn check(world: &mut World, here: &mut Side, there: &mut Side) -> Option<CloseReason> {
    for event in world.take_events(here.node) {
        match event {
            Event::Message { peer, channel: Channel::UNRELIABLE, bytes } => {
                assert_eq!(peer, here.peer);
                let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert!(
                    number <= there.sent && there.got < Some(number),
                    "unreliable: {:?}, {number}",
                    there.got
                );
                there.got = Some(number);
            }
            Event::Message { channel, bytes, .. } => {
                let expected =
                    there.expected[usize::from(channel.number())].pop_front().expect("a message never sent");
                assert!(bytes == expected, "{channel:?}: {} bytes, expected {}", bytes.len(), expected.len());
                there.delivered += 1;
            }
            Event::Writable { .. } => {
                assert!(here.is_blocked, "nothing was blocked");
                here.is_blocked = false;
            }
            Event::Closed { reason, .. } => return Some(reason),
            Event::Connected { .. } | Event::Moved { .. } => panic!("{event:?}"),
        }
    }
    None
}

fn bounds(world: &mut World, config: &Config, side: &Side) {
    let Some(stats) = world.endpoint(side.node).stats(side.peer) else { return };
    assert!(stats.queued_bytes <= config.queue_bytes_max + config.unreliable_bytes_max, "{stats:?}");
    let heads = 2 * (config.message_bytes_max + (64 + 32) * 60);
    assert!(stats.reassembly_bytes <= config.reassembly_bytes_max + heads, "{stats:?}");
    assert!(stats.in_flight_bytes <= config.window_bytes_max + 3 * 1500, "{stats:?}");
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let some = |rng: &mut Rng, p: f64, max: f64| {
        if rng.chance(p) { rng.below(1000) as f64 / 1000.0 * max } else { 0.0 }
    };
    let link = Link {
        delay: Duration::from_millis(rng.below(100)),
        jitter: Duration::from_millis(if rng.chance(0.5) { rng.below(30) } else { 0 }),
        loss: some(&mut rng, 0.8, 0.2),
        burst: some(&mut rng, 0.3, 0.02),
        burst_datagrams: 1 + rng.below(6) as u32,
        duplicate: some(&mut rng, 0.5, 0.1),
        reorder: some(&mut rng, 0.5, 0.2),
        corrupt: some(&mut rng, 0.5, 0.05),
        truncate: some(&mut rng, 0.2, 0.02),
        bytes_per_second: if rng.chance(0.3) { 50_000 + rng.below(1_000_000) } else { 0 },
        ..Link::default()
    };
    let clean = Link { delay: link.delay, bytes_per_second: link.bytes_per_second, ..Link::default() };
    let mut config =
        Config { queue_bytes_max: [66_000, 256 * 1024][rng.below(2) as usize], ..Config::default() };
    config.key_packets = [1 << 23, 5, 100][seed as usize % 3];
    config.aes_hardware = !seed.is_multiple_of(4);
    if rng.chance(0.3) {
        // Smaller than what the other side may have under way.
        config.reassembly_bytes_max = 30_000;
    }
    let mut world = World::new(seed, Link { loss: link.loss.min(0.1), ..clean.clone() });
    let client = world.add(config.clone());
    let server = world.add(Config { accept: true, ..config.clone() });
    let (here, there) = world.connected(client, server);
    world.link = link;
    let mut sides = [Side::new(client, here), Side::new(server, there)];
    let busy_until = world.now() + Duration::from_millis(500 + rng.below(4_000));
    let eagerness = 1 + rng.below(6);
    while world.now() < busy_until {
        let pause = Duration::from_micros(rng.below(40_000));
        world.run_for(pause);
        step(&mut world, &config, &mut sides);
        for side in &mut sides {
            for _ in 0..rng.below(eagerness) {
                side.send_something(&mut world, &mut rng);
            }
        }
    }
    world.link = Link { loss: world.link.loss.min(0.1), ..clean };
    let patience = world.now() + Duration::from_secs(60);
    while !sides.iter().all(Side::is_delivered) {
        assert!(world.now() < patience, "not delivered: {:?}", stats(&mut world, &sides));
        world.run_for(Duration::from_millis(20));
        step(&mut world, &config, &mut sides);
    }
    world.run_for(Duration::from_secs(3));
    step(&mut world, &config, &mut sides);
    let left = stats(&mut world, &sides);
    assert!(left.iter().all(|stats| stats.queued_bytes == 0 && stats.reassembly_bytes == 0), "{left:?}");
    assert!(sides.iter().all(|side| !side.is_blocked), "Writable is owed");
    end(&mut world, &mut rng, &mut sides);
}

fn step(world: &mut World, config: &Config, [client, server]: &mut [Side; 2]) {
    assert_eq!(check(world, client, server), None);
    assert_eq!(check(world, server, client), None);
    bounds(world, config, client);
    bounds(world, config, server);
}

fn stats(world: &mut World, sides: &[Side; 2]) -> Vec<kaos_rudp::Stats> {
    sides.iter().filter_map(|side| world.endpoint(side.node).stats(side.peer)).collect()
}

/// Either side closes; the other agrees.
fn end(world: &mut World, rng: &mut Rng, sides: &mut [Side; 2]) {
    if rng.chance(0.5) {
        sides.swap(0, 1);
    }
    let [closer, other] = sides;
    let now = world.now();
    let flushed = rng.chance(0.5);
    if flushed {
        world.link.loss = 0.0;
        for _ in 0..5 {
            closer.send_something(world, rng);
        }
        world.endpoint(closer.node).close_after_flush(now, closer.peer, 9, "over");
    } else {
        world.endpoint(closer.node).close(now, closer.peer, 9, "over");
    }
    world.run_for(Duration::from_secs(15));
    let reason = CloseReason::Remote { code: 9, reason: "over".into() };
    let closed = check(world, other, closer);
    let lossy = world.link.loss > 0.0 && closed == Some(CloseReason::TimedOut);
    assert!(lossy || closed == Some(reason), "{closed:?}");
    assert_eq!(check(world, closer, other), Some(CloseReason::Local));
    assert!(!flushed || world.link.bytes_per_second > 0 || closer.is_delivered());
    for node in [closer.node, other.node] {
        assert_eq!(world.endpoint(node).peer_count(), 0);
        assert_eq!(world.endpoint(node).poll_timeout(), None, "something lingers");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn random_seeds() {
    let seeds = match number("RUDP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUDP_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("failed; to repeat: RUDP_SEED={seed} cargo test -p kaos-rudp --test pair");
        }
    }
}

/// The same seed gives the same datagrams, byte for byte.
#[test]
fn a_run_repeats_exactly() {
    let record = || {
        let mut world = World::new(5, Link { loss: 0.1, reorder: 0.1, ..Link::default() });
        world.record();
        let (client, server) = world.pair();
        let (here, there) = world.connected(client, server);
        for byte in 0..50 {
            world.endpoint(client).send(here, Channel::DATA, &[&[byte; 300]]).unwrap();
            world.endpoint(server).send(there, Channel::CONTROL, &[&[byte; 300]]).unwrap();
            world.run_for(Duration::from_millis(7));
        }
        world.run_until(Micros::from_millis(30_000));
        world.take_recorded()
    };
    let (first, second) = (record(), record());
    assert!(first.len() > 100);
    assert_eq!(first, second);
}
