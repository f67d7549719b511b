//! Rooms by their ids.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;

use crate::ids::RoomId;

/// Rooms by id. In the order of ids, which is the order in which matches run.
#[derive(Resource, Default, Debug)]
pub struct RoomIndex(BTreeMap<RoomId, Entity>);

impl RoomIndex {
    /// The entity of a room.
    pub fn get(&self, id: RoomId) -> Option<Entity> {
        self.0.get(&id).copied()
    }

    /// Adds a room.
    pub fn insert(&mut self, id: RoomId, entity: Entity) {
        self.0.insert(id, entity);
    }

    /// Removes a room.
    pub fn remove(&mut self, id: RoomId) {
        self.0.remove(&id);
    }

    /// In the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (RoomId, Entity)> + '_ {
        self.0.iter().map(|(id, entity)| (*id, *entity))
    }

    /// The number of rooms.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
