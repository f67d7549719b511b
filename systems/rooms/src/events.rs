//! What rooms tell their members by themselves: rows of the event table. They are told often and to many, so each has a
//! binary form, and clients hear them in the room and not by name.

use std::borrow::Cow;

use kaos_kernel::event::EventForm;
use kaos_kernel::op::Payload;
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_wire::limits::{LABEL_MAX, MESSAGE_MAX, PRESENCES_MAX, REASON_MAX, cut};
use kaos_wire::prost::Message as _;
use kaos_wire::v1::room_event::{self, Event as Wire};
use kaos_wire::{Opcode, v1};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::label::{LabelSchema, label_text};

/// Registers the events of this file.
pub(crate) fn register(app: &mut App) {
    let form = |opcode: Opcode, render| EventForm { opcode: opcode as u8, room: true, render };
    let state = form(Opcode::RoomState, render_state);
    app.event::<RoomState>(Event::new("room.state").about("A room as a whole.").form(Channel::Data, state));
    let event = |name: &str, about, render| {
        Event::new(name).about(about).form(Channel::Data, form(Opcode::RoomEvent, render))
    };
    app.event::<MembersJoined>(event("room.joined", "Members came.", render_joined))
        .event::<MembersLeft>(event("room.left", "Members went; each says why.", render_left))
        .event::<MembersChanged>(event(
            "room.connections_changed",
            "Members lost their connection, or have it again.",
            render_changed,
        ))
        .event::<LabelChanged>(event("room.label_changed", "The room has another label.", render_label))
        .event::<RoomClosed>(event("room.closed", "The room is over for this session.", render_closed));
}

/// A room as a whole: for whoever joins, and whoever lost some of its data.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RoomState {
    /// The room.
    pub(crate) room_id: RoomId,
    /// Its match module; empty: relayed.
    pub(crate) module: String,
    /// Its label.
    #[schemars(with = "LabelSchema")]
    pub(crate) label: Json,
    /// Ticks a second; 0: relayed.
    pub(crate) tick_rate: u8,
    /// The last tick.
    pub(crate) tick: u64,
    /// Unix time of the frame, in milliseconds.
    pub(crate) server_time_ms: u64,
    /// Seats.
    pub(crate) max_players: u32,
    /// Who is there, in the order of joining: at most [`PRESENCES_MAX`]. Others follow in [`MembersJoined`].
    pub(crate) presences: Vec<PresenceInfo>,
    /// Reliable room data that was lost before this, in messages.
    pub(crate) lost: u64,
}

/// These came. At most [`PRESENCES_MAX`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MembersJoined(pub(crate) Vec<PresenceInfo>);

/// These went; each says why. At most [`PRESENCES_MAX`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MembersLeft(pub(crate) Vec<PresenceInfo>);

/// These lost their connection, or have it again. At most [`PRESENCES_MAX`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MembersChanged(pub(crate) Vec<PresenceInfo>);

/// The room has this label now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LabelChanged(#[schemars(with = "LabelSchema")] pub(crate) Json);

/// Why a room is over: for all of its members, or for the one that is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomClosed {
    /// The number of a fault; 0: all is well.
    pub code: u16,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl RoomClosed {
    /// It is over, and nothing is wrong: `ended`, `empty`.
    pub fn well(reason: &str, message: impl Into<String>) -> Self {
        RoomClosed { code: 0, reason: reason.to_owned(), message: message.into() }
    }

    /// It is over for a fault, which names the reason.
    pub fn fault(fault: impl Into<Fault>) -> Self {
        let Fault { kind, message, .. } = fault.into();
        RoomClosed { code: kind.code(), reason: kind.name().to_owned(), message: message.into_owned() }
    }

    /// It is over for what its match did; the reason is the word for that.
    pub fn script(reason: &str, message: impl Into<String>) -> Self {
        let code = FaultKind::Script.code();
        RoomClosed { code, reason: reason.to_owned(), message: message.into() }
    }
}

fn render_state(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let RoomState { room_id, module, label, tick_rate, tick, server_time_ms, max_players, presences, lost } =
        body.as_type()?;
    let state = v1::RoomState {
        // Each recipient's own name for the room; it stands in the head.
        handle: 0,
        room_id: room_id.to_string(),
        module: module.clone(),
        label: wire_label(label)?.into_owned(),
        tick_rate: (*tick_rate).into(),
        tick: *tick,
        server_time_ms: *server_time_ms,
        max_players: *max_players,
        presences: wire_presences(presences)?,
        lost: *lost,
    };
    Ok(state.encode_to_vec())
}

fn render_joined(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let MembersJoined(presences) = body.as_type()?;
    Ok(room_event(Wire::Joined(list(presences)?)))
}

fn render_left(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let MembersLeft(presences) = body.as_type()?;
    Ok(room_event(Wire::Left(list(presences)?)))
}

fn render_changed(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let MembersChanged(presences) = body.as_type()?;
    Ok(room_event(Wire::Changed(list(presences)?)))
}

fn render_label(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let LabelChanged(label) = body.as_type()?;
    Ok(room_event(Wire::Label(wire_label(label)?.into_owned())))
}

fn render_closed(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let RoomClosed { code, reason, message } = body.as_type()?;
    Ok(room_event(Wire::Closed(room_event::RoomClosed {
        code: (*code).into(),
        reason: cut(reason, REASON_MAX).to_owned(),
        message: cut(message, MESSAGE_MAX).to_owned(),
    })))
}

fn room_event(event: Wire) -> Vec<u8> {
    v1::RoomEvent { handle: 0, event: Some(event) }.encode_to_vec()
}

fn list(members: &[PresenceInfo]) -> Result<room_event::Presences, Fault> {
    Ok(room_event::Presences { presences: wire_presences(members)? })
}

fn wire_presences(members: &[PresenceInfo]) -> Result<Vec<v1::Presence>, Fault> {
    if members.len() > PRESENCES_MAX {
        return Err(Fault::internal(format!(
            "{} presences do not fit into one message: it holds {PRESENCES_MAX}, send the others in further events",
            members.len()
        )));
    }
    let one = |member: &PresenceInfo| v1::Presence {
        session_id: member.session_id.0,
        user_id: member.user_id.clone(),
        username: member.username.clone(),
        index: member.index.into(),
        connected: member.connected,
        reason: member.reason.as_deref().map(|reason| cut(reason, REASON_MAX)).unwrap_or_default().to_owned(),
    };
    Ok(members.iter().map(one).collect())
}

/// A label is text as it stands, or JSON.
fn wire_label(label: &Json) -> Result<Cow<'_, str>, Fault> {
    let text = label_text(label);
    match text.len() {
        len if len <= LABEL_MAX => Ok(text),
        len => Err(Fault::invalid(format!("a label of {len} bytes is over the limit of {LABEL_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(index: u16) -> PresenceInfo {
        let reason = index.is_multiple_of(3).then(|| "left".to_owned());
        let (user_id, username) = (format!("user-{index}"), "ada".to_owned());
        PresenceInfo { session_id: SessionId(9), user_id, username, index, connected: true, reason }
    }

    fn event(render: fn(&dyn Payload) -> Result<Vec<u8>, Fault>, body: &dyn Payload) -> Wire {
        let bytes = render(body).expect("its own type");
        v1::RoomEvent::decode(&*bytes).expect("whole").event.expect("one")
    }

    #[test]
    fn each_event_says_on_the_wire_what_its_body_says() {
        let label = serde_json::json!({ "mode": "arena" });
        let state = RoomState {
            room_id: "6f1c2d3e-0000-4000-8000-000000000001".parse().expect("an id"),
            module: "arena".into(),
            label: label.clone(),
            tick_rate: 30,
            tick: 421,
            server_time_ms: 5,
            max_players: 10,
            presences: (0..128).map(member).collect(),
            lost: 3,
        };
        let state = v1::RoomState::decode(&*render_state(&state).expect("fits")).expect("whole");
        assert_eq!((state.handle, state.room_id.as_str()), (0, "6f1c2d3e-0000-4000-8000-000000000001"));
        assert_eq!((state.module.as_str(), state.server_time_ms), ("arena", 5));
        assert_eq!((state.tick_rate, state.tick, state.max_players, state.lost), (30, 421, 10, 3));
        assert_eq!(state.label, r#"{"mode":"arena"}"#);
        assert_eq!((state.presences.len(), state.presences[9].reason.as_str()), (128, "left"));

        let Wire::Joined(joined) = event(render_joined, &MembersJoined(vec![member(1)])) else { panic!() };
        let expected = v1::Presence {
            session_id: 9,
            user_id: "user-1".into(),
            username: "ada".into(),
            index: 1,
            connected: true,
            reason: String::new(),
        };
        assert_eq!(joined.presences, [expected]);
        let Wire::Left(left) = event(render_left, &MembersLeft(vec![member(9)])) else { panic!() };
        assert_eq!(left.presences[0].reason, "left");
        assert!(matches!(event(render_changed, &MembersChanged(vec![member(2)])), Wire::Changed(_)));
        assert_eq!(event(render_label, &LabelChanged(label)), Wire::Label(r#"{"mode":"arena"}"#.into()));
        let closed = RoomClosed { code: 15, reason: "é".repeat(40), message: "m".into() };
        let Wire::Closed(closed) = event(render_closed, &closed) else { panic!() };
        assert_eq!((closed.code, closed.reason, closed.message.as_str()), (15, "é".repeat(32), "m"));
    }

    #[test]
    fn what_does_not_fit_into_one_message_is_refused() {
        let crowd = MembersJoined((0..129).map(member).collect());
        assert!(render_joined(&crowd).expect_err("too many").message.contains("128"));
        let label = LabelChanged("x".repeat(LABEL_MAX + 1).into());
        assert_eq!(render_label(&label).expect_err("too long").kind, FaultKind::Invalid);
        assert_eq!(render_label(&crowd).expect_err("another type").kind, FaultKind::Internal);
    }
}
