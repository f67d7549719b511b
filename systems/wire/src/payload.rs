//! Bytes from strangers become payloads: decoded, checked, and refused with the request's id where it can be read.

use prost::Message;

use crate::{
    check::{Check, Checked},
    error::WireError,
    opcode::Opcode,
    room_data::RoomData,
};

/// What a row of the table carries.
pub(crate) trait Payload<'a>: Sized {
    /// The payload as it is, whatever its fields say.
    fn decode(op: u8, payload: &'a [u8]) -> Result<Self, WireError>;

    /// The first field that breaks its limits.
    fn check(&self) -> Checked;
}

impl<M: Message + Default + Check> Payload<'_> for M {
    fn decode(op: u8, payload: &[u8]) -> Result<Self, WireError> {
        <M as Message>::decode(payload).map_err(|source| WireError::Payload { op, source })
    }

    fn check(&self) -> Checked {
        Check::check(self)
    }
}

impl<'a> Payload<'a> for RoomData<'a> {
    fn decode(op: u8, payload: &'a [u8]) -> Result<Self, WireError> {
        if op == Opcode::RoomDataUnreliable as u8 {
            Self::decode_unreliable(payload)
        } else {
            Self::decode(payload)
        }
    }

    fn check(&self) -> Checked {
        Ok(())
    }
}

/// Reads and checks a payload. `cid` is the id of its request.
pub(crate) fn read<'a, P: Payload<'a>>(
    op: u8,
    payload: &'a [u8],
    cid: impl FnOnce(&P) -> u32,
) -> Result<P, WireError> {
    let read = P::decode(op, payload)?;
    match read.check() {
        Ok(()) => Ok(read),
        Err((field, problem)) => Err(WireError::Field { op, cid: cid(&read), field, problem }),
    }
}
