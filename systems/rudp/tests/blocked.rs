//! Sockets that are full: datagrams wait, and nobody spins.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests, too.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, Config, Endpoint, Event, Micros, PeerId, Repeats,
    lab::{Link, Network, Rng},
};

const MS: Duration = Duration::from_millis(1);

/// An endpoint and its socket, which may take no more datagrams for a while.
struct Host {
    addr: SocketAddr,
    endpoint: Endpoint,
    peer: Option<PeerId>,
    blocked_until: Micros,
    got: u64,
}

impl Host {
    fn new(last: u8, config: Config) -> Host {
        let addr = SocketAddr::from(([10, 0, 0, last], 7352));
        Host {
            addr,
            endpoint: Endpoint::new(config, [last; 32]),
            peer: None,
            blocked_until: Micros::ZERO,
            got: 0,
        }
    }

    /// What a thread does when it wakes up. If only a timer woke it, nothing may wake it again at once.
    fn turn(&mut self, now: Micros, is_news: bool, net: &mut Network, buf: &mut Vec<u8>, rng: &mut Rng) {
        self.endpoint.run_jobs(now);
        self.endpoint.handle_timeout(now);
        let next = self.endpoint.poll_timeout();
        assert!(is_news || next.is_none_or(|next| next > now), "{next:?} lies in the past at {now:?}");
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Connected { peer, .. } => self.peer = Some(peer),
                Event::Message { .. } => self.got += 1,
                Event::Writable { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        while self.blocked_until <= now {
            let Some(to) = self.endpoint.poll_transmit(now, buf) else { break };
            net.send(now, self.addr, to, buf);
            // Now and then it is full in the middle of a batch.
            if rng.chance(0.02) {
                self.blocked_until = now + Duration::from_micros(rng.below(60_000));
            }
        }
    }
}

/// Both sides send on channels of all sorts, and wake up only when a datagram comes, a timer asks for it, the
/// application sends or the socket has room again.
fn run(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut config = Config::default();
    for (number, kind, repeats) in
        [(3, ChannelKind::Ordered, 2), (4, ChannelKind::Unordered, 3), (5, ChannelKind::Unreliable, 0)]
    {
        let (spacing, tail) = (MS * rng.below(40) as u32, MS * rng.below(20) as u32);
        config.channels.set(
            Channel::new(number).unwrap(),
            ChannelConfig {
                repeats: Repeats::Fixed(repeats),
                repeat_spacing: spacing,
                tail_repeat: Some(tail),
                lifetime: (number == 4).then_some(MS * 100),
                ..ChannelConfig::new(kind)
            },
        );
    }
    let link = Link {
        loss: 0.05,
        reorder: 0.05,
        bytes_per_second: [0, 250_000][rng.below(2) as usize],
        ..Link::default()
    };
    let (mut net, mut buf) = (Network::new(seed, link), Vec::new());
    let mut hosts = [Host::new(1, Config { accept: true, ..config.clone() }), Host::new(2, config.clone())];
    let mut now = Micros::from_millis(1_000);
    let (end, mut send_at) = (now + MS * 5_000, now);
    let home = hosts[0].addr;
    hosts[1].peer = Some(hosts[1].endpoint.connect(now, home, None).unwrap());
    while now < end {
        let mut is_news = false;
        while let Some(mut datagram) = net.deliver(now) {
            let host = hosts.iter_mut().find(|host| host.addr == datagram.to).unwrap();
            host.endpoint.handle(now, datagram.from, &mut datagram.bytes);
            is_news = true;
        }
        if send_at <= now {
            (send_at, is_news) = (now + Duration::from_micros(rng.below(30_000)), true);
            let host = &mut hosts[rng.below(2) as usize];
            for _ in 0..rng.below(6) {
                let channel = Channel::new(rng.below(6) as u8).unwrap();
                let length = if rng.chance(0.2) { rng.below(8_000) } else { rng.below(200) };
                if let Some(peer) = host.peer {
                    // Full queues are part of the test.
                    let _ = host.endpoint.send(peer, channel, &[&vec![1; length as usize]]);
                }
            }
        }
        for host in &mut hosts {
            host.turn(now, is_news, &mut net, &mut buf, &mut rng);
        }
        let timers = hosts.iter().filter_map(|host| host.endpoint.poll_timeout());
        let room = hosts.iter().map(|host| host.blocked_until).filter(|&at| at > now);
        now = timers
            .chain(room)
            .chain(net.next_arrival())
            .chain([send_at])
            .min()
            .unwrap()
            .max(now + Duration::from_micros(1));
    }
    hosts[0].got.min(hosts[1].got)
}

#[test]
fn a_full_socket_makes_nobody_spin() {
    for seed in 0..60 {
        let got = run(seed);
        assert!(got > 100, "seed {seed}: {got}");
    }
}
