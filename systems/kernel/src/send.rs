//! What systems want done to sessions: messages and kicks, written from anywhere, applied in a fixed order: kicks in Flush,
//! broadcasts at the end of Match.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;
use bytes::Bytes;

use crate::codec::{Encoded, Outbound, SessionCodec, TO_ROOM};
use crate::event::Waiting;
use crate::fault::{Fault, FaultKind};
use crate::ids::{RoomId, SessionId};
use crate::op::Ops;
use crate::output::HeadKind;
use crate::script::Broadcast;

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
/// [`FaultKind::Invalid`]: longer than the format can carry.
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
pub fn room_data(
    opcode: u8,
    sender: Option<u16>,
    op: u8,
    data: Bytes,
    channel: crate::output::Channel,
) -> Encoded {
    let counted = channel != crate::output::Channel::Unreliable;
    Encoded {
        op: opcode,
        channel,
        counted,
        head: HeadKind::Data { sender: sender.unwrap_or(TO_ROOM), op },
        body: data,
    }
}

/// What was asked for, by session and room, so that the order of asking systems does not show.
#[derive(Resource, Default)]
pub(crate) struct Asked {
    pub(crate) kicks: BTreeMap<SessionId, String>,
    pub(crate) broadcasts: BySource<Broadcast>,
    pub(crate) pushes: BySource<Waiting>,
}

impl Asked {
    pub(crate) fn is_empty(&self) -> bool {
        self.kicks.is_empty() && self.broadcasts.is_empty() && self.pushes.is_empty()
    }
}

/// What systems and scripts asked for, each with the name of who asked.
pub(crate) struct BySource<T>(Vec<(String, T)>);

impl<T> Default for BySource<T> {
    fn default() -> Self {
        BySource(Vec::new())
    }
}

impl<T> BySource<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what one source asked for.
    pub(crate) fn add(&mut self, source: &str, asked: impl IntoIterator<Item = T>) {
        self.0.extend(asked.into_iter().map(|one| (source.to_owned(), one)));
    }

    /// Takes all of it: in the order of the sources' names, and within one source in the order in which it asked. The
    /// order in which systems happen to run does not show.
    pub(crate) fn take(&mut self) -> Vec<(String, T)> {
        let mut all = std::mem::take(&mut self.0);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

/// Closes sessions from a system. Several kicks of one session in a frame are one, for the least reason.
#[derive(SystemParam)]
pub struct Kicks<'s> {
    buffer: Deferred<'s, KickBuffer>,
}

impl Kicks<'_> {
    /// Closes a session at the end of this frame; the client is told `kicked` and this reason.
    pub fn kick(&mut self, session: SessionId, reason: &str) {
        self.buffer.0.push((session, reason.to_owned()));
    }
}

#[derive(Default)]
pub(crate) struct KickBuffer(Vec<(SessionId, String)>);

impl SystemBuffer for KickBuffer {
    fn queue(&mut self, _: &SystemMeta, mut world: DeferredWorld<'_>) {
        if self.0.is_empty() {
            return;
        }
        let mut asked = world.resource_mut::<Asked>();
        for (session, reason) in self.0.drain(..) {
            let known = asked.kicks.entry(session).or_insert_with(|| reason.clone());
            if reason < *known {
                *known = reason;
            }
        }
    }
}

/// Sends room data from a system. What is asked for before `Core::Match` leaves in this frame; what is asked for in
/// `Stage::Match` or later leaves in the next one, since the rooms have had their turn.
#[derive(SystemParam)]
pub struct Broadcasts<'s> {
    buffer: Deferred<'s, BroadcastBuffer>,
}

impl Broadcasts<'_> {
    /// Sends data to all members of a room, in the server's name; see [`Broadcasts`] for when.
    pub fn broadcast(&mut self, room: RoomId, op: u8, data: impl Into<Bytes>, reliable: bool) {
        self.buffer.0.push(Broadcast { room, sender: None, op, data: data.into(), to: None, reliable });
    }

    /// Sends data to one member of a room, in the server's name; see [`Broadcasts`] for when.
    pub fn send(&mut self, room: RoomId, session: SessionId, op: u8, data: impl Into<Bytes>, reliable: bool) {
        let to = Some([session].into());
        self.buffer.0.push(Broadcast { room, sender: None, op, data: data.into(), to, reliable });
    }
}

#[derive(Default)]
pub(crate) struct BroadcastBuffer(Vec<Broadcast>);

impl SystemBuffer for BroadcastBuffer {
    fn queue(&mut self, system: &SystemMeta, mut world: DeferredWorld<'_>) {
        if self.0.is_empty() {
            return;
        }
        world.resource_mut::<Asked>().broadcasts.add(&system.name().to_string(), self.0.drain(..));
    }
}

/// Takes what systems asked to be sent, in the order of their names.
pub fn take_broadcasts(world: &mut World) -> Vec<Broadcast> {
    if world.resource::<Asked>().broadcasts.is_empty() {
        return Vec::new();
    }
    let broadcasts = world.resource_mut::<Asked>().broadcasts.take();
    broadcasts.into_iter().map(|(_, broadcast)| broadcast).collect()
}

/// Why a session that was kicked ends: for this reason, or for the usual one when it is empty.
pub fn kicked(reason: String) -> Fault {
    if reason.is_empty() { FaultKind::Kicked.into() } else { Fault::new(FaultKind::Kicked, reason) }
}
