//! The clock of this process: microseconds since it was first asked.

use std::sync::OnceLock;
use std::time::Instant;

use kaos_rudp::Micros;

/// Now, on the clock that all clients of this process share. It only runs forward; only differences mean something.
#[expect(
    clippy::disallowed_methods,
    reason = "a client is outside the frame: this is where its time comes from"
)]
pub fn now() -> Micros {
    static START: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    Micros(u64::try_from(now.duration_since(*START.get_or_init(|| now)).as_micros()).unwrap_or(u64::MAX))
}

/// The moment on tokio's clock.
pub(crate) fn instant(at: Micros) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(now())
}
