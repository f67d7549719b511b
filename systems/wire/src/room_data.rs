//! RoomData, the one payload that is not protobuf: `handle u16 LE | index u16 LE | op u8 | data`.

use crate::{
    error::WireError,
    limits::{ROOM_DATA_HEADER, UNRELIABLE_DATA_MAX},
    message::put_header,
    opcode::Opcode,
};

/// The index that means the server, as the sender of RoomData that a match sent in its own name.
pub const SERVER: u16 = u16::MAX;

/// The index that means the room, as the recipient: its match, or in a relayed room everyone but the sender.
pub const EVERYONE: u16 = u16::MAX;

/// One RoomData, borrowed from the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomData<'a> {
    /// The room, by the number that this session got when it joined.
    pub handle: u16,
    /// From the server: the sender's index, or [`SERVER`]. From a client: the recipient's, or [`EVERYONE`].
    pub index: u16,
    /// The game's own number for what the data means; the server gives it to the match as it is.
    pub op: u8,
    /// The game's own bytes; may be empty.
    pub data: &'a [u8],
}

impl<'a> RoomData<'a> {
    /// Reads the payload of [`Opcode::RoomData`].
    ///
    /// # Errors
    /// [`WireError::ShortRoomData`] under 5 bytes.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let Some((&[h0, h1, i0, i1, op], data)) = payload.split_first_chunk::<ROOM_DATA_HEADER>() else {
            return Err(WireError::ShortRoomData { bytes: payload.len() });
        };
        Ok(Self { handle: u16::from_le_bytes([h0, h1]), index: u16::from_le_bytes([i0, i1]), op, data })
    }

    /// Reads the payload of [`Opcode::RoomDataUnreliable`].
    ///
    /// # Errors
    /// [`WireError::ShortRoomData`] under 5 bytes, [`WireError::UnreliableTooLong`] over 1,112 bytes of data.
    pub fn decode_unreliable(payload: &'a [u8]) -> Result<Self, WireError> {
        let read = Self::decode(payload)?;
        fits_a_datagram(read.data)?;
        Ok(read)
    }

    /// The 5 bytes that stand before the data. They differ per recipient, the data does not.
    #[must_use]
    pub const fn header(&self) -> [u8; ROOM_DATA_HEADER] {
        let ([h0, h1], [i0, i1]) = (self.handle.to_le_bytes(), self.index.to_le_bytes());
        [h0, h1, i0, i1, self.op]
    }

    /// Appends the whole message, reliable.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when data and header are over 65,535 bytes; nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.encode_as(Opcode::RoomData, out)
    }

    /// Appends the whole message, unreliable.
    ///
    /// # Errors
    /// [`WireError::UnreliableTooLong`] over 1,112 bytes of data; nothing is written then.
    pub fn encode_unreliable(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        fits_a_datagram(self.data)?;
        self.encode_as(Opcode::RoomDataUnreliable, out)
    }

    fn encode_as(&self, op: Opcode, out: &mut Vec<u8>) -> Result<(), WireError> {
        put_header(op, ROOM_DATA_HEADER.saturating_add(self.data.len()), out)?;
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.data);
        Ok(())
    }
}

fn fits_a_datagram(data: &[u8]) -> Result<(), WireError> {
    match data.len() {
        bytes if bytes > UNRELIABLE_DATA_MAX => Err(WireError::UnreliableTooLong { bytes }),
        _ => Ok(()),
    }
}
