//! A room of a test server, looked at from outside.

use std::cell::RefCell;
use std::rc::Rc;

use kaos_kernel::prelude::*;
use serde_json::Value as Json;

use super::run::Inner;

/// A room, looked at from outside.
pub struct RoomView {
    inner: Rc<RefCell<Inner>>,
    id: RoomId,
}

impl RoomView {
    pub(super) fn new(inner: &Rc<RefCell<Inner>>, id: RoomId) -> RoomView {
        RoomView { inner: inner.clone(), id }
    }

    /// Its id.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// A part of its match's state, by JSON pointer (RFC 6901); `""` is the whole. Null when it is not there.
    pub fn state(&self, pointer: &str) -> Json {
        let mut inner = self.inner.borrow_mut();
        let state = kaos_rooms::match_state(inner.server.world(), self.id).unwrap_or_default();
        state.pointer(pointer).cloned().unwrap_or_default()
    }

    /// Who is in it, in the order of joining.
    pub fn members(&self) -> Vec<String> {
        let mut inner = self.inner.borrow_mut();
        let world = inner.server.world();
        let Some(room) = world.room(self.id) else { return Vec::new() };
        let members = world.get::<Presences>(room).map(Presences::entities).unwrap_or_default();
        let infos = members.iter().filter_map(|entity| world.get::<Presence>(*entity));
        infos.map(|presence| presence.info.username.clone()).collect()
    }

    /// Is it still there?
    pub fn exists(&self) -> bool {
        self.inner.borrow_mut().server.world().room(self.id).is_some()
    }
}
