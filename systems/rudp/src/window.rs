//! How many bytes may be under way at once: a small loss-tolerant window, until a controller takes its place.
//!
//! It doubles each round trip from ten datagrams to its bound, then stays. A round in which over a tenth of the
//! packets was lost halves it: less is the noise of radio links, more is a queue that overflows. Probes that stay
//! unanswered bring it to its floor.

use crate::packet::DATAGRAM_BYTES_BASE;

const INITIAL: usize = 10 * DATAGRAM_BYTES_BASE;
const FLOOR: usize = 4 * DATAGRAM_BYTES_BASE;
/// Fewer packets in a round say nothing about the path.
const ROUND_PACKETS_MIN: u32 = 20;
const LOSS_PERCENT_MAX: u32 = 10;

/// The congestion window of one connection.
pub(crate) struct Window {
    pub(crate) bytes: usize,
    bytes_max: usize,
    slow_start: bool,
    acked: u32,
    lost: u32,
    round_ends_at: u64,
}

impl Window {
    pub(crate) fn new(bytes_max: usize) -> Window {
        let bytes_max = bytes_max.max(FLOOR);
        Window {
            bytes: INITIAL.min(bytes_max),
            bytes_max,
            slow_start: true,
            acked: 0,
            lost: 0,
            round_ends_at: 0,
        }
    }

    /// A packet was acknowledged; `was_full` tells whether the window held anything back.
    pub(crate) fn on_acked(&mut self, bytes: usize, was_full: bool) {
        self.acked += 1;
        if was_full {
            let step =
                if self.slow_start { bytes } else { (bytes * DATAGRAM_BYTES_BASE / self.bytes).max(1) };
            self.bytes = (self.bytes + step).min(self.bytes_max);
        }
    }

    pub(crate) fn on_lost(&mut self) {
        self.lost += 1;
    }

    /// After each acknowledgement: ends the round when its last packet was reached.
    pub(crate) fn on_round(&mut self, largest_acked: u64, next_number: u64) {
        if largest_acked < self.round_ends_at {
            return;
        }
        let total = self.acked + self.lost;
        if total < ROUND_PACKETS_MIN {
            // A round of few packets goes on into the next.
            self.round_ends_at = next_number;
            return;
        }
        if self.lost * 100 > total * LOSS_PERCENT_MAX {
            self.bytes = (self.bytes / 2).max(FLOOR);
            self.slow_start = false;
        }
        (self.acked, self.lost, self.round_ends_at) = (0, 0, next_number);
    }

    /// Several probes in a row went unanswered.
    pub(crate) fn on_persistent_loss(&mut self) {
        self.bytes = FLOOR;
        self.slow_start = true;
        (self.acked, self.lost) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_tolerated_and_heavy_loss_is_not() {
        let mut window = Window::new(64 * 1024);
        assert_eq!(window.bytes, INITIAL);
        for _ in 0..200 {
            window.on_acked(1200, true);
        }
        assert_eq!(window.bytes, 64 * 1024);
        for number in 0..100 {
            window.on_acked(1200, true);
            if number % 20 == 0 {
                window.on_lost();
            }
            window.on_round(number, number + 20);
        }
        assert_eq!(window.bytes, 64 * 1024);
        for number in 200..300 {
            window.on_acked(1200, false);
            window.on_lost();
            window.on_round(number, number + 20);
        }
        assert!(window.bytes < 16 * 1024, "{}", window.bytes);
        window.on_persistent_loss();
        assert_eq!(window.bytes, FLOOR);
    }
}
