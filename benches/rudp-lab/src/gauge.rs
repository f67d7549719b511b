//! What is counted besides wall time: allocations of a thread, and its CPU time.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

/// Counts allocations of each thread and passes them on to the system.
pub(crate) struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: i64, calls: u64) {
    // A thread that is ending has no counters any more.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
    let _ = CALLS.try_with(|all| all.set(all.get() + calls));
}

// SAFETY: every call is passed on to the system's allocator with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed() as i64, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size().cast_signed() as i64), 0);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.cast_signed() as i64 - layout.size().cast_signed() as i64, 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// What a part of the program used of its thread.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Used {
    /// CPU time of the thread.
    pub(crate) cpu: Duration,
    /// Calls of the allocator that asked for memory.
    pub(crate) allocations: u64,
    /// Bytes that it has taken and not given back.
    pub(crate) bytes: i64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Used) {
        self.cpu += other.cpu;
        self.allocations += other.allocations;
        self.bytes += other.bytes;
    }
}

impl Used {
    /// Nanoseconds of CPU for each of `count`.
    pub(crate) fn ns(&self, count: usize) -> f64 {
        self.cpu.as_nanos() as f64 / count.max(1) as f64
    }
}

/// Runs a part and says what it used. Reading the clock costs some 300 ns, so a part should be a batch.
pub(crate) fn measure<T>(part: impl FnOnce() -> T) -> (T, Used) {
    let now = || (LIVE.with(Cell::get), CALLS.with(Cell::get));
    let before = now();
    let begun = cpu();
    let result = part();
    let ended = cpu();
    let after = now();
    (
        result,
        Used { cpu: ended.saturating_sub(begun), allocations: after.1 - before.1, bytes: after.0 - before.0 },
    )
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
