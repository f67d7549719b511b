//! Packet protection: encrypts and opens packets, changes the keys from time to time, and counts forgeries.
//!
//! Each direction has its own key. The packet number is the nonce, the header is associated data. After a number of
//! packets a sender changes its key by Noise's Rekey and shows that with the key phase bit; the receiver follows with
//! the first packet that opens with the next key. A sender never changes again before a packet of the current phase was
//! acknowledged, so the two ends are at most one phase apart.

use std::{mem, time::Duration};

use ring::{
    aead::{Aad, LessSafeKey, Tag},
    error::Unspecified,
};
use zeroize::Zeroizing;

use crate::{
    noise::{Cipher, Split, TAG_BYTES},
    packet::{FLAG_PHASE, Header, header_bytes},
    timer::Micros,
};

/// No packet has this number or a higher one: the last nonce is Rekey's.
pub(crate) const NUMBER_END: u64 = u64::MAX;

/// Most packets under one key. With more, AES-GCM leaks more than RFC 9001 (section 6.6) accepts for packets of this
/// size (2^23 packets of 2^11 blocks; ours have at most 2^7). Reached only if the other side acknowledges nothing.
const SEALED_MAX: u64 = 1 << 25;

/// How packets are protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// **Frames are readable by everybody on the path.** They are authenticated as with `Aes256Gcm`. For packet
    /// captures on one machine: only between loopback addresses, and only if both sides ask for it with
    /// `Config::plaintext`.
    Plaintext,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305: faster where the processor has no instructions for AES.
    ChaCha20Poly1305,
}

impl Suite {
    /// The suites that encrypt.
    pub const CIPHERS: &'static [Suite] = &[Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

    /// Its bit in a Hello, which is also its number in an Accept.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Suite::Plaintext => 0x01,
            Suite::Aes256Gcm => 0x02,
            Suite::ChaCha20Poly1305 => 0x04,
        }
    }

    pub(crate) fn from_bit(bit: u8) -> Option<Suite> {
        [Suite::Plaintext, Suite::Aes256Gcm, Suite::ChaCha20Poly1305]
            .into_iter()
            .find(|suite| suite.bit() == bit)
    }

    pub(crate) fn cipher(self) -> Cipher {
        match self {
            Suite::Plaintext | Suite::Aes256Gcm => Cipher::AesGcm,
            Suite::ChaCha20Poly1305 => Cipher::ChaChaPoly,
        }
    }

    /// Packets that may fail to open before the keys are given up (RFC 9001, section 6.6).
    fn failed_max(self) -> u64 {
        match self.cipher() {
            Cipher::AesGcm => 1 << 52,
            Cipher::ChaChaPoly => 1 << 36,
        }
    }
}

/// Which end of a connection: the one that said Hello, or the one that answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Connector,
    Acceptor,
}

/// The key of one direction.
#[derive(Clone)]
struct Direction {
    secret: Zeroizing<[u8; 32]>,
    /// What is made of the secret while packets come: 600 bytes.
    awake: Option<Box<Awake>>,
    phase: bool,
    /// Lowest packet number that is known to belong to the phase.
    since: u64,
}

#[derive(Clone)]
struct Awake {
    key: LessSafeKey,
    /// The secret after the next change, once it was needed.
    next: Option<Zeroizing<[u8; 32]>>,
}

impl Direction {
    fn new(secret: &Zeroizing<[u8; 32]>) -> Direction {
        Direction { secret: secret.clone(), awake: None, phase: false, since: 0 }
    }

    fn awake(&mut self, cipher: Cipher) -> &mut Awake {
        let Direction { secret, awake, .. } = self;
        awake.get_or_insert_with(|| Box::new(Awake { key: cipher.key(secret), next: None }))
    }

    fn key(&mut self, cipher: Cipher) -> &LessSafeKey {
        &self.awake(cipher).key
    }

    /// The secret after the next change.
    fn next(&mut self, cipher: Cipher) -> &Zeroizing<[u8; 32]> {
        let secret = self.secret.clone();
        self.awake(cipher).next.get_or_insert_with(|| cipher.rekey(&secret))
    }

    /// Changes the key. Returns the secret before the change.
    fn change(&mut self, cipher: Cipher, since: u64) -> Zeroizing<[u8; 32]> {
        let next = self.next(cipher).clone();
        self.awake = None;
        self.phase = !self.phase;
        self.since = since;
        mem::replace(&mut self.secret, next)
    }
}

/// The key of the last phase, for packets that were overtaken.
#[derive(Clone)]
struct Old {
    secret: Zeroizing<[u8; 32]>,
    ends_at: Micros,
}

/// The keys of a connection.
#[derive(Clone)]
pub(crate) struct Keys {
    suite: Suite,
    out: Direction,
    inward: Direction,
    old: Option<Box<Old>>,
    change_after: u64,
    failed: u64,
    changes: u64,
    /// A packet of this phase asked for an acknowledgement because of the keys.
    has_asked: bool,
}

impl Keys {
    pub(crate) fn new(suite: Suite, side: Side, split: &Split, change_after: u64) -> Keys {
        let (out, inward) = match side {
            Side::Connector => (&split.to_responder, &split.to_initiator),
            Side::Acceptor => (&split.to_initiator, &split.to_responder),
        };
        Keys {
            suite,
            out: Direction::new(out),
            inward: Direction::new(inward),
            old: None,
            change_after: change_after.max(1),
            failed: 0,
            changes: 0,
            has_asked: false,
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// Changes of keys, both directions.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Before packet `number` is sealed: changes the key if it is time. Returns whether it did; the packet must then
    /// ask for an acknowledgement.
    pub(crate) fn change(&mut self, number: u64, largest_acked: Option<u64>) -> bool {
        let is_time = number - self.out.since >= self.change_after && largest_acked >= Some(self.out.since);
        if is_time {
            self.out.change(self.suite.cipher(), number);
            self.changes += 1;
            self.has_asked = true;
        }
        is_time
    }

    /// Before packet `number` is sealed: whether it must ask for an acknowledgement, because it is time for a change
    /// and no packet of this phase was acknowledged. This happens in the first phase of a side that only acknowledges
    /// itself. True once in a phase: from then on recovery sees to it that an answer comes.
    pub(crate) fn must_ask(&mut self, number: u64, largest_acked: Option<u64>) -> bool {
        let is_time = number - self.out.since >= self.change_after && largest_acked < Some(self.out.since);
        is_time && !mem::replace(&mut self.has_asked, true)
    }

    /// Encrypts what follows the header, sets the key phase and appends the tag. A number must not be used twice.
    pub(crate) fn seal(&mut self, number: u64, datagram: &mut Vec<u8>) {
        datagram[0] |= if self.out.phase { FLAG_PHASE } else { 0 };
        let nonce = self.suite.cipher().nonce(number);
        let clear = if self.suite == Suite::Plaintext { datagram.len() } else { header_bytes(datagram[0]) };
        let (ad, text) = datagram.split_at_mut(clear);
        let sealed =
            self.out.key(self.suite.cipher()).seal_in_place_separate_tag(nonce, Aad::from(&*ad), text);
        let tag = sealed.expect("AEADs refuse only inputs of gigabytes; a datagram has 1500 bytes at most");
        datagram.extend_from_slice(tag.as_ref());
    }

    /// Decrypts a packet in place and gives its frames. `overtaken` is how long packets of the last phase may still
    /// come. A packet that does not open changes nothing but a counter, and costs one attempt at decryption, whatever
    /// its phase bit says.
    pub(crate) fn open<'a>(
        &mut self,
        now: Micros,
        overtaken: Duration,
        header: &Header,
        number: u64,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], Unspecified> {
        self.open_with(now, || overtaken, header, number, datagram)
    }

    /// The same with a time that is worked out only when it is needed.
    pub(crate) fn open_with<'a>(
        &mut self,
        now: Micros,
        overtaken: impl FnOnce() -> Duration,
        header: &Header,
        number: u64,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], Unspecified> {
        self.forget_old(now);
        let (suite, inward) = (self.suite, &mut self.inward);
        let opened = if header.phase == inward.phase {
            let opened = open(suite, inward.key(suite.cipher()), header, number, datagram);
            if opened.is_ok() {
                inward.since = inward.since.min(number);
            }
            opened
        } else if number < inward.since {
            // Nothing was tried without the key, so this does not count as a failure.
            let old = self.old.as_ref().ok_or(Unspecified)?;
            open(suite, &suite.cipher().key(&old.secret), header, number, datagram)
        } else {
            let key = suite.cipher().key(inward.next(suite.cipher()));
            let opened = open(suite, &key, header, number, datagram);
            if opened.is_ok() {
                let secret = inward.change(suite.cipher(), number);
                self.old = Some(Box::new(Old { secret, ends_at: now + overtaken() }));
                self.changes += 1;
            }
            opened
        };
        self.failed += u64::from(opened.is_err());
        opened
    }

    /// Whether more than the secrets is in memory.
    pub(crate) fn are_awake(&self) -> bool {
        self.out.awake.is_some() || self.inward.awake.is_some()
    }

    /// Keeps only the secrets, which saves 1.2 KB. The next packet of each direction makes its key anew, which takes
    /// about as long as opening two packets.
    pub(crate) fn sleep(&mut self) {
        (self.out.awake, self.inward.awake) = (None, None);
    }

    /// Whether so many forgeries came, or so many packets were sent without an acknowledgement, that the keys must not
    /// be used any longer.
    pub(crate) fn are_worn(&self, next_number: u64) -> bool {
        self.failed >= self.suite.failed_max()
            || next_number - self.out.since >= SEALED_MAX.max(self.change_after.saturating_mul(2))
    }

    /// When the last phase's key is to be forgotten.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.old.as_ref().map(|old| old.ends_at)
    }

    pub(crate) fn forget_old(&mut self, now: Micros) {
        if self.old.as_ref().is_some_and(|old| old.ends_at <= now) {
            self.old = None;
        }
    }

    /// As if so many packets had failed to open.
    #[cfg(test)]
    pub(crate) fn pretend_failed(&mut self, left: u64) {
        self.failed = self.suite.failed_max() - left;
    }
}

fn open<'a>(
    suite: Suite,
    key: &LessSafeKey,
    header: &Header,
    number: u64,
    datagram: &'a mut [u8],
) -> Result<&'a [u8], Unspecified> {
    let nonce = suite.cipher().nonce(number);
    if suite == Suite::Plaintext {
        let (clear, tag) = datagram.split_last_chunk::<TAG_BYTES>().ok_or(Unspecified)?;
        key.open_in_place_separate_tag(nonce, Aad::from(clear), Tag::from(*tag), &mut [], 0..)?;
        return clear.get(header.frames_at..).ok_or(Unspecified);
    }
    let (ad, sealed) = datagram.split_at_mut_checked(header.frames_at).ok_or(Unspecified)?;
    key.open_in_place(nonce, Aad::from(&*ad), sealed).map(|frames| &*frames)
}

#[cfg(test)]
mod tests;
