//! What a request over HTTP shows for itself, before anybody looks whether it is genuine.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_wire::limits::TOKEN_MAX;

/// A credential by its kind. Which kinds a server knows is decided by
/// [`Credentials::prove`](super::credentials::Credentials::prove).
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing was shown.
    Nothing,
    /// `Authorization: Bearer …`: a token.
    Bearer(String),
    /// `Authorization: Basic …`: a name and a secret.
    Basic {
        /// What stands before the first colon.
        name: String,
        /// What stands after it.
        secret: String,
    },
    /// A key in the query string, where a route takes one from there.
    Key(String),
}

/// Secrets are in no log.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Nothing => "Nothing",
            Credential::Bearer(_) => "Bearer(…)",
            Credential::Basic { .. } => "Basic(…)",
            Credential::Key(_) => "Key(…)",
        })
    }
}

impl Credential {
    /// Reads the value of an `Authorization` header and a key of the query string. The key comes first: a route that
    /// takes one is for whoever has it, whatever else a client always sends.
    ///
    /// # Errors
    /// [`FaultKind::Unauthenticated`]: a scheme that is neither `Bearer` nor `Basic`, a Basic header that cannot be read,
    /// anything longer than a token may be (4 KiB).
    pub fn read(authorization: Option<&str>, key: Option<String>) -> Result<Self, Fault> {
        let longest = authorization.map_or(0, str::len).max(key.as_ref().map_or(0, String::len));
        if longest > TOKEN_MAX + "Bearer ".len() {
            return Err(refused("this is not a session token of this server"));
        }
        if let Some(key) = key {
            return Ok(Credential::Key(key));
        }
        let Some(header) = authorization else { return Ok(Credential::Nothing) };
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Credential::Bearer(rest.trim().to_owned()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(rest.trim());
        }
        Err(refused("send a session token as `Authorization: Bearer …`"))
    }
}

fn basic(encoded: &str) -> Result<Credential, Fault> {
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (name, secret) = decoded.as_deref().and_then(|text| text.split_once(':')).ok_or_else(|| {
        refused("`Authorization: Basic …` is name and secret with a colon between them, in Base64")
    })?;
    Ok(Credential::Basic { name: name.to_owned(), secret: secret.to_owned() })
}

fn refused(sentence: &'static str) -> Fault {
    Fault::new(FaultKind::Unauthenticated, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Credential, FaultKind> {
        Credential::read(Some(text), None).map_err(|fault| fault.kind)
    }

    #[test]
    fn a_request_shows_a_token_a_name_with_a_secret_or_a_key() {
        assert_eq!(Credential::read(None, None), Ok(Credential::Nothing));
        for text in ["Bearer a.b.c", "bearer  a.b.c ", "BEARER a.b.c"] {
            assert_eq!(header(text), Ok(Credential::Bearer("a.b.c".into())), "{text}");
        }
        let basic = |name: &str, secret: &str| Credential::Basic { name: name.into(), secret: secret.into() };
        assert_eq!(header("Basic ZGVmYXVsdGtleTo="), Ok(basic("defaultkey", "")));
        assert_eq!(header("basic YTpiOmM="), Ok(basic("a", "b:c")));
        let key = Some("k".to_owned());
        assert_eq!(Credential::read(Some("Bearer x"), key), Ok(Credential::Key("k".into())));
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_no_secret_is_shown() {
        let long = format!("Bearer {}", "a".repeat(TOKEN_MAX + 1));
        // No scheme, another one, no Base64, no colon, no text.
        for wrong in ["", "Bearer-x", "Digest x", "Basic", "Basic !", "Basic YWI=", "Basic /zo=", &long] {
            assert_eq!(header(wrong), Err(FaultKind::Unauthenticated), "{wrong:?}");
        }
        for shown in ["Bearer secret", "Basic YTpzZWNyZXQ="] {
            assert!(!format!("{:?}", header(shown)).contains("secret"));
        }
    }
}
