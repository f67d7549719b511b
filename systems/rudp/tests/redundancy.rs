//! What repeats buy, and what they cost: small messages over lossy links, in virtual time from fixed seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

use std::{collections::BTreeMap, time::Duration};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, Config, Event, Micros, Repeats, Stats,
    lab::{Link, World},
};

const MS: Duration = Duration::from_millis(1);
/// Sixty a second.
const TICK: Duration = Duration::from_micros(16_667);
/// IP and UDP headers of a datagram.
const HEADERS: u64 = 28;

struct Figures {
    latencies: Vec<Duration>,
    wire_bytes: f64,
    stats: Stats,
}

impl Figures {
    fn at(&self, percent: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * percent / 100.0) as usize]
    }
}

fn with(change: impl FnOnce(&mut ChannelConfig)) -> Config {
    let mut config = Config::default();
    change(config.channels.get_mut(Channel::DATA).unwrap());
    config
}

/// `burst` messages of 64 bytes every `pause` on the ordered channel, for a minute and ten seeds: latency one way, and
/// bytes on the wire per message, both directions and headers counted. All of them arrive, once and in order.
fn stream(name: &str, link: &Link, config: &Config, pause: Duration, burst: u32) -> Figures {
    let mut latencies = Vec::new();
    let (mut wire_bytes, mut sent_count) = (0, 0u64);
    let mut stats = Stats::default();
    for seed in 0..10 {
        let mut world = World::new(seed, Link::default());
        let (client, server) = (world.add(config.clone()), world.add(Config::server()));
        let (here, _) = world.connected(client, server);
        world.run_for(MS * 500);
        world.link = link.clone();
        let before = world.traffic();
        let end = world.now() + MS * 60_000;
        let mut sent_at: BTreeMap<u64, Micros> = BTreeMap::new();
        let (mut next, mut expected, mut tick) = (0u64, 0u64, world.now());
        while world.now() < end + MS * 3_000 {
            if tick <= world.now() && world.now() < end {
                tick += pause;
                for _ in 0..burst {
                    let mut bytes = [0; 64];
                    bytes[..8].copy_from_slice(&next.to_le_bytes());
                    world.endpoint(client).send(here, Channel::DATA, &[&bytes]).unwrap();
                    sent_at.insert(next, world.now());
                    next += 1;
                }
            }
            world.run_for(MS);
            for event in world.take_events(server) {
                if let Event::Message { bytes, .. } = event {
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    assert_eq!(number, expected);
                    expected += 1;
                    latencies.push(world.now() - sent_at[&number]);
                }
            }
        }
        assert_eq!(expected, next);
        sent_count += next;
        let after = world.traffic();
        wire_bytes += after.sent_bytes - before.sent_bytes + HEADERS * (after.sent - before.sent);
        stats = world.endpoint(client).stats(here).unwrap();
        assert_eq!(stats.queued_bytes, 0);
    }
    latencies.sort();
    let figures = Figures { latencies, wire_bytes: wire_bytes as f64 / sent_count as f64, stats };
    let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|percent| figures.at(percent).as_millis());
    println!("{name}: p50 {p50} p95 {p95} p99 {p99} p99.9 {p999} ms, {:.1} B/msg", figures.wire_bytes);
    println!("    {:?}", figures.stats);
    figures
}

/// Five per cent, each datagram for itself.
fn iid() -> Link {
    Link { loss: 0.05, ..Link::default() }
}

#[test]
fn one_repeat_hides_five_percent_of_loss() {
    let config = with(|data| data.repeats = Repeats::Fixed(1));
    let figures = stream("A, one repeat", &iid(), &config, TICK, 1);
    assert!(figures.at(99.0) <= MS * 50);
    assert!(figures.wire_bytes <= 250.0);
    let config = with(|data| data.repeats = Repeats::Fixed(2));
    let figures = stream("A, two repeats", &iid(), &config, TICK, 1);
    assert!(figures.at(99.0) <= MS * 50);
}

#[test]
fn adaptive_channels_find_out_for_themselves() {
    let figures = stream("A, adaptive", &iid(), &Config::default(), TICK, 1);
    assert!(figures.at(99.0) <= MS * 60);
    assert!(figures.wire_bytes <= 250.0);
    let figures = stream("no loss, adaptive", &Link::default(), &Config::default(), TICK, 1);
    assert_eq!((figures.stats.repeated, figures.stats.retransmitted), (0, 0));
}

#[test]
fn spaced_repeats_and_a_tail_survive_bursts_of_loss() {
    let link = Link { burst: 0.017, burst_datagrams: 3, jitter: MS * 10, ..Link::default() };
    let config = with(|data| {
        (data.repeats, data.repeat_spacing) = (Repeats::Fixed(2), MS * 30);
        data.tail_repeat = Some(MS * 10);
    });
    let figures = stream("C, spaced", &link, &config, TICK, 1);
    assert!(figures.at(99.0) <= MS * 125);
}

#[test]
fn a_tail_repeat_saves_sparse_messages() {
    let config = with(|data| (data.repeats, data.tail_repeat) = (Repeats::Fixed(0), Some(MS * 10)));
    let figures = stream("D, tail", &iid(), &config, MS * 500, 1);
    assert!(figures.at(99.0) <= MS * 40);
    assert!(figures.wire_bytes <= 400.0);
}

#[test]
fn eight_messages_a_tick_and_their_repeats_share_datagrams() {
    let config = with(|data| data.repeats = Repeats::Fixed(1));
    let figures = stream("F, one repeat", &iid(), &config, TICK, 8);
    assert!(figures.at(99.0) <= MS * 50);
    assert!(figures.wire_bytes <= 160.0);
}

/// Both sides send 64 bytes sixty times a second: what one message costs in UDP payload, its share of acknowledgements
/// included.
#[test]
fn an_unreliable_message_costs_little_more_than_itself() {
    let mut world = World::new(1, Link::default());
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    world.run_for(MS * 500);
    let count = 20_000;
    let tick = |world: &mut World| {
        world.endpoint(client).send(here, Channel::UNRELIABLE, &[&[1; 64]]).unwrap();
        world.endpoint(server).send(there, Channel::UNRELIABLE, &[&[2; 64]]).unwrap();
        world.run_for(TICK);
    };
    let before = world.endpoint(client).stats(here).unwrap();
    (0..count).for_each(|_| tick(&mut world));
    let after = world.endpoint(client).stats(here).unwrap();
    let up = (after.bytes_out - before.bytes_out) as f64 / f64::from(count);
    let down = (after.bytes_in - before.bytes_in) as f64 / f64::from(count);
    println!("64 unreliable bytes: {up:.1} up, {down:.1} down");
    assert!(up <= 96.0 && down <= 92.0, "{up:.1} up, {down:.1} down");
}

/// Repeats never take more than their share, even where much is lost: half of the window in each round trip.
#[test]
fn repeats_keep_to_their_budget() {
    let config = with(|data| {
        (data.repeats, data.tail_repeat) = (Repeats::Fixed(3), Some(MS * 5));
    });
    let mut world = World::new(2, Link { loss: 0.3, ..Link::default() });
    let (client, server) = (world.add(config), world.add(Config::server()));
    let (here, _) = world.connected(client, server);
    let before = world.endpoint(client).stats(here).unwrap();
    let begin = world.now();
    let mut allowed = before.window_bytes as f64 / 2.0;
    while world.now() < begin + MS * 20_000 {
        for _ in 0..3 {
            let _ = world.endpoint(client).send(here, Channel::DATA, &[&[1; 150]]);
        }
        world.run_for(MS * 5);
        let stats = world.endpoint(client).stats(here).unwrap();
        allowed += stats.window_bytes as f64 / 2.0 * 0.005 / stats.rtt.as_secs_f64();
    }
    let stats = world.endpoint(client).stats(here).unwrap();
    println!("repeated {} of {allowed:.0} bytes that were allowed", stats.repeated_bytes);
    assert!(stats.repeated_bytes > 10_000);
    // The window and the round trip move between the samples.
    assert!((stats.repeated_bytes as f64) < allowed * 1.3);
}

/// A lifetime bounds how late an ordered message may be, and what comes after it goes on in order.
#[test]
fn messages_with_a_lifetime_make_way_for_newer_ones() {
    let late = Channel::new(12).unwrap();
    let config = |accept| {
        let mut config = Config { accept, ..Config::default() };
        let channel = ChannelConfig { lifetime: Some(MS * 60), ..ChannelConfig::new(ChannelKind::Ordered) };
        config.channels.set(late, channel);
        config
    };
    let mut world = World::new(3, Link::default());
    let (client, server) = (world.add(config(false)), world.add(config(true)));
    let (here, _) = world.connected(client, server);
    world.link.loss = 0.15;
    let mut latest = None;
    let (mut got, mut worst) = (0, Duration::ZERO);
    let mut sent_at = Vec::new();
    for number in 0..3_000u32 {
        let bytes = number.to_le_bytes();
        world.endpoint(client).send(here, late, &[&bytes, &vec![0; 40 * (number % 40) as usize]]).unwrap();
        sent_at.push(world.now());
        world.run_for(TICK);
        for event in world.take_events(server) {
            if let Event::Message { bytes, .. } = event {
                let number = u32::from_le_bytes(*bytes.first_chunk().unwrap());
                assert!(Some(number) > latest);
                assert_eq!(bytes.len(), 4 + 40 * (number % 40) as usize);
                latest = Some(number);
                got += 1;
                worst = worst.max(world.now() - sent_at[number as usize]);
            }
        }
    }
    world.link.loss = 0.0;
    world.run_for(MS * 3_000);
    got += world.take_events(server).len() as u64;
    let stats = world.endpoint(client).stats(here).unwrap();
    println!("{got} of 3000 arrived, {} expired, the latest after {worst:?}", stats.expired);
    // An expired message may have arrived: its acknowledgement was lost.
    assert!(got + stats.expired >= 3_000 && stats.expired > 100 && got > 2_000, "{stats:?}");
    assert_eq!((stats.queued_bytes, stats.in_flight_bytes), (0, 0));
    assert!(worst < MS * 600);
}
