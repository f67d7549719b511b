//! A connection from its first datagram to its last, on a clean link.

use std::time::Duration;

use kaos_rudp::{
    Channel, CloseReason, Config, ConnectError, Event, SendError,
    lab::{Link, World},
};

const SECOND: Duration = Duration::from_secs(1);

fn messages(events: &[Event]) -> Vec<(Channel, Vec<u8>)> {
    let message = |event: &Event| match event {
        Event::Message { channel, bytes, .. } => Some((*channel, bytes.to_vec())),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

#[test]
fn messages_queued_before_connected_arrive_after_it() {
    let mut world = World::new(1, Link::default());
    let (client, server) = world.pair();
    let peer = world.connect(client, server);
    world.endpoint(client).send(peer, Channel::CONTROL, &[b"he", b"", b"llo"]).unwrap();
    world.endpoint(client).send(peer, Channel::DATA, &[&[7; 65_538]]).unwrap();
    world.endpoint(client).send(peer, Channel::UNRELIABLE, &[]).unwrap();
    world.run_for(SECOND);
    let server_key = Some(world.endpoint(server).public_key());
    let addr = world.addr(server);
    assert_eq!(world.take_events(client), [Event::Connected { peer, addr, server_key }]);
    let events = world.take_events(server);
    assert!(matches!(events[0], Event::Connected { .. }));
    let said = messages(&events);
    assert_eq!(said.len(), 3);
    assert_eq!(said[0], (Channel::CONTROL, b"hello".to_vec()));
    assert!(said.contains(&(Channel::DATA, vec![7; 65_538])));
    assert!(said.contains(&(Channel::UNRELIABLE, vec![])));
    let stats = world.endpoint(client).stats(peer).unwrap();
    assert_eq!((stats.retransmitted, stats.queued_bytes, stats.lost), (0, 0, 0));
    assert!(stats.rtt.abs_diff(Duration::from_millis(50)) < Duration::from_millis(2), "{stats:?}");
}

#[test]
fn a_server_answers_and_closes_and_the_client_learns_at_once() {
    let mut world = World::new(2, Link::default());
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    for channel in [Channel::CONTROL, Channel::DATA, Channel::UNRELIABLE] {
        world.endpoint(server).send(there, channel, &[b"welcome"]).unwrap();
    }
    world.run_for(Duration::from_millis(26));
    assert_eq!(messages(&world.take_events(client)).len(), 3);
    let now = world.now();
    world.endpoint(server).close(now, there, 42, "enough");
    assert_eq!(world.endpoint(server).send(there, Channel::DATA, &[b"x"]), Err(SendError::Closed));
    world.run_for(Duration::from_millis(26));
    let reason = CloseReason::Remote { code: 42, reason: "enough".into() };
    assert_eq!(world.take_events(client), [Event::Closed { peer: here, reason }]);
    assert_eq!(world.take_events(server), [Event::Closed { peer: there, reason: CloseReason::Local }]);
    assert_eq!(world.endpoint(client).send(here, Channel::DATA, &[b"x"]), Err(SendError::Closed));
    world.run_for(SECOND);
    assert_eq!(world.endpoint(server).poll_timeout(), None, "nothing stays for ever");
    assert_eq!((world.endpoint(server).peer_count(), world.endpoint(client).peer_count()), (0, 0));
}

#[test]
fn close_after_flush_delivers_first() {
    let mut world = World::new(3, Link { loss: 0.2, ..Link::default() });
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    for byte in 0..100 {
        world.endpoint(client).send(here, Channel::DATA, &[&[byte; 500]]).unwrap();
    }
    let now = world.now();
    world.endpoint(client).close_after_flush(now, here, 7, "done");
    assert_eq!(world.endpoint(client).send(here, Channel::DATA, &[b"x"]), Err(SendError::Closed));
    world.run_for(SECOND * 4);
    let events = world.take_events(server);
    assert_eq!(messages(&events).len(), 100);
    let reason = CloseReason::Remote { code: 7, reason: "done".into() };
    assert_eq!(events.last(), Some(&Event::Closed { peer: there, reason }));
    assert_eq!(world.take_events(client), [Event::Closed { peer: here, reason: CloseReason::Local }]);
}

#[test]
fn close_after_flush_waits_two_seconds_at_most() {
    let mut world = World::new(4, Link::default());
    let (client, server) = world.pair();
    let (here, _) = world.connected(client, server);
    world.link.loss = 1.0;
    world.endpoint(client).send(here, Channel::DATA, &[b"x"]).unwrap();
    let now = world.now();
    world.endpoint(client).close_after_flush(now, here, 7, "done");
    world.run_for(Duration::from_millis(1_999));
    assert_eq!(world.take_events(client), []);
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.take_events(client), [Event::Closed { peer: here, reason: CloseReason::Local }]);
}

#[test]
fn close_after_flush_waits_no_longer_for_a_server_that_is_silent() {
    let mut world = World::new(4, Link::default());
    let (client, server) = world.pair();
    world.take_down(server);
    let peer = world.connect(client, server);
    world.endpoint(client).send(peer, Channel::DATA, &[b"x"]).unwrap();
    world.run_for(SECOND);
    let now = world.now();
    world.endpoint(client).close_after_flush(now, peer, 7, "done");
    world.run_for(Duration::from_millis(1_999));
    assert_eq!(world.take_events(client), []);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.take_events(client), [Event::Closed { peer, reason: CloseReason::Local }]);
    assert_eq!(world.endpoint(client).poll_timeout(), None);
    // The reason of an attempt that ends earlier is what ended it.
    let peer = world.connect(client, server);
    world.endpoint(client).send(peer, Channel::DATA, &[b"x"]).unwrap();
    world.run_for(Duration::from_millis(4_000));
    let now = world.now();
    world.endpoint(client).close_after_flush(now, peer, 7, "done");
    world.run_for(SECOND);
    assert_eq!(world.take_events(client), [Event::Closed { peer, reason: CloseReason::TimedOut }]);
}

#[test]
fn silence_times_out_on_both_sides_and_a_quiet_link_does_not() {
    let mut world = World::new(5, Link::default());
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    world.run_for(SECOND);
    let before = world.traffic().sent;
    world.run_for(SECOND * 60);
    assert!(world.take_events(client).is_empty() && world.take_events(server).is_empty());
    // A ping each five seconds, and its acknowledgement.
    let sent = world.traffic().sent - before;
    assert!((20..=26).contains(&sent), "{sent}");
    world.link.loss = 1.0;
    world.run_for(SECOND * 16);
    assert_eq!(world.take_events(client), [Event::Closed { peer: here, reason: CloseReason::TimedOut }]);
    assert_eq!(world.take_events(server), [Event::Closed { peer: there, reason: CloseReason::TimedOut }]);
}

#[test]
fn nobody_there_times_out() {
    let mut world = World::new(6, Link::default());
    let (client, server) = world.pair();
    world.take_down(server);
    let peer = world.connect(client, server);
    world.run_for(Duration::from_millis(4_999));
    assert_eq!(world.take_events(client), []);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.take_events(client), [Event::Closed { peer, reason: CloseReason::TimedOut }]);
}

#[test]
fn connect_and_send_refuse_what_cannot_be() {
    let mut world = World::new(7, Link::default());
    let client = world.add(Config { peers_max: 2, ..Config::default() });
    let server = world.add(Config::server());
    let peer = world.connect(client, server);
    let (now, addr) = (world.now(), world.addr(server));
    let endpoint = world.endpoint(client);
    assert_eq!(endpoint.connect(now, addr, None), Err(ConnectError::AlreadyConnected(addr)));
    let nowhere = "0.0.0.0:1".parse().unwrap();
    assert_eq!(endpoint.connect(now, nowhere, None), Err(ConnectError::InvalidAddress(nowhere)));
    endpoint.connect(now, "10.0.9.9:1".parse().unwrap(), None).unwrap();
    assert_eq!(
        endpoint.connect(now, "10.0.9.9:2".parse().unwrap(), None),
        Err(ConnectError::Full { peers_max: 2 })
    );
    let unknown = kaos_rudp::PeerId::from_bits(u64::MAX);
    assert_eq!(endpoint.send(unknown, Channel::DATA, &[]), Err(SendError::NotConnected));
    let too_large = SendError::TooLarge { bytes: 65_539, max: 65_538 };
    assert_eq!(endpoint.send(peer, Channel::DATA, &[&[0; 65_539]]), Err(too_large));
}

#[test]
fn a_full_queue_blocks_then_becomes_writable_and_loses_nothing() {
    let mut world = World::new(8, Link { loss: 0.1, ..Link::default() });
    let (client, server) = world.pair();
    let (here, _) = world.connected(client, server);
    let (mut sent, mut blocked, mut writable) = (0u32, 0, 0);
    let mut may_send = true;
    let mut got = Vec::new();
    while got.len() < 3_000 {
        while may_send && sent < 3_000 {
            let message = [&sent.to_le_bytes()[..], &[0; 400]];
            match world.endpoint(client).send(here, Channel::DATA, &message) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error, SendError::WouldBlock);
                    (may_send, blocked) = (false, blocked + 1);
                }
            }
        }
        assert!(world.endpoint(client).stats(here).unwrap().queued_bytes <= 256 * 1024);
        world.run_for(Duration::from_millis(5));
        assert!(world.now().0 < 120_000_000, "stuck");
        for event in world.take_events(client) {
            assert_eq!(event, Event::Writable { peer: here });
            (may_send, writable) = (true, writable + 1);
        }
        got.extend(messages(&world.take_events(server)));
    }
    assert!(blocked >= 3 && writable >= blocked - 1, "{blocked} {writable}");
    for (number, (_, bytes)) in (0u32..).zip(&got) {
        assert_eq!(bytes[..4], number.to_le_bytes());
    }
}

#[test]
fn hundreds_of_messages_in_one_poll_and_messages_after_pings_arrive() {
    let mut world = World::new(9, Link::default());
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    for round in 0..3 {
        for _ in 0..500 {
            world.endpoint(client).send(here, Channel::DATA, &[b"up"]).unwrap();
            world.endpoint(server).send(there, Channel::DATA, &[b"down"]).unwrap();
        }
        for _ in 0..200 {
            world.endpoint(client).send(here, Channel::UNRELIABLE, &[b"now"]).unwrap();
        }
        world.run_for(SECOND);
        assert_eq!(messages(&world.take_events(server)).len(), 700, "round {round}");
        assert_eq!(messages(&world.take_events(client)).len(), 500, "round {round}");
        // Pings in between take packet numbers; nothing waits for them.
        world.run_for(SECOND * 12);
    }
    let stats = world.endpoint(server).stats(there).unwrap();
    assert_eq!((stats.retransmitted, stats.stale, stats.superseded), (0, 0, 0));
}
