//! What a player of the test kit was told, in a form that a test compares at once.

use kaos_client::{End, Event as RoomEvent, RoomInfo};
use kaos_wire::v1;
use serde_json::Value as Json;

/// What a client was told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Others joined; their names.
    Joined(Vec<String>),
    /// Others left; their names and why.
    Left(Vec<(String, String)>),
    /// Others lost their connection or have it again.
    Changed(Vec<(String, bool)>),
    /// Room data: the sender's index (65535: the server), the game's number and bytes.
    Data(u16, u8, Vec<u8>),
    /// A room, whole; the number of reliable messages that were lost before.
    State(Box<v1::RoomState>),
    /// The room is over, for this reason.
    Closed(String),
    /// The label is another.
    Label(String),
    /// A feature told something: the event's name, and its body.
    Pushed(String, Json),
    /// A request was refused that belongs to no call, by its name.
    Refused(String),
}

impl Event {
    /// What happened in a room.
    pub(super) fn of_room(event: RoomEvent) -> Event {
        match event {
            RoomEvent::Joined(list) => Event::Joined(list.iter().map(|p| p.username.clone()).collect()),
            RoomEvent::Left(list) => {
                Event::Left(list.iter().map(|p| (p.username.clone(), p.reason.clone())).collect())
            }
            RoomEvent::Changed(list) => {
                Event::Changed(list.iter().map(|p| (p.username.clone(), p.connected)).collect())
            }
            RoomEvent::Data { sender, op, data, .. } => Event::Data(sender.index, op, data.to_vec()),
            RoomEvent::State { lost, info } => Event::state(lost, &info),
            RoomEvent::Label(label) => Event::Label(label),
            RoomEvent::Closed(End { reason, .. }) => Event::Closed(reason),
        }
    }

    /// A room, as its client knows it.
    pub(super) fn state(lost: u64, info: &RoomInfo) -> Event {
        let presences = info.members.values().map(|member| v1::Presence {
            session_id: member.session_id,
            user_id: member.user_id.clone(),
            username: member.username.clone(),
            index: member.index.into(),
            connected: member.connected,
            reason: member.reason.clone(),
        });
        Event::State(Box::new(v1::RoomState {
            handle: info.handle.into(),
            room_id: info.room_id.clone(),
            module: info.module.clone(),
            label: info.label.clone(),
            tick_rate: info.tick_rate,
            tick: info.tick,
            server_time_ms: info.server_time_ms,
            max_players: info.max_players,
            presences: presences.collect(),
            lost,
        }))
    }
}
