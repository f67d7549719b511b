//! Between bytes and meaning. The kernel knows the meaning; a door registers a [`Codec`] that knows the bytes.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::event::EventRow;
use crate::fault::Fault;
use crate::ids::SessionId;
use crate::input::Counts;
use crate::op::{OpId, OpTable, Payload};
use crate::output::{Channel, Head, HeadKind};

/// Turns messages into bytes and back. One for each wire format; today there is one.
pub trait Codec: std::marker::Send + Sync + 'static {
    /// Reads every message in `bytes` and hands it to `each`. Stops at what cannot be split into
    /// messages and says so.
    ///
    /// # Errors
    /// The bytes are not whole messages. What came before was handed over.
    fn decode(&self, bytes: &Bytes, ops: &OpTable, each: &mut dyn FnMut(Inbound)) -> Result<(), Fault>;

    /// Writes the part of a message that is the same for every recipient.
    ///
    /// # Errors
    /// It is longer than the format can carry.
    fn encode(&self, message: &Outbound, ops: &OpTable) -> Result<Encoded, Fault>;

    /// Writes what stands before the body for one recipient. `handle` names the room for this session.
    fn head(&self, encoded: &Encoded, handle: u16) -> Head;
}

/// The codec of the sessions.
#[derive(Resource, Clone)]
pub struct SessionCodec(pub std::sync::Arc<dyn Codec>);

/// A message from a client.
pub struct Inbound {
    /// The channel in which the sender counted it; `None` when it is not counted.
    pub counted: Option<Channel>,
    /// Its size in bytes with the header.
    pub size: usize,
    /// What it says.
    pub message: InboundMessage,
}

/// What a client's message says.
pub enum InboundMessage {
    /// The client lives, and this is what it received.
    Heartbeat {
        /// To be echoed.
        client_time_us: u64,
        /// What the client received.
        received: Counts,
        /// The client's last measured round trip, 0: unknown.
        rtt_us: u32,
    },
    /// Goodbye: the seat is given up at once.
    End,
    /// Data for a room.
    Data(InboundData),
    /// A call of an operation.
    Call {
        /// Comes back in the answer.
        cid: u32,
        /// The operation, as the table numbers it.
        op: OpId,
        /// The request, read.
        request: Box<dyn Payload>,
        /// How the answer is to be written.
        form: Form,
    },
    /// A message that can be split off but not read, or that a client may not send.
    Bad {
        /// Of the request, when it could be read; otherwise 0.
        cid: u32,
        /// The channel of the answer: where the answer of such a message would be counted.
        channel: Channel,
        /// What is wrong.
        fault: Fault,
    },
}

/// Data for a room, from a client.
pub struct InboundData {
    /// The room, as this session calls it.
    pub handle: u16,
    /// A member, or [`TO_ROOM`].
    pub to: u16,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// Did it come reliably?
    pub reliable: bool,
}

/// The recipient index that means the room itself, and the sender index that means the server.
pub const TO_ROOM: u16 = u16::MAX;

/// How a call's answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As JSON under the generic reply.
    Json,
    /// In the operation's own binary form.
    Wire,
}

impl Form {
    /// The channel in which an operation's answer is counted.
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
    /// A session began or goes on.
    Started {
        /// The session.
        session: SessionId,
        /// The user.
        user_id: String,
        /// The name.
        username: String,
        /// For the next resume.
        resume_token: [u8; 16],
        /// Did it go on?
        resumed: bool,
        /// What the server received.
        received: Counts,
        /// Where the server's counts go on.
        base: Counts,
        /// Reliable room data that was lost meanwhile.
        lost: u64,
        /// How often a heartbeat is expected, in milliseconds.
        heartbeat_ms: u32,
        /// How long the seat waits, in milliseconds.
        seat_ms: u32,
        /// Unix time of the frame, in milliseconds.
        server_time_ms: u64,
        /// The node's name.
        node: String,
    },
    /// The session ended.
    Ended(Fault),
    /// The server lives, and this is what it received.
    Heartbeat {
        /// The client's own time, echoed.
        client_time_us: u64,
        /// What the server received.
        received: Counts,
        /// Unix time of the frame, in milliseconds.
        server_time_ms: u64,
    },
    /// The answer to a call.
    Answer {
        /// Of the request.
        cid: u32,
        /// The operation.
        op: OpId,
        /// How to write it.
        form: Form,
        /// The reply, or why not.
        result: Result<Box<dyn Payload>, Fault>,
    },
    /// A refusal that belongs to no call.
    Refusal {
        /// Of the request, when known; otherwise 0.
        cid: u32,
        /// The channel to count it in.
        channel: Channel,
        /// What is wrong.
        fault: Fault,
    },
    /// Data from a room.
    Data {
        /// A member's index, or [`TO_ROOM`]: the server.
        sender: u16,
        /// The game's own number.
        op: u8,
        /// The game's own bytes.
        data: Bytes,
        /// Must it arrive?
        reliable: bool,
    },
    /// An event that a feature pushed.
    Event {
        /// Its row.
        row: std::sync::Arc<EventRow>,
        /// What it says.
        body: Box<dyn Payload>,
    },
}

/// A message written once, waiting for its heads.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The message's own number in the format.
    pub op: u8,
    /// How it travels.
    pub channel: Channel,
    /// Is it counted for resume?
    pub counted: bool,
    /// What the head is made of.
    pub head: HeadKind,
    /// The shared part.
    pub body: Bytes,
}
