//! What a frame asks the doors to do. Plain data; the order within each list is part of the result.

use bevy_ecs::prelude::*;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::fault::Fault;
use crate::ids::{PeerId, Ticket};

/// The outputs of one frame. The doors handle `sends` before `closes`.
#[derive(Default, Debug)]
pub struct Outputs {
    /// Messages to peers, in order.
    pub sends: Vec<Send>,
    /// Peers to close, after their messages.
    pub closes: Vec<Close>,
    /// Replies to [`Input::Call`](crate::input::Input::Call).
    pub replies: Vec<Reply>,
    /// Work that leaves the frame.
    pub jobs: Vec<Job>,
    /// Answers to [`Input::Ask`](crate::input::Input::Ask).
    pub answers: Vec<Answer>,
    /// Lines for the log, from scripts and about them.
    pub logs: Vec<Log>,
    /// After a `Stop`: every room and session has ended, so the process may.
    pub stopped: bool,
}

impl Outputs {
    /// Empties all lists, keeping their memory for the next frame.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.closes.clear();
        self.replies.clear();
        self.jobs.clear();
        self.answers.clear();
        self.logs.clear();
        self.stopped = false;
    }

    /// The length of the longest list.
    pub(crate) fn most(&self) -> usize {
        let Outputs { sends, closes, replies, jobs, answers, logs, stopped: _ } = self;
        let lists = [sends.len(), closes.len(), replies.len(), jobs.len(), answers.len(), logs.len()];
        lists.into_iter().max().unwrap_or(0)
    }

    /// Shrinks each list's capacity to `rows`.
    pub(crate) fn shrink_to(&mut self, rows: usize) {
        self.sends.shrink_to(rows);
        self.closes.shrink_to(rows);
        self.replies.shrink_to(rows);
        self.jobs.shrink_to(rows);
        self.answers.shrink_to(rows);
        self.logs.shrink_to(rows);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.closes.is_empty()
            && self.replies.is_empty()
            && self.jobs.is_empty()
            && self.answers.is_empty()
            && self.logs.is_empty()
            && !self.stopped
    }
}

/// How a message travels. The numbers are rudp's channels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Channel {
    /// Reliable and ordered: sessions and calls.
    Control = 0,
    /// Reliable and ordered: rooms.
    Data = 1,
    /// Unreliable: a message that arrives after a newer one is dropped.
    Unreliable = 2,
}

/// The part of a message that differs by recipient: the message's header and what [`HeadKind`] says. 12 bytes at most.
pub type Head = SmallVec<[u8; 12]>;

/// One message to one peer: `head` then `body`.
#[derive(Clone, Debug)]
pub struct Send {
    /// The recipient.
    pub peer: PeerId,
    /// The channel.
    pub channel: Channel,
    /// Its sequence number in its channel; 0 when it has none (sessions, heartbeats, unreliable data). A transport that
    /// refuses messages names them by it, see `Input::Blocked`.
    pub seq: u64,
    /// The part that differs by recipient.
    pub head: Head,
    /// The part that all recipients share.
    pub body: Bytes,
}

/// A peer to be closed once its messages are on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The peer.
    pub peer: PeerId,
    /// The code of a fault; 0 for a normal close.
    pub code: u16,
    /// The fault's name, or `bye`.
    pub reason: &'static str,
}

/// The reply to a call from a door.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The ticket of the call.
    pub ticket: Ticket,
    /// The reply as JSON, or as the face wrote it through which the request came.
    pub result: Result<Bytes, Fault>,
}

/// Work that leaves the frame and comes back as [`Input::Done`](crate::input::Input::Done).
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Comes back with the result.
    pub ticket: Ticket,
    /// The name under which it was registered.
    pub name: &'static str,
    /// Its input, in postcard.
    pub body: Bytes,
}

/// The answer to a script's ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The job that asked.
    pub ticket: Ticket,
    /// Which of its asks.
    pub seq: u32,
    /// The reply, as JSON.
    pub result: Result<Bytes, Fault>,
}

/// The severity of a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// For information.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// A line of a script's log, or about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its severity.
    pub level: Level,
    /// The module or room it is about.
    pub source: String,
    /// The text; may have several lines.
    pub text: String,
}

/// Writes a line of a script or a job to the log of the process, under the target `script`.
pub fn write_log(line: &Log) {
    let Log { level, source, text } = line;
    match level {
        Level::Info => tracing::info!(target: "script", source, "{text}"),
        Level::Warn => tracing::warn!(target: "script", source, "{text}"),
        Level::Error => tracing::error!(target: "script", source, "{text}"),
    }
}

/// The outputs that systems of this frame fill.
#[derive(Resource, Default)]
pub(crate) struct FrameOutputs(pub(crate) Outputs);

/// What follows the message's header in a [`Head`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadKind {
    /// Nothing.
    Plain,
    /// The room's handle.
    Handle,
    /// The room's handle, the sender, and the game's own number.
    Data {
        /// A member's index, or [`TO_ROOM`](crate::codec::TO_ROOM).
        sender: u16,
        /// The game's own number.
        op: u8,
    },
}
