//! The messages of a frame.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::codec::{Encoded, Outbound, SessionCodec, TO_ROOM};
use crate::fault::Fault;
use crate::op::Ops;
use crate::output::{Channel, HeadKind};

/// The messages of this frame. Each payload is written once and may have many recipients; Flush sends it to each.
#[derive(Resource, Default)]
pub struct Outbox {
    payloads: Vec<Encoded>,
    sends: Vec<Addressed>,
    /// The length of the longer list, the most since [`Outbox::most`] was called last.
    most: usize,
}

/// A payload with one recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addressed {
    /// The recipient's session slot.
    pub(crate) slot: u32,
    /// The recipient's room handle; 0 for a message that does not belong to a room.
    pub(crate) handle: u16,
    /// The index of the payload.
    pub(crate) payload: u32,
}

impl Outbox {
    /// Adds a payload without recipients. Returns its index, for [`Outbox::to`] in the same frame.
    pub fn payload(&mut self, encoded: Encoded) -> u32 {
        self.payloads.push(encoded);
        u32::try_from(self.payloads.len() - 1).unwrap_or(u32::MAX)
    }

    /// Sends a payload, by its index, to the session in `slot`. `handle` is that session's handle of the room, or 0 for
    /// a message that does not belong to a room.
    pub fn to(&mut self, slot: u32, handle: u16, payload: u32) {
        self.sends.push(Addressed { slot, handle, payload });
    }

    /// Whether both lists are empty. A payload without recipients counts, because it has to be removed too.
    pub(crate) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.payloads.is_empty()
    }

    /// Takes the payloads and their recipients.
    pub(crate) fn take(&mut self) -> (Vec<Encoded>, Vec<Addressed>) {
        (std::mem::take(&mut self.payloads), std::mem::take(&mut self.sends))
    }

    /// Returns both lists, so that the next frame uses their memory again.
    pub(crate) fn give_back(&mut self, mut payloads: Vec<Encoded>, mut sends: Vec<Addressed>) {
        self.most = self.most.max(payloads.len()).max(sends.len());
        payloads.clear();
        sends.clear();
        self.payloads = payloads;
        self.sends = sends;
    }

    /// The length of the longer list, the most since the last call.
    pub(crate) fn most(&mut self) -> usize {
        std::mem::take(&mut self.most)
    }

    /// Shrinks each list's capacity to `rows`.
    pub(crate) fn shrink_to(&mut self, rows: usize) {
        self.payloads.shrink_to(rows);
        self.sends.shrink_to(rows);
    }
}

/// Encodes a message and adds it to the outbox. Returns its index, for [`Outbox::to`].
///
/// # Errors
/// `invalid`: the message is longer than the format can carry. `internal`: no door registered a codec.
pub fn post(world: &mut World, message: &Outbound) -> Result<u32, Fault> {
    let encoded = {
        let codec = world
            .get_resource::<SessionCodec>()
            .ok_or_else(|| Fault::internal("no codec was registered: add a door"))?;
        codec.0.encode(message, &world.resource::<Ops>().0)?
    };
    Ok(world.resource_mut::<Outbox>().payload(encoded))
}

/// Room data as an encoded message. The body is the game's own bytes, so only the head needs the codec. `sender` is the
/// index of a member; `None`: the server.
pub fn room_data(opcode: u8, sender: Option<u16>, op: u8, data: Bytes, channel: Channel) -> Encoded {
    let counted = channel != Channel::Unreliable;
    Encoded {
        op: opcode,
        channel,
        counted,
        head: HeadKind::Data { sender: sender.unwrap_or(TO_ROOM), op },
        body: data,
    }
}
