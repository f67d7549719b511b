//! The connector's Hellos: when they leave, with which cookie, whose answer is believed, and when it gives up.

use std::{mem, time::Duration};

use crate::{
    config::Config,
    cookie::COOKIE_BYTES,
    error::CloseReason,
    handshake::{self, Accept, Offer, PROLOGUE, Parameters},
    identity::{PublicKey, SecretKey},
    keys::{Keys, Side},
    noise::read_answer,
    timer::Micros,
};

/// The first wait for an answer to a Hello; each further wait is half as long again, up to `HELLO_WAIT_MAX`.
const HELLO_WAIT: Duration = Duration::from_millis(200);
const HELLO_WAIT_MAX: Duration = Duration::from_millis(600);
/// Retries that are answered at once. Only a broken server sends more; the answers to those wait for the timer.
const RETRIES_AT_ONCE: u8 = 3;
/// Accepts that are tried after each Hello. Each costs two key exchanges, whoever sent it.
const TRIALS_MAX: u8 = 4;
/// How much longer to wait for the right server after a wrong one has answered: someone who can see the Hello may have
/// been faster.
const WRONG_KEY_WAIT: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Dial {
    pub(super) offer: Offer,
    ephemeral: SecretKey,
    expected: Option<PublicKey>,
    /// A server that is not the expected one answered.
    found: Option<PublicKey>,
    key_packets: u64,
    trials: u8,
    cookie: Option<[u8; COOKIE_BYTES]>,
    is_due: bool,
    retries: u8,
    next_at: Micros,
    wait: Duration,
    ends_at: Micros,
    /// When the Hello with the current cookie was sent, if that was done only once.
    pub(super) sampled_at: Option<Micros>,
    /// Hellos sent with the current cookie.
    sent: u32,
}

/// What a genuine Accept gives.
pub(super) struct Accepted {
    pub(super) keys: Keys,
    pub(super) connection: u32,
    pub(super) server: PublicKey,
}

impl Dial {
    pub(super) fn new(
        now: Micros,
        config: &Config,
        ephemeral: SecretKey,
        expected: Option<PublicKey>,
    ) -> Dial {
        Dial {
            offer: Offer::new(config, *ephemeral.public().as_bytes()),
            ephemeral,
            expected,
            found: None,
            key_packets: config.key_packets,
            trials: 0,
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

    /// The keys, if this is the expected server's answer to our Hello.
    pub(super) fn on_accept(&mut self, now: Micros, accept: &Accept, message: &mut [u8]) -> Option<Accepted> {
        let offer = &self.offer;
        let in_range = (offer.version_min..=offer.version_max).contains(&accept.version);
        let is_offered = offer.suites & accept.suite.bit() != 0;
        if accept.echo != offer.echo() || !in_range || !is_offered || self.trials >= TRIALS_MAX {
            return None;
        }
        self.trials += 1;
        let answered =
            read_answer(accept.suite.cipher(), PROLOGUE, &self.ephemeral, &offer.payload(), message).ok()?;
        let parameters = Parameters::parse(answered.payload)?;
        // The unencrypted part chose the cipher: it must say what the server wrote.
        if (parameters.version, parameters.suite) != (accept.version, accept.suite.bit()) {
            return None;
        }
        if self.expected.is_some_and(|expected| expected != answered.remote) {
            self.found = Some(answered.remote);
            self.ends_at = self.ends_at.min(now + WRONG_KEY_WAIT);
            return None;
        }
        let keys = Keys::new(accept.suite, Side::Connector, &answered.split, self.key_packets);
        Some(Accepted { keys, connection: parameters.connection, server: answered.remote })
    }

    /// Why the attempt failed.
    pub(super) fn reason(&self) -> CloseReason {
        match (self.expected, self.found) {
            (Some(expected), Some(found)) => CloseReason::WrongKey { expected, found },
            _ => CloseReason::TimedOut,
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

    /// Returns whether time is up.
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
        self.trials = 0;
        self.sampled_at = (self.sent == 1 && self.cookie.is_some()).then_some(now);
        self.next_at = now + self.wait;
        self.wait = (self.wait * 3 / 2).min(HELLO_WAIT_MAX);
        true
    }
}
