//! Who a client says it is, and the options of its session.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kaos_rudp::lab::Emulation;
use kaos_wire::limits::SILENCE_MS;

/// Who a client says it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A signed session token, as `kaosnet token --user ada` makes one.
    Token(String),
    /// A name of 1 to 64 bytes, where the server allows it.
    Anonymous(String),
}

impl Credentials {
    /// A signed session token.
    pub fn token(token: impl Into<String>) -> Self {
        Credentials::Token(token.into())
    }

    /// A name without proof.
    pub fn anonymous(name: impl Into<String>) -> Self {
        Credentials::Anonymous(name.into())
    }
}

impl fmt::Debug for Credentials {
    /// A token does not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Token(_) => f.write_str("Token(..)"),
            Credentials::Anonymous(name) => write!(f, "Anonymous({name:?})"),
        }
    }
}

/// The knobs of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the client calls itself, for the server's logs; at most 64 bytes. Default `kaos-client`.
    pub client: String,
    /// Free for the game; scripts read them as `ctx.vars`. At most 16 entries, 1 KiB in all. Default none.
    pub vars: BTreeMap<String, String>,
    /// Whether a lost connection comes back by itself. Default true; false: the session ends as `lost`.
    pub resume: bool,
    /// Silence after which the connection counts as lost. Default 10 s. Where the server asks for rare heartbeats it is
    /// twice the time between them and a second, if that is longer: their answers may be all that is heard.
    pub silence: Duration,
    /// How long one connection may take to come about, SessionStarted included. Default 5 s.
    pub open_timeout: Duration,
    /// A bad network to play over, for load tests; UDP only, ignored on WebSockets. Default none.
    pub emulation: Option<Arc<Emulation>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            client: "kaos-client".to_owned(),
            vars: BTreeMap::new(),
            resume: true,
            silence: Duration::from_millis(SILENCE_MS),
            open_timeout: Duration::from_secs(5),
            emulation: None,
        }
    }
}
