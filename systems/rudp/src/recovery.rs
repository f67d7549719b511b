//! What was sent and is not yet settled: acknowledgements come in, losses and probes come out.
//!
//! Packets are never sent again, their messages are. A packet is lost when a later one was acknowledged and it is three
//! numbers behind or older than the reordering window (RFC 9002, section 6.1). When nothing is heard of a packet for a
//! probe time-out, its messages are sent again. Unlike in RFC 9002, section 6.2, that time runs from the *oldest*
//! packet with reliable messages that is under way, not from the newest: a game sends every few milliseconds, so a
//! timer that starts anew with each packet would never fire before an acknowledgement shows the loss. The price is a
//! needless repeat when an acknowledgement is lost, which is cheap since messages are small; an acknowledgement that is
//! merely late is covered by the variation in the time-out.

mod acked;
mod losses;
mod probe;
mod sent;

use std::{collections::VecDeque, mem, time::Duration};

use self::{
    losses::Losses,
    sent::{Fate, InFlight, Pieces, Sent},
};
use crate::{
    ack::ACK_DELAY_UNRELIABLE,
    config::Config,
    congestion::{Control, Controller, Lost, OVERHEAD},
    mtu::BlackHole,
    pacer::Pacer,
    rtt::Rtt,
    send::{PieceRef, Sending},
    timer::{Micros, NEVER, nanos},
};

/// How far ahead `send_budget` looks: what is queued in a tick at 60 Hz has left by the next tick.
const BUDGET_AHEAD: Duration = Duration::from_millis(16);
/// Entries for which memory is kept for good.
const KEPT: usize = 64;

/// The sent-packet table with everything that is computed from it.
pub(crate) struct Recovery {
    pub(crate) rtt: Rtt,
    control: Control,
    pacer: Pacer,
    next: u64,
    sent: VecDeque<Sent>,
    /// Entries at the front of `sent` that are settled.
    settled: usize,
    pieces: Pieces,
    /// The most entries in `sent` and `pieces` of late, which decide how much memory is given back.
    peak: (u32, u32),
    /// The largest number that was acknowledged, plus one; 0 before any was.
    acked_end: u64,
    in_flight: InFlight,
    packets_max: u32,
    /// In nanoseconds, as is the next.
    ack_delay_max: u64,
    /// How much longer than the round trip the acknowledgement of a reliable packet takes: a moving average.
    ack_delay: u64,
    /// An acknowledgement came in since losses were looked for.
    unjudged: bool,
    /// When to look for losses; `NEVER` if none are in sight.
    loss_at: Micros,
    /// When the oldest reliable packet was sent that is under way and was not probed for; `NEVER` without one.
    oldest: Micros,
    /// When the last packet that asks for an acknowledgement was sent, and the last probe.
    sent_last: Micros,
    probed_last: Micros,
    probes_unanswered: u8,
    losses: Losses,
    /// Messages wait for the controller.
    limited: bool,
    /// Packets with lower numbers took another path, and say nothing about this one.
    path_from: u64,
    /// On this path.
    black_hole: BlackHole,
    /// Packets with lower numbers were under way when messages had to wait, or when half of the window was in use.
    limited_end: u64,
}

/// What is known of one path.
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
            pieces: Pieces::default(),
            peak: (0, 0),
            acked_end: 0,
            in_flight: InFlight::default(),
            packets_max: u32::try_from(config.packets_in_flight_max).unwrap_or(u32::MAX).max(16),
            ack_delay_max: nanos(config.ack_delay_max),
            ack_delay: nanos(config.ack_delay_max),
            unjudged: false,
            loss_at: NEVER,
            oldest: NEVER,
            sent_last: Micros::ZERO,
            probed_last: Micros::ZERO,
            probes_unanswered: 0,
            losses: Losses::default(),
            limited: false,
            path_from: 0,
            black_hole: BlackHole::default(),
            limited_end: 0,
        }
    }

    /// Packets take a path of which nothing is known. Returns what is known of the last one.
    pub(crate) fn begin_path(&mut self, config: &Config) -> PathData {
        self.resume_path(PathData::unknown(config))
    }

    /// Packets take a known path again. Returns what is known of the last one.
    pub(crate) fn resume_path(&mut self, data: PathData) -> PathData {
        self.path_from = self.next;
        // What is under way to the other address takes no room here.
        self.in_flight.bytes = 0;
        self.black_hole.begin_anew();
        PathData {
            rtt: mem::replace(&mut self.rtt, data.rtt),
            control: mem::replace(&mut self.control, data.control),
        }
    }

    /// Whether packets longer than the base get lost, and only these. True once for each such finding.
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
        self.in_flight.bytes
    }

    /// Packets found lost.
    pub(crate) fn lost(&self) -> u64 {
        self.losses.lost
    }

    /// Packets found lost and acknowledged later.
    pub(crate) fn lost_spurious(&self) -> u64 {
        self.losses.spurious
    }

    /// Packets lost, in millionths: a moving average in which each packet counts 1/256 when it is acknowledged or found
    /// lost. Starts at 0. A loss that turns out to be spurious is taken back.
    pub(crate) fn loss_ppm(&self) -> u32 {
        self.losses.ppm()
    }

    /// Whether messages wait because of congestion, so that nothing should be sent twice on purpose. Set when a packet
    /// was held back, cleared when nothing waits any more.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Bytes on the wire that may leave from `now` on, without waiting for an acknowledgement and at most 16 ms for
    /// the pacer.
    pub(crate) fn budget(&self, now: Micros) -> usize {
        let room =
            if self.has_room() { self.control.window().saturating_sub(self.in_flight.bytes) } else { 0 };
        room.min(self.pacer.budget(now, self.control.pacing_rate(), self.rtt.smoothed(), BUDGET_AHEAD))
    }

    fn has_room(&self) -> bool {
        self.in_flight.bytes < self.control.window()
            && self.in_flight.packets < self.packets_max
            && self.sent.len() < self.packets_max as usize * 2
    }

    /// Whether window and pacer allow another packet with messages that wait.
    pub(crate) fn may_send(&mut self, now: Micros) -> bool {
        let has_room = self.has_room();
        let may = has_room && self.pacer.may_send(now, self.control.pacing_rate(), self.rtt.smoothed());
        self.limited = !may;
        if self.limited {
            self.limited_end = self.next;
        }
        if !has_room {
            // Only an acknowledgement makes room: there is no time at which the pacer would let a packet out.
            self.pacer.on_idle();
        }
        may
    }

    /// No message waits. Returns whether the window allows a packet without any.
    pub(crate) fn on_drained(&mut self) -> bool {
        self.limited = false;
        self.pacer.on_idle();
        self.has_room()
    }

    /// Nothing may leave, whatever waits: there is no time to ask the pacer for.
    pub(crate) fn on_nothing_to_send(&mut self) {
        self.pacer.on_idle();
    }

    /// Where `Sending::fill` notes the pieces of the packet that is being written.
    pub(crate) fn refs(&mut self) -> &mut VecDeque<PieceRef> {
        &mut self.pieces.refs
    }

    /// Where the pieces of the packet that is about to be written will begin.
    pub(crate) fn pieces_end(&self) -> u64 {
        self.pieces.end()
    }

    /// A packet was sent that asks for no acknowledgement.
    pub(crate) fn on_sent_unrecorded(&mut self) {
        self.next += 1;
    }

    /// The packet `next_number` was sent, with the pieces noted from `pieces_at` on.
    pub(crate) fn on_sent(&mut self, now: Micros, bytes: usize, pieces_at: u64, ack_largest: Option<u64>) {
        let bytes = bytes + OVERHEAD;
        // Before the packet is counted: the controller wants to know whether anything else was under way.
        self.control.on_sent(now, self.in_flight.bytes);
        self.pacer.on_sent(bytes);
        let packet = Sent {
            number: self.next,
            at: now,
            pieces_at,
            ack_end: ack_largest.map_or(0, |largest| largest + 1),
            pieces_count: (self.pieces.end() - pieces_at) as u16,
            bytes: bytes as u16,
            fate: Fate::UnderWay,
        };
        self.in_flight.add(&packet);
        if packet.is_reliable() {
            self.oldest = self.oldest.min(now);
        }
        self.sent_last = now;
        // An application that heeds the budget never waits; half a window in use shows just as well what the path
        // carries (RFC 7661, 4.2).
        if self.in_flight.bytes * 2 >= self.control.window() {
            self.limited_end = self.next + 1;
        }
        self.sent.push_back(packet);
        self.peak = (self.peak.0.max(self.sent.len() as u32), self.peak.1.max(self.pieces.refs.len() as u32));
        self.next += 1;
    }

    /// Whether an acknowledgement came in since the last [`judge`](Recovery::judge).
    pub(crate) fn is_unjudged(&self) -> bool {
        self.unjudged
    }

    /// Finds the lost packets and hands their messages back to be sent again.
    pub(crate) fn judge(&mut self, now: Micros, sending: &mut Sending) {
        self.unjudged = false;
        self.loss_at = NEVER;
        let Some(largest) = self.largest_acked() else { return };
        let delay = self.rtt.loss_nanos(self.losses.widened);
        let (mut packets, mut number) = (0, 0);
        for packet in self.sent.range_mut(self.settled..) {
            if packet.number >= largest {
                break;
            }
            if packet.fate.is_settled() {
                continue;
            }
            let due = packet.at.after(delay);
            if largest - packet.number < u64::from(self.losses.reorder_packets) && due > now {
                self.loss_at = self.loss_at.min(due);
                continue;
            }
            packet.fate = Fate::Lost;
            self.losses.on_lost();
            let is_here = packet.number >= self.path_from;
            self.in_flight.remove(packet, is_here);
            if is_here {
                (packets, number) = (packets + 1, packet.number);
                self.black_hole.on_lost(packet.number, packet.bytes.into());
            }
            for &piece in self.pieces.of(packet) {
                sending.on_lost(piece, packet.number);
            }
        }
        if packets > 0 {
            self.control.on_lost(&Lost { packets, number, next: self.next });
        }
        // In this order: `forget` moves the place at which `find_oldest` begins.
        self.forget(now);
        self.find_oldest();
    }

    /// Drops settled entries from the front of the table. Lost ones stay for a while, in case a late acknowledgement
    /// comes.
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
            self.pieces.forget(front);
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
    /// whose tables empty again and again keeps its memory, so that its packets allocate nothing.
    fn shrink(&mut self) {
        let (sent, pieces) = (self.peak.0 as usize, self.peak.1 as usize);
        if self.sent.capacity() > KEPT.max(sent * 4) {
            self.sent.shrink_to(KEPT.max(sent * 2));
        }
        if self.pieces.refs.capacity() > KEPT.max(pieces * 4) {
            self.pieces.refs.shrink_to(KEPT.max(pieces * 2));
        }
        self.peak = (self.peak.0 / 2, self.peak.1 / 2);
    }

    /// Nothing was sent for a long time: gives back all memory. What was lost has been sent again; an acknowledgement
    /// of it would say nothing by now.
    pub(crate) fn rest(&mut self) {
        if self.in_flight.packets == 0 {
            self.pieces.clear();
            (self.sent, self.settled, self.peak) = (VecDeque::new(), 0, (0, 0));
        }
    }

    fn find_oldest(&mut self) {
        let is_awaited = |packet: &&Sent| packet.is_reliable() && packet.fate == Fate::UnderWay;
        self.oldest = match self.in_flight.reliable {
            0 => NEVER,
            _ => self.sent.range(self.settled..).find(is_awaited).map_or(NEVER, |packet| packet.at),
        };
    }

    /// The current probe time-out, without back-off.
    pub(crate) fn pto(&self) -> Duration {
        Duration::from_nanos(self.rtt.pto_nanos(self.ack_delay_max))
    }
}
