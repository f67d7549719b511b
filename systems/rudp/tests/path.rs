//! A peer that moves to another address, others that only look like it, and datagrams that grow and shrink with the
//! path.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, CloseReason, Config, Event, Micros, PeerId,
    lab::{Link, Node, World},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_micros(16_667);

fn other_port() -> SocketAddr {
    "10.0.0.0:40000".parse().unwrap()
}

fn other_ip() -> SocketAddr {
    "10.7.7.7:7352".parse().unwrap()
}

fn attacker(index: u8) -> SocketAddr {
    SocketAddr::from(([10, 66, 66, index], 666))
}

/// A client and a server that send numbered messages at 60 Hz, as far as they are told to.
struct Scene {
    world: World,
    client: Node,
    server: Node,
    here: PeerId,
    there: PeerId,
    client_sends: bool,
    server_sends: bool,
    next_tick: Micros,
    /// Reliable messages sent and received, by side: client, server.
    sent: [u32; 2],
    got: [u32; 2],
    /// When messages came from the server to the client, and from the client to the server.
    heard: [Vec<Micros>; 2],
    moved: Vec<SocketAddr>,
    closed: [Option<CloseReason>; 2],
    /// Bytes from and to each address at the server.
    bytes_from: BTreeMap<SocketAddr, usize>,
    bytes_to: BTreeMap<SocketAddr, usize>,
    /// What left in the last step.
    last: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Scene {
    fn new(seed: u64, link: Link, client: Config, server: Config) -> Scene {
        let mut world = World::new(seed, Link::default());
        world.record();
        let (client, server) = (world.add(client), world.add(server));
        let (here, there) = world.connected(client, server);
        world.link = link;
        world.take_recorded();
        let next_tick = world.now();
        Scene {
            world,
            client,
            server,
            here,
            there,
            client_sends: true,
            server_sends: true,
            next_tick,
            sent: [0; 2],
            got: [0; 2],
            heard: [Vec::new(), Vec::new()],
            moved: Vec::new(),
            closed: [None, None],
            bytes_from: BTreeMap::new(),
            bytes_to: BTreeMap::new(),
            last: Vec::new(),
        }
    }

    fn default(seed: u64) -> Scene {
        Scene::new(seed, Link::default(), Config::default(), Config::server())
    }

    /// A millisecond.
    fn step(&mut self) {
        if self.world.now() >= self.next_tick {
            self.next_tick += TICK;
            for (side, node, peer, sends) in [
                (0, self.client, self.here, self.client_sends),
                (1, self.server, self.there, self.server_sends),
            ] {
                if sends && self.closed[side].is_none() {
                    let message = [&self.sent[side].to_le_bytes()[..], &[7; 60]];
                    self.world.endpoint(node).send(peer, Channel::DATA, &message).unwrap();
                    self.sent[side] += 1;
                }
            }
        }
        self.world.run_for(MS);
        let now = self.world.now();
        self.last = self.world.take_recorded();
        for (from, to, bytes) in &self.last {
            if *to == self.world.addr(self.server) {
                *self.bytes_from.entry(*from).or_default() += bytes.len();
            } else {
                *self.bytes_to.entry(*to).or_default() += bytes.len();
            }
        }
        for (side, node) in [(0, self.client), (1, self.server)] {
            for event in self.world.take_events(node) {
                match event {
                    Event::Message { bytes, .. } => {
                        assert_eq!(bytes[..4], self.got[side].to_le_bytes(), "side {side}: lost or doubled");
                        self.got[side] += 1;
                        self.heard[side].push(now);
                    }
                    Event::Moved { peer, addr } => {
                        assert_eq!((side, peer), (1, self.there));
                        self.moved.push(addr);
                    }
                    Event::Closed { reason, .. } => self.closed[side] = Some(reason),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            self.step();
        }
    }

    fn rebind(&mut self, addr: SocketAddr) {
        self.world.rebind(self.client, addr);
    }

    /// Puts a copy on the network that overtakes the original.
    fn inject(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        *self.bytes_from.entry(from).or_default() += bytes.len();
        let to = self.world.addr(self.server);
        self.world.inject(from, to, bytes);
    }

    /// What the client sent in the last step.
    fn client_packets(&self) -> Vec<Vec<u8>> {
        let client = self.world.addr(self.client);
        self.last.iter().filter(|(from, ..)| *from == client).map(|(_, _, bytes)| bytes.clone()).collect()
    }

    /// Stops sending, and checks that nothing reliable was lost.
    fn finish(&mut self) {
        (self.client_sends, self.server_sends) = (false, false);
        self.run_for(SECOND * 3);
        assert_eq!(self.got, [self.sent[1], self.sent[0]], "got and sent");
        assert_eq!(self.closed, [None, None]);
    }

    /// The longest time after `start` in which a side got no message.
    fn silence(&self, side: usize, start: Micros, end: Micros) -> Duration {
        let mut last = start;
        let mut longest = Duration::ZERO;
        for &at in self.heard[side].iter().filter(|&&at| at > start && at <= end).chain([&end]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }
}

struct Gap {
    /// From the first packet that left the new address to the first of the server's messages that came there.
    after_packet: Duration,
    /// Without a message from the server.
    silence: Duration,
}

fn moves(seed: u64, loss: f64, to: SocketAddr, client_sends: bool) -> Gap {
    let mut scene = Scene::new(seed, Link { loss, ..Link::default() }, Config::default(), Config::server());
    scene.client_sends = client_sends;
    // Not always at the same point of a tick.
    scene.run_for(SECOND + MS * (seed % 40) as u32);
    let start = scene.world.now();
    scene.rebind(to);
    let mut first = None;
    while scene.world.now() < start + SECOND * 2 {
        scene.step();
        if first.is_none() && !scene.client_packets().is_empty() {
            first = Some(scene.world.now() - MS);
        }
    }
    let first = first.unwrap();
    let heard = *scene.heard[0].iter().find(|&&at| at > first).unwrap();
    let silence = scene.silence(0, start - TICK, start + SECOND * 2);
    scene.finish();
    assert_eq!(scene.moved, [to]);
    assert_eq!(scene.world.endpoint(scene.server).stats(scene.there).unwrap().moves, 1);
    assert_eq!(scene.world.endpoint(scene.server).totals().moves, 1);
    Gap { after_packet: heard - first, silence }
}

/// The targets: nothing reliable is lost, and a message of the server's comes within a round trip and a tick (port) or
/// two round trips (IP) after the client's first packet from the new address. A step of a millisecond each way is
/// added.
#[test]
fn a_moving_client_misses_nothing_and_waits_for_a_round_trip() {
    for (name, to, client_sends, bound) in [
        ("port, client sends", other_port(), true, RTT + TICK),
        ("port, client idle", other_port(), false, RTT * 2 + TICK),
        ("IP, client sends", other_ip(), true, RTT * 2),
        ("IP, client idle", other_ip(), false, RTT * 2 + TICK),
    ] {
        let gaps: Vec<Gap> = (0..40).map(|seed| moves(seed, 0.0, to, client_sends)).collect();
        let after_packet = gaps.iter().map(|gap| gap.after_packet).max().unwrap();
        let silence = gaps.iter().map(|gap| gap.silence).max().unwrap();
        let mut lossy: Vec<_> = (0..100).map(|seed| moves(seed, 0.05, to, client_sends)).collect();
        lossy.sort_by_key(|gap| gap.silence);
        println!(
            "{name}: {after_packet:?} after the first packet, silence {silence:?}; with 5 % loss silence p50 {:?}, \
             p90 {:?}, longest {:?}",
            lossy[50].silence, lossy[90].silence, lossy[99].silence
        );
        assert!(after_packet <= bound + MS * 2, "{name}: {after_packet:?}");
        assert!(lossy[99].silence < SECOND, "{name}: {:?}", lossy[99].silence);
    }
}

/// The same for a server with six or more messages of a kilobyte for each tick. More than the window of an unknown path
/// is under way to the dead address, which must hold nothing back. Messages of that length wait for the proof, two
/// round trips after the client's first packet, since until then only three times the client's bytes may go to the new
/// address.
#[test]
fn a_server_with_much_under_way_is_heard_at_the_new_address_as_soon() {
    for (to, messages) in [(other_port(), 6), (other_port(), 16), (other_ip(), 6), (other_ip(), 16)] {
        let mut longest = Duration::ZERO;
        for seed in 0..8 {
            let mut world = World::new(seed, Link { bytes_per_second: 2_500_000, ..Link::default() });
            let (client, server) = world.pair();
            let (here, there) = world.connected(client, server);
            let mut tick = world.now();
            let (moves_at, end) = (tick + SECOND * 2 + MS * 3 * seed as u32, tick + SECOND * 4);
            let (mut moved_at, mut spoke_at, mut was_heard) = (None, None, false);
            let (mut sent, mut got) = (0u64, 0u64);
            while world.now() < end {
                if tick <= world.now() {
                    tick += TICK;
                    for _ in 0..messages {
                        let message = [&sent.to_le_bytes()[..], &[1; 992]];
                        sent +=
                            u64::from(world.endpoint(server).send(there, Channel::DATA, &message).is_ok());
                    }
                    world.endpoint(client).send(here, Channel::UNRELIABLE, &[&[1; 30]]).unwrap();
                    spoke_at = spoke_at.or(moved_at.and(Some(world.now())));
                }
                if moved_at.is_none() && world.now() >= moves_at {
                    moved_at = Some(moves_at);
                    world.rebind(client, to);
                }
                world.run_for(MS);
                for event in world.take_events(client) {
                    if let Event::Message { bytes, .. } = event {
                        assert_eq!(bytes[..8], got.to_le_bytes());
                        got += 1;
                        if let Some(spoke_at) = spoke_at.filter(|_| !was_heard) {
                            was_heard = true;
                            longest = longest.max(world.now() - spoke_at);
                        }
                    }
                }
                world.take_events(server);
            }
            assert!(got + 100 > sent, "seed {seed}: {got} of {sent}");
        }
        println!("{to}, {messages} a tick: {longest:?} after the first packet");
        assert!(longest <= RTT * 2 + MS * 4, "{to}, {messages} a tick: {longest:?}");
    }
}

#[test]
fn an_old_packet_does_not_switch_back_and_is_taken() {
    let mut scene = Scene::default(1);
    scene.run_for(SECOND);
    // A single packet takes a second longer than all others.
    scene.world.link.delay = SECOND;
    while scene.client_packets().is_empty() {
        scene.step();
    }
    let late = scene.client_packets();
    scene.world.link = Link::default();
    scene.rebind(other_port());
    scene.run_for(SECOND / 2);
    assert_eq!(scene.moved, [other_port()]);
    let got = scene.got[1];
    let old = "10.0.0.0:7352".parse().unwrap();
    let before = scene.bytes_to[&old];
    late.into_iter().for_each(|bytes| scene.inject(old, bytes));
    scene.run_for(SECOND * 2);
    assert!(scene.got[1] > got);
    assert_eq!((scene.moved.len(), scene.bytes_to[&old]), (1, before));
    scene.finish();
}

/// The router forgets the mapping while the Accept is under way, or right after it arrived.
#[test]
fn a_client_may_move_during_the_handshake() {
    for ms in (0..200).step_by(5) {
        let mut world = World::new(5, Link::default());
        let (client, server) = world.pair();
        let here = world.connect(client, server);
        world.endpoint(client).send(here, Channel::DATA, &[b"hello"]).unwrap();
        world.run_for(MS * ms);
        world.rebind(client, other_ip());
        world.run_for(SECOND * 4);
        let events = world.take_events(server);
        let said = |event: &&Event| matches!(event, Event::Message { bytes, .. } if bytes == b"hello");
        assert_eq!(events.iter().filter(said).count(), 1, "{ms} ms: {events:?}");
        assert_eq!(world.endpoint(server).peer_count(), 1, "{ms} ms");
    }
}

#[test]
fn two_clients_may_change_places() {
    let mut world = World::new(3, Link::default());
    let server = world.add(Config::server());
    let (a, b) = (world.add(Config::default()), world.add(Config::default()));
    let (from_a, to_a) = world.connected(a, server);
    let (from_b, to_b) = world.connected(b, server);
    let (addr_a, addr_b) = (world.addr(a), world.addr(b));
    world.rebind(a, other_ip());
    world.rebind(b, addr_a);
    world.rebind(a, addr_b);
    for _ in 0..3 {
        // First b appears where the server believes a to be, which has not been heard from its new address yet.
        world.endpoint(b).send(from_b, Channel::DATA, &[b"b"]).unwrap();
        world.run_for(SECOND / 5);
        world.endpoint(a).send(from_a, Channel::DATA, &[b"a"]).unwrap();
        world.run_for(SECOND / 5);
        world.endpoint(server).send(to_a, Channel::DATA, &[b"to a"]).unwrap();
        world.endpoint(server).send(to_b, Channel::DATA, &[b"to b"]).unwrap();
        world.run_for(SECOND / 5);
        for (node, text) in [(a, "to a"), (b, "to b")] {
            let events = world.take_events(node);
            assert!(
                matches!(&events[..], [Event::Message { bytes, .. }] if bytes == text.as_bytes()),
                "{events:?}"
            );
        }
    }
    let events = world.take_events(server);
    let moved = |event: &&Event| matches!(event, Event::Moved { .. });
    assert_eq!(events.iter().filter(moved).count(), 2, "{events:?}");
    assert_eq!(world.endpoint(server).peer_count(), 2);
    // A client that is started again replaces only the connection that is at its address now.
    world.restart(a, Config::default());
    let (_, new) = world.connected(a, server);
    let events = world.take_events(server);
    assert!(matches!(events[..], [Event::Closed { peer, .. }] if peer == to_a), "{events:?}");
    assert_ne!(new, to_a);
    world.endpoint(b).send(from_b, Channel::DATA, &[b"still here"]).unwrap();
    world.run_for(SECOND);
    assert!(matches!(world.take_events(server)[..], [Event::Message { peer, .. }] if peer == to_b));
    // And everything is given back.
    for peer in [new, to_b] {
        let now = world.now();
        world.endpoint(server).close(now, peer, 1, "");
    }
    world.run_for(SECOND * 2);
    assert_eq!((world.endpoint(server).peer_count(), world.endpoint(server).poll_timeout()), (0, None));
}

// ---- those who copy packets ----

#[test]
fn a_copy_that_comes_later_has_no_effect() {
    let mut scene = Scene::default(4);
    let mut copies = Vec::new();
    for _ in 0..1000 {
        scene.step();
        copies.extend(scene.client_packets());
    }
    scene.run_for(MS * 100);
    for bytes in copies {
        scene.inject(attacker(1), bytes);
    }
    scene.run_for(SECOND);
    assert_eq!(scene.bytes_to.get(&attacker(1)), None);
    scene.finish();
    assert_eq!(scene.moved, []);
}

#[test]
fn a_copy_that_overtakes_its_original_detours_a_round_trip_at_most() {
    for (seed, client_sends) in [(5, true), (6, false)] {
        let mut scene = Scene::default(seed);
        scene.client_sends = client_sends;
        scene.run_for(SECOND);
        while scene.client_packets().is_empty() {
            scene.step();
        }
        let start = scene.world.now();
        let copy = scene.client_packets().remove(0);
        scene.inject(attacker(1), copy);
        scene.run_for(SECOND * 2);
        let sent = scene.bytes_to[&attacker(1)];
        assert!(sent > 0 && sent <= 3 * scene.bytes_from[&attacker(1)], "{sent} bytes to the attacker");
        let silence = scene.silence(0, start, start + SECOND * 2);
        assert!(silence <= RTT * 2 + TICK * 2, "{silence:?}");
        scene.finish();
        assert_eq!(scene.moved, []);
    }
}

/// RFC 9000, section 9.3.3: every packet is copied, and every copy comes first. The client's answer to the challenge at
/// its own address shows that it is there, although it comes from the attacker's address.
#[test]
fn an_attacker_who_is_always_faster_gets_nothing() {
    for client_sends in [true, false] {
        let mut scene = Scene::default(7);
        scene.client_sends = client_sends;
        scene.run_for(SECOND);
        let start = scene.world.now();
        let mut silences = 0;
        for _ in 0..20_000 {
            scene.step();
            for copy in scene.client_packets() {
                scene.inject(attacker(1), copy);
            }
            let heard = scene.heard[0].last().copied().unwrap();
            silences += u32::from(scene.world.now() - heard == TICK * 3 / 1000 * 1000 + MS);
        }
        let sent = scene.bytes_to[&attacker(1)];
        assert!(sent <= 3 * scene.bytes_from[&attacker(1)], "{sent} bytes to the attacker");
        let longest = scene.silence(0, start, scene.world.now());
        println!(
            "copied for 20 s: longest silence {longest:?}, {silences} of them, {sent} bytes to the attacker"
        );
        assert!(longest <= RTT * 3 + TICK * 2, "{longest:?}");
        let got = scene.got[0];
        assert!(got + 10 >= scene.sent[1], "{got} of {}", scene.sent[1]);
        scene.finish();
        assert_eq!(scene.moved, []);
    }
}

#[test]
fn a_flood_of_moves_is_bounded_and_nobody_is_sent_more_than_three_times_his_bytes() {
    let mut scene = Scene::default(8);
    scene.run_for(SECOND);
    let mut index = 0;
    for _ in 0..20_000 {
        scene.step();
        for copy in scene.client_packets() {
            index = (index + 1) % 200;
            scene.inject(attacker(index), copy);
        }
    }
    let client = scene.world.addr(scene.client);
    let mut tried = 0;
    for (&addr, &sent) in scene.bytes_to.iter().filter(|(addr, _)| **addr != client) {
        assert!(sent <= 3 * scene.bytes_from[&addr], "{sent} bytes to {addr}");
        tried += 1;
    }
    assert!((4..=9).contains(&tried), "{tried}");
    let stats = scene.world.endpoint(scene.server).stats(scene.there).unwrap();
    assert!(stats.moves_refused > 100, "{stats:?}");
    scene.finish();
    assert_eq!(scene.moved, []);
    // A real move is still possible, only later.
    scene.client_sends = true;
    scene.rebind(other_port());
    scene.run_for(SECOND * 6);
    assert_eq!(scene.moved, [other_port()]);
    scene.finish();
}

/// The server has much to send, and the client says little from where it is now.
#[test]
fn three_times_the_bytes_is_never_exceeded_before_the_proof() {
    for seed in 0..20 {
        let loss = if seed % 2 == 0 { 0.0 } else { 0.1 };
        let mut scene =
            Scene::new(seed, Link { loss, ..Link::default() }, Config::default(), Config::server());
        scene.run_for(SECOND);
        for _ in 0..100 {
            // The scene expects numbers; these come on another channel, and are not looked at.
            let endpoint = scene.world.endpoint(scene.server);
            endpoint
                .send(scene.there, Channel::UNRELIABLE, &[&scene.got[0].to_le_bytes(), &[1; 1000]])
                .unwrap();
        }
        scene.rebind(other_ip());
        // The new address only speaks: its host is gone before anything comes back.
        while scene.client_packets().is_empty() {
            scene.step();
        }
        scene.world.take_down(scene.client);
        (scene.client_sends, scene.server_sends) = (false, false);
        for _ in 0..3000 {
            scene.world.run_for(MS);
            for (_, to, bytes) in scene.world.take_recorded() {
                *scene.bytes_to.entry(to).or_default() += bytes.len();
            }
        }
        let sent = scene.bytes_to.get(&other_ip()).copied().unwrap_or(0);
        assert!(sent <= 3 * scene.bytes_from[&other_ip()], "seed {seed}: {sent}");
        assert!(loss > 0.0 || sent > 0);
    }
}

// ---- the end ----

#[test]
fn a_close_is_heard_wherever_the_client_is() {
    let mut late = 0;
    for seed in 0..60 {
        let loss = [0.0, 0.2, 0.4][seed as usize % 3];
        let mut scene =
            Scene::new(seed, Link { loss, ..Link::default() }, Config::default(), Config::server());
        scene.run_for(SECOND);
        scene.rebind(if seed % 2 == 0 { other_ip() } else { other_port() });
        // Before the server knows of the move, during the trial, and after the proof.
        scene.run_for(MS * [10, 60, 300][seed as usize / 3 % 3]);
        let (now, start) = (scene.world.now(), scene.world.now());
        scene.world.endpoint(scene.server).close(now, scene.there, 9, "the end of a long story");
        while scene.closed[0].is_none() {
            scene.step();
            assert!(scene.world.now() < start + SECOND * 11, "seed {seed}");
        }
        let reason = CloseReason::Remote { code: 9, reason: "the end of a long story".into() };
        if scene.closed[0] == Some(reason) {
            let took = scene.world.now() - start;
            assert!(loss > 0.0 || took <= RTT * 2 + TICK, "seed {seed}: {took:?}");
        } else {
            late += 1;
        }
    }
    // All copies and all answers to late packets were lost.
    assert!(late <= 2, "{late} of 60 only timed out");
}

// ---- the size of datagrams ----

/// Snapshots of the server's: fourteen messages of 200 bytes at each tick. Returns the largest datagram.
fn snapshots(world: &mut World, from: Node, peer: PeerId, ticks: u32, channel: Channel) -> usize {
    let mut longest = 0;
    for _ in 0..ticks {
        for _ in 0..14 {
            world.endpoint(from).send(peer, channel, &[&[3; 200]]).unwrap();
        }
        world.run_for(TICK);
        longest =
            world.take_recorded().iter().map(|(_, _, bytes)| bytes.len()).max().unwrap_or(0).max(longest);
    }
    longest
}

#[test]
fn datagrams_grow_to_what_the_path_carries() {
    for (carries, mtu_max, found) in [
        (65_507, 1472, 1472),
        (1471, 1472, 1440),
        (1300, 1472, 1280),
        (1279, 1472, 1200),
        (65_507, 1200, 1200),
    ] {
        let mut world = World::new(1, Link { bytes_max: carries, ..Link::default() });
        world.record();
        let client = world.add(Config::default());
        let server = world.add(Config { mtu_max, ..Config::server() });
        let (_, there) = world.connected(client, server);
        assert_eq!(world.endpoint(server).stats(there).unwrap().mtu, 1200);
        snapshots(&mut world, server, there, 240, Channel::UNRELIABLE);
        let stats = world.endpoint(server).stats(there).unwrap();
        assert_eq!((stats.mtu, stats.lost), (found, 0), "{carries}");
        let longest = snapshots(&mut world, server, there, 60, Channel::UNRELIABLE);
        assert!(longest <= found && longest + 250 > found, "{carries}: {longest}");
    }
}

#[test]
fn nothing_is_probed_for_those_who_send_little() {
    let mut scene = Scene::default(1);
    let mut longest = 0;
    for _ in 0..5000 {
        scene.step();
        longest = scene.last.iter().map(|(_, _, bytes)| bytes.len()).max().unwrap_or(0).max(longest);
    }
    assert!(longest < 400, "{longest}");
}

#[test]
fn a_black_hole_is_noticed_and_left_behind() {
    let mut world = World::new(2, Link::default());
    world.record();
    let (client, server) = world.pair();
    let (_, there) = world.connected(client, server);
    snapshots(&mut world, server, there, 60, Channel::DATA);
    assert_eq!(world.endpoint(server).stats(there).unwrap().mtu, 1472);
    world.run_for(SECOND);
    world.take_events(client);
    world.link.bytes_max = 1300;
    snapshots(&mut world, server, there, 60, Channel::DATA);
    let stats = world.endpoint(server).stats(there).unwrap();
    assert_eq!(stats.mtu, 1200, "{stats:?}");
    world.run_for(SECOND);
    assert_eq!(world.take_events(client).len(), 14 * 60, "reliable messages");
    // The path carries long datagrams again, which is found out after ten minutes.
    world.link.bytes_max = 65_507;
    world.run_for(SECOND * 590);
    snapshots(&mut world, server, there, 60, Channel::UNRELIABLE);
    assert_eq!(world.endpoint(server).stats(there).unwrap().mtu, 1200);
    world.run_for(SECOND * 10);
    snapshots(&mut world, server, there, 60, Channel::UNRELIABLE);
    assert_eq!(world.endpoint(server).stats(there).unwrap().mtu, 1472);
}

#[test]
fn ordinary_loss_is_no_black_hole() {
    for link in [Link { loss: 0.1, ..Link::default() }, Link::default().bursts(0.1, 3)] {
        let mut world = World::new(3, Link::default());
        let (client, server) = world.pair();
        let (_, there) = world.connected(client, server);
        world.set_link(server, client, Some(link));
        let mut found = 0;
        for _ in 0..60 {
            snapshots(&mut world, server, there, 60, Channel::UNRELIABLE);
            let mtu = world.endpoint(server).stats(there).unwrap().mtu;
            assert!(mtu >= found, "{mtu}");
            found = mtu;
        }
        assert!(found >= 1280, "{found}");
    }
}

#[test]
fn another_ip_begins_at_the_base_and_another_port_does_not() {
    for (to, mtu) in [(other_port(), 1472), (other_ip(), 1200)] {
        let mut scene = Scene::default(4);
        scene.server_sends = false;
        snapshots(&mut scene.world, scene.server, scene.there, 60, Channel::UNRELIABLE);
        scene.world.take_events(scene.client);
        scene.rebind(to);
        scene.run_for(SECOND);
        let stats = scene.world.endpoint(scene.server).stats(scene.there).unwrap();
        assert_eq!((stats.mtu, scene.moved.len()), (mtu, 1));
    }
}
