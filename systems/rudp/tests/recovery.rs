//! How fast losses are repaired, at what cost on the wire: the scenarios of a game, in virtual time from fixed seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, Config, Endpoint, Event, Micros, Repeats, Stats,
    lab::{Link, World},
};

const MS: Duration = Duration::from_millis(1);

struct Figures {
    latencies: Vec<Duration>,
    wire_bytes: f64,
    packets: f64,
    stats: Stats,
}

impl Figures {
    fn at(&self, percent: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * percent / 100.0) as usize]
    }
}

/// No repeats: what recovery alone can do.
fn plain() -> Config {
    let mut config = Config::default();
    for channel in [Channel::CONTROL, Channel::DATA] {
        config.channels.get_mut(channel).unwrap().repeats = Repeats::Fixed(0);
    }
    config
}

/// 64-byte messages on one channel, `burst` of them every `pause`, for 60 s and ten seeds: latency one way, wire
/// bytes (both directions, IP and UDP headers) and packets per message.
fn stream(link: &Link, channel: Channel, pause: Duration, burst: u32) -> Figures {
    let mut latencies = Vec::new();
    let (mut wire_bytes, mut packets, mut sent_count) = (0, 0, 0u64);
    let mut stats = Stats::default();
    for seed in 0..10 {
        let mut world = World::new(seed, Link::default());
        let (client, server) = (world.add(plain()), world.add(Config::server()));
        let (here, _) = world.connected(client, server);
        world.run_for(MS * 500);
        world.link = link.clone();
        let before = world.traffic();
        let end = world.now() + MS * 60_000;
        let mut sent_at: BTreeMap<u64, Micros> = BTreeMap::new();
        let mut next = 0u64;
        let mut tick = world.now();
        while world.now() < end + MS * 3_000 {
            if tick <= world.now() && world.now() < end {
                tick += pause;
                for _ in 0..burst {
                    let mut bytes = [0; 64];
                    bytes[..8].copy_from_slice(&next.to_le_bytes());
                    world.endpoint(client).send(here, channel, &[&bytes]).unwrap();
                    sent_at.insert(next, world.now());
                    next += 1;
                }
            }
            world.run_for(MS);
            for event in world.take_events(server) {
                if let Event::Message { bytes, .. } = event {
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    latencies.push(world.now() - sent_at[&number]);
                }
            }
        }
        sent_count += next;
        let after = world.traffic();
        wire_bytes += after.wire_bytes() - before.wire_bytes();
        packets += after.sent - before.sent;
        stats = world.endpoint(client).stats(here).unwrap();
        if channel != Channel::UNRELIABLE {
            assert_eq!(latencies.len() as u64, sent_count);
        }
    }
    latencies.sort();
    let per_message = |count: u64| count as f64 / sent_count as f64;
    Figures { latencies, wire_bytes: per_message(wire_bytes), packets: per_message(packets), stats }
}

fn report(name: &str, figures: &Figures) {
    let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|percent| figures.at(percent).as_millis());
    println!(
        "{name}: p50 {p50} p95 {p95} p99 {p99} p99.9 {p999} ms, {:.0} B/msg, {:.2} packets/msg",
        figures.wire_bytes, figures.packets
    );
    println!("    {:?}", figures.stats);
}

#[test]
fn five_percent_loss_at_sixty_messages_a_second() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream(&link, Channel::DATA, Duration::from_micros(16_667), 1);
    report("A", &figures);
    assert!(figures.at(50.0) <= MS * 26);
    assert!(figures.at(99.0) <= MS * 100);
    assert!(figures.at(99.9) <= MS * 140);
}

#[test]
fn twenty_percent_loss_still_flows() {
    let link = Link { loss: 0.2, ..Link::default() };
    let figures = stream(&link, Channel::DATA, Duration::from_micros(16_667), 1);
    report("20 %", &figures);
    assert!(figures.at(99.0) <= MS * 400);
}

#[test]
fn bursts_and_jitter() {
    let link = Link { jitter: MS * 10, ..Link::default() }.bursts(0.05, 3);
    let figures = stream(&link, Channel::DATA, Duration::from_micros(16_667), 1);
    report("C", &figures);
    assert!(figures.at(99.0) <= MS * 170);
}

#[test]
fn sparse_messages_are_repeated_by_probes() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream(&link, Channel::DATA, MS * 500, 1);
    report("D", &figures);
    assert!(figures.at(99.0) <= MS * 130);
}

#[test]
fn a_clean_link_repeats_nothing() {
    let figures = stream(&Link::default(), Channel::DATA, Duration::from_micros(16_667), 1);
    report("E", &figures);
    assert_eq!((figures.stats.retransmitted, figures.stats.lost), (0, 0));
    assert!(figures.at(100.0) <= MS * 26);
    assert!(figures.wire_bytes <= 155.0);
    let figures = stream(&Link::default(), Channel::UNRELIABLE, Duration::from_micros(16_667), 1);
    report("E, unreliable", &figures);
    assert!(figures.wire_bytes <= 150.0);
}

#[test]
fn eight_messages_a_tick_share_datagrams() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream(&link, Channel::DATA, Duration::from_micros(16_667), 8);
    report("F", &figures);
    assert!(figures.wire_bytes <= 95.0);
}

/// An application that comes back after three seconds and finds all acknowledgements waiting; `timers_first`: it does
/// not take them in before it asks the timers and sends, as it is told to. Messages sent again.
fn after_a_pause(timers_first: bool) -> u64 {
    let (home, away) = (SocketAddr::from(([10, 0, 0, 1], 7352)), SocketAddr::from(([10, 0, 0, 2], 5000)));
    let (mut client, mut server) =
        (Endpoint::new(plain(), [2; 32]), Endpoint::new(Config::server(), [1; 32]));
    let mut now = Micros::from_millis(1_000);
    let peer = client.connect(now, home, None).unwrap();
    let mut buf = Vec::new();
    let mut acks = Vec::new();
    for step in 0..14 {
        now += MS * 20;
        if (4..12).contains(&step) {
            client.send(peer, Channel::DATA, &[&[step; 64]]).unwrap();
        }
        while client.poll_transmit(now, &mut buf).is_some() {
            server.handle(now, away, &mut buf);
        }
        server.run_jobs(now);
        server.handle_timeout(now);
        while server.poll_transmit(now, &mut buf).is_some() {
            match step {
                0..4 => client.handle(now, home, &mut buf),
                _ => acks.push(buf.clone()),
            }
        }
    }
    now += MS * 3_000;
    if timers_first {
        client.handle_timeout(now);
        while client.poll_transmit(now, &mut buf).is_some() {}
    }
    for ack in &mut acks {
        client.handle(now, home, ack);
    }
    client.handle_timeout(now);
    while client.poll_transmit(now, &mut buf).is_some() {}
    client.stats(peer).unwrap().retransmitted
}

#[test]
fn what_was_acknowledged_in_a_pause_is_not_sent_again() {
    assert_eq!(after_a_pause(false), 0);
    assert!(after_a_pause(true) > 0, "the timers were due");
}
