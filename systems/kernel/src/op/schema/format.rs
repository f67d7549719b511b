//! Texts that have a form of their own: the ids.

use serde_json::Value as Json;

use crate::ids::{RoomId, SessionId};

/// The text of an id, by the `format` of its schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Uuid,
    SessionId,
}

impl Format {
    /// What it does not know is any text: the type that reads it decides.
    pub(super) fn of(schema: &Json) -> Option<Self> {
        match schema.get("format")?.as_str()? {
            "uuid" => Some(Format::Uuid),
            "session-id" => Some(Format::SessionId),
            _ => None,
        }
    }

    pub(super) fn holds(self, text: &str) -> bool {
        match self {
            Format::Uuid => text.parse::<RoomId>().is_ok(),
            Format::SessionId => text.parse::<SessionId>().is_ok(),
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Format::Uuid => "a UUID in its 36-character form",
            Format::SessionId => "a session id of 16 hexadecimal digits",
        }
    }
}
