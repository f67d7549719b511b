//! Messages and the interface that turns them into bytes. The kernel defines the messages; a door registers a [`Codec`]
//! that defines the bytes.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::event::EventRow;
use crate::fault::Fault;
use crate::ids::SessionId;
use crate::input::Counts;
use crate::op::{OpId, OpTable, Payload};
use crate::output::{Channel, Head, HeadKind};

/// Turns messages into bytes and back. There is one codec per wire format, and at present one format.
pub trait Codec: Send + Sync + 'static {
    /// Reads every message in `bytes` and passes it to `each`.
    ///
    /// # Errors
    /// The bytes cannot be split into whole messages. Messages before that point were passed on.
    fn decode(&self, bytes: &Bytes, ops: &OpTable, each: &mut dyn FnMut(Inbound)) -> Result<(), Fault>;

    /// Writes the part of a message that is the same for every recipient.
    ///
    /// # Errors
    /// The message is longer than the format can carry, or cannot be written.
    fn encode(&self, message: &Outbound, ops: &OpTable) -> Result<Encoded, Fault>;

    /// Writes the head, which precedes the body, for one recipient. `handle` is that session's handle of the room.
    fn head(&self, encoded: &Encoded, handle: u16) -> Head;
}

/// The codec of all sessions.
#[derive(Resource, Clone)]
pub struct SessionCodec(pub std::sync::Arc<dyn Codec>);

/// A message from a client.
pub struct Inbound {
    /// The channel in which the client counts it for resume; `None`: it is not counted.
    pub counted: Option<Channel>,
    /// Its size in bytes, header included.
    pub size: usize,
    /// Its content.
    pub message: InboundMessage,
}

/// The content of a client's message.
pub enum InboundMessage {
    /// A sign of life, with the numbers of messages that the client received.
    Heartbeat {
        /// The client's own time in microseconds, which the server echoes.
        client_time_us: u64,
        /// The numbers of reliable messages that the client received.
        received: Counts,
        /// The round-trip time that the client measured last, in microseconds; 0: unknown.
        rtt_us: u32,
    },
    /// The client ends its session: the seat is given up at once.
    End,
    /// Data for a room.
    Data(InboundData),
    /// A call of an operation.
    Call {
        /// The client's number for the call, which the reply repeats.
        cid: u32,
        /// The operation.
        op: OpId,
        /// The request.
        request: Box<dyn Payload>,
        /// The form of the reply.
        form: Form,
    },
    /// A message that can be split off but not read, or that a client may not send.
    Bad {
        /// The cid of the request; 0: it could not be read, or the message is not a request.
        cid: u32,
        /// The channel in which the refusal is counted: that of a reply to such a message.
        channel: Channel,
        /// What is wrong.
        fault: Fault,
    },
}

/// Data for a room, from a client.
pub struct InboundData {
    /// The session's handle of the room.
    pub handle: u16,
    /// The index of the member it is for, or [`TO_ROOM`].
    pub to: u16,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// Whether it was sent reliably.
    pub reliable: bool,
}

/// The index that stands for no member: from a client the recipient is the room itself, to a client the sender is the
/// server.
pub const TO_ROOM: u16 = u16::MAX;

/// The form of a call's reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// JSON in the generic reply message.
    Json,
    /// The operation's binary form.
    Wire,
}

impl Form {
    /// The channel in which an operation's reply is counted.
    pub fn channel(self, ops: &OpTable, op: OpId) -> Channel {
        match self {
            Form::Json => Channel::Control,
            Form::Wire => {
                ops.get(op).and_then(|row| row.op.wire_form()).map_or(Channel::Control, |form| form.channel)
            }
        }
    }
}

/// A message to clients.
pub enum Outbound {
    /// A session began or was resumed.
    Started {
        /// The session.
        session: SessionId,
        /// The user's id.
        user_id: String,
        /// The user's name.
        username: String,
        /// The token for the next resume.
        resume_token: [u8; 16],
        /// Whether the session was resumed.
        resumed: bool,
        /// The numbers of reliable messages that the server received.
        received: Counts,
        /// The sequence numbers that the server's next messages follow.
        base: Counts,
        /// The number of reliable room messages that were lost while the client was away.
        lost: u64,
        /// The interval in which heartbeats are expected, in milliseconds.
        heartbeat_ms: u32,
        /// How long a seat is kept for a lost client, in milliseconds.
        seat_ms: u32,
        /// Unix time of the frame, in milliseconds.
        server_time_ms: u64,
        /// The node's name.
        node: String,
    },
    /// The session ended.
    Ended(Fault),
    /// A sign of life, with the numbers of messages that the server received.
    Heartbeat {
        /// The client's own time in microseconds, echoed.
        client_time_us: u64,
        /// The numbers of reliable messages that the server received.
        received: Counts,
        /// Unix time of the frame, in milliseconds.
        server_time_ms: u64,
    },
    /// The reply to a call.
    Answer {
        /// The cid of the request.
        cid: u32,
        /// The operation.
        op: OpId,
        /// The form of the reply.
        form: Form,
        /// The reply, or the fault.
        result: Result<Box<dyn Payload>, Fault>,
    },
    /// The refusal of a message that did not become a call, or the fault that replaces a reply that cannot be written.
    Refusal {
        /// The cid of the request; 0: unknown, or the message was not a request.
        cid: u32,
        /// The channel to count it in.
        channel: Channel,
        /// What is wrong.
        fault: Fault,
    },
    /// Data from a room.
    Data {
        /// The index of the member who sent it, or [`TO_ROOM`] for the server.
        sender: u16,
        /// The game's own number.
        op: u8,
        /// The game's own bytes.
        data: Bytes,
        /// Whether it is sent reliably.
        reliable: bool,
    },
    /// An event.
    Event {
        /// Its row.
        row: std::sync::Arc<EventRow>,
        /// Its body.
        body: Box<dyn Payload>,
    },
}

/// A message that is written except for its heads, which differ by recipient.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The opcode.
    pub op: u8,
    /// The channel.
    pub channel: Channel,
    /// Whether the server counts it for resume.
    pub counted: bool,
    /// The contents of the head.
    pub head: HeadKind,
    /// The part that all recipients share.
    pub body: Bytes,
}
