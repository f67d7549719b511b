//! How much may be under way and how fast it may leave: the trait of an algorithm, and the choice between two.
//!
//! [`Delay`] is for games: it keeps queues short and ignores random loss. [`Cubic`] is for paths with a long queue that
//! is shared with downloads, where an algorithm that yields to delay gets little.

mod cubic;
mod delay;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::{cubic::Cubic, delay::Delay};
use crate::{
    packet::DATAGRAM_BYTES_BASE,
    timer::{Micros, nanos},
};

/// Bytes of the IP and UDP headers, which the path carries too.
pub(crate) const OVERHEAD: usize = 28;
/// A full datagram on the wire, the unit of windows.
pub(crate) const PACKET: usize = DATAGRAM_BYTES_BASE + OVERHEAD;
/// Ten packets, after RFC 6928 and RFC 9002, 7.2.
pub(crate) const INITIAL: usize = 10 * PACKET;
/// No algorithm goes below this many bytes a second: enough for a player's inputs at 60 Hz.
pub(crate) const RATE_MIN: u64 = 8_000;
/// No limit on the rate.
pub(crate) const RATE_MAX: u64 = u64::MAX;

/// Which algorithm limits what a peer may have under way. See the README for both.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Congestion {
    /// Keeps a few packets in the queue of the bottleneck and ignores loss under ten per cent. The default.
    #[default]
    Delay,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406): fills queues, yields to loss, holds its own against TCP.
    Cubic,
}

/// What one acknowledgement settled. Bytes count IP and UDP headers.
pub(crate) struct Acked {
    pub(crate) now: Micros,
    pub(crate) packets: u32,
    pub(crate) bytes: usize,
    /// The largest packet number that is newly acknowledged, and when that packet was sent.
    pub(crate) number: u64,
    pub(crate) sent_at: Micros,
    /// When the oldest of the packets was sent.
    pub(crate) oldest_at: Micros,
    /// The number of the next packet: a round ends when it is acknowledged.
    pub(crate) next: u64,
    /// Round trip of the largest number, less the delay at the other side, if that number is new.
    pub(crate) rtt: Option<Duration>,
    /// The smallest recent round trip.
    pub(crate) rtt_min: Duration,
    /// Smoothed round trip.
    pub(crate) rtt_smoothed: Duration,
    /// Messages waited for the window or the pacer when these packets were under way, or half of the window was in use.
    /// Otherwise an acknowledgement says nothing about whether the path could carry more.
    pub(crate) limited: bool,
}

/// Packets found lost together.
pub(crate) struct Lost {
    pub(crate) packets: u32,
    /// The largest of their numbers.
    pub(crate) number: u64,
    /// The number of the next packet.
    pub(crate) next: u64,
}

/// A congestion control algorithm. It sees packets, never their content.
pub(crate) trait Controller {
    /// A packet leaves while `in_flight` bytes are under way.
    fn on_sent(&mut self, now: Micros, in_flight: usize);
    /// Packets were acknowledged.
    fn on_acked(&mut self, acked: &Acked);
    /// Packets were lost. Called after `on_acked` of the acknowledgements that showed it, of which there may be many
    /// between two looks at the socket, or by the timer.
    fn on_lost(&mut self, lost: &Lost);
    /// A router marked packets instead of dropping them. `number` is the largest that was marked.
    #[allow(dead_code, reason = "no frame reports marks yet; what they do is said and tested already")]
    fn on_ecn(&mut self, now: Micros, number: u64, next: u64);
    /// Three probes in a row went unanswered.
    fn on_persistent_loss(&mut self);
    /// Bytes that may be under way.
    fn window(&self) -> usize;
    /// Bytes a second at which packets may leave; `RATE_MAX` before anything is known of the path.
    fn pacing_rate(&self) -> u64;
}

/// The algorithm of one connection.
pub(crate) enum Control {
    Delay(Delay),
    Cubic(Cubic),
}

impl Control {
    /// `window_max` in bytes, IP and UDP headers counted.
    pub(crate) fn new(algorithm: Congestion, window_max: usize) -> Control {
        match algorithm {
            Congestion::Delay => Control::Delay(Delay::new(window_max)),
            Congestion::Cubic => Control::Cubic(Cubic::new(window_max)),
        }
    }

    fn inner(&mut self) -> &mut dyn Controller {
        match self {
            Control::Delay(delay) => delay,
            Control::Cubic(cubic) => cubic,
        }
    }
}

impl Controller for Control {
    fn on_sent(&mut self, now: Micros, in_flight: usize) {
        self.inner().on_sent(now, in_flight);
    }

    fn on_acked(&mut self, acked: &Acked) {
        self.inner().on_acked(acked);
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.inner().on_lost(lost);
    }

    fn on_ecn(&mut self, now: Micros, number: u64, next: u64) {
        self.inner().on_ecn(now, number, next);
    }

    fn on_persistent_loss(&mut self) {
        self.inner().on_persistent_loss();
    }

    fn window(&self) -> usize {
        match self {
            Control::Delay(delay) => delay.window(),
            Control::Cubic(cubic) => cubic.window(),
        }
    }

    fn pacing_rate(&self) -> u64 {
        match self {
            Control::Delay(delay) => delay.pacing_rate(),
            Control::Cubic(cubic) => cubic.pacing_rate(),
        }
    }
}

/// The rate in bytes a second that sends `gain_percent` of a window in each round trip.
pub(crate) fn rate(window: usize, round_trip: Duration, gain_percent: u64) -> u64 {
    let micros = (nanos(round_trip) / 1000).max(1);
    (window as u64 * 10_000 * gain_percent / micros).max(RATE_MIN)
}
