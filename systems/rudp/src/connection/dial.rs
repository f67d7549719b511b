//! The connector's Hellos: when they leave, with which cookie, and when it gives up.

use std::{mem, time::Duration};

use crate::{
    config::Config,
    cookie::COOKIE_BYTES,
    handshake::{self, Offer, SUITE_PLAINTEXT},
    timer::Micros,
};

/// First wait for an answer to a Hello; the next ones are half as long again, up to `HELLO_WAIT_MAX`.
const HELLO_WAIT: Duration = Duration::from_millis(200);
const HELLO_WAIT_MAX: Duration = Duration::from_millis(600);
/// Retries that are answered at once. More of them come only from a broken server, and wait for the timer.
const RETRIES_AT_ONCE: u8 = 3;
/// See the module.
pub(super) struct Dial {
    pub(super) offer: Offer,
    cookie: Option<[u8; COOKIE_BYTES]>,
    is_due: bool,
    retries: u8,
    next_at: Micros,
    wait: Duration,
    ends_at: Micros,
    /// When the Hello with the current cookie left, if only one did.
    pub(super) sampled_at: Option<Micros>,
    /// Hellos sent with the current cookie.
    sent: u32,
}

impl Dial {
    pub(super) fn new(now: Micros, config: &Config, random: [u8; 32]) -> Dial {
        let (version_min, version_max) = (config.version_min, config.version_max);
        Dial {
            offer: Offer { version_min, version_max, suites: SUITE_PLAINTEXT, random },
            cookie: None,
            is_due: true,
            retries: 0,
            next_at: now + HELLO_WAIT,
            wait: HELLO_WAIT,
            ends_at: now + config.handshake_timeout,
            sampled_at: None,
            sent: 0,
        }
    }

    pub(super) fn on_retry(&mut self, echo: [u8; 16], cookie: [u8; COOKIE_BYTES]) {
        if echo != self.offer.echo() || self.cookie == Some(cookie) {
            return;
        }
        self.cookie = Some(cookie);
        self.retries = self.retries.saturating_add(1);
        self.is_due |= self.retries <= RETRIES_AT_ONCE;
        (self.sent, self.sampled_at) = (0, None);
    }

    pub(super) fn deadline(&self) -> Micros {
        if self.is_due { self.ends_at } else { self.ends_at.min(self.next_at) }
    }

    /// True when time is up.
    pub(super) fn on_timeout(&mut self, now: Micros) -> bool {
        self.is_due |= self.next_at <= now;
        self.ends_at <= now
    }

    pub(super) fn transmit(&mut self, now: Micros, out: &mut Vec<u8>) -> bool {
        if !mem::take(&mut self.is_due) {
            return false;
        }
        handshake::put_hello(out, &self.offer, self.cookie.as_ref());
        self.sent += 1;
        self.sampled_at = (self.sent == 1 && self.cookie.is_some()).then_some(now);
        self.next_at = now + self.wait;
        self.wait = (self.wait * 3 / 2).min(HELLO_WAIT_MAX);
        true
    }
}
