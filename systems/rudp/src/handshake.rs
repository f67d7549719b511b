//! The four handshake datagrams: Hello, Retry, Accept, Refuse.
//!
//! ```text
//! connector                              acceptor
//!   Hello (1200 bytes)            ──▶      no memory, no state
//!                                 ◀──    Retry(cookie)
//!   Hello + cookie (1200 bytes)   ──▶      the address is proved: a half-open peer
//!                                 ◀──    Accept(connection id), or Refuse
//!   first packet                  ──▶      open
//! ```
//! No answer is longer than what it answers. The first 40 bytes of a Hello and the whole of a Refuse keep their layout
//! in every version, so that any two versions can tell which of them is too old.

use ring::hmac;

use crate::{
    cookie::{COOKIE_BYTES, OFFER_BYTES},
    packet::{DATAGRAM_BYTES_MAX, Reader, cut},
    random::digest,
};

const HELLO: u8 = 0x81;
const RETRY: u8 = 0x82;
const ACCEPT: u8 = 0x83;
const REFUSE: u8 = 0x84;

/// Stands in every handshake datagram after the first byte.
const MAGIC: [u8; 4] = *b"KAOS";

/// The plaintext suite, as a bit of the offer and as the number of the choice. Bits 1 to 7 are for ciphers.
pub(crate) const SUITE_PLAINTEXT: u8 = 0x01;

/// What a connector asks for. `random` keeps the place of its public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    pub(crate) version_min: u8,
    pub(crate) version_max: u8,
    pub(crate) suites: u8,
    pub(crate) random: [u8; 32],
}

impl Offer {
    /// The bytes that a cookie covers.
    pub(crate) fn bytes(&self) -> [u8; OFFER_BYTES] {
        let mut out = [0; OFFER_BYTES];
        out[..3].copy_from_slice(&[self.version_min, self.version_max, self.suites]);
        out[3..].copy_from_slice(&self.random);
        out
    }

    /// The part of `random` that answers repeat, so that only who saw the Hello can answer it.
    pub(crate) fn echo(&self) -> [u8; 16] {
        let mut echo = [0; 16];
        echo.copy_from_slice(&self.random[..16]);
        echo
    }
}

/// What an acceptor answers. `random` keeps the place of its public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accept {
    pub(crate) version: u8,
    pub(crate) suite: u8,
    pub(crate) echo: [u8; 16],
    pub(crate) random: [u8; 32],
    pub(crate) connection: u32,
}

/// A decoded handshake datagram.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Handshake<'a> {
    Hello {
        offer: Offer,
        cookie: Option<[u8; COOKIE_BYTES]>,
    },
    Retry {
        echo: [u8; 16],
        cookie: [u8; COOKIE_BYTES],
    },
    /// Its tag is still to be checked, with the keys that it leads to.
    Accept(Accept),
    Refuse {
        echo: [u8; 16],
        code: u16,
        reason: &'a str,
        body: &'a [u8],
        check: [u8; 8],
    },
}

impl<'a> Handshake<'a> {
    /// `None` for what no correct peer sends.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Handshake<'a>> {
        let mut reader = Reader::new(datagram);
        let kind = reader.u8()?;
        if reader.array()? != MAGIC {
            return None;
        }
        match kind {
            // A short Hello would make us the amplifier of whoever forged its address.
            HELLO if datagram.len() == DATAGRAM_BYTES_MAX => {
                let [version_min, version_max, suites] = reader.array()?;
                let offer = Offer { version_min, version_max, suites, random: reader.array()? };
                let cookie = match reader.u8()? {
                    0 => None,
                    1 => Some(reader.array()?),
                    _ => return None,
                };
                Some(Handshake::Hello { offer, cookie })
            }
            RETRY => {
                let (echo, cookie) = (reader.array()?, reader.array()?);
                (reader.left() == 0).then_some(Handshake::Retry { echo, cookie })
            }
            ACCEPT => {
                let [version, suite] = reader.array()?;
                let (echo, random, connection) = (reader.array()?, reader.array()?, reader.u32()?);
                Some(Handshake::Accept(Accept { version, suite, echo, random, connection }))
            }
            REFUSE => {
                let (echo, code, length) = (reader.array()?, reader.u16()?, reader.u8()?);
                let reason = str::from_utf8(reader.take(usize::from(length))?).ok()?;
                let body = &datagram[..datagram.len() - reader.left()];
                let check = reader.array()?;
                (reader.left() == 0).then_some(Handshake::Refuse { echo, code, reason, body, check })
            }
            _ => None,
        }
    }
}

/// Writes a Hello into `out`, padded to 1,200 bytes.
pub(crate) fn put_hello(out: &mut Vec<u8>, offer: &Offer, cookie: Option<&[u8; COOKIE_BYTES]>) {
    begin(out, HELLO);
    out.extend_from_slice(&offer.bytes());
    out.push(u8::from(cookie.is_some()));
    out.extend_from_slice(cookie.unwrap_or(&[0; COOKIE_BYTES]));
    out.resize(DATAGRAM_BYTES_MAX, 0);
}

/// Writes an Accept into `out`, without its tag.
pub(crate) fn put_accept(out: &mut Vec<u8>, accept: &Accept) {
    begin(out, ACCEPT);
    out.extend_from_slice(&[accept.version, accept.suite]);
    out.extend_from_slice(&accept.echo);
    out.extend_from_slice(&accept.random);
    out.extend_from_slice(&accept.connection.to_le_bytes());
}

fn begin(out: &mut Vec<u8>, kind: u8) {
    out.clear();
    out.push(kind);
    out.extend_from_slice(&MAGIC);
}

/// An answer that leaves no state behind: fixed size, so that queueing it allocates nothing.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    length: u8,
    bytes: [u8; ANSWER_BYTES_MAX],
}

const ANSWER_BYTES_MAX: usize = 160;

impl Answer {
    pub(crate) fn retry(offer: &Offer, cookie: &[u8; COOKIE_BYTES]) -> Answer {
        let mut answer = Answer::begin(RETRY);
        answer.put(&offer.echo());
        answer.put(cookie);
        answer
    }

    /// `reason` has at most 120 bytes.
    pub(crate) fn refuse(offer: &Offer, code: u16, reason: &str) -> Answer {
        let reason = &reason[..reason.floor_char_boundary(120)];
        let mut answer = Answer::begin(REFUSE);
        answer.put(&offer.echo());
        answer.put(&code.to_le_bytes());
        answer.put(&[reason.len() as u8]);
        answer.put(reason.as_bytes());
        let check = refuse_check(&offer.random, answer.as_bytes());
        answer.put(&check);
        answer
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn begin(kind: u8) -> Answer {
        let mut answer = Answer { length: 0, bytes: [0; ANSWER_BYTES_MAX] };
        answer.put(&[kind]);
        answer.put(&MAGIC);
        answer
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = usize::from(self.length);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

/// A checksum of a Refuse, keyed by the client's random: a corrupted one is not believed.
pub(crate) fn refuse_check(random: &[u8; 32], body: &[u8]) -> [u8; 8] {
    let tag = digest(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, random), body));
    let mut check = [0; 8];
    check.copy_from_slice(&tag[..8]);
    check
}

/// What the refusal of a version says. `None` when the ranges meet; then the newest common version is `Some`'s other
/// side, see [`common_version`].
pub(crate) fn version_refusal(ours: (u8, u8), offer: &Offer) -> Option<(u16, &'static str)> {
    use crate::error::code;
    if offer.version_max < ours.0 {
        Some((code::CLIENT_TOO_OLD, "the client is too old for this server; update the client"))
    } else if offer.version_min > ours.1 {
        Some((code::SERVER_TOO_OLD, "the server is too old for this client; update the server"))
    } else if offer.version_min > offer.version_max {
        Some((code::PROTOCOL, "the version range is empty"))
    } else {
        None
    }
}

/// The newest version in both ranges, which must meet.
pub(crate) fn common_version(ours: (u8, u8), offer: &Offer) -> u8 {
    offer.version_max.min(ours.1)
}

/// The bytes of a refusal's reason as text, at most 200.
pub(crate) fn reason_text(bytes: &[u8]) -> String {
    cut(&String::from_utf8_lossy(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer { version_min: 1, version_max: 3, suites: SUITE_PLAINTEXT, random: [7; 32] };

    #[test]
    fn handshake_datagrams_read_back() {
        let mut out = Vec::new();
        put_hello(&mut out, &OFFER, None);
        assert_eq!(Handshake::parse(&out), Some(Handshake::Hello { offer: OFFER, cookie: None }));
        put_hello(&mut out, &OFFER, Some(&[3; 32]));
        assert_eq!(Handshake::parse(&out), Some(Handshake::Hello { offer: OFFER, cookie: Some([3; 32]) }));
        assert_eq!(Handshake::parse(&out[..1199]), None, "a short Hello");
        let retry = Answer::retry(&OFFER, &[4; 32]);
        let expected = Handshake::Retry { echo: [7; 16], cookie: [4; 32] };
        assert_eq!(Handshake::parse(retry.as_bytes()), Some(expected));
        let accept = Accept { version: 1, suite: 1, echo: [7; 16], random: [9; 32], connection: 77 };
        put_accept(&mut out, &accept);
        assert_eq!(Handshake::parse(&out), Some(Handshake::Accept(accept)));
        let refuse = Answer::refuse(&OFFER, 5, &"x".repeat(300));
        match Handshake::parse(refuse.as_bytes()) {
            Some(Handshake::Refuse { code: 5, reason, body, check, .. }) => {
                assert_eq!(reason.len(), 120);
                assert_eq!(check, refuse_check(&OFFER.random, body));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_says_which_side_is_too_old() {
        use crate::error::code;
        let refusal = |ours| version_refusal(ours, &OFFER).map(|(code, _)| code);
        assert_eq!(refusal((4, 5)), Some(code::CLIENT_TOO_OLD));
        assert_eq!(refusal((0, 0)), Some(code::SERVER_TOO_OLD));
        assert_eq!(refusal((2, 9)), None);
        assert_eq!(common_version((2, 9), &OFFER), 3);
    }
}
