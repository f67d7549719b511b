//! The handshake under attack: tampered, replayed, downgraded, answered by another server, asked for too often.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{fmt::Write, fs, net::SocketAddr, path::PathBuf, time::Duration};

use kaos_rudp::{
    Channel, CloseReason, Config, ConnectError, DATAGRAM_BYTES_MAX, Endpoint, Event, Micros, PeerId,
    PublicKey, SecretKey, Suite, code,
    lab::{Link, World},
};

const SECOND: Duration = Duration::from_secs(1);
const NOW: Micros = Micros(5_000_000);

fn home() -> SocketAddr {
    "10.0.0.1:7352".parse().unwrap()
}

fn away() -> SocketAddr {
    "10.0.0.2:5000".parse().unwrap()
}

fn sent(endpoint: &mut Endpoint) -> Option<Vec<u8>> {
    let mut buf = Vec::new();
    endpoint.poll_transmit(NOW, &mut buf).map(|_| buf)
}

fn is_connected(endpoint: &mut Endpoint) -> bool {
    std::iter::from_fn(|| endpoint.poll_event()).any(|event| matches!(event, Event::Connected { .. }))
}

/// A client and a server side by side, always the same, and the four datagrams of their handshake.
struct Script {
    client: Endpoint,
    server: Endpoint,
    peer: PeerId,
}

impl Script {
    fn new(config: &Config, expected: Option<PublicKey>) -> Script {
        let server = Config { accept: true, ..config.clone() };
        let mut client = Endpoint::new(config.clone(), [2; 32]);
        let peer = client.connect(NOW, home(), expected).unwrap();
        Script { client, server: Endpoint::new(server, [1; 32]), peer }
    }

    /// Runs the handshake. `change` may alter each datagram, by its index: Hello, Retry, Hello, Accept.
    fn run(&mut self, mut change: impl FnMut(usize, &mut Vec<u8>)) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for index in 0..4 {
            let (sender, receiver, from) = match index % 2 {
                0 => (&mut self.client, &mut self.server, away()),
                _ => (&mut self.server, &mut self.client, home()),
            };
            let Some(mut datagram) = sent(sender) else { break };
            all.push(datagram.clone());
            change(index, &mut datagram);
            receiver.handle(NOW, from, &mut datagram);
            receiver.run_jobs(NOW);
        }
        all
    }
}

fn configs() -> [(&'static str, Config); 2] {
    [
        ("aes", Config { aes_hardware: true, ..Config::default() }),
        ("chacha", Config { aes_hardware: false, ..Config::default() }),
    ]
}

/// Fixed seeds, exact bytes. `UPDATE=1` writes the files anew.
#[test]
fn handshakes_are_the_same_byte_for_byte() {
    for (name, config) in configs() {
        let mut text = String::from(
            "# Hello, Retry, Hello, Accept of a client with the seed 2 and a server with the seed 1, each 32 times, at\n# 10.0.0.2:5000 and 10.0.0.1:7352, after five seconds. Trailing zeros are left out.\n",
        );
        for datagram in Script::new(&config, None).run(|_, _| ()) {
            let end = datagram.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            write!(text, "{} ", datagram.len()).unwrap();
            datagram[..end].iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/handshake/{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{path:?}");
    }
}

#[test]
fn no_answer_is_longer_than_its_cause() {
    let lengths: Vec<_> = Script::new(&Config::default(), None).run(|_, _| ()).iter().map(Vec::len).collect();
    assert_eq!(lengths, [1200, 53, 1200, 125]);
}

#[test]
fn a_changed_byte_anywhere_in_the_handshake_is_not_believed() {
    for (_, config) in configs() {
        let whole = Script::new(&config, None).run(|_, _| ());
        assert!(is_connected(&mut {
            let mut script = Script::new(&config, None);
            script.run(|_, _| ());
            script.client
        }));
        for (index, datagram) in whole.iter().enumerate() {
            // After the cookie come zeros that nobody reads.
            let end = if index % 2 == 0 { 81 } else { datagram.len() };
            for at in 0..end {
                // The first has no cookie, and a bad one counts as none.
                if index == 0 && at >= 48 {
                    continue;
                }
                let mut script = Script::new(&config, None);
                script.run(|which, datagram| {
                    if which == index {
                        datagram[at] ^= 1 << (at % 8);
                    }
                });
                assert!(!is_connected(&mut script.client), "byte {at} of datagram {index}");
                assert!(!is_connected(&mut script.server), "byte {at} of datagram {index}");
            }
        }
        // Cut at any length.
        for length in 0..whole[3].len() {
            let mut script = Script::new(&config, None);
            script.run(|which, datagram| {
                if which == 3 {
                    datagram.truncate(length)
                }
            });
            assert!(!is_connected(&mut script.client));
        }
    }
}

/// Someone on the path makes the client look older, or slower, in both Hellos and consistently.
#[test]
fn nobody_talks_two_sides_into_less_than_both_can() {
    let config = Config { version_max: 9, aes_hardware: true, ..Config::default() };
    for (at, value) in [(5, 0), (6, 1), (6, 8), (7, 0x04), (7, 0x02), (7, 0x86), (7, 0xff)] {
        let mut script = Script::new(&config, None);
        let all = script.run(|which, datagram| {
            if which % 2 == 0 {
                datagram[at] = value;
            }
        });
        assert_eq!(all.len(), 4, "the server suspects nothing: {at} {value}");
        assert!(!is_connected(&mut script.client), "byte {at} as {value}");
    }
    // Nor in the readable part of the Accept.
    for (at, value) in [(5, 2), (6, 0x04), (6, 0x01), (6, 0x80)] {
        let mut script = Script::new(&config, None);
        script.run(|which, datagram| {
            if which == 3 {
                datagram[at] = value
            }
        });
        assert!(!is_connected(&mut script.client), "byte {at} as {value}");
    }
}

#[test]
fn an_accept_is_good_for_its_own_hello_only() {
    let config = Config::default();
    let old = Script::new(&config, None).run(|_, _| ());
    let mut client = Endpoint::new(config.clone(), [3; 32]);
    client.connect(NOW, home(), None).unwrap();
    client.handle(NOW, home(), &mut old[3].clone());
    assert!(!is_connected(&mut client));
    // And again after it opened the connection.
    let mut script = Script::new(&config, None);
    script.run(|_, _| ());
    assert!(is_connected(&mut script.client));
    let before = script.client.stats(script.peer).unwrap();
    script.client.handle(NOW, home(), &mut old[3].clone());
    assert!(!is_connected(&mut script.client));
    assert_eq!(script.client.stats(script.peer).unwrap().suite, before.suite);
}

#[test]
fn another_key_than_the_expected_ends_the_attempt() {
    let mut world = World::new(1, Link::default());
    let (client, server) = world.pair();
    let (found, expected) = (world.endpoint(server).public_key(), SecretKey::from_bytes([9; 32]).public());
    let (now, addr) = (world.now(), world.addr(server));
    let peer = world.endpoint(client).connect(now, addr, Some(expected)).unwrap();
    world.endpoint(client).send(peer, Channel::DATA, &[b"a secret"]).unwrap();
    world.run_for(SECOND);
    let reason = CloseReason::WrongKey { expected, found };
    assert!(reason.to_string().contains(&expected.to_string()));
    assert_eq!(world.take_events(client), [Event::Closed { peer, reason }]);
    world.run_for(SECOND * 10);
    assert_eq!(world.take_events(server), []);
    // With the right key it works.
    let (now, key) = (world.now(), Some(found));
    world.endpoint(client).connect(now, addr, key).unwrap();
    world.run_for(SECOND);
    assert!(
        matches!(world.take_events(client)[..], [Event::Connected { server_key, .. }] if server_key == key)
    );
}

#[test]
fn a_faster_impostor_does_not_keep_the_right_server_from_answering() {
    let config = Config { secret_key: Some(SecretKey::from_bytes([4; 32])), ..Config::server() };
    let key = config.secret_key.as_ref().unwrap().public();
    let mut client = Endpoint::new(Config::default(), [2; 32]);
    client.connect(NOW, home(), Some(key)).unwrap();
    let mut impostor = Endpoint::new(Config::server(), [1; 32]);
    let mut server = Endpoint::new(config, [1; 32]);
    assert_eq!(server.public_key(), key);
    // Both see the Hellos and answer as the server. Since they have the same seed, they even give the same cookie.
    for _ in 0..2 {
        let hello = sent(&mut client).unwrap();
        for acceptor in [&mut impostor, &mut server] {
            acceptor.handle(NOW, away(), &mut hello.clone());
            acceptor.run_jobs(NOW);
            client.handle(NOW, home(), &mut sent(acceptor).unwrap());
        }
    }
    let event = client.poll_event();
    assert!(
        matches!(event, Some(Event::Connected { server_key, .. }) if server_key == Some(key)),
        "{event:?}"
    );
}

#[test]
fn plaintext_stays_on_loopback_and_both_must_ask_for_it() {
    let plaintext = Config { plaintext: true, ..Config::default() };
    let mut client = Endpoint::new(plaintext.clone(), [1; 32]);
    let error = client.connect(NOW, home(), None);
    assert_eq!(error, Err(ConnectError::PlaintextOffLoopback(home())));
    assert!(client.connect(NOW, "[::ffff:10.0.0.1]:1".parse().unwrap(), None).is_err());
    let none = Config { suites: &[Suite::Plaintext], ..Config::default() };
    assert_eq!(Endpoint::new(none, [1; 32]).connect(NOW, home(), None), Err(ConnectError::NoSuite));

    let local: SocketAddr = "127.0.0.1:7352".parse().unwrap();
    let refusal = |client: &Config, server: &Config, from: SocketAddr| {
        let mut client = Endpoint::new(client.clone(), [2; 32]);
        let mut server = Endpoint::new(Config { accept: true, ..server.clone() }, [1; 32]);
        let peer = client.connect(NOW, local, None).unwrap();
        client.send(peer, Channel::DATA, &[b"readable by everybody"]).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut all = Vec::new();
            while let Some(hello) = sent(&mut client) {
                all.push(hello);
            }
            for mut datagram in all {
                seen.push(datagram.clone());
                server.handle(NOW, from, &mut datagram);
            }
            server.run_jobs(NOW);
            while let Some(mut answer) = sent(&mut server) {
                client.handle(NOW, local, &mut answer);
            }
        }
        let readable = seen.iter().any(|bytes| bytes.windows(8).any(|part| part == b"readable"));
        match client.poll_event().unwrap() {
            Event::Closed { reason: CloseReason::Refused { code, .. }, .. } => Err(code),
            Event::Connected { .. } => Ok((client.stats(peer).unwrap().suite.unwrap(), readable)),
            other => panic!("{other:?}"),
        }
    };
    let encrypted = Config { aes_hardware: true, ..Config::default() };
    assert_eq!(refusal(&plaintext, &plaintext, local), Ok((Suite::Plaintext, true)));
    assert_eq!(refusal(&encrypted, &encrypted, local), Ok((Suite::Aes256Gcm, false)));
    assert_eq!(refusal(&plaintext, &plaintext, away()), Err(code::NO_SUITE));
    assert_eq!(refusal(&plaintext, &encrypted, local), Err(code::NO_SUITE));
    assert_eq!(refusal(&encrypted, &plaintext, local), Err(code::NO_SUITE));
}

#[test]
fn an_address_gets_so_many_handshakes_and_others_theirs() {
    let config = Config { handshake_burst: 5, handshake_interval: SECOND, ..Config::server() };
    let mut server = Endpoint::new(config, [1; 32]);
    let try_from = |server: &mut Endpoint, seed: u8, from: SocketAddr| {
        let mut client = Endpoint::new(Config::default(), [seed; 32]);
        client.connect(NOW, home(), None).unwrap();
        for _ in 0..2 {
            server.handle(NOW, from, &mut sent(&mut client).unwrap());
            server.run_jobs(NOW);
            match sent(server) {
                Some(mut answer) => client.handle(NOW, home(), &mut answer),
                None => return false,
            }
        }
        is_connected(&mut client)
    };
    // Another port is the same address.
    let taken: Vec<_> = (0..20)
        .filter(|&n| try_from(&mut server, n + 1, SocketAddr::from(([10, 9, 9, 9], 5000 + u16::from(n)))))
        .collect();
    assert_eq!(taken, [0, 1, 2, 3, 4]);
    assert_eq!((server.totals().limited, server.totals().jobs), (15, 5));
    assert!(try_from(&mut server, 100, away()));
}

#[test]
fn jobs_may_take_their_time() {
    for seed in 0..20 {
        let link = Link { loss: 0.1, duplicate: 0.5, reorder: 0.5, ..Link::default() };
        let mut world = World::new(seed, link);
        // Longer than a client waits before it repeats its Hello, which must not become a second job.
        world.job_time = Duration::from_millis(900);
        let (client, server) = world.pair();
        world.connect(client, server);
        world.run_for(SECOND * 5);
        assert_eq!(world.endpoint(server).totals().jobs, 1, "seed {seed}");
        assert!(matches!(world.take_events(server)[..], [Event::Connected { .. }]), "seed {seed}");
    }
}

#[test]
fn jobs_are_bounded_and_those_of_peers_that_are_gone_are_not_done() {
    let mut server = Endpoint::new(Config { half_open_max: 10, ..Config::server() }, [1; 32]);
    let ask = |server: &mut Endpoint, seed: u8, from: SocketAddr| {
        let mut client = Endpoint::new(Config::default(), [seed; 32]);
        client.connect(NOW, home(), None).unwrap();
        server.handle(NOW, from, &mut sent(&mut client).unwrap());
        client.handle(NOW, home(), &mut sent(server).unwrap());
        server.handle(NOW, from, &mut sent(&mut client).unwrap());
    };
    for seed in 1..50 {
        ask(&mut server, seed, SocketAddr::from(([10, 1, 1, seed], 5000)));
    }
    assert_eq!((server.totals().jobs, server.totals().dropped), (10, 39));
    // Their peers time out before anybody does the work. When it is done nevertheless, nobody is there to take it.
    let job = server.poll_job().unwrap();
    let late = job.run();
    server.handle_timeout(NOW + SECOND * 6);
    assert!(server.poll_job().is_none());
    server.finish_job(NOW + SECOND * 6, late);
    assert_eq!((server.poll_timeout(), sent(&mut server)), (None, None));
    // A client that begins anew again and again from one address has one half-open peer at most.
    for seed in 51..100 {
        ask(&mut server, seed, away());
    }
    assert_eq!(std::iter::from_fn(|| server.poll_job()).count(), 1);
}

#[test]
fn datagrams_longer_than_any_may_be_are_dropped_unread() {
    let mut script = Script::new(&Config::default(), None);
    script.run(|_, datagram| datagram.resize(DATAGRAM_BYTES_MAX + 1, 0));
    assert!(!is_connected(&mut script.client));
    assert_eq!((script.server.totals().unknown, script.server.totals().retries), (1, 0));
}

/// A server that has nothing to say: no packet of its own asks for an acknowledgement.
#[test]
fn a_side_that_only_acknowledges_changes_its_keys_too() {
    let mut world = World::new(1, Link { loss: 0.05, ..Link::default() });
    let client = world.add(Config::default());
    let server = world.add(Config { key_packets: 50, ..Config::server() });
    let (here, there) = world.connected(client, server);
    for _ in 0..60 * 60 {
        world.endpoint(client).send(here, Channel::UNRELIABLE, &[&[1; 64]]).unwrap();
        world.run_for(Duration::from_millis(16));
    }
    let stats = world.endpoint(server).stats(there).unwrap();
    assert!(stats.packets_out > 400 && stats.key_changes >= stats.packets_out / 75, "{stats:?}");
    assert!(stats.rejected < 3 && stats.packets_in > 3_000, "{stats:?}");
}

/// Keys change every few packets, on a network that loses, doubles, reorders and corrupts.
#[test]
fn keys_change_again_and_again_and_nothing_is_lost() {
    for (seed, aes_hardware) in [(1, true), (2, false), (3, true)] {
        let link = Link {
            loss: 0.05,
            duplicate: 0.05,
            reorder: 0.1,
            corrupt: 0.02,
            jitter: Duration::from_millis(10),
            ..Link::default()
        };
        let config = Config { key_packets: 7, aes_hardware, ..Config::default() };
        let mut world = World::new(seed, link);
        let (client, server) = (world.add(config.clone()), world.add(Config { accept: true, ..config }));
        let (here, there) = world.connected(client, server);
        let mut got = [0u32, 0];
        for round in 0..3_000u32 {
            world.endpoint(client).send(here, Channel::DATA, &[&round.to_le_bytes()]).unwrap();
            world.endpoint(server).send(there, Channel::DATA, &[&round.to_le_bytes()]).unwrap();
            world.run_for(Duration::from_millis(if round == 2_999 { 3_000 } else { 10 }));
            for (node, got) in [client, server].into_iter().zip(&mut got) {
                for event in world.take_events(node) {
                    match event {
                        Event::Message { bytes, .. } => {
                            assert_eq!(bytes[..], got.to_le_bytes(), "seed {seed}");
                            *got += 1;
                        }
                        Event::Connected { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(got, [3_000, 3_000]);
        for (node, peer) in [(client, here), (server, there)] {
            let stats = world.endpoint(node).stats(peer).unwrap();
            // Both directions, each at most once in little more than a round trip: 30 s at 60 to 100 ms.
            assert!(stats.key_changes > 300, "seed {seed}: {stats:?}");
        }
    }
}

/// The packet that shows the change is forged or lost: the old keys stay in use.
#[test]
fn a_forged_phase_changes_nothing() {
    let mut world = World::new(5, Link::default());
    world.record();
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    world.take_recorded();
    for _ in 0..200 {
        world.endpoint(client).send(here, Channel::DATA, &[b"hello"]).unwrap();
        world.run_for(Duration::from_millis(20));
        for (from, to, mut bytes) in world.take_recorded() {
            if from == world.addr(client) {
                bytes[0] ^= 0x20;
                world.inject(from, to, bytes);
            }
        }
    }
    world.run_for(SECOND);
    let stats = world.endpoint(server).stats(there).unwrap();
    assert_eq!((stats.key_changes, stats.rejected >= 200), (0, true));
    let said = world.take_events(server);
    assert_eq!(said.iter().filter(|event| matches!(event, Event::Message { .. })).count(), 200);
    assert_eq!(world.endpoint(client).stats(here).unwrap().lost, 0);
}
