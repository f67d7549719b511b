//! Presences: one session in one room. An entity of its own, since a session may be in several rooms.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::SessionId;

/// What others see of a presence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PresenceInfo {
    /// The session.
    pub session_id: SessionId,
    /// Its user.
    pub user_id: String,
    /// Its name.
    pub username: String,
    /// The seat: the sender index in room data, stable until the presence leaves. 0 to 65534.
    pub index: u16,
    /// Whether it is connected; if not, its seat is held until it comes back.
    pub connected: bool,
    /// When leaving: one word that says why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// One session in one room.
#[derive(Component, Debug)]
pub struct Presence {
    /// The session's handle for the room.
    pub handle: u16,
    /// The slot of its session, for sending without a look-up.
    pub session_slot: u32,
    /// What others see of it. Shared with messages under way, replaced when it changes.
    pub info: Arc<PresenceInfo>,
}

/// The room of a presence.
#[derive(Component, Debug)]
#[relationship(relationship_target = Presences)]
pub struct InRoom(pub Entity);

/// The presences of a room, in the order of joining.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = InRoom, linked_spawn)]
pub struct Presences(Vec<Entity>);

/// The session of a presence.
#[derive(Component, Debug)]
#[relationship(relationship_target = Joined)]
pub struct PresenceOf(pub Entity);

/// The presences of a session, in the order of joining.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = PresenceOf, linked_spawn)]
pub struct Joined(Vec<Entity>);

impl Presences {
    /// The presences, in the order of joining.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

impl Joined {
    /// The presences, in the order of joining.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}
