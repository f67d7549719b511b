//! Room data from scripts and systems.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;
use bytes::Bytes;

use super::asked::Asked;
use crate::ids::{RoomId, SessionId};

/// A broadcast: room data to members. Kept apart from commands since it is the hot path.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// To which room.
    pub room: RoomId,
    /// In whose name; `None`: the server's.
    pub sender: Option<SessionId>,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// To whom; `None`: all members.
    pub to: Option<Arc<[SessionId]>>,
    /// Must it arrive?
    pub reliable: bool,
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
