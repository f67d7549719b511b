//! `Core::Match`: what happened to sessions, then every room that is due, in the order of their ids.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kaos_kernel::op::OpTable;
use kaos_kernel::output::{Level, Log};
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, RoomStuck, TickSchedule};
use kaos_kernel::script::{Batch, Env, MatchError, MatchErrorKind, Policy, ScriptEffects, TickOutcome};
use kaos_kernel::send::take_broadcasts;
use kaos_kernel::{ServerStopping, apply_effects};

use crate::broadcast::broadcast;
use crate::due_rooms::{DueRooms, due_rooms, rearm};
use crate::errors::{Outcome, client_text, describe, error_name, panicked};
use crate::events::RoomClosed;
use crate::lifecycle::close_room;
use crate::matches::{MatchEntry, Matches};
use crate::members::{connections_changed, leave_all};
use crate::relay::relay;

/// Rooms that end in one frame when the server stops, at most, and the fuel that their match_terminate may use together;
/// one room ends in each frame however much it may use. A frame that ran all of them would keep the runner from its own
/// bound of time.
const TERMINATED_PER_FRAME: usize = 16;
const TERMINATED_FUEL: i64 = 1_600_000;

/// The whole of `Core::Match`.
pub(crate) fn run(world: &mut World) {
    let frame = world.resource::<Clock>().frame();
    sessions_changed(world);
    terminate_some(world);
    expire_empty(world, frame);
    let due = due_rooms(world, frame);
    let (mut effects, mut ends) = match world.get_non_send_mut::<Matches>() {
        Some(mut matches) if !(matches.effects.is_empty() && matches.ends.is_empty()) => {
            (std::mem::take(&mut matches.effects), std::mem::take(&mut matches.ends))
        }
        _ => Default::default(),
    };
    if !due.is_empty()
        && let Some(mut matches) = world.remove_non_send::<Matches>()
    {
        let context = TickContext {
            frame,
            hz: world.resource::<Clock>().hz(),
            lag_max: world.resource::<RoomSettings>().lag_ticks_max,
            inbox_messages: world.resource::<RoomSettings>().inbox_messages,
            game: world.resource::<MatchSettings>().clone(),
            dev: world.resource::<NodeSettings>().dev,
            ops: world.ops(),
        };
        let mut beats = Vec::new();
        for (id, tick_due) in due {
            if let Some(end) = run_room(world, &mut matches, &context, id, tick_due, &mut beats, &mut effects)
            {
                ends.push((id, end));
            }
        }
        for (entity, beat) in beats {
            if let Some(mut at) = world.get_mut::<TickSchedule>(entity) {
                *at = beat;
            }
        }
        world.insert_non_send(matches);
    }
    apply(world, effects);
    for (id, closed) in ends {
        close_room(world, id, closed);
    }
    rearm(world);
}

/// What is the same for all rooms of a frame.
struct TickContext {
    frame: u64,
    hz: u64,
    lag_max: u64,
    inbox_messages: usize,
    game: MatchSettings,
    dev: bool,
    ops: Arc<OpTable>,
}

/// How far rooms have read what the kernel tells.
#[derive(Resource)]
pub(crate) struct RoomReaders {
    connections: FactCursor<ConnectionChanged>,
    ends: FactCursor<SessionEnding>,
    stuck: FactCursor<RoomStuck>,
    stopping: FactCursor<ServerStopping>,
}

impl FromWorld for RoomReaders {
    fn from_world(world: &mut World) -> Self {
        RoomReaders {
            connections: FactCursor::from_world(world),
            ends: FactCursor::from_world(world),
            stuck: FactCursor::from_world(world),
            stopping: FactCursor::from_world(world),
        }
    }
}

/// Seats that are lost, taken again or given up, rooms that are stuck, and the end of the server.
fn sessions_changed(world: &mut World) {
    let readers = world.resource::<RoomReaders>();
    let connections: Vec<ConnectionChanged> = readers.connections.read(world.resource()).copied().collect();
    let ends: Vec<SessionEnding> = readers.ends.read(world.resource()).cloned().collect();
    let stuck: Vec<RoomStuck> = readers.stuck.read(world.resource()).copied().collect();
    let stopping = readers.stopping.read(world.resource::<Facts<ServerStopping>>()).last().copied();
    if !connections.is_empty() {
        connections_changed(world, &connections);
    }
    if !ends.is_empty() {
        leave_all(world, &ends);
    }
    for RoomStuck { room, ms } in stuck {
        let message = format!("the match ran for over {ms} ms without an end");
        close_room(world, room, RoomClosed::script("stuck", message));
    }
    if let Some(ServerStopping { grace_s }) = stopping {
        world.resource_mut::<DueRooms>().stop_grace_s = Some(grace_s);
    }
}

/// Tells the matches of some rooms that the server ends, then ends these rooms; the next frame goes on with the others.
/// Until its turn a room goes on as ever.
fn terminate_some(world: &mut World) {
    let Some(grace_s) = world.resource::<DueRooms>().stop_grace_s else { return };
    let fuel = world.resource::<MatchSettings>().fuel.max(1);
    let rooms = usize::try_from(TERMINATED_FUEL / fuel).unwrap_or_default().clamp(1, TERMINATED_PER_FRAME);
    let ids: Vec<RoomId> = world.resource::<RoomIndex>().iter().map(|(id, _)| id).take(rooms).collect();
    let mut effects = Vec::new();
    if let Some(mut matches) = world.remove_non_send::<Matches>() {
        let ops = world.ops();
        for id in &ids {
            let Some(MatchEntry { game, dice, .. }) = matches.by_room.get_mut(id) else { continue };
            let mut env = Env::new(world, &ops, Caller::Room(*id), dice);
            let result = catch_unwind(AssertUnwindSafe(|| game.terminate(&mut env, grace_s)));
            if let Err(error) = result.unwrap_or_else(|_| Err(panicked("match_terminate"))) {
                let text = describe(&error, &format!("room {id}"), "the server stops all the same");
                env.log(Level::Error, format!("room {id}"), text);
            }
            effects.push(env.finish());
        }
        world.insert_non_send(matches);
    }
    apply(world, effects);
    for id in ids {
        let closed = RoomClosed::fault(FaultKind::Stopping);
        close_room(world, id, closed);
    }
}

fn expire_empty(world: &mut World, frame: u64) {
    while world.resource::<DueRooms>().empty.first().is_some_and(|(end, _)| *end <= frame) {
        let Some((_, id)) = world.resource_mut::<DueRooms>().empty.pop_first() else { return };
        let closed = RoomClosed::well("empty", "nobody came back");
        close_room(world, id, closed);
    }
}

/// Runs one room. Returns how it ends, if it does. Its next beat goes to `beats`: what other rooms read of it in this
/// stage is as it was when the stage began.
fn run_room(
    world: &mut World,
    matches: &mut Matches,
    context: &TickContext,
    id: RoomId,
    tick_due: bool,
    beats: &mut Vec<(Entity, TickSchedule)>,
    effects: &mut Vec<ScriptEffects>,
) -> Option<RoomClosed> {
    let entity = world.room(id)?;
    let Ok(mut at) = world.get_entity_mut(entity) else { return None };
    let rate = at.get::<Room>()?.tick_rate;
    if rate == 0 {
        relay(world, entity);
        return None;
    }
    // A room with a tick rate always has a match; one without is a defect, and ends.
    let Some(entry) = matches.by_room.get_mut(&id) else {
        return Some(RoomClosed::fault(FaultKind::Internal));
    };
    let mut tick = None;
    let mut skipped = 0;
    if tick_due {
        let mut beat = *at.get::<TickSchedule>()?;
        // Ticks that should have run by now, this one included.
        let behind =
            (context.frame - beat.start.min(context.frame)).saturating_mul(u64::from(rate)) / context.hz;
        let late = behind.saturating_sub(beat.next);
        if late > context.lag_max {
            skipped = late;
            beat.next += late;
            beat.skipped += late;
        }
        tick = Some(beat.next);
        beat.next += 1;
        // At most one tick a frame: a late room catches up in the frames that follow.
        entry.due = beat.due(beat.next, context.hz, rate).max(context.frame + 1);
        beats.push((entity, beat));
    }
    let mut inbox = at.get_mut::<Inbox>()?;
    let events = std::mem::take(&mut inbox.events);
    let messages = if tick.is_some() {
        inbox.take_messages(context.inbox_messages, context.frame, context.hz)
    } else {
        Vec::new()
    };
    if tick_due {
        world.resource_mut::<DueRooms>().ticks.insert((entry.due, id));
    }
    let mut dice = entry.dice.clone();
    let mut env = Env::new(world, &context.ops, Caller::Room(id), &mut dice);
    let batch = Batch { tick, skipped, events: &events, messages: &messages };
    let end = run_batch(entry, &mut env, id, &batch, context);
    effects.push(env.finish());
    entry.dice = dice;
    end
}

/// Runs a batch and applies the policy to what failed.
fn run_batch(
    entry: &mut MatchEntry,
    env: &mut Env<'_>,
    id: RoomId,
    batch: &Batch<'_>,
    context: &TickContext,
) -> Option<RoomClosed> {
    let ran = catch_unwind(AssertUnwindSafe(|| entry.game.tick(env, batch)));
    let Ok(TickOutcome { errors, ended }) = ran else {
        let text = "a defect of the server ended this room: its runtime panicked in the tick";
        env.log(Level::Error, format!("room {id}"), text);
        return Some(RoomClosed::fault(FaultKind::Internal));
    };
    // Of ticks only: a join that fails says nothing of the next tick, and how many of those come is for players to say.
    if batch.tick.is_some() {
        let failed = errors.iter().any(|error| error.callback == "match_loop");
        entry.errors_in_row = if failed { entry.errors_in_row + 1 } else { 0 };
    }
    let (frame, settings) = (context.frame, &context.game);
    let mut end = None;
    if ended {
        // A forgotten `return state` looks the same: whoever wonders where the room went finds it here.
        let tick = batch.tick.unwrap_or_default();
        let text =
            format!("match_loop returned nil in tick {tick}: the match is over (`return state` goes on)");
        env.log(Level::Info, format!("room {id}"), text);
        end = Some(RoomClosed::well("ended", "the match is over"));
    }
    for error in &errors {
        let in_row = if error.callback == "match_loop" { entry.errors_in_row } else { 0 };
        let (outcome, policy) = verdict(error, settings.on_error, in_row, settings.errors_max);
        if let Some(further) = entry.written.write(error, frame, context.hz, outcome) {
            let tick = batch.tick.map_or_else(String::new, |tick| format!(" tick {tick}"));
            let place = format!("room {id}{tick}, {} messages", batch.messages.len());
            env.log(Level::Error, format!("room {id}"), describe(error, &place, &policy) + &further);
        }
        if outcome == Outcome::RoomEnds {
            let message = client_text(context.dev, error, "the room's match failed");
            end = Some(RoomClosed::script(error_name(error.kind), message));
            break;
        }
    }
    end
}

/// What the policy says of an error: does the room end, and in which words.
fn verdict(error: &MatchError, policy: Policy, in_row: u32, errors_max: u32) -> (Outcome, String) {
    if error.kind == MatchErrorKind::Memory {
        return (Outcome::RoomEnds, "out of memory: the room ends".to_owned());
    }
    match policy {
        Policy::End => (Outcome::RoomEnds, "policy end: the room ends".to_owned()),
        Policy::Skip if in_row >= errors_max => {
            (Outcome::RoomEnds, format!("policy skip ({in_row} of {errors_max} in a row): the room ends"))
        }
        Policy::Skip if in_row == 0 => {
            (Outcome::RoomGoesOn, "policy skip: the callback was abandoned, the room goes on".to_owned())
        }
        Policy::Skip => (
            Outcome::RoomGoesOn,
            format!(
                "policy skip ({in_row} of {errors_max} in a row): the callback was abandoned, the room goes on"
            ),
        ),
    }
}

/// Sends what was broadcast and runs what was ordered, in the order of rooms.
fn apply(world: &mut World, mut effects: Vec<ScriptEffects>) {
    for effect in &mut effects {
        // Of the broadcasts of one callback that are refused, the first is written to the log.
        let mut refused = 0u64;
        for one in std::mem::take(&mut effect.broadcasts) {
            let Err(fault) = broadcast(world, one) else { continue };
            refused += 1;
            if refused == 1 {
                effect.logs.push(warning(&effect.caller, format!("a broadcast was refused: {fault}")));
            }
        }
        if refused > 1 {
            effect
                .logs
                .push(warning(&effect.caller, format!("{} further broadcasts were refused", refused - 1)));
        }
    }
    for one in take_broadcasts(world) {
        if let Err(fault) = broadcast(world, one) {
            tracing::warn!(%fault, "a broadcast of a plugin or hook was refused");
        }
    }
    effects.retain(|effect| !effect.commands.is_empty() || !effect.logs.is_empty());
    if !effects.is_empty() {
        apply_effects(world, effects);
    }
}

fn warning(caller: &Caller, text: String) -> Log {
    let source = match caller {
        Caller::Room(room) => format!("room {room}"),
        _ => "scripts".to_owned(),
    };
    Log { level: Level::Warn, source, text }
}
