//! The sending half of the channels: what waits, what is under way, what must go again.

use std::collections::VecDeque;

use crate::{
    channel::Channel,
    config::Config,
    error::SendError,
    packet::{UNRELIABLE_BYTES_MAX, Writer},
    pool::Pool,
};

/// What a queued message costs beside its bytes, so that empty ones are not free.
pub(crate) const MESSAGE_COST: usize = 64;
/// Ids that may be under way at once on a channel: far within what 16 bits on the wire can tell apart.
const IDS_AHEAD_MAX: u64 = 4096;

/// A place in a sent packet that holds (a piece of) a reliable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PieceRef {
    pub(crate) channel: Channel,
    pub(crate) piece: u32,
    pub(crate) id: u64,
}

/// All channels of one connection.
pub(crate) struct Sending {
    reliable: [Reliable; 2],
    unreliable: Unreliable,
    /// Cost of all reliable messages that are not acknowledged.
    queued: usize,
    /// `WouldBlock` was answered, and `Writable` is owed.
    blocked: bool,
    /// Buffers of messages that are done with, for the pool.
    garbage: Vec<Vec<u8>>,
    pub(crate) retransmitted: u64,
    pub(crate) superseded: u64,
}

impl Sending {
    pub(crate) fn new() -> Sending {
        Sending {
            reliable: [Reliable::default(), Reliable::default()],
            unreliable: Unreliable::default(),
            queued: 0,
            blocked: false,
            garbage: Vec::new(),
            retransmitted: 0,
            superseded: 0,
        }
    }

    /// Queues the message that `parts` make up, whole or not at all.
    pub(crate) fn push(
        &mut self,
        config: &Config,
        pool: &mut Pool,
        channel: Channel,
        parts: &[&[u8]],
    ) -> Result<(), SendError> {
        let length = parts.iter().map(|part| part.len()).sum();
        if !channel.is_reliable() {
            if length > UNRELIABLE_BYTES_MAX {
                return Err(SendError::TooLarge { bytes: length, max: UNRELIABLE_BYTES_MAX });
            }
            self.superseded += self.unreliable.push(config, pool, parts, length);
            return Ok(());
        }
        let max = config.message_bytes_max.min(config.queue_bytes_max.saturating_sub(MESSAGE_COST));
        if length > max {
            return Err(SendError::TooLarge { bytes: length, max });
        }
        if self.queued + length + MESSAGE_COST > config.queue_bytes_max {
            self.blocked = true;
            return Err(SendError::WouldBlock);
        }
        self.queued += length + MESSAGE_COST;
        self.reliable[usize::from(channel.number())].push(pool.join(parts, length));
        Ok(())
    }

    /// Whether a message waits to be sent or sent again.
    pub(crate) fn has_pending(&mut self) -> bool {
        !self.unreliable.queue.is_empty() || self.reliable.iter_mut().any(|channel| channel.peek().is_some())
    }

    /// Gives the buffers of messages that are done with back.
    pub(crate) fn reclaim(&mut self, pool: &mut Pool) {
        self.garbage.drain(..).for_each(|buffer| pool.give(buffer));
        if self.garbage.capacity() > 128 {
            self.garbage = Vec::new();
        }
    }

    /// Whether every reliable message was acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queued == 0
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued + self.unreliable.bytes
    }

    /// Once after a `WouldBlock`, when less than half of the bound is taken.
    pub(crate) fn take_writable(&mut self, config: &Config) -> bool {
        let writable = self.blocked && self.queued < config.queue_bytes_max / 2;
        self.blocked &= !writable;
        writable
    }

    /// Writes what fits into packet `number`, and notes each piece in `refs`.
    ///
    /// Control goes first. The other two take turns in front, so that neither starves the other when the path is
    /// slower than the application.
    pub(crate) fn fill(&mut self, number: u64, writer: &mut Writer<'_>, refs: &mut VecDeque<PieceRef>) {
        self.fill_reliable(Channel::CONTROL, number, writer, refs);
        if number.is_multiple_of(2) {
            self.unreliable.fill(writer, &mut self.garbage);
            self.fill_reliable(Channel::DATA, number, writer, refs);
        } else {
            self.fill_reliable(Channel::DATA, number, writer, refs);
            self.unreliable.fill(writer, &mut self.garbage);
        }
    }

    fn fill_reliable(
        &mut self,
        channel: Channel,
        number: u64,
        writer: &mut Writer<'_>,
        refs: &mut VecDeque<PieceRef>,
    ) {
        let queue = &mut self.reliable[usize::from(channel.number())];
        while let Some((id, piece)) = queue.peek() {
            let Some((bytes, count)) = queue.piece(id, piece) else { break };
            let fits = match count {
                1 => writer.message(channel, id, bytes),
                _ => writer.fragment(channel, id, piece, count, bytes),
            };
            if !fits {
                break;
            }
            self.retransmitted += u64::from(queue.take(number));
            refs.push_back(PieceRef { channel, piece, id });
        }
    }

    pub(crate) fn on_acked(&mut self, piece: PieceRef) {
        let channel = &mut self.reliable[usize::from(piece.channel.number())];
        self.queued -= channel.on_acked(piece.id, piece.piece, &mut self.garbage);
    }

    /// Lets the oldest unacknowledged pieces go again, about `bytes` of them: for a probe.
    pub(crate) fn repeat_oldest(&mut self, mut bytes: usize) {
        for channel in &mut self.reliable {
            channel.repeat_oldest(&mut bytes);
        }
    }

    /// Packet `number`, which held `piece`, is lost.
    pub(crate) fn on_lost(&mut self, piece: PieceRef, number: u64) {
        self.reliable[usize::from(piece.channel.number())].on_lost(piece.id, piece.piece, number);
    }
}

/// One reliable channel.
#[derive(Default)]
struct Reliable {
    /// Id of the first message in `queue`; all before it are acknowledged.
    base: u64,
    queue: VecDeque<Outgoing>,
    /// The first (id, piece) that was never sent.
    fresh: (u64, u32),
    /// What is to be sent again, the longest lost first. May name pieces acknowledged meanwhile.
    again: VecDeque<(u64, u32)>,
}

struct Outgoing {
    bytes: Vec<u8>,
    /// One for a message that fits into a datagram: no allocation for these.
    first: Piece,
    rest: Box<[Piece]>,
    unacked: u32,
}

#[derive(Clone, Copy)]
struct Piece {
    state: PieceState,
    /// The last packet that carried it: only that one's loss counts.
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PieceState {
    Unsent,
    UnderWay,
    Lost,
    Acked,
}

impl Piece {
    const UNSENT: Piece = Piece { state: PieceState::Unsent, number: 0 };
}

impl Outgoing {
    fn pieces(&self) -> u32 {
        self.rest.len() as u32 + 1
    }

    fn piece(&mut self, index: u32) -> Option<&mut Piece> {
        match index {
            0 => Some(&mut self.first),
            _ => self.rest.get_mut(index as usize - 1),
        }
    }
}

impl Reliable {
    fn push(&mut self, bytes: Vec<u8>) {
        let pieces = bytes.len().div_ceil(UNRELIABLE_BYTES_MAX).max(1);
        let rest = vec![Piece::UNSENT; pieces - 1].into_boxed_slice();
        self.queue.push_back(Outgoing { bytes, first: Piece::UNSENT, rest, unacked: pieces as u32 });
    }

    fn message(&mut self, id: u64) -> Option<&mut Outgoing> {
        let index = id.checked_sub(self.base)?;
        self.queue.get_mut(usize::try_from(index).ok()?)
    }

    /// The piece to send next: lost ones before fresh ones.
    fn peek(&mut self) -> Option<(u64, u32)> {
        while let Some(&(id, piece)) = self.again.front() {
            let state = self.message(id).and_then(|message| message.piece(piece)).map(|piece| piece.state);
            if state == Some(PieceState::Lost) {
                return Some((id, piece));
            }
            self.again.pop_front();
        }
        let is_there = self.fresh.0 < self.base + self.queue.len() as u64;
        (is_there && self.fresh.0 < self.base + IDS_AHEAD_MAX).then_some(self.fresh)
    }

    /// The bytes of a piece, and how many pieces its message has.
    fn piece(&self, id: u64, piece: u32) -> Option<(&[u8], u32)> {
        let message = self.queue.get(usize::try_from(id.checked_sub(self.base)?).ok()?)?;
        let start = piece as usize * UNRELIABLE_BYTES_MAX;
        let end = (start + UNRELIABLE_BYTES_MAX).min(message.bytes.len());
        Some((message.bytes.get(start..end)?, message.pieces()))
    }

    /// The piece that `peek` named is in packet `number` now. True when it was sent before.
    fn take(&mut self, number: u64) -> bool {
        let Some((id, index)) = self.peek() else { return false };
        let again = self.again.front() == Some(&(id, index));
        if again {
            self.again.pop_front();
        }
        let Some(message) = self.message(id) else { return again };
        let pieces = message.pieces();
        if let Some(piece) = message.piece(index) {
            *piece = Piece { state: PieceState::UnderWay, number };
        }
        if !again {
            self.fresh = if index + 1 < pieces { (id, index + 1) } else { (id + 1, 0) };
        }
        again
    }

    /// Returns the cost that was freed: all of the message with its last piece.
    fn on_acked(&mut self, id: u64, index: u32, garbage: &mut Vec<Vec<u8>>) -> usize {
        let Some(message) = self.message(id) else { return 0 };
        match message.piece(index) {
            Some(piece) if piece.state != PieceState::Acked => piece.state = PieceState::Acked,
            _ => return 0,
        }
        message.unacked -= 1;
        if message.unacked > 0 {
            return 0;
        }
        let freed = message.bytes.len() + MESSAGE_COST;
        // The entry may have to stay behind an older one; its bytes need not.
        garbage.push(std::mem::take(&mut message.bytes));
        while self.queue.front().is_some_and(|front| front.unacked == 0) {
            self.queue.pop_front();
            self.base += 1;
        }
        if self.queue.is_empty() {
            self.again.clear();
            shrink(&mut self.queue);
            shrink(&mut self.again);
        }
        freed
    }

    fn repeat_oldest(&mut self, bytes: &mut usize) {
        for (id, message) in (self.base..).zip(&mut self.queue) {
            let pieces = [&mut message.first].into_iter().chain(&mut message.rest);
            for (index, piece) in (0..).zip(pieces) {
                if *bytes == 0 || piece.state == PieceState::Unsent {
                    return;
                }
                if piece.state == PieceState::UnderWay {
                    piece.state = PieceState::Lost;
                    self.again.push_back((id, index));
                    *bytes = bytes.saturating_sub(message.bytes.len().min(UNRELIABLE_BYTES_MAX) + 8);
                }
            }
        }
    }

    fn on_lost(&mut self, id: u64, index: u32, number: u64) {
        let Some(piece) = self.message(id).and_then(|message| message.piece(index)) else { return };
        if piece.state == PieceState::UnderWay && piece.number == number {
            piece.state = PieceState::Lost;
            self.again.push_back((id, index));
        }
    }
}

/// Gives the memory of a burst back once it is over.
pub(crate) fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > 128 {
        *queue = VecDeque::new();
    }
}

/// The unreliable channel: a short queue that forgets its oldest.
#[derive(Default)]
struct Unreliable {
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Given when a message is sent, not when it is queued: what was dropped unsent leaves no gap.
    next: u64,
}

impl Unreliable {
    /// Returns how many older messages were dropped for it.
    fn push(&mut self, config: &Config, pool: &mut Pool, parts: &[&[u8]], length: usize) -> u64 {
        self.bytes += length;
        self.queue.push_back(pool.join(parts, length));
        let mut dropped = 0;
        while self.queue.len() > 1
            && (self.queue.len() > config.unreliable_messages_max || self.bytes > config.unreliable_bytes_max)
        {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes -= oldest.len();
            pool.give(oldest);
            dropped += 1;
        }
        dropped
    }

    fn fill(&mut self, writer: &mut Writer<'_>, garbage: &mut Vec<Vec<u8>>) {
        while let Some(message) = self.queue.front() {
            if !writer.message(Channel::UNRELIABLE, self.next, message) {
                return;
            }
            self.bytes -= message.len();
            self.next += 1;
            garbage.extend(self.queue.pop_front());
        }
        shrink(&mut self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sending: &mut Sending, number: u64) -> (Vec<u8>, Vec<PieceRef>) {
        let (mut out, mut refs) = (Vec::new(), VecDeque::new());
        let mut writer = Writer::new(&mut out, None, number, None, None);
        sending.fill(number, &mut writer, &mut refs);
        writer.finish();
        (out, refs.into())
    }

    #[test]
    fn messages_coalesce_and_go_again_only_for_their_last_packet() {
        let config = Config::default();
        let mut sending = Sending::new();
        for text in ["a", "b", "c"] {
            sending.push(&config, &mut Pool::new(0), Channel::DATA, &[text.as_bytes(), b"!"]).unwrap();
        }
        let (_, refs) = packet(&mut sending, 0);
        assert_eq!(refs.len(), 3);
        assert!(!sending.has_pending());
        // A probe repeats the first; then packet 0 is found lost, too.
        sending.repeat_oldest(1);
        assert_eq!(packet(&mut sending, 1).1, [refs[0]]);
        refs.iter().for_each(|&piece| sending.on_lost(piece, 0));
        assert_eq!(packet(&mut sending, 2).1, refs[1..]);
        assert_eq!(sending.retransmitted, 3);
        refs.iter().for_each(|&piece| sending.on_acked(piece));
        refs.iter().for_each(|&piece| sending.on_acked(piece));
        assert!(sending.is_flushed());
        assert_eq!(sending.queued_bytes(), 0);
    }

    #[test]
    fn what_was_acknowledged_is_not_sent_again() {
        let config = Config::default();
        let mut sending = Sending::new();
        sending.push(&config, &mut Pool::new(0), Channel::CONTROL, &[&[1; 3000]]).unwrap();
        let refs: Vec<_> = (0..3).flat_map(|number| packet(&mut sending, number).1).collect();
        assert_eq!(refs.len(), 3);
        for (number, &piece) in (0..).zip(&refs) {
            sending.on_lost(piece, number);
        }
        sending.on_acked(refs[1]);
        assert_eq!(packet(&mut sending, 3).1, [refs[0]]);
        assert_eq!(packet(&mut sending, 4).1, [refs[2]]);
        assert!(!sending.has_pending() && !sending.is_flushed());
    }

    #[test]
    fn a_full_queue_blocks_and_half_a_queue_is_writable() {
        let config = Config { queue_bytes_max: 1000, ..Config::default() };
        let mut sending = Sending::new();
        let too_large = SendError::TooLarge { bytes: 937, max: 936 };
        assert_eq!(sending.push(&config, &mut Pool::new(0), Channel::DATA, &[&[0; 937]]), Err(too_large));
        let mut refs = Vec::new();
        for number in 0..5 {
            sending.push(&config, &mut Pool::new(0), Channel::DATA, &[&[0; 136]]).unwrap();
            refs.extend(packet(&mut sending, number).1);
        }
        assert!(!sending.take_writable(&config));
        assert_eq!(
            sending.push(&config, &mut Pool::new(0), Channel::CONTROL, &[]),
            Err(SendError::WouldBlock)
        );
        refs[..2].iter().for_each(|&piece| sending.on_acked(piece));
        assert!(!sending.take_writable(&config));
        sending.on_acked(refs[4]);
        assert!(sending.take_writable(&config));
        assert!(!sending.take_writable(&config), "once");
    }

    #[test]
    fn the_unreliable_queue_forgets_its_oldest() {
        let config = Config { unreliable_messages_max: 4, unreliable_bytes_max: 2500, ..Config::default() };
        let mut sending = Sending::new();
        for byte in 0..6 {
            sending.push(&config, &mut Pool::new(0), Channel::UNRELIABLE, &[&[byte]]).unwrap();
        }
        assert_eq!(sending.superseded, 2);
        sending.push(&config, &mut Pool::new(0), Channel::UNRELIABLE, &[&[7; 1120]]).unwrap();
        sending.push(&config, &mut Pool::new(0), Channel::UNRELIABLE, &[&[8; 1120]]).unwrap();
        assert_eq!(sending.superseded, 4);
        sending.push(&config, &mut Pool::new(0), Channel::UNRELIABLE, &[&[9; 1120]]).unwrap();
        assert_eq!(sending.unreliable.queue.len(), 2);
        let (out, refs) = packet(&mut sending, 0);
        assert!(refs.is_empty() && out[3..] == [&[0x62, 0, 0][..], &[8; 1120]].concat());
        let too_large = SendError::TooLarge { bytes: 1121, max: 1120 };
        assert_eq!(
            sending.push(&config, &mut Pool::new(0), Channel::UNRELIABLE, &[&[9; 1121]]),
            Err(too_large)
        );
    }
}
