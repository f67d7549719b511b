//! Sessions and peers: a client's logical connection, and the transport that carries it for now.
//!
//! In reading order: this file is what a session and a peer are; `peers` finds peers by their ids, `start` and `end` are their life,
//! `watch` looks for those that waited too long (`deadline` says when); `budget` is what a client may send, `resend` what is
//! kept until it is acknowledged, `handles` what a session calls its rooms, `facts` what others are told of all this.

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
    /// Came without a token?
    pub anonymous: bool,
    /// What the client said of itself when it started.
    pub vars: BTreeMap<String, String>,
    /// Its peer, while it has one.
    pub peer: Option<PeerId>,
    /// The door of its present or last peer.
    pub door: Door,
    /// Where its present or last peer comes from.
    pub address: IpAddr,
    /// The frame in which it began.
    pub started: u64,
    /// The frame in which its player last did something: room data or a call, and no mere heartbeat.
    pub last_input: u64,
    /// The frame of the last thing heard from it, heartbeats included.
    pub last_heard: u64,
    /// Since which frame it has no peer.
    pub lost_since: Option<u64>,
    /// The round trip that the client measured last, in microseconds; 0: unknown.
    pub rtt_us: u32,
    /// It is ending, for this reason.
    pub ending: Option<FaultKind>,
}

/// What a session holds beside what others may see.
#[derive(Component, Debug, Default)]
pub(crate) struct SessionState {
    pub(crate) resume_token: [u8; 16],
    /// The token before: good until something is heard on the peer that was given the new one, since
    /// that peer may be lost before the client knows of it.
    pub(crate) former_token: Option<[u8; 16]>,
    /// The peer that was lost last: what it brought in the frame in which it went still counts.
    pub(crate) lost_peer: Option<PeerId>,
    /// After a resume: bytes that the client may send again without its rate limit, until a frame.
    pub(crate) replay_credit: (usize, u64),
    /// Reliable messages received, by channel.
    pub(crate) received: Counts,
    /// Bytes received since the last acknowledgement went out.
    pub(crate) unacknowledged: usize,
    pub(crate) messages: Gcra,
    pub(crate) bytes: Gcra,
    /// Against messages without end: see `route`.
    pub(crate) flood: Gcra,
    pub(crate) flood_bytes: Gcra,
    /// Messages that could not be read.
    pub(crate) bad_messages: Gcra,
    /// The frame after which the client may be told of its rate limit again: telling is no amplifier.
    pub(crate) told_limited: u64,
}

/// A transport connection.
#[derive(Component, Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Which door.
    pub door: Door,
    /// Where it comes from.
    pub address: IpAddr,
    /// The frame in which it opened.
    pub opened: u64,
    /// The session it carries.
    pub session: Option<SessionId>,
    /// Counts for its address: was it admitted?
    pub(crate) admitted: bool,
}
