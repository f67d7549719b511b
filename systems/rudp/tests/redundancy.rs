//! What repeats buy, and what they cost: small messages over lossy links, in virtual time from fixed seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

#[path = "kit/stream.rs"] // Not in this folder, where it would be a test of its own.
mod stream;

use std::time::Duration;

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, Config, Event, Repeats,
    lab::{Link, World},
};
use stream::{TICK, stream};

const MS: Duration = Duration::from_millis(1);

fn with(change: impl FnOnce(&mut ChannelConfig)) -> Config {
    let mut config = Config::default();
    change(config.channels.get_mut(Channel::DATA).unwrap());
    config
}

/// Five per cent loss, each datagram independently.
fn iid() -> Link {
    Link { loss: 0.05, ..Link::default() }
}

#[test]
fn one_repeat_hides_five_percent_of_loss() {
    let config = with(|data| data.repeats = Repeats::Fixed(1));
    let figures = stream("A, one repeat", &iid(), &config, Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 50);
    assert!(figures.wire_bytes <= 250.0);
    let config = with(|data| data.repeats = Repeats::Fixed(2));
    let figures = stream("A, two repeats", &iid(), &config, Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 50);
}

#[test]
fn adaptive_channels_find_out_for_themselves() {
    let figures = stream("A, adaptive", &iid(), &Config::default(), Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 60);
    assert!(figures.wire_bytes <= 250.0);
    let figures = stream("no loss, adaptive", &Link::default(), &Config::default(), Channel::DATA, TICK, 1);
    assert_eq!((figures.stats.repeated, figures.stats.retransmitted), (0, 0));
}

#[test]
fn spaced_repeats_and_a_tail_survive_bursts_of_loss() {
    let link = Link { burst: 0.017, burst_datagrams: 3, jitter: MS * 10, ..Link::default() };
    let config = with(|data| {
        (data.repeats, data.repeat_spacing) = (Repeats::Fixed(2), MS * 30);
        data.tail_repeat = Some(MS * 10);
    });
    let figures = stream("C, spaced", &link, &config, Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 125);
}

#[test]
fn a_tail_repeat_saves_sparse_messages() {
    let config = with(|data| (data.repeats, data.tail_repeat) = (Repeats::Fixed(0), Some(MS * 10)));
    let figures = stream("D, tail", &iid(), &config, Channel::DATA, MS * 500, 1);
    assert!(figures.at(99.0) <= MS * 40);
    assert!(figures.wire_bytes <= 400.0);
}

#[test]
fn eight_messages_a_tick_and_their_repeats_share_datagrams() {
    let config = with(|data| data.repeats = Repeats::Fixed(1));
    let figures = stream("F, one repeat", &iid(), &config, Channel::DATA, TICK, 8);
    assert!(figures.at(99.0) <= MS * 50);
    assert!(figures.wire_bytes <= 160.0);
}

/// Both sides send 64 bytes sixty times a second. Returns what one message costs in UDP payload, its share of
/// acknowledgements included.
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

/// Repeats never take more than their share, half of the window in each round trip, even if much is lost.
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
    // The window and the round trip change between the samples.
    assert!((stats.repeated_bytes as f64) < allowed * 1.3);
}

/// A lifetime bounds how late an ordered message may be, and later messages go on in order.
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
