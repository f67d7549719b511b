//! The messages of the protocol, one row each: opcodes, channels, decoding and request ids are made from the rows.
//!
//! A new message is a row here, a message in assets/proto/kaosnet.proto, an `impl Check` in check.rs, and a row on
//! assets/proto/README.md, which the tests compare with this table.

use std::fmt;

use crate::{error::WireError, payload::read, room_data::RoomData, v1};

/// The channel of the transport. A WebSocket has one stream for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Reliable and ordered: sessions, heartbeats, rpcs, calls, and the events of features.
    Control = 0,
    /// Reliable and ordered: rooms.
    Data = 1,
    /// Unreliable and sequenced: the newest wins, older ones are dropped.
    Unreliable = 2,
}

/// The channel in which a row's messages are counted for resume.
macro_rules! counted {
    (counted, $channel:ident) => {
        Some(Channel::$channel)
    };
    (uncounted, $channel:ident) => {
        None
    };
}

/// A row: `Name = number, Channel counted|uncounted { client Variant(Payload, id) server Variant(Payload, id) }`.
///
/// `client` is what a client sends under the number, `server` what a server sends; a row has one of them or both. The
/// id is the field that names the request, where there is one.
macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $channel:ident $counting:ident {
            $(client $client:ident($client_payload:ty $(, $client_id:ident)?))?
            $(server $server:ident($server_payload:ty $(, $server_id:ident)?))?
        }
    )*) => {
        /// An opcode. One number serves a request and its answer, which travel in opposite directions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Opcode {
            $($(#[$doc])* $name = $number,)*
        }

        impl Opcode {
            /// All opcodes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The opcode with this number, if there is one.
            #[must_use]
            pub const fn from_u8(op: u8) -> Option<Self> {
                match op {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name, for logs and metrics. A request and its answer share it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The channel of the transport that it travels on.
            #[must_use]
            pub const fn channel(self) -> Channel {
                match self {
                    $(Self::$name => Channel::$channel,)*
                }
            }

            /// The channel in which it is counted, so that a resumed session can send again what was lost: control or
            /// data. `None` for what is never sent again.
            #[must_use]
            pub const fn counted(self) -> Option<Channel> {
                match self {
                    $(Self::$name => counted!($counting, $channel),)*
                }
            }
        }

        /// What a client may send.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ClientMessage<'a> {
            $($(#[doc = concat!("Opcode ", stringify!($number), ".")] $client($client_payload),)?)*
        }

        impl ClientMessage<'_> {
            /// The id of the request; 0 for what is no request.
            #[must_use]
            pub fn cid(&self) -> u32 {
                match self {
                    $($(Self::$client(_message) => 0 $(+ _message.$client_id)?,)?)*
                }
            }
        }

        /// What a server may send.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ServerMessage<'a> {
            $($(#[doc = concat!("Opcode ", stringify!($number), ".")] $server($server_payload),)?)*
        }

        impl ServerMessage<'_> {
            /// The id of the request that it answers; 0 when it answers none.
            #[must_use]
            pub fn cid(&self) -> u32 {
                match self {
                    $($(Self::$server(_message) => 0 $(+ _message.$server_id)?,)?)*
                }
            }
        }

        /// Reads and checks one payload that came from a client.
        ///
        /// # Errors
        /// Every variant of [`WireError`] but `Truncated` and `TooLong`. [`WireError::cid`] names the request for the
        /// answer, which travels as [`refusal`](crate::refusal) says.
        pub fn decode_client<'a>(op: u8, payload: &'a [u8]) -> Result<ClientMessage<'a>, WireError> {
            match op {
                $($($number => read(op, payload, |_message: &$client_payload| 0 $(+ _message.$client_id)?)
                    .map(ClientMessage::$client),)?)*
                _ => Err(not_received(op)),
            }
        }

        /// Reads and checks one payload that came from a server.
        ///
        /// # Errors
        /// As [`decode_client`].
        pub fn decode_server<'a>(op: u8, payload: &'a [u8]) -> Result<ServerMessage<'a>, WireError> {
            match op {
                $($($number => read(op, payload, |_message: &$server_payload| 0 $(+ _message.$server_id)?)
                    .map(ServerMessage::$server),)?)*
                _ => Err(not_received(op)),
            }
        }
    };
}

messages! {
    /// SessionStart, and SessionStarted back.
    SessionStart = 0x01, Control uncounted {
        client SessionStart(Box<v1::SessionStart>)
        server SessionStarted(Box<v1::SessionStarted>)
    }
    /// SessionEnd, both ways; the connection closes after it.
    SessionEnd = 0x02, Control uncounted {
        client SessionEnd(v1::SessionEnd)
        server SessionEnd(v1::SessionEnd)
    }
    /// Heartbeat, both ways.
    Heartbeat = 0x03, Control uncounted {
        client Heartbeat(v1::Heartbeat)
        server Heartbeat(v1::Heartbeat)
    }
    /// RoomCreate, and RoomCreated back.
    RoomCreate = 0x10, Data counted {
        client RoomCreate(v1::RoomCreate, cid)
        server RoomCreated(v1::RoomCreated, cid)
    }
    /// RoomJoin, and RoomJoined back.
    RoomJoin = 0x11, Data counted {
        client RoomJoin(v1::RoomJoin, cid)
        server RoomJoined(v1::RoomJoined, cid)
    }
    /// RoomLeave, and RoomLeft back.
    RoomLeave = 0x12, Data counted {
        client RoomLeave(v1::RoomLeave, cid)
        server RoomLeft(v1::RoomLeft, cid)
    }
    /// RoomData, both ways, reliable and ordered. Raw, not protobuf.
    RoomData = 0x13, Data counted {
        client RoomData(RoomData<'a>)
        server RoomData(RoomData<'a>)
    }
    /// RoomState, from the server.
    RoomState = 0x14, Data counted {
        server RoomState(v1::RoomState)
    }
    /// RoomEvent, from the server.
    RoomEvent = 0x15, Data counted {
        server RoomEvent(v1::RoomEvent)
    }
    /// RoomData, both ways, unreliable. Raw, not protobuf.
    RoomDataUnreliable = 0x16, Unreliable uncounted {
        client RoomDataUnreliable(RoomData<'a>)
        server RoomDataUnreliable(RoomData<'a>)
    }
    /// Error, from the server: a room request was refused.
    RoomError = 0x17, Data counted {
        server RoomError(v1::Error, cid)
    }
    /// Rpc, from the client.
    Rpc = 0x20, Control counted {
        client Rpc(v1::Rpc, cid)
    }
    /// RpcResponse, from the server.
    RpcResponse = 0x21, Control counted {
        server RpcResponse(v1::RpcResponse, cid)
    }
    /// Call, and CallReply back.
    Call = 0x30, Control counted {
        client Call(v1::Call, cid)
        server CallReply(v1::CallReply, cid)
    }
    /// Error, from the server: anything else was refused.
    Error = 0x31, Control counted {
        server Error(v1::Error, cid)
    }
    /// Event, from the server, reliable and ordered: a feature says something, by the event's name.
    Event = 0x32, Control counted {
        server Event(v1::Event)
    }
    /// Event, from the server, unreliable.
    EventUnreliable = 0x33, Unreliable uncounted {
        server EventUnreliable(v1::Event)
    }
}

/// Why a side does not read an opcode: it travels the other way only, or nobody knows it.
fn not_received(op: u8) -> WireError {
    match Opcode::from_u8(op) {
        Some(_) => WireError::WrongWay { op },
        None => WireError::UnknownOp { op },
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Opcode> for u8 {
    fn from(op: Opcode) -> Self {
        op as Self
    }
}

/// The channel in which a message with this opcode is counted, by its number alone: a message whose payload
/// cannot be read, or that travels the wrong way, is counted too. `None` for unknown numbers.
#[must_use]
pub const fn counted(op: u8) -> Option<Channel> {
    match Opcode::from_u8(op) {
        Some(op) => op.counted(),
        None => None,
    }
}

/// The opcode of the Error that answers a refused message, so that the answer keeps its place among the others
/// of its channel: [`Opcode::RoomError`] for 0x10 to 0x1f, [`Opcode::Error`] for everything else.
#[must_use]
pub const fn refusal(op: u8) -> Opcode {
    if op & 0xf0 == 0x10 { Opcode::RoomError } else { Opcode::Error }
}
