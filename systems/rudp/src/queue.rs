//! A queue that keeps the memory it needs again and again, and gives back the memory of a burst.

use std::collections::VecDeque;

/// Gives back the memory of a burst once it is over.
pub(crate) fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
}

/// Gives back memory of a large burst when little of it is left, since a queue may never be empty.
pub(crate) fn thin<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > LARGE && queue.len() * 4 < queue.capacity() {
        queue.shrink_to(queue.len() * 2);
    }
}

/// Places from which on a queue is large.
const LARGE: usize = 1024;
/// Places for which memory is always kept.
const KEPT: usize = 128;

/// See the module.
pub(crate) struct Queue<T> {
    items: VecDeque<T>,
    /// The most items of late.
    peak: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { items: VecDeque::new(), peak: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.items.push_back(item);
        self.peak = self.peak.max(self.items.len());
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.items.front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Gives back what is far over the recent peak, which is halved each time. Call once a second or so.
    pub(crate) fn trim(&mut self) {
        if self.items.capacity() > KEPT.max(self.peak * 4) {
            self.items.shrink_to(KEPT.max(self.peak * 2));
        }
        self.peak = self.items.len().max(self.peak / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_never_empty_gives_its_memory_back() {
        let mut queue: VecDeque<u8> = (0..4096).map(|_| 0).collect();
        while queue.len() > 10 {
            queue.pop_front();
            thin(&mut queue);
            assert!(queue.capacity() <= LARGE.max(queue.len() * 4));
        }
        shrink(&mut queue);
        assert_eq!(queue.len(), 10);
        queue.clear();
        shrink(&mut queue);
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn what_is_needed_each_second_stays_and_a_burst_goes() {
        let mut queue = Queue::default();
        let mut second = |count: usize| {
            (0..count).for_each(|item| queue.push(item));
            while queue.pop().is_some() {}
            queue.trim();
            queue.items.capacity()
        };
        let full = second(1000);
        assert!((0..20).all(|_| second(1000) == full));
        assert_eq!((0..20).map(|_| second(0)).last(), Some(KEPT));
    }
}
