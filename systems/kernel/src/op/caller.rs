//! The caller of an operation, and the callers that an operation admits.

use crate::fault::{Fault, FaultKind};
use crate::ids::{RoomId, SessionId};
use crate::input::Identity;

/// The caller of an operation.
#[derive(Clone, PartialEq, Debug)]
pub enum Caller {
    /// A live session.
    Session(SessionId),
    /// A user without a session, whose credentials a door verified.
    User(Identity),
    /// A request without credentials.
    Anonymous,
    /// A room's script.
    Room(RoomId),
    /// The server, a hook, a plugin, or a job that asks the frame for an operation.
    Server,
}

impl Caller {
    /// The calling session, if it is one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Caller::Session(id) => Some(*id),
            _ => None,
        }
    }

    /// Whether the caller is a script, a hook, a plugin, a job or the server itself.
    pub fn is_server(&self) -> bool {
        matches!(self, Caller::Room(_) | Caller::Server)
    }

    /// Checks whether this caller may call an operation with this `auth`.
    ///
    /// # Errors
    /// `unauthenticated`, `needs_session` or `denied`.
    pub fn allowed(&self, auth: Auth) -> Result<(), Fault> {
        match (auth, self) {
            (_, Caller::Server) | (Auth::Public, _) => Ok(()),
            (Auth::User, Caller::Anonymous) => Err(Fault::new(
                FaultKind::Unauthenticated,
                "credentials are missing: send a session token as `Authorization: Bearer …`",
            )),
            (Auth::User, Caller::Session(_) | Caller::User(_) | Caller::Room(_)) => Ok(()),
            (Auth::Session, Caller::Session(_)) => Ok(()),
            (Auth::Session, Caller::User(_) | Caller::Anonymous | Caller::Room(_)) => {
                Err(FaultKind::NeedsSession.into())
            }
            (Auth::Server, Caller::Room(_)) => Ok(()),
            (Auth::Server, Caller::Session(_) | Caller::User(_) | Caller::Anonymous) => {
                Err(Fault::new(FaultKind::Denied, "only scripts and the server may do this"))
            }
        }
    }
}

/// Who may call an operation. [`Caller::Server`] may call every operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Auth {
    /// Every caller.
    Public,
    /// Every session, anonymous sessions included; users with verified credentials over HTTP; scripts.
    User,
    /// Live sessions; no scripts of rooms.
    Session,
    /// Scripts, plugins and the server itself; no client.
    Server,
}
