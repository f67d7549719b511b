//! The default algorithm: it keeps a few packets in the queue of the bottleneck, however many are lost at random.
//!
//! The pieces are published, their combination is ours:
//! * The window follows FAST TCP (Wei, Jin, Low, Hegde, IEEE/ACM ToN 14(6), 2006): once each round trip it goes halfway
//!   to `window × rtt_min / rtt + QUEUED`. At its fixed point `QUEUED` bytes of each flow are in the queue, whatever
//!   the flow's round trip, so flows that share a bottleneck get equal rates.
//! * `rtt` is the smallest of a round, as in Copa (Arun, Balakrishnan, NSDI 2018), so that jitter counts as little as
//!   possible; a velocity doubles the growth each round while no queue shows, and one round in `CYCLE` sends without
//!   this flow's share of the queue: when flows do so together, the queue is empty and latecomers learn the true
//!   `rtt_min`. Copa achieves this by oscillating all the time; a steady window wastes less.
//! * The start is that of packet trains (Keshav 1991; Dovrolis, Ramanathan, Moore, INFOCOM 2001): the first ten packets
//!   leave back to back, the bottleneck spreads them, and the spacing of their acknowledgements shows its rate. One
//!   round trip then achieves what takes three or more by doubling. The delivery rate also shows how far to go down
//!   when a path becomes slower, as in BBR (Cardwell et al., ACM Queue 2016).
//! * Loss under ten per cent of a round means nothing: radio links lose that much without a queue. From ten per cent
//!   on, the cause is a queue too short to show as delay, or a policer, and the window is cut to seven tenths (that
//!   factor is CUBIC's).
//! * Packets also wait in the sockets of programs that look there once a frame. So a round trip proves less than it
//!   measures, see `queue`, and the window has to be larger by what such frames hold, see `wait`.
//!
//! It does not hold its own against a download that keeps the same queue full: it then gets what its lower bounds give.
//! [`Congestion::Cubic`](super::Congestion::Cubic) is for such paths.

use std::time::Duration;

use super::{Acked, Controller, INITIAL, Lost, PACKET, RATE_MAX, RATE_MIN, rate};
use crate::timer::{Micros, nanos};

/// Bytes of one flow that are kept in the queue. With fewer, the link runs dry between acknowledgements; more mean
/// latency: 4 ms at 10 Mbit/s, 20 ms at 2.
const QUEUED: u64 = 4 * PACKET as u64;
/// Smaller differences between round trips come from the loops of the two programs. This also lets the window grow on
/// fast networks, where four packets are a few microseconds.
const DEAD_US: u64 = 1_000;
const UNKNOWN: u64 = 1 << 41;
const FLOOR: usize = 4 * PACKET;
/// One round of this many sends without a queue.
const CYCLE: u8 = 8;
/// With fewer packets, a round says nothing about loss.
const LOSS_PACKETS_MIN: u32 = 20;
const LOSS_PERCENT_MAX: u32 = 10;
/// The window grows by at most a quarter in a round, which is also the most by which it may overshoot.
const GROWTH_DIVISOR: u64 = 4;
/// Rounds after a cut in which the window grows by only `QUEUED / 2`: if the queue is too short to be seen, doubling
/// would run into it again and again.
const WARY: u8 = 32;
/// A queue this long means that the path has become slower: the delivery rate shows how far to go down.
const QUEUED_FAR: u64 = 4 * QUEUED;
/// Bytes that suffice to see it before the round is over. With such a queue a round is long.
const FAR_BYTES_MIN: u64 = 8 * PACKET as u64;
/// Bytes and acknowledgements that a train must have after its first packet.
const TRAIN_BYTES_MIN: usize = 6 * PACKET;
const TRAIN_ACKS_MIN: u32 = 3;
/// A shorter train measures timers and not the path.
const TRAIN_MIN: Duration = Duration::from_millis(1);
/// One train may make the window grow by this factor at most.
const TRAIN_GROWTH_MAX: usize = 8;
/// After such a silence the window says nothing any more.
const IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is known yet: the window doubles each round trip until a train or a queue shows the rate.
    Start,
    Steady,
}

/// Acknowledgements of one round so far, after the first.
#[derive(Clone, Copy)]
struct Train {
    began: Micros,
    sent: Micros,
    bytes: usize,
    acks: u32,
}

/// See the module.
pub(crate) struct Delay {
    window: usize,
    window_max: usize,
    /// The window during a round that sends without its queue.
    drained: usize,
    phase: Phase,
    /// Doubles with each round without a queue.
    velocity: u32,
    pacing: u64,
    round_ends: u64,
    round_began: Micros,
    /// The smallest round trip of this round, in microseconds; `UNKNOWN` before there is one.
    round_rtt: u64,
    /// The longest time that a packet of this round was certainly under way, in microseconds.
    round_sure: u64,
    /// Packets acknowledged in this round, and how often acknowledgements came.
    round_packets: u32,
    round_heard: u32,
    round_bytes: u64,
    round_limited: bool,
    round: u8,
    wary: u8,
    train: Option<Train>,
    acked: u32,
    lost: u32,
    sent_last: Micros,
    /// When acknowledgements last came in, and when before that; those within `DEAD_US` count as one.
    heard: Micros,
    heard_before: Micros,
    /// See `wait`, of the last round.
    wait_us: u32,
}

impl Delay {
    pub(crate) fn new(window_max: usize) -> Delay {
        let window_max = window_max.max(FLOOR);
        Delay {
            window: INITIAL.min(window_max),
            window_max,
            drained: usize::MAX,
            phase: Phase::Start,
            velocity: 1,
            pacing: RATE_MAX,
            round_ends: 0,
            round_began: Micros::ZERO,
            round_rtt: UNKNOWN,
            round_sure: 0,
            round_packets: 0,
            round_heard: 0,
            round_bytes: 0,
            round_limited: false,
            round: 0,
            wary: 0,
            train: None,
            acked: 0,
            lost: 0,
            sent_last: Micros::ZERO,
            heard: Micros::ZERO,
            heard_before: Micros::ZERO,
            wait_us: 0,
        }
    }

    fn set_window(&mut self, bytes: u64) {
        self.window = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(FLOOR, self.window_max);
    }

    fn cut(&mut self) {
        self.set_window(self.window as u64 * 7 / 10);
        self.phase = Phase::Steady;
        self.velocity = 1;
        self.wary = WARY;
    }

    /// The queue in microseconds, by the smallest round trip of this round so far.
    ///
    /// A round trip also measures the programs at both ends: one that looks at its socket once a frame lets packets lie
    /// there for up to a frame. What is certain is that a packet had not arrived yet when the other side sent the
    /// acknowledgement before the one that reports it. A queue makes both times grow alike.
    fn queue(&self, acked: &Acked) -> u64 {
        let sure = self.round_sure + self.pair(acked);
        self.round_rtt.min(sure).saturating_sub(micros(acked.rtt_min) + DEAD_US)
    }

    /// Twice the spacing of packets in this round so far: with an acknowledgement for every second packet, none waits
    /// longer.
    fn pair(&self, acked: &Acked) -> u64 {
        micros(acked.now - self.round_began) * 2 / u64::from(self.round_packets).max(1)
    }

    /// How long packets of this round so far waited for the programs: by how much acknowledgements are further apart
    /// than necessary. A flow that sends little gets few of them anyway.
    fn wait(&self, acked: &Acked) -> u64 {
        let between = micros(acked.now - self.round_began) / u64::from(self.round_heard).max(1);
        let is_known = self.round_limited && self.round_began > Micros::ZERO;
        if is_known { between.saturating_sub(self.pair(acked)) } else { 0 }
    }

    /// The round trip of a window without a queue.
    fn turn(&self, acked: &Acked) -> u64 {
        micros(acked.rtt_min) + self.wait(acked)
    }

    /// Bytes of this flow in the queue.
    fn queued(&self, acked: &Acked) -> u64 {
        let queue = self.queue(acked);
        self.window as u64 * queue / (self.turn(acked) + queue).max(1)
    }

    /// Acknowledgements came in, for packets sent from `oldest_at` on.
    fn hear(&mut self, now: Micros, oldest_at: Micros) {
        if self.heard.after(DEAD_US * 1_000) <= now {
            (self.heard_before, self.heard) = (self.heard, now);
            self.round_heard += 1;
        }
        self.round_sure = self.round_sure.max(micros(self.heard_before - oldest_at));
    }

    /// Whether all packets of the round so far waited in a queue that should not be there.
    fn is_far(&self, acked: &Acked) -> bool {
        self.phase == Phase::Steady
            && self.round_bytes >= FAR_BYTES_MIN
            && self.round_rtt < UNKNOWN
            && acked.now - self.round_began >= acked.rtt_min * 2
            && self.queued(acked) > QUEUED_FAR
    }

    /// Grows by what was acknowledged, until acknowledgements are spread wider than their packets were.
    fn start(&mut self, acked: &Acked) {
        if !acked.limited {
            self.train = None;
            return;
        }
        self.set_window((self.window + acked.bytes) as u64);
        let Some(train) = &mut self.train else {
            self.train = Some(Train { began: acked.now, sent: acked.sent_at, bytes: 0, acks: 0 });
            return;
        };
        train.bytes += acked.bytes;
        train.acks += 1;
        let (span, sent_span) = (acked.now - train.began, acked.sent_at - train.sent);
        let is_long = train.bytes >= TRAIN_BYTES_MIN && train.acks >= TRAIN_ACKS_MIN && span >= TRAIN_MIN;
        if !is_long || span * 4 < sent_span * 5 {
            return;
        }
        let path = micros(acked.rtt_min) * train.bytes as u64 / micros(span);
        let most = (self.window * TRAIN_GROWTH_MAX) as u64;
        self.set_window((path + QUEUED).clamp(INITIAL as u64, most));
        self.phase = Phase::Steady;
    }

    fn end_round(&mut self, acked: &Acked) {
        self.judge_loss();
        let base = micros(acked.rtt_min);
        let turn = self.turn(acked);
        let window = self.window as u64;
        let is_known = self.round_rtt < UNKNOWN;
        let queue = self.queue(acked);
        let queued = self.queued(acked);
        self.wary = self.wary.saturating_sub(1);
        if self.phase == Phase::Start && is_known && queue > (base / 8).max(3_000) {
            self.phase = Phase::Steady;
        }
        let elapsed = micros(acked.now - self.round_began);
        let delivered = turn * self.round_bytes / elapsed.max(1) + QUEUED;
        let halfway = (window + window - queued + QUEUED) / 2;
        // The round that sends without its queue, and the one after it, say nothing about the window.
        let is_told = self.phase == Phase::Steady && is_known && self.round < CYCLE - 2;
        if self.phase == Phase::Steady && is_known && queued > QUEUED_FAR && delivered < halfway {
            self.velocity = 1;
            self.set_window(delivered.max(window / 2));
        } else if is_told && queued * 2 >= QUEUED {
            self.velocity = 1;
            if halfway < window || self.round_limited {
                self.set_window(halfway);
            }
        } else if is_told && self.round_limited {
            self.set_window(window + (QUEUED / 2 * u64::from(self.velocity)).min(window / GROWTH_DIVISOR));
            self.velocity = if self.wary > 0 { 1 } else { (self.velocity * 2).min(1 << 16) };
        }
        self.round = (self.round + 1) % CYCLE;
        let drains = self.round == CYCLE - 2 && self.phase == Phase::Steady && self.round_limited;
        let without = self.window as u64 - self.window as u64 * queue / (turn + queue).max(1);
        self.drained = if drains { (without as usize).saturating_sub(PACKET).max(FLOOR) } else { usize::MAX };
        self.wait_us = u32::try_from(self.wait(acked)).unwrap_or(u32::MAX);
        self.round_ends = acked.next;
        self.round_began = acked.now;
        self.round_rtt = UNKNOWN;
        self.round_sure = 0;
        (self.round_packets, self.round_heard) = (0, 0);
        self.round_bytes = 0;
        self.round_limited = false;
        self.train = None;
    }

    fn judge_loss(&mut self) {
        let total = self.acked + self.lost;
        if total < LOSS_PACKETS_MIN {
            // Too few packets: this round counts together with the next.
            return;
        }
        if self.lost * 100 >= total * LOSS_PERCENT_MAX {
            self.cut();
        }
        (self.acked, self.lost) = (0, 0);
    }
}

fn micros(time: Duration) -> u64 {
    (nanos(time) / 1000).min(1 << 40)
}

impl Controller for Delay {
    fn on_sent(&mut self, now: Micros, in_flight: usize) {
        if in_flight == 0 && self.sent_last + IDLE_MAX < now && self.sent_last > Micros::ZERO {
            self.window = self.window.min(INITIAL);
            self.phase = Phase::Start;
            self.pacing = RATE_MAX;
        }
        self.sent_last = now;
    }

    fn on_acked(&mut self, acked: &Acked) {
        self.acked += acked.packets;
        self.round_bytes += acked.bytes as u64;
        self.round_limited |= acked.limited;
        self.round_rtt = self.round_rtt.min(acked.rtt.map_or(UNKNOWN, micros));
        self.round_packets += acked.packets;
        self.hear(acked.now, acked.oldest_at);
        if self.phase == Phase::Start {
            self.start(acked);
        }
        if acked.number >= self.round_ends || self.is_far(acked) {
            self.end_round(acked);
        }
        let gain = if self.phase == Phase::Start { 200 } else { 125 };
        // The first train must leave back to back.
        if self.phase == Phase::Steady || acked.limited {
            self.pacing =
                rate(self.window, acked.rtt_smoothed + Duration::from_micros(self.wait_us.into()), gain);
        }
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.lost += lost.packets;
    }

    fn on_ecn(&mut self, _now: Micros, _number: u64, _next: u64) {
        // Counts as a tenth of a round lost, at once and once in a round.
        self.lost += LOSS_PACKETS_MIN;
    }

    fn on_persistent_loss(&mut self) {
        self.window = FLOOR;
        self.drained = usize::MAX;
        self.phase = Phase::Start;
        self.velocity = 1;
        self.pacing = self.pacing.min(RATE_MIN * 8);
        (self.acked, self.lost) = (0, 0);
    }

    fn window(&self) -> usize {
        self.drained.min(self.window)
    }

    fn pacing_rate(&self) -> u64 {
        self.pacing
    }
}
