//! The handshake pattern NX of the Noise Protocol Framework (revision 34), as two pure functions.
//!
//! ```text
//! NX:  -> e                      message 1: the initiator's ephemeral key, payload in the clear
//!      <- e, ee, s, es           message 2: the responder's, its static key and its payload, both encrypted
//! ```
//! Names are those of the specification: `h`, `ck`, MixHash, MixKey, EncryptAndHash, Split, Rekey. Each message fits
//! into one datagram, so neither side keeps more than an ephemeral key between the two. X25519 is curve25519-dalek's,
//! everything else is ring's.

use curve25519_dalek::{edwards::EdwardsPoint, montgomery::MontgomeryPoint};
use ring::{
    aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    digest::{Context, SHA256},
    hmac,
};
use zeroize::Zeroizing;

use crate::{
    identity::{PublicKey, SecretKey},
    random::digest,
};

/// Bytes of a Curve25519 key, of a SHA-256 hash and of an AEAD key.
const KEY_BYTES: usize = 32;
/// Bytes of an AEAD tag.
pub(crate) const TAG_BYTES: usize = 16;
/// What message 2 has besides the bytes of its payload: `e`, `s` with its tag, and the payload's tag.
#[cfg(test)]
pub(crate) const MESSAGE2_OVERHEAD: usize = KEY_BYTES + KEY_BYTES + TAG_BYTES + TAG_BYTES;

/// A handshake message is not believed. There is one error for every cause, so that a forger learns nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused;

/// The AEAD that a protocol name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cipher {
    AesGcm,
    ChaChaPoly,
}

impl Cipher {
    fn protocol_name(self) -> &'static [u8] {
        match self {
            Cipher::AesGcm => b"Noise_NX_25519_AESGCM_SHA256",
            Cipher::ChaChaPoly => b"Noise_NX_25519_ChaChaPoly_SHA256",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Cipher::AesGcm => &AES_256_GCM,
            Cipher::ChaChaPoly => &CHACHA20_POLY1305,
        }
    }

    /// The key ready for use.
    pub(crate) fn key(self, key: &[u8; KEY_BYTES]) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(self.algorithm(), key).expect("both ciphers take 32 bytes"))
    }

    /// Four zero bytes and `n`: big-endian for AES-GCM, little-endian for ChaChaPoly (specification, 12.3 and 12.4).
    pub(crate) fn nonce(self, n: u64) -> Nonce {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&match self {
            Cipher::AesGcm => n.to_be_bytes(),
            Cipher::ChaChaPoly => n.to_le_bytes(),
        });
        Nonce::assume_unique_for_key(bytes)
    }

    /// `REKEY(k)`: the first 32 bytes of zeros encrypted with the last nonce, which nothing else uses.
    pub(crate) fn rekey(self, key: &[u8; KEY_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut zeros = Zeroizing::new([0; KEY_BYTES]);
        seal(self, &self.key(key), u64::MAX, &[], &mut zeros[..]);
        zeros
    }
}

/// Encrypts `text` in place.
fn seal(cipher: Cipher, key: &LessSafeKey, n: u64, ad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
    let sealed = key.seal_in_place_separate_tag(cipher.nonce(n), Aad::from(ad), text);
    let tag = sealed.expect("AEADs refuse only inputs of gigabytes; a datagram has 1500 bytes at most");
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(tag.as_ref());
    out
}

/// The other side's key, ready for X25519.
///
/// The multiplication is done on the Edwards form of the curve, which is birationally equivalent and takes two thirds
/// of the ladder's time. Half of all values of 32 bytes are points of the twist, which has no such form here; no honest
/// key is one of them.
enum Remote {
    Curve(EdwardsPoint),
    Twist(MontgomeryPoint),
}

impl Remote {
    fn new(public: &[u8; KEY_BYTES]) -> Remote {
        let point = MontgomeryPoint(*public);
        // Either sign will do: X25519 looks only at the u coordinate, which both points share.
        point.to_edwards(0).map_or(Remote::Twist(point), Remote::Curve)
    }

    /// X25519. A result of zeros comes from a key of small order: everybody would know the secret.
    fn dh(&self, secret: &SecretKey) -> Result<Zeroizing<[u8; KEY_BYTES]>, Refused> {
        let point = match self {
            Remote::Curve(point) => point.mul_clamped(*secret.as_bytes()).to_montgomery(),
            Remote::Twist(point) => point.mul_clamped(*secret.as_bytes()),
        };
        let shared = Zeroizing::new(point.to_bytes());
        if shared.iter().fold(0, |all, byte| all | byte) == 0 { Err(Refused) } else { Ok(shared) }
    }
}

/// The secrets that a handshake leads to: one AEAD key per direction.
pub(crate) struct Split {
    pub(crate) to_responder: Zeroizing<[u8; KEY_BYTES]>,
    pub(crate) to_initiator: Zeroizing<[u8; KEY_BYTES]>,
    /// `h` at the end, the same at both ends.
    #[cfg(test)]
    hash: [u8; KEY_BYTES],
}

#[cfg(test)]
impl Split {
    pub(crate) fn for_tests(to_responder: [u8; KEY_BYTES], to_initiator: [u8; KEY_BYTES]) -> Split {
        let (to_responder, to_initiator) = (Zeroizing::new(to_responder), Zeroizing::new(to_initiator));
        Split { to_responder, to_initiator, hash: [0; KEY_BYTES] }
    }
}

/// The specification's SymmetricState with its CipherState.
struct Symmetric {
    cipher: Cipher,
    h: [u8; KEY_BYTES],
    ck: Zeroizing<[u8; KEY_BYTES]>,
    /// Each key of this pattern encrypts once, so `n` is always 0.
    key: Option<LessSafeKey>,
}

impl Symmetric {
    fn new(cipher: Cipher, prologue: &[u8]) -> Symmetric {
        let name = cipher.protocol_name();
        let mut h = [0; KEY_BYTES];
        h[..name.len()].copy_from_slice(name);
        let mut state = Symmetric { cipher, h, ck: Zeroizing::new(h), key: None };
        state.mix_hash(prologue);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        let mut context = Context::new(&SHA256);
        context.update(&self.h);
        context.update(data);
        self.h.copy_from_slice(context.finish().as_ref());
    }

    /// HKDF with two outputs.
    fn hkdf(&self, input: &[u8]) -> [Zeroizing<[u8; KEY_BYTES]>; 2] {
        let extract = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.ck), input);
        let expand = hmac::Key::new(hmac::HMAC_SHA256, extract.as_ref());
        let first = Zeroizing::new(digest(&hmac::sign(&expand, &[1])));
        let mut input = Zeroizing::new([2; KEY_BYTES + 1]);
        input[..KEY_BYTES].copy_from_slice(&*first);
        let second = Zeroizing::new(digest(&hmac::sign(&expand, &*input)));
        [first, second]
    }

    fn mix_key(&mut self, input: &[u8; KEY_BYTES]) {
        let [ck, key] = self.hkdf(input);
        self.ck = ck;
        self.key = Some(self.cipher.key(&key));
    }

    /// Message 1, the same for both sides.
    fn message1(&mut self, ephemeral: &[u8; KEY_BYTES], payload: &[u8]) {
        self.mix_hash(ephemeral);
        // There is no key yet: EncryptAndHash only hashes.
        self.mix_hash(payload);
    }

    /// EncryptAndHash of `out` from `at` on.
    fn encrypt_and_hash(&mut self, out: &mut Vec<u8>, at: usize) {
        let key = self.key.take().expect("a key was mixed in before anything is encrypted");
        let tag = seal(self.cipher, &key, 0, &self.h, &mut out[at..]);
        out.extend_from_slice(&tag);
        self.mix_hash(&out[at..]);
    }

    /// DecryptAndHash in place: the plain text.
    fn decrypt_and_hash<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        let key = self.key.take().expect("a key was mixed in before anything is decrypted");
        let h = self.h;
        self.mix_hash(sealed);
        let plain = key.open_in_place(self.cipher.nonce(0), Aad::from(h), sealed);
        plain.map(|plain| &*plain).map_err(|_| Refused)
    }

    fn split(self) -> Split {
        let [to_responder, to_initiator] = self.hkdf(&[]);
        Split {
            to_responder,
            to_initiator,
            #[cfg(test)]
            hash: self.h,
        }
    }
}

/// What the initiator learns from message 2.
pub(crate) struct Answered<'a> {
    pub(crate) split: Split,
    /// The responder's static key: whoever wrote the message has its secret half.
    pub(crate) remote: PublicKey,
    pub(crate) payload: &'a [u8],
}

/// The responder's whole handshake: reads message 1, which is `e` and `payload1`, and appends message 2 to `out`.
///
/// # Errors
/// `e` is of small order. `out` is as it was.
pub(crate) fn respond(
    cipher: Cipher,
    prologue: &[u8],
    (e, payload1): (&[u8; KEY_BYTES], &[u8]),
    (secret, public): (&SecretKey, &PublicKey),
    ephemeral: &SecretKey,
    payload2: &[u8],
    out: &mut Vec<u8>,
) -> Result<Split, Refused> {
    let remote = Remote::new(e);
    let (ee, es) = (remote.dh(ephemeral)?, remote.dh(secret)?);
    let mut state = Symmetric::new(cipher, prologue);
    state.message1(e, payload1);
    let own = ephemeral.public();
    out.extend_from_slice(own.as_bytes());
    state.mix_hash(own.as_bytes());
    state.mix_key(&ee);
    let at = out.len();
    out.extend_from_slice(public.as_bytes());
    state.encrypt_and_hash(out, at);
    state.mix_key(&es);
    let at = out.len();
    out.extend_from_slice(payload2);
    state.encrypt_and_hash(out, at);
    Ok(state.split())
}

/// The initiator's second half: reads message 2, decrypting it in place. Its message 1 was `ephemeral.public()` and
/// `payload1`.
///
/// # Errors
/// The message answers something else, or was changed on its way.
pub(crate) fn read_answer<'a>(
    cipher: Cipher,
    prologue: &[u8],
    ephemeral: &SecretKey,
    payload1: &[u8],
    message: &'a mut [u8],
) -> Result<Answered<'a>, Refused> {
    let (e, rest) = message.split_first_chunk_mut::<KEY_BYTES>().ok_or(Refused)?;
    let (s, payload) = rest.split_at_mut_checked(KEY_BYTES + TAG_BYTES).ok_or(Refused)?;
    let mut state = Symmetric::new(cipher, prologue);
    state.message1(ephemeral.public().as_bytes(), payload1);
    state.mix_hash(e);
    state.mix_key(&*Remote::new(e).dh(ephemeral)?);
    let mut remote = [0; KEY_BYTES];
    remote.copy_from_slice(state.decrypt_and_hash(s)?);
    state.mix_key(&*Remote::new(&remote).dh(ephemeral)?);
    let payload = state.decrypt_and_hash(payload)?;
    Ok(Answered { split: state.split(), remote: PublicKey::from_bytes(remote), payload })
}

#[cfg(test)]
mod tests;
