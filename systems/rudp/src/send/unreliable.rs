//! The sending half of one unreliable channel: a short queue that drops its oldest messages.

use std::collections::VecDeque;

use super::Packing;
use crate::{
    channel::{Channel, ChannelKind},
    config::Config,
    packet::FRAGMENT_BYTES,
    pool::Pool,
    queue::shrink,
    timer::Micros,
};

/// See the module.
#[derive(Default)]
pub(super) struct Unreliable {
    queue: VecDeque<Waiting>,
    pub(super) bytes: usize,
    /// Id of the message in front. Ids are given when a message is sent and not when it is queued, so that messages
    /// dropped unsent leave no gap.
    next: u64,
    /// Fragments of the message in front that were sent.
    left: u32,
    /// How many messages, from the front, waited already when the last datagram was written.
    old: usize,
}

struct Waiting {
    bytes: Vec<u8>,
    expires: Micros,
}

impl Unreliable {
    /// Queues a message. Returns how many older ones were dropped for it.
    pub(super) fn push(
        &mut self,
        kind: ChannelKind,
        config: &Config,
        bytes: Vec<u8>,
        expires: Micros,
        pool: &mut Pool,
    ) -> u64 {
        let mut dropped = 0;
        if kind == ChannelKind::Sequenced {
            for _ in 0..self.old {
                self.drop_front(pool);
                dropped += 1;
            }
        }
        self.bytes += bytes.len();
        self.queue.push_back(Waiting { bytes, expires });
        while self.queue.len() > 1
            && (self.queue.len() > config.unreliable_messages_max || self.bytes > config.unreliable_bytes_max)
        {
            self.drop_front(pool);
            dropped += 1;
        }
        dropped
    }

    fn drop_front(&mut self, pool: &mut Pool) {
        let Some(front) = self.queue.pop_front() else { return };
        self.bytes -= front.bytes.len();
        pool.give(front.bytes);
        // If any of the message was sent, its id is used up.
        self.next += u64::from(self.left > 0);
        self.left = 0;
        self.old = self.old.saturating_sub(1);
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whatever waits now is older than whatever comes next.
    pub(super) fn end_round(&mut self) {
        self.old = self.queue.len();
    }

    /// Drops the messages whose lifetime is over. Returns how many.
    pub(super) fn expire(&mut self, now: Micros, pool: &mut Pool) -> u64 {
        let mut dropped = 0;
        while self.queue.front().is_some_and(|front| front.expires <= now) {
            self.drop_front(pool);
            dropped += 1;
        }
        dropped
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Writes what fits.
    pub(super) fn fill(&mut self, channel: Channel, packing: &mut Packing<'_, '_>) {
        while let Some(front) = self.queue.front() {
            if front.expires <= packing.now {
                packing.counts.expired += 1;
                self.drop_front(packing.pool);
                continue;
            }
            let count = front.bytes.len().div_ceil(FRAGMENT_BYTES).max(1) as u32;
            let fits = if count == 1 {
                packing.writer.message(channel, self.next, &front.bytes)
            } else {
                let start = self.left as usize * FRAGMENT_BYTES;
                let end = (start + FRAGMENT_BYTES).min(front.bytes.len());
                let piece = &front.bytes[start..end];
                packing.writer.fragment(channel, self.next, self.left, count, piece)
            };
            if !fits {
                return;
            }
            self.left += 1;
            if self.left == count {
                self.drop_front(packing.pool);
            }
        }
        shrink(&mut self.queue);
    }
}
