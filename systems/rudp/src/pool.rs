//! Buffers that were used before, so that messages in steady state need no allocation.

use std::time::Duration;

use crate::timer::Micros;

/// Capacity of the buffers of each class.
const SIZES: [usize; 6] = [128, 512, 2048, 8192, 32_768, 131_072];
/// How often the pool looks for buffers that nobody needs.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// Places for free buffers of a class that are kept for good.
const KEPT: usize = 64;

/// Tables of fragments that are kept, and the places of the largest: 48 KB together.
const TABLES_MAX: usize = 16;
const TABLE_PLACES_MAX: usize = 128;

#[derive(Default)]
struct Class {
    free: Vec<Vec<u8>>,
    /// The fewest that were free since the last trim: so many were of no use to anybody.
    least: usize,
    /// The most that were free of late.
    most: usize,
}

/// The free buffers of one endpoint.
///
/// The sum of their capacities is bounded; what comes back beyond it is freed. Every second half of the buffers that
/// were not needed during that second are freed, too, so that the memory of a burst goes away.
pub(crate) struct Pool {
    classes: [Class; SIZES.len()],
    /// Empty tables of fragments; they count as nothing, but there are few.
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
        let Some(class) = SIZES.iter().position(|&size| length <= size) else {
            return Vec::with_capacity(length);
        };
        let (size, class) = (SIZES[class], &mut self.classes[class]);
        match class.free.pop() {
            Some(buffer) => {
                class.least = class.least.min(class.free.len());
                self.bytes -= buffer.capacity();
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
        let capacity = buffer.capacity();
        if capacity > 2 * SIZES[SIZES.len() - 1] || self.bytes + capacity > self.bytes_max {
            return;
        }
        if let Some(class) = SIZES.iter().rposition(|&size| size <= capacity) {
            buffer.clear();
            self.bytes += capacity;
            let class = &mut self.classes[class];
            class.free.push(buffer);
            class.most = class.most.max(class.free.len());
        }
    }

    /// A table of `count` empty buffers.
    pub(crate) fn take_table(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut table = self.tables.pop().unwrap_or_default();
        table.resize_with(count, Vec::new);
        table
    }

    /// Takes a table back, and the buffers in it.
    pub(crate) fn give_table(&mut self, mut table: Vec<Vec<u8>>) {
        table.drain(..).for_each(|buffer| self.give(buffer));
        if self.tables.len() < TABLES_MAX && table.capacity() <= TABLE_PLACES_MAX {
            self.tables.push(table);
        }
    }

    /// Frees what was not needed for a second. Call now and then; true once a second.
    pub(crate) fn trim(&mut self, now: Micros) -> bool {
        if now < self.trim_at {
            return false;
        }
        self.trim_at = now + TRIM_EVERY;
        for class in &mut self.classes {
            for _ in 0..class.least.div_ceil(2) {
                self.bytes -= class.free.pop().map_or(0, |buffer| buffer.capacity());
            }
            class.least = class.free.len();
            // All may be with the application just now.
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
        let mut pool = Pool::new(1024);
        let buffers: Vec<_> = (0..10).map(|_| pool.copy(&[7; 100])).collect();
        assert!(buffers.iter().all(|buffer| buffer == &[7; 100] && buffer.capacity() == 128));
        let places: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr()).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!((pool.bytes, pool.classes[0].free.len()), (1024, 8));
        let again = pool.join(&[b"ab", b"", b"c"], 3);
        assert!(again == b"abc" && places.contains(&again.as_ptr()));
        // Too small, too large, and of the application's own making.
        pool.give(Vec::with_capacity(100));
        pool.give(Vec::with_capacity(1 << 20));
        assert_eq!(pool.bytes, 896);
        pool.give(vec![1; 128]);
        assert_eq!(pool.bytes, 1024);
        assert!(pool.take(0).capacity() == 0 && pool.take(1 << 20).capacity() >= 1 << 20);
    }

    #[test]
    fn a_buffer_is_as_large_as_its_class_promises() {
        let mut pool = Pool::new(1 << 20);
        pool.give(Vec::with_capacity(600));
        assert!(pool.take(600).capacity() == 2048);
        assert!(pool.take(512).capacity() == 600);
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
            pool.classes[0].free.len()
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
