//! Two endpoints on a bad network, used at random, and an oracle: every kind of channel keeps its promise, bounds hold,
//! and both sides agree on the end.
//!
//! `RUDP_SEED=17 cargo test -p kaos-rudp --test pair` repeats one seed; `RUDP_SEEDS=5000` runs more of them, on
//! `RUDP_THREADS` threads. `--release` makes it ten times faster.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, CloseReason, Config, Congestion, Event, Micros, PeerId, Repeats,
    SendError, SendOptions,
    lab::{Link, Node, Rng, World},
};

/// Channels of a run, by number.
const CHANNELS: usize = 7;

/// What one side sent on a channel and the other has not received.
enum Expected {
    /// All of these messages, one after the other.
    InOrder(VecDeque<Vec<u8>>),
    /// By the number in the first eight bytes.
    Numbered {
        sent: u64,
        /// The number after the largest that arrived, for channels on which no message comes after a newer one.
        newest: Option<u64>,
        missing: BTreeMap<u64, Vec<u8>>,
        is_reliable: bool,
    },
}

impl Expected {
    fn of(config: &ChannelConfig) -> Expected {
        let in_order = matches!(config.kind, ChannelKind::Ordered | ChannelKind::Sequenced);
        match config {
            ChannelConfig { kind: ChannelKind::Ordered, lifetime: None, .. } => {
                Expected::InOrder(VecDeque::new())
            }
            ChannelConfig { kind, lifetime, .. } => Expected::Numbered {
                sent: 0,
                newest: in_order.then_some(0),
                missing: BTreeMap::new(),
                is_reliable: kind.is_reliable() && lifetime.is_none(),
            },
        }
    }

    /// Before it is sent: gives the message its number.
    fn number(&self, bytes: &mut Vec<u8>) {
        if let Expected::Numbered { sent, .. } = self {
            bytes.resize(bytes.len().max(8), 0);
            bytes[..8].copy_from_slice(&sent.to_le_bytes());
        }
    }

    fn was_sent(&mut self, bytes: Vec<u8>) {
        match self {
            Expected::InOrder(queue) => queue.push_back(bytes),
            Expected::Numbered { sent, missing, .. } => {
                missing.insert(*sent, bytes);
                *sent += 1;
            }
        }
    }

    fn arrived(&mut self, channel: Channel, bytes: &[u8]) {
        match self {
            Expected::InOrder(queue) => {
                let expected = queue.pop_front().expect("a message never sent");
                assert!(bytes == expected, "{channel:?}: {} bytes, expected {}", bytes.len(), expected.len());
            }
            Expected::Numbered { sent, newest, missing, .. } => {
                let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let expected = missing.remove(&number);
                let expected = expected
                    .unwrap_or_else(|| panic!("{channel:?}: {number} of {sent} never sent, or doubled"));
                assert!(bytes == expected, "{channel:?}: message {number} was changed");
                if let Some(newest) = newest {
                    assert!(number >= *newest, "{channel:?}: {number} after {newest}");
                    *newest = number + 1;
                }
            }
        }
    }

    fn is_delivered(&self) -> bool {
        match self {
            Expected::InOrder(queue) => queue.is_empty(),
            Expected::Numbered { missing, is_reliable, .. } => !is_reliable || missing.is_empty(),
        }
    }
}

/// One side's view.
struct Side {
    node: Node,
    peer: PeerId,
    expected: [Expected; CHANNELS],
    is_blocked: bool,
    /// The last address that the other side proved.
    other_at: SocketAddr,
}

impl Side {
    fn new(node: Node, peer: PeerId, config: &Config, other_at: SocketAddr) -> Side {
        let expected = std::array::from_fn(|number| {
            Expected::of(config.channels.get(Channel::new(number as u8).unwrap()).unwrap())
        });
        Side { node, peer, expected, is_blocked: false, other_at }
    }

    fn send_something(&mut self, world: &mut World, rng: &mut Rng) {
        let number = rng.below(CHANNELS as u64) as usize;
        self.send(world, rng, number);
    }

    fn send(&mut self, world: &mut World, rng: &mut Rng, number: usize) {
        let is_reliable = !matches!(number, 2 | 4);
        let length = match rng.below(20) {
            0 if is_reliable => rng.below(65_539),
            0 => rng.below(16_000),
            1..4 => rng.below(5_000),
            4..6 => [0, 1, 1119, 1120, 1121, 2240, 2241][rng.below(7) as usize],
            _ => rng.below(200),
        };
        let mut bytes = vec![0; length as usize];
        rng.fill(&mut bytes);
        self.expected[number].number(&mut bytes);
        let (head, tail) = bytes.split_at(rng.below(bytes.len() as u64 + 1) as usize);
        let channel = Channel::new(number as u8).unwrap();
        // Now and then a message has a deadline of its own, where the oracle allows for it.
        let lifetime =
            (number > 3 && number < 6 && rng.chance(0.2)).then(|| Duration::from_millis(rng.below(80)));
        let options = SendOptions { lifetime };
        match world.endpoint(self.node).send_with(self.peer, channel, &[head, tail], options) {
            Ok(()) => self.expected[number].was_sent(bytes),
            Err(SendError::WouldBlock) if is_reliable => self.is_blocked = true,
            Err(error) => panic!("{error}"),
        }
    }

    fn is_delivered(&self) -> bool {
        self.expected.iter().all(Expected::is_delivered)
    }
}

/// Takes what `here` received from `there`. Returns the reason if the connection ended.
fn check(world: &mut World, here: &mut Side, there: &mut Side) -> Option<CloseReason> {
    let mut ended = None;
    for event in world.take_events(here.node) {
        assert!(ended.is_none(), "{event:?} after the end");
        match event {
            Event::Message { peer, channel, bytes } => {
                assert_eq!(peer, here.peer);
                there.expected[usize::from(channel.number())].arrived(channel, &bytes);
                world.endpoint(here.node).recycle(bytes);
            }
            Event::Writable { .. } => {
                assert!(here.is_blocked, "nothing was blocked");
                here.is_blocked = false;
            }
            // This was so when the address was proved. The other side may have moved on since.
            Event::Moved { addr, .. } => here.other_at = addr,
            Event::Closed { reason, .. } => ended = Some(reason),
            Event::Connected { .. } => panic!("connected twice"),
        }
    }
    ended
}

fn bounds(world: &mut World, config: &Config, side: &Side) {
    let Some(stats) = world.endpoint(side.node).stats(side.peer) else { return };
    assert!(stats.queued_bytes <= config.queue_bytes_max + 2 * config.unreliable_bytes_max, "{stats:?}");
    // On each ordered channel the message that it waits for may go beyond the bound.
    let heads = 3 * (config.message_bytes_max + (64 + 32) * 60);
    assert!(stats.reassembly_bytes <= config.reassembly_bytes_max + heads, "{stats:?}");
    assert!(stats.in_flight_bytes <= config.window_bytes_max + 3 * 1500, "{stats:?}");
}

fn random_link(rng: &mut Rng) -> Link {
    let some = |rng: &mut Rng, p: f64, max: f64| {
        if rng.chance(p) { rng.below(1000) as f64 / 1000.0 * max } else { 0.0 }
    };
    Link {
        delay: Duration::from_millis(rng.below(100)),
        jitter: Duration::from_millis(if rng.chance(0.5) { rng.below(30) } else { 0 }),
        loss: some(rng, 0.8, 0.2),
        burst: some(rng, 0.3, 0.02),
        burst_datagrams: 1 + rng.below(6) as u32,
        duplicate: some(rng, 0.5, 0.1),
        reorder: some(rng, 0.5, 0.2),
        corrupt: some(rng, 0.5, 0.05),
        truncate: some(rng, 0.2, 0.02),
        bytes_per_second: if rng.chance(0.3) { 50_000 + rng.below(1_000_000) } else { 0 },
        // Now and then the path silently carries no more than any path does.
        bytes_max: if rng.chance(0.2) { 1200 + rng.below(300) as usize } else { 65_507 },
        ..Link::default()
    }
}

fn random_config(rng: &mut Rng) -> Config {
    let mut config =
        Config { queue_bytes_max: [66_000, 256 * 1024][rng.below(2) as usize], ..Config::default() };
    config.key_packets = [1 << 23, 5, 100][rng.below(3) as usize];
    config.aes_hardware = rng.chance(0.75);
    config.congestion = if rng.chance(0.3) { Congestion::Cubic } else { Congestion::Delay };
    if rng.chance(0.3) {
        // Smaller than what the other side may have under way.
        config.reassembly_bytes_max = 30_000;
    }
    let ms = |rng: &mut Rng, most| Duration::from_millis(rng.below(most));
    let mut set = |number, kind, more: &dyn Fn(&mut ChannelConfig)| {
        let mut channel = ChannelConfig::new(kind);
        more(&mut channel);
        config.channels.set(Channel::new(number).unwrap(), channel);
    };
    let (repeats, priority) = (Repeats::Fixed(rng.below(4) as u8), rng.below(3) as u8);
    let (spacing, tail) = (ms(rng, 50), rng.chance(0.5).then(|| ms(rng, 40)));
    set(1, ChannelKind::Ordered, &|channel| {
        (channel.repeats, channel.priority) = (repeats, priority);
        (channel.repeat_spacing, channel.tail_repeat) = (spacing, tail);
    });
    set(3, ChannelKind::Unordered, &|_| {});
    set(4, ChannelKind::Unreliable, &|_| {});
    let lifetime = ms(rng, 300);
    set(5, ChannelKind::Ordered, &|channel| channel.lifetime = Some(lifetime));
    set(6, ChannelKind::Unordered, &|channel| {
        (channel.repeats, channel.priority) = (Repeats::Fixed(3), 0);
        (channel.repeat_spacing, channel.tail_repeat) =
            (Duration::from_millis(30), Some(Duration::from_millis(10)));
    });
    config
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let link = random_link(&mut rng);
    let clean = Link {
        delay: link.delay,
        bytes_per_second: link.bytes_per_second,
        bytes_max: link.bytes_max,
        ..Link::default()
    };
    let config = random_config(&mut rng);
    let mut world = World::new(seed, Link { loss: link.loss.min(0.1), ..clean.clone() });
    let client = world.add(config.clone());
    let server = world.add(Config { accept: true, ..config.clone() });
    let (here, there) = world.connected(client, server);
    world.link = link;
    let (at_client, at_server) = (world.addr(client), world.addr(server));
    let mut sides =
        [Side::new(client, here, &config, at_server), Side::new(server, there, &config, at_client)];
    let busy_until = world.now() + Duration::from_millis(500 + rng.below(4_000));
    let eagerness = 1 + rng.below(6);
    // Up to three times the client's router gives it another port, or it gets another address.
    let mut moves = if rng.chance(0.3) { 1 + rng.below(3) as u16 } else { 0 };
    while world.now() < busy_until {
        let pause = Duration::from_micros(rng.below(40_000));
        world.run_for(pause);
        step(&mut world, &config, &mut sides);
        for side in &mut sides {
            for _ in 0..rng.below(eagerness) {
                side.send_something(&mut world, &mut rng);
            }
        }
        if moves > 0 && rng.chance(0.02) {
            moves -= 1;
            let host = if rng.chance(0.5) { world.addr(client).ip() } else { [10, 9, 0, moves as u8].into() };
            world.rebind(client, SocketAddr::new(host, 20_000 + moves));
        }
    }
    let loss = world.link.loss.min(0.1);
    world.link = Link { loss, ..clean };
    let patience = world.now() + Duration::from_secs(60);
    let is_busy = |world: &mut World, sides: &[Side; 2]| {
        sides[1].other_at != world.addr(client)
            || !sides.iter().all(Side::is_delivered)
            || stats(world, sides).iter().any(|stats| stats.queued_bytes > 0)
    };
    while is_busy(&mut world, &sides) {
        assert!(world.now() < patience, "not delivered: {:?}", stats(&mut world, &sides));
        // A client that stays silent behind a new address could not be told of the end.
        if sides[1].other_at != world.addr(client) {
            sides[0].send(&mut world, &mut rng, 1);
        }
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
    let mut flushed = rng.chance(0.5);
    if flushed {
        world.link.loss = 0.0;
        for _ in 0..5 {
            closer.send_something(world, rng);
        }
        // On a bad path the flush may take longer than the two seconds that it is given.
        let queued = world.endpoint(closer.node).stats(closer.peer).unwrap().queued_bytes;
        flushed = queued < 10_000 && world.link.bytes_per_second == 0;
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
    assert!(!flushed || closer.is_delivered());
    for node in [closer.node, other.node] {
        assert_eq!(world.endpoint(node).peer_count(), 0);
        assert_eq!(world.endpoint(node).poll_timeout(), None, "something stays");
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
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if std::panic::catch_unwind(|| run(seed)).is_err() {
                next.store(seeds.end, Ordering::Relaxed);
                panic!("failed; to repeat: RUDP_SEED={seed} cargo test -p kaos-rudp --test pair");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..number("RUDP_THREADS").unwrap_or(1) {
            scope.spawn(work);
        }
    });
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
