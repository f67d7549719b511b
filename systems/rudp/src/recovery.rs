//! What was sent and not yet settled: acknowledgements in, losses and probes out.
//!
//! Packets are never sent again, their messages are. A packet is lost when a later one was acknowledged and it is
//! three numbers behind or older than the reordering window (RFC 9002, section 6.1). When nothing tells of a packet
//! for a probe time-out, its messages go again. Unlike in RFC 9002, section 6.2, that time runs from the *oldest*
//! packet with reliable messages that is under way, not from the newest: a game sends every few milliseconds, so a
//! timer that starts anew with each packet would never end before an acknowledgement tells the same. The price is a
//! needless repeat where an acknowledgement was lost; a message is small, and an acknowledgement that is merely
//! late is covered by the variation in the time-out.

mod probe;

use std::{collections::VecDeque, mem, time::Duration};

use crate::{
    ack::{ACK_DELAY_UNRELIABLE, Ack},
    config::Config,
    congestion::{Acked, Control, Controller, Lost, OVERHEAD},
    error::Violation,
    mtu::BlackHole,
    pacer::Pacer,
    pool::Pool,
    rtt::Rtt,
    send::{PieceRef, Sending},
    timer::{Micros, NEVER, nanos},
};

/// Later packets that must be acknowledged before one counts as lost; grows with spurious losses.
const REORDER_PACKETS: u8 = 3;
const REORDER_PACKETS_MAX: u8 = 16;
/// A packet's share in the measured loss, as a shift: 1/256. One loss alone stays under half a per cent, and a path
/// that loses five per cent shows over two of them after some 130 packets.
const LOSS_SHIFT: u32 = 8;
/// All lost, in the measured loss.
const LOSS_ALL: u32 = 1 << 24;
/// How far ahead `send_budget` looks: what is queued in a tick at 60 Hz has left when the next one comes.
const BUDGET_AHEAD: Duration = Duration::from_millis(16);
/// Entries whose place in the tables is kept for good.
const KEPT: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    UnderWay,
    /// Under way, and its messages were handed back for a probe.
    Probed,
    Acked,
    Lost,
}

impl Fate {
    fn is_settled(self) -> bool {
        matches!(self, Fate::Acked | Fate::Lost)
    }
}

struct Sent {
    number: u64,
    at: Micros,
    /// Where its pieces begin in `refs`, counted from the first piece ever.
    refs_at: u64,
    /// The largest number that the acknowledgement in it reported, plus one; 0 if there was none.
    ack_end: u64,
    refs_count: u16,
    bytes: u16,
    fate: Fate,
}

/// The sent-packet table with everything that is computed from it.
pub(crate) struct Recovery {
    pub(crate) rtt: Rtt,
    control: Control,
    pacer: Pacer,
    next: u64,
    sent: VecDeque<Sent>,
    /// Entries at the front of `sent` that are settled.
    settled: usize,
    refs: VecDeque<PieceRef>,
    refs_base: u64,
    /// Most entries in `sent` and `refs` of late, for giving memory back.
    peak: (u32, u32),
    /// The largest number that was acknowledged, plus one; 0 before any was.
    acked_end: u64,
    /// Bytes under way on this path, and packets on any.
    in_flight_bytes: usize,
    in_flight_packets: u32,
    /// Of these, packets with reliable pieces.
    in_flight_reliable: u32,
    packets_max: u32,
    /// In nanoseconds, as the next.
    ack_delay_max: u64,
    /// How much longer than the round trip the acknowledgement of a reliable packet takes, a moving average.
    ack_delay: u64,
    /// An acknowledgement came in since losses were looked for.
    unjudged: bool,
    /// When to look for losses; `NEVER` if none are in sight.
    loss_at: Micros,
    /// When the oldest reliable packet that is under way and not probed for was sent; `NEVER` without one.
    oldest: Micros,
    /// When a packet that asks for an acknowledgement left last, and when a probe did.
    sent_last: Micros,
    probed_last: Micros,
    probes_unanswered: u32,
    widened: u8,
    reorder_packets: u8,
    /// Moving average over settled packets, of `LOSS_ALL`.
    loss: u32,
    /// Messages wait for the controller.
    limited: bool,
    /// Packets before this one took another path: they say nothing about this one.
    path_from: u64,
    /// On this path.
    black_hole: BlackHole,
    /// Packets under this number were under way when messages had to wait, or when half of the window was in use.
    limited_end: u64,
    pub(crate) lost: u64,
    pub(crate) lost_spurious: u64,
}

/// What was learnt of one path.
pub(crate) struct PathData {
    rtt: Rtt,
    control: Control,
}

impl PathData {
    fn unknown(config: &Config) -> PathData {
        PathData { rtt: Rtt::default(), control: Control::new(config.congestion, config.window_bytes_max) }
    }
}

impl Recovery {
    pub(crate) fn new(config: &Config) -> Recovery {
        let PathData { rtt, control } = PathData::unknown(config);
        Recovery {
            rtt,
            control,
            pacer: Pacer::default(),
            next: 0,
            sent: VecDeque::new(),
            settled: 0,
            refs: VecDeque::new(),
            refs_base: 0,
            peak: (0, 0),
            acked_end: 0,
            in_flight_bytes: 0,
            in_flight_packets: 0,
            in_flight_reliable: 0,
            packets_max: u32::try_from(config.packets_in_flight_max).unwrap_or(u32::MAX).max(16),
            ack_delay_max: nanos(config.ack_delay_max),
            ack_delay: nanos(config.ack_delay_max),
            unjudged: false,
            loss_at: NEVER,
            oldest: NEVER,
            sent_last: Micros::ZERO,
            probed_last: Micros::ZERO,
            probes_unanswered: 0,
            widened: 0,
            reorder_packets: REORDER_PACKETS,
            loss: 0,
            limited: false,
            path_from: 0,
            black_hole: BlackHole::default(),
            limited_end: 0,
            lost: 0,
            lost_spurious: 0,
        }
    }

    /// Begins to learn a path that nothing is known of, and returns what is known of the last one.
    pub(crate) fn begin_path(&mut self, config: &Config) -> PathData {
        self.resume_path(PathData::unknown(config))
    }

    /// Packets take a known path again. Returns what was learnt of the other one.
    pub(crate) fn resume_path(&mut self, data: PathData) -> PathData {
        self.path_from = self.next;
        // What is under way to the other address takes no room here.
        self.in_flight_bytes = 0;
        self.black_hole.begin_anew();
        PathData {
            rtt: mem::replace(&mut self.rtt, data.rtt),
            control: mem::replace(&mut self.control, data.control),
        }
    }

    /// Whether packets longer than the base get lost, and only these. Told once.
    pub(crate) fn take_black_hole(&mut self) -> bool {
        self.black_hole.take()
    }

    /// The number of the next packet.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    pub(crate) fn largest_acked(&self) -> Option<u64> {
        self.acked_end.checked_sub(1)
    }

    pub(crate) fn window_bytes(&self) -> usize {
        self.control.window()
    }

    /// Bytes a second at which packets leave.
    pub(crate) fn pacing_rate(&self) -> u64 {
        self.control.pacing_rate()
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

    /// Bytes on the wire that may leave from `now` on, without waiting for an acknowledgement and at most 16 ms for
    /// the pacer.
    pub(crate) fn budget(&self, now: Micros) -> usize {
        let room =
            if self.has_room() { self.control.window().saturating_sub(self.in_flight_bytes) } else { 0 };
        room.min(self.pacer.budget(now, self.control.pacing_rate(), self.rtt.smoothed(), BUDGET_AHEAD))
    }

    fn has_room(&self) -> bool {
        self.in_flight_bytes < self.control.window()
            && self.in_flight_packets < self.packets_max
            && self.sent.len() < self.packets_max as usize * 2
    }

    /// Whether window and pacer let another packet out, if there is one: `has_pending`.
    pub(crate) fn may_send(&mut self, now: Micros, has_pending: bool) -> bool {
        let may = self.has_room()
            && (!has_pending || self.pacer.may_send(now, self.control.pacing_rate(), self.rtt.smoothed()));
        self.limited = has_pending && !may;
        if self.limited {
            self.limited_end = self.next;
        }
        if !has_pending || !self.has_room() {
            self.pacer.on_idle();
        }
        may
    }

    /// Nothing may leave, whatever waits: the pacer has no time to ask for.
    pub(crate) fn on_nothing_to_send(&mut self) {
        self.pacer.on_idle();
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
        self.control.on_sent(now, self.in_flight_bytes);
        self.pacer.on_sent(bytes);
        let refs_count = (self.refs_end() - refs_at) as u16;
        self.in_flight_bytes += bytes;
        self.in_flight_packets += 1;
        if refs_count > 0 {
            self.in_flight_reliable += 1;
            self.oldest = self.oldest.min(now);
        }
        self.sent_last = now;
        // Who heeds the budget never waits; half a window in use shows as well what the path carries (RFC 7661, 4.2).
        if self.in_flight_bytes * 2 >= self.control.window() {
            self.limited_end = self.next + 1;
        }
        let (number, bytes) = (self.next, bytes as u16);
        let ack_end = ack_largest.map_or(0, |largest| largest + 1);
        self.sent.push_back(Sent {
            number,
            at: now,
            refs_at,
            ack_end,
            refs_count,
            bytes,
            fate: Fate::UnderWay,
        });
        self.peak = (self.peak.0.max(self.sent.len() as u32), self.peak.1.max(self.refs.len() as u32));
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
        pool: &mut Pool,
    ) -> Result<Option<u64>, Violation> {
        if ack.largest >= self.next {
            return Err(Violation::AckOfUnsent { number: ack.largest, next: self.next });
        }
        let lowest = ack.lowest();
        let from = match self.sent.front() {
            // Most reach far behind all that is under way.
            Some(front) if front.number < lowest => self.sent.partition_point(|entry| entry.number < lowest),
            _ => 0,
        };
        let (mut known, mut newest, mut oldest, mut rtt) = (0, None, None, None);
        let (mut packets, mut bytes, mut oldest_at) = (0, 0, NEVER);
        for index in from..self.sent.len() {
            let entry = &mut self.sent[index];
            if entry.number > ack.largest {
                break;
            }
            if entry.fate == Fate::Acked || !ack.contains(entry.number) {
                continue;
            }
            known = known.max(entry.ack_end);
            newest = Some((entry.number, entry.at));
            let count = usize::from(entry.refs_count);
            if count > 0 && entry.fate == Fate::UnderWay {
                oldest = oldest.or(Some(entry.at));
            }
            let late = entry.fate == Fate::Lost;
            entry.fate = Fate::Acked;
            let is_here = entry.number >= self.path_from;
            self.black_hole.on_acked(entry.number, entry.bytes.into());
            if entry.number == ack.largest && is_here {
                let delay = Duration::from_micros(ack.delay_us);
                rtt = Some(self.rtt.update(now, now - entry.at, delay));
            }
            let first = (entry.refs_at - self.refs_base) as usize;
            for &piece in self.refs.range(first..first + count) {
                sending.on_acked(piece, pool);
            }
            if late {
                self.on_spurious_loss();
            } else {
                self.in_flight_packets -= 1;
                if is_here {
                    self.in_flight_bytes -= usize::from(entry.bytes);
                    packets += 1;
                    bytes += usize::from(entry.bytes);
                    oldest_at = oldest_at.min(entry.at);
                }
                self.in_flight_reliable -= u32::from(count > 0);
                self.loss -= self.loss >> LOSS_SHIFT;
            }
        }
        let Some((number, sent_at)) = newest else { return Ok(None) };
        if let (Some(oldest), Some(_)) = (oldest, rtt) {
            // What stands in the acknowledgement is the wait of its newest packet, but the timer runs for the oldest.
            let held =
                now.nanos_since(oldest).saturating_sub(nanos(self.rtt.smoothed())).min(self.ack_delay_max);
            self.ack_delay = self.ack_delay / 4 * 3 + (self.ack_delay % 4 * 3 + held) / 4;
        }
        if packets > 0 {
            self.control.on_acked(&Acked {
                now,
                packets,
                bytes,
                number,
                sent_at,
                oldest_at,
                next: self.next,
                rtt,
                rtt_min: self.rtt.min(),
                rtt_smoothed: self.rtt.smoothed(),
                limited: number < self.limited_end,
            });
        }
        self.acked_end = self.acked_end.max(ack.largest + 1);
        self.probes_unanswered = 0;
        self.unjudged = true;
        Ok(known.checked_sub(1))
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
        self.loss_at = NEVER;
        let Some(largest) = self.largest_acked() else { return };
        let delay = self.rtt.loss_nanos(self.widened);
        let (mut packets, mut number) = (0, 0);
        for index in self.settled..self.sent.len() {
            let entry = &mut self.sent[index];
            if entry.number >= largest {
                break;
            }
            if entry.fate.is_settled() {
                continue;
            }
            let due = entry.at.after(delay);
            if largest - entry.number < u64::from(self.reorder_packets) && due > now {
                self.loss_at = self.loss_at.min(due);
                continue;
            }
            entry.fate = Fate::Lost;
            self.lost += 1;
            self.loss += (LOSS_ALL - self.loss) >> LOSS_SHIFT;
            self.in_flight_packets -= 1;
            let count = usize::from(entry.refs_count);
            self.in_flight_reliable -= u32::from(count > 0);
            if entry.number >= self.path_from {
                self.in_flight_bytes -= usize::from(entry.bytes);
                (packets, number) = (packets + 1, entry.number);
                self.black_hole.on_lost(entry.number, entry.bytes.into());
            }
            let first = (entry.refs_at - self.refs_base) as usize;
            for &piece in self.refs.range(first..first + count) {
                sending.on_lost(piece, entry.number);
            }
        }
        if packets > 0 {
            self.control.on_lost(&Lost { packets, number, next: self.next });
        }
        self.forget(now);
        self.find_oldest();
    }

    /// Drops settled entries from the front of the table; lost ones stay a while for a late acknowledgement.
    fn forget(&mut self, now: Micros) {
        let keep = self.rtt.pto(ACK_DELAY_UNRELIABLE) * 3;
        while let Some(front) = self.sent.front() {
            let settled = match front.fate {
                Fate::UnderWay | Fate::Probed => false,
                Fate::Acked => true,
                Fate::Lost => front.at + keep <= now || self.sent.len() > self.packets_max as usize,
            };
            if !settled {
                break;
            }
            let refs_end = front.refs_at + u64::from(front.refs_count);
            self.refs.drain(..(refs_end - self.refs_base) as usize);
            self.refs_base = refs_end;
            self.sent.pop_front();
            self.settled = self.settled.saturating_sub(1);
        }
        while self.sent.get(self.settled).is_some_and(|entry| entry.fate.is_settled()) {
            self.settled += 1;
        }
        if self.sent.is_empty() {
            self.shrink();
        }
    }

    /// Gives memory back when the tables have not been half full for the last two times that they were used. A flow
    /// whose tables empty again and again keeps its place, so that its packets allocate nothing.
    fn shrink(&mut self) {
        let (sent, refs) = (self.peak.0 as usize, self.peak.1 as usize);
        if self.sent.capacity() > KEPT.max(sent * 4) {
            self.sent.shrink_to(KEPT.max(sent * 2));
        }
        if self.refs.capacity() > KEPT.max(refs * 4) {
            self.refs.shrink_to(KEPT.max(refs * 2));
        }
        self.peak = (self.peak.0 / 2, self.peak.1 / 2);
    }

    /// Nothing was sent for long: gives back all memory. What is lost has been sent again; a late acknowledgement of it
    /// would tell nothing any more.
    pub(crate) fn rest(&mut self) {
        if self.in_flight_packets == 0 {
            (self.refs_base, self.settled) = (self.refs_end(), 0);
            (self.sent, self.refs, self.peak) = (VecDeque::new(), VecDeque::new(), (0, 0));
        }
    }

    fn find_oldest(&mut self) {
        let reliable = |entry: &&Sent| entry.refs_count > 0 && entry.fate == Fate::UnderWay;
        self.oldest = match self.in_flight_reliable {
            0 => NEVER,
            _ => self.sent.range(self.settled..).find(reliable).map_or(NEVER, |entry| entry.at),
        };
    }

    /// The probe time-out as it stands, without back-off.
    pub(crate) fn pto(&self) -> Duration {
        Duration::from_nanos(self.rtt.pto_nanos(self.ack_delay_max))
    }
}
