//! Channels of every kind side by side over bad networks, with deadlines and repeats; and what each promises.
//!
//! `RUDP_SEED=17 cargo test -p kaos-rudp --test channels` repeats one seed; `RUDP_SEEDS=5000` runs more of them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{collections::BTreeMap, time::Duration};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, CloseReason, Config, Event, PeerId, Repeats, SendError, SendOptions,
    UNRELIABLE_BYTES_MAX, Violation, code,
    lab::{Link, Node, Rng, World},
};

const MS: Duration = Duration::from_millis(1);
const KINDS: [ChannelKind; 4] =
    [ChannelKind::Unreliable, ChannelKind::Sequenced, ChannelKind::Unordered, ChannelKind::Ordered];

/// The byte at a place of a message, so that a wrong one is found wherever it is.
fn filler(number: u64, place: usize) -> u8 {
    (number.wrapping_mul(0x9e37_79b9) >> 8) as u8 ^ place as u8
}

fn message(number: u64, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length.max(8)).map(|place| filler(number, place)).collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// One direction of one channel: what was sent and has not arrived, and the newest message that has.
#[derive(Default)]
struct Stream {
    next: u64,
    /// By number: the length, and whether it must arrive.
    open: BTreeMap<u64, (usize, bool)>,
    newest: Option<u64>,
}

impl Stream {
    fn take(&mut self, kind: ChannelKind, bytes: &[u8]) {
        let number = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        let Some((length, _)) = self.open.remove(&number) else {
            panic!("{kind:?}: {number} was never sent, or came before; {} bytes", bytes.len())
        };
        assert_eq!(bytes.len(), length.max(8));
        assert!((8..bytes.len()).all(|place| bytes[place] == filler(number, place)));
        match kind {
            ChannelKind::Unreliable | ChannelKind::Unordered => {}
            ChannelKind::Sequenced => {
                assert!(self.newest < Some(number), "older than the newest");
            }
            ChannelKind::Ordered => {
                let owed = self.open.range(..number).find(|(_, (_, must))| *must);
                assert!(self.newest < Some(number) && owed.is_none(), "{owed:?} before {number}");
            }
        }
        self.newest = self.newest.max(Some(number));
    }

    fn is_complete(&self) -> bool {
        !self.open.values().any(|(_, must)| *must)
    }
}

/// One direction of all channels.
struct Side {
    node: Node,
    peer: PeerId,
    streams: BTreeMap<Channel, Stream>,
}

impl Side {
    fn send(&mut self, world: &mut World, rng: &mut Rng, config: &Config) {
        let number = rng.below(32) as u8;
        let Some((channel, known)) =
            Channel::new(number).and_then(|channel| Some((channel, config.channels.get(channel)?)))
        else {
            return;
        };
        let reliable = known.kind.is_reliable();
        let length = match rng.below(20) {
            0 if reliable => rng.below(30_000) as usize,
            0 => rng.below(UNRELIABLE_BYTES_MAX as u64 + 1) as usize,
            1..3 => rng.below(5_000) as usize,
            3 => [1119, 1120, 1121, 2240, 2241][rng.below(5) as usize],
            _ => rng.below(220) as usize,
        };
        let lifetime = rng.chance(0.2).then(|| MS * rng.below(200) as u32);
        let stream = self.streams.entry(channel).or_default();
        let bytes = message(stream.next, length);
        let options = SendOptions { lifetime };
        match world.endpoint(self.node).send_with(self.peer, channel, &[&bytes], options) {
            Ok(()) => {
                let must = reliable && lifetime.or(known.lifetime).is_none();
                stream.open.insert(stream.next, (length, must));
                stream.next += 1;
            }
            Err(SendError::WouldBlock) => assert!(reliable),
            Err(error) => panic!("{error}"),
        }
    }
}

fn some_channels(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    for number in 0..32 {
        let channel = Channel::new(number).unwrap();
        if rng.chance(0.3) {
            let mut some = ChannelConfig::new(KINDS[rng.below(4) as usize]);
            some.priority = rng.below(3) as u8;
            some.repeats =
                if rng.chance(0.5) { Repeats::Adaptive } else { Repeats::Fixed(rng.below(5) as u8) };
            some.repeat_spacing = if rng.chance(0.5) { Duration::ZERO } else { MS * rng.below(60) as u32 };
            some.tail_repeat = rng.chance(0.3).then(|| MS * rng.below(30) as u32);
            some.lifetime = rng.chance(0.1).then(|| MS * rng.below(300) as u32);
            config.channels.set(channel, some);
        }
    }
    if rng.chance(0.3) {
        config.reassembly_bytes_max = 40_000;
    }
    config.queue_bytes_max = 70_000;
    config
}

fn step(world: &mut World, config: &Config, sides: &mut [Side; 2]) {
    for here in 0..2 {
        for event in world.take_events(sides[here].node) {
            match event {
                Event::Message { channel, bytes, .. } => {
                    let kind = config.channels.get(channel).unwrap().kind;
                    sides[1 - here].streams.get_mut(&channel).unwrap().take(kind, &bytes);
                }
                Event::Writable { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let stats = world.endpoint(sides[here].node).stats(sides[here].peer).unwrap();
        let unreliable = 32 * config.unreliable_bytes_max;
        assert!(stats.queued_bytes <= config.queue_bytes_max + unreliable, "{stats:?}");
        // What each channel waits for comes on top.
        let heads = 32 * (30_000 + 30 * (64 + 32) + 64);
        assert!(stats.reassembly_bytes <= config.reassembly_bytes_max + heads, "{stats:?}");
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1a);
    let config = some_channels(&mut rng);
    let mut world = World::new(seed, Link::default());
    let (client, server) = (world.add(config.clone()), world.add(Config { accept: true, ..config.clone() }));
    let (here, there) = world.connected(client, server);
    world.link = Link {
        delay: MS * rng.below(80) as u32,
        jitter: MS * if rng.chance(0.5) { rng.below(30) as u32 } else { 0 },
        loss: if rng.chance(0.8) { rng.below(200) as f64 / 1000.0 } else { 0.0 },
        duplicate: if rng.chance(0.5) { 0.1 } else { 0.0 },
        reorder: if rng.chance(0.5) { 0.2 } else { 0.0 },
        ..Link::default()
    };
    let mut sides =
        [(client, here), (server, there)].map(|(node, peer)| Side { node, peer, streams: BTreeMap::new() });
    let busy_until = world.now() + MS * (500 + rng.below(2_500) as u32);
    let eagerness = 1 + rng.below(30);
    while world.now() < busy_until {
        world.run_for(Duration::from_micros(rng.below(40_000)));
        step(&mut world, &config, &mut sides);
        for side in &mut sides {
            for _ in 0..rng.below(eagerness) {
                side.send(&mut world, &mut rng, &config);
            }
        }
    }
    world.link.loss = world.link.loss.min(0.05);
    let patience = world.now() + MS * 60_000;
    while !sides.iter().all(|side| side.streams.values().all(Stream::is_complete)) {
        assert!(world.now() < patience, "not delivered");
        world.run_for(MS * 20);
        step(&mut world, &config, &mut sides);
    }
    world.link.loss = 0.0;
    world.run_for(MS * 5_000);
    step(&mut world, &config, &mut sides);
    for side in &sides {
        let stats = world.endpoint(side.node).stats(side.peer).unwrap();
        assert_eq!((stats.queued_bytes, stats.reassembly_bytes), (0, 0), "{stats:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_kind_keeps_its_promise_on_random_networks() {
    let seeds = match number("RUDP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUDP_SEEDS").unwrap_or(100),
    };
    for seed in seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("failed; to repeat: RUDP_SEED={seed} cargo test -p kaos-rudp --test channels");
        }
    }
}

/// A loss on one channel holds up only that channel.
#[test]
fn channels_do_not_wait_for_each_other() {
    let mut world = World::new(4, Link::default());
    let other = Channel::new(3).unwrap();
    let mut config = Config::default();
    config.channels.set(other, ChannelConfig::new(ChannelKind::Ordered));
    let (client, server) = (world.add(config.clone()), world.add(Config { accept: true, ..config }));
    let (here, _) = world.connected(client, server);
    world.link.loss = 1.0;
    world.endpoint(client).send(here, Channel::DATA, &[b"lost"]).unwrap();
    world.run_for(MS);
    world.link.loss = 0.0;
    world.endpoint(client).send(here, Channel::DATA, &[b"waits"]).unwrap();
    world.endpoint(client).send(here, other, &[b"does not"]).unwrap();
    world.run_for(MS * 30);
    let texts = |events: Vec<Event>| -> Vec<String> {
        let texts = events.into_iter().filter_map(|event| match event {
            Event::Message { bytes, .. } => Some(String::from_utf8(bytes).unwrap()),
            _ => None,
        });
        texts.collect()
    };
    assert_eq!(texts(world.take_events(server)), ["does not"]);
    world.run_for(MS * 500);
    assert_eq!(texts(world.take_events(server)), ["lost", "waits"]);
}

#[test]
fn ends_with_different_channels_do_not_connect() {
    let mut world = World::new(5, Link::default());
    let mut config = Config::default();
    config.channels.set(Channel::DATA, ChannelConfig::new(ChannelKind::Unordered));
    let (client, server) = (world.add(config), world.add(Config::server()));
    world.connect(client, server);
    world.run_for(MS * 500);
    let events = world.take_events(client);
    assert!(
        matches!(
            &events[..],
            [Event::Closed { reason: CloseReason::Refused { code: code::CHANNELS, .. }, .. }]
        ),
        "{events:?}"
    );
    assert_eq!(world.take_events(server), []);
}

#[test]
fn long_unreliable_messages_arrive_whole_or_not_at_all() {
    let mut world = World::new(6, Link { loss: 0.02, jitter: MS * 5, ..Link::default() });
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    let mut got = 0;
    for number in 0..200 {
        let bytes = message(number, UNRELIABLE_BYTES_MAX);
        world.endpoint(client).send(here, Channel::UNRELIABLE, &[&bytes]).unwrap();
        world.run_for(MS * 100);
        for event in world.take_events(server) {
            let Event::Message { bytes, .. } = event else { panic!() };
            let number = u64::from_le_bytes(*bytes.first_chunk().unwrap());
            assert_eq!(bytes, message(number, UNRELIABLE_BYTES_MAX));
            got += 1;
        }
    }
    // 0.98 to the power of 16 is 0.72.
    assert!((120..170).contains(&got), "{got}");
    world.run_for(MS * 2_000);
    let stats = world.endpoint(server).stats(there).unwrap();
    assert_eq!(stats.reassembly_bytes, 0);
    assert!(stats.stale + got <= 200 && stats.stale > 20, "{stats:?}");
    assert_eq!(
        world.endpoint(client).send(here, Channel::new(3).unwrap(), &[]),
        Err(SendError::NoSuchChannel(Channel::new(3).unwrap()))
    );
    assert_eq!(Violation::BadChannel(3).to_string(), "frame for channel 3, which cannot take it");
}
