//! The messages of the protocol, one row each. Opcodes (opcode.rs) and decoding (decode.rs) are made from the rows.
//!
//! A new message is a row here, a message in assets/proto/kaosnet.proto, an `impl Check` in check.rs, and a row on
//! assets/proto/README.md, which the tests compare with this table.

/// Hands all rows to the macro `$make`.
///
/// A row is `Name = number, Channel counted|uncounted { client Variant(Payload, id) server Variant(Payload, id) }`.
///
/// `client` is what a client sends under the number, `server` what a server sends; a row has one of them or both. The
/// id is the field that names the request, where there is one.
macro_rules! messages {
    ($make:ident) => {
        $make! {
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
    };
}

pub(crate) use messages;
