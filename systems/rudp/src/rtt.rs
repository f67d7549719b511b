//! Round trip estimate and the times that follow from it, after RFC 9002.

use std::time::Duration;

use crate::timer::Micros;

/// Before the first sample. Between a LAN and another continent; too long costs a late first repeat, too short costs
/// a needless one.
const RTT_INITIAL: Duration = Duration::from_millis(100);
/// Timers closer than this measure the caller's loop rather than the path.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Floor of the probe time-out: a busy receiver needs that long to look at its socket.
const PTO_MIN: Duration = Duration::from_millis(5);
/// The smallest round trip is remembered for one to two of these, then paths may have changed (Copa and BBR: 10 s).
const MIN_SPAN: Duration = Duration::from_secs(10);

/// Smoothed round trip of one path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    pub(crate) smoothed: Duration,
    pub(crate) variation: Duration,
    latest: Duration,
    /// Smallest sample of the current span, and of the one before.
    min: [Duration; 2],
    span_began: Micros,
    sampled: bool,
}

impl Default for Rtt {
    fn default() -> Rtt {
        let smoothed = RTT_INITIAL;
        Rtt {
            smoothed,
            variation: smoothed / 2,
            latest: smoothed,
            min: [Duration::MAX; 2],
            span_began: Micros::ZERO,
            sampled: false,
        }
    }
}

impl Rtt {
    /// A packet sent `sample` ago was acknowledged, which the other side held back for `delay`. Returns the sample
    /// without the delay, as far as that is believed.
    pub(crate) fn update(&mut self, now: Micros, sample: Duration, delay: Duration) -> Duration {
        self.latest = sample;
        if self.span_began + MIN_SPAN <= now {
            let stale = self.span_began + MIN_SPAN * 2 <= now;
            self.min[1] = if stale { Duration::MAX } else { self.min[0] };
            (self.min[0], self.span_began) = (Duration::MAX, now);
        }
        self.min[0] = self.min[0].min(sample);
        if !self.sampled {
            self.sampled = true;
            self.smoothed = sample;
            self.variation = sample / 2;
            return sample;
        }
        // The delay is the other side's word: it never brings the sample under the smallest seen.
        let adjusted = if sample >= self.min() + delay { sample - delay } else { sample };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
        adjusted
    }

    /// The smallest round trip of the last 10 to 20 s; the smoothed one before any sample.
    pub(crate) fn min(&self) -> Duration {
        if self.sampled { self.min[0].min(self.min[1]) } else { self.smoothed }
    }

    /// Silence after which the oldest unacknowledged messages are sent again.
    pub(crate) fn pto(&self, ack_delay: Duration) -> Duration {
        let margin = (self.variation * 4).max(self.smoothed / 16).max(GRANULARITY);
        (self.smoothed + margin + ack_delay).max(PTO_MIN)
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
    const NOW: Micros = Micros(1);

    #[test]
    fn the_estimate_settles_on_the_path() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.update(NOW, MS * 60, MS * 10);
        }
        // The first sample keeps its delay; later ones are taken as given once a smaller one was seen.
        assert_eq!(rtt.smoothed, MS * 60);
        rtt.update(NOW, MS * 50, Duration::ZERO);
        for _ in 0..50 {
            rtt.update(NOW, MS * 60, MS * 10);
        }
        assert!(rtt.smoothed.abs_diff(MS * 50) < MS, "{rtt:?}");
        assert!(rtt.pto(MS * 10) < MS * 66, "{rtt:?}");
        assert!(rtt.loss_delay(0) < MS * 69);
        assert!(rtt.loss_delay(9) <= MS * 120);
    }

    #[test]
    fn the_probe_time_out_has_a_floor() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.update(NOW, Duration::from_micros(80), Duration::ZERO);
        }
        assert_eq!(rtt.pto(MS), PTO_MIN);
        assert!(rtt.loss_delay(0) >= MS);
    }

    #[test]
    fn the_smallest_round_trip_grows_old() {
        let mut rtt = Rtt::default();
        let mut now = NOW;
        rtt.update(now, MS * 30, Duration::ZERO);
        for second in 0..25 {
            assert_eq!(rtt.min() == MS * 30, second < 20, "{second} s");
            now += MS * 1000;
            rtt.update(now, MS * 80, Duration::ZERO);
        }
        assert_eq!(rtt.min(), MS * 80);
    }
}
