//! What can be wrong with bytes that claim to be KaosNet messages.

use thiserror::Error;

use crate::limits::UNRELIABLE_DATA_MAX;

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end inside a header or a payload. Messages before it were whole.
    #[error("a message is cut off: {have} bytes are there, it needs {need}")]
    Truncated {
        /// Bytes that the message needs, with its header.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// The payload does not fit into one message; nothing was written.
    #[error("a payload of {bytes} bytes is too long: one message carries at most 65535")]
    TooLong {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// No message has this opcode.
    #[error("opcode {op:#04x} is unknown")]
    UnknownOp {
        /// The opcode.
        op: u8,
    },
    /// The opcode is known, but this side does not receive it.
    #[error("opcode {op:#04x} does not travel in this direction")]
    WrongWay {
        /// The opcode.
        op: u8,
    },
    /// The payload is not what the opcode asks for.
    #[error("the payload of opcode {op:#04x} cannot be read: {source}")]
    Payload {
        /// The opcode.
        op: u8,
        /// What the protobuf decoder says.
        source: prost::DecodeError,
    },
    /// RoomData is shorter than its own header of 5 bytes.
    #[error("room data of {bytes} bytes is shorter than its header of 5")]
    ShortRoomData {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// RoomDataUnreliable with more data than a datagram holds; nothing was written.
    #[error(
        "unreliable room data of {bytes} bytes is too long: at most {UNRELIABLE_DATA_MAX} fit into a datagram, send it reliably"
    )]
    UnreliableTooLong {
        /// Bytes of data.
        bytes: usize,
    },
    /// The payload was read, but a field is outside its limits (see [`limits`](crate::limits)).
    #[error("field `{field}` of opcode {op:#04x}: {problem}")]
    Field {
        /// The opcode.
        op: u8,
        /// The id of the request, for the answer; 0 when it has none.
        cid: u32,
        /// The name of the field in the .proto.
        field: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl WireError {
    /// The id of the refused request, for the answer: 0 when it has none or it could not be read.
    #[must_use]
    pub fn cid(&self) -> u32 {
        match self {
            Self::Field { cid, .. } => *cid,
            _ => 0,
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// It must be given.
    #[error("it is missing")]
    Missing,
    /// It or another field must be given.
    #[error("it is missing, and so is `{other}`: give one of them")]
    Neither {
        /// The other field.
        other: &'static str,
    },
    /// It is given together with a field that excludes it.
    #[error("`{other}` is given too: give one of them")]
    Both {
        /// The other field.
        other: &'static str,
    },
    /// It has too many bytes or entries.
    #[error("{is} is over the limit of {max}")]
    Over {
        /// What was sent: bytes of a text, entries of a list, or the number itself.
        is: u64,
        /// The highest that is allowed.
        max: u64,
    },
    /// It has the wrong number of bytes.
    #[error("it has {is} bytes, not {want}")]
    Size {
        /// Bytes that were sent.
        is: usize,
        /// Bytes that it must have.
        want: usize,
    },
    /// It is not a UUID in its form of 36 characters.
    #[error("it is not a UUID such as 6f1c2d3e-0000-4000-8000-000000000001")]
    NotUuid,
    /// It is not a name of lower-case letters, digits, dots and underscores.
    #[error("it is not a name such as guestbook.signed: lower-case letters, digits, dots and underscores")]
    NotName,
}
