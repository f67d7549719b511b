//! `Core::Serve`: runs what was routed and what has its answer.

use bevy_ecs::prelude::*;

use crate::call::calls::Calls;

/// The whole of `Core::Serve`.
pub(crate) fn serve(world: &mut World) {
    let Some(mut calls) = world.remove_non_send::<Calls>() else { return };
    calls.serve(world);
    world.insert_non_send(calls);
}
