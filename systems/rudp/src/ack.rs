//! Acknowledgements: what has been received, and when to say so.

mod frame;

use std::{collections::VecDeque, mem, time::Duration};

pub(crate) use self::frame::Ack;
use self::frame::RANGES_MAX;
use crate::timer::{Micros, NEVER};

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

/// What a packet contains, as far as its acknowledgement is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Content {
    /// Nothing that asks for an acknowledgement.
    NotEliciting,
    /// Pings or unreliable messages: whoever sent them does not wait to repeat them.
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
    pub(crate) fn insert(&mut self, now: Micros, number: u64, content: Content, delay_max: Duration) {
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
            self.taken.next_missing(end - number, WINDOW.min(end)) - 1
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

    /// The other side has seen an acknowledgement that reported up to `largest`.
    pub(crate) fn ack_was_seen(&mut self, largest: u64) {
        self.floor = self.floor.max(largest);
    }
}

#[cfg(test)]
mod tests;
