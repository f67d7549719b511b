//! Repeats of small messages before anybody misses them: which, when, and within which budget.

use std::{collections::VecDeque, mem, time::Duration};

use super::{ChannelQueue, Packing, PieceRef, Queue, Sending};
use crate::{
    channel::{Channel, ChannelConfig, REPEATS_MAX, Repeats},
    packet::Writer,
    pool::Pool,
    timer::{Micros, NEVER},
};

/// Messages up to this length are repeated.
pub(super) const REPEAT_BYTES_MAX: usize = 200;
/// What the frame of a repeat costs beside the message.
const FRAME_COST: usize = 5;
/// Loss over which adaptive channels repeat, in millionths.
const ADAPTIVE_LOSS_PPM: u32 = 5_000;
/// Messages that wait for a repeat. At the bound the oldest goes without.
const ECHOES_MAX: usize = 256;
/// How long a spaced repeat waits for a datagram to ride in before it goes alone.
const SLACK: Duration = Duration::from_millis(10);

/// What the path is like, as far as repeats care.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PathState {
    pub(crate) loss_ppm: u32,
    /// Messages wait because of congestion.
    pub(crate) limited: bool,
    pub(crate) window_bytes: usize,
    pub(crate) rtt: Duration,
}

impl PathState {
    /// How often a small message on this channel is to be repeated now.
    fn repeats(&self, config: &ChannelConfig) -> u8 {
        match config.repeats {
            _ if self.limited => 0,
            Repeats::Fixed(repeats) => repeats.min(REPEATS_MAX),
            Repeats::Adaptive => u8::from(self.loss_ppm > ADAPTIVE_LOSS_PPM),
        }
    }

    /// Whether a small message on this channel may be sent unasked at all.
    pub(super) fn wants_note(&self, config: &ChannelConfig) -> bool {
        config.tail_repeat.is_some() || self.repeats(config) > 0
    }
}

/// A message that is to be repeated.
struct Echo {
    channel: Channel,
    id: u64,
    /// The last packet that carried it on this list's account.
    number: u64,
    left: u8,
    may_go_alone: bool,
    spacing: Duration,
    /// Not before this.
    ride_at: Micros,
    /// Alone from this on.
    alone_at: Micros,
}

impl Echo {
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
pub(super) struct Repeating {
    echoes: VecDeque<Echo>,
    /// Small messages that were new in the last datagram, if nothing followed it.
    tail: Vec<(Channel, u64)>,
    tail_at: Micros,
    /// The earliest `alone_at`.
    alone_at: Micros,
    /// Bytes that may be repeated now.
    tokens: usize,
    refilled_at: Micros,
}

impl Repeating {
    pub(super) fn new() -> Repeating {
        Repeating {
            echoes: VecDeque::new(),
            tail: Vec::new(),
            tail_at: NEVER,
            alone_at: NEVER,
            tokens: 0,
            refilled_at: Micros::ZERO,
        }
    }

    /// Whether nothing is to be repeated.
    pub(super) fn is_idle(&self) -> bool {
        self.echoes.is_empty() && self.tail.is_empty()
    }

    /// Before each datagram: half of the window may be repeated in a round trip.
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

    /// A small message is in packet `number` for the first time.
    pub(super) fn note(
        &mut self,
        now: Micros,
        number: u64,
        path: &PathState,
        channel: Channel,
        config: &ChannelConfig,
        id: u64,
    ) {
        self.repeat(now, number, channel, config, id, path.repeats(config));
        if let Some(after) = config.tail_repeat {
            self.tail.push((channel, id));
            self.tail_at = self.tail_at.min(now + after);
        }
    }

    /// A small message is in packet `number` because it was lost: it is late already.
    pub(super) fn note_again(
        &mut self,
        now: Micros,
        number: u64,
        path: &PathState,
        channel: Channel,
        config: &ChannelConfig,
        id: u64,
    ) {
        self.repeat(now, number, channel, config, id, path.repeats(config).max(1));
    }

    fn repeat(
        &mut self,
        now: Micros,
        number: u64,
        channel: Channel,
        config: &ChannelConfig,
        id: u64,
        left: u8,
    ) {
        if left > 0 {
            if self.echoes.len() >= ECHOES_MAX {
                self.echoes.pop_front();
            }
            let mut echo = Echo {
                channel,
                id,
                number,
                left,
                may_go_alone: config.tail_repeat.is_some(),
                spacing: config.repeat_spacing,
                ride_at: now,
                alone_at: NEVER,
            };
            echo.carried(now, number);
            self.alone_at = self.alone_at.min(echo.alone_at);
            self.echoes.push_back(echo);
        }
    }

    /// What was the tail is none any more.
    pub(super) fn end_tail(&mut self) {
        self.tail.clear();
        self.tail_at = NEVER;
    }

    /// When a datagram is wanted for repeats alone.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let at = self.tail_at.min(self.alone_at);
        (at < NEVER).then_some(at)
    }

    fn is_tail_due(&self, now: Micros) -> bool {
        self.tail_at <= now
    }

    /// What should have left alone by now must find a datagram to ride in.
    fn forgo(&mut self, now: Micros) {
        if self.tail_at <= now {
            self.end_tail();
        }
        self.echoes.iter_mut().filter(|echo| echo.is_overdue(now)).for_each(|echo| echo.alone_at = NEVER);
        self.find_first();
    }

    /// After `echoes` changed.
    fn find_first(&mut self) {
        self.alone_at = self.echoes.iter().map(|echo| echo.alone_at).min().unwrap_or(NEVER);
    }
}

/// What became of a repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Written,
    /// The packet carries the message already.
    Carried,
    /// It arrived, was found lost, or was given up.
    Settled,
    /// No room in the packet or in the budget.
    NoRoom,
}

impl Sending {
    /// Whether repeats should leave in a datagram of their own now; if they cannot, they lose that right.
    pub(crate) fn wants_repeat(&mut self, now: Micros, may_send: bool) -> bool {
        let Some(repeating) = &mut self.repeating else { return false };
        if repeating.deadline().is_none_or(|at| at > now) {
            return false;
        }
        let (queues, index) = (&self.queues, &self.index);
        let is_alive = |&(channel, id): &(Channel, u64)| match queues.get(usize::from(index[channel.index()]))
        {
            Some(ChannelQueue { queue: Queue::Reliable(queue), .. }) => {
                queue.repeatable(id, u64::MAX).is_some()
            }
            _ => false,
        };
        let allowed = may_send && !self.path.limited && repeating.affords(REPEAT_BYTES_MAX + FRAME_COST);
        let wanted = (repeating.is_tail_due(now) && repeating.tail.iter().any(is_alive))
            || repeating.echoes.iter().any(|echo| echo.is_overdue(now) && is_alive(&(echo.channel, echo.id)));
        if !(allowed && wanted) {
            repeating.forgo(now);
        }
        allowed && wanted
    }

    /// Repeats take what room is left in packet `number`.
    pub(super) fn fill_repeats(
        &mut self,
        now: Micros,
        number: u64,
        writer: &mut Writer<'_>,
        refs: &mut VecDeque<PieceRef>,
        pool: &mut Pool,
    ) {
        let Some(mut repeating) = self.repeating.take() else { return };
        if repeating.is_tail_due(now) {
            let tail = mem::take(&mut repeating.tail);
            for &(channel, id) in &tail {
                self.repeat(&mut repeating, (now, number), (channel, id), writer, refs, pool);
            }
            repeating.tail = tail;
            repeating.end_tail();
        }
        if !repeating.echoes.is_empty() {
            let mut echoes = mem::take(&mut repeating.echoes);
            echoes.retain_mut(|echo| {
                if !echo.is_due(now, number) {
                    return true;
                }
                match self.repeat(&mut repeating, (now, number), (echo.channel, echo.id), writer, refs, pool)
                {
                    Repeat::Written | Repeat::Carried => echo.repeated(now, number),
                    Repeat::Settled => false,
                    Repeat::NoRoom => true,
                }
            });
            repeating.echoes = echoes;
            repeating.find_first();
        }
        self.repeating = Some(repeating);
    }

    /// Writes one repeat, if its message is still under way, the packet has room, and the budget allows it.
    fn repeat(
        &mut self,
        repeating: &mut Repeating,
        (now, number): (Micros, u64),
        (channel, id): (Channel, u64),
        writer: &mut Writer<'_>,
        refs: &mut VecDeque<PieceRef>,
        pool: &mut Pool,
    ) -> Repeat {
        let path = self.path;
        let Sending { queues, index, counts, .. } = self;
        let Some(ChannelQueue { queue: Queue::Reliable(queue), .. }) =
            queues.get_mut(usize::from(index[channel.index()]))
        else {
            return Repeat::Settled;
        };
        let cost = match queue.repeatable(id, number) {
            None => return Repeat::Settled,
            Some((_, true)) => return Repeat::Carried,
            Some((bytes, false)) => bytes.len() + FRAME_COST,
        };
        let mut packing = Packing {
            now,
            number,
            writer,
            refs,
            path,
            repeating: &mut None,
            pool,
            retransmitted: &mut counts.retransmitted,
            expired: &mut counts.expired,
        };
        if !repeating.affords(cost) || !queue.repeat(channel, id, &mut packing) {
            return Repeat::NoRoom;
        }
        repeating.spend(cost);
        self.counts.repeated += 1;
        self.counts.repeated_bytes += cost as u64;
        Repeat::Written
    }
}
