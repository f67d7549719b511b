//! Lookups in the world by the ids that the rest of the server uses.

mod rooms;
mod sessions;

pub use rooms::RoomIndex;
pub use sessions::SessionIndex;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bevy_ecs::prelude::*;

use crate::ids::{RoomId, SessionId};
use crate::op::{OpTable, Ops};

/// Frequent lookups. They panic in a world that no server was built from.
pub trait WorldExt {
    /// The entity of a session, if it is still there.
    fn session(&self, id: SessionId) -> Option<Entity>;

    /// A component of a session, if it is still there and has one.
    fn of_session<C: Component>(&self, id: SessionId) -> Option<&C>;

    /// The entity of a room, if it is still there.
    fn room(&self, id: RoomId) -> Option<Entity>;

    /// The operation table.
    fn ops(&self) -> Arc<OpTable>;

    /// Takes non-send data out of the world for the length of `work`, and puts it back however `work` ends, a panic
    /// included. `None` when it is not there, or is out already.
    fn non_send_scope<T: 'static, R>(&mut self, work: impl FnOnce(&mut World, &mut T) -> R) -> Option<R>;
}

impl WorldExt for World {
    fn session(&self, id: SessionId) -> Option<Entity> {
        self.resource::<SessionIndex>().get(id)
    }

    fn of_session<C: Component>(&self, id: SessionId) -> Option<&C> {
        self.get::<C>(self.session(id)?)
    }

    fn room(&self, id: RoomId) -> Option<Entity> {
        self.resource::<RoomIndex>().get(id)
    }

    fn ops(&self) -> Arc<OpTable> {
        self.resource::<Ops>().0.clone()
    }

    fn non_send_scope<T: 'static, R>(&mut self, work: impl FnOnce(&mut World, &mut T) -> R) -> Option<R> {
        let mut taken = self.remove_non_send::<T>()?;
        let done = catch_unwind(AssertUnwindSafe(|| work(self, &mut taken)));
        self.insert_non_send(taken);
        Some(done.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}
