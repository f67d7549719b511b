//! The two entries for bytes from strangers: an opcode and a payload become a typed, checked message.

use prost::Message;

use crate::{check::Check, error::WireError, op::Op, room_data::RoomData, v1};

/// What a client may send.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage<'a> {
    /// 0x01
    SessionStart(Box<v1::SessionStart>),
    /// 0x02
    SessionEnd(v1::SessionEnd),
    /// 0x03
    Heartbeat(v1::Heartbeat),
    /// 0x10
    RoomCreate(v1::RoomCreate),
    /// 0x11
    RoomJoin(v1::RoomJoin),
    /// 0x12
    RoomLeave(v1::RoomLeave),
    /// 0x13, or 0x16 when not reliable
    RoomData {
        /// Whether it came as 0x13.
        reliable: bool,
        /// Handle, recipient, op and data.
        data: RoomData<'a>,
    },
    /// 0x20
    Rpc(v1::Rpc),
    /// 0x30
    Call(v1::Call),
}

/// What a server may send.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage<'a> {
    /// 0x01
    SessionStarted(Box<v1::SessionStarted>),
    /// 0x02
    SessionEnd(v1::SessionEnd),
    /// 0x03
    Heartbeat(v1::Heartbeat),
    /// 0x10
    RoomCreated(v1::RoomCreated),
    /// 0x11
    RoomJoined(v1::RoomJoined),
    /// 0x12
    RoomLeft(v1::RoomLeft),
    /// 0x13, or 0x16 when not reliable
    RoomData {
        /// Whether it came as 0x13.
        reliable: bool,
        /// Handle, sender, op and data.
        data: RoomData<'a>,
    },
    /// 0x14
    RoomState(v1::RoomState),
    /// 0x15
    RoomEvent(v1::RoomEvent),
    /// 0x21
    RpcResponse(v1::RpcResponse),
    /// 0x30
    CallReply(v1::CallReply),
    /// 0x31, or 0x17 when a room request was refused
    Error(v1::Error),
    /// 0x32, or 0x33 when not reliable
    Event(v1::Event),
}

/// Reads and checks one payload that came from a client.
///
/// # Errors
/// Every variant of [`WireError`] but `Truncated` and `TooLong`. [`WireError::cid`] names the request for the
/// answer, which travels as [`refusal`](crate::refusal) says.
pub fn decode_client(op: u8, payload: &[u8]) -> Result<ClientMessage<'_>, WireError> {
    Ok(match Op::from_u8(op).ok_or(WireError::UnknownOp { op })? {
        Op::SessionStart => ClientMessage::SessionStart(Box::new(read(op, payload)?)),
        Op::SessionEnd => ClientMessage::SessionEnd(read(op, payload)?),
        Op::Heartbeat => ClientMessage::Heartbeat(read(op, payload)?),
        Op::RoomCreate => ClientMessage::RoomCreate(read(op, payload)?),
        Op::RoomJoin => ClientMessage::RoomJoin(read(op, payload)?),
        Op::RoomLeave => ClientMessage::RoomLeave(read(op, payload)?),
        Op::RoomData => ClientMessage::RoomData { reliable: true, data: RoomData::decode(true, payload)? },
        Op::RoomDataUnreliable => {
            ClientMessage::RoomData { reliable: false, data: RoomData::decode(false, payload)? }
        }
        Op::Rpc => ClientMessage::Rpc(read(op, payload)?),
        Op::Call => ClientMessage::Call(read(op, payload)?),
        Op::RoomState
        | Op::RoomEvent
        | Op::RoomError
        | Op::RpcResponse
        | Op::Error
        | Op::Event
        | Op::EventUnreliable => {
            return Err(WireError::WrongWay { op });
        }
    })
}

/// Reads and checks one payload that came from a server.
///
/// # Errors
/// As [`decode_client`].
pub fn decode_server(op: u8, payload: &[u8]) -> Result<ServerMessage<'_>, WireError> {
    Ok(match Op::from_u8(op).ok_or(WireError::UnknownOp { op })? {
        Op::SessionStart => ServerMessage::SessionStarted(Box::new(read(op, payload)?)),
        Op::SessionEnd => ServerMessage::SessionEnd(read(op, payload)?),
        Op::Heartbeat => ServerMessage::Heartbeat(read(op, payload)?),
        Op::RoomCreate => ServerMessage::RoomCreated(read(op, payload)?),
        Op::RoomJoin => ServerMessage::RoomJoined(read(op, payload)?),
        Op::RoomLeave => ServerMessage::RoomLeft(read(op, payload)?),
        Op::RoomData => ServerMessage::RoomData { reliable: true, data: RoomData::decode(true, payload)? },
        Op::RoomDataUnreliable => {
            ServerMessage::RoomData { reliable: false, data: RoomData::decode(false, payload)? }
        }
        Op::RoomState => ServerMessage::RoomState(read(op, payload)?),
        Op::RoomEvent => ServerMessage::RoomEvent(read(op, payload)?),
        Op::RpcResponse => ServerMessage::RpcResponse(read(op, payload)?),
        Op::Call => ServerMessage::CallReply(read(op, payload)?),
        Op::RoomError | Op::Error => ServerMessage::Error(read(op, payload)?),
        Op::Event | Op::EventUnreliable => ServerMessage::Event(read(op, payload)?),
        Op::Rpc => return Err(WireError::WrongWay { op }),
    })
}

fn read<M: Message + Default + Check>(op: u8, payload: &[u8]) -> Result<M, WireError> {
    let message = M::decode(payload).map_err(|source| WireError::Payload { op, source })?;
    message.check().map_err(|(field, problem)| WireError::Field {
        op,
        cid: message.cid(),
        field,
        problem,
    })?;
    Ok(message)
}
