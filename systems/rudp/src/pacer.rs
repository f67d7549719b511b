//! Spreads packets over the round trip: a token bucket that holds two packets, or what the path carries in 2 ms.
//!
//! Queues and drops at a bottleneck come from bursts as much as from rate. The bucket may go into debt by one packet,
//! so a packet waits only for those before it. What a game sends in a tick leaves at once as long as it is less than
//! the path carries.

use std::time::Duration;

use crate::{
    congestion::{PACKET, RATE_MAX},
    timer::{Micros, NEVER, nanos},
};

/// The bucket, in time.
const BURST: Duration = Duration::from_millis(2);
/// The bucket, in bytes, on slow paths.
const BURST_MIN: u64 = 2 * PACKET as u64;
/// Waits are at least this long, so that on fast paths a timer or system call serves more than one packet.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Paths with a shorter round trip are not paced: their whole window is a burst of about that length anyway.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(2);
/// A caller that comes up to this much later than it was asked to still gets all of its bytes, as a burst: its packets
/// are spaced by its ticks.
const LATE_MAX: Duration = Duration::from_millis(25);
/// Credit counts millionths of a byte, so that microseconds at low rates are not lost.
const UNIT: i64 = 1_000_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Pacer {
    credit: i64,
    at: Micros,
    /// Nothing may leave before.
    blocked: Option<Micros>,
}

impl Pacer {
    /// Whether a packet may leave at `rate` bytes a second on a path with this round trip. If not, `deadline` says
    /// when.
    pub(crate) fn may_send(&mut self, now: Micros, rate: u64, round_trip: Duration) -> bool {
        if rate == RATE_MAX || round_trip < ROUND_TRIP_MIN {
            (self.credit, self.at, self.blocked) = (0, now, None);
            return true;
        }
        // Only once for each point in time: what lateness granted holds for all packets of the burst.
        if now > self.at {
            let late = self.blocked.map_or(Duration::ZERO, |at| (now - at).min(LATE_MAX));
            let most = scaled(rate, BURST + late).max((BURST_MIN as i64) * UNIT);
            let elapsed = (now - self.at).min(Duration::from_secs(1));
            self.credit = self.credit.saturating_add(scaled(rate, elapsed)).min(most);
            self.at = now;
        }
        if self.blocked.is_some_and(|at| now < at) {
            return false;
        }
        if self.credit > 0 {
            self.blocked = None;
            return true;
        }
        let wait = (1 - self.credit).unsigned_abs().div_ceil(rate.max(1)).max(WAIT_MIN.as_micros() as u64);
        self.blocked = Some(now + Duration::from_micros(wait));
        false
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as i64 * UNIT);
    }

    /// Nothing waits to be sent any more.
    pub(crate) fn on_idle(&mut self) {
        self.blocked = None;
    }

    /// When a packet that was refused may leave, or `NEVER`.
    pub(crate) fn deadline(&self) -> Micros {
        self.blocked.unwrap_or(NEVER)
    }

    /// Bytes that may leave at `rate` within `ahead` from `now` on.
    pub(crate) fn budget(&self, now: Micros, rate: u64, round_trip: Duration, ahead: Duration) -> usize {
        if rate == RATE_MAX || round_trip < ROUND_TRIP_MIN {
            return usize::MAX;
        }
        let most = scaled(rate, BURST).max((BURST_MIN as i64) * UNIT);
        let elapsed = (now - self.at).min(Duration::from_secs(1));
        let credit = self.credit.saturating_add(scaled(rate, elapsed)).min(most);
        usize::try_from(credit.saturating_add(scaled(rate, ahead)) / UNIT).unwrap_or(0)
    }
}

/// The bytes that `rate` gives in a time, in `UNIT`s.
fn scaled(rate: u64, time: Duration) -> i64 {
    i64::try_from(rate.saturating_mul(nanos(time) / 1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// Packets of 1,228 bytes that leave in `ms` milliseconds, with a call every `step` µs or when asked for.
    fn leave(rate: u64, ms: u64, step: u64) -> (u64, u64) {
        let mut pacer = Pacer::default();
        let (mut sent, mut burst_max, mut now) = (0, 0, Micros(1_000));
        while now < Micros(1_000 + ms * 1000) {
            let mut burst = 0;
            while pacer.may_send(now, rate, RTT) {
                pacer.on_sent(PACKET);
                burst += 1;
            }
            sent += burst;
            burst_max = burst_max.max(burst);
            now = (now + Duration::from_micros(step))
                .max(Some(pacer.deadline()).filter(|&at| at < NEVER).unwrap_or(now));
        }
        (sent * PACKET as u64, burst_max)
    }

    #[test]
    fn the_rate_is_kept_however_often_it_is_asked() {
        for step in [0, 1, 333, 1_000, 16_667] {
            let (sent, burst) = leave(1_228_000, 1_000, step);
            assert!((1_190_000..1_260_000).contains(&sent), "step {step}: {sent}");
            let most = if step > 2_000 { 20 } else { 3 };
            assert!(burst <= most, "step {step}: {burst} at once");
        }
        let (sent, burst) = leave(8_000, 10_000, 1);
        assert!((78_000..85_000).contains(&sent), "{sent}");
        assert!(burst <= 3);
    }

    #[test]
    fn what_is_less_than_the_rate_never_waits() {
        let mut pacer = Pacer::default();
        for tick in 1..600 {
            let now = Micros(tick * 16_667);
            assert!(pacer.may_send(now, 8_000, RTT), "tick {tick}");
            pacer.on_sent(128);
        }
    }
}
