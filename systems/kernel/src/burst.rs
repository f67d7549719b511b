//! The memory that a reused list keeps: as much as it needed lately, so that the memory of a burst is freed.

/// Measures the most rows that lists had lately, for lists that are cleared and refilled.
///
/// Time is divided into windows. The first call of [`CapacityWindow::keep`] in a window states the capacity that lists
/// should keep: the most rows that they had in the window before and have now, rounded up to a power of two, because
/// lists grow by doubling, and at least [`CapacityWindow::ROWS_KEPT`]. So a busy server does not allocate its lists
/// anew in each frame, and the memory of a burst is freed by the first call after two windows without one. A server
/// that runs no frames makes no calls: it keeps the memory of its last burst until an input comes in.
///
/// ```
/// use kaos_kernel::burst::CapacityWindow;
///
/// let mut list: Vec<u8> = Vec::with_capacity(5000);
/// let mut window = CapacityWindow::default();
/// for (now, rows) in [(0, 5000), (2000, 10), (4000, 10), (6000, 10)] {
///     if let Some(rows) = window.keep(now, 2000, rows) {
///         list.shrink_to(rows);
///     }
///     assert_eq!(list.capacity(), if now < 4000 { 5000 } else { 16 });
/// }
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct CapacityWindow {
    /// The number of this window.
    window: u64,
    /// The most rows in this window.
    most: usize,
    /// The most rows in the window before.
    before: usize,
}

impl CapacityWindow {
    /// The capacity that is always kept: what a list allocates for its first row.
    pub const ROWS_KEPT: usize = 4;

    /// Notes that the longest list has `rows` rows at the time `now`, which never decreases. Returns the capacity that
    /// lists should [shrink to](Vec::shrink_to) when `now` is in a new window, otherwise `None`. `window` is the length
    /// of a window, in the same unit as `now`, such as frames or microseconds; 0 counts as 1.
    pub fn keep(&mut self, now: u64, window: u64, rows: usize) -> Option<usize> {
        let window = now / window.max(1);
        if window == self.window {
            self.most = self.most.max(rows);
            return None;
        }
        self.before = if window == self.window + 1 { self.most } else { 0 };
        self.most = rows;
        self.window = window;
        let most = self.before.max(rows).max(Self::ROWS_KEPT);
        Some(most.checked_next_power_of_two().unwrap_or(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_all_the_time_stays() {
        let mut window = CapacityWindow::default();
        let mut list: Vec<u64> = Vec::new();
        let mut moves = 0;
        for now in 0..10_000 {
            let rows = if now % 100 == 0 { 1000 } else { 3 };
            let before = list.capacity();
            list.extend(0..rows);
            if let Some(kept) = window.keep(now, 100, list.len()) {
                list.shrink_to(kept);
            }
            list.clear();
            moves += usize::from(list.capacity() != before);
        }
        assert_eq!(moves, 1, "a list that needs the same again and again is allocated once");
    }

    #[test]
    fn a_burst_is_forgotten_after_two_windows() {
        let mut window = CapacityWindow::default();
        assert_eq!(window.keep(5, 10, 700), None);
        assert_eq!(window.keep(10, 10, 1), Some(1024));
        assert_eq!(window.keep(19, 10, 1), None);
        assert_eq!(window.keep(20, 10, 1), Some(CapacityWindow::ROWS_KEPT));
        // After a pause of more than a window the burst is forgotten at once.
        assert_eq!(window.keep(25, 10, 700), None);
        assert_eq!(window.keep(40, 10, 0), Some(CapacityWindow::ROWS_KEPT));
        assert_eq!(window.keep(41, 0, 40), Some(64));
    }
}
