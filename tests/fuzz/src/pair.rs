//! Two endpoints in one process: the bytes say who sends what, which datagrams arrive, and how time passes.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use kaos_rudp::{
    Channel, ChannelConfig, ChannelKind, CloseReason, Config, Endpoint, Event, Micros, PeerId, SendError,
};

/// One channel of each kind, and an ordered one whose messages are given up after 50 ms.
const KINDS: [(ChannelKind, Option<Duration>); 5] = [
    (ChannelKind::Ordered, None),
    (ChannelKind::Sequenced, None),
    (ChannelKind::Unordered, None),
    (ChannelKind::Unreliable, None),
    (ChannelKind::Ordered, Some(Duration::from_millis(50))),
];

/// What one end sent on a channel, and what of it arrived.
#[derive(Default)]
struct Sent {
    count: u64,
    /// The number after the largest that arrived.
    next: u64,
    /// Those that have not arrived, on a channel where order does not tell it.
    missing: BTreeSet<u64>,
}

impl Sent {
    /// Holds message `number` against the promise of the channel.
    fn arrived(&mut self, kind: (ChannelKind, Option<Duration>), number: u64) {
        assert!(number < self.count, "{kind:?}: a message that was never sent");
        match kind {
            (ChannelKind::Ordered, None) => assert_eq!(number, self.next, "once and in order"),
            (ChannelKind::Ordered, Some(_)) | (ChannelKind::Sequenced, _) => {
                assert!(number >= self.next, "{kind:?}: newer than all before");
            }
            (ChannelKind::Unordered | ChannelKind::Unreliable, _) => {
                assert!(self.missing.remove(&number), "{kind:?}: once");
            }
        }
        self.next = self.next.max(number + 1);
    }

    fn is_whole(&self, kind: (ChannelKind, Option<Duration>)) -> bool {
        match kind {
            (ChannelKind::Ordered, None) => self.next == self.count,
            (ChannelKind::Unordered, _) => self.missing.is_empty(),
            _ => true,
        }
    }
}

struct End {
    endpoint: Endpoint,
    addr: SocketAddr,
    peer: Option<PeerId>,
    sent: [Sent; 5],
    blocked: bool,
    closed: Option<CloseReason>,
}

struct Pair {
    ends: [End; 2],
    /// Under way: the index of the end that it is for, and the datagram.
    flights: VecDeque<(usize, Vec<u8>)>,
    now: Micros,
    buf: Vec<u8>,
}

/// Under way at once; what comes on top is lost.
const FLIGHTS_MAX: usize = 64;
const QUEUE_BYTES_MAX: usize = 64 * 1024;
const UNRELIABLE_BYTES_MAX: usize = 32 * 1024;

/// Plays `bytes`: each byte is an action (three bits) and its argument (five).
pub(crate) fn run(bytes: &[u8]) {
    let mut pair = Pair::connected();
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        let argument = usize::from(byte & 31);
        match byte >> 5 {
            from @ 0..=1 => {
                let length = bytes.next().map_or(0, |&length| usize::from(length) * (1 + argument / 5 * 3));
                pair.send(usize::from(from), argument % 5, length);
            }
            2 => pair.pass(Duration::from_micros((argument as u64 + 1).pow(2) * 100)),
            from @ 3..=4 => pair.transmit(usize::from(from) - 3),
            5 => pair.deliver(argument),
            6 => drop(pair.flight(argument)),
            _ if argument == 31 => pair.rebind(),
            _ if argument.is_multiple_of(2) => pair.double(argument),
            _ => pair.corrupt(argument, bytes.next().map_or(0, |&at| usize::from(at))),
        }
        pair.check();
    }
    pair.calm_down();
    pair.end();
}

impl Pair {
    fn connected() -> Pair {
        let mut config = Config {
            queue_bytes_max: QUEUE_BYTES_MAX,
            message_bytes_max: 20_000,
            unreliable_bytes_max: UNRELIABLE_BYTES_MAX,
            idle_timeout: Duration::from_secs(3600),
            ..Config::default()
        };
        for (number, (kind, lifetime)) in (1..).zip(KINDS) {
            let channel = Channel::new(number).expect("under 32");
            config.channels.set(channel, ChannelConfig { lifetime, ..ChannelConfig::new(kind) });
        }
        let end = |accept, last| End {
            endpoint: Endpoint::new(Config { accept, ..config.clone() }, [last; 32]),
            addr: SocketAddr::from(([127, 0, 0, last], 7352)),
            peer: None,
            sent: Default::default(),
            blocked: false,
            closed: None,
        };
        let mut pair = Pair {
            ends: [end(false, 1), end(true, 2)],
            flights: VecDeque::new(),
            now: Micros::from_millis(1),
            buf: Vec::new(),
        };
        let server = pair.ends[1].addr;
        let key = pair.ends[1].endpoint.public_key();
        let peer = pair.ends[0].endpoint.connect(pair.now, server, Some(key));
        pair.ends[0].peer = Some(peer.expect("nothing stands against it"));
        for _ in 0..10 {
            pair.exchange();
        }
        assert!(pair.ends[1].peer.is_some(), "a clean network connects");
        pair
    }

    fn send(&mut self, from: usize, kind: usize, length: usize) {
        let end = &mut self.ends[from];
        let Some(peer) = end.peer else { return };
        let number = end.sent[kind].count;
        let padding = vec![number as u8; length];
        let channel = Channel::new(kind as u8 + 1).expect("under 32");
        match end.endpoint.send(peer, channel, &[&number.to_le_bytes(), &padding]) {
            Ok(()) => {
                end.sent[kind].count += 1;
                end.sent[kind].missing.insert(number);
            }
            Err(SendError::WouldBlock) => end.blocked = true,
            Err(error) => panic!("{error}"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for end in &mut self.ends {
            end.endpoint.handle_timeout(self.now);
            end.endpoint.run_jobs(self.now);
        }
    }

    fn transmit(&mut self, from: usize) {
        while self.ends[from].endpoint.poll_transmit(self.now, &mut self.buf).is_some() {
            if self.flights.len() < FLIGHTS_MAX {
                self.flights.push_back((1 - from, self.buf.clone()));
            }
        }
    }

    fn flight(&mut self, index: usize) -> Option<(usize, Vec<u8>)> {
        let count = self.flights.len();
        if count == 0 { None } else { self.flights.remove(index % count) }
    }

    fn deliver(&mut self, index: usize) {
        if let Some((to, mut datagram)) = self.flight(index) {
            let from = self.ends[1 - to].addr;
            self.ends[to].endpoint.handle(self.now, from, &mut datagram);
        }
    }

    fn double(&mut self, index: usize) {
        let count = self.flights.len();
        if (1..FLIGHTS_MAX).contains(&count) {
            self.flights.push_back(self.flights[index % count].clone());
        }
    }

    /// The client's router gives it another port; what is under way from the old one arrives from the new one.
    fn rebind(&mut self) {
        let port = self.ends[0].addr.port();
        self.ends[0].addr.set_port(port.checked_add(1).unwrap_or(1024));
    }

    fn corrupt(&mut self, index: usize, at: usize) {
        let count = self.flights.len();
        if count > 0 {
            let datagram = &mut self.flights[index % count].1;
            let length = datagram.len();
            if length > 0 {
                datagram[at % length] ^= 1 << (index % 8);
            }
        }
    }

    /// Everything that wants to leave arrives, ten milliseconds later.
    fn exchange(&mut self) {
        self.transmit(0);
        self.transmit(1);
        self.pass(Duration::from_millis(10));
        while !self.flights.is_empty() {
            self.deliver(0);
        }
        self.check();
    }

    /// Takes all events and holds them against what was sent.
    fn check(&mut self) {
        for here in 0..2 {
            while let Some(event) = self.ends[here].endpoint.poll_event() {
                match event {
                    Event::Connected { peer, .. } => self.ends[here].peer = Some(peer),
                    Event::Message { channel, bytes, .. } => {
                        let (number, padding) = bytes.split_first_chunk().expect("as long as it was sent");
                        let number = u64::from_le_bytes(*number);
                        assert!(padding.iter().all(|&byte| byte == number as u8), "as it was sent");
                        let kind = usize::from(channel.number()) - 1;
                        self.ends[1 - here].sent[kind].arrived(KINDS[kind], number);
                        self.ends[here].endpoint.recycle(bytes);
                    }
                    Event::Writable { .. } => {
                        assert!(self.ends[here].blocked, "something was blocked");
                        self.ends[here].blocked = false;
                    }
                    Event::Moved { .. } => assert_eq!(here, 1, "only the server follows"),
                    Event::Closed { reason, .. } => {
                        assert!(self.ends[here].closed.is_none(), "closed once");
                        self.ends[here].closed = Some(reason);
                    }
                }
            }
            let end = &self.ends[here];
            if let Some(stats) = end.peer.and_then(|peer| end.endpoint.stats(peer)) {
                assert!(stats.queued_bytes <= QUEUE_BYTES_MAX + 2 * UNRELIABLE_BYTES_MAX, "{stats:?}");
            }
        }
    }

    /// From here on the network is clean: everything reliable arrives.
    fn calm_down(&mut self) {
        self.flights.clear();
        for _ in 0..6_000 {
            let is_whole = |end: &End| end.sent.iter().zip(KINDS).all(|(sent, kind)| sent.is_whole(kind));
            if self.ends.iter().all(is_whole) {
                return;
            }
            self.exchange();
        }
        panic!("not delivered after a minute of a clean network");
    }

    fn end(&mut self) {
        let Some(peer) = self.ends[0].peer else { return };
        self.ends[0].endpoint.close(self.now, peer, 9, "over");
        for _ in 0..500 {
            self.exchange();
        }
        assert_eq!(self.ends[0].closed, Some(CloseReason::Local));
        assert_eq!(self.ends[1].closed, Some(CloseReason::Remote { code: 9, reason: "over".into() }));
        for end in &self.ends {
            assert_eq!(end.endpoint.peer_count(), 0);
            assert_eq!(end.endpoint.poll_timeout(), None, "nothing lingers");
        }
    }
}
