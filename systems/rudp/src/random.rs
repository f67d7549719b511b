//! Unpredictable bytes from the endpoint's seed: HMAC-SHA256 over a counter.

use ring::hmac;

/// The only source of randomness in an endpoint. Same seed, same bytes.
pub(crate) struct Random {
    key: hmac::Key,
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: &[u8; 32]) -> Random {
        Random { key: hmac::Key::new(hmac::HMAC_SHA256, &derive(seed, b"kaos-rudp random")), counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        digest(&hmac::sign(&self.key, &self.counter.to_le_bytes()))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        let bytes = self.bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// A secret of 32 bytes made from `seed`, an independent one for each `label`.
pub(crate) fn derive(seed: &[u8], label: &[u8]) -> [u8; 32] {
    digest(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), label))
}

/// The whole tag as an array, which has 32 bytes with SHA-256.
pub(crate) fn digest(tag: &hmac::Tag) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}
