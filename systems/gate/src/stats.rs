//! Counters that the doors and the runner write and `/metrics` reads. All atomic: reading never stops a frame.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kaos_kernel::input::Door;
use kaos_kernel::op::OpId;

/// Upper bounds of the buckets of [`Histogram`], in microseconds; what is over the last one is in one more.
pub const BUCKETS_US: [u64; 15] =
    [25, 50, 100, 200, 300, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 33_000, 100_000, 500_000, 2_000_000];

/// How often a duration fell into which range.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds a duration in microseconds.
    pub fn add(&self, us: u64) {
        let at = BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many are in each bucket, not added up; the last one is for what is over all bounds.
    pub fn counts(&self) -> [u64; BUCKETS_US.len() + 1] {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Ordering::Relaxed)))
    }

    /// The sum of all durations, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

/// Traffic of one door.
#[derive(Default, Debug)]
pub struct Traffic {
    /// Peers that are open now.
    pub peers: AtomicU64,
    /// Whole messages (rudp messages, WebSocket frames, HTTP requests) that came in.
    pub messages_in: AtomicU64,
    /// Messages that went out.
    pub messages_out: AtomicU64,
    /// Bytes of messages that came in, without the transport's own.
    pub bytes_in: AtomicU64,
    /// Bytes of messages that went out.
    pub bytes_out: AtomicU64,
}

impl Traffic {
    /// Counts one message that came in.
    pub fn came(&self, bytes: usize) {
        self.messages_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts one message that went out.
    pub fn went(&self, bytes: usize) {
        self.messages_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Everything that is counted outside the frame.
#[derive(Default, Debug)]
pub struct Stats {
    /// Frames that ran.
    pub frames: AtomicU64,
    /// Frames that ran a whole frame or more after they were due.
    pub frames_late: AtomicU64,
    /// Time between the line of the grid and the start of the frame, for every frame that ran.
    pub frame_lateness: Histogram,
    /// The same, for frames that something asked for: room ticks and timers.
    pub tick_lateness: Histogram,
    /// Time that a frame took, with handing out what it said.
    pub frame_time: Histogram,
    /// Sessions, held seats included.
    pub sessions: AtomicU64,
    /// Rooms.
    pub rooms: AtomicU64,
    /// Entities, counted about once a second.
    pub entities: AtomicU64,
    /// Jobs that wait or run.
    pub jobs: AtomicU64,
    /// Jobs that were refused since the queue was full.
    pub jobs_refused: AtomicU64,
    /// HTTP connections that are open now.
    pub connections: AtomicU64,
    /// Connections that were refused at the door: too many of them.
    pub connections_refused: AtomicU64,
    /// Datagrams that the operating system did not take.
    pub datagrams_unsent: AtomicU64,
    /// SessionStarts that the doors refused.
    pub starts_refused: AtomicU64,
    /// The number of the frame that runs now and one more; 0 between frames. For the watchdog.
    pub frame_entered: AtomicU64,
    /// How long the frame thread has been in one frame, in milliseconds, while that is over a second; else 0.
    pub stuck_ms: AtomicU64,
    /// Bytes that the journal has written to its file.
    pub journal_bytes: AtomicU64,
    doors: [Traffic; 3],
    calls: OnceLock<Box<[AtomicU64]>>,
}

impl Stats {
    /// The traffic of a door. Memory peers are counted as HTTP, which has none in a real server.
    pub fn door(&self, door: Door) -> &Traffic {
        let [udp, web, http] = &self.doors;
        match door {
            Door::Udp => udp,
            Door::WebSocket => web,
            Door::Http | Door::Memory => http,
        }
    }

    /// Makes room for calls by operation. The first time counts.
    pub fn count_ops(&self, ops: usize) {
        self.calls.get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(ops).collect());
    }

    /// Counts a call that came through a door.
    pub fn count_call(&self, op: OpId) {
        if let Some(count) = self.calls.get().and_then(|calls| calls.get(usize::from(op.0))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls of an operation through all doors.
    pub fn calls(&self, op: OpId) -> u64 {
        let count = self.calls.get().and_then(|calls| calls.get(usize::from(op.0)));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for us in [0, 25, 26, 2_000_000, 2_000_001] {
            histogram.add(us);
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[14], counts[15]), (2, 1, 1, 1));
        assert_eq!(histogram.sum_us(), 4_000_052);
    }
}
