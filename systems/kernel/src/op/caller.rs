//! Who calls, and who may.

use crate::fault::{Fault, FaultKind};
use crate::ids::{RoomId, SessionId};
use crate::input::Identity;

/// Who calls.
#[derive(Clone, PartialEq, Debug)]
pub enum Caller {
    /// A live session.
    Session(SessionId),
    /// Credentials that a door proved, without a session.
    User(Identity),
    /// Nobody in particular.
    Anonymous,
    /// A room's script.
    Room(RoomId),
    /// The server, a hook or a plugin.
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

    /// Is it a script, a plugin or the server itself?
    pub fn is_server(&self) -> bool {
        matches!(self, Caller::Room(_) | Caller::Server)
    }

    /// May this caller call an operation with that auth?
    ///
    /// # Errors
    /// `unauthenticated`, `needs_session` or `denied`.
    pub fn allowed(&self, auth: Auth) -> Result<(), Fault> {
        match (auth, self) {
            (Auth::Public, _) | (_, Caller::Server) => Ok(()),
            (Auth::User, Caller::Anonymous) => Err(Fault::new(
                FaultKind::Unauthenticated,
                "credentials are missing: send a session token as `Authorization: Bearer …`",
            )),
            (Auth::User, _) | (Auth::Session, Caller::Session(_)) | (Auth::Server, Caller::Room(_)) => Ok(()),
            (Auth::Session, _) => Err(FaultKind::NeedsSession.into()),
            (Auth::Server, _) => {
                Err(Fault::new(FaultKind::Denied, "only scripts and the server may do this"))
            }
        }
    }
}

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Auth {
    /// Anyone who reaches a door.
    Public,
    /// Anyone with proved or permitted credentials, over any door; scripts too.
    User,
    /// A live session.
    Session,
    /// Scripts, plugins and the server itself; no door.
    Server,
}
