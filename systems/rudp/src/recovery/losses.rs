//! What losses say about the path: what share of packets gets lost, and how far packets overtake each other.

/// Later packets that must be acknowledged before one counts as lost. Grows with spurious losses.
const REORDER_PACKETS: u8 = 3;
const REORDER_PACKETS_MAX: u8 = 16;
/// How often the time for which a packet may be overtaken is doubled at most.
const WIDENED_MAX: u8 = 3;
/// A packet's weight in the measured loss, as a shift: 1/256. A single loss stays under half a per cent, and a path
/// that loses five per cent shows more than two after some 130 packets.
const SHIFT: u32 = 8;
/// The measured loss when everything is lost.
const ALL: u32 = 1 << 24;
/// What is left of one loss after 255 packets: 1/256 · e⁻¹.
const TROUBLE: u32 = ALL / 696;

/// See the module.
pub(super) struct Losses {
    /// Moving average over settled packets, of `ALL`.
    average: u32,
    /// Packets found lost.
    pub(super) lost: u64,
    /// Packets found lost and acknowledged later.
    pub(super) spurious: u64,
    /// Later packets that must be acknowledged before one counts as lost.
    pub(super) reorder_packets: u8,
    /// How often the time for which a packet may be overtaken was doubled.
    pub(super) widened: u8,
}

impl Default for Losses {
    fn default() -> Losses {
        Losses { average: 0, lost: 0, spurious: 0, reorder_packets: REORDER_PACKETS, widened: 0 }
    }
}

impl Losses {
    pub(super) fn on_acked(&mut self) {
        self.average -= self.average >> SHIFT;
    }

    pub(super) fn on_lost(&mut self) {
        self.lost += 1;
        self.average += (ALL - self.average) >> SHIFT;
    }

    /// A packet that was found lost is acknowledged: packets overtake each other further than was assumed.
    pub(super) fn on_spurious(&mut self) {
        self.spurious += 1;
        self.average = self.average.saturating_sub(ALL >> SHIFT);
        self.widened = (self.widened + 1).min(WIDENED_MAX);
        self.reorder_packets = (self.reorder_packets + 1).min(REORDER_PACKETS_MAX);
    }

    /// The share of packets that get lost, in millionths.
    pub(super) fn ppm(&self) -> u32 {
        (u64::from(self.average) * 1_000_000 / u64::from(ALL)) as u32
    }

    /// Whether the other side still acknowledges at once because of a loss: see `TROUBLE` in `ack.rs`.
    pub(super) fn is_recent(&self) -> bool {
        self.average > TROUBLE
    }
}
