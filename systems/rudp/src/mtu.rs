//! How long a datagram the path carries: a search with padded pings (RFC 8899), and the fallback to the base.
//!
//! The Hello has proved the base of 1,200 bytes. The search for longer ones begins when they would be of use, that is
//! when a packet was too small for what waited. The longest size is tried once; if that fails, the sizes are tried from
//! the smallest on, three times each, and the first that fails ends the search. Lost probes say nothing about
//! congestion. When eight packets in a row that are longer than the base get lost while three others arrive, the path
//! has changed: back to the base, and the next search begins ten minutes later.

use std::{net::IpAddr, time::Duration};

use crate::{
    congestion::PACKET,
    packet::{DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX},
    timer::Micros,
};

/// UDP payloads over IPv4 that fit tunnels of all kinds, PPPoE, and plain Ethernet. The IPv6 header is 20 bytes longer.
const SIZES: [u16; 4] = [1280, 1380, 1440, 1472];
const IPV6_LESS: u16 = 20;
const TRIES_MAX: u8 = 3;
/// A black hole: how many packets longer than the base are lost in a row, and how many shorter ones arrive after the
/// first of them.
const BLACK_HOLE_LOST: u32 = 8;
const BLACK_HOLE_ACKED: u32 = 3;
/// From a finished search, or a black hole, to the next search.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Mtu {
    current: u16,
    /// The longest that this side may send.
    max: u16,
    /// 0 or `IPV6_LESS`.
    less: u16,
    phase: Phase,
    /// How often the current size was tried.
    tries: u8,
    /// Longer datagrams would be of use.
    wanted: bool,
    /// The probe under way: packet number, and when it counts as lost.
    probe: Option<(u64, Micros)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The longest size once, which may save all other steps.
    Leap,
    /// Size by size.
    Climb,
    /// No search until then.
    Rest(Micros),
}

impl Mtu {
    pub(crate) fn new(ip: IpAddr, mtu_max: usize) -> Mtu {
        let is_v4 = ip.to_canonical().is_ipv4();
        Mtu {
            current: DATAGRAM_BYTES_BASE as u16,
            max: mtu_max.clamp(DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX) as u16,
            less: if is_v4 { 0 } else { IPV6_LESS },
            phase: Phase::Leap,
            tries: 0,
            wanted: false,
            probe: None,
        }
    }

    /// Bytes of the longest datagram that is known to pass.
    pub(crate) fn current(&self) -> usize {
        self.current.into()
    }

    /// A packet had no room for what waited.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether longer datagrams would be of use.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    fn next_size(&self) -> Option<u16> {
        let mut larger =
            SIZES.iter().map(|size| size - self.less).filter(|&size| size > self.current && size <= self.max);
        match self.phase {
            Phase::Leap => larger.next_back(),
            Phase::Climb => larger.next(),
            Phase::Rest(_) => None,
        }
    }

    /// The size of the probe to send now.
    pub(crate) fn probe_size(&mut self, now: Micros) -> Option<usize> {
        if !self.wanted || self.probe.is_some() {
            return None;
        }
        if matches!(self.phase, Phase::Rest(until) if until <= now) {
            (self.phase, self.tries) = (Phase::Leap, 0);
        }
        // Once the search is over, longer datagrams must be wanted again for another.
        let size = self.next_size();
        self.wanted = size.is_some();
        size.map(usize::from)
    }

    /// The probe was sent as packet `number`. It is lost if nothing is heard of it until `until`.
    pub(crate) fn on_probe_sent(&mut self, number: u64, until: Micros) {
        self.tries += 1;
        self.probe = Some((number, until));
    }

    /// The number of the probe under way.
    pub(crate) fn probe_number(&self) -> Option<u64> {
        self.probe.map(|(number, _)| number)
    }

    /// The probe arrived.
    pub(crate) fn on_probe_acked(&mut self) {
        self.probe = None;
        self.tries = 0;
        if let Some(size) = self.next_size() {
            self.current = size;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.probe.map(|(_, until)| until)
    }

    pub(crate) fn on_timeout(&mut self, now: Micros) {
        if self.probe.is_none_or(|(_, until)| until > now) {
            return;
        }
        self.probe = None;
        match self.phase {
            Phase::Leap => (self.phase, self.tries) = (Phase::Climb, 0),
            Phase::Climb if self.tries >= TRIES_MAX => self.rest(now),
            Phase::Climb | Phase::Rest(_) => {}
        }
    }

    /// Packets longer than the base no longer pass.
    pub(crate) fn on_black_hole(&mut self, now: Micros) {
        self.current = DATAGRAM_BYTES_BASE as u16;
        self.probe = None;
        self.rest(now);
    }

    fn rest(&mut self, now: Micros) {
        (self.phase, self.tries) = (Phase::Rest(now + AGAIN_AFTER), 0);
    }
}

/// Whether packets longer than the base get lost, and only these. All bytes count IP and UDP headers.
#[derive(Default)]
pub(crate) struct BlackHole {
    /// Longer packets lost since one was acknowledged, the number of that one, and shorter ones acknowledged since the
    /// first loss.
    large_lost: u32,
    large_acked: u64,
    small_acked: u32,
}

impl BlackHole {
    pub(crate) fn on_acked(&mut self, number: u64, bytes: usize) {
        if bytes > PACKET {
            (self.large_lost, self.large_acked, self.small_acked) = (0, number, 0);
        } else if self.large_lost > 0 {
            self.small_acked += 1;
        }
    }

    pub(crate) fn on_lost(&mut self, number: u64, bytes: usize) {
        self.large_lost += u32::from(bytes > PACKET && number > self.large_acked);
    }

    /// Packets take another path now.
    pub(crate) fn begin_anew(&mut self) {
        (self.large_lost, self.small_acked) = (0, 0);
    }

    /// Whether there is a black hole. True once for each.
    pub(crate) fn take(&mut self) -> bool {
        let is_one = self.large_lost >= BLACK_HOLE_LOST && self.small_acked >= BLACK_HOLE_ACKED;
        if is_one {
            self.begin_anew();
        }
        is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Searches for ten seconds on a path that carries `carries`. Returns what was found, and the probes.
    fn search(mtu: &mut Mtu, start: Micros, carries: usize) -> (usize, Vec<usize>) {
        let (mut now, mut probes) = (start, Vec::new());
        while now < start + SECOND * 10 {
            mtu.want();
            if let Some(size) = mtu.probe_size(now) {
                probes.push(size);
                mtu.on_probe_sent(7, now + SECOND / 10);
                assert_eq!(mtu.probe_size(now), None, "one at a time");
                if size <= carries {
                    mtu.on_probe_acked();
                }
            }
            now += SECOND / 20;
            mtu.on_timeout(now);
        }
        (mtu.current(), probes)
    }

    #[test]
    fn the_search_finds_what_the_path_carries() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        let found = |ip, max, carries| search(&mut Mtu::new(ip, max), Micros(0), carries);
        assert_eq!(found(v4, 1472, 1472), (1472, vec![1472]));
        assert_eq!(found(v4, 1472, 1400), (1380, vec![1472, 1280, 1380, 1440, 1440, 1440]));
        assert_eq!(found(v4, 1472, 1200), (1200, vec![1472, 1280, 1280, 1280]));
        assert_eq!(found(v4, 1400, 9000), (1380, vec![1380]));
        assert_eq!(found(v4, 1200, 9000), (1200, vec![]));
        assert_eq!(found(v4, 0, 9000), (1200, vec![]));
        assert_eq!(found(v4, 65_535, 9000), (1472, vec![1472]));
        assert_eq!(found(v6, 1472, 9000), (1452, vec![1452]));
        assert_eq!(found(v6, 1472, 1280), (1260, vec![1452, 1260, 1360, 1360, 1360]));
        assert_eq!(found("::ffff:10.0.0.1".parse().unwrap(), 1472, 9000), (1472, vec![1472]));
    }

    #[test]
    fn a_black_hole_is_left_for_ten_minutes() {
        let mut mtu = Mtu::new("10.0.0.1".parse().unwrap(), 1472);
        search(&mut mtu, Micros(0), 1472);
        mtu.on_black_hole(Micros(0) + SECOND * 10);
        assert_eq!(search(&mut mtu, Micros(0) + SECOND * 590, 1472), (1200, vec![]));
        assert_eq!(search(&mut mtu, Micros(0) + SECOND * 599, 1472), (1200, vec![]));
        assert_eq!(search(&mut mtu, Micros(0) + SECOND * 611, 1472), (1472, vec![1472]));
    }

    #[test]
    fn nothing_is_sent_unasked() {
        let mut mtu = Mtu::new("10.0.0.1".parse().unwrap(), 1472);
        assert_eq!((mtu.probe_size(Micros(1)), mtu.deadline()), (None, None));
    }
}
