//! Acknowledgements: what has been received, when to say so, and how that is written.

use std::{collections::VecDeque, mem, time::Duration};

use crate::{
    error::Violation,
    packet::{Reader, put_varint},
    timer::{Micros, NEVER},
};

/// How far behind the largest number a packet may come. Older ones are dropped as if lost.
const WINDOW: u64 = 256;

/// Delay of an acknowledgement when only unreliable messages and pings wait for it: nobody waits to repeat them.
pub(crate) const ACK_DELAY_UNRELIABLE: Duration = Duration::from_millis(50);
/// Reliable packets after a gap that are acknowledged one by one: a path that lost something will lose more, and each
/// acknowledgement lets the other side repeat sooner.
const TROUBLE: u8 = 255;
/// But not in a stream of packets that come closer than this: every second says as much.
const TROUBLE_PAUSE: Duration = Duration::from_millis(4);
/// Packets that ask for an acknowledgement until one leaves at once.
const RELIABLE_EVERY: u8 = 2;
const UNRELIABLE_EVERY: u8 = 8;
/// Unreliable packets for which an acknowledgement rides in the next packet.
const UNRELIABLE_RIDE: u8 = 2;
/// In at least so many acknowledgements a gap and what lies below it are reported. The other side does not tell that it
/// has seen one that left alone, and reporting for ever costs ten bytes each time.
const REPORTS_MIN: u8 = 16;
/// Unit of the delay on the wire.
const DELAY_UNIT_US: u64 = 8;
/// Ranges after the field.
const RANGES_MAX: usize = 3;
/// Longest run: two bytes on the wire.
const RUN_MAX: u16 = (1 << 14) - 1;

/// Whoever takes in a whole batch before he sends anything acknowledges it in parts: one acknowledgement tells of any run,
/// but of three gaps only, of more in 64 numbers, and of nothing behind the window. Numbers of a part with a gap:
const PART: u64 = 192;
/// Gaps of a part, and how many numbers may have more of them.
const PART_GAPS: u8 = RANGES_MAX as u8;
const PART_COMB: u64 = 64;
/// Parts that wait to be sent, 3 KB. At the bound the oldest is let go: what only it told of counts as lost.
const PARTS_MAX: usize = 32;

/// Whether a packet number was seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    Fresh,
    Doubled,
    TooOld,
}

/// A set of numbers that remembers the last 256.
#[derive(Clone, Default, PartialEq)]
struct Window {
    /// The number after the largest; 0 of an empty set.
    end: u64,
    /// Bit i: the largest − i is in the set.
    bits: [u64; 4],
}

impl Window {
    fn largest(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    fn insert(&mut self, number: u64) {
        if number < self.end {
            self.set_bit(self.end - 1 - number);
            return;
        }
        self.shift(number + 1 - self.end);
        self.set_bit(0);
        self.end = number + 1;
    }

    /// First distance in `from..end` whose bit is not `set`.
    fn while_bit(&self, mut from: u64, end: u64, set: bool) -> u64 {
        while from < end && self.bit(from) == set {
            from += 1;
        }
        from
    }

    fn bit(&self, distance: u64) -> bool {
        self.bits[(distance / 64) as usize] >> (distance % 64) & 1 == 1
    }

    /// Distances out of the window are let go.
    fn set_bit(&mut self, distance: u64) {
        if distance < WINDOW {
            self.bits[(distance / 64) as usize] |= 1 << (distance % 64);
        }
    }

    fn shift(&mut self, by: u64) {
        if by == 1 {
            let [a, b, c, d] = self.bits;
            self.bits = [a << 1, b << 1 | a >> 63, c << 1 | b >> 63, d << 1 | c >> 63];
            return;
        }
        if by >= WINDOW {
            self.bits = [0; 4];
            return;
        }
        let (words, bits) = ((by / 64) as usize, by % 64);
        for word in (0..4).rev() {
            let high = if word >= words { self.bits[word - words] << bits } else { 0 };
            let low = if bits > 0 && word > words { self.bits[word - words - 1] >> (64 - bits) } else { 0 };
            self.bits[word] = high | low;
        }
    }
}

/// An acknowledgement that was written down before the window went on. It leaves twice: nothing later tells of the same.
struct Part {
    ack: Ack,
    /// When its largest came.
    at: Micros,
    left: bool,
}

/// The packets received on a connection, as far as anyone may still ask.
pub(crate) struct Received {
    /// Those that were taken in whole. Only these are acknowledged.
    taken: Window,
    /// Those that opened: none of them is looked at twice. Most of the time these are the same, and it is not here. The
    /// messages of what was not taken in whole come again in other packets.
    seen: Option<Box<Window>>,
    /// When the largest of `taken` came.
    largest_at: Micros,
    /// Acknowledgements for what came since nothing left, the oldest first. Most of the time there are none.
    #[expect(clippy::box_collection, reason = "every connection has the place for it, few ever need it")]
    parts: Option<Box<VecDeque<Part>>>,
    /// The first number that none of them tells of.
    part_from: u64,
    /// Numbers that the last acknowledgement told of first: a run is reported twice.
    part_last: u16,
    /// The gaps above `part_from`.
    part_gaps: u8,
    /// Numbers that were taken right below the largest, whatever the window remembers, up to `RUN_MAX`.
    run: u16,
    /// Numbers under this were acknowledged, and the other side knows it.
    floor: u64,
    /// Numbers under `told` were in `REPORTS_MIN` acknowledgements at least; those under `telling` will have been soon.
    told: u64,
    telling: u64,
    reports: u8,
    reliable_unacked: u8,
    unreliable_unacked: u8,
    ack_now: bool,
    /// When one is due; `NEVER` while nothing waits for one.
    ack_at: Micros,
    /// When the last reliable packet came.
    reliable_at: Option<Micros>,
    /// Packets left of `TROUBLE`.
    trouble: u8,
}

impl Default for Received {
    fn default() -> Received {
        Received {
            taken: Window::default(),
            seen: None,
            largest_at: Micros::ZERO,
            parts: None,
            part_from: 0,
            part_last: 0,
            part_gaps: 0,
            run: 0,
            floor: 0,
            told: 0,
            telling: 0,
            reports: 0,
            reliable_unacked: 0,
            unreliable_unacked: 0,
            ack_now: false,
            ack_at: NEVER,
            reliable_at: None,
            trouble: 0,
        }
    }
}

impl Received {
    /// The number after the largest received: what the next header is decoded against.
    pub(crate) fn expected(&self) -> u64 {
        self.seen().end
    }

    fn seen(&self) -> &Window {
        self.seen.as_deref().unwrap_or(&self.taken)
    }

    pub(crate) fn arrival(&self, number: u64) -> Arrival {
        let seen = self.seen();
        match seen.end.checked_sub(number + 1) {
            None => Arrival::Fresh,
            Some(behind) if behind >= WINDOW => Arrival::TooOld,
            Some(behind) if seen.bit(behind) => Arrival::Doubled,
            Some(_) => Arrival::Fresh,
        }
    }

    /// Notes a fresh packet of which something found no room: it is not acknowledged, and not looked at again, since
    /// other parts of it may have been delivered.
    pub(crate) fn refuse(&mut self, number: u64) {
        let Received { taken, seen, .. } = self;
        seen.get_or_insert_with(|| Box::new(taken.clone())).insert(number);
    }

    /// Notes a fresh packet, after its tag was found good and all of it was taken in.
    pub(crate) fn insert(
        &mut self,
        now: Micros,
        number: u64,
        eliciting: bool,
        reliable: bool,
        delay_max: Duration,
    ) {
        let in_order = number == self.taken.end;
        self.end_part(number);
        self.taken.insert(number);
        self.find_run(number, in_order);
        if let Some(seen) = &mut self.seen {
            seen.insert(number);
            if **seen == self.taken {
                // What was refused is forgotten.
                self.seen = None;
            }
        }
        if self.taken.end == number + 1 {
            self.largest_at = now;
        }
        // A late one under the floor was never reported.
        self.floor = self.floor.min(number);
        self.told = self.told.min(number);
        self.telling = self.telling.min(number);
        if !eliciting {
            return;
        }
        if !in_order {
            self.trouble = TROUBLE;
            self.ack_now = true;
        }
        let at = if reliable {
            let pause = self.reliable_at.replace(now).map_or(Duration::MAX, |before| now - before);
            self.reliable_unacked = self.reliable_unacked.saturating_add(1);
            // Where the next packet will not come within the delay, waiting for it only costs time.
            let alone = pause > delay_max || (self.trouble > 0 && pause > TROUBLE_PAUSE);
            self.trouble = self.trouble.saturating_sub(1);
            self.ack_now |= alone || self.reliable_unacked >= RELIABLE_EVERY;
            now + delay_max
        } else {
            self.unreliable_unacked = self.unreliable_unacked.saturating_add(1);
            self.ack_now |= self.unreliable_unacked >= UNRELIABLE_EVERY;
            now + ACK_DELAY_UNRELIABLE
        };
        self.ack_at = self.ack_at.min(at);
    }

    /// Whether something waits to be acknowledged, due or not.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ack_at < NEVER
    }

    /// Whether an acknowledgement should ride in a packet that leaves anyway. One for a single unreliable packet can wait
    /// for the next: that makes two for the bytes of one.
    pub(crate) fn should_ride(&self, now: Micros) -> bool {
        self.is_waiting()
            && (self.reliable_unacked > 0 || self.unreliable_unacked >= UNRELIABLE_RIDE || self.is_due(now))
    }

    pub(crate) fn is_due(&self, now: Micros) -> bool {
        self.ack_now || self.ack_at <= now
    }

    pub(crate) fn deadline(&self) -> Micros {
        if self.ack_now { NEVER } else { self.ack_at }
    }

    /// Lets a due acknowledgement leave with the next `poll_transmit`.
    pub(crate) fn on_timeout(&mut self, now: Micros) {
        self.ack_now |= self.is_due(now);
    }

    /// The next acknowledgement; the caller sends it. One is due until all that is here was told.
    pub(crate) fn take_ack(&mut self, now: Micros) -> Option<Ack> {
        let (mut ack, at) = match self.next_part() {
            Some(part) => part,
            None => (self.report()?, self.largest_at),
        };
        let are_parts = self.parts.as_ref().is_some_and(|parts| !parts.is_empty());
        if !are_parts && self.part_from == self.taken.end {
            self.ack_now = false;
            self.ack_at = NEVER;
            (self.reliable_unacked, self.unreliable_unacked) = (0, 0);
        }
        ack.delay_us = now.since(at).as_micros() as u64;
        Some(ack)
    }

    fn next_part(&mut self) -> Option<(Ack, Micros)> {
        if self.parts.as_ref()?.front().is_some_and(|part| !part.left) && self.part_from < self.taken.end {
            // The rest of the batch.
            self.write_part();
        }
        let parts = self.parts.as_mut()?;
        let Part { ack, at, left } = parts.pop_front()?;
        if !left {
            parts.push_back(Part { ack, at, left: true });
        }
        Some((ack, at))
    }

    /// Nothing came or left for long: gives back memory.
    pub(crate) fn rest(&mut self) {
        self.parts = self.parts.take().filter(|parts| !parts.is_empty());
    }

    /// Before `number` is noted: writes an acknowledgement down if a later one could not tell of everything.
    fn end_part(&mut self, number: u64) {
        let end = self.taken.end;
        let is_jump = number > end;
        let span = end - self.part_from;
        let ahead = number.saturating_sub(self.part_from);
        let is_full = (self.part_gaps > 0 && span >= PART)
            || (is_jump && self.part_gaps >= PART_GAPS && ahead >= PART_COMB)
            || (is_jump && span > 0 && ahead >= PART)
            || span >= RUN_MAX.into();
        if is_full {
            // Of what asks for no acknowledgement none is written.
            if self.is_waiting() {
                self.write_part();
            }
            (self.part_from, self.part_gaps) = (end, 0);
        }
        self.part_gaps = self.part_gaps.saturating_add(u8::from(is_jump));
    }

    fn write_part(&mut self) {
        let at = self.largest_at;
        let Some(ack) = self.report() else { return };
        let parts = self.parts.get_or_insert_default();
        if parts.len() == PARTS_MAX {
            parts.pop_front();
        }
        parts.push_back(Part { ack, at, left: false });
        self.ack_now = true;
    }

    /// `number` is noted: how long is the run that ends with the largest now?
    fn find_run(&mut self, number: u64, in_order: bool) {
        let end = self.taken.end;
        let run = if in_order {
            if end == 1 { 0 } else { u64::from(self.run) + 1 }
        } else if end == number + 1 {
            0
        } else if end - number == u64::from(self.run) + 2 {
            self.taken.while_bit(end - number, WINDOW.min(end), true) - 1
        } else {
            return;
        };
        self.run = run.min(RUN_MAX.into()) as u16;
    }

    /// An acknowledgement of what is here, as far as one can tell; its delay is missing.
    fn report(&mut self) -> Option<Ack> {
        let taken = &self.taken;
        let largest = taken.largest()?;
        let mut ack = Ack { largest, ..Ack::default() };
        // Distances from `largest` worth reporting.
        let limit = largest - self.floor.min(largest) + 1;
        let first = largest + 1 - self.part_from;
        let run_end = (u64::from(self.run) + 1).min(WINDOW.max(first + u64::from(self.part_last))).min(limit);
        ack.run = run_end - 1;
        self.part_last = first.min(RUN_MAX.into()) as u16;
        (self.part_from, self.part_gaps) = (taken.end, 0);
        self.reports += 1;
        if self.reports == REPORTS_MIN {
            self.reports = 0;
            self.told = mem::replace(&mut self.telling, largest);
        }
        let end = WINDOW.min(limit).min(largest - self.told.min(largest) + 1).max(run_end);
        let field_at = run_end + 1;
        let field_end = (field_at + 64).min(end);
        for distance in field_at..field_end {
            ack.field |= u64::from(taken.bit(distance)) << (distance - field_at);
        }
        let mut at = field_at + 64;
        while ack.ranges_count < RANGES_MAX {
            let start = taken.while_bit(at, end, false);
            if start >= end {
                break;
            }
            let stop = taken.while_bit(start, end, true);
            ack.ranges[ack.ranges_count] = (start, stop - 1);
            ack.ranges_count += 1;
            at = stop;
        }
        Some(ack)
    }

    /// The other side has seen an acknowledgement that reported up to `largest`.
    pub(crate) fn ack_was_seen(&mut self, largest: u64) {
        self.floor = self.floor.max(largest);
    }
}

/// An acknowledgement. Positions are distances below `largest`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Ack {
    pub(crate) largest: u64,
    /// How long the acknowledgement of `largest` was held back.
    pub(crate) delay_us: u64,
    /// Received without a gap right below `largest`: distances 1 to `run`. Distance `run` + 1 is not received.
    run: u64,
    /// Bit i: distance `run` + 2 + i.
    field: u64,
    /// Inclusive distances behind the field: (nearest, farthest).
    ranges: [(u64, u64); RANGES_MAX],
    ranges_count: usize,
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
        // Over a second the exact delay serves nobody.
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
        // No number under zero was ever sent.
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

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(10);

    fn receive(numbers: impl IntoIterator<Item = u64>) -> Received {
        let mut received = Received::default();
        for number in numbers {
            if received.arrival(number) == Arrival::Fresh {
                received.insert(Micros(0), number, true, true, DELAY);
            }
        }
        received
    }

    /// The last of those that are due.
    fn newest(received: &mut Received, now: Micros) -> Ack {
        loop {
            let ack = received.take_ack(now).unwrap();
            if !received.is_waiting() {
                return ack;
            }
        }
    }

    fn check(received: &mut Received, is_received: impl Fn(u64) -> bool, from: u64) {
        let ack = newest(received, Micros(800));
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        let decoded = Ack::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(decoded, ack);
        for number in from..=ack.largest + 2 {
            assert_eq!(decoded.contains(number), is_received(number), "{number} in {ack:?}");
        }
    }

    #[test]
    fn acks_say_exactly_what_came() {
        check(&mut receive(0..1), |n| n < 1, 0);
        check(&mut receive(0..200), |n| n < 200, 0);
        check(&mut receive((0..60).filter(|n| n % 3 != 1)), |n| n % 3 != 1 && n < 60, 0);
        check(&mut receive([5, 3, 9]), |n| [3, 5, 9].contains(&n), 0);
        let far = |n: u64| n < 20 || (40..50).contains(&n) || n == 70 || (140..150).contains(&n);
        check(&mut receive((0..150).filter(|&n| far(n))), far, 0);
        // Over three ranges behind the field: the older ones go unsaid.
        let comb = |n: u64| n.is_multiple_of(10) && n <= 200;
        check(&mut receive((0..=200).filter(|&n| comb(n))), comb, 110);
    }

    #[test]
    fn what_the_other_side_knows_is_not_said_again() {
        let mut received = receive((0..100).filter(|n| n % 2 == 0));
        received.ack_was_seen(98);
        received.insert(Micros(0), 99, true, true, DELAY);
        let mut bytes = Vec::new();
        newest(&mut received, Micros(0)).encode(&mut bytes);
        assert_eq!(bytes, [99, 0, 0, 1], "largest, delay, shape, run");
        received.insert(Micros(0), 51, true, true, DELAY);
        let ack = received.take_ack(Micros(0)).unwrap();
        assert!(ack.contains(51), "late under the floor");
    }

    #[test]
    fn a_refused_packet_is_neither_acknowledged_nor_looked_at_again() {
        let mut received = receive([0, 1]);
        received.refuse(2);
        received.insert(Micros(0), 3, true, true, DELAY);
        received.refuse(4);
        assert_eq!((received.arrival(2), received.arrival(4)), (Arrival::Doubled, Arrival::Doubled));
        assert_eq!(received.expected(), 5);
        let ack = received.take_ack(Micros(0)).unwrap();
        assert_eq!(ack.largest, 3);
        assert!(ack.contains(1) && !ack.contains(2) && ack.contains(3) && !ack.contains(4));
    }

    #[test]
    fn the_replay_window_moves_with_the_largest() {
        let received = receive([0, 1, 300]);
        assert_eq!(received.arrival(300), Arrival::Doubled);
        assert_eq!(received.arrival(299), Arrival::Fresh);
        assert_eq!(received.arrival(45), Arrival::Fresh);
        assert_eq!(received.arrival(44), Arrival::TooOld);
        assert_eq!(received.arrival(1), Arrival::TooOld);
        for step in [1, 63, 64, 65, 127, 128, 200, 255] {
            let received = receive([1000, 1000 + step]);
            for behind in 0..256 {
                let seen = received.arrival(1000 + step - behind) == Arrival::Doubled;
                assert_eq!(seen, behind == 0 || behind == step, "step {step} behind {behind}");
            }
        }
    }

    /// Batches of all sizes and losses between two polls: what came is told.
    #[test]
    fn whatever_came_in_a_batch_is_told() {
        let mut rng = crate::lab::Rng::new(1);
        for round in 0..300 {
            let loss = [0.0, 0.005, 0.02, 0.1, 0.3, 0.6][round % 6];
            // The longest that fits into the parts, where much is missing.
            let batch = 1 + rng.below(if loss > 0.05 { 1_000 } else { 2_400 });
            let (mut received, mut next, mut came, mut told) = (Received::default(), 0, vec![], vec![]);
            let mut acks = 0;
            for _ in 0..4 {
                for number in next..next + batch {
                    if !rng.chance(loss) {
                        received.insert(Micros(number), number, true, true, DELAY);
                        came.push(number);
                    }
                }
                next += batch;
                acks = 0;
                while received.is_due(Micros(next)) {
                    let ack = received.take_ack(Micros(next)).unwrap();
                    assert_eq!(ack.delay_us, next - ack.largest);
                    acks += 1;
                    told.push(ack);
                }
                assert!(acks <= 1 + PARTS_MAX * 2 && !received.is_waiting());
                assert!(loss > 0.0 || acks == 1, "no gap needs no parts");
            }
            let mut once = 0;
            for &number in &came {
                let times = told.iter().filter(|ack| ack.contains(number)).count();
                assert!(times > 0, "round {round}, loss {loss}, batches of {batch}: {number}");
                once += usize::from(times == 1 && number >= next - batch);
            }
            // One of the acknowledgements may be lost.
            assert!(loss > 0.02 || acks < 2 || once == 0, "{once} of {} were told once", came.len());
        }
    }

    #[test]
    fn a_steady_stream_gets_an_acknowledgement_for_two() {
        let mut received = receive([0]);
        assert!(received.is_due(Micros(0)), "the first stands alone");
        received.take_ack(Micros(0));
        received.insert(Micros(5_000), 1, true, true, DELAY);
        assert!(!received.is_due(Micros(14_999)) && received.is_due(Micros(15_000)));
        received.insert(Micros(10_000), 2, true, true, DELAY);
        assert!(received.is_due(Micros(10_000)), "every second");
        received.take_ack(Micros(10_000));
        assert!(!received.is_waiting());
        received.insert(Micros(20_001), 3, true, true, DELAY);
        assert!(received.is_due(Micros(20_001)), "no other will come while it is held back");
        received.take_ack(Micros(20_001));
        received.insert(Micros(20_003), 4, false, false, DELAY);
        assert!(!received.is_waiting(), "acks are not acked");
        received.insert(Micros(20_004), 5, true, false, DELAY);
        assert_eq!(received.deadline(), Micros(70_004));
    }

    #[test]
    fn after_a_gap_each_packet_is_acknowledged_for_a_while() {
        let mut received = receive([0]);
        received.insert(Micros(1_000), 2, true, true, DELAY);
        let mut at_once = 0;
        for number in 3..1_000 {
            received.take_ack(Micros(number * 5_000));
            received.insert(Micros(number * 5_000), number, true, true, DELAY);
            at_once += u64::from(received.is_due(Micros(number * 5_000)));
        }
        assert_eq!(at_once, 254);
        received.insert(Micros(5_001_000), 1_001, true, true, DELAY);
        received.take_ack(Micros(5_001_000));
        received.insert(Micros(5_002_000), 1_002, true, true, DELAY);
        assert!(!received.is_due(Micros(5_002_000)), "in a fast stream every second is enough");
    }

    #[test]
    fn forged_acks_do_not_decode() {
        let decode = |bytes: &[u8]| Ack::decode(&mut Reader::new(bytes));
        assert!(decode(&[5, 0, 0, 5]).is_ok());
        assert!(decode(&[5, 0, 0, 6]).is_err(), "a run below zero");
        assert!(decode(&[5, 0, 1, 0, 0xff]).is_err(), "a field below zero");
        assert!(decode(&[5, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a field of nine bytes");
        assert!(decode(&[5, 0, 0x40, 0]).is_err(), "four ranges");
        assert!(decode(&[5, 0, 0x10, 0, 0, 0]).is_err(), "a range below zero");
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let mut bytes = huge.to_vec();
        bytes.extend([0, 0x30]);
        bytes.extend(huge.repeat(7));
        assert!(decode(&bytes).is_err());
    }
}
