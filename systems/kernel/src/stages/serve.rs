//! `Core::Serve`: resumes calls that something came for, then starts those that were routed.

use bevy_ecs::prelude::*;

use crate::call::calls::Calls;
use crate::facts;
use crate::world::WorldExt;

/// The whole of `Core::Serve`.
pub(crate) fn serve(world: &mut World) {
    run_calls(world);
    // Facts that were written so far are visible to every reader in Match, so the sessions whose end is among them can
    // be removed in Flush.
    facts::mark(world);
}

/// Runs the calls: here, and for the commands of matches once more at the end of Match.
pub(crate) fn run_calls(world: &mut World) {
    world.non_send_scope(|world, calls: &mut Calls| calls.serve(world));
}
