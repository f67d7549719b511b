//! An acknowledgement, and its form on the wire.

use crate::{
    coding::{Reader, put_varint},
    error::Violation,
};

/// Ranges after the field.
pub(super) const RANGES_MAX: usize = 3;

/// Unit of the delay on the wire.
const DELAY_UNIT_US: u64 = 8;

/// An acknowledgement. Positions are distances below `largest`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Ack {
    pub(crate) largest: u64,
    /// How long the acknowledgement of `largest` was held back.
    pub(crate) delay_us: u64,
    /// Distances 1 to `run` were received, without a gap right below `largest`. Distance `run` + 1 was not.
    pub(super) run: u64,
    /// Bit i: whether distance `run` + 2 + i was received.
    pub(super) field: u64,
    /// What was received behind the field, in inclusive distances: (nearest, farthest).
    pub(super) ranges: [(u64, u64); RANGES_MAX],
    pub(super) ranges_count: usize,
}

impl Ack {
    pub(crate) fn contains(&self, number: u64) -> bool {
        let Some(distance) = self.largest.checked_sub(number) else { return false };
        if distance <= self.run {
            return true;
        }
        match distance - self.run {
            1 => false,
            inside @ 2..=65 => self.field >> (inside - 2) & 1 == 1,
            _ => self.ranges[..self.ranges_count].iter().any(|&(near, far)| (near..=far).contains(&distance)),
        }
    }

    /// The smallest number that it may report.
    pub(crate) fn lowest(&self) -> u64 {
        self.largest.saturating_sub(self.farthest())
    }

    fn farthest(&self) -> u64 {
        match (self.ranges_count, self.field) {
            (0, 0) => self.run,
            (0, field) => self.run + 2 + u64::from(63 - field.leading_zeros()),
            (count, _) => self.ranges[count - 1].1,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.largest);
        // Beyond a second the exact delay is of no use.
        put_varint(out, self.delay_us.min(1_000_000) / DELAY_UNIT_US);
        let field_bytes = (64 - self.field.leading_zeros()).div_ceil(8) as usize;
        out.push(field_bytes as u8 | (self.ranges_count as u8) << 4);
        put_varint(out, self.run);
        out.extend_from_slice(&self.field.to_le_bytes()[..field_bytes]);
        let mut at = self.run + 66;
        for &(near, far) in &self.ranges[..self.ranges_count] {
            put_varint(out, near - at);
            put_varint(out, far - near);
            at = far + 1;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Ack, Violation> {
        Ack::read(reader).ok_or(Violation::Malformed)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Ack> {
        let mut ack = Ack { largest: reader.varint()?, ..Ack::default() };
        ack.delay_us = reader.varint()?.min(1_000_000 / DELAY_UNIT_US) * DELAY_UNIT_US;
        let shape = reader.u8()?;
        let field_bytes = usize::from(shape & 0x0f);
        ack.ranges_count = usize::from(shape >> 4);
        if field_bytes > 8 || ack.ranges_count > RANGES_MAX {
            return None;
        }
        ack.run = reader.varint()?;
        let mut field = [0; 8];
        field[..field_bytes].copy_from_slice(reader.take(field_bytes)?);
        ack.field = u64::from_le_bytes(field);
        let mut at = ack.run.checked_add(66)?;
        for range in 0..ack.ranges_count {
            let near = at.checked_add(reader.varint()?)?;
            let far = near.checked_add(reader.varint()?)?;
            ack.ranges[range] = (near, far);
            at = far.checked_add(1)?;
        }
        // No number below zero was ever sent.
        (ack.farthest() <= ack.largest).then_some(ack)
    }

    #[cfg(test)]
    pub(crate) fn longest() -> Ack {
        Ack {
            largest: (1 << 63) - 1,
            delay_us: u64::MAX,
            run: 255,
            field: u64::MAX,
            ranges: [(400, 600), (900, 1200), (1500, 2000)],
            ranges_count: 3,
        }
    }
}
