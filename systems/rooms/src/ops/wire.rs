//! The binary forms of the operations on rooms: payloads of the protocol become requests, and replies payloads.

use kaos_kernel::op::{ParseWire, Payload, WireForm};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_wire::prost::Message as _;
use kaos_wire::{ClientMessage, Opcode, decode_client, v1};
use serde_json::Value as Json;

use crate::ops::Named;
use crate::ops::create::{Create, Created};
use crate::ops::join::{Join, Joined};

pub(crate) fn form(
    request: Opcode,
    reply: Opcode,
    parse: ParseWire,
    render: fn(u32, &dyn Payload) -> Result<Vec<u8>, Fault>,
) -> WireForm {
    WireForm { channel: Channel::Data, opcode: request as u8, reply_opcode: reply as u8, parse, render }
}

/// Reads a payload with all checks of the wire.
pub(crate) fn read(op: Opcode, payload: &[u8]) -> Result<ClientMessage<'_>, Fault> {
    decode_client(op as u8, payload).map_err(|error| Fault::invalid(error.to_string()))
}

fn parse_json(text: &str, field: &str) -> Result<Json, Fault> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_str(text).map_err(|error| Fault::invalid(format!("{field} is not JSON: {error}")))
}

/// A label on the wire: JSON when it begins like an object, text otherwise.
fn parse_label(text: String) -> Result<Json, Fault> {
    if text.trim_start().starts_with('{') { parse_json(&text, "label") } else { Ok(Json::String(text)) }
}

fn wrong_parser() -> Fault {
    Fault::internal("a payload reached the wrong parser")
}

pub(crate) fn parse_create(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomCreate(m) = read(Opcode::RoomCreate, payload)? else { return Err(wrong_parser()) };
    let params = parse_json(&m.params, "params")?;
    let label = parse_label(m.label)?;
    let create = Create { module: m.module, params, label, max_players: m.max_players, room_id: None };
    Ok((m.cid, Box::new(create)))
}

pub(crate) fn render_created(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let created = reply.as_type::<Created>()?;
    Ok(v1::RoomCreated { cid, room_id: created.room_id.to_string() }.encode_to_vec())
}

pub(crate) fn parse_join(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomJoin(m) = read(Opcode::RoomJoin, payload)? else { return Err(wrong_parser()) };
    let room_id = parse_room_id(&m.room_id)?;
    let params = parse_json(&m.params, "params")?;
    let metadata = parse_json(&m.metadata, "metadata")?;
    let join =
        Join { room_id, module: m.module, params, metadata, label: m.label, max_players: m.max_players };
    Ok((m.cid, Box::new(join)))
}

fn parse_room_id(text: &str) -> Result<Option<RoomId>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Fault::invalid(format!("room_id: {error}")))
}

pub(crate) fn render_joined(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let joined = reply.as_type::<Joined>()?;
    let message = v1::RoomJoined {
        cid,
        room_id: joined.room_id.to_string(),
        handle: joined.handle.into(),
        index: joined.index.into(),
        created: joined.created,
    };
    Ok(message.encode_to_vec())
}

pub(crate) fn parse_leave(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomLeave(m) = read(Opcode::RoomLeave, payload)? else { return Err(wrong_parser()) };
    let room_id = parse_room_id(&m.room_id)?.ok_or_else(|| Fault::invalid("room_id is missing"))?;
    Ok((m.cid, Box::new(Named { room_id })))
}

pub(crate) fn render_left(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let left = reply.as_type::<Named>()?;
    Ok(v1::RoomLeft { cid, room_id: left.room_id.to_string() }.encode_to_vec())
}
