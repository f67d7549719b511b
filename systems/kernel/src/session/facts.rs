//! What happens to sessions, as facts for features that follow them: rooms, parties, status.

use std::sync::Arc;

use crate::ids::SessionId;

/// A session started. Not written again when the session is resumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStarted {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user_id: Arc<str>,
}

/// A session lost its connection, or has one again. The current state is in the session, since a connection may come
/// and go in one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionChanged {
    /// The session.
    pub session: SessionId,
    /// Messages of reliable room data that were lost while it was away, and that no RoomState has reported yet.
    pub lost: u64,
}

/// A session is ending. Its entity is removed at the end of the frame in which readers of the Match stage could see
/// this; later readers have only these fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionEnding {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user_id: Arc<str>,
    /// One word that says why, as rooms are told it: `left`, `disconnected`, or the name of a fault.
    pub reason: &'static str,
}
