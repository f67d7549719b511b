//! How fast losses are repaired, at what cost on the wire: the scenarios of a game, in virtual time from fixed seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

#[path = "kit/stream.rs"] // Not in this folder, where it would be a test of its own.
mod stream;

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, Config, Endpoint, Micros, Repeats,
    lab::{Link, World},
};
use stream::{TICK, stream};

const MS: Duration = Duration::from_millis(1);

/// Without repeats, to see what recovery alone can do.
fn plain() -> Config {
    let mut config = Config::default();
    for channel in [Channel::CONTROL, Channel::DATA] {
        config.channels.get_mut(channel).unwrap().repeats = Repeats::Fixed(0);
    }
    config
}

#[test]
fn five_percent_loss_at_sixty_messages_a_second() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream("A", &link, &plain(), Channel::DATA, TICK, 1);
    assert!(figures.at(50.0) <= MS * 26);
    assert!(figures.at(99.0) <= MS * 100);
    assert!(figures.at(99.9) <= MS * 140);
}

#[test]
fn twenty_percent_loss_still_flows() {
    let link = Link { loss: 0.2, ..Link::default() };
    let figures = stream("20 %", &link, &plain(), Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 400);
}

#[test]
fn bursts_and_jitter() {
    let link = Link { jitter: MS * 10, ..Link::default() }.bursts(0.05, 3);
    let figures = stream("C", &link, &plain(), Channel::DATA, TICK, 1);
    assert!(figures.at(99.0) <= MS * 170);
}

#[test]
fn sparse_messages_are_repeated_by_probes() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream("D", &link, &plain(), Channel::DATA, MS * 500, 1);
    assert!(figures.at(99.0) <= MS * 130);
}

#[test]
fn a_clean_link_repeats_nothing() {
    let figures = stream("E", &Link::default(), &plain(), Channel::DATA, TICK, 1);
    assert_eq!((figures.stats.retransmitted, figures.stats.lost), (0, 0));
    assert!(figures.at(100.0) <= MS * 26);
    assert!(figures.wire_bytes <= 155.0);
    let figures = stream("E, unreliable", &Link::default(), &plain(), Channel::UNRELIABLE, TICK, 1);
    assert!(figures.wire_bytes <= 150.0);
}

#[test]
fn eight_messages_a_tick_share_datagrams() {
    let link = Link { loss: 0.05, ..Link::default() };
    let figures = stream("F", &link, &plain(), Channel::DATA, TICK, 8);
    assert!(figures.wire_bytes <= 95.0);
}

#[derive(PartialEq, Eq)]
enum First {
    /// As an application is told to.
    Datagrams,
    Timers,
}

/// An application comes back after three seconds and finds all acknowledgements waiting in its socket. Returns how many
/// messages are sent again, depending on whether it first takes these in or first asks the timers and sends.
fn after_a_pause(first: First) -> u64 {
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
    if first == First::Timers {
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
    assert_eq!(after_a_pause(First::Datagrams), 0);
    assert!(after_a_pause(First::Timers) > 0, "the timers were due");
}

/// By satellite, or through a modem that holds seconds of packets: the probe time-out is longer than a second.
#[test]
fn on_a_path_that_takes_seconds_nothing_is_sent_twice() {
    for round_trip in [1_200, 3_000] {
        let mut world = World::new(1, Link::default());
        let (client, server) = (world.add(plain()), world.add(Config::server()));
        let (here, _) = world.connected(client, server);
        world.run_for(MS * 500);
        world.link.delay = MS * round_trip / 2;
        let (mut before, mut arrived) = (0, 0);
        // The shorter round trip from before is forgotten after twenty seconds; the next twenty are judged.
        for second in 0..50 {
            if second == 30 {
                before = world.endpoint(client).stats(here).unwrap().retransmitted;
            }
            for _ in 0..60 {
                world.endpoint(client).send(here, Channel::DATA, &[&[1; 64]]).unwrap();
                world.run_for(TICK);
                let events = world.take_events(server).len();
                arrived += if second >= 30 { events } else { 0 };
            }
        }
        let stats = world.endpoint(client).stats(here).unwrap();
        println!("{round_trip} ms: {stats:?}");
        assert_eq!((stats.retransmitted - before, stats.lost), (0, 0), "{round_trip} ms");
        // What was queued meanwhile adds to it.
        assert!(arrived >= 1_190, "{round_trip} ms: {arrived} of 1,200 arrived");
    }
}
