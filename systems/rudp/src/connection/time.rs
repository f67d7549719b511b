//! When something is due for a connection, and what is done then.

use std::time::Duration;

use super::{Connection, Context, Ending, Stage};
use crate::{
    config::Config,
    error::{CloseReason, code},
    keys::{Keys, Side},
    timer::{Micros, NEVER},
};

/// Silence of both sides after which a connection rests: it gives back the memory that only packets need.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Overdue packets that need no probe and are handled in one `on_timeout`; the rest waits for the next.
const OVERDUE_MAX: usize = 64;

impl Connection {
    /// When `on_timeout` is to be called next.
    pub(crate) fn deadline(&self, config: &Config) -> Micros {
        let flush = self.flush.as_ref().map_or(NEVER, |flush| flush.ends_at);
        match &self.stage {
            Stage::Dialing(dial) => dial.deadline().min(flush).min(self.sending.expires_at()),
            Stage::HalfOpen(ends_at) => *ends_at,
            Stage::Open => {
                let pings = self.side == Side::Connector && !self.ping_due;
                let keepalive = if pings { self.last_out + config.keepalive } else { NEVER };
                let keys = self.keys.as_ref().and_then(Keys::deadline).unwrap_or(NEVER).min(self.rest_at());
                let idle = self.last_in + config.idle_timeout;
                let channels = self.sending.expires_at().min(self.receiving.deadline());
                let packets = self.received.deadline().min(self.recovery.deadline());
                let out = self.recovery.paced_at().min(self.sending.repeats_at());
                let packets = if self.is_asking { packets } else { packets.min(out) };
                idle.min(keepalive)
                    .min(flush)
                    .min(keys)
                    .min(self.migration_deadline())
                    .min(channels)
                    .min(packets)
            }
        }
    }

    /// When to rest; `NEVER` while it rests.
    fn rest_at(&self) -> Micros {
        let is_awake = self.keys.as_ref().is_some_and(Keys::are_awake);
        if is_awake { self.last_in.max(self.last_out) + REST_AFTER } else { NEVER }
    }

    /// Nothing came or left for a while. The next packet wakes the connection, which takes about a microsecond.
    fn rest(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.sleep();
        }
        self.received.rest();
        self.recovery.rest();
        self.sending.rest();
        self.receiving.rest();
    }

    /// Does what is due. What it decides to send leaves with `transmit`.
    pub(crate) fn on_timeout(&mut self, now: Micros, cx: &mut Context<'_>) -> Option<Ending> {
        if self.flush.as_ref().is_some_and(|flush| flush.ends_at <= now) {
            return self.flush_over();
        }
        self.sending.expire(now, cx.pool);
        match &mut self.stage {
            Stage::Dialing(dial) => dial.on_timeout(now).then(|| Ending::Quiet(dial.reason())),
            Stage::HalfOpen(ends_at) => (*ends_at <= now).then_some(Ending::Forget),
            Stage::Open => self.on_timeout_open(now, cx),
        }
    }

    /// Migration comes before recovery: a return to the previous path brings back the round trip from which recovery
    /// works out what is overdue. Resting comes after it, when it is settled what is still under way.
    fn on_timeout_open(&mut self, now: Micros, cx: &mut Context<'_>) -> Option<Ending> {
        let config = cx.config;
        self.is_asking = true;
        if self.last_in + config.idle_timeout <= now {
            // Perhaps only the path to us is broken, so the other side is told.
            let text = "nothing was heard for the idle time-out".to_owned();
            return Some(Ending::Tell { code: code::TIMED_OUT, text, reason: CloseReason::TimedOut });
        }
        if let Some(keys) = &mut self.keys {
            keys.forget_old(now);
        }
        self.received.on_timeout(now);
        let (stale, freed) = self.receiving.on_timeout(now);
        self.counts.stale += stale;
        self.reassembly -= freed;
        *cx.reassembly_total -= freed;
        self.migration_on_timeout(now);
        let mut probes = 0;
        for _ in 0..OVERDUE_MAX {
            if probes > 0 || self.recovery.deadline() > now {
                break;
            }
            probes = self.recovery.on_timeout(now, &mut self.sending);
        }
        if self.rest_at() <= now {
            self.rest();
        }
        self.probes = self.probes.max(probes);
        self.ping_due |= self.side == Side::Connector && self.last_out + config.keepalive <= now;
        None
    }
}
