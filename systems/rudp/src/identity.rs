//! The keys that identify a server: a Curve25519 pair, whose public half can be written as 43 characters.

use std::{fmt, str::FromStr};

use curve25519_dalek::montgomery::MontgomeryPoint;
use thiserror::Error;
use zeroize::Zeroizing;

/// Characters of a public key as text: 32 bytes in unpadded base64.
const TEXT_BYTES: usize = 43;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The public half of a server's key. A client that knows it beforehand cannot be led to another server.
///
/// As text it is unpadded URL-safe base64 (RFC 4648, section 5), so that it can be part of an address:
/// `kaos://host:port#key`.
///
/// ```
/// use kaos_rudp::{PublicKey, SecretKey};
///
/// let key = SecretKey::from_bytes([7; 32]).public();
/// let text = key.to_string();
/// assert_eq!(text.len(), 43);
/// assert_eq!(text.parse::<PublicKey>(), Ok(key));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KeyTextError {
    /// Cut off, or padded with `=`.
    #[error("a key has 43 characters, this text has {0} bytes")]
    Length(usize),
    /// Only `A` to `Z`, `a` to `z`, `0` to `9`, `-` and `_` occur.
    #[error("character {0} of the key is not one of A-Z a-z 0-9 - _")]
    Character(usize),
    /// The last character carries two bits more than a key has, which must be zero.
    #[error("the last character of the key is impossible")]
    Ending,
}

impl PublicKey {
    /// The key with these bytes. Any bytes are one.
    pub const fn from_bytes(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    /// Its bytes, as RFC 7748 orders them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_BYTES];
        for (index, character) in text.iter_mut().enumerate() {
            let (byte, shift) = (index * 6 / 8, index * 6 % 8);
            let next = self.0.get(byte + 1).copied().unwrap_or(0);
            let pair = u16::from_be_bytes([self.0[byte], next]);
            *character = ALPHABET[usize::from(pair >> (10 - shift) & 0x3f)];
        }
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<PublicKey, KeyTextError> {
        if text.len() != TEXT_BYTES {
            return Err(KeyTextError::Length(text.len()));
        }
        let (mut key, mut bits, mut held) = ([0; 32], 0u32, 0);
        let mut bytes = key.iter_mut();
        for (index, character) in text.bytes().enumerate() {
            let value = ALPHABET.iter().position(|&known| known == character);
            bits = bits << 6 | value.ok_or(KeyTextError::Character(index + 1))? as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                if let Some(byte) = bytes.next() {
                    *byte = (bits >> held) as u8;
                }
            }
            bits &= (1 << held) - 1;
        }
        if bits == 0 { Ok(PublicKey(key)) } else { Err(KeyTextError::Ending) }
    }
}

/// The secret half of a server's key. It is never printed, and is overwritten when it is dropped.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// The key with these bytes, which should come from the operating system's randomness. Any bytes are one.
    pub fn from_bytes(bytes: [u8; 32]) -> SecretKey {
        SecretKey(Zeroizing::new(bytes))
    }

    /// Its bytes, to be kept in a file that only the server can read.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half. Some 20 µs.
    pub fn public(&self) -> PublicKey {
        PublicKey(MontgomeryPoint::mul_base_clamped(*self.0).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_other_text_is_refused() {
        for fill in [0, 1, 0x7f, 0xff] {
            let mut bytes = [fill; 32];
            bytes[31] = 0x5a;
            let text = PublicKey(bytes).to_string();
            assert_eq!(text.parse(), Ok(PublicKey(bytes)));
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        }
        let known = PublicKey(*b"\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\x55\x97\x61\x96\x9b\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xa2\x9a");
        assert_eq!(known.to_string(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopo");
        let text = known.to_string();
        assert_eq!(text[..42].parse::<PublicKey>(), Err(KeyTextError::Length(42)));
        assert_eq!(format!("{text}=").parse::<PublicKey>(), Err(KeyTextError::Length(44)));
        assert_eq!(text.replace('C', "+").parse::<PublicKey>(), Err(KeyTextError::Character(3)));
        assert_eq!(text.replace('o', "p").parse::<PublicKey>(), Err(KeyTextError::Ending));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([9; 32])), "SecretKey(…)");
    }
}
