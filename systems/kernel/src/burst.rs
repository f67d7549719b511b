//! How much memory a list that is used again and again keeps: what it needed lately, and no burst for ever.

/// Remembers the most rows that lists held of late, for whoever clears and refills them.
///
/// Time is cut into windows. At the first look in each, lists may keep memory for as many rows as they held at
/// most in the window before it and now, rounded up to a power of two, as lists grow; never for less than
/// [`CapacityWindow::ROWS_KEPT`]. So what a busy server uses stays where it is and is not allocated anew from frame to
/// frame, and the memory of a burst is given back by the first look after two windows without one. Nobody
/// looks on a server that does nothing: it holds the memory of its last burst until something comes in.
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
    window: u64,
    /// The most of this window.
    most: usize,
    /// The most of the window before.
    before: usize,
}

impl CapacityWindow {
    /// Rows whose memory is always kept: as many as a list makes room for at its first.
    pub const ROWS_KEPT: usize = 4;

    /// Notes that lists hold `rows` at `now`, which never falls. Returns the rows that they should
    /// [shrink to](Vec::shrink_to) when a window begins, and `None` within one. `now` and `window` are in
    /// any one unit, of frames or microseconds; 0 counts as 1.
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
        // After a long silence at once.
        assert_eq!(window.keep(25, 10, 700), None);
        assert_eq!(window.keep(40, 10, 0), Some(CapacityWindow::ROWS_KEPT));
        assert_eq!(window.keep(41, 0, 40), Some(64));
    }
}
