//! Acknowledgements: what has been received, and when to say so.

mod frame;

use std::{collections::VecDeque, mem, time::Duration};

pub(crate) use self::frame::Ack;
use self::frame::RANGES_MAX;
use crate::timer::{Micros, NEVER};

/// How far behind the largest number a packet may arrive. Older ones are dropped as if lost.
const WINDOW: u64 = 256;

/// Delay of an acknowledgement for which only unreliable messages and pings wait: nobody waits to repeat these.
pub(crate) const ACK_DELAY_UNRELIABLE: Duration = Duration::from_millis(50);
/// Reliable packets after a gap that are acknowledged one by one: a path that lost something will lose more, and each
/// acknowledgement lets the other side repeat sooner.
const TROUBLE: u8 = 255;
/// Packets that come closer than this are a stream, in which it is enough to acknowledge every second one.
const TROUBLE_PAUSE: Duration = Duration::from_millis(4);
/// After this many packets that ask for an acknowledgement, one is sent at once.
const RELIABLE_EVERY: u8 = 2;
const UNRELIABLE_EVERY: u8 = 8;
/// After this many unreliable packets, an acknowledgement rides in the next packet.
const UNRELIABLE_RIDE: u8 = 2;
/// A gap, and what lies below it, is reported in at least this many acknowledgements. The other side does not say that
/// it has seen one that was sent alone, and reporting for ever would cost ten bytes each time.
const REPORTS_MIN: u8 = 16;
/// Longest run: two bytes on the wire.
const RUN_MAX: u16 = (1 << 14) - 1;

/// A side that takes in a whole batch before it sends anything acknowledges the batch in parts, because one
/// acknowledgement can report a run of any length, but only three gaps, or more within 64 numbers, and nothing behind
/// the window. This is the most numbers of a part with a gap.
const PART: u64 = 192;
/// The most gaps of a part, and the numbers within which there may be more.
const PART_GAPS: u8 = RANGES_MAX as u8;
const PART_COMB: u64 = 64;
/// Parts that may wait to be sent, 3 KB. At the bound the oldest is dropped: what only that one reports counts as lost.
const PARTS_MAX: usize = 32;

/// Whether a packet number was seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    Fresh,
    Doubled,
    TooOld,
}

/// What a packet contains, as far as its acknowledgement is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Content {
    /// Nothing that asks for an acknowledgement.
    NotEliciting,
    /// Pings or unreliable messages, whose sender does not wait to repeat them.
    Unreliable,
    /// Reliable messages, perhaps among others.
    Reliable,
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

    /// The first distance in `from..end` that is in the set; `end` if none is.
    fn next_taken(&self, mut from: u64, end: u64) -> u64 {
        while from < end && !self.bit(from) {
            from += 1;
        }
        from
    }

    /// The first distance in `from..end` that is not in the set; `end` if all are.
    fn next_missing(&self, mut from: u64, end: u64) -> u64 {
        while from < end && self.bit(from) {
            from += 1;
        }
        from
    }

    fn bit(&self, distance: u64) -> bool {
        self.bits[(distance / 64) as usize] >> (distance % 64) & 1 == 1
    }

    /// Distances outside the window are ignored.
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

/// An acknowledgement that was made before the window moved on. It is sent twice, since no later one reports the same.
struct Part {
    ack: Ack,
    /// When its largest came.
    at: Micros,
    left: bool,
}

/// The packets received on a connection, as far back as they still matter.
pub(crate) struct Received {
    /// The packets of which everything was taken in. Only these are acknowledged.
    taken: Window,
    /// The packets that opened, none of which is opened twice; `None` while they are the same as `taken`, as they
    /// mostly are. The messages of a packet that was not taken in as a whole come again in other packets.
    seen: Option<Box<Window>>,
    /// When the largest of `taken` came.
    largest_at: Micros,
    /// Acknowledgements of a batch that was taken in before anything was sent, the oldest first. Mostly there are none.
    #[expect(clippy::box_collection, reason = "every connection has the place for it, few ever need it")]
    parts: Option<Box<VecDeque<Part>>>,
    /// The first number that none of them reports.
    part_from: u64,
    /// How many numbers the last acknowledgement reported for the first time: a run is reported twice.
    part_last: u16,
    /// The gaps above `part_from`.
    part_gaps: u8,
    /// How many numbers right below the largest were taken without a gap, even beyond the window, up to `RUN_MAX`.
    run: u16,
    /// Lower numbers were acknowledged, and the other side knows it.
    floor: u64,
    /// Numbers below `told` were in at least `REPORTS_MIN` acknowledgements, and those below `telling` soon will have
    /// been.
    told: u64,
    telling: u64,
    reports: u8,
    reliable_unacked: u8,
    unreliable_unacked: u8,
    ack_now: bool,
    /// When an acknowledgement is due; `NEVER` while nothing waits for one.
    ack_at: Micros,
    /// When the last reliable packet came.
    reliable_at: Option<Micros>,
    /// How many of the `TROUBLE` packets are left.
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
    /// The number after the largest received, against which the next header is decoded.
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

    /// Notes a fresh packet of which something found no room. It is not acknowledged, but not opened again either,
    /// since other parts of it may have been delivered.
    pub(crate) fn refuse(&mut self, number: u64) {
        let Received { taken, seen, .. } = self;
        seen.get_or_insert_with(|| Box::new(taken.clone())).insert(number);
    }

    /// Notes a fresh packet, after its tag was found good and all of it was taken in.
    pub(crate) fn insert(&mut self, now: Micros, number: u64, content: Content, delay_max: Duration) {
        let in_order = number == self.taken.end;
        self.end_part(number);
        self.taken.insert(number);
        self.find_run(number, in_order);
        if let Some(seen) = &mut self.seen {
            seen.insert(number);
            if **seen == self.taken {
                // No refused packet is left in the window.
                self.seen = None;
            }
        }
        if self.taken.end == number + 1 {
            self.largest_at = now;
        }
        // If it is below the floor, it was never reported.
        self.floor = self.floor.min(number);
        self.told = self.told.min(number);
        self.telling = self.telling.min(number);
        if content == Content::NotEliciting {
            return;
        }
        if !in_order {
            self.trouble = TROUBLE;
            self.ack_now = true;
        }
        let at = if content == Content::Reliable {
            let pause = self.reliable_at.replace(now).map_or(Duration::MAX, |before| now - before);
            self.reliable_unacked = self.reliable_unacked.saturating_add(1);
            // If the next packet will not come within the delay, waiting for it only costs time.
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

    /// Whether an acknowledgement should ride in a packet that leaves anyway. A single unreliable packet can wait for
    /// the next, so that one acknowledgement serves two.
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

    /// The next acknowledgement, which the caller sends. One stays due until everything was reported.
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
            // The rest of the batch becomes the last part.
            self.write_part();
        }
        let parts = self.parts.as_mut()?;
        let Part { ack, at, left } = parts.pop_front()?;
        if !left {
            parts.push_back(Part { ack, at, left: true });
        }
        Some((ack, at))
    }

    /// Nothing came or left for a long time: gives back memory.
    pub(crate) fn rest(&mut self) {
        self.parts = self.parts.take().filter(|parts| !parts.is_empty());
    }

    /// Before `number` is noted: makes an acknowledgement if a later one could not report everything.
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
            // Nothing is made of packets that ask for no acknowledgement.
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

    /// After `number` was noted: works out the length of the run that ends with the largest.
    fn find_run(&mut self, number: u64, in_order: bool) {
        let end = self.taken.end;
        let run = if in_order {
            if end == 1 { 0 } else { u64::from(self.run) + 1 }
        } else if end == number + 1 {
            0
        } else if end - number == u64::from(self.run) + 2 {
            self.taken.next_missing(end - number, WINDOW.min(end)) - 1
        } else {
            return;
        };
        self.run = run.min(RUN_MAX.into()) as u16;
    }

    /// An acknowledgement of what is here, as far as one can report it, without its delay.
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
            let start = taken.next_taken(at, end);
            if start >= end {
                break;
            }
            let stop = taken.next_missing(start, end);
            ack.ranges[ack.ranges_count] = (start, stop - 1);
            ack.ranges_count += 1;
            at = stop;
        }
        Some(ack)
    }

    /// The other side has seen an acknowledgement that reported numbers up to `largest`.
    pub(crate) fn ack_was_seen(&mut self, largest: u64) {
        self.floor = self.floor.max(largest);
    }
}

#[cfg(test)]
mod tests;
