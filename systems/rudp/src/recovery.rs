//! What was sent and not yet settled: acknowledgements in, losses and probes out.
//!
//! Packets are never sent again, their messages are. A packet is lost when a later one was acknowledged and it is
//! three numbers behind or older than the reordering window; a probe repeats the oldest messages when nothing comes
//! back at all (RFC 9002, section 6).

use std::{collections::VecDeque, mem, time::Duration};

use crate::{
    ack::{ACK_DELAY_UNRELIABLE, Ack},
    config::Config,
    error::Violation,
    packet::{DATAGRAM_BYTES_BASE, FRAGMENT_BYTES},
    rtt::Rtt,
    send::{PieceRef, Sending, shrink},
    timer::Micros,
    window::Window,
};

/// Packets under way at once, however small they are: the receiver remembers 256 numbers, and twice that still gives
/// every one of them a chance.
const PACKETS_MAX: usize = 512;
/// Entries of the table, lost ones that wait for a late acknowledgement included.
const TABLE_MAX: usize = 1024;
/// Later packets that must be acknowledged before one counts as lost; grows with spurious losses.
const REORDER_PACKETS: u64 = 3;
const REORDER_PACKETS_MAX: u64 = 16;
/// Longest wait between two probes: ten seconds of silence must hold a fair number of them.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// IP and UDP headers; the path carries them, too.
const OVERHEAD: usize = 28;
/// A packet's share in the measured loss, as a shift: 1/256. One loss alone stays under half a per cent, and a path
/// that loses five per cent shows over two of them after some 130 packets.
const LOSS_SHIFT: u32 = 8;
/// All lost, in the measured loss.
const LOSS_ALL: u32 = 1 << 24;

/// Losses in a row of packets longer than the base, and shorter ones that came through after the first of them.
const BLACK_HOLE_LOST: u32 = 8;
const BLACK_HOLE_ACKED: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Acked,
    Lost,
}

struct Sent {
    number: u64,
    at: Micros,
    /// Where its pieces begin in `refs`, counted from the first piece ever.
    refs_at: u64,
    refs_count: u16,
    bytes: u16,
    fate: Fate,
    /// The largest number that the acknowledgement in it reported.
    ack_largest: Option<u64>,
}

/// The sent-packet table with everything that is computed from it.
pub(crate) struct Recovery {
    pub(crate) rtt: Rtt,
    window: Window,
    next: u64,
    sent: VecDeque<Sent>,
    refs: VecDeque<PieceRef>,
    refs_base: u64,
    largest_acked: Option<u64>,
    in_flight_bytes: usize,
    in_flight_packets: usize,
    /// Of these, packets with reliable pieces.
    in_flight_reliable: usize,
    ack_delay_max: Duration,
    /// An acknowledgement came in since losses were looked for.
    unjudged: bool,
    loss_at: Option<Micros>,
    /// When the probe timer was started last.
    probe_base: Micros,
    probes_unanswered: u32,
    widened: u32,
    reorder_packets: u64,
    /// Moving average over settled packets, of `LOSS_ALL`.
    loss: u32,
    /// Messages wait for the controller.
    limited: bool,
    /// Packets before this one took another path: they say nothing about this one.
    path_from: u64,
    /// Packets longer than the base: how many were lost since one was acknowledged, which that was, and how many
    /// shorter ones were acknowledged meanwhile.
    large_lost: u32,
    large_acked: u64,
    small_acked: u32,
    pub(crate) lost: u64,
    pub(crate) lost_spurious: u64,
}

fn is_large(packet: &Sent) -> bool {
    usize::from(packet.bytes) > DATAGRAM_BYTES_BASE + OVERHEAD
}

/// What was learnt of one path.
pub(crate) struct Learnt {
    rtt: Rtt,
    window: Window,
}

impl Recovery {
    pub(crate) fn new(config: &Config) -> Recovery {
        Recovery {
            rtt: Rtt::default(),
            window: Window::new(config.window_bytes_max),
            next: 0,
            sent: VecDeque::new(),
            refs: VecDeque::new(),
            refs_base: 0,
            largest_acked: None,
            in_flight_bytes: 0,
            in_flight_packets: 0,
            in_flight_reliable: 0,
            ack_delay_max: config.ack_delay_max,
            unjudged: false,
            loss_at: None,
            probe_base: Micros::ZERO,
            probes_unanswered: 0,
            widened: 0,
            reorder_packets: REORDER_PACKETS,
            loss: 0,
            limited: false,
            path_from: 0,
            large_lost: 0,
            large_acked: 0,
            small_acked: 0,
            lost: 0,
            lost_spurious: 0,
        }
    }

    /// Begins to learn a path that nothing is known of, and returns what is known of the last one.
    pub(crate) fn begin_path(&mut self, config: &Config) -> Learnt {
        let window = Window::new(config.window_bytes_max);
        self.resume_path(Learnt { rtt: Rtt::default(), window })
    }

    /// Packets take a known path again. Returns what was learnt of the other one.
    pub(crate) fn resume_path(&mut self, learnt: Learnt) -> Learnt {
        self.path_from = self.next;
        (self.large_lost, self.small_acked) = (0, 0);
        let Learnt { rtt, window } = learnt;
        Learnt { rtt: mem::replace(&mut self.rtt, rtt), window: mem::replace(&mut self.window, window) }
    }

    /// Whether packets longer than the base get lost, and only these. Told once.
    pub(crate) fn take_black_hole(&mut self) -> bool {
        let is_one = self.large_lost >= BLACK_HOLE_LOST && self.small_acked >= BLACK_HOLE_ACKED;
        if is_one {
            (self.large_lost, self.small_acked) = (0, 0);
        }
        is_one
    }

    /// The number of the next packet.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    pub(crate) fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    pub(crate) fn window_bytes(&self) -> usize {
        self.window.bytes
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Packets lost, in millionths: a moving average in which each packet counts 1/256 when it is acknowledged or
    /// found lost. Starts at 0. A loss that turns out to be none is taken back.
    pub(crate) fn loss_ppm(&self) -> u32 {
        (u64::from(self.loss) * 1_000_000 / u64::from(LOSS_ALL)) as u32
    }

    /// Whether messages wait because of congestion: no time for anything that is sent twice on purpose. Set when a
    /// packet was held back, cleared when nothing waits any more.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// After each try to send: whether messages are left that only the controller holds back.
    pub(crate) fn set_limited(&mut self, limited: bool) {
        self.limited = limited;
    }

    /// Whether the window lets another packet out.
    pub(crate) fn may_send(&self) -> bool {
        self.in_flight_bytes < self.window.bytes
            && self.in_flight_packets < PACKETS_MAX
            && self.sent.len() < TABLE_MAX
    }

    /// Where `Sending::fill` notes the pieces of the packet that is being written.
    pub(crate) fn refs(&mut self) -> &mut VecDeque<PieceRef> {
        &mut self.refs
    }

    /// Where the pieces of the packet that is about to be written will begin.
    pub(crate) fn refs_end(&self) -> u64 {
        self.refs_base + self.refs.len() as u64
    }

    /// A packet that asks for no acknowledgement left.
    pub(crate) fn on_sent_unrecorded(&mut self) {
        self.next += 1;
    }

    /// The packet `next_number` left, with the pieces noted from `refs_at` on.
    pub(crate) fn on_sent(&mut self, now: Micros, bytes: usize, refs_at: u64, ack_largest: Option<u64>) {
        let bytes = bytes + OVERHEAD;
        let refs_count = (self.refs_end() - refs_at) as u16;
        self.in_flight_bytes += bytes;
        self.in_flight_packets += 1;
        self.in_flight_reliable += usize::from(refs_count > 0);
        self.probe_base = now;
        let (number, bytes) = (self.next, bytes as u16);
        self.sent.push_back(Sent {
            number,
            at: now,
            refs_at,
            refs_count,
            bytes,
            fate: Fate::UnderWay,
            ack_largest,
        });
        self.next += 1;
    }

    /// Settles what `ack` reports. The work is bounded by the table, never by the numbers in `ack`. Losses are not
    /// judged here: other acknowledgements may lie unread in the socket.
    ///
    /// Returns the largest number that the other side now knows we have received.
    pub(crate) fn on_ack(
        &mut self,
        now: Micros,
        ack: &Ack,
        sending: &mut Sending,
    ) -> Result<Option<u64>, Violation> {
        if ack.largest >= self.next {
            return Err(Violation::AckOfUnsent { number: ack.largest, next: self.next });
        }
        let was_full = self.in_flight_bytes * 2 >= self.window.bytes;
        let (mut news, mut known) = (false, None);
        for index in 0..self.sent.len() {
            let entry = &mut self.sent[index];
            if entry.number > ack.largest {
                break;
            }
            if entry.fate == Fate::Acked || !ack.contains(entry.number) {
                continue;
            }
            let late = entry.fate == Fate::Lost;
            entry.fate = Fate::Acked;
            news = true;
            known = known.max(entry.ack_largest);
            let is_here = entry.number >= self.path_from;
            if is_large(entry) {
                (self.large_lost, self.large_acked, self.small_acked) = (0, entry.number, 0);
            } else if self.large_lost > 0 {
                self.small_acked += 1;
            }
            if entry.number == ack.largest && is_here {
                self.rtt.update(now - entry.at, Duration::from_micros(ack.delay_us));
            }
            let first = (entry.refs_at - self.refs_base) as usize;
            let count = usize::from(entry.refs_count);
            for &piece in self.refs.range(first..first + count) {
                sending.on_acked(piece);
            }
            if late {
                self.on_spurious_loss();
            } else {
                let bytes = usize::from(entry.bytes);
                self.in_flight_bytes -= bytes;
                self.in_flight_packets -= 1;
                self.in_flight_reliable -= usize::from(count > 0);
                if is_here {
                    self.window.on_acked(bytes, was_full);
                }
                self.loss -= self.loss >> LOSS_SHIFT;
            }
        }
        if news {
            self.largest_acked = self.largest_acked.max(Some(ack.largest));
            self.probes_unanswered = 0;
            self.unjudged = true;
        }
        Ok(known)
    }

    fn on_spurious_loss(&mut self) {
        self.lost_spurious += 1;
        self.loss = self.loss.saturating_sub(LOSS_ALL >> LOSS_SHIFT);
        self.widened = (self.widened + 1).min(3);
        self.reorder_packets = (self.reorder_packets + 1).min(REORDER_PACKETS_MAX);
    }

    /// Whether acknowledgements wait for [`judge`](Recovery::judge).
    pub(crate) fn is_unjudged(&self) -> bool {
        self.unjudged
    }

    /// Finds the lost packets and hands their messages back to be sent again.
    pub(crate) fn judge(&mut self, now: Micros, sending: &mut Sending) {
        self.unjudged = false;
        self.loss_at = None;
        let Some(largest) = self.largest_acked else { return };
        let delay = self.rtt.loss_delay(self.widened);
        for index in 0..self.sent.len() {
            let entry = &mut self.sent[index];
            if entry.number >= largest {
                break;
            }
            if entry.fate != Fate::UnderWay {
                continue;
            }
            let due = entry.at + delay;
            if largest - entry.number < self.reorder_packets && due > now {
                self.loss_at = Some(self.loss_at.map_or(due, |at| at.min(due)));
                continue;
            }
            entry.fate = Fate::Lost;
            self.lost += 1;
            self.in_flight_bytes -= usize::from(entry.bytes);
            self.in_flight_packets -= 1;
            self.in_flight_reliable -= usize::from(entry.refs_count > 0);
            if entry.number >= self.path_from {
                self.window.on_lost();
                self.large_lost += u32::from(is_large(entry) && entry.number > self.large_acked);
            }
            self.loss += (LOSS_ALL - self.loss) >> LOSS_SHIFT;
            let (number, count) = (entry.number, usize::from(entry.refs_count));
            let first = (entry.refs_at - self.refs_base) as usize;
            for &piece in self.refs.range(first..first + count) {
                sending.on_lost(piece, number);
            }
        }
        self.window.on_round(largest, self.next);
        self.forget(now);
    }

    /// Drops settled entries from the front of the table; lost ones stay a while for a late acknowledgement.
    fn forget(&mut self, now: Micros) {
        let keep = self.rtt.pto(ACK_DELAY_UNRELIABLE) * 3;
        while let Some(front) = self.sent.front() {
            let settled = match front.fate {
                Fate::UnderWay => false,
                Fate::Acked => true,
                Fate::Lost => front.at + keep <= now || self.sent.len() > TABLE_MAX / 2,
            };
            if !settled {
                break;
            }
            let refs_end = front.refs_at + u64::from(front.refs_count);
            self.refs.drain(..(refs_end - self.refs_base) as usize);
            self.refs_base = refs_end;
            self.sent.pop_front();
        }
        if self.sent.is_empty() {
            shrink(&mut self.sent);
            shrink(&mut self.refs);
        }
    }

    fn probe_delay(&self) -> Duration {
        let held = if self.in_flight_reliable > 0 { self.ack_delay_max } else { ACK_DELAY_UNRELIABLE };
        (self.rtt.pto(held) * (1 << self.probes_unanswered.min(6))).min(PROBE_MAX)
    }

    /// When to look for losses or to probe.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        let probe_at = (self.in_flight_packets > 0).then(|| self.probe_base + self.probe_delay());
        match (self.loss_at, probe_at) {
            (Some(loss), Some(probe)) => Some(loss.min(probe)),
            (loss, probe) => loss.or(probe),
        }
    }

    /// Returns how many probes to send now. The oldest reliable messages are back in `sending` for them.
    pub(crate) fn on_timeout(&mut self, now: Micros, sending: &mut Sending) -> u8 {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.judge(now, sending);
            return 0;
        }
        if self.in_flight_packets == 0 || self.probe_base + self.probe_delay() > now {
            return 0;
        }
        self.probe_base = now;
        self.probes_unanswered += 1;
        if self.probes_unanswered == 3 {
            self.window.on_persistent_loss();
        }
        // After a first miss two probes at once: the second costs little, another wait is twice as long.
        let probes = if self.probes_unanswered > 1 { 2 } else { 1 };
        sending.repeat_oldest(usize::from(probes) * FRAGMENT_BYTES);
        probes
    }

    /// The probe time-out as it stands, without back-off.
    pub(crate) fn pto(&self) -> Duration {
        self.rtt.pto(self.ack_delay_max)
    }
}
