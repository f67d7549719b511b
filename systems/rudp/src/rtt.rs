//! Round trip estimate and the times that follow from it, after RFC 9002.

use std::time::Duration;

/// Before the first sample. Between a LAN and another continent; too long costs a late first repeat, too short costs
/// a needless one.
const RTT_INITIAL: Duration = Duration::from_millis(100);
/// Timers closer than this measure the caller's loop rather than the path.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Floor of the probe time-out: a busy receiver needs that long to look at its socket.
const PTO_MIN: Duration = Duration::from_millis(5);

/// Smoothed round trip of one path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    pub(crate) smoothed: Duration,
    pub(crate) variation: Duration,
    latest: Duration,
    min: Duration,
    sampled: bool,
}

impl Default for Rtt {
    fn default() -> Rtt {
        let smoothed = RTT_INITIAL;
        Rtt { smoothed, variation: smoothed / 2, latest: smoothed, min: Duration::MAX, sampled: false }
    }
}

impl Rtt {
    /// A packet sent `sample` ago was acknowledged, which the other side held back for `delay`.
    pub(crate) fn update(&mut self, sample: Duration, delay: Duration) {
        self.latest = sample;
        self.min = self.min.min(sample);
        if !self.sampled {
            self.sampled = true;
            self.smoothed = sample;
            self.variation = sample / 2;
            return;
        }
        // The delay is the other side's word: it never brings the sample under the smallest seen.
        let adjusted = if sample >= self.min + delay { sample - delay } else { sample };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    /// Silence after which the oldest unacknowledged messages are sent again.
    pub(crate) fn pto(&self, ack_delay: Duration) -> Duration {
        (self.smoothed + (self.variation * 4).max(GRANULARITY) + ack_delay).max(PTO_MIN)
    }

    /// Age at which a packet is lost when a later one was acknowledged. `widened` doubles the tolerance of reordering
    /// as often as losses turned out to be none.
    pub(crate) fn loss_delay(&self, widened: u32) -> Duration {
        let base = self.smoothed.max(self.latest);
        let window = (base / 8).max(GRANULARITY) * (1 << widened.min(3));
        base + window.min(base.max(GRANULARITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_estimate_settles_on_the_path() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.update(MS * 60, MS * 10);
        }
        // The first sample keeps its delay; later ones are taken as given once a smaller one was seen.
        assert_eq!(rtt.smoothed, MS * 60);
        rtt.update(MS * 50, Duration::ZERO);
        for _ in 0..50 {
            rtt.update(MS * 60, MS * 10);
        }
        assert!(rtt.smoothed.abs_diff(MS * 50) < MS, "{rtt:?}");
        assert!(rtt.pto(MS * 10) < MS * 63, "{rtt:?}");
        assert!(rtt.loss_delay(0) < MS * 69);
        assert!(rtt.loss_delay(9) <= MS * 120);
    }

    #[test]
    fn the_probe_time_out_has_a_floor() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.update(Duration::from_micros(80), Duration::ZERO);
        }
        assert_eq!(rtt.pto(MS), PTO_MIN);
        assert!(rtt.loss_delay(0) >= MS);
    }
}
