//! Why a request was refused: one row per fault, the same on every door.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spelling::nearest;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $code:literal $word:literal http $http:literal grpc $grpc:literal $text:literal;)*) => {
        /// The kind of a fault. Its number and name are part of the protocol and never change meaning.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum FaultKind {
            $($(#[$doc])* $name = $code,)*
        }

        impl FaultKind {
            /// Every fault, in the order of the table.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$name,)*];

            /// The number on the wire.
            pub fn code(self) -> u16 {
                self as u16
            }

            /// Its name on the wire: one word that a program can match.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$name => $word,)* }
            }

            /// The HTTP status.
            pub fn http(self) -> u16 {
                match self { $(FaultKind::$name => $http,)* }
            }

            /// The gRPC status.
            pub fn grpc(self) -> u8 {
                match self { $(FaultKind::$name => $grpc,)* }
            }

            /// What it means, when no sharper sentence is at hand.
            pub fn text(self) -> &'static str {
                match self { $(FaultKind::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// The request cannot be read, or a value in it is out of range.
    Invalid = 3 "invalid" http 400 grpc 3 "the request cannot be read";
    /// The work took longer than it may.
    Deadline = 4 "deadline" http 504 grpc 4 "this took too long and was given up";
    /// What was named is not there.
    NotFound = 5 "not_found" http 404 grpc 5 "there is no such thing";
    /// What was to be made is there already.
    Exists = 6 "exists" http 409 grpc 6 "it exists already";
    /// Known, but not allowed.
    Denied = 7 "denied" http 403 grpc 7 "this is not allowed";
    /// Too many requests; `retry_ms` says when the next one passes.
    RateLimited = 8 "rate_limited" http 429 grpc 8 "too many requests";
    /// Not possible in the present state.
    Precondition = 9 "precondition" http 409 grpc 9 "this is not possible now";
    /// No seat is free.
    Full = 10 "full" http 409 grpc 8 "no seat is free";
    /// The room's script refused the join.
    Refused = 11 "refused" http 403 grpc 7 "the room refused";
    /// The server does not know this operation.
    Unimplemented = 12 "unimplemented" http 501 grpc 12 "the server does not know this operation";
    /// A defect of the server or of a plugin.
    Internal = 13 "internal" http 500 grpc 13 "the server made a mistake; its log has the details";
    /// A bound of the server is reached; `retry_ms` says when to come back.
    Busy = 14 "busy" http 503 grpc 14 "the server has too much to do";
    /// The script failed; in development the message is its error.
    Script = 15 "script" http 500 grpc 13 "the script failed; the server's log has the details";
    /// Credentials are missing, expired or not genuine.
    Unauthenticated = 16 "unauthenticated" http 401 grpc 16 "credentials are missing or not valid";
    /// The operation needs a live session.
    NeedsSession = 17 "needs_session" http 403 grpc 9 "this needs a live session: connect over UDP or WebSocket first";
    /// The session ended while the request was under way.
    SessionGone = 18 "session_gone" http 410 grpc 1 "the session ended meanwhile";
    /// The server is stopping.
    Stopping = 19 "stopping" http 503 grpc 14 "the server is stopping";
    /// The client speaks only older versions of the protocol.
    ClientTooOld = 20 "client_too_old" http 426 grpc 9 "the client is too old for this server: update the client";
    /// The client speaks only newer versions of the protocol.
    ServerTooOld = 21 "server_too_old" http 426 grpc 9 "the server is too old for this client: update the server";
    /// The session cannot be resumed: unknown, given up, or the token was used before.
    CannotResume = 22 "cannot_resume" http 410 grpc 5 "the session cannot be resumed: start a new one";
    /// The peer did not keep to the protocol.
    Protocol = 23 "protocol" http 400 grpc 3 "the peer did not keep to the protocol";
    /// The session read too slowly for too long.
    SlowReader = 24 "slow_reader" http 408 grpc 14 "the client read too slowly for too long";
    /// The session was closed by the game or an operator.
    Kicked = 25 "kicked" http 403 grpc 10 "the session was closed by the game";
    /// Another login of the same user took this session's place.
    Replaced = 26 "replaced" http 409 grpc 10 "another login of the same user took this place";
    /// The connection was silent or lost for too long.
    TimedOut = 27 "timed_out" http 408 grpc 4 "nothing was heard for too long";
    /// A newer connection of the same session took over.
    Resumed = 28 "resumed_elsewhere" http 409 grpc 10 "a newer connection of the same session took over";
}

impl FaultKind {
    /// What a game may refuse a request with: scripts by these words, plugins by these kinds. The others are said by the
    /// server alone: of sessions and connections, and of defects.
    pub const OF_REQUESTS: &'static [FaultKind] = &[
        FaultKind::Invalid,
        FaultKind::Deadline,
        FaultKind::NotFound,
        FaultKind::Exists,
        FaultKind::Denied,
        FaultKind::RateLimited,
        FaultKind::Precondition,
        FaultKind::Full,
        FaultKind::Refused,
        FaultKind::Unimplemented,
        FaultKind::Busy,
        FaultKind::Unauthenticated,
    ];

    /// The kind that a game means by this word.
    ///
    /// # Errors
    /// A sentence with the words that there are.
    pub fn of_request(name: &str) -> Result<FaultKind, String> {
        let kinds = || FaultKind::OF_REQUESTS.iter();
        kinds().find(|kind| kind.name() == name).copied().ok_or_else(|| {
            let names: Vec<&str> = kinds().map(|kind| kind.name()).collect();
            let near = nearest(name, names.iter().map(|name| (*name).to_owned()));
            let name: String = name.chars().take(64).collect();
            format!(
                "`{name}` is no code that a request is refused with: it is one of {}{near}",
                names.join(", ")
            )
        })
    }
}

/// A refusal: what kind, a sentence for people, and when to try again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// The row of the table.
    pub kind: FaultKind,
    /// What was refused, why, and what to do; lower case, no full stop.
    pub message: Cow<'static, str>,
    /// Milliseconds after which the same request may pass; 0: do not repeat it.
    pub retry_ms: u32,
}

impl Fault {
    /// A fault with its own sentence.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Fault { kind, message: message.into(), retry_ms: 0 }
    }

    /// [`FaultKind::Invalid`] with a sentence.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(FaultKind::Invalid, message)
    }

    /// [`FaultKind::NotFound`] with a sentence.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(FaultKind::NotFound, message)
    }

    /// [`FaultKind::Internal`] with a sentence.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(FaultKind::Internal, message)
    }

    /// The same fault, saying when to come back.
    pub fn retry_in_ms(mut self, ms: u32) -> Self {
        self.retry_ms = ms;
        self
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Fault::new(kind, kind.text())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique() {
        let codes: BTreeSet<u16> = FaultKind::ALL.iter().map(|kind| kind.code()).collect();
        let names: BTreeSet<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(codes.len(), FaultKind::ALL.len());
        assert_eq!(names.len(), FaultKind::ALL.len());
    }
}
