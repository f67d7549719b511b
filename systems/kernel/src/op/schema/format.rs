//! The text formats of ids.

use serde_json::Value as Json;

use crate::ids::{RoomId, SessionId};

/// The format of an id's text, from `format` in its schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Uuid,
    SessionId,
}

impl Format {
    /// The format of a schema. `None` for any other text: the type that reads it decides.
    pub(super) fn of(schema: &Json) -> Option<Self> {
        match schema.get("format")?.as_str()? {
            "uuid" => Some(Format::Uuid),
            "session-id" => Some(Format::SessionId),
            _ => None,
        }
    }

    /// Whether the text has this format.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Format::Uuid => text.parse::<RoomId>().is_ok(),
            Format::SessionId => text.parse::<SessionId>().is_ok(),
        }
    }

    /// The format in words, for a refusal.
    pub(super) fn words(self) -> &'static str {
        match self {
            Format::Uuid => "a UUID in its 36-character form",
            Format::SessionId => "a session id of 16 hexadecimal digits",
        }
    }
}
