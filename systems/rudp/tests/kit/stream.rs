//! A stream of small messages over a bad link, in virtual time from fixed seeds: how late they are, and what they cost.

use std::{collections::BTreeMap, time::Duration};

use kaos_rudp::{
    Channel, Config, Event, Micros, Stats,
    lab::{Link, World},
};

const MS: Duration = Duration::from_millis(1);
/// Sixty a second.
pub(crate) const TICK: Duration = Duration::from_micros(16_667);

pub(crate) struct Figures {
    /// One-way latencies of all messages, the shortest first.
    latencies: Vec<Duration>,
    /// A message's share of all bytes in both directions, IP and UDP headers included.
    pub(crate) wire_bytes: f64,
    /// The counters of the last seed's client.
    pub(crate) stats: Stats,
}

impl Figures {
    pub(crate) fn at(&self, percent: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * percent / 100.0) as usize]
    }
}

/// `burst` messages of 64 bytes every `pause`, for a minute with each of ten seeds. On a reliable channel all of them
/// must arrive once and in order. Prints its figures.
pub(crate) fn stream(
    name: &str,
    link: &Link,
    config: &Config,
    channel: Channel,
    pause: Duration,
    burst: u32,
) -> Figures {
    let mut latencies = Vec::new();
    let (mut wire_bytes, mut packets, mut sent_count) = (0, 0, 0u64);
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
                    world.endpoint(client).send(here, channel, &[&bytes]).unwrap();
                    sent_at.insert(next, world.now());
                    next += 1;
                }
            }
            world.run_for(MS);
            for event in world.take_events(server) {
                if let Event::Message { bytes, .. } = event {
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    assert!(number == expected || channel == Channel::UNRELIABLE);
                    expected = number + 1;
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
            assert_eq!((latencies.len() as u64, stats.queued_bytes), (sent_count, 0));
        }
    }
    latencies.sort();
    let per_message = |count: u64| count as f64 / sent_count as f64;
    let figures = Figures { latencies, wire_bytes: per_message(wire_bytes), stats };
    let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|percent| figures.at(percent).as_millis());
    println!(
        "{name}: p50 {p50} p95 {p95} p99 {p99} p99.9 {p999} ms, {:.1} B/msg, {:.2} packets/msg",
        figures.wire_bytes,
        per_message(packets)
    );
    println!("    {:?}", figures.stats);
    figures
}
