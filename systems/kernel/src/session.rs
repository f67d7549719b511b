//! Sessions and peers: a client's logical connection, and the transport that carries it for now.
//!
//! In reading order: this file defines both, and `peers` finds peers by id. `start` and `end` are their life cycle;
//! `watch` ends those that waited too long, and `deadline` schedules its checks. `budget` limits what a client may
//! send, `resend` keeps what was sent until it is acknowledged, `handles` are the session's numbers for its rooms,
//! `facts` reports all of this to others, `caller` finds who is behind a call.

pub(crate) mod budget;
mod caller;
pub(crate) mod deadline;
pub(crate) mod end;
mod facts;
mod handles;
mod peers;
pub(crate) mod resend;
mod settings;
pub(crate) mod start;
pub(crate) mod watch;
pub use end::end_session;
pub use facts::{ConnectionChanged, SessionEnding, SessionStarted};
pub use handles::Handles;
pub(crate) use peers::PeerIndex;
pub use settings::SessionSettings;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bevy_ecs::prelude::*;

use crate::fault::FaultKind;
use crate::ids::{PeerId, SessionId};
use crate::input::{Counts, Door, Identity};
use crate::limit::Gcra;

/// A client's logical connection. It outlives a lost peer for `session.seat_ms`.
#[derive(Component, Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who it is.
    pub identity: Identity,
    /// Whether it started without a token.
    pub anonymous: bool,
    /// What the client said of itself when it started.
    pub vars: BTreeMap<String, String>,
    /// Its peer; `None` while it has lost it.
    pub peer: Option<PeerId>,
    /// The door of its current or last peer.
    pub door: Door,
    /// The address of its current or last peer.
    pub address: IpAddr,
    /// The frame in which it began.
    pub started: u64,
    /// The frame in which its player last did something: sent room data or called. Heartbeats do not count.
    pub last_input: u64,
    /// The frame of the last thing heard from it, heartbeats included.
    pub last_heard: u64,
    /// The frame since which it has no peer; `None` while it has one.
    pub lost_since: Option<u64>,
    /// The round trip that the client measured last, in microseconds; 0 if unknown.
    pub rtt_us: u32,
    /// Why it is ending; [`FaultKind::SessionGone`] when the client said goodbye. `None` while it is not ending.
    pub ending: Option<FaultKind>,
}

/// The kernel's private part of a session.
#[derive(Component, Debug, Default)]
pub(crate) struct SessionState {
    /// What the client has to present to resume.
    pub(crate) resume_token: [u8; 16],
    /// The token before it: valid until something is heard on the peer that was given the new one, since that peer may
    /// be lost before the client gets it.
    pub(crate) former_token: Option<[u8; 16]>,
    /// The peer that was lost last: data that it sent in the frame of its loss is still read.
    pub(crate) lost_peer: Option<PeerId>,
    /// After a resume: how many bytes the client may send again past its rate limit, and before which frame.
    pub(crate) replay_credit: (usize, u64),
    /// Reliable messages received, by channel.
    pub(crate) received: Counts,
    /// Bytes received since the last acknowledgement went out.
    pub(crate) unacknowledged: usize,
    /// Its rate of messages, `limit.session_messages`.
    pub(crate) messages: Gcra,
    /// Its rate of bytes, `limit.session_bytes`.
    pub(crate) bytes: Gcra,
    /// Messages against a flood: see `budget::FLOOD_FACTOR`.
    pub(crate) flood: Gcra,
    /// Bytes against a flood.
    pub(crate) flood_bytes: Gcra,
    /// Messages that could not be read.
    pub(crate) bad_messages: Gcra,
    /// The first frame in which the client may be told of its rate limit again, so that refusals do not multiply
    /// traffic.
    pub(crate) told_limited: u64,
}

/// A transport connection.
#[derive(Component, Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Its door.
    pub door: Door,
    /// Where it comes from.
    pub address: IpAddr,
    /// The frame in which it opened.
    pub opened: u64,
    /// The session that it carries, once it started one.
    pub session: Option<SessionId>,
    /// Whether it was admitted, and so counts for its address.
    pub(crate) admitted: bool,
}
