//! The rows of the table of sent packets: what is known of each, which pieces of messages it held, and what is under
//! way.

use std::collections::VecDeque;

use crate::{send::PieceRef, timer::Micros};

/// What has become of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    UnderWay,
    /// Still under way, but its messages were handed back for a probe.
    Probed,
    Acked,
    Lost,
}

impl Fate {
    pub(super) fn is_settled(self) -> bool {
        matches!(self, Fate::Acked | Fate::Lost)
    }
}

/// A sent packet that asked for an acknowledgement.
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) at: Micros,
    /// Where its pieces begin, counted from the first piece ever.
    pub(super) pieces_at: u64,
    /// The largest number that the acknowledgement in it reported, plus one; 0 if there was none.
    pub(super) ack_end: u64,
    pub(super) pieces_count: u16,
    /// With IP and UDP headers.
    pub(super) bytes: u16,
    pub(super) fate: Fate,
}

/// As `Config::packets_in_flight_max` says.
const _: () = assert!(size_of::<Sent>() == 40 && size_of::<PieceRef>() == 16);

impl Sent {
    pub(super) fn is_reliable(&self) -> bool {
        self.pieces_count > 0
    }
}

/// The pieces of reliable messages in the packets of the table, in the order of the packets.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) refs: VecDeque<PieceRef>,
    /// How many came before the first of `refs`.
    base: u64,
}

impl Pieces {
    /// Where the pieces of the next packet will begin.
    pub(super) fn end(&self) -> u64 {
        self.base + self.refs.len() as u64
    }

    /// The pieces of one packet.
    pub(super) fn of(&self, packet: &Sent) -> impl Iterator<Item = &PieceRef> {
        let first = (packet.pieces_at - self.base) as usize;
        self.refs.range(first..first + usize::from(packet.pieces_count))
    }

    /// Forgets the pieces of the oldest packet and of all before it.
    pub(super) fn forget(&mut self, oldest: &Sent) {
        let end = oldest.pieces_at + u64::from(oldest.pieces_count);
        self.refs.drain(..(end - self.base) as usize);
        self.base = end;
    }

    /// Forgets all pieces, and gives back their memory.
    pub(super) fn clear(&mut self) {
        self.base = self.end();
        self.refs = VecDeque::new();
    }
}

/// What was sent and is neither acknowledged nor found lost.
#[derive(Default)]
pub(super) struct InFlight {
    /// On this path.
    pub(super) bytes: usize,
    /// On any path.
    pub(super) packets: u32,
    /// Those of these packets that hold reliable pieces.
    pub(super) reliable: u32,
}

impl InFlight {
    pub(super) fn add(&mut self, packet: &Sent) {
        self.bytes += usize::from(packet.bytes);
        self.packets += 1;
        self.reliable += u32::from(packet.is_reliable());
    }

    /// `is_here`: the packet took this path.
    pub(super) fn remove(&mut self, packet: &Sent, is_here: bool) {
        self.bytes -= if is_here { usize::from(packet.bytes) } else { 0 };
        self.packets -= 1;
        self.reliable -= u32::from(packet.is_reliable());
    }
}
