//! What the server says, as payloads of the protocol. The room handle is left to the head.

use bytes::Bytes;
use kaos_kernel::codec::{Encoded, Form, Outbound};
use kaos_kernel::event::Event;
use kaos_kernel::fault::Fault;
use kaos_kernel::input::Counts;
use kaos_kernel::op::{OpId, OpTable, Payload};
use kaos_kernel::output::{Channel, HeadKind};
use kaos_kernel::send::room_data;
use kaos_wire::limits::{MESSAGE_MAX, cut};
use kaos_wire::prost::Message;
use kaos_wire::{Opcode, PROTOCOL_MAX, v1};

use crate::kaos::codec::of_wire;

/// Writes the shared part of a message. Its length is not checked.
pub(crate) fn encode(message: &Outbound, ops: &OpTable) -> Result<Encoded, Fault> {
    match message {
        Outbound::Started { .. } => Ok(started(message)),
        Outbound::Ended(fault) => Ok(plain(Opcode::SessionEnd, &session_end(fault))),
        Outbound::Heartbeat { client_time_us, received, server_time_ms } => Ok(plain(
            Opcode::Heartbeat,
            &v1::Heartbeat {
                client_time_us: *client_time_us,
                received: Some(counts(*received)),
                server_time_ms: *server_time_ms,
                rtt_us: 0,
            },
        )),
        Outbound::Answer { cid, op, form, result } => match result {
            Ok(reply) => answer(*cid, *op, *form, &**reply, ops),
            Err(fault) => Ok(refusal(*cid, form.channel(ops, *op), fault)),
        },
        Outbound::Refusal { cid, channel, fault } => Ok(refusal(*cid, *channel, fault)),
        Outbound::Data { sender, op, data, reliable } => {
            let (opcode, channel) = match reliable {
                true => (Opcode::RoomData, Channel::Data),
                false => (Opcode::RoomDataUnreliable, Channel::Unreliable),
            };
            Ok(room_data(opcode as u8, Some(*sender), *op, data.clone(), channel))
        }
        Outbound::Event { row, body } => event(&row.event, &**body),
    }
}

/// The SessionEnd that says why: also sent by doors themselves, before there is a session.
pub(crate) fn session_end(fault: &Fault) -> v1::SessionEnd {
    v1::SessionEnd {
        code: fault.kind.code().into(),
        reason: fault.kind.name().to_owned(),
        message: cut(&fault.message, MESSAGE_MAX).to_owned(),
    }
}

fn plain(op: Opcode, payload: &impl Message) -> Encoded {
    of(op, HeadKind::Plain, payload.encode_to_vec().into())
}

/// Channel and counting follow from the opcode alone, as at the other end.
fn of(op: Opcode, head: HeadKind, body: Bytes) -> Encoded {
    let counted = op.counted().is_some();
    Encoded { op: op as u8, channel: of_wire(op.channel()), counted, head, body }
}

fn counts(counts: Counts) -> v1::Counts {
    v1::Counts { control: counts.control, data: counts.data }
}

fn started(message: &Outbound) -> Encoded {
    let Outbound::Started {
        session,
        user_id,
        username,
        resume_token,
        resumed,
        received,
        base,
        lost,
        heartbeat_ms,
        seat_ms,
        server_time_ms,
        node,
    } = message
    else {
        return plain(Opcode::SessionStart, &v1::SessionStarted::default());
    };
    let payload = v1::SessionStarted {
        protocol: PROTOCOL_MAX,
        session_id: session.0,
        user_id: user_id.clone(),
        username: username.clone(),
        resume_token: resume_token.to_vec(),
        resumed: *resumed,
        received: Some(counts(*received)),
        base: Some(counts(*base)),
        lost: *lost,
        heartbeat_ms: *heartbeat_ms,
        seat_ms: *seat_ms,
        server_time_ms: *server_time_ms,
        node: node.clone(),
    };
    plain(Opcode::SessionStart, &payload)
}

fn answer(
    cid: u32,
    op: OpId,
    form: Form,
    reply: &dyn kaos_kernel::op::Payload,
    ops: &OpTable,
) -> Result<Encoded, Fault> {
    match form {
        Form::Json => {
            let body = serde_json::to_vec(reply)
                .map_err(|error| Fault::internal(format!("the reply is not JSON: {error}")))?;
            Ok(plain(Opcode::Call, &v1::CallReply { cid, body }))
        }
        Form::Wire => {
            let form = ops.get(op).and_then(|row| row.op.wire_form());
            let form = form
                .ok_or_else(|| Fault::internal("an operation without a binary form has to answer in one"))?;
            let reply_op = Opcode::from_u8(form.reply_opcode).ok_or_else(|| {
                Fault::internal(format!(
                    "the protocol has no opcode {:#04x} to answer with",
                    form.reply_opcode
                ))
            })?;
            let body = (form.render)(cid, reply)?;
            Ok(of(reply_op, HeadKind::Plain, body.into()))
        }
    }
}

/// An event in its binary form if it has one, otherwise as JSON under its name.
fn event(event: &Event, body: &dyn Payload) -> Result<Encoded, Fault> {
    if let Some(form) = event.form {
        let head = if form.room { HeadKind::Handle } else { HeadKind::Plain };
        let opcode = Opcode::from_u8(form.opcode).ok_or_else(|| {
            Fault::internal(format!(
                "the protocol has no opcode {:#04x} for the event {}",
                form.opcode, event.name
            ))
        })?;
        return Ok(of(opcode, head, (form.render)(body)?.into()));
    }
    let body = serde_json::to_vec(body)
        .map_err(|error| Fault::internal(format!("the event {} is not JSON: {error}", event.name)))?;
    if body.len() > event.bytes_max {
        return Err(Fault::invalid(format!(
            "the event {} has {} bytes, and its row allows {}",
            event.name,
            body.len(),
            event.bytes_max
        )));
    }
    let opcode = match event.channel {
        Channel::Unreliable => Opcode::EventUnreliable,
        Channel::Control | Channel::Data => Opcode::Event,
    };
    Ok(plain(opcode, &v1::Event { name: event.name.clone(), body }))
}

fn refusal(cid: u32, channel: Channel, fault: &Fault) -> Encoded {
    let op = match channel {
        Channel::Control => Opcode::Error,
        Channel::Data | Channel::Unreliable => Opcode::RoomError,
    };
    let payload = v1::Error {
        cid,
        code: fault.kind.code().into(),
        name: fault.kind.name().to_owned(),
        message: cut(&fault.message, MESSAGE_MAX).to_owned(),
        retry_ms: fault.retry_ms,
    };
    plain(op, &payload)
}
