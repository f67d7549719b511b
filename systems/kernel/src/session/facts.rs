//! What happened to sessions, for rooms to follow.

use bevy_ecs::prelude::*;

use crate::ids::{RoomId, SessionId};

/// What happened to sessions and was not told to rooms yet.
#[derive(Resource, Default, Debug)]
pub struct SessionFacts {
    pub(crate) news: SessionNews,
    /// Ending sessions that rooms have heard of: Flush removes them.
    pub(crate) told: Vec<SessionId>,
}

impl SessionFacts {
    /// Takes what happened, for whoever keeps the rooms (kaos-rooms, at the head of Match). A session that is
    /// ending goes at the end of the frame in which its end was taken, and not before.
    pub fn take(&mut self) -> SessionNews {
        self.told.extend(self.news.ending.iter().map(|(id, _)| *id));
        std::mem::take(&mut self.news)
    }

    /// Nothing to take?
    pub fn is_empty(&self) -> bool {
        self.news.is_empty()
    }
}

/// What happened to sessions, for rooms to follow. Whatever happens after they took it, by a command of a match or a
/// kick, is in the next frame's.
#[derive(Default, Debug)]
pub struct SessionNews {
    /// Lost their peer or have one again: the session says which. The number is how much reliable room data was
    /// lost that no RoomState told of yet.
    pub connections: Vec<(SessionId, u64)>,
    /// Are ending: they leave all rooms for this reason.
    pub ending: Vec<(SessionId, &'static str)>,
    /// Rooms that the watchdog found stuck.
    pub stuck: Vec<(RoomId, u64)>,
    /// The server stops: the grace in seconds for match_terminate.
    pub stopping: Option<u32>,
}

impl SessionNews {
    fn is_empty(&self) -> bool {
        self.connections.is_empty()
            && self.ending.is_empty()
            && self.stuck.is_empty()
            && self.stopping.is_none()
    }
}
