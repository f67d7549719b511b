//! The sending half of one reliable channel: messages in pieces, each of which is kept until it is acknowledged.

use std::{collections::VecDeque, mem};

use super::{MESSAGE_COST, Packing, PieceRef, repeats::REPEAT_BYTES_MAX};
use crate::{
    channel::{Channel, ChannelConfig},
    packet::FRAGMENT_BYTES,
    pool::Pool,
    queue::{shrink, thin},
};

/// Ids that may be under way at once on a channel: far fewer than 16 bits on the wire can tell apart.
const IDS_AHEAD_MAX: usize = 4096;
/// In place of the index of a piece: says that the message is to be skipped.
const SKIP: u32 = u32::MAX;

/// See the module.
#[derive(Default)]
pub(super) struct Reliable {
    /// Id of the first message in `queue`. All earlier ones are acknowledged.
    base: u64,
    queue: VecDeque<Outgoing>,
    /// The pieces of all messages in `queue`, one after the other.
    pieces: VecDeque<Piece>,
    pieces_base: u64,
    /// The first (id, piece) that was never sent.
    fresh: (u64, u32),
    /// What is to be sent again, the oldest message first, since a receiver whose memory is full takes nothing else.
    /// May name pieces that were acknowledged meanwhile.
    again: VecDeque<(u64, u32)>,
    /// Bytes of the pieces from `fresh` on.
    pub(super) unsent: usize,
}

struct Outgoing {
    bytes: Vec<u8>,
    pieces_at: u64,
    count: u32,
    unacked: u32,
    /// It was given up, and its bytes are gone. Its first piece now says that it is to be skipped; the others mean
    /// nothing.
    skipped: bool,
}

impl Outgoing {
    /// Whether it is short enough to be repeated.
    fn is_small(&self) -> bool {
        self.count == 1 && self.bytes.len() <= REPEAT_BYTES_MAX
    }
}

#[derive(Clone, Copy)]
struct Piece {
    state: PieceState,
    /// The last packet that carried it. Packets are found lost in their order: when this one is, all earlier ones have
    /// been.
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PieceState {
    Unsent,
    UnderWay,
    Lost,
    Acked,
}

/// A message that may be sent again before anything is known of it.
pub(super) struct Repeatable {
    pub(super) length: usize,
    /// The last packet that carried it.
    pub(super) carried_by: u64,
}

impl Reliable {
    /// Returns the id of the message.
    pub(super) fn push(&mut self, bytes: Vec<u8>) -> u64 {
        self.unsent += bytes.len();
        let count = bytes.len().div_ceil(FRAGMENT_BYTES).max(1) as u32;
        let pieces_at = self.pieces_base + self.pieces.len() as u64;
        let unsent = Piece { state: PieceState::Unsent, number: 0 };
        self.pieces.extend((0..count).map(|_| unsent));
        self.queue.push_back(Outgoing { bytes, pieces_at, count, unacked: count, skipped: false });
        self.base + self.queue.len() as u64 - 1
    }

    fn message(&self, id: u64) -> Option<&Outgoing> {
        self.queue.get(usize::try_from(id.checked_sub(self.base)?).ok()?)
    }

    fn message_mut(&mut self, id: u64) -> Option<&mut Outgoing> {
        self.queue.get_mut(usize::try_from(id.checked_sub(self.base)?).ok()?)
    }

    /// Where the piece is that `index` of a message means by now; `None` for the former pieces of a skipped message.
    fn place(&self, id: u64, index: u32) -> Option<usize> {
        let message = self.message(id)?;
        let index = match (message.skipped, index) {
            (true, SKIP) => 0,
            (false, index) if index < message.count => index,
            _ => return None,
        };
        Some((message.pieces_at - self.pieces_base) as usize + index as usize)
    }

    /// The first piece that is to be sent again.
    fn lost(&mut self) -> Option<(u64, u32)> {
        while let Some(&(id, index)) = self.again.front() {
            let piece = self.place(id, index).and_then(|at| self.pieces.get(at));
            if piece.is_some_and(|piece| piece.state == PieceState::Lost) {
                return Some((id, index));
            }
            self.again.pop_front();
        }
        None
    }

    /// Whether a piece waits to be sent or sent again.
    pub(super) fn has_pending(&mut self) -> bool {
        let fresh = (self.fresh.0 - self.base) as usize;
        (fresh < self.queue.len() && fresh < IDS_AHEAD_MAX) || self.lost().is_some()
    }

    /// Whether a message is not acknowledged and not given up.
    pub(super) fn is_alive(&self, id: u64) -> bool {
        self.message(id).is_some_and(|message| message.unacked > 0 && !message.skipped)
    }

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.queue.shrink_to_fit();
        self.pieces.shrink_to_fit();
        self.again.shrink_to_fit();
    }

    /// Writes what fits, lost pieces before fresh ones.
    pub(super) fn fill(&mut self, channel: Channel, config: &ChannelConfig, packing: &mut Packing<'_, '_>) {
        while let Some((id, index)) = self.lost() {
            if !self.write(channel, id, index, packing) {
                return;
            }
            self.again.pop_front();
            packing.counts.retransmitted += 1;
            if index != SKIP && self.message(id).is_some_and(Outgoing::is_small) {
                packing.note_again(channel, config, id);
            }
        }
        loop {
            let (id, index) = self.fresh;
            let at = (id - self.base) as usize;
            if at >= IDS_AHEAD_MAX {
                return;
            }
            let Some(message) = self.queue.get(at) else { return };
            let (count, skipped) = (message.count, message.skipped);
            let left = message.bytes.len().saturating_sub(index as usize * FRAGMENT_BYTES);
            let is_small = !skipped && message.is_small();
            if !self.write(channel, id, if skipped { SKIP } else { index }, packing) {
                return;
            }
            if is_small {
                packing.note_fresh(channel, config, id);
            }
            self.unsent -= left.min(FRAGMENT_BYTES);
            self.fresh = if skipped || index + 1 == count { (id + 1, 0) } else { (id, index + 1) };
        }
    }

    /// Writes one piece if it fits.
    fn write(&mut self, channel: Channel, id: u64, index: u32, packing: &mut Packing<'_, '_>) -> bool {
        let Some(at) = self.place(id, index) else { return false };
        let Some(message) = self.message(id) else { return false };
        let fits = if index == SKIP {
            packing.writer.skip(channel, id)
        } else if message.count == 1 {
            packing.writer.message(channel, id, &message.bytes)
        } else {
            let start = index as usize * FRAGMENT_BYTES;
            let end = (start + FRAGMENT_BYTES).min(message.bytes.len());
            packing.writer.fragment(channel, id, index, message.count, &message.bytes[start..end])
        };
        if fits {
            self.pieces[at] = Piece { state: PieceState::UnderWay, number: packing.number };
            packing.refs.push_back(PieceRef { channel, piece: index, id });
        }
        fits
    }

    /// Describes a message if it may be repeated: it is in one piece and still under way.
    pub(super) fn repeatable(&self, id: u64) -> Option<Repeatable> {
        let message = self.message(id)?;
        if message.skipped || message.count != 1 {
            return None;
        }
        let piece = self.pieces[(message.pieces_at - self.pieces_base) as usize];
        let is_under_way = piece.state == PieceState::UnderWay;
        is_under_way.then_some(Repeatable { length: message.bytes.len(), carried_by: piece.number })
    }

    /// Repeats a message in one piece that is under way, if it fits.
    pub(super) fn repeat(&mut self, channel: Channel, id: u64, packing: &mut Packing<'_, '_>) -> bool {
        self.write(channel, id, 0, packing)
    }

    /// Returns the cost that was freed: that of the whole message with its last piece, nothing before.
    pub(super) fn on_acked(&mut self, id: u64, index: u32, pool: &mut Pool) -> usize {
        let Some(at) = self.place(id, index) else { return 0 };
        match &mut self.pieces[at].state {
            PieceState::Acked => return 0,
            state => *state = PieceState::Acked,
        }
        let Some(message) = self.message_mut(id) else { return 0 };
        message.unacked -= 1;
        if message.unacked > 0 {
            return 0;
        }
        let freed = message.bytes.len() + MESSAGE_COST;
        // The entry may have to stay behind an older one, but its bytes need not.
        pool.give(mem::take(&mut message.bytes));
        while let Some(front) = self.queue.front().filter(|front| front.unacked == 0) {
            self.pieces.drain(..front.count as usize);
            self.pieces_base += u64::from(front.count);
            self.queue.pop_front();
            self.base += 1;
        }
        if self.queue.is_empty() {
            self.again.clear();
            shrink(&mut self.queue);
            shrink(&mut self.pieces);
            shrink(&mut self.again);
        }
        thin(&mut self.queue);
        thin(&mut self.pieces);
        freed
    }

    /// Packet `number`, which held the piece, is lost. Returns whether it was the last to carry the piece.
    pub(super) fn on_lost(&mut self, id: u64, index: u32, number: u64) -> bool {
        let Some(at) = self.place(id, index) else { return false };
        let piece = &mut self.pieces[at];
        let is_lost = piece.state == PieceState::UnderWay && piece.number == number;
        if is_lost {
            piece.state = PieceState::Lost;
            insert(&mut self.again, (id, index));
        }
        is_lost
    }

    /// Has the oldest pieces that are under way sent again, about `bytes` of them.
    pub(super) fn repeat_oldest(&mut self, bytes: &mut usize) {
        for (id, message) in (self.base..).zip(&self.queue) {
            let first = (message.pieces_at - self.pieces_base) as usize;
            let live = if message.skipped { 1 } else { message.count };
            for (index, piece) in (0..live).zip(self.pieces.range_mut(first..)) {
                if *bytes == 0 || piece.state == PieceState::Unsent {
                    return;
                }
                if piece.state == PieceState::UnderWay {
                    piece.state = PieceState::Lost;
                    insert(&mut self.again, (id, if message.skipped { SKIP } else { index }));
                    *bytes = bytes.saturating_sub(message.bytes.len().min(FRAGMENT_BYTES) + 8);
                }
            }
        }
    }

    /// Gives a message up: from now on only a skip is sent for it. Returns the bytes that were freed; `None` if the
    /// message was acknowledged or given up already.
    pub(super) fn give_up(&mut self, id: u64, pool: &mut Pool) -> Option<usize> {
        if !self.is_alive(id) {
            return None;
        }
        let was_sent = self.fresh > (id, 0);
        let sent_pieces = match self.fresh {
            (fresh, _) if fresh > id => u32::MAX,
            (fresh, index) if fresh == id => index,
            _ => 0,
        };
        let (base, pieces_base) = (self.base, self.pieces_base);
        let message = self.queue.get_mut((id - base) as usize)?;
        (message.skipped, message.unacked) = (true, 1);
        let first = (message.pieces_at - pieces_base) as usize;
        let freed = message.bytes.len();
        self.unsent -= freed.saturating_sub((sent_pieces as usize).saturating_mul(FRAGMENT_BYTES));
        pool.give(mem::take(&mut message.bytes));
        if was_sent {
            self.pieces[first].state = PieceState::Lost;
            insert(&mut self.again, (id, SKIP));
            self.fresh = self.fresh.max((id + 1, 0));
        }
        Some(freed)
    }
}

/// Inserts a piece in order. What is lost is mostly newer than what was lost before.
fn insert(again: &mut VecDeque<(u64, u32)>, piece: (u64, u32)) {
    if again.back().is_none_or(|&last| last < piece) {
        again.push_back(piece);
        return;
    }
    let at = again.partition_point(|&other| other < piece);
    if again.get(at) != Some(&piece) {
        again.insert(at, piece);
    }
}
