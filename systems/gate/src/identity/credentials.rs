//! Credentials: session tokens (JWT, HS256) are made and checked here, and anonymous names let in.

use std::collections::BTreeMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::input::Identity;
use kaos_wire::limits::{ANONYMOUS_MAX, TOKEN_MAX, USER_MAX, VARS_BYTES_MAX, VARS_MAX};
use serde::{Deserialize, Serialize};

use super::credential::Credential;

/// Seconds by which the clock of a token's issuer may differ from ours.
const LEEWAY_S: u64 = 5;

/// What a session token says, in the claim names that Nakama's clients know. One that also has `nbf` is not good
/// before that second of Unix time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The token's own id; for revoking, later.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tid: String,
    /// The user's id, 1 to 128 bytes of printable text without spaces at its ends. Tokens of other issuers may say
    /// `sub` instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// As `uid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// The name that others see, as long and as printable; without it the user's id is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub usn: String,
    /// Variables of the session. They win over what the client says of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vrs: BTreeMap<String, String>,
    /// When it was made, in seconds of Unix time; ignored.
    #[serde(default)]
    pub iat: u64,
    /// When it expires, in seconds of Unix time. Required.
    pub exp: u64,
}

impl Claims {
    /// What the token proves, if its signature is valid and its time has come.
    ///
    /// # Errors
    /// [`FaultKind::Unauthenticated`] for a user or name out of bounds, [`FaultKind::Invalid`] for variables over
    /// theirs.
    pub fn proof(self) -> Result<Proof, Fault> {
        let user_id = if self.uid.is_empty() { self.sub } else { self.uid };
        let username = if self.usn.is_empty() { user_id.clone() } else { self.usn };
        if user_id.is_empty() || user_id.len() > USER_MAX || username.len() > USER_MAX {
            return Err(refused("the session token needs a user id of 1 to 128 bytes (`uid`)"));
        }
        if !printable(&user_id) || !printable(&username) {
            return Err(refused(
                "the session token's `uid` and `usn` must be printable text without spaces at their ends",
            ));
        }
        bounded(&self.vrs)?;
        Ok(Proof { identity: Identity { user_id, username, ..Identity::default() }, vars: self.vrs })
    }
}

/// Returns whether a text is fit to be shown and written to a log.
fn printable(name: &str) -> bool {
    name.chars().all(|c| !c.is_control()) && name.trim() == name
}

/// What a token proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The user.
    pub identity: Identity,
    /// The session variables that the token carries.
    pub vars: BTreeMap<String, String>,
}

/// The check that all doors share.
pub struct Credentials {
    key: DecodingKey,
    validation: Validation,
    anonymous: bool,
}

impl Credentials {
    /// Checks tokens against `key`; `anonymous` says whether names without proof are let in.
    pub fn new(key: &[u8], anonymous: bool) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        Credentials { key: DecodingKey::from_secret(key), validation, anonymous }
    }

    /// Returns whether names without proof are let in.
    pub fn anonymous(&self) -> bool {
        self.anonymous
    }

    /// Reads a session token.
    ///
    /// # Errors
    /// [`FaultKind::Unauthenticated`]: expired, altered, signed with another key or algorithm, or without a
    /// user. The sentence does not say which of these a forger got wrong, but tells an honest client when its
    /// token is too old.
    pub fn token(&self, token: &str) -> Result<Proof, Fault> {
        if token.len() > TOKEN_MAX {
            return Err(refused("this is not a session token of this server"));
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = match decoded {
            Ok(data) => data.claims,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::ExpiredSignature => refused("the session token has expired: get a new one"),
                    ErrorKind::ImmatureSignature => refused("the session token is not valid yet"),
                    _ => refused("this is not a session token of this server"),
                });
            }
        };
        claims.proof()
    }

    /// Checks a name without proof.
    ///
    /// # Errors
    /// [`FaultKind::Unauthenticated`] where names are not let in, [`FaultKind::Invalid`] for one that is not
    /// 1 to 64 bytes of printable text.
    pub fn name(&self, name: &str) -> Result<String, Fault> {
        if !self.anonymous {
            return Err(refused(
                "this server lets nobody in without a session token (`session.anonymous` is off)",
            ));
        }
        if name.is_empty() || name.len() > ANONYMOUS_MAX || !printable(name) {
            return Err(Fault::invalid(
                "a name must be 1 to 64 bytes of printable text without spaces at its ends",
            ));
        }
        Ok(name.to_owned())
    }

    /// Whom a request comes from, by what it shows. `None`: from nobody in particular, on a server that lets nobody in
    /// without a token. With the token's variables, since a request has no session that holds them.
    ///
    /// # Errors
    /// As [`Credentials::token`]; also for a key, of which this server has none. What is wrong is refused even where
    /// nothing is needed: its sender believes to be somebody.
    pub fn prove(&self, credential: &Credential) -> Result<Option<Identity>, Fault> {
        match credential {
            // Nobody in particular, who may do what users may.
            Credential::Nothing => Ok(self.anonymous.then(Identity::default)),
            Credential::Bearer(token) => {
                self.token(token).map(|proof| Some(Identity { vars: proof.vars, ..proof.identity }))
            }
            Credential::Basic { .. } | Credential::Key(_) => Err(refused(
                "this server knows no such key: send a session token as `Authorization: Bearer …`",
            )),
        }
    }
}

fn refused(sentence: &'static str) -> Fault {
    Fault::new(FaultKind::Unauthenticated, sentence)
}

/// Checks that variables are within what a session may hold.
///
/// # Errors
/// [`FaultKind::Invalid`]: more than 16 entries, or more than 1 KiB.
pub(crate) fn bounded(vars: &BTreeMap<String, String>) -> Result<(), Fault> {
    let bytes: usize = vars.iter().map(|(key, value)| key.len() + value.len()).sum();
    if vars.len() > VARS_MAX || bytes > VARS_BYTES_MAX {
        return Err(Fault::invalid(format!(
            "session variables are limited to {VARS_MAX} entries and {VARS_BYTES_MAX} bytes in all"
        )));
    }
    Ok(())
}

/// Signs a session token.
///
/// # Errors
/// [`FaultKind::Internal`] when the claims cannot be written.
pub fn mint(key: &[u8], claims: &Claims) -> Result<String, Fault> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key))
        .map_err(|error| Fault::internal(format!("the token cannot be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    /// The year 2100.
    const LATER: u64 = 4_102_444_800;

    fn claims() -> Claims {
        Claims { uid: "u-1".into(), usn: "ada".into(), exp: LATER, ..Claims::default() }
    }

    fn kind(result: Result<Proof, Fault>) -> FaultKind {
        result.expect_err("refused").kind
    }

    #[test]
    fn a_token_names_its_user_and_variables() {
        let credentials = Credentials::new(KEY, false);
        let mut claims = claims();
        claims.vrs.insert("team".into(), "red".into());
        let proof = credentials.token(&mint(KEY, &claims).expect("made")).expect("good");
        assert_eq!(
            proof.identity,
            Identity { user_id: "u-1".into(), username: "ada".into(), ..Identity::default() }
        );
        assert_eq!(proof.vars["team"], "red");
        let other = Claims { sub: "u-2".into(), exp: LATER, ..Claims::default() };
        let proof = credentials.token(&mint(KEY, &other).expect("made")).expect("good");
        assert_eq!(
            proof.identity,
            Identity { user_id: "u-2".into(), username: "u-2".into(), ..Identity::default() }
        );
    }

    #[test]
    fn what_is_expired_foreign_or_altered_is_refused() {
        let credentials = Credentials::new(KEY, true);
        let expired = mint(KEY, &Claims { exp: 1_600_000_000, ..claims() }).expect("made");
        let fault = credentials.token(&expired).expect_err("old");
        assert!(fault.message.contains("expired"), "{fault}");
        let foreign = mint(b"another key, as long as the first one", &claims()).expect("made");
        assert_eq!(kind(credentials.token(&foreign)), FaultKind::Unauthenticated);
        let nobody = mint(KEY, &Claims { exp: LATER, ..Claims::default() }).expect("made");
        assert_eq!(kind(credentials.token(&nobody)), FaultKind::Unauthenticated);
        let good = mint(KEY, &claims()).expect("made");
        let proof = credentials.token(&good).expect("good");
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).expect("ascii");
            // The last character of a part may hold bits that mean nothing.
            if let Ok(altered) = credentials.token(&altered) {
                assert_eq!(altered, proof, "position {at}");
            }
        }
    }

    #[test]
    fn a_token_that_is_not_good_yet_says_so() {
        let token = |nbf: u64| {
            let claims = serde_json::json!({ "uid": "u-1", "nbf": nbf, "exp": LATER });
            let key = EncodingKey::from_secret(KEY);
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("made")
        };
        let credentials = Credentials::new(KEY, false);
        assert!(credentials.token(&token(1_600_000_000)).is_ok());
        let fault = credentials.token(&token(LATER - 1)).expect_err("early");
        assert_eq!(fault.kind, FaultKind::Unauthenticated);
        assert!(fault.message.contains("not valid yet"), "{fault}");
    }

    #[test]
    fn names_in_a_token_are_printable_too() {
        let credentials = Credentials::new(KEY, false);
        let forged_line = "eve joined\n2026-11-21T00:00:00Z ERROR kaosnet: the database is gone";
        for bad in [forged_line, "\u{1b}[31mred", "a\rb", "a\u{85}b", " ada", "ada "] {
            for claims in [Claims { usn: bad.into(), ..claims() }, Claims { uid: bad.into(), ..claims() }] {
                let token = mint(KEY, &claims).expect("made");
                assert_eq!(kind(credentials.token(&token)), FaultKind::Unauthenticated, "{bad:?}");
            }
        }
    }

    #[test]
    fn the_algorithm_is_not_the_senders_choice() {
        let credentials = Credentials::new(KEY, false);
        let good = mint(KEY, &claims()).expect("made");
        let body = good.split('.').nth(1).expect("three parts");
        // {"alg":"none","typ":"JWT"}, {"alg":"None"}, {"typ":"JWT"}
        for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIn0", "eyJ0eXAiOiJKV1QifQ"] {
            for signature in ["", "AAAA"] {
                let forged = format!("{header}.{body}.{signature}");
                assert_eq!(kind(credentials.token(&forged)), FaultKind::Unauthenticated);
            }
        }
        let longer =
            jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(KEY));
        assert_eq!(kind(credentials.token(&longer.expect("made"))), FaultKind::Unauthenticated);
        for nonsense in ["", ".", "..", "a.b.c", "ä.ö.ü", &"a".repeat(5000)] {
            assert_eq!(kind(credentials.token(nonsense)), FaultKind::Unauthenticated);
        }
    }

    #[test]
    fn names_without_proof_are_short_and_printable_and_only_where_allowed() {
        let open = Credentials::new(KEY, true);
        assert_eq!(open.name("ada").as_deref(), Ok("ada"));
        assert_eq!(open.name("Zoë 🦊").as_deref(), Ok("Zoë 🦊"));
        for bad in ["", " ada", "a\nb", "a\u{7f}", &"x".repeat(65)] {
            assert_eq!(open.name(bad).map_err(|fault| fault.kind), Err(FaultKind::Invalid), "{bad:?}");
        }
        let shut = Credentials::new(KEY, false);
        assert_eq!(shut.name("ada").map_err(|fault| fault.kind), Err(FaultKind::Unauthenticated));
    }

    #[test]
    fn what_a_request_shows_is_proved() {
        let open = Credentials::new(KEY, true);
        let shut = Credentials::new(KEY, false);
        assert_eq!(open.prove(&Credential::Nothing), Ok(Some(Identity::default())));
        assert_eq!(shut.prove(&Credential::Nothing), Ok(None));
        let bearer = |claims: &Claims| Credential::Bearer(mint(KEY, claims).expect("made"));
        let identity = shut.prove(&bearer(&claims())).expect("good").expect("somebody");
        assert_eq!(identity.username, "ada");
        let red = Claims { vrs: BTreeMap::from([("team".into(), "red".into())]), ..claims() };
        let identity = shut.prove(&bearer(&red)).expect("good").expect("somebody");
        assert_eq!(identity.vars, red.vrs);
        // A wrong one is refused even where none is needed: its sender believes to be somebody.
        let basic = Credential::Basic { name: "a".into(), secret: "b".into() };
        let bearers = ["x", ""].map(|token| Credential::Bearer(token.into()));
        for wrong in bearers.into_iter().chain([basic, Credential::Key("k".into())]) {
            let fault = open.prove(&wrong).expect_err("wrong");
            assert_eq!(fault.kind, FaultKind::Unauthenticated, "{wrong:?}");
        }
    }
}
