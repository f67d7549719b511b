//! Buffers that are used again, so that messages need no allocation in a steady state.

use std::time::Duration;

use crate::timer::Micros;

/// Capacity of the buffers of each class: two to an octave. A buffer is thus at most half as large again as what was
/// asked for (over 16 bytes), and the bounds in `Config`, which count lengths, bound memory too.
const SIZES: [usize; 27] = [
    16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12_288,
    16_384, 24_576, 32_768, 49_152, 65_536, 98_304, 131_072,
];
/// What a free buffer counts besides its capacity: its place in the list.
const PLACE_COST: usize = size_of::<Vec<u8>>();
/// How often the pool looks for buffers that nobody needs.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// Places for free buffers of a class for which memory is kept for good.
const KEPT: usize = 64;

/// Tables of fragments that are kept, and the places of the largest: 48 KB together.
const TABLES_MAX: usize = 16;
const TABLE_PLACES_MAX: usize = 128;

/// The first class whose buffers hold `length` bytes, which is 1 or more; past the end if none does. Computed, since
/// every message asks, and a search through 27 sizes would cost 10 ns or more.
fn class_for(length: usize) -> usize {
    if length <= SIZES[0] {
        return 0;
    }
    let octave = (length - 1).ilog2();
    // Above a power of two there are two classes: up to one and a half of it, and up to the next.
    let upper = length > 3 << (octave - 1);
    2 * (octave - SIZES[0].ilog2()) as usize + 1 + usize::from(upper)
}

/// The last class whose buffers are no larger than `capacity`, if there is one.
fn class_of(capacity: usize) -> Option<usize> {
    if capacity < SIZES[0] {
        return None;
    }
    let octave = capacity.ilog2();
    let upper = capacity >= 3 << (octave - 1);
    Some((2 * (octave - SIZES[0].ilog2()) as usize + usize::from(upper)).min(SIZES.len() - 1))
}

#[derive(Default)]
struct Class {
    free: Vec<Vec<u8>>,
    /// The fewest that were free since the last trim: nobody needed these.
    least: usize,
    /// The most that were free of late.
    most: usize,
}

/// The free buffers of one endpoint.
///
/// The sum of their capacities is bounded; what comes back beyond it is freed. Once a second, half of the buffers that
/// were not needed during that second are freed as well, so that the memory of a burst goes away.
pub(crate) struct Pool {
    classes: Box<[Class; SIZES.len()]>,
    /// Empty tables of fragments, the last used at the end. They are few, and do not count towards the bound.
    tables: Vec<Vec<Vec<u8>>>,
    bytes: usize,
    bytes_max: usize,
    trim_at: Micros,
}

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Pool {
        Pool { classes: Default::default(), tables: Vec::new(), bytes: 0, bytes_max, trim_at: Micros::ZERO }
    }

    /// An empty buffer with room for `length` bytes. Lengths over 128 KiB are always allocated.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        if length == 0 {
            return Vec::new();
        }
        let at = class_for(length);
        let Some(&size) = SIZES.get(at) else { return Vec::with_capacity(length) };
        let class = &mut self.classes[at];
        match class.free.pop() {
            Some(buffer) => {
                class.least = class.least.min(class.free.len());
                self.bytes -= buffer.capacity() + PLACE_COST;
                buffer
            }
            None => Vec::with_capacity(size),
        }
    }

    /// A buffer that holds `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.take(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// A buffer that holds all `parts`, which are `length` bytes together.
    pub(crate) fn join(&mut self, parts: &[&[u8]], length: usize) -> Vec<u8> {
        let mut buffer = self.take(length);
        for part in parts {
            buffer.extend_from_slice(part);
        }
        buffer
    }

    /// Takes a buffer back, or frees it: when it is very small or very large, or the pool is full.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let (capacity, cost) = (buffer.capacity(), buffer.capacity() + PLACE_COST);
        if capacity > 2 * SIZES[SIZES.len() - 1] || self.bytes + cost > self.bytes_max {
            return;
        }
        if let Some(class) = class_of(capacity) {
            buffer.clear();
            self.bytes += cost;
            let class = &mut self.classes[class];
            class.free.push(buffer);
            class.most = class.most.max(class.free.len());
        }
    }

    /// A table of `count` empty buffers, with at most twice as many places: a message of two fragments does not hold
    /// the table of one of a hundred.
    pub(crate) fn take_table(&mut self, count: usize) -> Vec<Vec<u8>> {
        let fits = |table: &Vec<Vec<u8>>| (count..=count.saturating_mul(2)).contains(&table.capacity());
        let mut table = match self.tables.iter().rposition(fits) {
            Some(at) => self.tables.remove(at),
            None => Vec::with_capacity(count),
        };
        table.resize_with(count, Vec::new);
        table
    }

    /// Takes a table back, and the buffers in it.
    pub(crate) fn give_table(&mut self, mut table: Vec<Vec<u8>>) {
        table.drain(..).for_each(|buffer| self.give(buffer));
        if table.capacity() > TABLE_PLACES_MAX {
            return;
        }
        if self.tables.len() == TABLES_MAX {
            self.tables.remove(0);
        }
        self.tables.push(table);
    }

    /// Frees what was not needed for a second. Call it often; returns true once a second, when it did something.
    pub(crate) fn trim(&mut self, now: Micros) -> bool {
        if now < self.trim_at {
            return false;
        }
        self.trim_at = now + TRIM_EVERY;
        for class in self.classes.iter_mut() {
            for _ in 0..class.least.div_ceil(2) {
                self.bytes -= class.free.pop().map_or(0, |buffer| buffer.capacity() + PLACE_COST);
            }
            class.least = class.free.len();
            // All of them may be with the application just now, so the peak decides.
            if class.free.capacity() > KEPT.max(class.most * 4) {
                class.free.shrink_to(KEPT.max(class.most * 2));
            }
            class.most = class.free.len().max(class.most / 2);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_bound_holds() {
        let mut pool = Pool::new(8 * (128 + PLACE_COST));
        let buffers: Vec<_> = (0..10).map(|_| pool.copy(&[7; 100])).collect();
        assert!(buffers.iter().all(|buffer| buffer == &[7; 100] && buffer.capacity() == 128));
        let places: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr()).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!((pool.bytes, pool.classes[6].free.len()), (pool.bytes_max, 8));
        let again = pool.join(&[&[1; 99], b"", b"c"], 100);
        assert!(again.ends_with(b"\x01c") && places.contains(&again.as_ptr()));
        // Too small, too large, and of the application's own making.
        pool.give(Vec::with_capacity(10));
        pool.give(Vec::with_capacity(1 << 20));
        assert_eq!(pool.bytes, 7 * (128 + PLACE_COST));
        pool.give(vec![1; 128]);
        assert_eq!(pool.bytes, pool.bytes_max);
        assert!(pool.take(0).capacity() == 0 && pool.take(1 << 20).capacity() >= 1 << 20);
    }

    #[test]
    fn a_buffer_is_as_large_as_its_class_promises() {
        let mut pool = Pool::new(1 << 20);
        pool.give(Vec::with_capacity(600));
        assert!(pool.take(600).capacity() == 768);
        assert!(pool.take(512).capacity() == 600);
        for length in 1..=131_072 {
            let capacity = SIZES[class_for(length)];
            assert!(capacity >= length && capacity <= (length * 3 / 2).max(16), "{length} in {capacity}");
        }
    }

    #[test]
    fn classes_are_computed_as_they_would_be_searched() {
        for length in 1..=300_000 {
            let found = SIZES.partition_point(|&size| size < length);
            assert_eq!(class_for(length).min(SIZES.len()), found, "{length}");
            let found = SIZES.partition_point(|&size| size <= length).checked_sub(1);
            assert_eq!(class_of(length), found, "{length}");
        }
        assert!(class_for(usize::MAX) >= SIZES.len() && class_of(0).is_none());
    }

    #[test]
    fn a_table_has_at_most_twice_the_places_that_are_needed() {
        let mut pool = Pool::new(1 << 20);
        for count in [100, 5, 2, 1, 90] {
            let table = pool.take_table(count);
            assert!(table.len() == count && table.capacity() < count * 2 + 1);
            pool.give_table(table);
        }
        assert_eq!(pool.tables.len(), 3, "that of two served for one, that of a hundred for ninety");
        (0..100)
            .map(|_| pool.take_table(3))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|table| pool.give_table(table));
        assert_eq!(pool.tables.len(), TABLES_MAX);
        assert!(pool.take_table(128).capacity() == 128 && pool.take_table(3).capacity() <= 6);
    }

    #[test]
    fn what_nobody_needs_is_freed_by_halves() {
        let mut pool = Pool::new(1 << 20);
        let buffers: Vec<_> = (0..100).map(|_| pool.take(100)).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        let mut second = |now: u64, needed: usize| {
            let used: Vec<_> = (0..needed).map(|_| pool.take(100)).collect();
            used.into_iter().for_each(|buffer| pool.give(buffer));
            pool.trim(Micros::from_millis(now));
            pool.classes[6].free.len()
        };
        assert_eq!(second(1_000, 20), 100, "they came within this second");
        assert_eq!(second(1_500, 20), 100);
        assert_eq!(second(2_000, 20), 60);
        assert_eq!(second(3_000, 20), 40);
        let later: Vec<_> = (4..20).map(|now| second(now * 1000, 20)).collect();
        assert_eq!(later.last(), Some(&20));
        assert_eq!((20..30).map(|now| second(now * 1000, 0)).last(), Some(0));
        assert_eq!(pool.bytes, 0);
    }
}
