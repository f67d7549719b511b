//! Strict mode: finds the systems that change something in a frame that should have been quiet.
//!
//! It sees only changes that bevy's change ticks record. Changes of a `Local`, of non-send data and of anything behind
//! interior mutability are found by comparing hashes with a run that skips quiet frames.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;

use crate::clock::Clock;

/// The components that changed in a quiet frame, after the tick `before`: one sentence per component, with the system
/// that changed it.
pub(crate) fn who_broke_quiet(world: &World, schedule: &Schedule, before: Tick) -> Vec<String> {
    let now = world.read_change_tick();
    let mut found = std::collections::BTreeMap::new();
    for entity in world.iter_entities() {
        for component in entity.archetype().components() {
            let Some(ticks) = entity.get_change_ticks_by_id(*component) else { continue };
            if ticks.is_changed(before, now) {
                let name =
                    world.components().get_name(*component).map_or_else(String::new, |name| name.to_string());
                found.entry(name).or_insert(ticks.changed);
            }
        }
    }
    let frame = world.resource::<Clock>().frame();
    found
        .into_iter()
        .map(|(component, changed)| {
            let system = system_at(schedule, changed, now);
            format!(
                "frame {frame} should have been quiet, but {system} changed `{component}`. If it has to run \
                 then, let it ask for the frame: `clock.reached(frame)`, `.run_if(every(n))`"
            )
        })
        .collect()
}

/// The system that made a change: of all systems, the one that had begun last at the tick of the change.
fn system_at(schedule: &Schedule, changed: Tick, now: Tick) -> String {
    let age = now.get().wrapping_sub(changed.get());
    let systems = schedule.systems().into_iter().flatten();
    let began = systems.filter_map(|(_, system)| {
        let ago = now.get().wrapping_sub(system.get_last_run().get());
        (ago >= age).then(|| (ago, system.name().to_string()))
    });
    began
        .min_by_key(|(ago, _)| *ago)
        .map_or_else(|| "something".to_owned(), |(_, name)| format!("system `{name}`"))
}
