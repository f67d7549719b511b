//! The names of connections: peer ids, which are never used twice, and connection ids on the wire.

use std::fmt;

/// Low bits of a peer id and of a connection id on the wire that name the slot.
const SLOT_BITS: u32 = 20;

/// Most slots that can be named.
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// One connection of one [`Endpoint`](crate::Endpoint): a slot, and a generation that never repeats (44 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

impl PeerId {
    pub(crate) fn new(slot: u32, generation: u64) -> PeerId {
        PeerId(generation << SLOT_BITS | u64::from(slot))
    }

    /// The id as a number, e.g. to send it through a queue.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The id with this number. It means something only to the endpoint that gave it out.
    pub const fn from_bits(bits: u64) -> PeerId {
        PeerId(bits)
    }

    /// Index of the slot, less than both `Config::peers_max` × 2 and `Config::PEERS_MAX`. Slots are small numbers and
    /// are used again, so they can index a table that the application keeps.
    pub const fn slot(self) -> u32 {
        (self.0 & (SLOTS_MAX as u64 - 1)) as u32
    }

    /// Counts the connections of the endpoint, from 1.
    pub const fn generation(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({}v{})", self.slot(), self.generation())
    }
}

/// A connection id on the wire: the slot, by which the connection is found, and 12 random bits against packets of an
/// older connection.
pub(crate) fn wire_id(slot: u32, random: u32) -> u32 {
    slot | random << SLOT_BITS
}

/// The slot that a connection id names.
pub(crate) fn wire_slot(connection: u32) -> u32 {
    connection & (SLOTS_MAX as u32 - 1)
}
