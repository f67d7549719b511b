//! The opcodes: their numbers, the channel that each travels on, and whether it is counted for resume.

use std::fmt;

use crate::table::messages;

/// The channel of the transport. A WebSocket has one stream for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Reliable and ordered: sessions, heartbeats, rpcs, calls, and the events of features.
    Control = 0,
    /// Reliable and ordered: rooms.
    Data = 1,
    /// Unreliable and sequenced: the newest wins, older ones are dropped.
    Unreliable = 2,
}

/// The channel in which a row's messages are counted for resume.
macro_rules! counted {
    (counted, $channel:ident) => {
        Some(Channel::$channel)
    };
    (uncounted, $channel:ident) => {
        None
    };
}

macro_rules! opcodes {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $channel:ident $counting:ident {
            $(client $client:ident($client_payload:ty $(, $client_id:ident)?))?
            $(server $server:ident($server_payload:ty $(, $server_id:ident)?))?
        }
    )*) => {
        /// An opcode. One number serves a request and its answer, which travel in opposite directions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Opcode {
            $($(#[$doc])* $name = $number,)*
        }

        impl Opcode {
            /// All opcodes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The opcode with this number, if there is one.
            #[must_use]
            pub const fn from_u8(op: u8) -> Option<Self> {
                match op {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name, for logs and metrics. A request and its answer share it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The channel of the transport that it travels on.
            #[must_use]
            pub const fn channel(self) -> Channel {
                match self {
                    $(Self::$name => Channel::$channel,)*
                }
            }

            /// The channel in which it is counted, so that a resumed session can send again what was lost: control or
            /// data. `None` for what is never sent again.
            #[must_use]
            pub const fn counted(self) -> Option<Channel> {
                match self {
                    $(Self::$name => counted!($counting, $channel),)*
                }
            }
        }
    };
}

messages!(opcodes);

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Opcode> for u8 {
    fn from(op: Opcode) -> Self {
        op as Self
    }
}

/// The channel in which a message with this opcode is counted, by its number alone: a message whose payload
/// cannot be read, or that travels the wrong way, is counted too. `None` for unknown numbers.
#[must_use]
pub const fn counted(op: u8) -> Option<Channel> {
    match Opcode::from_u8(op) {
        Some(op) => op.counted(),
        None => None,
    }
}

/// The opcode of the Error that answers a refused message, so that the answer keeps its place among the others
/// of its channel: [`Opcode::RoomError`] for 0x10 to 0x1f, [`Opcode::Error`] for everything else.
#[must_use]
pub const fn refusal(op: u8) -> Opcode {
    if op & 0xf0 == 0x10 { Opcode::RoomError } else { Opcode::Error }
}
