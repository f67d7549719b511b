//! Peers by their ids: found by slot, never by scanning.

use bevy_ecs::prelude::*;

use crate::ids::PeerId;

/// Peers by id. A plain table, because the doors hand out the slots.
#[derive(Resource, Default, Debug)]
pub(crate) struct PeerIndex {
    rows: Vec<Option<(PeerId, Entity)>>,
    pub(crate) len: usize,
}

impl PeerIndex {
    /// No door gives slots beyond this; an input that claims one is refused.
    const SLOTS_MAX: usize = 1 << 21;

    pub(crate) fn get(&self, id: PeerId) -> Option<Entity> {
        let (current, entity) = self.rows.get(id.slot as usize).copied().flatten()?;
        (current == id).then_some(entity)
    }

    /// Whether this id may be added. A door reuses a slot only after it reported that its peer is gone.
    pub(crate) fn is_free(&self, id: PeerId) -> bool {
        let at = id.slot as usize;
        at < Self::SLOTS_MAX && self.rows.get(at).is_none_or(Option::is_none)
    }

    /// Adds a peer whose place [is free](PeerIndex::is_free).
    pub(crate) fn insert(&mut self, id: PeerId, entity: Entity) {
        if !self.is_free(id) {
            return;
        }
        let at = id.slot as usize;
        if self.rows.len() <= at {
            self.rows.resize(at + 1, None);
        }
        if let Some(row) = self.rows.get_mut(at) {
            *row = Some((id, entity));
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Entity> {
        let entity = self.get(id)?;
        if let Some(row) = self.rows.get_mut(id.slot as usize) {
            *row = None;
            self.len -= 1;
        }
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
        }
        Some(entity)
    }
}
