//! A message of which fragments come in.

use super::{Fragment, InboxContext, Need, PIECE_COST, SLOT_COST, Taken};
use crate::{
    config::Config,
    error::Violation,
    packet::{FRAGMENT_BYTES_MIN, UNRELIABLE_FRAGMENTS_MAX},
    pool::Pool,
};

/// The fragments so far.
pub(super) struct Parts {
    have: u32,
    /// A `u32`, so that a slot of an ordered channel is no longer than what it costs.
    bytes: u32,
    /// By index. Empty where no fragment has come, since fragments are never empty.
    pieces: Vec<Vec<u8>>,
}

/// Refuses what no correct sender sends. Bounds `count`, so that places for all fragments can be made.
pub(super) fn check(fragment: &Fragment<'_>, is_reliable: bool, config: &Config) -> Result<(), Violation> {
    let message_max = config.message_bytes_max;
    // Every fragment but the last has at least this many bytes.
    let count_max = message_max / FRAGMENT_BYTES_MIN + 1;
    if fragment.count as usize > count_max || (!is_reliable && fragment.count > UNRELIABLE_FRAGMENTS_MAX) {
        return Err(Violation::TooLarge(message_max));
    }
    let is_last = fragment.index + 1 == fragment.count;
    if !is_last && fragment.bytes.len() < FRAGMENT_BYTES_MIN {
        return Err(Violation::BadFragment);
    }
    Ok(())
}

impl Parts {
    /// What making place for `count` fragments costs.
    pub(super) fn cost_of(count: u32) -> usize {
        count as usize * SLOT_COST
    }

    pub(super) fn new(count: u32, pool: &mut Pool) -> Parts {
        Parts { have: 0, bytes: 0, pieces: pool.take_table(count as usize) }
    }

    /// Everything that was booked for it.
    pub(super) fn cost(&self) -> usize {
        self.bytes as usize + self.have as usize * PIECE_COST + Parts::cost_of(self.pieces.len() as u32)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.have as usize == self.pieces.len()
    }

    /// Adds a fragment, if there is room for it.
    pub(super) fn add(
        &mut self,
        fragment: Fragment<'_>,
        need: Need,
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        let Fragment { index, count, bytes } = fragment;
        if count as usize != self.pieces.len() {
            return Err(Violation::BadFragment);
        }
        let Some(place) = self.pieces.get_mut(index as usize) else { return Err(Violation::BadFragment) };
        if !place.is_empty() {
            return Ok(Taken::Yes);
        }
        let message_max = cx.config.message_bytes_max;
        let length = self.bytes as usize + bytes.len();
        let Some(length) = u32::try_from(length).ok().filter(|_| length <= message_max) else {
            return Err(Violation::TooLarge(message_max));
        };
        if !cx.book(bytes.len() + PIECE_COST, need) {
            return Ok(Taken::No);
        }
        *place = cx.pool.copy(bytes);
        self.bytes = length;
        self.have += 1;
        Ok(Taken::Yes)
    }

    /// The whole message, in one buffer.
    pub(super) fn join(self, cx: &mut InboxContext<'_>) -> Vec<u8> {
        let mut whole = cx.pool.take(self.bytes as usize);
        for piece in &self.pieces {
            whole.extend_from_slice(piece);
        }
        self.give_up(cx);
        whole
    }

    /// The message will not be completed.
    pub(super) fn give_up(self, cx: &mut InboxContext<'_>) {
        cx.give_back(self.cost());
        cx.pool.give_table(self.pieces);
    }
}
