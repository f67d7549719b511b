//! Packet protection of the plaintext suite: a 16-byte tag keyed by both handshake randoms. **Not encryption.**
//!
//! The tag is AES-256-GCM over everything as associated data and nothing as text, with the packet number as nonce, so
//! the encrypted suite will take the same place and the same cost. The randoms cross the network in the clear: a tag
//! finds corruption and stops whoever cannot read the traffic; it does not stop whoever can.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};

use crate::random::derive;

/// Bytes at the end of every protected datagram.
pub(crate) const TAG_BYTES: usize = 16;

/// The nonce of the Accept datagram, which has no packet number. No packet reaches it: numbers end at `u64::MAX - 1`.
pub(crate) const ACCEPT_NUMBER: u64 = u64::MAX;

/// Which end of a connection: the one that said Hello, or the one that answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Connector,
    Acceptor,
}

/// The two keys of a connection, one per direction.
pub(crate) struct Keys {
    out: LessSafeKey,
    inward: LessSafeKey,
}

impl Keys {
    pub(crate) fn plaintext(side: Side, client: &[u8; 32], server: &[u8; 32]) -> Keys {
        let mut input = [0; 64];
        input[..32].copy_from_slice(client);
        input[32..].copy_from_slice(server);
        let secret = derive(b"kaos-rudp 1 plaintext", &input);
        let to_server = key(&derive(&secret, b"to server"));
        let to_client = key(&derive(&secret, b"to client"));
        match side {
            Side::Connector => Keys { out: to_server, inward: to_client },
            Side::Acceptor => Keys { out: to_client, inward: to_server },
        }
    }

    /// Appends the tag over all of `datagram`. A number must not be used twice.
    pub(crate) fn seal(&self, number: u64, datagram: &mut Vec<u8>) {
        let sealed = self.out.seal_in_place_separate_tag(nonce(number), Aad::from(&datagram[..]), &mut []);
        let tag = sealed.expect("GCM refuses only inputs of gigabytes; a datagram has 1200 bytes at most");
        datagram.extend_from_slice(tag.as_ref());
    }

    /// Whether the last 16 bytes of `datagram` are the tag over the rest.
    pub(crate) fn check(&self, number: u64, datagram: &[u8]) -> Result<(), Unspecified> {
        let (body, tag) = datagram.split_last_chunk::<TAG_BYTES>().ok_or(Unspecified)?;
        self.inward.open_in_place(nonce(number), Aad::from(body), &mut { *tag }).map(|_| ())
    }
}

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes 32 bytes"))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_another_number_or_another_side_is_refused() {
        let client = Keys::plaintext(Side::Connector, &[1; 32], &[2; 32]);
        let server = Keys::plaintext(Side::Acceptor, &[1; 32], &[2; 32]);
        let mut datagram = b"hello".to_vec();
        client.seal(9, &mut datagram);
        assert_eq!(datagram.len(), 5 + TAG_BYTES);
        assert!(server.check(9, &datagram).is_ok());
        assert!(server.check(8, &datagram).is_err());
        assert!(client.check(9, &datagram).is_err());
        for bit in 0..datagram.len() * 8 {
            let mut bad = datagram.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(server.check(9, &bad).is_err(), "bit {bit}");
        }
        assert!(server.check(9, &datagram[..15]).is_err());
    }
}
