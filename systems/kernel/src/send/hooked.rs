//! Events that scripts have hooks for: noted when they are pushed, passed to the hooks in Flush.

use std::collections::BTreeSet;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use serde_json::Value as Json;

use super::target::Target;
use crate::event::EventRow;
use crate::failures::guarded_or_fault;
use crate::op::Payload;

/// The most events of one frame that are passed to hooks. Later ones are counted, and the log states the number: an
/// event that is pushed once per member of a crowd must not run a script as often.
pub(crate) const HOOKED_MAX: usize = 1024;

/// The events that have a hook, and those pushed since hooks ran last.
#[derive(Resource, Default)]
pub(crate) struct EventHooks {
    /// The dotted names of the events that have a hook.
    pub(crate) hooked: BTreeSet<String>,
    /// The events whose hooks have not run yet, [`HOOKED_MAX`] at most.
    waiting: Vec<HookedEvent>,
    /// The number of events beyond [`HOOKED_MAX`].
    left_out: u64,
}

/// An event for its hook.
pub(crate) struct HookedEvent {
    /// The event.
    pub(crate) row: Arc<EventRow>,
    /// The target it was pushed to.
    pub(crate) to: Target,
    /// Its body; null when it could not be written as JSON.
    pub(crate) body: Json,
}

impl EventHooks {
    /// Whether no event waits and none was left out.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.left_out == 0
    }

    /// Takes the events in the order in which they were pushed, and the number of events that were left out.
    pub(crate) fn take(&mut self) -> (Vec<HookedEvent>, u64) {
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.left_out))
    }
}

/// Notes a pushed event for its hook, if a script has one.
pub(super) fn note(world: &mut World, row: &Arc<EventRow>, to: &Target, body: &dyn Payload) {
    if !world.resource::<EventHooks>().hooked.contains(&row.event.name) {
        return;
    }
    let mut hooks = world.resource_mut::<EventHooks>();
    if hooks.waiting.len() >= HOOKED_MAX {
        hooks.left_out += 1;
        return;
    }
    // The type may be a plugin's, so its serialization may panic.
    let body = guarded_or_fault(&row.event.name, "its hook is told nothing of its body", || {
        Ok(serde_json::to_value(body).unwrap_or_default())
    });
    let body = body.unwrap_or_default();
    hooks.waiting.push(HookedEvent { row: row.clone(), to: to.clone(), body });
}
