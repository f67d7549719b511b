//! What the application asks for: requests with their ids, and room data.

use bytes::Bytes;
use kaos_wire::limits::{HEADER, RESEND_MAX, ROOM_DATA_HEADER, ROOM_DATA_MAX, UNRELIABLE_DATA_MAX};
use kaos_wire::{Channel, EVERYONE, Opcode, RoomData, encode, prost, v1};

use super::{Core, Phase, REQUESTS_MAX, UNRELIABLE_MAX};
use crate::error::Error;

/// A request that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    Create,
    Join,
    Leave(u16),
    Rpc,
    Call,
}

/// A room to be created. See [`Core::create`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Create {
    /// The match module; empty: a relayed room without a script.
    pub module: String,
    /// A JSON object for `match_init`; empty: none.
    pub params: String,
    /// Relayed rooms only: text, or a JSON object.
    pub label: String,
    /// Seats; 0: the server's default.
    pub max_players: u32,
}

/// A room to join: the one with this id, or an open one of a module, which is created when there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Join {
    /// The room; or
    pub room_id: String,
    /// the module.
    pub module: String,
    /// With `module`: a JSON object for `match_init` when the room is made.
    pub params: String,
    /// A JSON object for `match_join_attempt`.
    pub metadata: String,
    /// With `module`: only rooms whose label equals this text.
    pub label: String,
    /// With `module`: seats when the room is made; 0: the default.
    pub max_players: u32,
}

impl Core {
    /// Asks for a new room; it is not joined. Answer: [`Answer::Created`](crate::Answer::Created).
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::KeepFull`], [`Error::TooManyRequests`], [`Error::TooLong`]. Nothing was sent then;
    /// the same goes for the other requests.
    pub fn create(&mut self, create: Create) -> Result<u32, Error> {
        let Create { module, params, label, max_players } = create;
        self.request(Request::Create, Opcode::RoomCreate, |cid| v1::RoomCreate {
            cid,
            module,
            params,
            label,
            max_players,
        })
    }

    /// Asks for a seat. Answer: [`Answer::Joined`](crate::Answer::Joined).
    ///
    /// # Errors
    /// As [`Core::create`].
    pub fn join(&mut self, join: Join) -> Result<u32, Error> {
        let Join { room_id, module, params, metadata, label, max_players } = join;
        self.request(Request::Join, Opcode::RoomJoin, |cid| v1::RoomJoin {
            cid,
            room_id,
            module,
            params,
            metadata,
            label,
            max_players,
        })
    }

    /// Gives a seat up. Answer: [`Answer::Left`](crate::Answer::Left).
    ///
    /// # Errors
    /// As [`Core::create`]; [`Error::Closed`] when this session is not in the room.
    pub fn leave(&mut self, handle: u16) -> Result<u32, Error> {
        let room_id = self.room_or_closed(handle)?;
        self.request(Request::Leave(handle), Opcode::RoomLeave, |cid| v1::RoomLeave { cid, room_id })
    }

    /// Calls a script's function. Answer: [`Answer::Rpc`](crate::Answer::Rpc).
    ///
    /// # Errors
    /// As [`Core::create`].
    pub fn rpc(&mut self, id: &str, payload: &[u8]) -> Result<u32, Error> {
        self.request(Request::Rpc, Opcode::Rpc, |cid| v1::Rpc {
            cid,
            id: id.to_owned(),
            payload: payload.to_vec(),
        })
    }

    /// Calls an operation by its dotted name with JSON. Answer: [`Answer::Call`](crate::Answer::Call).
    ///
    /// # Errors
    /// As [`Core::create`].
    pub fn call(&mut self, op: &str, body: &[u8]) -> Result<u32, Error> {
        self.request(Request::Call, Opcode::Call, |cid| v1::Call {
            cid,
            op: op.to_owned(),
            body: body.to_vec(),
        })
    }

    /// Sends data to a room's match, or in a relayed room to everyone else. It arrives once and in order.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Closed`], [`Error::KeepFull`], [`Error::TooLong`] over 65,530 bytes.
    pub fn send(&mut self, handle: u16, op: u8, data: &[u8]) -> Result<(), Error> {
        self.send_to(handle, EVERYONE, op, data)
    }

    /// Like [`Core::send`], to the member with this index; relayed rooms only.
    ///
    /// # Errors
    /// As [`Core::send`].
    pub fn send_to(&mut self, handle: u16, index: u16, op: u8, data: &[u8]) -> Result<(), Error> {
        self.room_or_closed(handle)?;
        if data.len() > ROOM_DATA_MAX {
            return Err(Error::TooLong { bytes: data.len(), max: ROOM_DATA_MAX });
        }
        let mut message = Vec::with_capacity(HEADER + ROOM_DATA_HEADER + data.len());
        RoomData { handle, index, op, data }.encode(&mut message)?;
        self.push_counted(Channel::Data, message.into())
    }

    /// Sends data that may be lost, and is dropped while there is no connection. Over UDP it never arrives after newer data.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Closed`], [`Error::TooLong`] over 1,112 bytes, which is what fits a datagram.
    pub fn send_unreliable(&mut self, handle: u16, op: u8, data: &[u8]) -> Result<(), Error> {
        self.room_or_closed(handle)?;
        if data.len() > UNRELIABLE_DATA_MAX {
            return Err(Error::TooLong { bytes: data.len(), max: UNRELIABLE_DATA_MAX });
        }
        if self.phase == Phase::Live {
            let mut message = Vec::with_capacity(HEADER + ROOM_DATA_HEADER + data.len());
            RoomData { handle, index: EVERYONE, op, data }.encode_unreliable(&mut message)?;
            if self.unreliable.len() >= UNRELIABLE_MAX {
                self.unreliable.pop_front();
            }
            self.unreliable.push_back(message.into());
        }
        Ok(())
    }

    /// True when the resend buffer has space for a reliable message with a payload of this many bytes.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.kept_bytes + HEADER + bytes <= RESEND_MAX
    }

    fn room_or_closed(&self, handle: u16) -> Result<String, Error> {
        if let Phase::Ended(end) = &self.phase {
            return Err(Error::Ended(end.clone()));
        }
        let room = self.room(handle).map(|room| room.room_id.clone());
        room.ok_or_else(|| Error::Closed { reason: "not_joined".to_owned() })
    }

    fn request<M: prost::Message>(
        &mut self,
        kind: Request,
        op: Opcode,
        build: impl FnOnce(u32) -> M,
    ) -> Result<u32, Error> {
        if let Phase::Ended(end) = &self.phase {
            return Err(Error::Ended(end.clone()));
        }
        if self.requests.len() >= REQUESTS_MAX {
            return Err(Error::TooManyRequests { max: REQUESTS_MAX });
        }
        let mut cid = self.cid;
        loop {
            cid = cid.wrapping_add(1).max(1);
            if !self.requests.contains_key(&cid) {
                break;
            }
        }
        let mut message = Vec::new();
        encode(op, &build(cid), &mut message)?;
        self.push_counted(op.counted().unwrap_or(Channel::Control), message.into())?;
        self.cid = cid;
        self.requests.insert(cid, kind);
        Ok(cid)
    }

    /// Puts a message into its channel's resend buffer, from which it is sent.
    fn push_counted(&mut self, channel: Channel, message: Bytes) -> Result<(), Error> {
        if self.kept_bytes + message.len() > RESEND_MAX {
            return Err(Error::KeepFull);
        }
        self.kept_bytes += message.len();
        self.resend[channel as usize].push(message);
        Ok(())
    }
}
