//! `Core::Serve`: runs what was routed and what has its answer.

use bevy_ecs::prelude::*;

use crate::call::calls::Calls;
use crate::facts;

/// The whole of `Core::Serve`.
pub(crate) fn serve(world: &mut World) {
    run_calls(world);
    // What was told up to here is seen by everyone who reads in Match: a session that ended may go in Flush.
    facts::mark(world);
}

/// Runs the calls: here, and for the commands of matches once more at the end of Match.
pub(crate) fn run_calls(world: &mut World) {
    let Some(mut calls) = world.remove_non_send::<Calls>() else { return };
    calls.serve(world);
    world.insert_non_send(calls);
}
