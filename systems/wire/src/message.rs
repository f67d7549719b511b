//! The message header, `op u8 | len u16 LE | payload`: splitting bytes into messages and writing them.

use prost::Message;

use crate::{
    error::WireError,
    limits::{HEADER, PAYLOAD_MAX},
    opcode::Opcode,
};

/// Splits bytes into messages. See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// Splits the bytes of one datagram or one WebSocket frame into its messages, as opcode and payload.
///
/// The opcode is not looked at. Bytes that end inside a message give one [`WireError::Truncated`], and then
/// nothing more; empty bytes hold no message and are no error.
#[must_use]
pub fn messages(bytes: &[u8]) -> Messages<'_> {
    Messages { rest: bytes }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<(u8, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let whole = std::mem::take(&mut self.rest);
        if whole.is_empty() {
            return None;
        }
        let Some((&[op, low, high], after)) = whole.split_first_chunk::<HEADER>() else {
            return Some(Err(WireError::Truncated { need: HEADER, have: whole.len() }));
        };
        let len = usize::from(u16::from_le_bytes([low, high]));
        let Some((payload, rest)) = after.split_at_checked(len) else {
            return Some(Err(WireError::Truncated { need: HEADER + len, have: whole.len() }));
        };
        self.rest = rest;
        Some(Ok((op, payload)))
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

/// Appends the header of a message whose payload has `len` bytes; the caller appends the payload.
///
/// # Errors
/// [`WireError::TooLong`] over 65,535 bytes; nothing is written then.
pub fn put_header(op: Opcode, len: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let Ok(len) = u16::try_from(len) else { return Err(WireError::TooLong { bytes: len }) };
    let [low, high] = len.to_le_bytes();
    out.extend_from_slice(&[op as u8, low, high]);
    Ok(())
}

/// Appends a message with a protobuf payload.
///
/// # Errors
/// [`WireError::TooLong`] over 65,535 bytes; nothing is written then.
pub fn encode(op: Opcode, payload: &impl Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    let len = payload.encoded_len();
    put_header(op, len, out)?;
    out.reserve(len);
    payload.encode_raw(out);
    Ok(())
}

/// Appends a message whose payload is already bytes.
///
/// # Errors
/// [`WireError::TooLong`] over 65,535 bytes; nothing is written then.
pub fn encode_raw(op: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    put_header(op, payload.len(), out)?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Bytes of the whole message that [`encode`] would append.
///
/// # Errors
/// [`WireError::TooLong`] when the payload is over 65,535 bytes.
pub fn encoded_len(payload: &impl Message) -> Result<usize, WireError> {
    match payload.encoded_len() {
        len if len <= PAYLOAD_MAX => Ok(HEADER + len),
        bytes => Err(WireError::TooLong { bytes }),
    }
}
