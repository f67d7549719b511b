//! What a client learns about its session, its requests and its rooms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kaos_wire::{SERVER, v1};

use crate::error::{End, Error};

/// One session in one room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    /// The session; 16 hexadecimal digits in scripts and logs.
    pub session_id: u64,
    /// The user.
    pub user_id: String,
    /// The user's name.
    pub username: String,
    /// The number that room data carries for its sender; stable while the seat is held.
    pub index: u16,
    /// False while a lost client may still come back.
    pub connected: bool,
    /// In [`RoomEvent::Left`]: why; else empty.
    pub reason: String,
}

impl Presence {
    /// `None` when no member can have the index.
    pub(crate) fn read(presence: v1::Presence) -> Option<Presence> {
        let index = u16::try_from(presence.index).ok().filter(|index| *index != SERVER)?;
        Some(Presence {
            session_id: presence.session_id,
            user_id: presence.user_id,
            username: presence.username,
            index,
            connected: presence.connected,
            reason: presence.reason,
        })
    }
}

/// What is known of a room that this session is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomInfo {
    /// The room's id, a UUID.
    pub room_id: String,
    /// This session's number for the room.
    pub handle: u16,
    /// This session's own index among the members.
    pub index: u16,
    /// True when this join created the room.
    pub created: bool,
    /// The match module; empty for a relayed room.
    pub module: String,
    /// Text, or a JSON object.
    pub label: String,
    /// Ticks a second; 0: a relayed room.
    pub tick_rate: u32,
    /// The tick of the last RoomState.
    pub tick: u64,
    /// The server's Unix time at that moment, in milliseconds.
    pub server_time_ms: u64,
    /// Seats.
    pub max_players: u32,
    /// The members by their index, this session among them.
    pub members: BTreeMap<u16, Arc<Presence>>,
}

/// Who sent room data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender {
    /// The member's index; 65535: the server, which is the match in its own name.
    pub index: u16,
    /// The member; `None` for the server, and for a member that left meanwhile.
    pub presence: Option<Arc<Presence>>,
}

impl Sender {
    /// Whether the match sent it in its own name.
    pub fn is_server(&self) -> bool {
        self.index == SERVER
    }

    /// The member's name; empty for the server and for a member that left meanwhile.
    pub fn username(&self) -> &str {
        self.presence.as_ref().map_or("", |presence| &presence.username)
    }
}

/// What happens in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoomEvent {
    /// Members came.
    Joined(Vec<Arc<Presence>>),
    /// Members left, each with its reason.
    Left(Vec<Arc<Presence>>),
    /// `connected` of these members is another.
    Changed(Vec<Arc<Presence>>),
    /// Data of the game.
    Data {
        /// From whom.
        sender: Sender,
        /// The game's own number.
        op: u8,
        /// The game's own bytes.
        data: Bytes,
        /// Whether it was sent reliably.
        reliable: bool,
    },
    /// Reliable data was lost while the connection was: this replaces what was known of the room.
    State {
        /// How many messages were lost.
        lost: u64,
        /// The room as it is now.
        info: Box<RoomInfo>,
    },
    /// The label is another.
    Label(String),
    /// The room is over for this session; the last event.
    Closed(End),
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The id of the new room.
    Created(String),
    /// The handle of the joined room; [`Core::room`](crate::Core::room) has the rest.
    Joined(u16),
    /// The room was left.
    Left,
    /// What the rpc returned.
    Rpc(Bytes),
    /// What the call returned, JSON.
    Call(Bytes),
}

/// What a [`Core`](crate::Core) tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The session is there, for the first time.
    Started,
    /// The connection broke; the session waits to resume.
    Lost,
    /// The session is back.
    Resumed {
        /// Reliable room messages that the server's resend buffer had no space for; a [`RoomEvent::State`] follows in each room.
        lost: u64,
    },
    /// A request has its answer.
    Answer {
        /// The request.
        cid: u32,
        /// Its answer.
        answer: Result<Answer, Error>,
    },
    /// Something happened in a room.
    Room {
        /// The room.
        handle: u16,
        /// What.
        event: RoomEvent,
    },
    /// A feature of the server pushed an event.
    Pushed {
        /// The event's name, such as `guestbook.signed`.
        name: String,
        /// Its body, JSON; empty means `null`.
        body: Bytes,
    },
    /// An error that belongs to no request, such as room data that was refused.
    Notice(crate::error::Refusal),
    /// A heartbeat came back after this time.
    RoundTrip(Duration),
    /// The session is over; the last event.
    Ended(End),
}

/// The state of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// The first connection is being made.
    Connecting,
    /// Connected.
    Live,
    /// The connection is lost; the client tries to come back.
    Lost,
    /// Over, and why.
    Ended(End),
}
