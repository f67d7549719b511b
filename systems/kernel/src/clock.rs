//! Time inside the frame: a grid of numbered frames, and the asking that keeps a frame from being skipped.

use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::*;

/// The length of a frame, in microseconds: frame n happens at exactly n·Q.
///
/// Q divides a second into whole frames and is at most 4 ms, so that a room of 128 ticks a second
/// (7.8 ms apart) never has two ticks due in one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quantum(u32);

impl Quantum {
    /// The values that are possible, in microseconds.
    pub const CHOICES_US: [u32; 5] = [250, 500, 1000, 2000, 4000];

    /// `None` unless `us` is one of [`Quantum::CHOICES_US`].
    pub fn from_us(us: u32) -> Option<Self> {
        Self::CHOICES_US.contains(&us).then_some(Quantum(us))
    }

    /// Microseconds in a frame.
    pub fn us(self) -> u64 {
        u64::from(self.0)
    }

    /// Frames in a second.
    pub fn hz(self) -> u64 {
        1_000_000 / u64::from(self.0)
    }
}

impl Default for Quantum {
    /// 500 µs: routing in under a millisecond at 0.3 % of a core (research, frame loop).
    fn default() -> Self {
        Quantum(500)
    }
}

/// Which frame this is and what time that makes it. Changes only between frames.
#[derive(Resource, Debug)]
pub struct Clock {
    quantum: Quantum,
    frame: u64,
    /// Unix time of frame 0, in microseconds; from the journal's `Boot` and `Wall`.
    wall_us: u64,
    /// The earliest frame that something asked for. Atomic since asking is a read of the clock.
    wake: AtomicU64,
}

impl Clock {
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

    /// Frames in a second.
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

    /// Frames in that many seconds.
    pub fn frames_in_secs(&self, secs: u64) -> u64 {
        secs.saturating_mul(self.hz())
    }

    /// Frames in that many milliseconds, rounded up.
    pub fn frames_in_ms(&self, ms: u64) -> u64 {
        ms.saturating_mul(1000).div_ceil(self.quantum.us())
    }

    /// Has `frame` come? When it has not, asks that it be run, so that it will not be skipped as quiet.
    ///
    /// Ask in every frame in which you run: an asking lasts until the next frame that runs.
    pub fn reached(&self, frame: u64) -> bool {
        if self.frame >= frame {
            return true;
        }
        self.wake.fetch_min(frame, Ordering::Relaxed);
        false
    }

    /// Asks that `frame` be run. A frame that has passed means the next one.
    pub fn wake_at(&self, frame: u64) {
        self.wake.fetch_min(frame.max(self.frame + 1), Ordering::Relaxed);
    }

    /// The time of this frame in nanoseconds since frame 0: what rates are counted by.
    pub(crate) fn now_ns(&self) -> u64 {
        self.frame().saturating_mul(self.quantum().us() * 1000)
    }

    pub(crate) fn enter(&mut self, frame: u64) {
        self.frame = frame;
        *self.wake.get_mut() = u64::MAX;
    }

    pub(crate) fn set_wall_ms(&mut self, ms: u64) {
        // Kept as the time of frame 0, so that `now` stays a function of the frame number.
        self.wall_us = ms.saturating_mul(1000).saturating_sub(self.frame.saturating_mul(self.quantum.us()));
    }

    /// The earliest frame that was asked for; `None`: nothing is due.
    pub fn due(&self) -> Option<u64> {
        let wake = self.wake.load(Ordering::Relaxed);
        (wake != u64::MAX).then_some(wake)
    }
}

/// A run condition: true in the first frame and then once in every `frames`, on the grid of their multiples.
///
/// It asks for the frames it needs, so a system under it is never skipped.
pub fn every(frames: u64) -> impl FnMut(Res<Clock>, Local<Option<u64>>) -> bool + Clone {
    move |clock: Res<Clock>, mut last: Local<Option<u64>>| turn(&clock, frames, &mut last)
}

/// [`every`], in milliseconds of the grid.
pub fn every_ms(ms: u64) -> impl FnMut(Res<Clock>, Local<Option<u64>>) -> bool + Clone {
    move |clock: Res<Clock>, mut last: Local<Option<u64>>| turn(&clock, clock.frames_in_ms(ms), &mut last)
}

/// Is it a new turn of `frames` frames since the `last`? Asks for the frame in which the next one begins.
fn turn(clock: &Clock, frames: u64, last: &mut Option<u64>) -> bool {
    let frames = frames.max(1);
    let turn = clock.frame() / frames;
    clock.wake_at((turn + 1) * frames);
    // By turns and not by `frame % frames`: a runner that was late jumps over frame numbers.
    last.replace(turn).is_none_or(|last| turn > last)
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
