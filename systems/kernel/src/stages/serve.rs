//! `Core::Serve`: runs what was routed and what has its answer.

use bevy_ecs::prelude::*;

use crate::call::calls::Calls;
use crate::facts;
use crate::world::WorldExt;

/// The whole of `Core::Serve`.
pub(crate) fn serve(world: &mut World) {
    run_calls(world);
    // What was told up to here is seen by everyone who reads in Match: a session that ended may go in Flush.
    facts::mark(world);
}

/// Runs the calls: here, and for the commands of matches once more at the end of Match.
pub(crate) fn run_calls(world: &mut World) {
    world.non_send_scope(|world, calls: &mut Calls| calls.serve(world));
}
