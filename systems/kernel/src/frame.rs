//! The frame: which stages there are, in which order, and what a system may assume in each.

use std::collections::BTreeSet;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::graph::Direction;
use bevy_ecs::schedule::{
    InternedSystemSet, LogLevel, NodeId, ScheduleBuildError, ScheduleBuildSettings, ScheduleLabel,
    SingleThreadedExecutor, SystemSet,
};

/// The one schedule of the server: everything that happens in one frame.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame;

/// Where a plugin's systems go. In each stage the kernel's own systems ([`Core`]) run first; each stage below says what
/// they have done by then.
///
/// Systems of one stage that write what others of it read or write need an order between them, or the
/// server does not start. Kicks, broadcasts and pushes are exempt: they are collected and applied
/// in a fixed order.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Peers have opened and closed, sessions have begun, resumed and timed out. Data is not read yet.
    Ingest,
    /// Messages were read: room data waits in inboxes, calls wait for their turn.
    Route,
    /// Before-hooks have run.
    Hooks,
    /// Operations have run; those that wait for jobs go on in a later frame.
    Serve,
    /// Rooms have had their joins, leaves and ticks. The place for most game systems.
    Match,
    /// Everything that goes out is decided: read only. What is requested here happens in the next frame.
    Flush,
}

/// The kernel's own part of each stage, before the plugins'.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Core {
    /// Inputs become peers, sessions, calls and answers.
    Ingest,
    /// Bytes become messages, calls and room inboxes.
    Route,
    /// Before-hooks.
    Hooks,
    /// Calls are polled.
    Serve,
    /// Joins, leaves and ticks.
    Match,
    /// After-hooks, replies, pushes, hooks of events, sending, kicks, removal of ended sessions.
    Flush,
}

/// Every set of the frame with its name, in its order.
fn sets() -> [(&'static str, InternedSystemSet); 12] {
    [
        ("Core::Ingest", Core::Ingest.intern()),
        ("Stage::Ingest", Stage::Ingest.intern()),
        ("Core::Route", Core::Route.intern()),
        ("Stage::Route", Stage::Route.intern()),
        ("Core::Hooks", Core::Hooks.intern()),
        ("Stage::Hooks", Stage::Hooks.intern()),
        ("Core::Serve", Core::Serve.intern()),
        ("Stage::Serve", Stage::Serve.intern()),
        ("Core::Match", Core::Match.intern()),
        ("Stage::Match", Stage::Match.intern()),
        ("Core::Flush", Core::Flush.intern()),
        ("Stage::Flush", Stage::Flush.intern()),
    ]
}

/// The order of the frame. Data flows one way: what a stage writes is read in a later stage, or in the next frame.
pub(crate) fn schedule() -> Schedule {
    let mut schedule = Schedule::new(Frame);
    // For the same order in every run; and most systems of the kernel need the whole world anyway.
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.set_build_settings(ScheduleBuildSettings {
        ambiguity_detection: LogLevel::Error,
        ..ScheduleBuildSettings::new()
    });
    for pair in sets().windows(2) {
        if let [(_, before), (_, after)] = pair {
            schedule.configure_sets(before.before(*after));
        }
    }
    schedule
}

/// The kernel's systems: one per stage, each alone in its set, so that none can clash with a plugin's. The one of
/// `Core::Match` is added by kaos-rooms.
pub(crate) fn add_core(app: &mut App) {
    app.add_systems(Frame, crate::stages::ingest::ingest.in_set(Core::Ingest))
        .add_systems(Frame, crate::stages::route::route.in_set(Core::Route))
        .add_systems(Frame, crate::stages::hooks::before.in_set(Core::Hooks))
        .add_systems(Frame, crate::stages::serve::serve.in_set(Core::Serve))
        .add_systems(Frame, crate::stages::flush::flush.in_set(Core::Flush));
}

/// Why a schedule cannot be built, as sentences that name systems with their modules and what they share.
pub(crate) fn explain(error: &ScheduleBuildError, schedule: &Schedule, world: &World) -> Vec<String> {
    let graph = schedule.graph();
    let conflicts = graph.conflicting_systems();
    if conflicts.0.is_empty() {
        return vec![error.to_string(graph, world)];
    }
    // A system in no stage clashes with each of the kernel's.
    let strays = strays(schedule);
    if !strays.is_empty() {
        return strays;
    }
    let name = |key| match graph.systems.get(key) {
        Some(system) => system.system().name().to_string(),
        None => graph.get_node_name(&NodeId::System(key)),
    };
    let sentence = |a, b, shared: &[bevy_ecs::component::ComponentId]| {
        let shared: Vec<String> = shared
            .iter()
            .filter_map(|id| world.components().get_name(*id))
            .map(|name| format!("`{name}`"))
            .collect();
        let shared = if shared.is_empty() { "the whole world".to_owned() } else { shared.join(" and ") };
        format!(
            "systems `{}` and `{}` both use {shared}, at least one of them to write, and nothing says which runs \
             first. Order them with `.before(…)` or `.after(…)`, or put them into different stages",
            name(a),
            name(b)
        )
    };
    conflicts.0.iter().map(|(a, b, shared)| sentence(*a, *b, shared)).collect()
}

/// The systems by set, sorted, for a golden file: so that the order above cannot drift unseen.
pub(crate) fn listing(schedule: &Schedule) -> String {
    let graph = schedule.graph();
    let names: Vec<(bevy_ecs::schedule::SystemKey, String)> = schedule
        .systems()
        .into_iter()
        .flatten()
        .map(|(key, system)| (key, system.name().to_string()))
        .collect();
    let mut text = String::new();
    for (name, set) in sets() {
        text.push_str(name);
        text.push('\n');
        let keys: Vec<_> = graph.systems_in_set(set).into_iter().flatten().copied().collect();
        let mut systems: Vec<&str> =
            names.iter().filter(|(key, _)| keys.contains(key)).map(|(_, name)| name.as_str()).collect();
        systems.sort();
        for system in systems {
            text.push_str("  ");
            text.push_str(system);
            text.push('\n');
        }
    }
    text
}

/// Systems of a plugin that are in no stage, as sentences: nothing would say when in the frame they run.
pub(crate) fn strays(schedule: &Schedule) -> Vec<String> {
    let graph = schedule.graph();
    let keys = sets().into_iter().filter_map(|(_, set)| graph.system_sets.get_key(set));
    let sets: BTreeSet<NodeId> = keys.map(NodeId::Set).collect();
    // Through the sets around it: a plugin may put its systems into a set of its own, and that into a stage.
    let is_placed = |key| {
        let mut open = vec![NodeId::System(key)];
        let mut seen = BTreeSet::new();
        while let Some(node) = open.pop() {
            if sets.contains(&node) {
                return true;
            }
            if seen.insert(node) {
                open.extend(graph.hierarchy().neighbors_directed(node, Direction::Incoming));
            }
        }
        false
    };
    let systems = graph.systems.iter().filter(|(key, _, _)| !is_placed(*key));
    systems
        .map(|(_, system, _)| {
            format!(
                "system `{}` is in no stage: add `.in_set(Stage::Match)`, or another stage",
                system.name()
            )
        })
        .collect()
}
