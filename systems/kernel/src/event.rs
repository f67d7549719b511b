//! The event table: one row per event, which the server sends to clients unprompted. Doors and functions of scripts are
//! derived from it. Its counterpart is the operation table, for what clients request.
//!
//! This file defines the row, and `table` has all rows. How events are sent is in `send`.

mod table;

use crate::fault::Fault;
use crate::op::Payload;
use crate::output::Channel;

pub use table::{EventRow, EventTable, Events};

/// The default of [`Event::bytes_max`].
pub const EVENT_BYTES_MAX: usize = 16 * 1024;

/// The default and the maximum of [`Event::bytes_max`] for an unreliable event, which has to fit into one datagram.
pub const EVENT_UNRELIABLE_BYTES_MAX: usize = 1_000;

/// The maximum of [`Event::bytes_max`] for a reliable event: what one message of the protocol carries besides the name.
pub const EVENT_BYTES_LIMIT: usize = 65_000;

/// The binary form of an event, for one that is pushed too often to be sent as JSON with a name. Opcode and layout are
/// part of the protocol, so only events of the server's own crates have one.
#[derive(Clone, Copy, Debug)]
pub struct EventForm {
    /// The opcode.
    pub opcode: u8,
    /// Whether the recipient's room handle precedes the body. Such an event can be pushed only to a room.
    pub room: bool,
    /// Writes the body.
    pub render: fn(&dyn Payload) -> Result<Vec<u8>, Fault>,
}

/// The definition of an event, as a plugin registers it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The dotted name, in lower case, 1 to 64 bytes. The last part is a past participle or a noun for the content:
    /// `guestbook.signed`, `room.state`.
    pub name: String,
    /// One sentence for the API page.
    pub about: &'static str,
    /// [`Channel::Control`] or [`Channel::Data`]: the event arrives, in order, and is counted for resume.
    /// [`Channel::Unreliable`]: the event may be lost, and is not sent to a client that is away.
    pub channel: Channel,
    /// The longest body as JSON, in bytes. Pushing a longer one is an error. By default [`EVENT_BYTES_MAX`], for an
    /// unreliable event [`EVENT_UNRELIABLE_BYTES_MAX`]; 1 to [`EVENT_BYTES_LIMIT`], for an unreliable event 1 to
    /// [`EVENT_UNRELIABLE_BYTES_MAX`]. An event with a binary form is not bounded by it.
    pub bytes_max: usize,
    /// The binary form; `None`: the event is sent as JSON with its name.
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

    /// Sets the sentence for the API page: when the event is sent.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Makes it unreliable, of up to [`EVENT_UNRELIABLE_BYTES_MAX`] bytes: for content that the next event supersedes.
    pub fn unreliable(mut self) -> Self {
        self.channel = Channel::Unreliable;
        self.bytes_max = self.bytes_max.min(EVENT_UNRELIABLE_BYTES_MAX);
        self
    }

    /// Sets the longest body, in bytes of JSON.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Gives it a binary form, sent on `channel`.
    pub fn form(mut self, channel: Channel, form: EventForm) -> Self {
        self.channel = channel;
        self.form = Some(form);
        self
    }

    /// The name of its hook in scripts: dots become underscores.
    pub fn script_name(&self) -> String {
        self.name.replace('.', "_")
    }
}
