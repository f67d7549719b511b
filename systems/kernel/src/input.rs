//! Everything that reaches the server from outside, as plain data: the journal of all inputs determines the run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ids::{PeerId, SessionId, Ticket};

/// One input of a frame. Doors make them, the journal keeps them, a replay reads them back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Input {
    /// The start of a run: seed, wall time and node. Always the first input.
    Boot(Boot),
    /// The wall clock was read again; frame numbers do not change, only the calendar time that they
    /// stand for.
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
    /// A peer's SessionStart. Its door decoded it, and verified a user's token.
    Start {
        /// The peer.
        peer: PeerId,
        /// Who it says it is.
        claim: Claim,
        /// The resume token to give to this session; random, drawn by the door.
        fresh: [u8; 16],
        /// What the client says about itself, for the game; bounded by the door.
        vars: BTreeMap<String, String>,
    },
    /// The bytes of one or more whole messages of a peer, after its SessionStart. A [`Codec`](crate::codec::Codec)
    /// reads them.
    Data {
        /// The peer.
        peer: PeerId,
        /// One or more messages.
        bytes: Bytes,
    },
    /// The transport is gone.
    Gone {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: Gone,
    },
    /// The transport refused these messages and all later ones of their channel. `None`: that channel is not blocked.
    Blocked {
        /// The peer.
        peer: PeerId,
        /// The [`seq`](crate::output::Send::seq) of the first control message that was refused.
        control: Option<u64>,
        /// The [`seq`](crate::output::Send::seq) of the first data message that was refused.
        data: Option<u64>,
    },
    /// After `Blocked`: the transport takes messages again.
    Writable {
        /// The peer.
        peer: PeerId,
    },
    /// An operation called from a door that has no session, such as HTTP.
    Call {
        /// Comes back in the reply.
        ticket: Ticket,
        /// The operation's dotted name.
        op: String,
        /// Who calls, as the door verified it; `None` without credentials.
        identity: Option<Identity>,
        /// Where the call comes from.
        address: IpAddr,
        /// The request.
        body: Body,
    },
    /// The caller is gone, so the call's reply is dropped. The call itself still runs to its end.
    Cancel {
        /// The call.
        ticket: Ticket,
    },
    /// A job has ended.
    Done {
        /// The job.
        ticket: Ticket,
        /// Its result.
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
    /// The wall-clock watchdog found a room's match stuck. The room ends in the frame after the stalled one,
    /// before its next tick.
    Stuck {
        /// The room's id.
        room: crate::ids::RoomId,
        /// How long its match had run when it was found, in milliseconds.
        ms: u64,
    },
    /// Stop the server: rooms are told, sessions end, and [`Outputs::stopped`](crate::output::Outputs::stopped) says
    /// when that is done.
    Stop {
        /// What `match_terminate` gets, in seconds. The runner passes 0, since rooms close in the same frame.
        grace_s: u32,
    },
}

/// What a run starts with, drawn outside of the frame.
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
    /// Its name in logs, metrics and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Door::Udp => "udp",
            Door::WebSocket => "websocket",
            Door::Http => "http",
            Door::Memory => "memory",
        }
    }
}

/// Who a SessionStart says it is. The door verified a user's token; a resume token is checked in the frame, where it is
/// known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Claim {
    /// A user with a signed token.
    User(Identity),
    /// A name without a token, where the configuration allows it.
    Anonymous {
        /// The name that the client asks for.
        name: String,
    },
    /// A client that goes on with a session whose peer was lost.
    Resume {
        /// The session.
        session: SessionId,
        /// The token that it got at its last start.
        token: [u8; 16],
        /// How many messages the client has received.
        received: Counts,
    },
}

/// Who a caller or session is, as a door verified it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The account; for an anonymous session an id that was made at its start. Empty for a request over HTTP without a
    /// token.
    pub user_id: String,
    /// The name that others see.
    pub username: String,
    /// The variables of the token, for a caller without a session; those of a session are in
    /// [`Session::vars`](crate::session::Session::vars).
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
}

/// Numbers of reliable messages, by channel.
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
    /// The face, by its index in [`Op::faces`](crate::op::Op::faces).
    pub face: u16,
    /// The path's parameters with their names, decoded.
    pub parameters: Vec<(String, String)>,
    /// The pairs of the query string, in their order, decoded.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}
