//! Where a connection stands with its session, the same over every transport: nothing before the start, data after it.

use bytes::Bytes;
use kaos_kernel::fault::{Fault, FaultKind};

use crate::kaos::start::Opening;

/// The state of a connection that is open. One that was refused, or sent an empty message, has none: its transport reads
/// nothing more of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Handshake {
    /// The next message has to be a SessionStart.
    #[default]
    AwaitingStart,
    /// The session has started, or is about to: the frame decides what the messages mean.
    Started,
}

/// What a message of the transport is.
#[derive(PartialEq, Debug)]
pub enum Received {
    /// The session starts.
    Start(Box<Opening>),
    /// Data for the frame.
    Data(Bytes),
    /// Data without any message in it. The frame hears of it, and ends the session; the transport says the fault and
    /// closes the connection.
    Empty(Bytes, Fault),
    /// No session starts. The transport says the fault and closes the connection.
    Refused(Fault),
}

impl Handshake {
    /// Takes one message of the transport. `read_start` reads the first one: [`Opening::read`], and whatever else
    /// the transport requires.
    pub fn receive(
        &mut self,
        bytes: Bytes,
        read_start: impl FnOnce(&Bytes) -> Result<Opening, Fault>,
    ) -> Received {
        match self {
            Handshake::AwaitingStart => match read_start(&bytes) {
                Ok(opening) => {
                    *self = Handshake::Started;
                    Received::Start(Box::new(opening))
                }
                Err(fault) => Received::Refused(fault),
            },
            Handshake::Started if bytes.is_empty() => Received::Empty(bytes, empty_message()),
            Handshake::Started => Received::Data(bytes),
        }
    }
}

/// The fault for a frame that holds no message.
fn empty_message() -> Fault {
    Fault::new(FaultKind::Protocol, "the frame is empty: each has to hold at least one message")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kaos_kernel::input::Claim;

    use super::*;

    fn opening() -> Opening {
        let claim = Claim::Anonymous { name: "ada".into() };
        Opening { claim, fresh: [7; 16], vars: BTreeMap::new(), rest: Bytes::new() }
    }

    #[test]
    fn the_first_message_starts_and_all_others_are_data() {
        let mut handshake = Handshake::default();
        let first = handshake.receive(Bytes::from_static(b"start"), |bytes| {
            assert_eq!(bytes, &b"start"[..]);
            Ok(opening())
        });
        assert_eq!(first, Received::Start(Box::new(opening())));
        let never = |_: &Bytes| panic!("only the first message is a start");
        let data = Bytes::from_static(b"data");
        assert_eq!(handshake.receive(data.clone(), never), Received::Data(data));
        assert_eq!(handshake.receive(Bytes::new(), never), Received::Empty(Bytes::new(), empty_message()));
    }

    #[test]
    fn a_start_that_is_refused_starts_nothing() {
        let mut handshake = Handshake::default();
        let refused = handshake.receive(Bytes::new(), |_| Err(FaultKind::Protocol.into()));
        assert_eq!(refused, Received::Refused(FaultKind::Protocol.into()));
        assert_eq!(handshake, Handshake::AwaitingStart);
    }
}
