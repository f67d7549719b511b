//! Packets on their way out: a header and frames, written into the caller's buffer.

use super::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, FLAG_ACK, FLAG_ID, FRAME_ANSWER, FRAME_CHALLENGE, FRAME_CLOSE,
    FRAME_FRAGMENT, FRAME_MESSAGE, FRAME_PADDING, FRAME_PING, FRAME_SKIP, FRAME_TO_END, cut,
};
use crate::{
    ack::Ack,
    channel::Channel,
    coding::{put_varint, varint_bytes},
    noise::TAG_BYTES,
    path::{CHALLENGE_BYTES, Challenge},
};

/// The message or fragment at the end of a packet. It needs no length while it is the last, since the packet's end says
/// it.
#[derive(Clone, Copy)]
struct Last {
    kind_at: usize,
    length_at: usize,
    length: usize,
    /// Whether the length was written. The first frame of a packet is often the only one and gets its length when
    /// another follows; those after it get theirs at once, since moving each of them would take as long as writing it.
    has_length: bool,
}

/// A packet being written into the caller's buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// The most bytes of the datagram without its tag.
    limit: usize,
    /// The last frame, if that was a message or fragment.
    last: Option<Last>,
    /// Frames that ask for an acknowledgement were written.
    pub(crate) eliciting: bool,
    /// A message or fragment did not fit that would fit into the longest datagram there is.
    pub(crate) cramped: bool,
}

impl<'a> Writer<'a> {
    /// Begins a packet: `connection` from connector to acceptor, `acked` the largest number that the other side has
    /// acknowledged, which bounds how much of `number` it needs.
    #[inline]
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        connection: Option<u32>,
        number: u64,
        acked: Option<u64>,
        ack: Option<&Ack>,
    ) -> Writer<'a> {
        out.clear();
        let unacked = acked.map_or(number + 1, |acked| number - acked);
        // The receiver expects at least `acked` + 1, so it decodes up to half a span over it. Two bytes at least: late
        // packets would decode wrongly, and be dropped, after 127 others already.
        let number_bytes = match unacked {
            0..0x7fff => 2,
            0x7fff..0x7f_ffff => 3,
            _ => 4,
        };
        let id_flag = if connection.is_some() { FLAG_ID } else { 0 };
        let ack_flag = if ack.is_some() { FLAG_ACK } else { 0 };
        out.push(id_flag | ack_flag | (number_bytes as u8 - 1));
        if let Some(connection) = connection {
            out.extend_from_slice(&connection.to_le_bytes());
        }
        out.extend_from_slice(&number.to_le_bytes()[..number_bytes]);
        if let Some(ack) = ack {
            ack.encode(out);
        }
        let limit = DATAGRAM_BYTES_BASE - TAG_BYTES;
        Writer { out, limit, last: None, eliciting: false, cramped: false }
    }

    /// Lets the datagram have this many bytes with its tag, instead of `DATAGRAM_BYTES_BASE`.
    #[inline]
    pub(crate) fn within(mut self, bytes: usize) -> Writer<'a> {
        self.limit = bytes.saturating_sub(TAG_BYTES);
        self
    }

    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.end())
    }

    /// Where the next frame will begin.
    fn end(&self) -> usize {
        let missing = self.last.filter(|last| !last.has_length);
        self.out.len() + missing.map_or(0, |last| varint_bytes(last.length as u64))
    }

    /// Before another frame is written: gives the last one its length.
    fn part(&mut self) {
        let Some(Last { kind_at, length_at, length, has_length: false }) = self.last.take() else { return };
        self.out[kind_at] &= !FRAME_TO_END;
        let length_bytes = varint_bytes(length as u64);
        self.out.resize(self.out.len() + length_bytes, 0);
        self.out.copy_within(length_at..length_at + length, length_at + length_bytes);
        let mut rest = length as u64;
        for at in length_at..length_at + length_bytes {
            let is_end = at + 1 == length_at + length_bytes;
            self.out[at] = rest as u8 & 0x7f | if is_end { 0 } else { 0x80 };
            rest >>= 7;
        }
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.room();
        self.cramped |= !fits && self.end() + bytes + TAG_BYTES <= DATAGRAM_BYTES_MAX;
        fits
    }

    /// Fills the datagram with zeros, up to `bytes` with its tag.
    pub(crate) fn pad(&mut self, bytes: usize) {
        let end = bytes.saturating_sub(TAG_BYTES).min(self.limit);
        if self.end() < end {
            self.part();
            self.out.resize(end, FRAME_PADDING);
        }
    }

    /// Challenges and answers ask for no acknowledgement. They are written if they fit.
    pub(crate) fn challenge(&mut self, challenge: &Challenge) -> bool {
        self.proof(FRAME_CHALLENGE, challenge)
    }

    /// See `challenge`.
    pub(crate) fn answer(&mut self, answer: &Challenge) -> bool {
        self.proof(FRAME_ANSWER, answer)
    }

    fn proof(&mut self, kind: u8, bytes: &Challenge) -> bool {
        if self.room() < 1 + CHALLENGE_BYTES {
            return false;
        }
        self.part();
        self.out.push(kind);
        self.out.extend_from_slice(bytes);
        true
    }

    pub(crate) fn ping(&mut self) {
        self.part();
        self.out.push(FRAME_PING);
        self.eliciting = true;
    }

    /// `reason` is cut to 200 bytes, between characters.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let reason = cut(reason);
        self.part();
        self.out.push(FRAME_CLOSE);
        self.out.extend_from_slice(&code.to_le_bytes());
        self.out.push(reason.len() as u8);
        self.out.extend_from_slice(reason.as_bytes());
    }

    /// Writes that a message is to be skipped, if that fits.
    pub(crate) fn skip(&mut self, channel: Channel, id: u64) -> bool {
        if self.room() < 4 {
            return false;
        }
        let [low, high, ..] = id.to_le_bytes();
        self.part();
        self.out.extend_from_slice(&[FRAME_SKIP, channel.number(), low, high]);
        self.eliciting = true;
        true
    }

    /// Writes a message if it fits.
    pub(crate) fn message(&mut self, channel: Channel, id: u64, bytes: &[u8]) -> bool {
        let length_bytes = varint_bytes(bytes.len() as u64);
        if !self.fits(3 + length_bytes + bytes.len()) {
            return false;
        }
        let is_first = self.last.is_none();
        self.part();
        let at = self.out.len();
        let [low, high, ..] = id.to_le_bytes();
        self.out.extend_from_slice(&[FRAME_MESSAGE | channel.number(), low, high]);
        self.counted(at, is_first, bytes);
        true
    }

    /// Writes a fragment if it fits.
    pub(crate) fn fragment(
        &mut self,
        channel: Channel,
        id: u64,
        index: u32,
        count: u32,
        bytes: &[u8],
    ) -> bool {
        let length_bytes = varint_bytes(bytes.len() as u64);
        let header = 3 + varint_bytes(index.into()) + varint_bytes(count.into()) + length_bytes;
        if !self.fits(header + bytes.len()) {
            return false;
        }
        let is_first = self.last.is_none();
        self.part();
        let at = self.out.len();
        self.out.push(FRAME_FRAGMENT | channel.number());
        self.out.extend_from_slice(&(id as u16).to_le_bytes());
        put_varint(self.out, index.into());
        put_varint(self.out, count.into());
        self.counted(at, is_first, bytes);
        true
    }

    fn counted(&mut self, kind_at: usize, is_first: bool, bytes: &[u8]) {
        self.last =
            Some(Last { kind_at, length_at: self.out.len(), length: bytes.len(), has_length: !is_first });
        if is_first {
            self.out[kind_at] |= FRAME_TO_END;
        } else {
            put_varint(self.out, bytes.len() as u64);
        }
        self.out.extend_from_slice(bytes);
        self.eliciting = true;
    }

    /// Ends the packet: takes the length out of the last frame, since the packet's end says it.
    pub(crate) fn finish(self) -> &'a mut Vec<u8> {
        if let Some(Last { kind_at, length_at, length, has_length: true }) = self.last {
            self.out[kind_at] |= FRAME_TO_END;
            let bytes_at = self.out.len() - length;
            self.out.copy_within(bytes_at.., length_at);
            self.out.truncate(length_at + length);
        }
        self.out
    }
}
