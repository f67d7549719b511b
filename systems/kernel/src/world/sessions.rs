//! Sessions by their ids, and by their users: found by slot, never by scanning.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;

use crate::ids::{SessionId, Slab};

/// Sessions by id.
#[derive(Resource, Default, Debug)]
pub struct SessionIndex {
    pub(crate) slab: Slab,
    /// The id of the session in each slot. The slab does not compare generations; these do.
    ids: Vec<Option<SessionId>>,
    len: usize,
    /// The sessions of each user.
    pub(crate) by_user: BTreeMap<String, Vec<SessionId>>,
    pub(crate) boot: u16,
    pub(crate) node: u8,
}

impl SessionIndex {
    /// The entity of a session.
    pub fn get(&self, id: SessionId) -> Option<Entity> {
        self.ids.get(id.slot() as usize).filter(|current| **current == Some(id))?;
        self.slab.get(id.slot())
    }

    /// The entity of the session in a slot.
    pub fn at(&self, slot: u32) -> Option<Entity> {
        self.slab.get(slot)
    }

    /// The sessions of a user, in the order in which they started; held seats included.
    pub fn of_user(&self, user_id: &str) -> &[SessionId] {
        self.by_user.get(user_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The number of sessions, disconnected ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, Entity)> + '_ {
        self.ids.iter().flatten().filter_map(|id| Some((*id, self.slab.get(id.slot())?)))
    }

    pub(crate) fn reserve(&mut self, sessions_max: u32) -> Option<SessionId> {
        let (slot, generation) = self.slab.reserve(sessions_max.min(SessionId::SLOTS))?;
        let id = SessionId::new(slot, generation, self.boot, self.node);
        let at = slot as usize;
        if self.ids.len() <= at {
            self.ids.resize(at + 1, None);
        }
        *self.ids.get_mut(at)? = Some(id);
        self.len += 1;
        Some(id)
    }

    pub(crate) fn enter(&mut self, id: SessionId, entity: Entity, user: &str) {
        self.slab.set(id.slot(), entity);
        self.by_user.entry(user.to_owned()).or_default().push(id);
    }

    pub(crate) fn remove(&mut self, id: SessionId, user: &str) {
        if let Some(row) = self.ids.get_mut(id.slot() as usize)
            && *row == Some(id)
        {
            *row = None;
            self.len -= 1;
            self.slab.free(id.slot());
        }
        if let Some(sessions) = self.by_user.get_mut(user) {
            sessions.retain(|other| *other != id);
            if sessions.is_empty() {
                self.by_user.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_id_and_by_no_former_one_of_its_slot() {
        let mut index = SessionIndex::default();
        let first = index.reserve(1).expect("a place");
        index.enter(first, Entity::PLACEHOLDER, "ada");
        assert_eq!(index.reserve(1), None);
        index.remove(first, "ada");
        index.remove(first, "ada");
        assert!(index.is_empty() && index.by_user.is_empty());
        let second = index.reserve(1).expect("a place");
        index.enter(second, Entity::PLACEHOLDER, "bob");
        assert_eq!((first.slot(), index.get(first), index.len()), (second.slot(), None, 1));
        assert_eq!(index.iter().map(|(id, _)| id).collect::<Vec<_>>(), [second]);
    }
}
