//! CUBIC (RFC 9438) with HyStart++ (RFC 9406): the second algorithm, for paths that are shared with downloads.
//!
//! All constants are the RFCs'. Windows are in bytes, with packets of 1,228 as the segment.

use std::time::Duration;

use super::{Acked, Controller, INITIAL, Lost, PACKET, RATE_MAX, rate};
use crate::timer::Micros;

/// RFC 9438, 4.6 and 5.
const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// RFC 9438, 4.3: the slope at which the estimate of Reno's window grows until it has caught up.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
const FLOOR: usize = 2 * PACKET;
/// RFC 9406, 4.3.
const RTT_THRESH_MIN: Duration = Duration::from_millis(4);
const RTT_THRESH_MAX: Duration = Duration::from_millis(16);
const RTT_DIVISOR: u32 = 8;
const RTT_SAMPLES: u32 = 8;
const CSS_GROWTH_DIVISOR: usize = 4;
const CSS_ROUNDS: u8 = 5;

/// How the window grows below the threshold.
#[derive(Clone, Copy, PartialEq)]
enum SlowStart {
    Normal,
    /// HyStart++'s conservative slow start, after the delay grew. It ends after some rounds, or goes back to `Normal`
    /// if that was a false alarm.
    Conservative {
        baseline: Duration,
        rounds: u8,
    },
}

/// See the module.
pub(crate) struct Cubic {
    window: usize,
    window_max: usize,
    threshold: usize,
    slow_start: SlowStart,
    /// The window has been reduced already for packets with lower numbers.
    recovery_ends: Option<u64>,
    /// W_max, W_est and K of the RFC, in bytes and seconds.
    window_top: f64,
    window_reno: f64,
    k: f64,
    epoch: Option<Micros>,
    round_ends: u64,
    round_rtt: Duration,
    round_rtt_last: Duration,
    round_samples: u32,
    pacing: u64,
}

impl Cubic {
    pub(crate) fn new(window_max: usize) -> Cubic {
        let window_max = window_max.max(FLOOR);
        Cubic {
            window: INITIAL.min(window_max),
            window_max,
            threshold: usize::MAX,
            slow_start: SlowStart::Normal,
            recovery_ends: None,
            window_top: 0.0,
            window_reno: 0.0,
            k: 0.0,
            epoch: None,
            round_ends: 0,
            round_rtt: Duration::MAX,
            round_rtt_last: Duration::MAX,
            round_samples: 0,
            pacing: RATE_MAX,
        }
    }

    fn set_window(&mut self, bytes: usize) {
        self.window = bytes.clamp(FLOOR, self.window_max);
    }

    fn slow_start(&mut self, acked: &Acked) {
        let divisor = match self.slow_start {
            SlowStart::Normal => 1,
            SlowStart::Conservative { .. } => CSS_GROWTH_DIVISOR,
        };
        self.set_window(self.window + acked.bytes / divisor);
        if self.round_samples < RTT_SAMPLES {
            return;
        }
        match self.slow_start {
            SlowStart::Normal if self.round_rtt_last < Duration::MAX => {
                let thresh = (self.round_rtt_last / RTT_DIVISOR).clamp(RTT_THRESH_MIN, RTT_THRESH_MAX);
                if self.round_rtt >= self.round_rtt_last + thresh {
                    self.slow_start = SlowStart::Conservative { baseline: self.round_rtt, rounds: 0 };
                }
            }
            SlowStart::Conservative { baseline, .. } if self.round_rtt < baseline => {
                self.slow_start = SlowStart::Normal;
            }
            _ => {}
        }
    }

    fn end_round(&mut self, next: u64) {
        if let SlowStart::Conservative { rounds, .. } = &mut self.slow_start {
            *rounds += 1;
            if *rounds >= CSS_ROUNDS && self.window < self.threshold {
                self.threshold = self.window;
            }
        }
        self.round_ends = next;
        self.round_rtt_last = self.round_rtt;
        self.round_rtt = Duration::MAX;
        self.round_samples = 0;
    }

    /// RFC 9438, 4.2 to 4.5.
    fn avoid(&mut self, acked: &Acked) {
        let window = self.window as f64;
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.epoch = Some(acked.now);
                self.window_reno = window;
                let below = (self.window_top - window) / PACKET as f64;
                self.k = if below > 0.0 { (below / C).cbrt() } else { 0.0 };
                self.window_top = self.window_top.max(window);
                acked.now
            }
        };
        let segments = acked.bytes as f64 / window * PACKET as f64;
        let alpha = if self.window_reno < self.window_top { ALPHA } else { 1.0 };
        self.window_reno += alpha * segments;
        let cubic_at =
            |at: Duration| C * (at.as_secs_f64() - self.k).powi(3) * PACKET as f64 + self.window_top;
        let age = acked.now - epoch;
        let next = if cubic_at(age) < self.window_reno {
            self.window_reno
        } else {
            let target = cubic_at(age + acked.rtt_smoothed).clamp(window, window * 1.5);
            window + (target - window) * acked.bytes as f64 / window
        };
        self.set_window(next.max(window) as usize);
    }

    fn reduce(&mut self, number: u64, next: u64) {
        if self.recovery_ends.is_some_and(|ends| number < ends) {
            return;
        }
        self.recovery_ends = Some(next);
        self.epoch = None;
        let window = self.window as f64;
        // Fast convergence: a flow that did not reach its old maximum gives room to a newer one.
        self.window_top = if window < self.window_top { window * (1.0 + BETA) / 2.0 } else { window };
        self.set_window((window * BETA) as usize);
        self.threshold = self.window;
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, now: Micros, in_flight: usize) {
        // RFC 9438, 5.8: time without data does not count as time to grow in.
        if in_flight == 0 && self.epoch.is_some_and(|epoch| epoch < now) {
            self.epoch = None;
        }
    }

    fn on_acked(&mut self, acked: &Acked) {
        if let Some(rtt) = acked.rtt {
            self.round_rtt = self.round_rtt.min(rtt);
            self.round_samples += 1;
        }
        let in_recovery = self.recovery_ends.is_some_and(|ends| acked.number < ends);
        if acked.limited && !in_recovery {
            if self.window < self.threshold {
                self.slow_start(acked);
            } else {
                self.avoid(acked);
            }
        }
        if acked.number >= self.round_ends {
            self.end_round(acked.next);
        }
        // RFC 9002, 7.7, for the gain.
        let gain = if self.window < self.threshold { 200 } else { 125 };
        self.pacing = rate(self.window, acked.rtt_smoothed, gain);
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.reduce(lost.number, lost.next);
    }

    fn on_ecn(&mut self, _now: Micros, number: u64, next: u64) {
        self.reduce(number, next);
    }

    fn on_persistent_loss(&mut self) {
        self.threshold = (self.window / 2).max(FLOOR);
        self.window = FLOOR;
        self.slow_start = SlowStart::Normal;
        self.recovery_ends = None;
        self.epoch = None;
    }

    fn window(&self) -> usize {
        self.window
    }

    fn pacing_rate(&self) -> u64 {
        self.pacing
    }
}
