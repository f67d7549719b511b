//! Real sockets on loopback, with every backend in every case.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use kaos_rudp::{
    Channel, CloseReason, Config, Endpoint, Event, Micros,
    io::{Backend, Flow, Options, Socket, tokio::Driver},
    lab::Rng,
};

/// A test that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Real sockets need real time, which only decides whether a test hangs.
fn now() -> Micros {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Micros(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000)
}

/// When a test that begins now has failed.
fn deadline() -> Micros {
    now() + TIME_MAX
}

fn options(backend: Backend) -> Options {
    Options {
        backend,
        receive_buffer_bytes: Some(4 << 20),
        send_buffer_bytes: Some(4 << 20),
        ..Options::default()
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A socket on a free port of a loopback address.
fn bound(backend: Backend, ip: IpAddr) -> Socket {
    Socket::bind((ip, 0).into(), &options(backend)).expect("loopback")
}

/// Both backends on both sides.
fn each(case: impl Fn(Backend, Backend)) {
    for from in [Backend::Batched, Backend::Plain] {
        for to in [Backend::Batched, Backend::Plain] {
            case(from, to);
        }
    }
}

fn send_all(socket: &mut Socket, datagrams: &[(SocketAddr, Vec<u8>)]) {
    let mut left = datagrams.iter();
    let mut poll = |buf: &mut Vec<u8>| {
        buf.clear();
        let (to, bytes) = left.next()?;
        buf.extend_from_slice(bytes);
        Some(*to)
    };
    while socket.transmit_with(&mut poll) == Flow::Blocked {
        std::hint::spin_loop();
    }
}

fn receive_some(socket: &mut Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (deadline, mut came) = (deadline(), Vec::new());
    while came.len() < count && now() < deadline {
        let read = socket.receive(64, |from, datagram| came.push((from, datagram.to_vec())));
        assert!(read.is_ok(), "{read:?}");
    }
    came
}

#[test]
fn segments_arrive_as_they_were() {
    for ip in [V4, V6] {
        each(|from, to| {
            let mut rng = Rng::new(7);
            let (mut sender, mut first, mut second) = (bound(from, ip), bound(to, ip), bound(to, ip));
            let (here, targets) =
                (sender.local_addr().unwrap(), [first.local_addr().unwrap(), second.local_addr().unwrap()]);
            // Runs of equal lengths with a shorter end, mixed with anything.
            let mut datagrams = Vec::new();
            while datagrams.len() < 400 {
                let (to, length) = (targets[rng.below(2) as usize], 1 + rng.below(1472) as usize);
                for _ in 0..rng.below(90) {
                    datagrams.push((to, length));
                }
                datagrams.push((to, 1 + rng.below(length as u64) as usize));
            }
            let datagrams: Vec<_> = datagrams
                .into_iter()
                .map(|(to, length)| {
                    let mut bytes = vec![0; length];
                    rng.fill(&mut bytes);
                    (to, bytes)
                })
                .collect();
            // In parts that fit into the smallest usual receive buffer (208 KiB), with what the system adds.
            for part in datagrams.chunks(50) {
                send_all(&mut sender, part);
                for (target, socket) in targets.iter().zip([&mut first, &mut second]) {
                    let expected: Vec<_> = part.iter().filter(|(to, _)| to == target).collect();
                    let came = receive_some(socket, expected.len());
                    assert_eq!(came.len(), expected.len(), "{from:?} to {to:?}");
                    for ((source, got), (_, sent)) in came.iter().zip(expected) {
                        assert!(*source == here && got == sent, "{from:?} to {to:?}");
                    }
                }
            }
            let counters = sender.counters();
            assert_eq!(counters.datagrams_out, datagrams.len() as u64);
            assert_eq!(
                counters.datagrams_out,
                first.counters().datagrams_in + second.counters().datagrams_in
            );
            if sender.features().segments_out_max > 1 {
                assert!(counters.writes * 4 < counters.datagrams_out, "{counters:?}");
            } else {
                assert_eq!(counters.writes, counters.datagrams_out);
            }
        });
    }
}

#[test]
fn a_read_is_bounded_and_says_whether_more_waits() {
    for backend in [Backend::Batched, Backend::Plain] {
        let (mut sender, mut receiver) = (bound(Backend::Plain, V4), bound(backend, V4));
        let to = receiver.local_addr().unwrap();
        let datagrams: Vec<_> = (0..100).map(|n| (to, vec![n; 100])).collect();
        send_all(&mut sender, &datagrams);
        let intake = receiver.receive(10, |_, _| {}).unwrap();
        assert!(intake.more && (10..100).contains(&intake.datagrams), "{intake:?}");
        let rest = receiver.receive(1000, |_, _| {}).unwrap();
        assert_eq!((rest.datagrams + intake.datagrams, rest.more), (100, false));
        let none = receiver.receive(1000, |_, _| {}).unwrap();
        assert_eq!((none.datagrams, none.more), (0, false));
    }
}

#[test]
fn a_datagram_longer_than_any_path_is_lost_and_no_error() {
    for backend in [Backend::Batched, Backend::Plain] {
        let (mut sender, mut receiver) = (bound(backend, V4), bound(Backend::Plain, V4));
        let to = receiver.local_addr().unwrap();
        send_all(&mut sender, &[(to, vec![1; 70_000]), (to, vec![2; 100])]);
        assert_eq!(receive_some(&mut receiver, 1), [(sender.local_addr().unwrap(), vec![2; 100])]);
        assert_eq!((sender.counters().too_long, sender.counters().datagrams_out), (1, 1));
        assert!(sender.take_error().is_none());
    }
}

#[test]
fn nothing_is_fallen_back_to_silently() {
    let plain = bound(Backend::Plain, V4).features();
    assert_eq!((plain.backend, plain.segments_out_max, plain.segments_in_max), (Backend::Plain, 1, 1));
    assert!(plain.may_fragment && plain.fallback.is_none());
    assert_eq!(plain.mtu_max(), kaos_rudp::DATAGRAM_BYTES_BASE);
    let auto = bound(Backend::Auto, V4).features();
    assert_eq!(auto.fallback.is_some(), auto.backend == Backend::Plain, "{auto:?}");
    let mut auto = bound(Backend::Auto, V4);
    assert_eq!(auto.take_notice(), auto.features().fallback);
    assert_eq!(auto.take_notice(), None);
    let options = Options { segmented: false, ..options(Backend::Batched) };
    let single = Socket::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap();
    assert_eq!(single.features().segments_out_max, 1);
    assert!(single.features().fallback.is_none());
}

/// An endpoint on a socket.
struct Node {
    socket: Socket,
    endpoint: Endpoint,
    events: Vec<Event>,
}

impl Node {
    fn new(backend: Backend, ip: IpAddr, config: Config, seed: u8) -> Node {
        Node { socket: bound(backend, ip), endpoint: Endpoint::new(config, [seed; 32]), events: Vec::new() }
    }

    fn pump(&mut self, now: Micros) {
        let Node { socket, endpoint, events } = self;
        let read = socket.receive(256, |from, datagram| endpoint.handle(now, from, datagram));
        assert!(read.is_ok(), "{read:?}");
        endpoint.run_jobs(now);
        endpoint.handle_timeout(now);
        events.extend(std::iter::from_fn(|| endpoint.poll_event()));
        let _kept = socket.transmit(endpoint, now);
    }
}

#[test]
fn endpoints_talk_over_every_backend() {
    for ip in [V4, V6] {
        each(|from, to| {
            let deadline = deadline();
            let mut client = Node::new(from, ip, Config::default(), 1);
            let mut server = Node::new(to, ip, Config::server(), 2);
            let home = server.socket.local_addr().unwrap();
            let peer = client.endpoint.connect(now(), home, None).unwrap();
            let messages: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; 30_000]).collect();
            for message in &messages {
                client.endpoint.send(peer, Channel::DATA, &[message]).unwrap();
            }
            let got = |node: &Node| -> Vec<Vec<u8>> {
                let message = |event: &Event| match event {
                    Event::Message { bytes, .. } => Some(bytes.to_vec()),
                    _ => None,
                };
                node.events.iter().filter_map(message).collect()
            };
            while got(&server).len() < messages.len() && now() < deadline {
                client.pump(now());
                server.pump(now());
            }
            assert!(got(&server) == messages, "{from:?} to {to:?}");
            client.endpoint.close_after_flush(now(), peer, 3, "done");
            let is_over = |node: &Node| matches!(node.events.last(), Some(Event::Closed { .. }));
            while !(is_over(&server) && is_over(&client)) && now() < deadline {
                client.pump(now());
                server.pump(now());
            }
            assert!(is_over(&server) && is_over(&client));
        });
    }
}

mod on_tokio {
    use super::*;

    /// Answers every message with itself, until the first peer is gone.
    async fn echo(mut driver: Driver) -> CloseReason {
        loop {
            match driver.next(now).await.expect("loopback") {
                Event::Message { peer, channel, bytes } => {
                    driver.endpoint.send(peer, channel, &[&bytes]).expect("room");
                }
                Event::Closed { reason, .. } => return reason,
                _ => {}
            }
        }
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(TIME_MAX, future).await.expect("in time")
    }

    #[tokio::test]
    async fn drivers_talk_and_close() {
        for backend in [Backend::Batched, Backend::Plain] {
            let socket = bound(backend, V4);
            let home = socket.local_addr().unwrap();
            let server = Driver::new(socket, Endpoint::new(Config::server(), [2; 32])).unwrap();
            let echo = tokio::spawn(echo(server));
            let options = options(backend);
            let (mut client, peer) =
                Driver::dial(now(), home, None, Config::default(), [1; 32], &options).unwrap();
            assert!(matches!(within(client.next(now)).await, Ok(Event::Connected { .. })));
            for n in 0..50u8 {
                let sent = vec![n; 1 + usize::from(n) * 400];
                client.endpoint.send(peer, Channel::DATA, &[&sent]).unwrap();
                match within(client.next(now)).await {
                    Ok(Event::Message { bytes, .. }) => assert!(bytes == sent),
                    other => panic!("{other:?}"),
                }
            }
            within(client.close(now, peer, 7, "bye")).await;
            let reason = within(echo).await.unwrap();
            assert_eq!(reason, CloseReason::Remote { code: 7, reason: "bye".to_owned() });
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told_of() {
        // A port that was free a moment ago.
        let home = bound(Backend::Plain, V4).local_addr().unwrap();
        let (mut client, _) =
            Driver::dial(now(), home, None, Config::default(), [1; 32], &Options::client()).unwrap();
        let error = within(client.next(now)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
