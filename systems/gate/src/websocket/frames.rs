//! From WebSocket frames to whole messages: fragments are joined, pings answered, and what holds no message has a rate.

use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload, WebSocketError};
use kaos_kernel::fault::FaultKind;
use kaos_kernel::input::Gone;
use kaos_kernel::limit::{Gcra, Rate};
use kaos_wire::limits::WEBSOCKET_FRAME_MAX;
use tokio::time::Instant;

use crate::bridge::link::Link;
use crate::websocket::Ending;

/// Pings, pongs, and fragments that end no frame, that a connection may send a second. No message is in them, so no
/// limit of the session sees them.
const EXTRAS: u32 = 256;

/// How many of them may come at once.
const EXTRAS_BURST: u32 = 1024;

/// The longest payload of a ping or pong (RFC 6455 5.5).
const CONTROL_MAX: usize = 125;

/// Frames below this are copied out of the read buffer, which they would hold as a whole.
const COPY_BELOW: usize = 4096;

/// What was read of a connection and is no whole message yet.
pub(super) struct Frames {
    parts: Option<BytesMut>,
    since: Instant,
    extras: Gcra,
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames { parts: None, since: Instant::now(), extras: Gcra::default() }
    }

    /// Takes a frame. Returns the message that it completes, if it completes one.
    ///
    /// # Errors
    /// The connection is to be closed: the other side closes it, broke a rule of the protocol, or sent too much that
    /// holds no message.
    pub(super) fn add(&mut self, frame: Frame<'_>, link: &Link) -> Result<Option<Bytes>, Ending> {
        // First of all: what is over the rate gets neither an answer nor memory.
        self.count(&frame)?;
        match (frame.opcode, &mut self.parts) {
            (OpCode::Close, _) => Err((Gone::Closed, (1000, ""))),
            (OpCode::Ping, _) => {
                link.pong(frame.payload.to_vec());
                Ok(None)
            }
            (OpCode::Pong, _) => Ok(None),
            (OpCode::Text, _) => Err((Gone::Protocol, (1003, "binary_only"))),
            (OpCode::Binary, None) if frame.fin => Ok(Some(whole(frame.payload))),
            (OpCode::Binary, None) => {
                self.parts = Some(BytesMut::from(&frame.payload[..]));
                Ok(None)
            }
            (OpCode::Continuation, Some(collected)) => {
                if collected.len() + frame.payload.len() > WEBSOCKET_FRAME_MAX {
                    return Err((Gone::Protocol, (1009, "too_long")));
                }
                collected.extend_from_slice(&frame.payload);
                Ok(if frame.fin { self.parts.take().map(BytesMut::freeze) } else { None })
            }
            (OpCode::Binary | OpCode::Continuation, _) => Err((Gone::Protocol, (1002, "fragments"))),
        }
    }

    /// Counts a frame that holds no whole message.
    fn count(&mut self, frame: &Frame<'_>) -> Result<(), Ending> {
        let control = matches!(frame.opcode, OpCode::Ping | OpCode::Pong);
        if control && frame.payload.len() > CONTROL_MAX {
            return Err((Gone::Protocol, (1002, "protocol")));
        }
        if control || !frame.fin {
            let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if self.extras.take(now_ns, 1, Rate::new(EXTRAS, EXTRAS_BURST)).is_err() {
                return Err((Gone::Protocol, (1008, FaultKind::RateLimited.name())));
            }
        }
        Ok(())
    }
}

fn whole(payload: Payload<'_>) -> Bytes {
    match payload {
        Payload::Bytes(bytes) if bytes.len() >= COPY_BELOW => bytes.freeze(),
        payload => Bytes::copy_from_slice(&payload),
    }
}

/// How a connection ends whose frames cannot be read.
pub(super) fn ended(error: &WebSocketError) -> Ending {
    match error {
        WebSocketError::FrameTooLarge => (Gone::Protocol, (1009, "too_long")),
        WebSocketError::InvalidUTF8 => (Gone::Protocol, (1003, "binary_only")),
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) | WebSocketError::ConnectionClosed => {
            (Gone::Closed, (1000, ""))
        }
        _ => (Gone::Protocol, (1002, "protocol")),
    }
}
