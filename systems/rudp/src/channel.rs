//! The number of a channel.

use std::fmt;

/// Which promise a message travels under: the number of a channel. Each has its own sequence: none waits for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u8);

impl Channel {
    /// Reliable and ordered, for the session's own affairs; leaves before everything else.
    pub const CONTROL: Channel = Channel(0);
    /// Reliable and ordered, for the application.
    pub const DATA: Channel = Channel(1);
    /// Unreliable and sequenced: may be lost, and a message that arrives after a newer one is dropped.
    pub const UNRELIABLE: Channel = Channel(2);

    /// The number, 0 to 31.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether every message arrives, once and in order.
    pub const fn is_reliable(self) -> bool {
        self.0 != Channel::UNRELIABLE.0
    }

    /// The channel with this number on the wire, which has room for 32.
    pub(crate) const fn from_wire(number: u8) -> Option<Channel> {
        if number < 3 { Some(Channel(number)) } else { None }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}", self.0)
    }
}
