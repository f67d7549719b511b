//! The acceptor and its incoming connections: versions, limits, repeated and stale Hellos, restarts, moved addresses.

use std::time::Duration;

use kaos_rudp::{
    Channel, CloseReason, Config, Event, Micros, Violation, code,
    lab::{Link, World},
};

const SECOND: Duration = Duration::from_secs(1);

fn refusal(client: Config, server: Config) -> Vec<Event> {
    let mut world = World::new(1, Link::default());
    let (client, server) = (world.add(client), world.add(server));
    world.connect(client, server);
    world.run_for(SECOND);
    assert_eq!(world.take_events(server), []);
    assert_eq!(world.endpoint(server).peer_count(), 0);
    world.take_events(client)
}

fn refused_code(events: &[Event]) -> u16 {
    match events {
        [Event::Closed { reason: CloseReason::Refused { code, reason }, .. }] => {
            assert!(!reason.is_empty());
            *code
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_which_side_is_too_old() {
    let new = Config { version_min: 2, version_max: 3, ..Config::default() };
    assert_eq!(refused_code(&refusal(new.clone(), Config::server())), code::SERVER_TOO_OLD);
    let new = Config { accept: true, ..new };
    assert_eq!(refused_code(&refusal(Config::default(), new)), code::CLIENT_TOO_OLD);
}

#[test]
fn ranges_that_meet_connect() {
    let mut world = World::new(1, Link::default());
    let client = world.add(Config { version_max: 9, ..Config::default() });
    let server = world.add(Config::server());
    world.connected(client, server);
}

#[test]
fn a_full_server_says_so_and_takes_others_after_a_close() {
    let mut world = World::new(2, Link::default());
    let server = world.add(Config { peers_max: 3, ..Config::server() });
    let clients: Vec<_> = (0..4).map(|_| world.add(Config::default())).collect();
    let peers: Vec<_> = clients[..3].iter().map(|&client| world.connected(client, server)).collect();
    world.connect(clients[3], server);
    world.run_for(SECOND);
    assert_eq!(refused_code(&world.take_events(clients[3])), code::FULL);
    let now = world.now();
    world.endpoint(server).close(now, peers[0].1, 1, "make room");
    world.connected(clients[3], server);
    assert_eq!(world.endpoint(server).peer_count(), 3);
}

#[test]
fn lost_and_doubled_handshakes_make_one_connection() {
    for seed in 0..40 {
        let mut world = World::new(seed, Link { loss: 0.2, duplicate: 0.5, reorder: 0.5, ..Link::default() });
        let (client, server) = world.pair();
        world.connect(client, server);
        world.run_for(SECOND * 8);
        let events = world.take_events(server);
        assert!(matches!(events[..], [Event::Connected { .. }]), "seed {seed}: {events:?}");
        assert_eq!(world.endpoint(server).peer_count(), 1, "seed {seed}");
    }
}

#[test]
fn a_client_that_was_started_again_replaces_itself() {
    let mut world = World::new(3, Link::default());
    let (client, server) = world.pair();
    let (_, old) = world.connected(client, server);
    world.restart(client, Config::default());
    let here = world.connect(client, server);
    world.endpoint(client).send(here, Channel::DATA, &[b"again"]).unwrap();
    world.run_for(SECOND);
    let events = world.take_events(server);
    let reason = CloseReason::Protocol(Violation::Replaced);
    assert_eq!(events[0], Event::Closed { peer: old, reason });
    let Event::Connected { peer: new, .. } = events[1] else { panic!("{events:?}") };
    assert!(new != old && new.generation() > old.generation());
    assert!(matches!(&events[2], Event::Message { peer, bytes, .. } if *peer == new && bytes == b"again"));
    assert_eq!(world.endpoint(server).peer_count(), 1);
}

#[test]
fn an_old_hello_replaces_nobody() {
    let mut world = World::new(4, Link::default());
    world.record();
    let (client, server) = world.pair();
    let (first, _) = world.connected(client, server);
    let hellos: Vec<_> = world.take_recorded().into_iter().filter(|(_, _, bytes)| bytes[0] == 0x81).collect();
    assert_eq!(hellos.len(), 2);
    let now = world.now();
    world.endpoint(client).close(now, first, 0, "");
    world.run_for(SECOND);
    let (here, there) = world.connected(client, server);
    world.take_events(server);
    // The first connection's Hello with its cookie, a second later: it makes a half-open peer at most.
    for (from, to, bytes) in hellos {
        world.inject(from, to, bytes);
    }
    world.run_for(SECOND);
    world.endpoint(client).send(here, Channel::DATA, &[b"still here"]).unwrap();
    world.endpoint(server).send(there, Channel::DATA, &[b"and here"]).unwrap();
    world.run_for(SECOND * 20);
    assert!(matches!(&world.take_events(server)[..], [Event::Message { .. }]));
    assert!(matches!(&world.take_events(client)[1..], [Event::Message { .. }]));
    assert_eq!(world.endpoint(server).peer_count(), 1);
}

#[test]
fn a_server_that_was_started_again_knows_nobody_and_takes_everybody() {
    let mut world = World::new(5, Link::default());
    let (client, server) = world.pair();
    let (here, _) = world.connected(client, server);
    world.restart(server, Config::server());
    world.endpoint(client).send(here, Channel::DATA, &[b"hello?"]).unwrap();
    world.run_for(SECOND * 11);
    let closed = Event::Closed { peer: here, reason: CloseReason::TimedOut };
    assert_eq!(world.take_events(client), [closed]);
    assert_eq!(world.take_events(server), []);
    world.connected(client, server);
}

#[test]
fn without_migration_packets_from_another_address_are_not_the_peers() {
    let mut world = World::new(6, Link::default());
    let client = world.add(Config::default());
    let server = world.add(Config { migration: false, ..Config::server() });
    let (here, there) = world.connected(client, server);
    world.rebind(client, "10.0.0.99:1234".parse().unwrap());
    world.endpoint(client).send(here, Channel::DATA, &[b"moved"]).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.take_events(server), []);
    world.run_for(SECOND * 12);
    let closed = Event::Closed { peer: there, reason: CloseReason::TimedOut };
    assert_eq!(world.take_events(server), [closed]);
}

#[test]
fn half_open_peers_are_bounded_and_expire() {
    let mut world = World::new(7, Link::default());
    let server = world.add(Config { half_open_max: 5, ..Config::server() });
    let clients: Vec<_> = (0..20).map(|_| world.add(Config::default())).collect();
    for &client in &clients {
        world.connect(client, server);
    }
    // Until the cookies are back at the server; after that nobody hears the Accepts.
    world.run_for(Duration::from_millis(80));
    for &client in &clients {
        world.take_down(client);
    }
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.endpoint(server).totals().dropped, 15);
    assert_eq!(world.endpoint(server).peer_count(), 0);
    world.run_for(SECOND * 6);
    assert_eq!(world.endpoint(server).poll_timeout(), None);
    assert_eq!(world.take_events(server), []);
}

#[test]
fn two_endpoints_may_call_each_other() {
    let mut world = World::new(8, Link::default());
    let (a, b) = (world.add(Config::server()), world.add(Config::server()));
    let (from_a, from_b) = (world.connect(a, b), world.connect(b, a));
    world.endpoint(a).send(from_a, Channel::DATA, &[b"from a"]).unwrap();
    world.endpoint(b).send(from_b, Channel::DATA, &[b"from b"]).unwrap();
    world.run_for(SECOND);
    for (node, text) in [(a, "from b"), (b, "from a")] {
        let events = world.take_events(node);
        assert_eq!(events.len(), 3, "{events:?}");
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Message { bytes, .. } if bytes == text.as_bytes()))
        );
        assert_eq!(world.endpoint(node).peer_count(), 2);
    }
}

#[test]
fn an_application_that_takes_no_events_slows_its_peer_and_eats_no_memory() {
    let mut world = World::new(9, Link::default());
    let client = world.add(Config { queue_bytes_max: 4 << 20, ..Config::default() });
    let server = world.add(Config { events_bytes_max: 200_000, ..Config::server() });
    let (here, there) = world.connected(client, server);
    for _ in 0..1000 {
        world.endpoint(client).send(here, Channel::DATA, &[&[1; 1000]]).unwrap();
    }
    // By hand: the world would take the events.
    let (mut now, mut buf) = (world.now(), Vec::new());
    let (client_addr, server_addr) = (world.addr(client), world.addr(server));
    let mut got = 0;
    for round in 0..2_000 {
        now += Duration::from_millis(5);
        while world.endpoint(client).poll_transmit(now, &mut buf).is_some() {
            world.endpoint(server).handle(now, client_addr, &mut buf);
        }
        while world.endpoint(server).poll_transmit(now, &mut buf).is_some() {
            world.endpoint(client).handle(now, server_addr, &mut buf);
        }
        world.endpoint(client).handle_timeout(now);
        world.endpoint(server).handle_timeout(now);
        if round == 200 {
            assert!(world.endpoint(server).totals().overrun > 0);
            assert!(world.endpoint(server).stats(there).unwrap().bytes_in < 300_000);
        }
        while round > 200
            && let Some(event) = world.endpoint(server).poll_event()
        {
            got += usize::from(matches!(event, Event::Message { .. }));
        }
    }
    assert_eq!(got, 1000);
}

#[test]
fn a_thousand_idle_peers_cost_a_ping_each_in_five_seconds() {
    let mut world = World::new(10, Link::default());
    let server = world.add(Config::server());
    let clients: Vec<_> = (0..1000).map(|_| world.add(Config::default())).collect();
    for &client in &clients {
        world.connect(client, server);
    }
    world.run_for(SECOND * 2);
    assert_eq!(world.endpoint(server).peer_count(), 1000);
    let before = world.endpoint(server).totals();
    world.run_for(SECOND * 20);
    let after = world.endpoint(server).totals();
    assert!(after.datagrams_in - before.datagrams_in <= 5_000);
    assert!(after.datagrams_out - before.datagrams_out <= 5_000);
    // Between deadlines nothing is due, however often one asks.
    let next = world.endpoint(server).poll_timeout().unwrap();
    assert!(next > world.now());
    world.endpoint(server).handle_timeout(Micros(next.0 - 1));
    assert_eq!(world.endpoint(server).poll_timeout(), Some(next));
}
