//! The decoders for bytes from the network, one function each, for fuzzers. None may panic, loop or over-allocate, and
//! what decodes must encode to the same bytes again. Feature `lab`; not part of the API.

use crate::{
    ack::Ack,
    coding::Reader,
    handshake::{Handshake, Parameters},
    identity::PublicKey,
    packet::{Frame, Header},
};

/// A handshake datagram, and what an Accept encrypts.
pub fn handshake(bytes: &[u8]) {
    let _ = Handshake::parse(bytes);
    let _ = Parameters::parse(bytes);
}

/// A public key as text, which must be written as it was read.
pub fn public_key(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "one key has one text");
    }
}

/// A packet's header, and what follows it as an acknowledgement and frames.
pub fn packet(bytes: &[u8]) {
    let Some(header) = Header::parse(bytes) else { return };
    for expected in [0, 1, 255, 65_536, u64::from(u32::MAX), 1 << 62] {
        let number = header.number(expected);
        assert_eq!(number as u32 & mask(header.number_bytes), header.number_low, "the low bytes stay");
    }
    // No connection lives that long, but it must not wrap.
    header.number(u64::MAX);
    frames(&bytes[header.frames_at..], header.has_ack);
}

fn mask(bytes: usize) -> u32 {
    u32::MAX >> (32 - 8 * bytes)
}

/// The inside of a packet.
pub fn frames(bytes: &[u8], has_ack: bool) {
    let mut reader = Reader::new(bytes);
    if has_ack && Ack::decode(&mut reader).is_err() {
        return;
    }
    let mut left = reader.left();
    while let Ok(Some(_)) = Frame::next(&mut reader) {
        assert!(reader.left() < left, "a frame takes a byte at least");
        left = reader.left();
    }
}

/// An acknowledgement.
pub fn ack(bytes: &[u8]) {
    let Ok(ack) = Ack::decode(&mut Reader::new(bytes)) else { return };
    assert!(
        ack.contains(ack.largest) && !ack.contains(ack.largest.saturating_add(1)) || ack.largest == u64::MAX
    );
    let mut again = Vec::new();
    ack.encode(&mut again);
    assert_eq!(Ack::decode(&mut Reader::new(&again)), Ok(ack), "it reads back");
}
