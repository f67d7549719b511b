//! The stateless cookie: proof that a client receives at the address it sends from, which costs the server no memory.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

use crate::{
    random::{derive, digest},
    timer::Micros,
};

/// Bytes of a cookie. To the client they mean nothing.
pub(crate) const COOKIE_BYTES: usize = 32;

/// A cookie is good in its own time bucket and the next one, that is for 4 to 8 seconds: longer than any round trip,
/// and shorter than an address takes to change hands.
const BUCKET_US: u64 = 4_000_000;

/// Makes and checks cookies.
pub(crate) struct Cookies {
    key: hmac::Key,
}

impl Cookies {
    pub(crate) fn new(seed: &[u8; 32]) -> Cookies {
        Cookies { key: hmac::Key::new(hmac::HMAC_SHA256, &derive(seed, b"kaos-rudp cookie")) }
    }

    /// A cookie for the client at `from` whose Hello says `offer` (everything in it that the server will act on).
    pub(crate) fn make(
        &self,
        now: Micros,
        from: SocketAddr,
        offer: &[u8; OFFER_BYTES],
    ) -> [u8; COOKIE_BYTES] {
        self.at(now.0 / BUCKET_US, from, offer)
    }

    pub(crate) fn check(
        &self,
        now: Micros,
        from: SocketAddr,
        offer: &[u8; OFFER_BYTES],
        cookie: &[u8; COOKIE_BYTES],
    ) -> bool {
        let current = now.0 / BUCKET_US;
        // The cookie begins with the low byte of its bucket, so that one HMAC suffices for either bucket.
        let bucket = match current.wrapping_sub(u64::from(cookie[0])) & 0xff {
            age @ 0..=1 if age <= current => current - age,
            _ => return false,
        };
        // If this comparison ended early, its time would hardly help a forger: he would have to learn the cookie of one
        // address, offer and bucket byte by byte within eight seconds, over a network's jitter. All bytes are compared
        // nevertheless.
        let expected = self.at(bucket, from, offer);
        expected.iter().zip(cookie).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    fn at(&self, bucket: u64, from: SocketAddr, offer: &[u8; OFFER_BYTES]) -> [u8; COOKIE_BYTES] {
        let mut input = [0; 16 + 2 + 8 + OFFER_BYTES];
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        input[..16].copy_from_slice(&ip.octets());
        input[16..18].copy_from_slice(&from.port().to_le_bytes());
        input[18..26].copy_from_slice(&bucket.to_le_bytes());
        input[26..].copy_from_slice(offer);
        let mut cookie = digest(&hmac::sign(&self.key, &input));
        cookie[0] = bucket as u8;
        cookie
    }
}

/// Bytes of a Hello that a cookie covers: version range, suites, client's key, channel digest.
pub(crate) const OFFER_BYTES: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_address_offer_and_time_only() {
        let cookies = Cookies::new(&[1; 32]);
        let home: SocketAddr = "10.0.0.1:5000".parse().unwrap();
        let offer = [7; OFFER_BYTES];
        let start = Micros(300 * BUCKET_US);
        let cookie = cookies.make(start, home, &offer);
        assert!(cookies.check(start, home, &offer, &cookie));
        assert!(cookies.check(Micros(301 * BUCKET_US), home, &offer, &cookie));
        assert!(!cookies.check(Micros(302 * BUCKET_US), home, &offer, &cookie));
        assert!(!cookies.check(Micros(299 * BUCKET_US), home, &offer, &cookie));
        // 256 buckets later the byte in front is the same again; the rest is not.
        assert!(!cookies.check(Micros((300 + 256) * BUCKET_US), home, &offer, &cookie));
        assert!(!cookies.check(start, "10.0.0.1:5001".parse().unwrap(), &offer, &cookie));
        assert!(!cookies.check(start, "10.0.0.2:5000".parse().unwrap(), &offer, &cookie));
        assert!(!cookies.check(start, home, &[8; OFFER_BYTES], &cookie));
        assert!(!Cookies::new(&[2; 32]).check(start, home, &offer, &cookie));
    }
}
