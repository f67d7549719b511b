//! Room data from scripts and systems.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;
use bytes::Bytes;

use super::asked::Asked;
use crate::ids::{RoomId, SessionId};

/// A broadcast: room data to members. It is separate from commands because it is on the hot path.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// The room.
    pub room: RoomId,
    /// The sender, a member of the room; `None`: the server.
    pub sender: Option<SessionId>,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: Bytes,
    /// The recipients; `None`: all members.
    pub to: Option<Arc<[SessionId]>>,
    /// Whether it is sent reliably.
    pub reliable: bool,
}

/// Sends room data from a system, at the end of `Core::Match`. Data from an earlier stage leaves in this frame; data
/// from `Stage::Match` or later leaves in the next frame.
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

/// The broadcasts of one system, until its deferred parameters are applied.
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

/// Takes the broadcasts that systems requested, in the order of the systems' names.
pub fn take_broadcasts(world: &mut World) -> Vec<Broadcast> {
    if world.resource::<Asked>().broadcasts.is_empty() {
        return Vec::new();
    }
    let broadcasts = world.resource_mut::<Asked>().broadcasts.take();
    broadcasts.into_iter().map(|(_, broadcast)| broadcast).collect()
}
