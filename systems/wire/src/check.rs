//! The limits of every payload, field by field.

use crate::{
    error::Problem,
    limits::{
        ANONYMOUS_MAX, CLIENT_MAX, EVENT_NAME_MAX, LABEL_MAX, MESSAGE_MAX, METADATA_MAX, MODULE_MAX,
        NAME_MAX, PARAMS_MAX, PLAYERS_MAX, PRESENCES_MAX, REASON_MAX, RESUME_TOKEN, ROOM_ID, TICK_RATE_MAX,
        TOKEN_MAX, USER_MAX, VARS_BYTES_MAX, VARS_MAX,
    },
    v1,
};

pub(crate) type Checked = Result<(), (&'static str, Problem)>;

/// A decoded payload whose fields have limits.
pub(crate) trait Check {
    /// The first field that breaks its limits.
    fn check(&self) -> Checked;
}

fn over(field: &'static str, is: u64, max: u64) -> Checked {
    if is > max { Err((field, Problem::Over { is, max })) } else { Ok(()) }
}

fn text(field: &'static str, value: &str, max: usize) -> Checked {
    over(field, value.len() as u64, max as u64)
}

fn name(field: &'static str, value: &str, max: usize) -> Checked {
    if value.is_empty() { Err((field, Problem::Missing)) } else { text(field, value, max) }
}

fn dotted(field: &'static str, value: &str) -> Checked {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_');
    if value.bytes().all(good) { Ok(()) } else { Err((field, Problem::NotName)) }
}

fn token(field: &'static str, value: &[u8]) -> Checked {
    match value.len() {
        RESUME_TOKEN => Ok(()),
        is => Err((field, Problem::Size { is, want: RESUME_TOKEN })),
    }
}

fn u16_number(field: &'static str, value: u32) -> Checked {
    over(field, value.into(), u16::MAX.into())
}

fn room_id(value: &str) -> Checked {
    let good = value.len() == ROOM_ID
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    match (value.is_empty(), good) {
        (true, _) => Err(("room_id", Problem::Missing)),
        (false, false) => Err(("room_id", Problem::NotUuid)),
        (false, true) => Ok(()),
    }
}

fn presences(field: &'static str, list: &[v1::Presence]) -> Checked {
    over(field, list.len() as u64, PRESENCES_MAX as u64)?;
    list.iter().try_for_each(|presence| {
        text("user_id", &presence.user_id, USER_MAX)?;
        text("username", &presence.username, USER_MAX)?;
        // 65535 is the server and no member.
        over("index", presence.index.into(), u64::from(u16::MAX) - 1)?;
        text("reason", &presence.reason, REASON_MAX)
    })
}

/// A large payload, so that the enums of all messages stay small.
impl<M: Check> Check for Box<M> {
    fn check(&self) -> Checked {
        (**self).check()
    }
}

impl Check for v1::SessionStart {
    fn check(&self) -> Checked {
        use v1::session_start::Credentials;
        text("client", &self.client, CLIENT_MAX)?;
        over("vars", self.vars.len() as u64, VARS_MAX as u64)?;
        let bytes: usize = self.vars.iter().map(|(key, value)| key.len() + value.len()).sum();
        over("vars", bytes as u64, VARS_BYTES_MAX as u64)?;
        match &self.credentials {
            None => Err(("credentials", Problem::Missing)),
            Some(Credentials::Token(value)) => name("token", value, TOKEN_MAX),
            Some(Credentials::Anonymous(value)) => name("anonymous", value, ANONYMOUS_MAX),
            Some(Credentials::Resume(resume)) => token("token", &resume.token),
        }
    }
}

impl Check for v1::SessionStarted {
    fn check(&self) -> Checked {
        text("user_id", &self.user_id, USER_MAX)?;
        text("username", &self.username, USER_MAX)?;
        text("node", &self.node, NAME_MAX)?;
        token("resume_token", &self.resume_token)
    }
}

impl Check for v1::SessionEnd {
    fn check(&self) -> Checked {
        text("reason", &self.reason, REASON_MAX)?;
        text("message", &self.message, MESSAGE_MAX)
    }
}

impl Check for v1::Heartbeat {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for v1::RoomCreate {
    fn check(&self) -> Checked {
        text("module", &self.module, MODULE_MAX)?;
        text("params", &self.params, PARAMS_MAX)?;
        text("label", &self.label, LABEL_MAX)?;
        over("max_players", self.max_players.into(), PLAYERS_MAX.into())
    }
}

impl Check for v1::RoomCreated {
    fn check(&self) -> Checked {
        room_id(&self.room_id)
    }
}

impl Check for v1::RoomJoin {
    fn check(&self) -> Checked {
        // A room is named by its id or looked for by its module; with both nobody knows which one was meant.
        match (self.room_id.is_empty(), self.module.is_empty()) {
            (true, true) => return Err(("room_id", Problem::Neither { other: "module" })),
            (false, false) => return Err(("room_id", Problem::Both { other: "module" })),
            (false, true) => room_id(&self.room_id)?,
            (true, false) => {}
        }
        text("module", &self.module, MODULE_MAX)?;
        text("params", &self.params, PARAMS_MAX)?;
        text("metadata", &self.metadata, METADATA_MAX)?;
        text("label", &self.label, LABEL_MAX)?;
        over("max_players", self.max_players.into(), PLAYERS_MAX.into())
    }
}

impl Check for v1::RoomJoined {
    fn check(&self) -> Checked {
        room_id(&self.room_id)?;
        u16_number("handle", self.handle)?;
        over("index", self.index.into(), u64::from(u16::MAX) - 1)
    }
}

impl Check for v1::RoomLeave {
    fn check(&self) -> Checked {
        room_id(&self.room_id)
    }
}

impl Check for v1::RoomLeft {
    fn check(&self) -> Checked {
        room_id(&self.room_id)
    }
}

impl Check for v1::RoomState {
    fn check(&self) -> Checked {
        u16_number("handle", self.handle)?;
        room_id(&self.room_id)?;
        text("module", &self.module, MODULE_MAX)?;
        text("label", &self.label, LABEL_MAX)?;
        over("tick_rate", self.tick_rate.into(), TICK_RATE_MAX.into())?;
        presences("presences", &self.presences)
    }
}

impl Check for v1::RoomEvent {
    fn check(&self) -> Checked {
        use v1::room_event::Event;
        u16_number("handle", self.handle)?;
        match &self.event {
            // A later version may add events; an unknown one is skipped, as protobuf skips unknown fields.
            None => Ok(()),
            Some(Event::Joined(list)) => presences("joined", &list.presences),
            Some(Event::Left(list)) => presences("left", &list.presences),
            Some(Event::Changed(list)) => presences("changed", &list.presences),
            Some(Event::Label(label)) => text("label", label, LABEL_MAX),
            Some(Event::Closed(closed)) => {
                text("reason", &closed.reason, REASON_MAX)?;
                text("message", &closed.message, MESSAGE_MAX)
            }
        }
    }
}

impl Check for v1::Rpc {
    fn check(&self) -> Checked {
        name("id", &self.id, NAME_MAX)
    }
}

impl Check for v1::RpcResponse {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for v1::Call {
    fn check(&self) -> Checked {
        name("op", &self.op, NAME_MAX)
    }
}

impl Check for v1::CallReply {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for v1::Error {
    fn check(&self) -> Checked {
        text("name", &self.name, REASON_MAX)?;
        text("message", &self.message, MESSAGE_MAX)
    }
}

impl Check for v1::Event {
    fn check(&self) -> Checked {
        name("name", &self.name, EVENT_NAME_MAX)?;
        dotted("name", &self.name)
    }
}
