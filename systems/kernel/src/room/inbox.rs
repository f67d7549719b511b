//! What waits for a room: messages for its next tick, and joins and leaves to be told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::burst::CapacityWindow;
use crate::fault::{Fault, FaultKind};
use crate::ids::RoomId;
use crate::room::RoomSettings;
use crate::room::presence::PresenceInfo;

/// What waits for a room's next tick. Bounded by `room.inbox_messages` and `room.inbox_bytes`; what
/// comes beyond is refused to its sender with `busy`. What a session sends again after a resume is not refused, since
/// it counts as arrived: it is bounded by `session.resend_bytes` of each such session. A tick takes no more than
/// `room.inbox_messages` at once, the next one the rest.
#[derive(Component, Default, Debug)]
pub struct Inbox {
    /// In the order of arrival.
    pub messages: VecDeque<RoomMessage>,
    /// The size of their data, in bytes.
    pub bytes: usize,
    /// Joins and leaves that the match has not heard of yet.
    pub events: Vec<RoomFact>,
    window: CapacityWindow,
}

impl Inbox {
    /// Whether another message with `bytes` of data fits.
    ///
    /// # Errors
    /// `busy`: it is full.
    pub fn admit(&self, bytes: usize, limits: InboxLimits) -> Result<(), Fault> {
        if self.messages.len() >= limits.messages || self.bytes + bytes > limits.bytes {
            return Err(Fault::new(FaultKind::Busy, "the room's inbox is full").retry_in_ms(100));
        }
        Ok(())
    }

    /// Adds a message, which [was admitted](Inbox::admit) or is sent again.
    pub fn push(&mut self, message: RoomMessage) {
        self.bytes += message.data.len();
        self.messages.push_back(message);
    }

    /// Takes the oldest messages, at most `most`, in the order of arrival. `frame` is the current one, `second` the
    /// number of frames per second: the memory of a burst is [given back](CapacityWindow) after one to two seconds
    /// without another.
    pub fn take_messages(&mut self, most: usize, frame: u64, second: u64) -> Vec<RoomMessage> {
        let kept = self.window.keep(frame, second, self.messages.len());
        let messages: Vec<RoomMessage> = self.messages.drain(..most.min(self.messages.len())).collect();
        self.bytes -= messages.iter().map(|message| message.data.len()).sum::<usize>();
        if let Some(rows) = kept {
            self.messages.shrink_to(rows);
        }
        messages
    }
}

/// What an inbox holds at most: `room.inbox_messages` and `room.inbox_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboxLimits {
    messages: usize,
    bytes: usize,
}

impl From<&RoomSettings> for InboxLimits {
    fn from(settings: &RoomSettings) -> Self {
        InboxLimits { messages: settings.inbox_messages, bytes: settings.inbox_bytes }
    }
}

/// A message to a room.
#[derive(Clone, Debug)]
pub struct RoomMessage {
    /// Its sender; `None` for the server and for scripts.
    pub sender: Option<Arc<PresenceInfo>>,
    /// The index of a member, or [`TO_ROOM`](crate::codec::TO_ROOM).
    pub to: u16,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// Whether it was sent reliably.
    pub reliable: bool,
    /// The frame in which it came.
    pub frame: u64,
}

/// What a match hears of between ticks.
#[derive(Clone, Debug)]
pub enum RoomFact {
    /// These joined.
    Joined(Vec<Arc<PresenceInfo>>),
    /// These left; `reason` of each says why.
    Left(Vec<Arc<PresenceInfo>>),
}

/// Relayed rooms with something in their inbox: they have no tick to wait for.
#[derive(Resource, Default, Debug)]
pub struct ReadyRooms(pub BTreeSet<RoomId>);
