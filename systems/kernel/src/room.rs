//! Rooms as data: what they are, what waits for them, and how they are found. What they do is in kaos-rooms.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde_json::Value as Json;

use crate::burst::CapacityWindow;
use crate::ids::{RoomId, SessionId};
use crate::presence::PresenceInfo;

/// The place: id, what runs in it, and what others see of it.
#[derive(Component, Clone, Debug)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Counts the rooms of this server; spreads their ticks over the grid.
    pub number: u64,
    /// The match module; empty: a relayed room without a script.
    pub module: String,
    /// Text or an object, at most `room.label_bytes_max` as JSON.
    pub label: Json,
    /// Ticks a second, 1 to 128; 0: relayed.
    pub tick_rate: u8,
    /// Seats.
    pub max_players: u32,
    /// Ends when it was empty for `room.empty_ms`: made by a client, not by a script.
    pub ends_empty: bool,
    /// The frame in which it was made.
    pub created: u64,
    /// Since which frame nobody is in it.
    pub empty_since: Option<u64>,
}

/// When a room ticks: tick k is due at `start + ceil(k·F/R)`. Integers only, so that nothing drifts.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The frame of tick 0.
    pub start: u64,
    /// The next tick to run.
    pub next: u64,
    /// Ticks that were left out since they came too late, in all.
    pub skipped: u64,
}

impl Beat {
    /// The frame in which tick `k` is due.
    pub fn due(&self, k: u64, frames_per_sec: u64, rate: u8) -> u64 {
        let frames = (u128::from(k) * u128::from(frames_per_sec)).div_ceil(u128::from(rate.max(1)));
        self.start.saturating_add(u64::try_from(frames).unwrap_or(u64::MAX))
    }
}

/// What waits for a room's next tick. Bounded by `room.inbox_messages` and `room.inbox_bytes`; what
/// comes beyond is refused to its sender with `busy`. What a session sends again after a resume is not refused, since
/// it counts as arrived: it is bounded by `session.resend_bytes` of each such session. A tick takes no more than
/// `room.inbox_messages` at once, the next one the rest.
#[derive(Component, Default, Debug)]
pub struct Inbox {
    /// In the order of arrival.
    pub messages: VecDeque<RoomMessage>,
    /// Their data, in bytes.
    pub bytes: usize,
    /// Joins and leaves that the match was not told of yet.
    pub events: Vec<RoomFact>,
    window: CapacityWindow,
}

impl Inbox {
    /// Takes the oldest messages, at most `most`, in the order of arrival. `frame` is this one, `second` the frames of a
    /// second: the memory of a burst is [given back](CapacityWindow) after one to two seconds without another.
    pub fn take_messages(&mut self, most: usize, frame: u64, second: u64) -> Vec<RoomMessage> {
        let resend = self.window.keep(frame, second, self.messages.len());
        let messages: Vec<RoomMessage> = self.messages.drain(..most.min(self.messages.len())).collect();
        self.bytes -= messages.iter().map(|message| message.data.len()).sum::<usize>();
        if let Some(rows) = resend {
            self.messages.shrink_to(rows);
        }
        messages
    }
}

/// A message to a room.
#[derive(Clone, Debug)]
pub struct RoomMessage {
    /// Who sent it; `None`: the server or a script.
    pub sender: Option<Arc<PresenceInfo>>,
    /// A member, or [`TO_ROOM`](crate::codec::TO_ROOM).
    pub to: u16,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// Did it come reliably?
    pub reliable: bool,
    /// The frame in which it came.
    pub frame: u64,
}

/// What a match is told between ticks.
#[derive(Clone, Debug)]
pub enum RoomFact {
    /// These came.
    Joined(Vec<Arc<PresenceInfo>>),
    /// These went; each says why.
    Left(Vec<Arc<PresenceInfo>>),
}

/// The seats of a room: index to presence. The lowest free index is given next.
#[derive(Component, Default, Debug)]
pub struct Seats {
    /// By index.
    pub rows: Vec<Option<Entity>>,
    /// Taken seats.
    pub taken: u32,
}

impl Seats {
    /// The index that the next presence gets.
    pub fn free_index(&self) -> u16 {
        let free = self.rows.iter().position(Option::is_none).unwrap_or(self.rows.len());
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// Who sits there.
    pub fn get(&self, index: u16) -> Option<Entity> {
        self.rows.get(usize::from(index)).copied().flatten()
    }

    /// Seats a presence.
    pub fn take(&mut self, index: u16, presence: Entity) {
        let index = usize::from(index);
        if self.rows.len() <= index {
            self.rows.resize(index + 1, None);
        }
        if let Some(row) = self.rows.get_mut(index)
            && row.replace(presence).is_none()
        {
            self.taken += 1;
        }
    }

    /// Empties a seat.
    pub fn leave(&mut self, index: u16) {
        if let Some(row) = self.rows.get_mut(usize::from(index))
            && row.take().is_some()
        {
            self.taken -= 1;
        }
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
        }
    }
}

/// Rooms by id. In the order of ids, which is the order in which matches run.
#[derive(Resource, Default, Debug)]
pub struct RoomIndex(BTreeMap<RoomId, Entity>);

impl RoomIndex {
    /// The entity of a room.
    pub fn get(&self, id: RoomId) -> Option<Entity> {
        self.0.get(&id).copied()
    }

    /// Enters a room.
    pub fn insert(&mut self, id: RoomId, entity: Entity) {
        self.0.insert(id, entity);
    }

    /// Strikes a room out.
    pub fn remove(&mut self, id: RoomId) {
        self.0.remove(&id);
    }

    /// In the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (RoomId, Entity)> + '_ {
        self.0.iter().map(|(id, entity)| (*id, *entity))
    }

    /// Rooms there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No rooms?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Relayed rooms with something in their inbox: they have no tick to wait for.
#[derive(Resource, Default, Debug)]
pub struct ReadyRooms(pub std::collections::BTreeSet<RoomId>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift() {
        let beat = Beat { start: 100, next: 0, skipped: 0 };
        for rate in [1u8, 7, 30, 33, 60, 127, 128] {
            for second in [0u64, 1, 59, 86_400] {
                assert_eq!(
                    beat.due(second * u64::from(rate), 2000, rate),
                    100 + second * 2000,
                    "rate {rate}"
                );
            }
            let gaps: Vec<u64> =
                (0..500).map(|k| beat.due(k + 1, 2000, rate) - beat.due(k, 2000, rate)).collect();
            let (min, max) = (gaps.iter().min(), gaps.iter().max());
            assert!(max.zip(min).is_some_and(|(max, min)| max - min <= 1), "rate {rate}");
        }
    }

    #[test]
    fn seats_are_given_lowest_first_and_shrink() {
        let mut seats = Seats::default();
        for index in 0..3 {
            assert_eq!(seats.free_index(), index);
            seats.take(index, Entity::PLACEHOLDER);
        }
        seats.leave(1);
        assert_eq!((seats.free_index(), seats.taken), (1, 2));
        seats.leave(2);
        seats.leave(2);
        assert_eq!((seats.rows.len(), seats.taken), (1, 1));
    }
}
