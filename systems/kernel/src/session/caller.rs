//! Who stands behind a caller.

use bevy_ecs::prelude::*;

use super::Session;
use crate::input::Identity;
use crate::op::Caller;
use crate::world::WorldExt;

impl Caller {
    /// Who stands behind it: the identity that a door proved. `None`: nobody in particular, a script or the server,
    /// or a session that is gone.
    pub fn identity<'a>(&'a self, world: &'a World) -> Option<&'a Identity> {
        match self {
            Caller::Session(id) => {
                let entity = world.session(*id)?;
                world.get::<Session>(entity).map(|session| &session.identity)
            }
            Caller::User(identity) => Some(identity),
            Caller::Anonymous | Caller::Room(_) | Caller::Server => None,
        }
    }
}
