//! The watchdog: says loudly when the frame thread stays in one frame. It looks and does nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use kaos_gate::stats::Stats;

use super::Since;

/// A frame that takes longer is stuck: rooms miss dozens of ticks, clients begin to time out.
const STUCK_MS: u64 = 1000;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);

/// Ends its thread when it is dropped.
pub(super) struct Watchdog {
    _ends: Sender<()>,
}

impl Watchdog {
    /// Watches `frames` and `in_frame` of the statistics.
    pub(super) fn start(stats: &Arc<Stats>) -> io::Result<Self> {
        let (ends, ended) = channel();
        let stats = stats.clone();
        std::thread::Builder::new().name("kaos-watchdog".to_owned()).spawn(move || {
            let mut seen = (0, Since::now());
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let entered = stats.frame_entered.load(Ordering::Relaxed);
                if entered == 0 || entered != seen.0 {
                    if stats.stuck_ms.swap(0, Ordering::Relaxed) > 0 {
                        tracing::warn!("the frame thread goes on");
                    }
                    seen = (entered, Since::now());
                    continue;
                }
                let stuck_ms = seen.1.us() / 1000;
                if stuck_ms < STUCK_MS {
                    continue;
                }
                // Once for each doubling of the time: loud, but no flood.
                let told = stats.stuck_ms.load(Ordering::Relaxed);
                if told == 0 || stuck_ms >= told * 2 {
                    stats.stuck_ms.store(stuck_ms, Ordering::Relaxed);
                    tracing::error!(
                        stuck_ms,
                        "the frame thread is stuck in one frame: a system, an operation or a script does not return"
                    );
                }
            }
        })?;
        Ok(Watchdog { _ends: ends })
    }
}
