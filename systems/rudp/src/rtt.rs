//! Round trip estimate and the times that follow from it, after RFC 9002.

use std::time::Duration;

use crate::timer::{Micros, nanos};

/// Before the first sample. Between a LAN and another continent: too long makes the first repeat late, too short makes
/// it needless.
const RTT_INITIAL: Duration = Duration::from_millis(100);
/// Shorter times measure the caller's loop and not the path.
const GRANULARITY: Duration = Duration::from_millis(1);
/// The shortest probe time-out: a busy receiver needs that long to look at its socket.
const PTO_MIN: Duration = Duration::from_millis(5);
/// The smallest round trip is remembered for one to two of these spans; after that the path may have changed (Copa and
/// BBR: 10 s).
const MIN_SPAN: Duration = Duration::from_secs(10);
/// Longer samples count as this, an hour, in nanoseconds.
const SAMPLE_MAX: u64 = 3_600_000_000_000;

/// Smoothed round trip of one path. All times are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    smoothed: u64,
    variation: u64,
    latest: u64,
    /// Smallest sample of the current span, and of the one before.
    min: [u64; 2],
    span_began: Micros,
    sampled: bool,
}

impl Default for Rtt {
    fn default() -> Rtt {
        let smoothed = nanos(RTT_INITIAL);
        Rtt {
            smoothed,
            variation: smoothed / 2,
            latest: smoothed,
            min: [u64::MAX; 2],
            span_began: Micros::ZERO,
            sampled: false,
        }
    }
}

impl Rtt {
    /// A packet sent `sample` ago was acknowledged, and the other side held its acknowledgement back for `delay`.
    /// Returns the sample without the delay, as far as that is believed.
    pub(crate) fn update(&mut self, now: Micros, sample: Duration, delay: Duration) -> Duration {
        let (sample, delay) = (nanos(sample).min(SAMPLE_MAX), nanos(delay));
        self.latest = sample;
        if self.span_began + MIN_SPAN <= now {
            let stale = self.span_began + MIN_SPAN * 2 <= now;
            self.min[1] = if stale { u64::MAX } else { self.min[0] };
            (self.min[0], self.span_began) = (u64::MAX, now);
        }
        self.min[0] = self.min[0].min(sample);
        if !self.sampled {
            self.sampled = true;
            self.smoothed = sample;
            self.variation = sample / 2;
            return Duration::from_nanos(sample);
        }
        // The delay is only what the other side says: it never brings the sample below the smallest seen.
        let least = self.min[0].min(self.min[1]);
        let adjusted = if sample >= least.saturating_add(delay) { sample - delay } else { sample };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
        Duration::from_nanos(adjusted)
    }

    /// The smoothed round trip.
    pub(crate) fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    /// Its mean deviation.
    pub(crate) fn variation(&self) -> Duration {
        Duration::from_nanos(self.variation)
    }

    /// The smallest round trip of the last 10 to 20 s; the smoothed one before any sample.
    pub(crate) fn min(&self) -> Duration {
        let least = if self.sampled { self.min[0].min(self.min[1]) } else { self.smoothed };
        Duration::from_nanos(least)
    }

    /// The probe time-out: silence after which the oldest unacknowledged messages are sent again.
    pub(crate) fn pto(&self, ack_delay: Duration) -> Duration {
        Duration::from_nanos(self.pto_nanos(nanos(ack_delay)))
    }

    /// The same in nanoseconds.
    pub(crate) fn pto_nanos(&self, ack_delay: u64) -> u64 {
        let margin = (self.variation * 4).max(self.smoothed / 16).max(nanos(GRANULARITY));
        (self.smoothed + margin).saturating_add(ack_delay).max(nanos(PTO_MIN))
    }

    /// Age in nanoseconds at which a packet counts as lost once a later one was acknowledged. The tolerance of
    /// reordering is doubled `widened` times.
    pub(crate) fn loss_nanos(&self, widened: u8) -> u64 {
        let base = self.smoothed.max(self.latest);
        let window = (base / 8).max(nanos(GRANULARITY)) * (1 << widened.min(3));
        base + window.min(base.max(nanos(GRANULARITY)))
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
        assert_eq!(rtt.smoothed(), MS * 60);
        rtt.update(NOW, MS * 50, Duration::ZERO);
        for _ in 0..50 {
            rtt.update(NOW, MS * 60, MS * 10);
        }
        assert!(rtt.smoothed().abs_diff(MS * 50) < MS, "{rtt:?}");
        assert!(rtt.pto(MS * 10) < MS * 66, "{rtt:?}");
        assert!(rtt.loss_nanos(0) < nanos(MS * 69));
        assert!(rtt.loss_nanos(9) <= nanos(MS * 120));
    }

    #[test]
    fn the_probe_time_out_has_a_floor() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.update(NOW, Duration::from_micros(80), Duration::ZERO);
        }
        assert_eq!(rtt.pto(MS), PTO_MIN);
        assert!(rtt.loss_nanos(0) >= nanos(MS));
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
