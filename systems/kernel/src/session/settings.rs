//! What can be set for sessions.

crate::settings! {
    /// Sessions and their connections.
    pub struct SessionSettings in "session" {
        /// How long a connection may take to its first message, the SessionStart. Bounds what a silent stranger holds.
        start_ms: u64 = 5_000, in 100..=60_000, unit "ms";
        /// How often a client sends a heartbeat at least. It is also how late an acknowledgement may be, so it bounds
        /// what both sides keep to send again.
        heartbeat_ms: u64 = 1_000, in 50..=30_000, unit "ms";
        /// Silence after which a connection counts as lost. More than twice heartbeat_ms, or one late heartbeat loses a
        /// healthy connection.
        idle_ms: u64 = 10_000,
            within |session| session.heartbeat_ms.saturating_mul(2).saturating_add(1)..=600_000, unit "ms";
        /// How long the seats of a session that lost its connection wait for it. 0: not at all.
        seat_ms: u64 = 30_000, in 0..=3_600_000, unit "ms";
        /// Reliable messages that are kept for a client until it acknowledges them. Beyond that a session that lost its
        /// connection loses room data, oldest first, and a connected one has slow_reader_ms to catch up. At four times
        /// this a session closes at once.
        resend_bytes: usize = 256 * 1024, in 4096..=64 << 20, unit "bytes", was "session.keep_bytes";
        /// How long a connected session may stay over resend_bytes before it is closed as slow_reader.
        slow_reader_ms: u64 = 10_000, in 100..=600_000, unit "ms";
        /// Whether a second login of a user replaces the first. false: both stay.
        replace: bool = false;
    }
}
