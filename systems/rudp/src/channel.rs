//! The three channels of this version.

/// Which promise a message travels under. Each channel has its own sequence: none waits for another.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// Reliable and ordered, for the session's own affairs; leaves before everything else.
    Control = 0,
    /// Reliable and ordered, for the application.
    Data = 1,
    /// Unreliable and sequenced: may be lost, and a message that arrives after a newer one is dropped.
    Unreliable = 2,
}

impl Channel {
    /// All channels, by number.
    pub const ALL: [Channel; 3] = [Channel::Control, Channel::Data, Channel::Unreliable];

    /// Whether every message arrives, once and in order.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Channel::Unreliable)
    }

    /// The channel with this number on the wire, which has room for 32.
    pub(crate) const fn from_wire(number: u8) -> Option<Channel> {
        match number {
            0 => Some(Channel::Control),
            1 => Some(Channel::Data),
            2 => Some(Channel::Unreliable),
            _ => None,
        }
    }
}
