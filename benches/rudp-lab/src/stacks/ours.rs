//! kaos-rudp itself.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, Config, Congestion, Endpoint, Event, Micros, PeerId, Repeats,
};

use crate::stack::{Delivery, Host, Stack};

/// In addition to the default channels.
const UNORDERED: Channel = match Channel::new(3) {
    Some(channel) => channel,
    None => Channel::DATA,
};

/// kaos-rudp with a channel and changed settings.
pub(crate) struct Ours {
    pub(crate) label: &'static str,
    pub(crate) delivery: Delivery,
    /// Changes the default settings of both sides.
    pub(crate) settings: fn(&mut Config),
}

/// What encrypts its packets by default.
pub(crate) const CIPHER: &str = "AES-256-GCM";

/// No repeats.
pub(crate) const PLAIN: &str = "plain";
/// Each message once more in the next datagram.
pub(crate) const ONE_REPEAT: &str = "one repeat";
/// Two repeats, 30 ms apart, and one after 10 ms without a successor.
pub(crate) const SPACED: &str = "two repeats 30 ms apart, tail 10 ms";
/// Only a repeat after 10 ms without a successor.
pub(crate) const TAIL: &str = "tail repeat 10 ms";

/// The settings that the tables of loss compare.
pub(crate) fn variants() -> Vec<Ours> {
    let ours = |label, settings| Ours { label, delivery: Delivery::Ordered, settings };
    vec![
        Ours::plain(Delivery::Ordered),
        Ours {
            label: "plain, unordered",
            delivery: Delivery::Unordered,
            settings: |config| repeat(config, 0, 0, 0),
        },
        ours("defaults (adaptive repeat)", |_| {}),
        ours(ONE_REPEAT, |config| repeat(config, 1, 0, 0)),
        ours("two repeats", |config| repeat(config, 2, 0, 0)),
        ours(SPACED, |config| repeat(config, 2, 30, 10)),
        ours(TAIL, |config| repeat(config, 0, 0, 10)),
    ]
}

/// Sets the repeats of the reliable channels: how many, how far apart, and after what silence.
fn repeat(config: &mut Config, count: u8, spacing_ms: u64, tail_ms: u64) {
    for channel in (0..32).filter_map(Channel::new) {
        if let Some(channel) = config.channels.get_mut(channel).filter(|channel| channel.kind.is_reliable()) {
            channel.repeats = Repeats::Fixed(count);
            channel.repeat_spacing = Duration::from_millis(spacing_ms);
            channel.tail_repeat = (tail_ms > 0).then_some(Duration::from_millis(tail_ms));
        }
    }
}

/// As fast as possible: more room in the queue, the default window.
pub(crate) fn fast() -> Ours {
    Ours {
        label: "1 MiB queue",
        delivery: Delivery::Ordered,
        settings: |config| {
            config.queue_bytes_max = 1 << 20;
            config.reassembly_bytes_max = 4 << 20;
        },
    }
}

/// The second controller.
pub(crate) fn cubic() -> Ours {
    Ours {
        label: "CUBIC",
        delivery: Delivery::Ordered,
        settings: |config| config.congestion = Congestion::Cubic,
    }
}

impl Ours {
    /// The defaults, without repeats.
    pub(crate) fn plain(delivery: Delivery) -> Ours {
        Ours { label: PLAIN, delivery, settings: |config| repeat(config, 0, 0, 0) }
    }

    fn host(&self, mut config: Config, index: usize, seed: u64) -> OursHost {
        config.channels.set(UNORDERED, ChannelConfig::new(ChannelKind::Unordered));
        (self.settings)(&mut config);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        let channel = match self.delivery {
            Delivery::Ordered => Channel::DATA,
            Delivery::Unordered => UNORDERED,
            Delivery::Unreliable => Channel::UNRELIABLE,
        };
        OursHost {
            endpoint: Endpoint::new(config, bytes),
            channel,
            peers: Vec::new(),
            connected: 0,
            buf: Vec::with_capacity(1500),
        }
    }
}

impl Stack for Ours {
    fn name(&self) -> String {
        format!("**kaos-rudp** {}", self.label)
    }

    fn server(&self, _: Micros, _: SocketAddr, peers: usize, seed: u64) -> Box<dyn Host> {
        let mut config = Config::server();
        config.peers_max = config.peers_max.max(peers);
        config.half_open_max = config.half_open_max.max(peers);
        Box::new(self.host(config, usize::MAX, seed))
    }

    fn client(&self, now: Micros, to: SocketAddr, index: usize, seed: u64) -> Box<dyn Host> {
        let mut host = self.host(Config::default(), index, seed);
        host.peers.extend(host.endpoint.connect(now, to, None));
        Box::new(host)
    }
}

/// The same on the sockets of `kaos_rudp::io`, where sockets are real.
pub(crate) struct Batched(pub(crate) Ours);

impl Stack for Batched {
    fn name(&self) -> String {
        format!("{}, GSO", self.0.name())
    }

    fn is_batched(&self) -> bool {
        true
    }

    fn server(&self, now: Micros, addr: SocketAddr, peers: usize, seed: u64) -> Box<dyn Host> {
        self.0.server(now, addr, peers, seed)
    }

    fn client(&self, now: Micros, to: SocketAddr, index: usize, seed: u64) -> Box<dyn Host> {
        self.0.client(now, to, index, seed)
    }
}

struct OursHost {
    endpoint: Endpoint,
    channel: Channel,
    peers: Vec<PeerId>,
    connected: usize,
    buf: Vec<u8>,
}

impl Host for OursHost {
    fn handle(&mut self, now: Micros, from: SocketAddr, bytes: &mut [u8]) {
        self.endpoint.handle(now, from, bytes);
    }

    fn tick(&mut self, now: Micros) {
        self.endpoint.run_jobs(now);
        self.endpoint.handle_timeout(now);
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Message { bytes, .. } => {
                    message(&bytes);
                    self.endpoint.recycle(bytes);
                }
                Event::Connected { peer, .. } => {
                    self.connected += 1;
                    if !self.peers.contains(&peer) {
                        self.peers.push(peer);
                    }
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, _: Micros, peer: usize, bytes: &[u8]) -> bool {
        self.endpoint.send(self.peers[peer], self.channel, &[bytes]).is_ok()
    }

    fn transmit(&mut self, now: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        while let Some(to) = self.endpoint.poll_transmit(now, &mut self.buf) {
            datagram(to, &self.buf);
        }
    }

    fn next_datagram(&mut self, now: Micros, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.endpoint.poll_transmit(now, buf)
    }

    fn connected(&self) -> usize {
        self.connected
    }
}
