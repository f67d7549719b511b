//! The test kit's network: carries datagrams of any stack between addresses, with the faults of a [`Link`].
//!
//! ```
//! use kaos_rudp::{Micros, lab::{Link, Network}};
//!
//! let mut network = Network::new(7, Link::default());
//! let (here, there) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
//! network.send(Micros(0), here, there, b"hello");
//! assert_eq!(network.next_arrival(), Some(Micros(25_000)));
//! assert!(network.deliver(Micros(24_999)).is_none());
//! assert_eq!(network.deliver(Micros(25_000)).unwrap().bytes, b"hello");
//! ```

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::rng::Rng;
use crate::timer::Micros;

/// Bytes of an IPv4 and a UDP header, counted for each datagram at a bottleneck and by [`Traffic::wire_bytes`].
pub const HEADER_BYTES: u64 = 28;

/// What the network does to each datagram. Probabilities are 0 to 1.
#[derive(Clone, Debug)]
pub struct Link {
    /// One way. Default 25 ms.
    pub delay: Duration,
    /// Random delay on top of `delay`, up to this. Default 0. Reorders if it is longer than the gaps between datagrams.
    pub jitter: Duration,
    /// Lost, each datagram independently.
    pub loss: f64,
    /// Begins a burst (Gilbert-Elliott, independently in each direction): this datagram is lost and, with probability 1
    /// − 1/`burst_datagrams`, the next one of the direction as well, and so on. [`Link::bursts`] sets both from a rate
    /// of loss.
    pub burst: f64,
    /// Mean length of a burst, in datagrams; 0 counts as 1. Default 3.
    pub burst_datagrams: u32,
    /// Delivered twice, the second time up to `late` later.
    pub duplicate: f64,
    /// Held back for up to `late`.
    pub reorder: f64,
    /// A few random bits are flipped.
    pub corrupt: f64,
    /// Cut at a random length.
    pub truncate: f64,
    /// See `duplicate` and `reorder`. Default 60 ms.
    pub late: Duration,
    /// Bottleneck of each direction between two hosts, IP and UDP headers counted. Default 0: none.
    pub bytes_per_second: u64,
    /// What the queue of the bottleneck holds, in time; anything beyond is lost. Default 100 ms.
    pub queue: Duration,
    /// A black hole: datagrams with more bytes of UDP payload than this vanish without notice. Default 65,507, the
    /// largest there is.
    pub bytes_max: usize,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 0.0,
            burst_datagrams: 3,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            truncate: 0.0,
            late: Duration::from_millis(60),
            bytes_per_second: 0,
            queue: Duration::from_millis(100),
            bytes_max: 65_507,
        }
    }
}

impl Link {
    /// This link with bursts of a mean length, so frequent that the share `loss` (under 1) of all datagrams is in one.
    pub fn bursts(self, loss: f64, mean_datagrams: u32) -> Link {
        let burst = loss / ((1.0 - loss) * f64::from(mean_datagrams.max(1)));
        Link { burst, burst_datagrams: mean_datagrams, ..self }
    }
}

/// Counters of the network.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Datagrams that endpoints sent.
    pub sent: u64,
    /// Their bytes, UDP payload.
    pub sent_bytes: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Datagrams that were delivered, copies included.
    pub delivered: u64,
    /// Longest time from a datagram's arrival at a bottleneck until its last byte has left it.
    pub queue_max: Duration,
}

impl Traffic {
    /// Bytes sent, with IP and UDP headers.
    pub fn wire_bytes(&self) -> u64 {
        self.sent_bytes + HEADER_BYTES * self.sent
    }
}

/// A datagram that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom. Whether anybody listens there is for the caller to know.
    pub to: SocketAddr,
    /// UDP payload, as the link left it.
    pub bytes: Vec<u8>,
}

/// What the network remembers of the datagrams from one address to another.
#[derive(Default)]
struct Direction {
    /// A link of its own, instead of the network's.
    link: Option<Link>,
    in_burst: bool,
    /// Until when the bottleneck is taken.
    busy: Micros,
    /// How many datagrams waited at the bottleneck, by how long, in units of 100 µs.
    waits: BTreeMap<u64, u64>,
}

/// Unit of [`Direction::waits`].
const WAIT: Duration = Duration::from_micros(100);

/// Datagrams under way. Everything random follows from a seed; time is an argument.
pub struct Network {
    /// The network as it is now; may be changed at any time. Datagrams under way keep what has become of them.
    pub link: Link,
    rng: Rng,
    directions: BTreeMap<(SocketAddr, SocketAddr), Direction>,
    flights: BTreeMap<(Micros, u64), Datagram>,
    sequence: u64,
    traffic: Traffic,
}

impl Network {
    /// A network without a datagram in it.
    pub fn new(seed: u64, link: Link) -> Network {
        Network {
            link,
            rng: Rng::new(seed),
            directions: BTreeMap::new(),
            flights: BTreeMap::new(),
            sequence: 0,
            traffic: Traffic::default(),
        }
    }

    /// Gives one direction between two addresses a link of its own, or with `None` the network's again.
    pub fn set_link(&mut self, from: SocketAddr, to: SocketAddr, link: Option<Link>) {
        self.directions.entry((from, to)).or_default().link = link;
    }

    /// A host goes by another address: its links and bottlenecks go with it. What is under way to the old address
    /// arrives there.
    pub fn rename(&mut self, old: SocketAddr, new: SocketAddr) {
        let named = |addr| if addr == old { new } else { addr };
        let directions = std::mem::take(&mut self.directions);
        self.directions = directions
            .into_iter()
            .map(|((from, to), direction)| ((named(from), named(to)), direction))
            .collect();
    }

    /// Takes a datagram, to deliver, to lose, to delay as the link says.
    pub fn send(&mut self, now: Micros, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.traffic.sent += 1;
        self.traffic.sent_bytes += bytes.len() as u64;
        let link = self.directions.get(&(from, to)).and_then(|direction| direction.link.as_ref());
        let link = link.unwrap_or(&self.link).clone();
        // Datagrams may come from any number of addresses: a direction without a state is not remembered.
        let mut nothing = Direction::default();
        let is_kept = link.burst > 0.0 || link.bytes_per_second > 0;
        let direction = if is_kept { self.directions.entry((from, to)).or_default() } else { &mut nothing };
        let rng = &mut self.rng;
        let mut chance = |p: f64| p > 0.0 && rng.chance(p);
        direction.in_burst = if direction.in_burst {
            chance(1.0 - 1.0 / f64::from(link.burst_datagrams.max(1)))
        } else {
            chance(link.burst)
        };
        if chance(link.loss) || direction.in_burst || bytes.len() > link.bytes_max {
            self.traffic.lost += 1;
            return;
        }
        let mut bytes = bytes.to_vec();
        if chance(link.corrupt) && !bytes.is_empty() {
            for _ in 0..1 + self.rng.below(3) {
                let bit = self.rng.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        let rng = &mut self.rng;
        if link.truncate > 0.0 && rng.chance(link.truncate) {
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
        }
        let up_to = |rng: &mut Rng, most: Duration| match most.as_micros() as u64 {
            0 => Duration::ZERO,
            micros => Duration::from_micros(rng.below(micros + 1)),
        };
        let mut at = now + link.delay;
        at += up_to(rng, link.jitter);
        let wire_bytes = bytes.len() as u64 + HEADER_BYTES;
        if let Some(micros) = (wire_bytes * 1_000_000).checked_div(link.bytes_per_second) {
            let start = direction.busy.max(now);
            let wait = start - now;
            if wait > link.queue {
                self.traffic.lost += 1;
                return;
            }
            *direction.waits.entry((wait.as_micros() / WAIT.as_micros()) as u64).or_default() += 1;
            direction.busy = start + Duration::from_micros(micros);
            at += direction.busy - now;
            self.traffic.queue_max = self.traffic.queue_max.max(direction.busy - now);
        }
        let again = (link.duplicate > 0.0 && rng.chance(link.duplicate)).then(|| at + up_to(rng, link.late));
        if link.reorder > 0.0 && rng.chance(link.reorder) {
            at += up_to(rng, link.late);
        }
        if let Some(again) = again {
            self.fly(again, Datagram { from, to, bytes: bytes.clone() });
        }
        self.fly(at, Datagram { from, to, bytes });
    }

    /// Puts a datagram on the network, exempt from its faults and delay and not counted as sent: an attacker's.
    pub fn inject(&mut self, now: Micros, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.fly(now, Datagram { from, to, bytes });
    }

    fn fly(&mut self, at: Micros, datagram: Datagram) {
        self.sequence += 1;
        self.flights.insert((at, self.sequence), datagram);
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Micros> {
        self.flights.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The next datagram that is there by now, in the order of arrival. Call it until `None`.
    pub fn deliver(&mut self, now: Micros) -> Option<Datagram> {
        let entry = self.flights.first_entry().filter(|entry| entry.key().0 <= now)?;
        self.traffic.delivered += 1;
        Some(entry.remove())
    }

    /// Counters.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// How long datagrams of one direction waited at the bottleneck until their first byte left, since the beginning
    /// or the last [`forget_waits`](Network::forget_waits): the time that `percent` of them did not exceed, to
    /// 100 µs. Zero without a bottleneck. Those that found the queue full are not counted.
    pub fn wait(&self, from: SocketAddr, to: SocketAddr, percent: f64) -> Duration {
        let Some(direction) = self.directions.get(&(from, to)) else { return Duration::ZERO };
        let count: u64 = direction.waits.values().sum();
        let rank = (count.saturating_sub(1) as f64 * percent / 100.0) as u64;
        let mut passed = 0;
        for (&wait, &datagrams) in &direction.waits {
            passed += datagrams;
            if passed > rank {
                return Duration::from_micros(wait * WAIT.as_micros() as u64);
            }
        }
        Duration::ZERO
    }

    /// Begins the count of [`wait`](Network::wait) anew.
    pub fn forget_waits(&mut self) {
        self.directions.values_mut().for_each(|direction| direction.waits.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    /// Sends `count` datagrams of `bytes` bytes, one every `pause`, and gives those that arrived with their times.
    fn arrivals(network: &mut Network, count: u32, bytes: usize, pause: Duration) -> Vec<(u32, Duration)> {
        let mut sent_at = Vec::new();
        let mut now = Micros(0);
        for number in 0..count {
            let mut datagram = vec![0; bytes];
            datagram[..4].copy_from_slice(&number.to_le_bytes());
            network.send(now, addr(1), addr(2), &datagram);
            sent_at.push(now);
            now += pause;
        }
        let mut found = Vec::new();
        while let Some(at) = network.next_arrival() {
            while let Some(datagram) = network.deliver(at) {
                let number = u32::from_le_bytes(datagram.bytes[..4].try_into().unwrap());
                found.push((number, at - sent_at[number as usize]));
            }
        }
        found
    }

    #[test]
    fn bursts_have_the_rate_and_the_mean_length_that_were_asked_for() {
        let mut network = Network::new(1, Link::default().bursts(0.05, 3));
        let arrived = arrivals(&mut network, 200_000, 4, Duration::from_millis(1));
        let lost = 200_000 - arrived.len();
        let bursts = arrived.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).count();
        assert!((9_000..11_000).contains(&lost), "{lost} of 200,000 lost");
        let mean = lost as f64 / bursts as f64;
        assert!((2.8..3.2).contains(&mean), "{mean} datagrams a burst");
    }

    #[test]
    fn a_bottleneck_delays_and_drops_and_tells_its_waits() {
        // 1,000 wire bytes take 1 ms; two of them come every millisecond, so the queue fills to its 20 ms.
        let link = Link { bytes_per_second: 1_000_000, queue: Duration::from_millis(20), ..Link::default() };
        let mut network = Network::new(1, link);
        let arrived = arrivals(&mut network, 1_000, 972, Duration::from_micros(500));
        assert!((515..530).contains(&arrived.len()), "{} passed", arrived.len());
        assert_eq!(arrived[0], (0, Duration::from_millis(26)));
        let longest = arrived.iter().map(|&(_, time)| time).max().unwrap();
        assert_eq!(longest, Duration::from_millis(46));
        assert_eq!(network.wait(addr(1), addr(2), 95.0), Duration::from_millis(20));
        assert_eq!(network.wait(addr(1), addr(2), 0.0), Duration::ZERO);
        assert_eq!(network.wait(addr(2), addr(1), 95.0), Duration::ZERO);
        network.forget_waits();
        assert_eq!(network.wait(addr(1), addr(2), 95.0), Duration::ZERO);
    }

    #[test]
    fn a_direction_may_have_a_link_of_its_own_and_keeps_it_under_a_new_name() {
        let mut network = Network::new(1, Link::default());
        network.set_link(addr(1), addr(2), Some(Link { bytes_max: 100, ..Link::default() }));
        network.rename(addr(1), addr(3));
        for (from, to) in [(addr(3), addr(2)), (addr(1), addr(2)), (addr(2), addr(3))] {
            network.send(Micros(0), from, to, &[0; 101]);
        }
        let mut arrived = Vec::new();
        while let Some(datagram) = network.deliver(Micros(25_000)) {
            arrived.push(datagram.from);
        }
        assert_eq!(arrived, [addr(1), addr(2)]);
        assert_eq!((network.traffic().lost, network.traffic().delivered), (1, 2));
    }
}
