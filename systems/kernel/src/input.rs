//! Everything the world does to the server: plain data, so that a journal of it is the whole truth.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ids::{PeerId, SessionId, Ticket};

/// One input of a frame. Doors make them, the journal keeps them, a replay reads them back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Input {
    /// The first input of every journal.
    Boot(Boot),
    /// The wall clock was read again; frames keep their numbers, only the calendar moves.
    Wall {
        /// Unix time of this frame, in milliseconds.
        ms: u64,
    },
    /// A transport connected. It must send its SessionStart within `session.start_ms`.
    Open {
        /// Its number, from [`PeerSlots`](crate::ids::PeerSlots).
        peer: PeerId,
        /// Which door.
        door: Door,
        /// Where it comes from; limits are counted by it.
        address: IpAddr,
    },
    /// A peer's SessionStart, decoded and its credentials proved at the door.
    Start {
        /// From whom.
        peer: PeerId,
        /// What was proved.
        claim: Claim,
        /// The resume token that this session gets now, from the door's randomness.
        fresh: [u8; 16],
        /// Free for the game, bounded by the door.
        vars: BTreeMap<String, String>,
    },
    /// Whole messages of a peer, after its SessionStart, as they came: a [`Codec`](crate::codec::Codec) reads them.
    Data {
        /// From whom.
        peer: PeerId,
        /// One or more messages.
        bytes: Bytes,
    },
    /// The transport is gone.
    Gone {
        /// Which.
        peer: PeerId,
        /// Why.
        reason: Gone,
    },
    /// The transport could not take these messages and all later ones of their channel.
    Blocked {
        /// Which.
        peer: PeerId,
        /// The number of the first control message that was not taken.
        control: Option<u64>,
        /// The number of the first data message that was not taken.
        data: Option<u64>,
    },
    /// After `Blocked`: there is room again.
    Writable {
        /// Which.
        peer: PeerId,
    },
    /// An operation called from a door that has no session, such as HTTP.
    Call {
        /// Comes back in the reply.
        ticket: Ticket,
        /// The operation's dotted name.
        op: String,
        /// Who calls, as the door proved it.
        identity: Option<Identity>,
        /// Where the call comes from.
        address: IpAddr,
        /// The request.
        body: Body,
    },
    /// Nobody waits for this call's reply any more. The call itself goes on to its end.
    Cancel {
        /// Which.
        ticket: Ticket,
    },
    /// A job that left the frame has its answer.
    Done {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        answer: Result<Bytes, Fault>,
    },
    /// A script that runs as a job calls an operation and waits for the answer.
    Ask {
        /// The job.
        ticket: Ticket,
        /// Counts the job's asks; comes back with the answer.
        seq: u32,
        /// The operation's dotted name.
        op: String,
        /// The request, as JSON.
        body: Bytes,
    },
    /// The wall-clock watchdog found a room's match stuck. The room ends in the frame after the one that it held up,
    /// before its next tick.
    Stuck {
        /// The room's id.
        room: crate::ids::RoomId,
        /// How long its match had run when it was found, in milliseconds.
        ms: u64,
    },
    /// Stop: rooms are told, sessions closed, and the outputs say when it is done.
    Stop {
        /// What match_terminate gets, in seconds. Rooms close in the frame in which they are told, so the runner says 0.
        grace_s: u32,
    },
}

/// What a run begins with, drawn at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Boot {
    /// The seed of all dice.
    pub seed: u64,
    /// Unix time of this frame, in milliseconds.
    pub wall_ms: u64,
    /// The node's number in its cluster.
    pub node: u8,
}

/// The doors that a peer can come through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Door {
    /// Reliable UDP.
    Udp,
    /// WebSocket.
    WebSocket,
    /// HTTP: calls without a session.
    Http,
    /// Inside the process: tests and simulations.
    Memory,
}

impl Door {
    /// The word in logs, metrics and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Door::Udp => "udp",
            Door::WebSocket => "websocket",
            Door::Http => "http",
            Door::Memory => "memory",
        }
    }
}

/// What a SessionStart proved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Claim {
    /// A user, by a signed token.
    User(Identity),
    /// A name without proof, where the configuration allows it.
    Anonymous {
        /// The name that was wished for.
        name: String,
    },
    /// Back to a session whose peer was lost. The token is proved inside the frame, where it is known.
    Resume {
        /// Which session.
        session: SessionId,
        /// The token of its last start.
        token: [u8; 16],
        /// What the client had received.
        received: Counts,
    },
}

/// Who somebody is, as a door proved it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The account, for an anonymous session an id made at its start. Empty for a request over HTTP without a token.
    pub user_id: String,
    /// The name that others see.
    pub username: String,
    /// The variables that the token carries, of a caller without a session. A session has its own.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
}

/// How many reliable messages, by channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Session and call messages.
    pub control: u64,
    /// Room messages.
    pub data: u64,
}

/// Why a transport is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Gone {
    /// The other side closed it without saying goodbye to the session.
    Closed,
    /// Nothing was heard for too long.
    TimedOut,
    /// It broke the transport's protocol.
    Protocol,
    /// This side closed it.
    Local,
}

/// A request as it came through a door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// JSON; empty means that nothing was sent.
    Json(Bytes),
    /// An HTTP request, to be read by the face through which it came.
    Rest(Box<RestRequest>),
}

/// An HTTP request, as a [`Rest`](crate::op::Rest) face reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestRequest {
    /// Which of the operation's faces.
    pub face: u16,
    /// What the path says, by name; decoded.
    pub parameters: Vec<(String, String)>,
    /// What the query string says, in its order; decoded.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}
