//! The four handshake datagrams: Hello, Retry, Accept, Refuse.
//!
//! ```text
//! connector                              acceptor
//!   Hello (1200 bytes)            ──▶      no memory, no state
//!                                 ◀──    Retry(cookie)
//!   Hello + cookie (1200 bytes)   ──▶      the address is proved: a half-open peer, and a job for the key exchange
//!                                 ◀──    Accept(key exchange, connection id), or Refuse
//!   first packet                  ──▶      open
//! ```
//! No answer is longer than what it answers. The first 40 bytes of a Hello and the whole of a Refuse keep their layout
//! in every version, so that any two versions can tell which of them is too old. Hello and Accept are the two messages
//! of Noise NX (`noise.rs`): what the Hello offers is the payload of the first and is hashed, so an Accept does not
//! open if the offer was changed on its way.

use ring::hmac;

use crate::{
    coding::Reader,
    config::Config,
    cookie::{COOKIE_BYTES, OFFER_BYTES},
    keys::Suite,
    packet::{DATAGRAM_BYTES_BASE, cut},
    random::digest,
};

const HELLO: u8 = 0x81;
const RETRY: u8 = 0x82;
const ACCEPT: u8 = 0x83;
const REFUSE: u8 = 0x84;

/// Stands in every handshake datagram after the first byte.
const MAGIC: [u8; 4] = *b"KAOS";

/// In the suites of a Hello: the connector has no AES hardware.
const PREFERS_CHACHA: u8 = 0x80;

/// The Noise prologue, which both sides mix into the key exchange before anything else.
pub(crate) const PROLOGUE: &[u8] = b"kaos-rudp";

/// Bytes of an Accept before its Noise message.
const ACCEPT_HEAD: usize = 23;
/// What a connector asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    pub(crate) version_min: u8,
    pub(crate) version_max: u8,
    pub(crate) suites: u8,
    /// Its ephemeral key, new for each attempt.
    pub(crate) key: [u8; 32],
    /// Digest of its channel table, which must be the acceptor's.
    pub(crate) channels: [u8; 8],
}

impl Offer {
    /// The offer of a side with this configuration.
    pub(crate) fn new(config: &Config, key: [u8; 32]) -> Offer {
        let suites = if config.plaintext {
            Suite::Plaintext.bit()
        } else {
            let prefers = if config.aes_hardware { 0 } else { PREFERS_CHACHA };
            ciphers(config) | prefers
        };
        let (version_min, version_max) = (config.version_min, config.version_max);
        Offer { version_min, version_max, suites, key, channels: channel_digest(config) }
    }

    /// The bytes that a cookie covers, as they stand in the Hello.
    pub(crate) fn bytes(&self) -> [u8; OFFER_BYTES] {
        let mut out = [0; OFFER_BYTES];
        out[..3].copy_from_slice(&[self.version_min, self.version_max, self.suites]);
        out[3..35].copy_from_slice(&self.key);
        out[35..].copy_from_slice(&self.channels);
        out
    }

    /// The part of `key` that every answer repeats, so that only someone who saw the Hello can answer it.
    pub(crate) fn echo(&self) -> [u8; 16] {
        let mut echo = [0; 16];
        echo.copy_from_slice(&self.key[..16]);
        echo
    }

    /// The payload of the first Noise message: everything offered but the key.
    pub(crate) fn payload(&self) -> [u8; 11] {
        let mut out = [0; 11];
        out[..3].copy_from_slice(&[self.version_min, self.version_max, self.suites]);
        out[3..].copy_from_slice(&self.channels);
        out
    }

    /// The suite of a connection, if both sides allow one: AES unless a side has no hardware for it.
    pub(crate) fn choose(&self, config: &Config) -> Option<Suite> {
        if config.plaintext {
            return (self.suites & Suite::Plaintext.bit() != 0).then_some(Suite::Plaintext);
        }
        let (aes, chacha) = (Suite::Aes256Gcm, Suite::ChaCha20Poly1305);
        let slow_aes = self.suites & PREFERS_CHACHA != 0 || !config.aes_hardware;
        let order = if slow_aes { [chacha, aes] } else { [aes, chacha] };
        order.into_iter().find(|suite| self.suites & ciphers(config) & suite.bit() != 0)
    }
}

fn ciphers(config: &Config) -> u8 {
    let allowed = config.suites.iter().filter(|&&suite| suite != Suite::Plaintext);
    allowed.fold(0, |bits, suite| bits | suite.bit())
}

/// What both ends must agree on about channels.
pub(crate) fn channel_digest(config: &Config) -> [u8; 8] {
    config.channels.digest()
}

/// What an acceptor answers, apart from its Noise message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accept {
    pub(crate) version: u8,
    pub(crate) suite: Suite,
    pub(crate) echo: [u8; 16],
}

/// The encrypted payload of an Accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parameters {
    pub(crate) version: u8,
    pub(crate) suite: u8,
    pub(crate) connection: u32,
}

impl Parameters {
    pub(crate) fn bytes(&self) -> [u8; 6] {
        let [a, b, c, d] = self.connection.to_le_bytes();
        [self.version, self.suite, a, b, c, d]
    }

    /// Later versions may append.
    pub(crate) fn parse(payload: &[u8]) -> Option<Parameters> {
        let mut reader = Reader::new(payload);
        let [version, suite] = reader.array()?;
        Some(Parameters { version, suite, connection: reader.u32()? })
    }
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
    /// Nothing of it is proved yet; the Noise message begins at `ACCEPT_HEAD`.
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
            // A short Hello would make us an amplifier for whoever forged its address.
            HELLO if datagram.len() == DATAGRAM_BYTES_BASE => {
                let [version_min, version_max, suites] = reader.array()?;
                let (key, channels) = (reader.array()?, reader.array()?);
                let offer = Offer { version_min, version_max, suites, key, channels };
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
                let accept = Accept { version, suite: Suite::from_bit(suite)?, echo: reader.array()? };
                Some(Handshake::Accept(accept))
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
    out.resize(DATAGRAM_BYTES_BASE, 0);
}

/// Writes an Accept into `out` as far as its Noise message.
pub(crate) fn put_accept(out: &mut Vec<u8>, accept: &Accept) {
    begin(out, ACCEPT);
    out.extend_from_slice(&[accept.version, accept.suite.bit()]);
    out.extend_from_slice(&accept.echo);
}

/// The Noise message in an Accept that was parsed.
pub(crate) fn accept_message(datagram: &mut [u8]) -> &mut [u8] {
    datagram.get_mut(ACCEPT_HEAD..).unwrap_or_default()
}

fn begin(out: &mut Vec<u8>, kind: u8) {
    out.clear();
    out.push(kind);
    out.extend_from_slice(&MAGIC);
}

/// An answer that leaves no state behind. Its size is fixed, so that queueing it allocates nothing.
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
        let check = refuse_check(&offer.key, answer.as_bytes());
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

/// A checksum of a Refuse, keyed by the client's ephemeral key: a corrupted one is not believed. Whoever reads the
/// Hello can forge it, but gains nothing that dropping the Hello would not give him.
pub(crate) fn refuse_check(key: &[u8; 32], body: &[u8]) -> [u8; 8] {
    let tag = digest(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body));
    let mut check = [0; 8];
    check.copy_from_slice(&tag[..8]);
    check
}

/// The code and reason with which a version range is refused; `None` when the ranges meet, see [`common_version`].
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

/// The bytes of a reason as text, at most 200.
pub(crate) fn reason_text(bytes: &[u8]) -> String {
    cut(&String::from_utf8_lossy(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { version_min: 1, version_max: 3, suites: 0x06, key: [7; 32], channels: [5; 8] };

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
        let accept = Accept { version: 1, suite: Suite::Aes256Gcm, echo: [7; 16] };
        put_accept(&mut out, &accept);
        assert_eq!(out.len(), ACCEPT_HEAD);
        assert_eq!(Handshake::parse(&out), Some(Handshake::Accept(accept)));
        out.push(9);
        assert_eq!(accept_message(&mut out), [9]);
        let parameters = Parameters { version: 1, suite: 2, connection: 77 };
        assert_eq!(Parameters::parse(&parameters.bytes()), Some(parameters));
        let refuse = Answer::refuse(&OFFER, 5, &"x".repeat(300));
        match Handshake::parse(refuse.as_bytes()) {
            Some(Handshake::Refuse { code: 5, reason, body, check, .. }) => {
                assert_eq!(reason.len(), 120);
                assert_eq!(check, refuse_check(&OFFER.key, body));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_suite_is_one_that_both_allow_and_chacha_where_aes_is_slow() {
        let config = |suites, aes_hardware| Config { suites, aes_hardware, ..Config::default() };
        let (aes, chacha) = (Suite::Aes256Gcm, Suite::ChaCha20Poly1305);
        type Side = (&'static [Suite], bool);
        let cases: [(Side, Side, Option<Suite>); 8] = [
            ((Suite::CIPHERS, true), (Suite::CIPHERS, true), Some(aes)),
            ((Suite::CIPHERS, false), (Suite::CIPHERS, true), Some(chacha)),
            ((Suite::CIPHERS, true), (Suite::CIPHERS, false), Some(chacha)),
            ((&[Suite::Aes256Gcm], false), (Suite::CIPHERS, true), Some(aes)),
            ((Suite::CIPHERS, true), (&[Suite::ChaCha20Poly1305], true), Some(chacha)),
            ((&[Suite::Aes256Gcm], true), (&[Suite::ChaCha20Poly1305], true), None),
            ((&[Suite::Plaintext], true), (&[Suite::Plaintext], true), None),
            ((&[], true), (Suite::CIPHERS, true), None),
        ];
        for ((ours, our_hardware), (theirs, their_hardware), expected) in cases {
            let offer = Offer::new(&config(ours, our_hardware), [1; 32]);
            assert_eq!(offer.choose(&config(theirs, their_hardware)), expected, "{ours:?} {theirs:?}");
        }
        let plaintext = Config { plaintext: true, ..Config::default() };
        assert_eq!(Offer::new(&plaintext, [1; 32]).choose(&plaintext), Some(Suite::Plaintext));
        assert_eq!(Offer::new(&plaintext, [1; 32]).choose(&Config::default()), None);
        assert_eq!(Offer::new(&Config::default(), [1; 32]).choose(&plaintext), None);
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
