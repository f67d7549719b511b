//! Time inside the frame: a grid of numbered frames, and the wake-up requests that keep a frame from being skipped.

use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::*;

/// The length of a frame, Q. Frame n happens exactly n·Q after frame 0.
///
/// Q divides a second into a whole number of frames. It is at most 4 ms, so that a room with 128 ticks per second
/// (7.8 ms apart) never has two ticks due in one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quantum(u32);

impl Quantum {
    /// The possible values, in microseconds.
    pub const CHOICES_US: [u32; 5] = [250, 500, 1000, 2000, 4000];

    /// The quantum of `us` microseconds; `None`: it is not one of [`Quantum::CHOICES_US`].
    pub fn from_us(us: u32) -> Option<Self> {
        Self::CHOICES_US.contains(&us).then_some(Quantum(us))
    }

    /// The length of a frame, in microseconds.
    pub fn us(self) -> u64 {
        u64::from(self.0)
    }

    /// Frames per second.
    pub fn hz(self) -> u64 {
        1_000_000 / u64::from(self.0)
    }
}

impl Default for Quantum {
    /// 500 µs: messages are routed in under a millisecond, at 0.3 % of a core.
    fn default() -> Self {
        Quantum(500)
    }
}

/// The number and the time of this frame. Both change only between frames.
#[derive(Resource, Debug)]
pub struct Clock {
    quantum: Quantum,
    frame: u64,
    /// Unix time of frame 0, in microseconds; from the inputs `Boot` and `Wall`.
    wall_us: u64,
    /// The earliest frame that was requested; `u64::MAX`: none. It is atomic so that a system needs only a shared
    /// reference to the clock for a wake-up request.
    wake: AtomicU64,
}

impl Clock {
    /// A clock at frame 0, whose Unix time is not known yet.
    pub(crate) fn new(quantum: Quantum) -> Self {
        Clock { quantum, frame: 0, wall_us: 0, wake: AtomicU64::new(u64::MAX) }
    }

    /// The number of this frame.
    pub fn frame(&self) -> u64 {
        self.frame
    }

    /// The length of a frame.
    pub fn quantum(&self) -> Quantum {
        self.quantum
    }

    /// Frames per second.
    pub fn hz(&self) -> u64 {
        self.quantum.hz()
    }

    /// Unix time of this frame, in whole milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Unix time of this frame, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.wall_us.saturating_add(self.frame.saturating_mul(self.quantum.us()))
    }

    /// Unix time of frame 0, in microseconds.
    pub(crate) fn wall_us(&self) -> u64 {
        self.wall_us
    }

    /// The number of frames in `secs` seconds.
    pub fn frames_in_secs(&self, secs: u64) -> u64 {
        secs.saturating_mul(self.hz())
    }

    /// The number of frames in `ms` milliseconds, rounded up.
    pub fn frames_in_ms(&self, ms: u64) -> u64 {
        ms.saturating_mul(1000).div_ceil(self.quantum.us())
    }

    /// Whether `frame` has come. If not, this also makes a wake-up request for it, so that it is not skipped as quiet.
    ///
    /// Call it in every frame in which the system runs: a wake-up request lasts only until the next frame that runs.
    pub fn reached(&self, frame: u64) -> bool {
        if self.frame >= frame {
            return true;
        }
        self.wake.fetch_min(frame, Ordering::Relaxed);
        false
    }

    /// Makes a wake-up request: `frame` will be run even if it is quiet. This frame or an earlier one stands for the
    /// next.
    pub fn wake_at(&self, frame: u64) {
        self.wake.fetch_min(frame.max(self.frame + 1), Ordering::Relaxed);
    }

    /// The time of this frame in nanoseconds since frame 0, unlike [`Clock::now_us`], which is Unix time. Rate limits
    /// use it.
    pub(crate) fn now_ns(&self) -> u64 {
        self.frame().saturating_mul(self.quantum().us() * 1000)
    }

    /// Begins a frame. Wake-up requests of the frame before are dropped.
    pub(crate) fn enter(&mut self, frame: u64) {
        self.frame = frame;
        *self.wake.get_mut() = u64::MAX;
    }

    /// Sets the Unix time of this frame, in milliseconds.
    pub(crate) fn set_wall_ms(&mut self, ms: u64) {
        // Stored as the time of frame 0, so that the time stays a function of the frame number.
        self.wall_us = ms.saturating_mul(1000).saturating_sub(self.frame.saturating_mul(self.quantum.us()));
    }

    /// The earliest frame for which there is a wake-up request; `None`: there is none.
    pub fn due(&self) -> Option<u64> {
        let wake = self.wake.load(Ordering::Relaxed);
        (wake != u64::MAX).then_some(wake)
    }
}

/// A run condition that is true once per period of `frames` frames, for the first time when it is first evaluated.
/// Periods begin at multiples of `frames`; 0 counts as 1.
///
/// It makes a wake-up request for the beginning of the next period, so that its system is never skipped.
pub fn every(frames: u64) -> impl FnMut(Res<Clock>, Local<Option<u64>>) -> bool + Clone {
    move |clock: Res<Clock>, mut last: Local<Option<u64>>| enter_period(&clock, frames, &mut last)
}

/// [`every`] with a period of `ms` milliseconds, rounded up to whole frames.
pub fn every_ms(ms: u64) -> impl FnMut(Res<Clock>, Local<Option<u64>>) -> bool + Clone {
    move |clock: Res<Clock>, mut last: Local<Option<u64>>| {
        enter_period(&clock, clock.frames_in_ms(ms), &mut last)
    }
}

/// Makes a wake-up request for the next period of `frames` frames, and stores the number of this period in `last`.
/// Returns whether this period is a new one.
fn enter_period(clock: &Clock, frames: u64, last: &mut Option<u64>) -> bool {
    let frames = frames.max(1);
    let period = clock.frame() / frames;
    clock.wake_at((period + 1) * frames);
    // Periods are compared instead of testing `frame % frames`, because a runner that was late leaves out frame
    // numbers.
    last.replace(period).is_none_or(|last| period > last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_a_frame_wakes_it() {
        let mut clock = Clock::new(Quantum::default());
        clock.enter(10);
        assert!(clock.reached(10));
        assert_eq!(clock.due(), None);
        assert!(!clock.reached(30));
        assert!(!clock.reached(20));
        assert_eq!(clock.due(), Some(20));
        clock.enter(11);
        assert_eq!(clock.due(), None);
    }

    #[test]
    fn wall_time_follows_the_grid() {
        let mut clock = Clock::new(Quantum::default());
        clock.enter(4);
        clock.set_wall_ms(1_000_000);
        assert_eq!(clock.now_ms(), 1_000_000);
        clock.enter(8);
        assert_eq!(clock.now_ms(), 1_000_002);
        assert_eq!(clock.frames_in_ms(1), 2);
    }
}
