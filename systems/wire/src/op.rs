//! The opcodes: their numbers, the channel that each travels on, and whether it is counted for resume.

use std::fmt;

/// The channel of the transport. A WebSocket has one stream for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Reliable and ordered: sessions, heartbeats, rpcs, calls.
    Control = 0,
    /// Reliable and ordered: rooms.
    Data = 1,
    /// Unreliable and sequenced: the newest wins, older ones are dropped.
    Unreliable = 2,
}

/// An opcode. One number serves a request and its answer, which travel in opposite directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Op {
    /// SessionStart, and SessionStarted back.
    SessionStart = 0x01,
    /// SessionEnd, both ways; the connection closes after it.
    SessionEnd = 0x02,
    /// Heartbeat, both ways.
    Heartbeat = 0x03,
    /// RoomCreate, and RoomCreated back.
    RoomCreate = 0x10,
    /// RoomJoin, and RoomJoined back.
    RoomJoin = 0x11,
    /// RoomLeave, and RoomLeft back.
    RoomLeave = 0x12,
    /// RoomData, both ways, reliable and ordered. Raw, not protobuf.
    RoomData = 0x13,
    /// RoomState, from the server.
    RoomState = 0x14,
    /// RoomEvent, from the server.
    RoomEvent = 0x15,
    /// RoomData, both ways, unreliable. Raw, not protobuf.
    RoomDataUnreliable = 0x16,
    /// Error, from the server: a room request was refused.
    RoomError = 0x17,
    /// Rpc, from the client.
    Rpc = 0x20,
    /// RpcResponse, from the server.
    RpcResponse = 0x21,
    /// Call, and CallReply back.
    Call = 0x30,
    /// Error, from the server: anything else was refused.
    Error = 0x31,
    /// Event, from the server, reliable and ordered: something that a feature tells by its name.
    Event = 0x32,
    /// Event, from the server, unreliable.
    EventUnreliable = 0x33,
}

impl Op {
    /// All opcodes, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::SessionStart,
        Self::SessionEnd,
        Self::Heartbeat,
        Self::RoomCreate,
        Self::RoomJoin,
        Self::RoomLeave,
        Self::RoomData,
        Self::RoomState,
        Self::RoomEvent,
        Self::RoomDataUnreliable,
        Self::RoomError,
        Self::Rpc,
        Self::RpcResponse,
        Self::Call,
        Self::Error,
        Self::Event,
        Self::EventUnreliable,
    ];

    /// The opcode with this number, if there is one.
    #[must_use]
    pub const fn from_u8(op: u8) -> Option<Self> {
        Some(match op {
            0x01 => Self::SessionStart,
            0x02 => Self::SessionEnd,
            0x03 => Self::Heartbeat,
            0x10 => Self::RoomCreate,
            0x11 => Self::RoomJoin,
            0x12 => Self::RoomLeave,
            0x13 => Self::RoomData,
            0x14 => Self::RoomState,
            0x15 => Self::RoomEvent,
            0x16 => Self::RoomDataUnreliable,
            0x17 => Self::RoomError,
            0x20 => Self::Rpc,
            0x21 => Self::RpcResponse,
            0x30 => Self::Call,
            0x31 => Self::Error,
            0x32 => Self::Event,
            0x33 => Self::EventUnreliable,
            _ => return None,
        })
    }

    /// The name, for logs and metrics. A request and its answer share it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionStart => "SessionStart",
            Self::SessionEnd => "SessionEnd",
            Self::Heartbeat => "Heartbeat",
            Self::RoomCreate => "RoomCreate",
            Self::RoomJoin => "RoomJoin",
            Self::RoomLeave => "RoomLeave",
            Self::RoomData => "RoomData",
            Self::RoomState => "RoomState",
            Self::RoomEvent => "RoomEvent",
            Self::RoomDataUnreliable => "RoomDataUnreliable",
            Self::RoomError => "RoomError",
            Self::Rpc => "Rpc",
            Self::RpcResponse => "RpcResponse",
            Self::Call => "Call",
            Self::Error => "Error",
            Self::Event => "Event",
            Self::EventUnreliable => "EventUnreliable",
        }
    }

    /// The channel in which it is counted, so that a resumed session can send again what was lost: control or data.
    /// `None` for what is never sent again.
    #[must_use]
    pub const fn counted(self) -> Option<Channel> {
        match self {
            Self::SessionStart
            | Self::SessionEnd
            | Self::Heartbeat
            | Self::RoomDataUnreliable
            | Self::EventUnreliable => None,
            Self::Rpc | Self::RpcResponse | Self::Call | Self::Error | Self::Event => Some(Channel::Control),
            Self::RoomCreate
            | Self::RoomJoin
            | Self::RoomLeave
            | Self::RoomData
            | Self::RoomState
            | Self::RoomEvent
            | Self::RoomError => Some(Channel::Data),
        }
    }

    /// The channel of the transport that it travels on.
    #[must_use]
    pub const fn channel(self) -> Channel {
        match self {
            Self::RoomDataUnreliable | Self::EventUnreliable => Channel::Unreliable,
            _ => match self.counted() {
                Some(channel) => channel,
                None => Channel::Control,
            },
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Op> for u8 {
    fn from(op: Op) -> Self {
        op as Self
    }
}

/// The channel in which a message with this opcode is counted, by its number alone: a message whose payload
/// cannot be read, or that travels the wrong way, is counted too. `None` for unknown numbers.
#[must_use]
pub const fn counted(op: u8) -> Option<Channel> {
    match Op::from_u8(op) {
        Some(op) => op.counted(),
        None => None,
    }
}

/// The opcode of the Error that answers a refused message, so that the answer keeps its place among the others
/// of its channel: [`Op::RoomError`] for 0x10 to 0x1f, [`Op::Error`] for everything else.
#[must_use]
pub const fn refusal(op: u8) -> Op {
    if op & 0xf0 == 0x10 { Op::RoomError } else { Op::Error }
}
