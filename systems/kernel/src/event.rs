//! The event table: one row for each thing that the server tells clients by itself, from which doors, scripts and clients
//! are derived. It stands beside the operation table, which is what clients ask for.
//!
//! This file is the row, and `table` is all of them. How events are sent is in `send`.

mod table;

use crate::fault::Fault;
use crate::op::Payload;
use crate::output::Channel;

pub use table::{EventRow, EventTable, Events};

/// The body of an event as JSON, in bytes, when the row does not say otherwise.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;

/// The same for an unreliable event, and the most that its row may allow: it has to fit into one datagram.
pub const EVENT_UNRELIABLE_BYTES_MAX: usize = 1_000;

/// The most that a row may allow: what one message of the protocol carries, less its name.
pub const EVENT_BYTES_LIMIT: usize = 65_000;

/// A binary form of an event, for what is pushed too often to be JSON under a name. Its number and layout are part of the
/// protocol, so only the server's own crates have one.
#[derive(Clone, Copy, Debug)]
pub struct EventForm {
    /// The message number.
    pub opcode: u8,
    /// Whether each recipient's name for the room stands before the body.
    pub room: bool,
    /// Writes the body.
    pub render: fn(&dyn Payload) -> Result<Vec<u8>, Fault>,
}

/// One row of the event table, as it is registered.
#[derive(Clone, Debug)]
pub struct Event {
    /// Dotted, lower case, the last part a past participle, or what is told: `guestbook.signed`, `room.state`. 1 to 64
    /// bytes.
    pub name: String,
    /// One sentence for the API page.
    pub about: &'static str,
    /// [`Channel::Control`]: it arrives, in order, and is counted for resume. [`Channel::Unreliable`]: it may be lost, and
    /// is not sent to a client that is away.
    pub channel: Channel,
    /// The body as JSON, in bytes; a longer one is refused to whoever pushes it. 1 to [`EVENT_BYTES_LIMIT`], by default
    /// [`EVENT_BYTES_MAX`].
    pub bytes_max: usize,
    /// The binary form, if it has one.
    pub form: Option<EventForm>,
}

impl Event {
    /// A reliable event of up to [`EVENT_BYTES_MAX`] bytes.
    pub fn new(name: impl Into<String>) -> Self {
        Event {
            name: name.into(),
            about: "",
            channel: Channel::Control,
            bytes_max: EVENT_BYTES_MAX,
            form: None,
        }
    }

    /// Says in a sentence when it comes.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Lets it be lost: for what the next one makes worthless. Up to [`EVENT_UNRELIABLE_BYTES_MAX`] bytes.
    pub fn unreliable(mut self) -> Self {
        self.channel = Channel::Unreliable;
        self.bytes_max = self.bytes_max.min(EVENT_UNRELIABLE_BYTES_MAX);
        self
    }

    /// Bounds the body, in bytes of JSON.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Gives it a binary form, on the channel of its opcode.
    pub fn form(mut self, channel: Channel, form: EventForm) -> Self {
        self.channel = channel;
        self.form = Some(form);
        self
    }

    /// The name in scripts: dots become underscores.
    pub fn script_name(&self) -> String {
        self.name.replace('.', "_")
    }
}
