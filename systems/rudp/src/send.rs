//! The sending half of the channels: what waits, what is under way, what must go again, and whose turn it is.

mod reliable;
mod repeats;
#[cfg(test)]
mod tests;
mod unreliable;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
};

pub(crate) use self::repeats::PathState;
use self::{reliable::Reliable, repeats::Repeater, unreliable::Unreliable};
use crate::{
    channel::{CHANNELS_MAX, Channel, ChannelConfig, SendOptions},
    config::Config,
    error::SendError,
    packet::{UNRELIABLE_BYTES_MAX, Writer},
    pool::Pool,
    stats::Stats,
    timer::{Micros, NEVER},
};

/// What a queued message costs besides its bytes, so that empty ones are not free.
pub(crate) const MESSAGE_COST: usize = 64;
/// In the index of queues: no queue.
const NONE: u8 = u8::MAX;

/// A piece of a reliable message in a sent packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PieceRef {
    pub(crate) channel: Channel,
    pub(crate) piece: u32,
    pub(crate) id: u64,
}

/// A message as the application hands it over.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) channel: Channel,
    /// The message is their concatenation.
    pub(crate) parts: &'a [&'a [u8]],
    pub(crate) options: SendOptions,
}

/// All channels of one connection.
pub(crate) struct Sending {
    queues: Queues,
    /// Cost of all reliable messages that are not acknowledged.
    queued: usize,
    /// The application was answered `WouldBlock`, and is owed a `Writable`.
    blocked: bool,
    /// When reliable messages are given up. May name messages that are settled by now.
    expiring: BinaryHeap<Reverse<(Micros, Channel, u64)>>,
    path: PathState,
    repeater: Option<Box<Repeater>>,
    counts: Counts,
}

/// What `Stats` reports.
#[derive(Default)]
struct Counts {
    retransmitted: u64,
    superseded: u64,
    expired: u64,
    repeated: u64,
    repeated_bytes: u64,
}

/// The queues of the channels that were used.
struct Queues {
    /// By priority, then number.
    entries: Vec<ChannelQueue>,
    /// Where the queue of each channel is.
    index: [u8; CHANNELS_MAX],
}

struct ChannelQueue {
    channel: Channel,
    config: ChannelConfig,
    queue: Queue,
}

enum Queue {
    Reliable(Reliable),
    Unreliable(Unreliable),
}

/// A packet that is being written, and what the queues may use for it.
struct Packing<'a, 'w> {
    now: Micros,
    number: u64,
    writer: &'a mut Writer<'w>,
    refs: &'a mut VecDeque<PieceRef>,
    path: PathState,
    repeater: &'a mut Option<Box<Repeater>>,
    pool: &'a mut Pool,
    counts: &'a mut Counts,
}

impl ChannelQueue {
    fn new(channel: Channel, config: &ChannelConfig) -> ChannelQueue {
        let queue = if config.kind.is_reliable() {
            Queue::Reliable(Reliable::default())
        } else {
            Queue::Unreliable(Unreliable::default())
        };
        ChannelQueue { channel, config: *config, queue }
    }

    fn has_pending(&mut self) -> bool {
        match &mut self.queue {
            Queue::Reliable(queue) => queue.has_pending(),
            Queue::Unreliable(queue) => queue.has_pending(),
        }
    }
}

impl Queues {
    /// The queue of a channel, which is made if there is none yet.
    fn open(&mut self, config: &Config, channel: Channel) -> Result<&mut ChannelQueue, SendError> {
        if self.index[channel.index()] == NONE {
            let found = config.channels.get(channel).ok_or(SendError::NoSuchChannel(channel))?;
            let rank = |entry: &ChannelQueue| (entry.config.priority, entry.channel);
            let at = self.entries.partition_point(|entry| rank(entry) < (found.priority, channel));
            self.entries.insert(at, ChannelQueue::new(channel, found));
            for (at, entry) in self.entries.iter().enumerate() {
                self.index[entry.channel.index()] = at as u8;
            }
        }
        Ok(&mut self.entries[usize::from(self.index[channel.index()])])
    }

    fn find(&mut self, channel: Channel) -> Option<&mut ChannelQueue> {
        self.entries.get_mut(usize::from(self.index[channel.index()]))
    }

    fn reliable(&self, channel: Channel) -> Option<&Reliable> {
        match &self.entries.get(usize::from(self.index[channel.index()]))?.queue {
            Queue::Reliable(queue) => Some(queue),
            Queue::Unreliable(_) => None,
        }
    }

    fn reliable_mut(&mut self, channel: Channel) -> Option<&mut Reliable> {
        match &mut self.find(channel)?.queue {
            Queue::Reliable(queue) => Some(queue),
            Queue::Unreliable(_) => None,
        }
    }

    fn all_unreliable(&mut self) -> impl Iterator<Item = &mut Unreliable> {
        self.entries.iter_mut().filter_map(|entry| match &mut entry.queue {
            Queue::Reliable(_) => None,
            Queue::Unreliable(queue) => Some(queue),
        })
    }

    fn has_pending(&mut self) -> bool {
        self.entries.iter_mut().any(ChannelQueue::has_pending)
    }
}

impl Sending {
    pub(crate) fn new() -> Sending {
        Sending {
            queues: Queues { entries: Vec::new(), index: [NONE; CHANNELS_MAX] },
            queued: 0,
            blocked: false,
            expiring: BinaryHeap::new(),
            path: PathState::default(),
            repeater: None,
            counts: Counts::default(),
        }
    }

    // ---- by the application ----

    /// Queues a message as a whole, or not at all.
    pub(crate) fn push(
        &mut self,
        now: Micros,
        config: &Config,
        pool: &mut Pool,
        message: Message<'_>,
    ) -> Result<(), SendError> {
        let Message { channel, parts, options } = message;
        let entry = self.queues.open(config, channel)?;
        let length = parts.iter().map(|part| part.len()).sum();
        let expires = options.lifetime.or(entry.config.lifetime).map_or(NEVER, |lifetime| now + lifetime);
        match &mut entry.queue {
            Queue::Unreliable(queue) => {
                let max = config.message_bytes_max.min(UNRELIABLE_BYTES_MAX);
                if length > max {
                    return Err(SendError::TooLarge { bytes: length, max });
                }
                let bytes = pool.join(parts, length);
                self.counts.superseded += queue.push(entry.config.kind, config, bytes, expires, pool);
            }
            Queue::Reliable(queue) => {
                let max = config.message_bytes_max.min(config.queue_bytes_max.saturating_sub(MESSAGE_COST));
                if length > max {
                    return Err(SendError::TooLarge { bytes: length, max });
                }
                if self.queued + length + MESSAGE_COST > config.queue_bytes_max {
                    self.blocked = true;
                    return Err(SendError::WouldBlock);
                }
                self.queued += length + MESSAGE_COST;
                let id = queue.push(pool.join(parts, length));
                if expires < NEVER {
                    self.expiring.push(Reverse((expires, channel, id)));
                    self.tidy_expiring();
                }
            }
        }
        Ok(())
    }

    // ---- getters ----

    /// Whether every reliable message was acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queued == 0
    }

    /// Bytes of messages, or of parts of messages, that were never sent.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let unsent = self.queues.entries.iter().map(|entry| match &entry.queue {
            Queue::Reliable(queue) => queue.unsent,
            Queue::Unreliable(queue) => queue.bytes,
        });
        unsent.sum()
    }

    /// True once after a `WouldBlock`, when the queue is less than half full.
    pub(crate) fn take_writable(&mut self, config: &Config) -> bool {
        let writable = self.blocked && self.queued < config.queue_bytes_max / 2;
        self.blocked &= !writable;
        writable
    }

    /// Fills in what it knows.
    pub(crate) fn report(&self, stats: &mut Stats) {
        let unreliable = self.queues.entries.iter().map(|entry| match &entry.queue {
            Queue::Reliable(_) => 0,
            Queue::Unreliable(queue) => queue.bytes,
        });
        stats.queued_bytes = self.queued + unreliable.sum::<usize>();
        stats.retransmitted = self.counts.retransmitted;
        stats.superseded = self.counts.superseded;
        stats.expired = self.counts.expired;
        stats.repeated = self.counts.repeated;
        stats.repeated_bytes = self.counts.repeated_bytes;
    }

    // ---- out ----

    /// Whether a message waits to be sent or sent again.
    pub(crate) fn has_pending(&mut self) -> bool {
        self.queues.has_pending()
    }

    /// Whether anything may be repeated before it is lost.
    pub(crate) fn may_repeat(&self) -> bool {
        self.repeater.as_ref().is_some_and(|repeater| !repeater.is_idle())
    }

    /// To be called before a datagram is written, or cannot be: gives up what is too old, and fills the budget of
    /// repeats.
    pub(crate) fn begin(&mut self, now: Micros, path: PathState, pool: &mut Pool) {
        self.path = path;
        if let Some(repeater) = &mut self.repeater {
            repeater.refill(now, &path);
        }
        self.expire(now, pool);
    }

    /// No further datagram leaves now: what still waits on a sequenced channel will make way for the next message.
    pub(crate) fn end_round(&mut self) {
        self.queues.all_unreliable().for_each(Unreliable::end_round);
    }

    /// Writes what fits into packet `number`, and notes each piece in `refs`.
    ///
    /// Channels with a lower `priority` go first; those with the same priority take turns at being first, so that none
    /// starves another when the path is slower than the application. Repeats come last, and only when nothing else
    /// waits: they take the room that is left.
    pub(crate) fn fill(
        &mut self,
        now: Micros,
        number: u64,
        writer: &mut Writer<'_>,
        refs: &mut VecDeque<PieceRef>,
        pool: &mut Pool,
    ) {
        let Sending { queues, repeater, counts, path, .. } = self;
        let mut packing = Packing { now, number, writer, refs, path: *path, repeater, pool, counts };
        if let Some(repeater) = packing.repeater
            && queues.has_pending()
        {
            repeater.end_tail();
        }
        let mut rest = &mut queues.entries[..];
        while let Some(first) = rest.first() {
            let priority = first.config.priority;
            let count = rest.iter().take_while(|entry| entry.config.priority == priority).count();
            let (equals, after) = mem::take(&mut rest).split_at_mut(count);
            let turn = if count == 1 { 0 } else { (number % count as u64) as usize };
            let (later, sooner) = equals.split_at_mut(turn);
            for ChannelQueue { channel, config, queue } in sooner.iter_mut().chain(later) {
                match queue {
                    Queue::Reliable(queue) => queue.fill(*channel, config, &mut packing),
                    Queue::Unreliable(queue) => queue.fill(*channel, &mut packing),
                }
            }
            rest = after;
        }
        if packing.repeater.is_some() && !packing.path.limited && !queues.has_pending() {
            packing.fill_repeats(queues);
        }
    }

    // ---- what became of it ----

    pub(crate) fn on_acked(&mut self, piece: PieceRef, pool: &mut Pool) {
        if let Some(queue) = self.queues.reliable_mut(piece.channel) {
            self.queued -= queue.on_acked(piece.id, piece.piece, pool);
        }
    }

    /// Packet `number`, which held `piece`, is lost or overdue. Returns whether that is reason enough for a probe. It
    /// is not if the channel repeats messages anyway and a later packet carries this piece as well: the timer will run
    /// for that packet.
    pub(crate) fn on_lost(&mut self, piece: PieceRef, number: u64) -> bool {
        let path = self.path;
        let Some(ChannelQueue { queue: Queue::Reliable(queue), config, .. }) =
            self.queues.find(piece.channel)
        else {
            return false;
        };
        queue.on_lost(piece.id, piece.piece, number) || !path.wants_note(config)
    }

    /// Has the oldest unacknowledged pieces sent again, about `bytes` of them: for a probe.
    pub(crate) fn repeat_oldest(&mut self, mut bytes: usize) {
        for entry in &mut self.queues.entries {
            if let Queue::Reliable(queue) = &mut entry.queue {
                queue.repeat_oldest(&mut bytes);
            }
        }
    }

    // ---- time ----

    /// Nothing was sent for a long time: gives back what is not in use.
    pub(crate) fn rest(&mut self) {
        for entry in &mut self.queues.entries {
            match &mut entry.queue {
                Queue::Reliable(queue) => queue.rest(),
                Queue::Unreliable(queue) => queue.rest(),
            }
        }
        self.queues.entries.shrink_to_fit();
        self.expiring.shrink_to_fit();
        self.repeater.take_if(|repeater| repeater.is_idle());
    }

    /// When `expire` is to be called next.
    pub(crate) fn expires_at(&self) -> Micros {
        self.expiring.peek().map_or(NEVER, |Reverse((at, ..))| *at)
    }

    /// When a datagram is wanted for repeats alone, for which nothing but sending is to be done.
    pub(crate) fn repeats_at(&self) -> Micros {
        self.repeater.as_ref().and_then(|repeater| repeater.deadline()).unwrap_or(NEVER)
    }

    /// Gives up what is too old.
    pub(crate) fn expire(&mut self, now: Micros, pool: &mut Pool) {
        while let Some(&Reverse((at, channel, id))) = self.expiring.peek()
            && at <= now
        {
            self.expiring.pop();
            let queue = self.queues.reliable_mut(channel);
            if let Some(freed) = queue.and_then(|queue| queue.give_up(id, pool)) {
                self.queued -= freed;
                self.counts.expired += 1;
            }
        }
        for queue in self.queues.all_unreliable() {
            self.counts.expired += queue.expire(now, pool);
        }
    }

    /// Forgets the times of settled messages once most are, so that long lifetimes cost no memory.
    fn tidy_expiring(&mut self) {
        let messages_max = self.queued / MESSAGE_COST;
        if self.expiring.len() <= 64 + 2 * messages_max {
            return;
        }
        let queues = &self.queues;
        self.expiring.retain(|&Reverse((_, channel, id))| {
            queues.reliable(channel).is_some_and(|queue| queue.is_alive(id))
        });
    }
}
