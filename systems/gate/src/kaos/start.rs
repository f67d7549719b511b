//! The first message of a connection: a SessionStart, read and proved before the frame hears of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::{PeerId, SessionId};
use kaos_kernel::input::{Claim, Counts, Input};
use kaos_wire::v1::session_start::Credentials as Given;
use kaos_wire::{ClientMessage, Opcode, agree, decode_client, messages, prost::Message, v1};

use crate::identity::credentials::{Credentials, bounded};
use crate::kaos::encode::session_end;

/// A SessionStart whose credentials are valid as far as a door can tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Opening {
    /// What was proved.
    pub claim: Claim,
    /// Sixteen random bytes: the resume token if the session begins.
    pub fresh: [u8; 16],
    /// Free for the game; at most 16 entries and 1 KiB.
    pub vars: BTreeMap<String, String>,
    /// Messages that followed it in the same frame.
    pub rest: Bytes,
}

impl Opening {
    /// Reads the first bytes of a connection. A start that is not refused draws its resume token: from
    /// [`random`](crate::random) at a real door.
    ///
    /// # Errors
    /// Why the connection has to be closed: no SessionStart, an unsupported version, invalid credentials, or no randomness.
    pub fn read(
        bytes: &Bytes,
        credentials: &Credentials,
        draw: impl FnOnce() -> std::io::Result<[u8; 16]>,
    ) -> Result<Opening, Fault> {
        let first = messages(bytes).next().unwrap_or(Ok((0, &[])));
        let (op, payload) = first.map_err(|error| Fault::new(FaultKind::Protocol, error.to_string()))?;
        if op != Opcode::SessionStart as u8 {
            return Err(Fault::new(
                FaultKind::Protocol,
                "the first message of a connection has to be a SessionStart",
            ));
        }
        let invalid = |error: &dyn std::fmt::Display| Fault::invalid(error.to_string());
        // The version before everything else: a client of another version may mean other fields.
        let range = v1::SessionStart::decode(payload).map_err(|error| invalid(&error))?;
        agree(range.protocol_min, range.protocol_max).map_err(|word| {
            Fault::from(match word {
                "server_too_old" => FaultKind::ServerTooOld,
                _ => FaultKind::ClientTooOld,
            })
        })?;
        let start = match decode_client(op, payload).map_err(|error| invalid(&error))? {
            ClientMessage::SessionStart(start) => *start,
            _ => return Err(FaultKind::Internal.into()),
        };
        let mut vars: BTreeMap<String, String> = start.vars.into_iter().collect();
        let claim = match start.credentials {
            Some(Given::Token(token)) => {
                let proof = credentials.token(&token)?;
                vars.extend(proof.vars);
                Claim::User(proof.identity)
            }
            Some(Given::Anonymous(name)) => Claim::Anonymous { name: credentials.name(&name)? },
            Some(Given::Resume(resume)) => {
                let token = resume.token.try_into().map_err(|_| FaultKind::CannotResume)?;
                let received = resume.received.unwrap_or_default();
                Claim::Resume {
                    session: SessionId(resume.session_id),
                    token,
                    received: Counts { control: received.control, data: received.data },
                }
            }
            None => return Err(Fault::invalid("a SessionStart carries a token, a name or a resume")),
        };
        bounded(&vars)?;
        let fresh = draw().map_err(|error| Fault::internal(error.to_string()))?;
        let rest = bytes.slice(bytes.len().min(kaos_wire::limits::HEADER + payload.len())..);
        Ok(Opening { claim, fresh, vars, rest })
    }

    /// The inputs that it becomes.
    pub fn inputs(self, peer: PeerId) -> impl Iterator<Item = Input> {
        let rest = (!self.rest.is_empty()).then_some(Input::Data { peer, bytes: self.rest });
        let start = Input::Start { peer, claim: self.claim, fresh: self.fresh, vars: self.vars };
        [Some(start), rest].into_iter().flatten()
    }
}

/// The SessionEnd with which a door itself refuses, as a whole message.
pub fn farewell(fault: &Fault) -> Vec<u8> {
    let mut message = Vec::new();
    // Its texts are cut to their limits, so it always fits.
    let _ = kaos_wire::encode(Opcode::SessionEnd, &session_end(fault), &mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::credentials::{Claims, mint};
    use kaos_wire::{ServerMessage, decode_server, encode};

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn start(credentials: Option<Given>) -> v1::SessionStart {
        v1::SessionStart { protocol_min: 1, protocol_max: 1, credentials, ..Default::default() }
    }

    fn bytes(start: &v1::SessionStart) -> Bytes {
        let mut bytes = Vec::new();
        encode(Opcode::SessionStart, start, &mut bytes).expect("short");
        bytes.into()
    }

    fn read(start: &v1::SessionStart) -> Result<Opening, Fault> {
        Opening::read(&bytes(start), &Credentials::new(KEY, true), crate::random)
    }

    fn kind(start: &v1::SessionStart) -> FaultKind {
        read(start).expect_err("refused").kind
    }

    #[test]
    fn a_name_a_token_and_a_resume_are_read() {
        let anonymous = start(Some(Given::Anonymous("ada".into())));
        let first = read(&anonymous).expect("good");
        assert_eq!(first.claim, Claim::Anonymous { name: "ada".into() });
        assert_ne!(first.fresh, read(&anonymous).expect("good").fresh);

        let claims = Claims {
            uid: "u".into(),
            exp: 4_102_444_800,
            vrs: [("a".to_owned(), "signed".to_owned())].into(),
            ..Claims::default()
        };
        let mut token = start(Some(Given::Token(mint(KEY, &claims).expect("made"))));
        token.vars.insert("a".into(), "said".into());
        token.vars.insert("b".into(), "said".into());
        let opening = read(&token).expect("good");
        assert!(matches!(opening.claim, Claim::User(identity) if identity.user_id == "u"));
        assert_eq!((opening.vars["a"].as_str(), opening.vars["b"].as_str()), ("signed", "said"));

        let resume = v1::Resume {
            session_id: 7,
            token: vec![9; 16],
            received: Some(v1::Counts { control: 1, data: 2 }),
        };
        let opening = read(&start(Some(Given::Resume(resume)))).expect("good");
        let received = Counts { control: 1, data: 2 };
        assert_eq!(opening.claim, Claim::Resume { session: SessionId(7), token: [9; 16], received });
    }

    #[test]
    fn what_follows_in_the_same_piece_is_kept() {
        let mut both = bytes(&start(Some(Given::Anonymous("ada".into())))).to_vec();
        let heartbeat = [3, 0, 0];
        both.extend_from_slice(&heartbeat);
        let opening = Opening::read(&both.into(), &Credentials::new(KEY, true), crate::random).expect("good");
        assert_eq!(opening.rest, heartbeat[..]);
    }

    #[test]
    fn versions_are_looked_at_before_anything_else() {
        let old = v1::SessionStart { protocol_min: 0, protocol_max: 0, ..start(None) };
        assert_eq!(kind(&old), FaultKind::ClientTooOld);
        let new = v1::SessionStart { protocol_min: 2, protocol_max: 9, ..start(None) };
        assert_eq!(kind(&new), FaultKind::ServerTooOld);
        assert_eq!(kind(&start(None)), FaultKind::Invalid);
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        let credentials = Credentials::new(KEY, true);
        for (first, expected) in [
            (&[][..], FaultKind::Protocol),
            (&[1], FaultKind::Protocol),
            (&[3, 0, 0], FaultKind::Protocol),
            (&[1, 9, 0, 1], FaultKind::Protocol),
            (&[1, 2, 0, 0xff, 0xff], FaultKind::Invalid),
        ] {
            let never = || panic!("a start that is refused draws nothing");
            let first_bytes = Bytes::copy_from_slice(first);
            let fault = Opening::read(&first_bytes, &credentials, never).expect_err("refused");
            assert_eq!(fault.kind, expected, "{first:?}");
            let message = farewell(&fault);
            let (op, payload) = messages(&message).next().expect("one").expect("whole");
            let ServerMessage::SessionEnd(end) = decode_server(op, payload).expect("readable") else {
                panic!("no SessionEnd");
            };
            assert_eq!((end.code, end.reason.as_str()), (fault.kind.code().into(), fault.kind.name()));
        }
        let mut greedy = start(Some(Given::Anonymous("ada".into())));
        greedy.vars.insert("k".into(), "v".repeat(2000));
        assert_eq!(kind(&greedy), FaultKind::Invalid);
    }
}
