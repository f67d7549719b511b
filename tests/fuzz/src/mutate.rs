//! Blind mutations of a corpus, for the smoke test.

use kaos_rudp::lab::Rng;

/// Bytes that decoders find interesting: edges of lengths, counts and varints.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x40];

/// Changes `bytes` in one to eight places: bits, edges, cuts, copies, pieces of `other`.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], bytes_max: usize) {
    for _ in 0..1 + rng.below(8) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[rng.below(8) as usize],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.next_u64() as u8),
            4 if at < bytes.len() => {
                let end = (at + 1 + rng.below(16) as usize).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            _ if !other.is_empty() => {
                let from = rng.below(other.len() as u64) as usize;
                let piece = &other[from..(from + 32).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {}
        }
    }
    bytes.truncate(bytes_max);
}
