//! What can go wrong, each with one word for programs and a sentence for people.

use std::net::SocketAddr;

use kaos_rudp::PublicKey;
use kaos_wire::{WireError, v1};
use thiserror::Error;

use crate::fault::{self, Fault};

/// Why something that was asked for did not happen.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Error {
    /// The address cannot be read. Correct it.
    #[error("`{url}` is not a server address: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection could be made: the server is not running, or this is not its address.
    #[error("no connection to {door}: {why}")]
    Unreachable {
        /// Where to.
        door: String,
        /// What the network said.
        why: String,
    },
    /// The server refused this request; the session goes on.
    #[error("{0}")]
    Refused(Refusal),
    /// The session is over.
    #[error("{0}")]
    Ended(End),
    /// The room is over for this client: it left, was removed, or the room closed.
    #[error("the room is closed: {reason}")]
    Closed {
        /// One word: `left`, `ended`, `kicked`, ...
        reason: String,
    },
    /// The resend buffer is full; the same call passes when the server has caught up.
    #[error("256 KiB wait to be acknowledged by the server")]
    KeepFull,
    /// The message can never be sent: divide it.
    #[error("{bytes} bytes are too long: at most {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that passes.
        max: usize,
    },
    /// Too many requests wait for their answers.
    #[error("{max} requests wait for their answers; wait for some of them")]
    TooManyRequests {
        /// The bound.
        max: usize,
    },
    /// The server offers no event of this name.
    #[error("the server has no event `{event}`{}", hint(.event, .offered))]
    NoSuchEvent {
        /// The name that was asked for.
        event: String,
        /// The names that the server has.
        offered: Vec<String>,
    },
    /// The JSON of a call, its answer or an event cannot be read.
    #[error("the JSON of `{op}` cannot be read: {why}")]
    Json {
        /// The operation.
        op: String,
        /// What is wrong.
        why: String,
    },
}

/// The nearest of the offered names, as the server says it of operations: one slip in a short name, three in a long one.
/// All of them where none is near.
fn hint(name: &str, offered: &[String]) -> String {
    let slips = (name.chars().count() / 4).clamp(1, 3);
    let near = offered.iter().map(|other| (strsim::osa_distance(name, other), other)).min();
    match near {
        Some((distance, other)) if distance <= slips => format!(". Did you mean `{other}`?"),
        Some(_) => format!("; it has {}", offered.join(", ")),
        None => "; it has none".to_owned(),
    }
}

impl Error {
    /// One word that a program can match: the server's for [`Error::Refused`] and [`Error::Ended`], else
    /// `url`, `unreachable`, `closed`, `keep_full`, `too_long`, `too_many_requests`, `no_such_event` or `json`. The words of all clients
    /// are the same; assets/proto/README.md has the table.
    pub fn reason(&self) -> &str {
        match self {
            Error::Url { .. } => "url",
            Error::Unreachable { .. } => "unreachable",
            Error::Refused(refusal) => &refusal.name,
            Error::Ended(end) => &end.reason,
            Error::Closed { .. } => "closed",
            Error::KeepFull => "keep_full",
            Error::TooLong { .. } => "too_long",
            Error::TooManyRequests { .. } => "too_many_requests",
            Error::NoSuchEvent { .. } => "no_such_event",
            Error::Json { .. } => "json",
        }
    }

    /// Milliseconds after which the same request may pass; 0: do not repeat it.
    pub fn retry_ms(&self) -> u32 {
        match self {
            Error::Refused(refusal) => refusal.retry_ms,
            _ => 0,
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLong { bytes } => Error::TooLong { bytes, max: kaos_wire::limits::PAYLOAD_MAX },
            other => Error::Ended(End::protocol(&other.to_string())),
        }
    }
}

/// The server's no to one request.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{name}: {message}")]
pub struct Refusal {
    /// The number of the fault (assets/proto/README.md has the table).
    pub code: u32,
    /// Its word, such as `not_found`.
    pub name: String,
    /// What was refused, why, and what to do.
    pub message: String,
    /// Milliseconds after which the same request may pass; 0: do not repeat it.
    pub retry_ms: u32,
}

impl From<v1::Error> for Refusal {
    fn from(error: v1::Error) -> Self {
        Refusal { code: error.code, name: error.name, message: error.message, retry_ms: error.retry_ms }
    }
}

/// Why a session is over.
///
/// Besides the server's reasons there are the client's own. With the code 0, as no fault of the table says the same:
/// `closed` (it was asked to), `left` (the room), `unreachable` (no first connection), `lost` (the connection broke and
/// resuming is off). With the code of a [`fault`](crate::fault): `timed_out` (it broke and did not come back within the
/// seat time), `protocol` (the server broke the protocol), `slow_reader` (the room's events were not taken), `invalid`
/// (the credentials or vars are too long for a message), `client_too_old`, `server_too_old`, and `wrong_key` with that of
/// `unauthenticated` (another server answers than the one that was expected; it was told nothing).
#[derive(Clone, PartialEq, Eq, Debug, Default, Error)]
#[error("{reason}: {message}")]
pub struct End {
    /// The number of the fault; 0 when all is well.
    pub code: u32,
    /// One word that a program can match.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl End {
    /// One of the client's own, that no fault says.
    pub(crate) fn own(reason: &str, message: impl Into<String>) -> End {
        End { code: 0, reason: reason.to_owned(), message: message.into() }
    }

    /// One that a fault says.
    pub(crate) fn fault(fault: Fault, message: impl Into<String>) -> End {
        End { code: fault.code, reason: fault.word.to_owned(), message: message.into() }
    }

    pub(crate) fn protocol(what: &str) -> End {
        End::fault(fault::PROTOCOL, format!("the server broke the protocol: {what}"))
    }

    /// Another server answers than the one whose key is expected. `met` is the key of the server that this session has met.
    pub(crate) fn wrong_key(
        server: SocketAddr,
        expected: PublicKey,
        found: PublicKey,
        met: Option<PublicKey>,
    ) -> End {
        let than = if met == Some(expected) { "before" } else { "was expected" };
        let message = format!(
            "the server at {server} has another key than {than}: {found}, not {expected}. Nothing was told to it. Ask \
             whoever runs it: when the key was changed on purpose, connect anew to kaos://{server}#{found}; when it \
             was not, somebody else answers there"
        );
        // A word of its own: `unauthenticated` is what servers say of clients.
        End { code: fault::UNAUTHENTICATED.code, ..End::own("wrong_key", message) }
    }
}

impl From<v1::SessionEnd> for End {
    fn from(end: v1::SessionEnd) -> Self {
        let reason = if end.reason.is_empty() { "ended".to_owned() } else { end.reason };
        End { code: end.code, reason, message: end.message }
    }
}
