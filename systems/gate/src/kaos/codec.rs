//! The KaosNet wire format for the kernel: bytes become typed messages, and typed messages become bytes.
//!
//! What a client sends is read here and nowhere else. What differs by recipient (header, room handle,
//! sender) is the head; the body is written once and shared.

use std::sync::Arc;

use bytes::Bytes;
use kaos_kernel::codec::{Codec, Encoded, Form, Inbound, InboundData, InboundMessage, Outbound};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::input::Counts;
use kaos_kernel::op::OpTable;
use kaos_kernel::output::{Channel, Head, HeadKind};
use kaos_wire::limits::{HEADER, PAYLOAD_MAX, ROOM_DATA_HEADER, ROOM_DATA_MAX, UNRELIABLE_DATA_MAX};
use kaos_wire::{ClientMessage, Opcode, RoomData, WireError, decode_client, messages, v1};

use crate::kaos::encode::encode;
use crate::stats::Stats;

/// Messages in one WebSocket frame or rudp message. Default of the protocol's own making: 128 KiB hold
/// 43,000 empty messages, each of which would cost the frame far more than its three bytes. A client that
/// sends what it kept for a resume should spread it over several frames.
pub const MESSAGES_MAX: usize = 4096;

/// Data below this size is copied out of what it came in, so that a small message that waits in a room's
/// inbox does not hold a whole WebSocket frame.
const COPY_BELOW: usize = 512;

// What is encoded passes every transport, and unreliable data in one datagram.
const _: () = assert!(HEADER + ROOM_DATA_HEADER + UNRELIABLE_DATA_MAX <= kaos_rudp::FRAGMENT_BYTES);

/// The codec of protocol version 1.
#[derive(Default)]
pub struct KaosCodec {
    /// Counts calls by operation.
    stats: Option<Arc<Stats>>,
}

impl KaosCodec {
    /// A codec that counts the calls it reads.
    pub fn counting(stats: Arc<Stats>) -> Self {
        KaosCodec { stats: Some(stats) }
    }

    fn read(&self, bytes: &Bytes, op: u8, payload: &[u8], ops: &OpTable) -> InboundMessage {
        match self.try_read(bytes, op, payload, ops) {
            Ok(message) => message,
            Err(Bad { cid, fault }) => InboundMessage::Bad { cid, channel: channel_of_refusal(op), fault },
        }
    }

    fn try_read(&self, bytes: &Bytes, op: u8, payload: &[u8], ops: &OpTable) -> Result<InboundMessage, Bad> {
        if let Some(row) = ops.by_opcode(op)
            && let Some(form) = row.op.wire_form()
        {
            let (cid, request) =
                (form.parse)(payload).map_err(|fault| Bad { cid: cid_of(op, payload), fault })?;
            has_cid(cid)?;
            self.count(row.id);
            return Ok(InboundMessage::Call { cid, op: row.id, request, form: Form::Wire });
        }
        match decode_client(op, payload)? {
            ClientMessage::SessionStart(_) => Err(Bad::new(
                0,
                FaultKind::Protocol,
                "the session has started already: one SessionStart for each connection",
            )),
            ClientMessage::SessionEnd(_) => Ok(InboundMessage::End),
            ClientMessage::Heartbeat(heartbeat) => Ok(heartbeat_of(heartbeat)),
            ClientMessage::RoomData(data) => Ok(data_of(bytes, data, true)),
            ClientMessage::RoomDataUnreliable(data) => Ok(data_of(bytes, data, false)),
            ClientMessage::Call(call) => {
                let cid = call.cid;
                has_cid(cid)?;
                let row = ops.named(&call.op).map_err(|fault| Bad { cid, fault })?;
                let request = row.parse_json(&call.body).map_err(|fault| Bad { cid, fault })?;
                self.count(row.id);
                Ok(InboundMessage::Call { cid, op: row.id, request, form: Form::Json })
            }
            // A request with an opcode of its own, and no operation on this server that answers it.
            request => {
                let cid = request.cid();
                let name = Opcode::from_u8(op).map_or("this message", Opcode::name);
                let sentence = format!("this server was built without what answers {name}");
                Err(Bad { cid, fault: Fault::new(FaultKind::Unimplemented, sentence) })
            }
        }
    }

    fn count(&self, op: kaos_kernel::op::OpId) {
        if let Some(stats) = &self.stats {
            stats.count_call(op);
        }
    }
}

/// The kernel's name for a channel of the wire.
pub(crate) fn of_wire(channel: kaos_wire::Channel) -> Channel {
    match channel {
        kaos_wire::Channel::Control => Channel::Control,
        kaos_wire::Channel::Data => Channel::Data,
        kaos_wire::Channel::Unreliable => Channel::Unreliable,
    }
}

/// Where the refusal of a message is counted: among the answers of its own channel.
fn channel_of_refusal(op: u8) -> Channel {
    if (0x10..=0x1f).contains(&op) { Channel::Data } else { Channel::Control }
}

/// A message that cannot be used, and whom to tell.
struct Bad {
    cid: u32,
    fault: Fault,
}

impl Bad {
    fn new(cid: u32, kind: FaultKind, sentence: &'static str) -> Self {
        Bad { cid, fault: Fault::new(kind, sentence) }
    }
}

impl From<WireError> for Bad {
    fn from(error: WireError) -> Self {
        Bad { cid: error.cid(), fault: Fault::invalid(error.to_string()) }
    }
}

/// A request without an id is refused: nobody could tell its answer from errors that belong to no request.
fn has_cid(cid: u32) -> Result<(), Bad> {
    if cid > 0 { Ok(()) } else { Err(Bad::new(0, FaultKind::Invalid, "a request has a `cid` that is not 0")) }
}

/// The id of a request whose meaning was refused: its bytes may still tell.
fn cid_of(op: u8, payload: &[u8]) -> u32 {
    decode_client(op, payload).map_or_else(|error| error.cid(), |message| message.cid())
}

fn heartbeat_of(heartbeat: v1::Heartbeat) -> InboundMessage {
    let received = heartbeat.received.unwrap_or_default();
    InboundMessage::Heartbeat {
        client_time_us: heartbeat.client_time_us,
        received: Counts { control: received.control, data: received.data },
        rtt_us: heartbeat.rtt_us,
    }
}

fn data_of(bytes: &Bytes, data: RoomData<'_>, reliable: bool) -> InboundMessage {
    let RoomData { handle, index, op, data } = data;
    let data = if data.len() < COPY_BELOW || data.len() * 4 < bytes.len() {
        Bytes::copy_from_slice(data)
    } else {
        bytes.slice_ref(data)
    };
    InboundMessage::Data(InboundData { handle, to: index, op, data, reliable })
}

impl Codec for KaosCodec {
    /// Several heartbeats in `bytes` count as the last of them: acknowledgements only grow, and each
    /// would have to be answered.
    fn decode(&self, bytes: &Bytes, ops: &OpTable, each: &mut dyn FnMut(Inbound)) -> Result<(), Fault> {
        let mut heartbeat = None;
        let mut result = Ok(());
        for (count, message) in messages(bytes).enumerate() {
            let (op, payload) = match message {
                Ok(message) if count < MESSAGES_MAX => message,
                Ok(_) => {
                    result = Err(Fault::new(
                        FaultKind::Protocol,
                        format!("more than {MESSAGES_MAX} messages came in one piece"),
                    ));
                    break;
                }
                Err(error) => {
                    result = Err(Fault::new(FaultKind::Protocol, error.to_string()));
                    break;
                }
            };
            let counted = kaos_wire::counted(op).map(of_wire);
            let message = self.read(bytes, op, payload, ops);
            let inbound = Inbound { counted, size: HEADER + payload.len(), message };
            if matches!(inbound.message, InboundMessage::Heartbeat { .. }) {
                heartbeat = Some(inbound);
            } else {
                each(inbound);
            }
        }
        if let Some(heartbeat) = heartbeat {
            each(heartbeat);
        }
        result
    }

    fn encode(&self, message: &Outbound, ops: &OpTable) -> Result<Encoded, Fault> {
        let encoded = encode(message, ops)?;
        if encoded.channel == Channel::Unreliable && encoded.body.len() > UNRELIABLE_DATA_MAX {
            return Err(Fault::invalid(
                WireError::UnreliableTooLong { bytes: encoded.body.len() }.to_string(),
            ));
        }
        let (head_max, len) = (head_max(encoded.head), encoded.body.len());
        if head_max + len > PAYLOAD_MAX {
            let most = if head_max == ROOM_DATA_HEADER { ROOM_DATA_MAX } else { PAYLOAD_MAX - head_max };
            return Err(Fault::invalid(format!(
                "a message of {len} bytes is too long: one message carries at most {most}"
            )));
        }
        Ok(encoded)
    }

    fn head(&self, encoded: &Encoded, handle: u16) -> Head {
        let mut own = [0u8; ROOM_DATA_HEADER];
        let own = match encoded.head {
            HeadKind::Plain => &own[..0],
            HeadKind::Handle => handle_field(handle, &mut own),
            HeadKind::Data { sender, op } => {
                own = RoomData { handle, index: sender, op, data: &[] }.header();
                &own[..]
            }
        };
        // `encode` refused what does not fit, so the length is what it says.
        let len = u16::try_from(own.len() + encoded.body.len()).unwrap_or(u16::MAX);
        let mut head = Head::new();
        head.push(encoded.op);
        head.extend_from_slice(&len.to_le_bytes());
        head.extend_from_slice(own);
        head
    }
}

/// The most that stands between header and body.
fn head_max(head: HeadKind) -> usize {
    match head {
        HeadKind::Plain => 0,
        HeadKind::Handle => 4,
        HeadKind::Data { .. } => ROOM_DATA_HEADER,
    }
}

/// Field 1 of RoomState and RoomEvent, a varint; left out when it is 0, as protobuf has it.
fn handle_field(handle: u16, into: &mut [u8; ROOM_DATA_HEADER]) -> &[u8] {
    let [low, middle, high] = [handle & 0x7f, handle >> 7 & 0x7f, handle >> 14].map(|part| part as u8);
    let (bytes, len) = match handle {
        0 => ([0; 4], 0),
        1..0x80 => ([0x08, low, 0, 0], 2),
        0x80..0x4000 => ([0x08, low | 0x80, middle, 0], 3),
        _ => ([0x08, low | 0x80, middle | 0x80, high], 4),
    };
    let (place, _) = into.split_at_mut(4);
    place.copy_from_slice(&bytes);
    &place[..len]
}
