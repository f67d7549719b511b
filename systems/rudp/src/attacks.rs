//! What must never happen: forged, mutated and hostile datagrams, some of them with genuine tags.

use std::time::Duration;

use crate::{
    Channel, CloseReason, Config, DATAGRAM_BYTES_MAX, Event, FRAGMENT_BYTES, PeerId, Violation,
    ack::Ack,
    coding::put_varint,
    keys::Keys,
    lab::{Link, Node, Rng, World},
    packet::{FLAG_ACK, Writer},
};

const SECOND: Duration = Duration::from_secs(1);

/// A world with a client whose keys the attacker has, because it is that client.
struct Scene {
    world: World,
    client: Node,
    server: Node,
    here: PeerId,
    there: PeerId,
    keys: Keys,
    connection: u32,
    next: u64,
}

impl Scene {
    fn new(config: Config) -> Scene {
        let mut world = World::new(11, Link::default());
        world.record();
        let (client, server) = (world.add(Config::default()), world.add(config));
        let (here, there) = world.connected(client, server);
        let (keys, connection) = world.endpoint(client).keys_of(here).unwrap();
        Scene { world, client, server, here, there, keys, connection, next: 1000 }
    }

    /// A genuine packet to the server with whatever follows the header.
    fn forge(&mut self, frames: &[u8]) -> Vec<u8> {
        self.forge_with(0, frames)
    }

    /// The same with flags of the header.
    fn forge_with(&mut self, flags: u8, frames: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.next += 1;
        Writer::new(&mut out, Some(self.connection), self.next, Some(self.next - 1), None).finish();
        out[0] |= flags;
        out.extend_from_slice(frames);
        self.keys.seal(self.next, &mut out);
        out
    }

    fn attack(&mut self, frames: &[u8]) -> Vec<Event> {
        self.attack_with(0, frames)
    }

    /// The same with flags of the header.
    fn attack_with(&mut self, flags: u8, frames: &[u8]) -> Vec<Event> {
        let datagram = self.forge_with(flags, frames);
        self.deliver(datagram)
    }

    fn deliver(&mut self, datagram: Vec<u8>) -> Vec<Event> {
        let (from, to) = (self.world.addr(self.client), self.world.addr(self.server));
        self.world.inject(from, to, datagram);
        self.world.run_for(Duration::from_micros(1));
        self.world.take_events(self.server)
    }

    fn closed(&self, violation: Violation) -> Vec<Event> {
        vec![Event::Closed { peer: self.there, reason: CloseReason::Protocol(violation) }]
    }
}

#[test]
fn an_acknowledgement_of_the_unsent_ends_its_sender_and_costs_nothing() {
    for number in [1_000, 20_000_000_000, (1 << 63) - 1] {
        let mut scene = Scene::new(Config::server());
        let mut ack = Vec::new();
        put_varint(&mut ack, number);
        ack.extend_from_slice(&[0, 0]);
        put_varint(&mut ack, number);
        let next = scene.world.endpoint(scene.server).stats(scene.there).unwrap().packets_out - 1;
        let events = scene.attack_with(FLAG_ACK, &ack);
        assert!(next <= 2);
        let Event::Closed {
            reason: CloseReason::Protocol(Violation::AckOfUnsent { number: said, .. }), ..
        } = &events[0]
        else {
            panic!("{events:?}")
        };
        assert_eq!(*said, number);
        scene.world.run_for(Duration::from_millis(100));
        let events = scene.world.take_events(scene.client);
        assert!(
            matches!(&events[..], [Event::Closed { reason: CloseReason::Remote { code: 0xff01, .. }, .. }]),
            "{events:?}"
        );
    }
}

#[test]
fn genuine_nonsense_is_a_typed_violation() {
    let cases: [(u8, &[u8], Violation); 11] = [
        (FLAG_ACK, &[], Violation::Malformed),
        (FLAG_ACK, &[0, 0, 0x0f, 0], Violation::Malformed),
        (0, &[0xc7], Violation::UnknownFrame(0xc7)),
        (0, &[0x03, 1, 2, 3], Violation::Malformed),
        (0, &[0x5f, 0, 0, 1, 9], Violation::BadChannel(31)),
        (0, &[0x43, 0, 0, 1, 9], Violation::BadChannel(3)),
        (0, &[0x07, 2, 0, 0], Violation::BadChannel(2)),
        (0, &[0x82, 0, 0, 16, 17, 1, 9], Violation::TooLarge(65_538)),
        (0, &[0x41, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], Violation::Malformed),
        (0, &[0x81, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 1, 9], Violation::TooLarge(65_538)),
        (0, &[0x81, 0, 0, 1, 2, 1, 9, 0x81, 0, 0, 2, 3, 1, 9], Violation::BadFragment),
    ];
    for (flags, frames, violation) in cases {
        let mut scene = Scene::new(Config::server());
        assert_eq!(scene.attack_with(flags, frames), scene.closed(violation), "{frames:?}");
    }
}

#[test]
fn an_acknowledgement_full_of_gaps_repeats_each_message_once() {
    let mut scene = Scene::new(Config::server());
    let (server, there) = (scene.server, scene.there);
    scene.world.run_for(SECOND);
    scene.world.take_down(scene.client);
    let first = scene.world.endpoint(server).stats(there).unwrap().packets_out;
    for _ in 0..8 {
        scene.world.endpoint(server).send(there, Channel::DATA, &[&[1; 1000]]).unwrap();
    }
    scene.world.run_for(Duration::from_micros(1));
    let sent = scene.world.endpoint(server).stats(there).unwrap().packets_out;
    assert_eq!(sent - first, 8);
    // Packet numbers begin at 0, and the Accept has none, so the last of the eight is `sent` - 2. Only that one is
    // acknowledged, fifty times over.
    let ack = [(sent - 2) as u8, 0, 0, 0];
    for _ in 0..50 {
        assert_eq!(scene.attack_with(FLAG_ACK, &ack), []);
    }
    // The pacer spreads the repeats.
    scene.world.run_for(Duration::from_millis(12));
    let stats = scene.world.endpoint(server).stats(there).unwrap();
    // Three later numbers are needed: the two before the last still wait for their time.
    assert_eq!((stats.retransmitted, stats.packets_out - sent), (5, 5), "{stats:?}");
    scene.world.run_for(Duration::from_millis(70));
    assert_eq!(scene.world.endpoint(server).stats(there).unwrap().retransmitted, 7);
}

#[test]
fn a_wrong_tag_does_not_move_the_replay_window() {
    let mut scene = Scene::new(Config::server());
    for ahead in 1..200 {
        scene.next += ahead;
        let mut datagram = scene.forge(&[1]);
        *datagram.last_mut().unwrap() ^= 1;
        assert_eq!(scene.deliver(datagram), []);
    }
    scene.world.endpoint(scene.client).send(scene.here, Channel::DATA, &[b"still here"]).unwrap();
    scene.world.run_for(SECOND);
    assert!(matches!(&scene.world.take_events(scene.server)[..], [Event::Message { .. }]));
    let stats = scene.world.endpoint(scene.client).stats(scene.here).unwrap();
    assert_eq!((stats.lost, stats.retransmitted), (0, 0));
}

#[test]
fn a_replayed_packet_is_taken_once() {
    let mut scene = Scene::new(Config { migration: false, ..Config::server() });
    let datagram = scene.forge(&[0x42, 0, 0, 1, 9, 0x41, 0, 0, 1, 9]);
    assert_eq!(scene.deliver(datagram.clone()).len(), 2);
    for _ in 0..10 {
        assert_eq!(scene.deliver(datagram.clone()), []);
    }
    let elsewhere = "10.9.9.9:9".parse().unwrap();
    let other = scene.forge(&[0x42, 1, 0, 1, 9]);
    let server = scene.world.addr(scene.server);
    scene.world.inject(elsewhere, server, other);
    scene.world.run_for(SECOND);
    assert_eq!(scene.world.take_events(scene.server), [], "a genuine packet from another address");
}

/// A message after so much padding that the datagram has as many bytes as any may have, or one more.
#[test]
fn a_genuine_packet_longer_than_any_may_be_is_dropped_unread() {
    let mut scene = Scene::new(Config::server());
    let overhead = scene.forge(&[]).len();
    for (bytes, is_taken) in [(DATAGRAM_BYTES_MAX, true), (DATAGRAM_BYTES_MAX + 1, false), (65_507, false)] {
        let mut frames = vec![0; bytes - overhead - 4];
        frames.extend_from_slice(&[0x61, 0, 0, 7]);
        let unknown = scene.world.endpoint(scene.server).totals().unknown;
        assert_eq!(scene.attack(&frames).len(), usize::from(is_taken), "{bytes} bytes");
        let dropped = scene.world.endpoint(scene.server).totals().unknown - unknown;
        assert_eq!(dropped, u64::from(!is_taken), "{bytes} bytes");
        if is_taken {
            scene = Scene::new(Config::server());
        }
    }
}

#[test]
fn a_peer_cannot_hold_more_than_its_bound() {
    let bound = 100_000;
    let mut scene = Scene::new(Config { reassembly_bytes_max: bound, ..Config::server() });
    let mut rng = Rng::new(1);
    for round in 0..4_000u32 {
        // Message 0 never comes, so everything else waits: whole messages, and first fragments of many.
        let id = (1 + rng.below(3000) as u16).to_le_bytes();
        let mut frames = match rng.below(2) {
            0 => vec![0x61 - rng.below(2) as u8, id[0], id[1]],
            _ => vec![0xa1, id[0], id[1], rng.below(40) as u8, 50],
        };
        frames.resize(frames.len() + 512 + rng.below(400) as usize, round as u8);
        let events = scene.attack(&frames);
        if matches!(events[..], [Event::Closed { .. }]) {
            // A whole message and a fragment disagreed, which ends the attack even sooner.
            scene = Scene::new(Config { reassembly_bytes_max: bound, ..Config::server() });
            continue;
        }
        let stats = scene.world.endpoint(scene.server).stats(scene.there).unwrap();
        assert!(stats.reassembly_bytes <= bound, "{stats:?}");
    }
}

/// Frames, with a genuine tag, that no honest peer wrote. Whatever they do, the server stays up and serves another.
#[test]
fn random_and_mutated_frames_never_panic() {
    let mut rng = Rng::new(3);
    let mut scene = Scene::new(Config::server());
    let mut ends = 0;
    for _ in 0..30_000 {
        let mut frames = match rng.below(3) {
            0 => Vec::new(),
            1 => {
                let mut frames = Vec::new();
                Ack::longest().encode(&mut frames);
                frames
            }
            _ => {
                let mut frames = Vec::new();
                let mut writer = Writer::new(&mut frames, None, 0, None, None);
                writer.message(Channel::DATA, rng.below(4), &[1; 5]);
                writer.fragment(Channel::CONTROL, rng.below(4), rng.below(3) as u32, 3, &[2; 600]);
                writer.ping();
                writer.finish();
                frames.split_off(3)
            }
        };
        for _ in 0..rng.below(4) {
            let at = rng.below(frames.len() as u64 + 1) as usize;
            frames.insert(at, rng.next_u64() as u8);
        }
        if frames.is_empty() {
            frames.resize(rng.below(200) as usize, 0);
            rng.fill(&mut frames);
        }
        frames.truncate(FRAGMENT_BYTES);
        let flags = if rng.chance(0.4) { FLAG_ACK } else { 0 };
        let events = scene.attack_with(flags, &frames);
        if events.iter().any(|event| matches!(event, Event::Closed { .. })) {
            ends += 1;
            scene = Scene::new(Config::server());
        }
        scene.world.take_recorded();
    }
    assert!(ends > 1_000, "{ends}");
}

#[test]
fn a_closing_connection_answers_genuine_packets_only_and_not_for_ever() {
    let mut scene = Scene::new(Config::server());
    let now = scene.world.now();
    scene.world.endpoint(scene.server).close(now, scene.there, 1, "bye");
    scene.world.link.loss = 1.0;
    scene.world.run_for(Duration::from_millis(1));
    let mut forged = scene.forge(&[1]);
    *forged.last_mut().unwrap() ^= 1;
    let before = scene.world.traffic().sent;
    scene.deliver(forged);
    assert_eq!(scene.world.traffic().sent, before);
    for _ in 0..20 {
        scene.attack(&[1]);
    }
    assert_eq!(scene.world.traffic().sent - before, 8);
    scene.world.run_for(SECOND);
    let before = scene.world.traffic().sent;
    scene.attack(&[1]);
    assert_eq!(scene.world.traffic().sent, before, "gone");
}
