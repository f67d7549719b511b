//! Repeats of small messages before anybody misses them: of which, when, and within which budget.

use std::{collections::VecDeque, mem, time::Duration};

use super::{Packing, Queues, Sending, reliable::Repeatable};
use crate::{
    channel::{Channel, ChannelConfig, REPEATS_MAX, Repeats},
    timer::{Micros, NEVER},
};

/// Messages up to this length are repeated.
pub(super) const REPEAT_BYTES_MAX: usize = 200;
/// What the frame of a repeat costs besides the message.
const FRAME_COST: usize = 5;
/// Adaptive channels repeat while more than this is lost, in millionths.
const ADAPTIVE_LOSS_PPM: u32 = 5_000;
/// Messages that may wait for a repeat. At the bound the oldest gets none.
const WAITING_MAX: usize = 256;
/// How long a spaced repeat waits for a datagram to ride in before it gets one of its own.
const SLACK: Duration = Duration::from_millis(10);

/// What repeats need to know of the path.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PathState {
    pub(crate) loss_ppm: u32,
    /// Messages wait because of congestion.
    pub(crate) limited: bool,
    pub(crate) window_bytes: usize,
    pub(crate) rtt: Duration,
}

impl PathState {
    /// How often a small message on this channel should be repeated now.
    fn repeats(&self, config: &ChannelConfig) -> u8 {
        match config.repeats {
            _ if self.limited => 0,
            Repeats::Fixed(repeats) => repeats.min(REPEATS_MAX),
            Repeats::Adaptive => u8::from(self.loss_ppm > ADAPTIVE_LOSS_PPM),
        }
    }

    /// Whether a small message on this channel may be repeated at all.
    pub(super) fn wants_note(&self, config: &ChannelConfig) -> bool {
        config.tail_repeat.is_some() || self.repeats(config) > 0
    }
}

/// A message that is to be repeated.
struct Repeat {
    channel: Channel,
    id: u64,
    /// The last packet that carried it, as far as the repeater knows.
    number: u64,
    left: u8,
    may_go_alone: bool,
    spacing: Duration,
    /// No repeat before this.
    ride_at: Micros,
    /// From this on it may get a datagram of its own.
    alone_at: Micros,
}

impl Repeat {
    /// Packet `number` carries the message; the next repeat is due later.
    fn carried(&mut self, now: Micros, number: u64) {
        self.number = number;
        self.ride_at = now + self.spacing;
        let alone = self.may_go_alone && self.spacing > Duration::ZERO;
        self.alone_at = if alone { self.ride_at + SLACK } else { NEVER };
    }

    /// Whether packet `number` may carry the next repeat.
    fn is_due(&self, now: Micros, number: u64) -> bool {
        self.ride_at <= now && self.number != number
    }

    fn is_overdue(&self, now: Micros) -> bool {
        self.alone_at <= now
    }

    /// Packet `number` carries a repeat. Returns whether another is to follow.
    fn repeated(&mut self, now: Micros, number: u64) -> bool {
        self.left -= 1;
        self.carried(now, number);
        self.left > 0
    }
}

/// All repeats to one peer.
pub(super) struct Repeater {
    waiting: VecDeque<Repeat>,
    /// Small messages that were new in the last datagram, if nothing followed it.
    tail: Vec<(Channel, u64)>,
    tail_at: Micros,
    /// The earliest `alone_at`.
    alone_at: Micros,
    /// Bytes that may be repeated now.
    tokens: usize,
    refilled_at: Micros,
}

impl Repeater {
    fn new() -> Repeater {
        Repeater {
            waiting: VecDeque::new(),
            tail: Vec::new(),
            tail_at: NEVER,
            alone_at: NEVER,
            tokens: 0,
            refilled_at: Micros::ZERO,
        }
    }

    /// Whether nothing is to be repeated.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.tail.is_empty()
    }

    /// Before each datagram: repeats may take half of the window in a round trip.
    pub(super) fn refill(&mut self, now: Micros, path: &PathState) {
        let most = path.window_bytes / 2;
        let elapsed = now.since(self.refilled_at).as_micros();
        let earned = most as u128 * elapsed / path.rtt.as_micros().max(1);
        if earned > 0 {
            self.refilled_at = now;
            self.tokens = self.tokens.saturating_add(usize::try_from(earned).unwrap_or(usize::MAX)).min(most);
        }
    }

    /// Takes `bytes` from the budget.
    fn spend(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub(bytes);
    }

    /// Whether the budget has room for `bytes`.
    fn affords(&self, bytes: usize) -> bool {
        self.tokens >= bytes
    }

    fn add(&mut self, repeat: Repeat) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.alone_at = self.alone_at.min(repeat.alone_at);
        self.waiting.push_back(repeat);
    }

    /// A message is in the last datagram: it is repeated at `at`, unless others follow it.
    fn add_tail(&mut self, channel: Channel, id: u64, at: Micros) {
        self.tail.push((channel, id));
        self.tail_at = self.tail_at.min(at);
    }

    /// Other messages follow, or the tail was repeated.
    pub(super) fn end_tail(&mut self) {
        self.tail.clear();
        self.tail_at = NEVER;
    }

    /// When a datagram is wanted for repeats alone.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let at = self.tail_at.min(self.alone_at);
        (at < NEVER).then_some(at)
    }

    /// Whether a datagram is wanted for repeats alone.
    fn is_due(&self, now: Micros) -> bool {
        self.tail_at.min(self.alone_at) <= now
    }

    fn is_tail_due(&self, now: Micros) -> bool {
        self.tail_at <= now
    }

    /// What should have had a datagram of its own by now must find one to ride in.
    fn forgo(&mut self, now: Micros) {
        if self.tail_at <= now {
            self.end_tail();
        }
        let overdue = self.waiting.iter_mut().filter(|repeat| repeat.is_overdue(now));
        overdue.for_each(|repeat| repeat.alone_at = NEVER);
        self.find_first();
    }

    /// After `waiting` changed.
    fn find_first(&mut self) {
        self.alone_at = self.waiting.iter().map(|repeat| repeat.alone_at).min().unwrap_or(NEVER);
    }
}

/// What became of a repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    /// The packet carries the message already.
    Carried,
    /// It arrived, was found lost, or was given up.
    Settled,
    /// There was no room in the packet or in the budget.
    NoRoom,
}

impl Sending {
    /// Whether repeats should leave in a datagram of their own now. If they should but cannot, they lose that right.
    pub(crate) fn wants_repeat(&mut self, now: Micros, may_send: bool) -> bool {
        let Some(repeater) = self.repeater.as_mut().filter(|repeater| repeater.is_due(now)) else {
            return false;
        };
        let queues = &self.queues;
        let is_alive =
            |channel, id| queues.reliable(channel).is_some_and(|queue| queue.repeatable(id).is_some());
        let allowed = may_send && !self.path.limited && repeater.affords(REPEAT_BYTES_MAX + FRAME_COST);
        let wanted = (repeater.is_tail_due(now)
            && repeater.tail.iter().any(|&(channel, id)| is_alive(channel, id)))
            || repeater
                .waiting
                .iter()
                .any(|repeat| repeat.is_overdue(now) && is_alive(repeat.channel, repeat.id));
        if !(allowed && wanted) {
            repeater.forgo(now);
        }
        allowed && wanted
    }

    /// Repeats cannot leave in a datagram of their own now, and lose that right.
    pub(crate) fn forgo_repeats(&mut self, now: Micros) {
        if let Some(repeater) = self.repeater.as_mut().filter(|repeater| repeater.is_due(now)) {
            repeater.forgo(now);
        }
    }
}

impl Packing<'_, '_> {
    /// A small reliable message was written for the first time.
    pub(super) fn note_fresh(&mut self, channel: Channel, config: &ChannelConfig, id: u64) {
        if self.path.wants_note(config) {
            self.repeat_later(channel, config, id, self.path.repeats(config));
            if let Some(after) = config.tail_repeat {
                let at = self.now + after;
                self.repeater().add_tail(channel, id, at);
            }
        }
    }

    /// A small reliable message was written again because it was lost. It is late already, so it is repeated in any
    /// case.
    pub(super) fn note_again(&mut self, channel: Channel, config: &ChannelConfig, id: u64) {
        if !self.path.limited {
            self.repeat_later(channel, config, id, self.path.repeats(config).max(1));
        }
    }

    fn repeater(&mut self) -> &mut Repeater {
        self.repeater.get_or_insert_with(|| Box::new(Repeater::new()))
    }

    fn repeat_later(&mut self, channel: Channel, config: &ChannelConfig, id: u64, left: u8) {
        if left == 0 {
            return;
        }
        let mut repeat = Repeat {
            channel,
            id,
            number: self.number,
            left,
            may_go_alone: config.tail_repeat.is_some(),
            spacing: config.repeat_spacing,
            ride_at: self.now,
            alone_at: NEVER,
        };
        repeat.carried(self.now, self.number);
        self.repeater().add(repeat);
    }

    /// Fills the room that is left in the packet with repeats.
    pub(super) fn fill_repeats(&mut self, queues: &mut Queues) {
        let Some(mut repeater) = self.repeater.take() else { return };
        if repeater.is_tail_due(self.now) {
            let tail = mem::take(&mut repeater.tail);
            for &(channel, id) in &tail {
                self.repeat(queues, &mut repeater, channel, id);
            }
            repeater.tail = tail;
            repeater.end_tail();
        }
        if !repeater.waiting.is_empty() {
            let mut waiting = mem::take(&mut repeater.waiting);
            waiting.retain_mut(|repeat| {
                if !repeat.is_due(self.now, self.number) {
                    return true;
                }
                match self.repeat(queues, &mut repeater, repeat.channel, repeat.id) {
                    Outcome::Written | Outcome::Carried => repeat.repeated(self.now, self.number),
                    Outcome::Settled => false,
                    Outcome::NoRoom => true,
                }
            });
            repeater.waiting = waiting;
            repeater.find_first();
        }
        *self.repeater = Some(repeater);
    }

    /// Writes one repeat, if its message is still under way, the packet has room, and the budget allows it.
    fn repeat(&mut self, queues: &mut Queues, repeater: &mut Repeater, channel: Channel, id: u64) -> Outcome {
        let Some(queue) = queues.reliable_mut(channel) else { return Outcome::Settled };
        let Some(Repeatable { length, carried_by }) = queue.repeatable(id) else { return Outcome::Settled };
        if carried_by == self.number {
            return Outcome::Carried;
        }
        let cost = length + FRAME_COST;
        if !repeater.affords(cost) || !queue.repeat(channel, id, self) {
            return Outcome::NoRoom;
        }
        repeater.spend(cost);
        self.counts.repeated += 1;
        self.counts.repeated_bytes += cost as u64;
        Outcome::Written
    }
}
