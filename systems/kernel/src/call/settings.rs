//! What can be set for calls of operations.

crate::settings! {
    /// Calls of operations.
    pub struct CallSettings in "call" {
        /// Calls of clients that may wait at a time, for jobs or their turn; beyond it they are refused as busy. Calls
        /// of scripts and plugins do not count: they have to pass when clients fill the queue.
        waiting_max: u32 = 10_000, in 1..=1 << 20;
        /// The same for one session, so that none fills the queue for all.
        session_waiting_max: u32 = 64, in 1..=1 << 20;
        /// How long a call may wait for its jobs in all, before it ends with deadline.
        wait_ms: u64 = 30_000, in 100..=600_000, unit "ms";
        /// Fuel of one rpc, with every rpc that it calls. It runs outside of the frame; see match.fuel for the unit.
        fuel: i64 = 5_000_000, in 1000..=10_000_000_000;
    }
}
