//! Events that scripts have hooks for: noted where they are pushed, handed to the hooks in Flush.

use std::collections::BTreeSet;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use serde_json::Value as Json;

use super::target::Target;
use crate::event::EventRow;
use crate::failures::guarded_or_fault;
use crate::op::Payload;

/// Events of one frame that pass hooks. Of more, only the first do, and the log says how many did not: an event of a crowd
/// must not run a script for each of its members.
pub(crate) const HOOKED_MAX: usize = 1024;

/// Which events have a hook, and those of this frame that their hooks have not heard of.
#[derive(Resource, Default)]
pub(crate) struct EventHooks {
    /// By the events' dotted names.
    pub(crate) hooked: BTreeSet<String>,
    waiting: Vec<HookedEvent>,
    left_out: u64,
}

/// An event for its hook.
pub(crate) struct HookedEvent {
    pub(crate) row: Arc<EventRow>,
    pub(crate) to: Target,
    pub(crate) body: Json,
}

impl EventHooks {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.left_out == 0
    }

    /// Takes the events in the order in which they were pushed, and the number of those that were too many.
    pub(crate) fn take(&mut self) -> (Vec<HookedEvent>, u64) {
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.left_out))
    }
}

/// Notes an event that is on its way, if a script has a hook for it.
pub(super) fn note(world: &mut World, row: &Arc<EventRow>, to: &Target, body: &dyn Payload) {
    if !world.resource::<EventHooks>().hooked.contains(&row.event.name) {
        return;
    }
    let mut hooks = world.resource_mut::<EventHooks>();
    if hooks.waiting.len() >= HOOKED_MAX {
        hooks.left_out += 1;
        return;
    }
    // The type is a plugin's, and so is what its serialization does.
    let body = guarded_or_fault(&row.event.name, "its hook is told nothing of its body", || {
        Ok(serde_json::to_value(body).unwrap_or_default())
    });
    let body = body.unwrap_or_default();
    hooks.waiting.push(HookedEvent { row: row.clone(), to: to.clone(), body });
}
