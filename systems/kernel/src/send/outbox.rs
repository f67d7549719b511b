//! The messages of a frame.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::codec::{Encoded, Outbound, SessionCodec, TO_ROOM};
use crate::fault::Fault;
use crate::op::Ops;
use crate::output::{Channel, HeadKind};

/// Messages of this frame: written once, addressed many times, expanded by Flush.
#[derive(Resource, Default)]
pub struct Outbox {
    payloads: Vec<Encoded>,
    /// Session slot, room handle, payload.
    sends: Vec<(u32, u16, u32)>,
    /// The most of either since it was asked.
    most: usize,
}

impl Outbox {
    /// Adds a message for [`Outbox::to`].
    pub fn payload(&mut self, encoded: Encoded) -> u32 {
        self.payloads.push(encoded);
        u32::try_from(self.payloads.len() - 1).unwrap_or(u32::MAX)
    }

    /// Sends a payload to the session in `slot`, which calls the room `handle`.
    pub fn to(&mut self, slot: u32, handle: u16, payload: u32) {
        self.sends.push((slot, handle, payload));
    }

    /// A payload that is for nobody counts: it has to go too.
    pub(crate) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.payloads.is_empty()
    }

    pub(crate) fn take(&mut self) -> (Vec<Encoded>, Vec<(u32, u16, u32)>) {
        (std::mem::take(&mut self.payloads), std::mem::take(&mut self.sends))
    }

    /// Gives the lists back so that their memory serves the next frame.
    pub(crate) fn give_back(&mut self, mut payloads: Vec<Encoded>, mut sends: Vec<(u32, u16, u32)>) {
        self.most = self.most.max(payloads.len()).max(sends.len());
        payloads.clear();
        sends.clear();
        self.payloads = payloads;
        self.sends = sends;
    }

    /// The rows of the longer list, the most since this was asked last.
    pub(crate) fn most(&mut self) -> usize {
        std::mem::take(&mut self.most)
    }

    /// Gives memory beyond so many rows back.
    pub(crate) fn shrink_to(&mut self, rows: usize) {
        self.payloads.shrink_to(rows);
        self.sends.shrink_to(rows);
    }
}

/// Encodes a message and adds it to the outbox. What is too long for the format is an error.
///
/// # Errors
/// `invalid`: longer than the format can carry.
pub fn post(world: &mut World, message: &Outbound) -> Result<u32, Fault> {
    let encoded = {
        let codec = world
            .get_resource::<SessionCodec>()
            .ok_or_else(|| Fault::internal("no codec was registered: add a door"))?;
        codec.0.encode(message, &world.resource::<Ops>().0)?
    };
    Ok(world.resource_mut::<Outbox>().payload(encoded))
}

/// Room data encoded without asking the codec for more than its head: the body is what the script gave.
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
