//! The handshake against published vectors, against `snow`, and against someone who changes its bytes.

use std::{fs, path::PathBuf};

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array(text: &str) -> [u8; 32] {
    unhex(text).try_into().unwrap()
}

/// A file of `tests/data/noise`: a word and a value a line, some words several times.
struct Vector(Vec<(String, String)>);

impl Vector {
    fn all() -> Vec<(PathBuf, Vector)> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/noise");
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .into_iter()
            .map(|path| (path.clone(), Vector::read(&fs::read_to_string(path).unwrap())))
            .collect()
    }

    fn read(text: &str) -> Vector {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Vector(
            lines
                .map(|line| line.split_once(' ').unwrap_or((line, "")))
                .map(|(word, value)| (word.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    fn list(&self, word: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name == word).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, word: &str) -> &str {
        self.list(word)[0]
    }

    fn cipher(&self) -> Cipher {
        match self.one("protocol") {
            "Noise_NX_25519_AESGCM_SHA256" => Cipher::AesGcm,
            "Noise_NX_25519_ChaChaPoly_SHA256" => Cipher::ChaChaPoly,
            other => panic!("{other}"),
        }
    }
}

/// Exact bytes in, exact bytes out; then the transport messages of the file with the keys of `Split`.
#[test]
fn published_vectors() {
    let files = Vector::all();
    assert!(files.len() >= 4);
    for (path, vector) in files {
        let (cipher, prologue) = (vector.cipher(), unhex(vector.one("prologue")));
        let initiator = SecretKey::from_bytes(array(vector.one("initiator_ephemeral")));
        let responder = SecretKey::from_bytes(array(vector.one("responder_static")));
        let ephemeral = SecretKey::from_bytes(array(vector.one("responder_ephemeral")));
        let payloads: Vec<_> = vector.list("payload").into_iter().map(unhex).collect();
        let messages: Vec<_> = vector.list("message").into_iter().map(unhex).collect();

        let mut first = initiator.public().as_bytes().to_vec();
        first.extend_from_slice(&payloads[0]);
        assert_eq!(first, messages[0], "{path:?}");

        let (e, payload1) = first.split_first_chunk().unwrap();
        let (public, mut second) = (responder.public(), Vec::new());
        let split = respond(
            cipher,
            &prologue,
            (e, payload1),
            (&responder, &public),
            &ephemeral,
            &payloads[1],
            &mut second,
        )
        .unwrap();
        assert_eq!(second, messages[1], "{path:?}");
        assert_eq!(second.len(), MESSAGE2_OVERHEAD + payloads[1].len());

        let answered = read_answer(cipher, &prologue, &initiator, payload1, &mut second).unwrap();
        assert_eq!((answered.payload, answered.remote), (&payloads[1][..], public), "{path:?}");
        if let [hash] = vector.list("handshake_hash")[..] {
            assert_eq!((split.hash, answered.split.hash), (array(hash), array(hash)), "{path:?}");
        }
        assert_eq!(split.to_responder, answered.split.to_responder);
        assert_eq!(split.to_initiator, answered.split.to_initiator);

        for (index, (payload, message)) in payloads[2..].iter().zip(&messages[2..]).enumerate() {
            let key = if index % 2 == 0 { &split.to_responder } else { &split.to_initiator };
            let mut text = payload.clone();
            let tag = seal(cipher, &cipher.key(key), index as u64 / 2, &[], &mut text);
            text.extend_from_slice(&tag);
            assert_eq!(&text, message, "{path:?}, transport message {index}");
        }
    }
}

const PROLOGUE: &[u8] = b"what both sides agree on";

fn snow(cipher: Cipher) -> snow::Builder<'static> {
    let name = str::from_utf8(cipher.protocol_name()).unwrap();
    snow::Builder::new(name.parse().unwrap()).prologue(PROLOGUE).unwrap()
}

#[test]
fn our_initiator_and_snow() {
    for cipher in [Cipher::AesGcm, Cipher::ChaChaPoly] {
        for round in 1..10 {
            let (ephemeral, secret) = (SecretKey::from_bytes([round; 32]), [round + 100; 32]);
            let mut theirs = snow(cipher)
                .local_private_key(&secret)
                .unwrap()
                .fixed_ephemeral_key_for_testing_only(&[77; 32])
                .build_responder()
                .unwrap();
            let mut first = ephemeral.public().as_bytes().to_vec();
            first.extend_from_slice(b"offer");
            let mut buf = [0; 500];
            let length = theirs.read_message(&first, &mut buf).unwrap();
            assert_eq!(&buf[..length], b"offer");
            let length = theirs.write_message(b"parameters", &mut buf).unwrap();
            let ours = read_answer(cipher, PROLOGUE, &ephemeral, b"offer", &mut buf[..length]).unwrap();
            assert_eq!(ours.payload, b"parameters");
            assert_eq!(ours.remote, SecretKey::from_bytes(secret).public());
            assert_eq!(ours.split.hash, theirs.get_handshake_hash());
            let ours = (&ours.split.to_initiator, &ours.split.to_responder);
            agree(cipher, ours, theirs.into_stateless_transport_mode().unwrap());
        }
    }
}

#[test]
fn snow_and_our_responder() {
    for cipher in [Cipher::AesGcm, Cipher::ChaChaPoly] {
        for round in 1..10 {
            let mut theirs =
                snow(cipher).fixed_ephemeral_key_for_testing_only(&[round; 32]).build_initiator().unwrap();
            let mut buf = [0; 500];
            let length = theirs.write_message(b"offer", &mut buf).unwrap();
            let (e, payload1) = buf[..length].split_first_chunk().unwrap();
            let (secret, ephemeral) =
                (SecretKey::from_bytes([round + 9; 32]), SecretKey::from_bytes([round + 30; 32]));
            let (public, mut second) = (secret.public(), Vec::new());
            let split = respond(
                cipher,
                PROLOGUE,
                (e, payload1),
                (&secret, &public),
                &ephemeral,
                b"parameters",
                &mut second,
            )
            .unwrap();
            let length = theirs.read_message(&second, &mut buf).unwrap();
            assert_eq!(&buf[..length], b"parameters");
            assert_eq!(theirs.get_remote_static().unwrap(), public.as_bytes());
            assert_eq!(split.hash, theirs.get_handshake_hash());
            let ours = (&split.to_responder, &split.to_initiator);
            agree(cipher, ours, theirs.into_stateless_transport_mode().unwrap());
        }
    }
}

/// The same keys in both directions, the same nonces, the same key update.
fn agree(
    cipher: Cipher,
    (inward, outward): (&Zeroizing<[u8; 32]>, &Zeroizing<[u8; 32]>),
    mut theirs: snow::StatelessTransportState,
) {
    let (mut inward, mut outward) = (inward.clone(), outward.clone());
    for number in [0, 1, 255, 1 << 40, u64::MAX - 1] {
        let mut text = b"from us".to_vec();
        let tag = seal(cipher, &cipher.key(&outward), number, &[], &mut text);
        text.extend_from_slice(&tag);
        let mut buf = [0; 100];
        let length = theirs.read_message(number, &text, &mut buf).unwrap();
        assert_eq!(&buf[..length], b"from us");
        let length = theirs.write_message(number, b"from them", &mut buf).unwrap();
        let key = cipher.key(&inward);
        let plain = key.open_in_place(cipher.nonce(number), Aad::empty(), &mut buf[..length]).unwrap();
        assert_eq!(plain, b"from them");
        (inward, outward) = (cipher.rekey(&inward), cipher.rekey(&outward));
        theirs.rekey_outgoing();
        theirs.rekey_incoming();
    }
}

#[test]
fn another_prologue_payload_key_or_byte_is_refused() {
    let (initiator, secret) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
    let (e, public) = (initiator.public(), secret.public());
    for cipher in [Cipher::AesGcm, Cipher::ChaChaPoly] {
        let mut message = Vec::new();
        respond(
            cipher,
            PROLOGUE,
            (e.as_bytes(), b"offer"),
            (&secret, &public),
            &SecretKey::from_bytes([3; 32]),
            b"parameters",
            &mut message,
        )
        .unwrap();
        let read = |prologue: &[u8], initiator, payload1: &[u8], cipher, message: &[u8]| {
            let mut message = message.to_vec();
            read_answer(cipher, prologue, initiator, payload1, &mut message).map(|answered| answered.remote)
        };
        assert_eq!(read(PROLOGUE, &initiator, b"offer", cipher, &message), Ok(public));
        assert_eq!(read(b"another", &initiator, b"offer", cipher, &message), Err(Refused));
        assert_eq!(read(PROLOGUE, &initiator, b"0ffer", cipher, &message), Err(Refused));
        assert_eq!(read(PROLOGUE, &secret, b"offer", cipher, &message), Err(Refused));
        let other = if cipher == Cipher::AesGcm { Cipher::ChaChaPoly } else { Cipher::AesGcm };
        assert_eq!(read(PROLOGUE, &initiator, b"offer", other, &message), Err(Refused));
        for at in 0..message.len() {
            let mut bad = message.clone();
            bad[at] ^= 1 << (at % 8);
            // The top bit of a Curve25519 key has no meaning, but it is hashed.
            assert_eq!(read(PROLOGUE, &initiator, b"offer", cipher, &bad), Err(Refused), "byte {at}");
            assert_eq!(read(PROLOGUE, &initiator, b"offer", cipher, &message[..at]), Err(Refused));
        }
    }
}

#[test]
fn keys_of_small_order_are_refused() {
    let secret = SecretKey::from_bytes([2; 32]);
    for low in [[0; 32], array("0100000000000000000000000000000000000000000000000000000000000000")] {
        let mut out = Vec::new();
        let result = respond(
            Cipher::AesGcm,
            &[],
            (&low, &[]),
            (&secret, &secret.public()),
            &SecretKey::from_bytes([3; 32]),
            &[],
            &mut out,
        );
        assert!(result.is_err() && out.is_empty());
        let mut message = low.to_vec();
        message.resize(MESSAGE2_OVERHEAD, 0);
        assert!(read_answer(Cipher::AesGcm, &[], &secret, &[], &mut message).is_err());
    }
}

/// Points of the curve and of the twist, some not reduced, some with the meaningless top bit: the results are those of
/// the ladder of RFC 7748.
#[test]
fn x25519_is_the_ladder() {
    let mut rng = crate::lab::Rng::new(7);
    let (mut curve, mut twist) = (0, 0);
    let special =
        [[0xff; 32], [0; 32], array("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")];
    for round in 0..400 {
        let (mut public, mut secret) = ([0; 32], [0; 32]);
        rng.fill(&mut public);
        rng.fill(&mut secret);
        public = special.get(round).copied().unwrap_or(public);
        let remote = Remote::new(&public);
        match &remote {
            Remote::Curve(_) => curve += 1,
            Remote::Twist(_) => twist += 1,
        }
        let ladder = MontgomeryPoint(public).mul_clamped(secret).to_bytes();
        let ours = remote.dh(&SecretKey::from_bytes(secret));
        assert_eq!(ours.map_or([0; 32], |shared| *shared), ladder, "{public:?}");
    }
    assert!(curve > 150 && twist > 150, "{curve} {twist}");
}
