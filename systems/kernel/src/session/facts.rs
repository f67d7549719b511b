//! What happens to sessions, told to whoever wants to follow them: rooms, parties, a status.

use std::sync::Arc;

use crate::ids::SessionId;

/// A session began. It does not come again when the session is resumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStarted {
    /// Which.
    pub session: SessionId,
    /// Its user.
    pub user_id: Arc<str>,
}

/// A session lost its connection, or has one again. What it came to is in the session: a connection may come and go in
/// one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionChanged {
    /// Which.
    pub session: SessionId,
    /// Reliable room data that was lost while it was away and that no RoomState has told of yet, in messages.
    pub lost: u64,
}

/// A session is ending. It is gone at the end of the frame in which the readers of the Match stage could see this: one
/// that reads later has only what stands here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionEnding {
    /// Which.
    pub session: SessionId,
    /// Its user.
    pub user_id: Arc<str>,
    /// One word that says why, as rooms are told it: `left`, `disconnected`, or the name of a fault.
    pub reason: &'static str,
}
