//! `Core::Match`: what happened to sessions, then every room that is due, in the order of their ids.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kaos_kernel::codec::{Closed, Outbound, TO_ROOM};
use kaos_kernel::grant_wishes;
use kaos_kernel::ids::Uuid;
use kaos_kernel::op::Ops;
use kaos_kernel::output::{Level, Log};
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Beat, Inbox, ReadyRooms, RoomIndex, RoomMessage, Seats, SessionFacts};
use kaos_kernel::script::{Batch, Env, MatchError, MatchErrorKind, TickOutcome, Wishes};
use kaos_kernel::send::take_casts;
use kaos_kernel::settings::Policy;

use crate::cast::{Audience, cast, send_to_room};
use crate::life::{close_room, describe, error_word};
use crate::members::{connection_changed, leave_all};
use crate::{Agenda, Matches, Playing};

/// The whole of `Core::Match`.
pub(crate) fn run(world: &mut World) {
    let frame = world.resource::<Clock>().frame();
    sessions_changed(world);
    expire_empty(world, frame);
    let due = due_rooms(world, frame);
    let mut wishes = Vec::new();
    if let Some(mut matches) = world.get_non_send_mut::<Matches>()
        && !matches.wishes.is_empty()
    {
        wishes = std::mem::take(&mut matches.wishes);
    }
    let mut ends = Vec::new();
    for (id, tick_due) in due {
        if let Some(end) = room(world, id, tick_due, frame, &mut wishes) {
            ends.push((id, end));
        }
    }
    apply(world, wishes);
    for (id, closed) in ends {
        close_room(world, id, closed);
    }
    ask(world);
}

/// Seats that are lost, taken again or given up, rooms that are stuck, and the end of the server.
fn sessions_changed(world: &mut World) {
    if world.resource::<SessionFacts>().is_empty() {
        return;
    }
    // The kernel empties the facts itself, once this stage is over.
    let facts = {
        let facts = world.resource::<SessionFacts>();
        (facts.lost.clone(), facts.back.clone(), facts.ending.clone(), facts.stuck.clone(), facts.stopping)
    };
    let (lost, back, ending, stuck, stopping) = facts;
    for session in lost {
        connection_changed(world, session, false, 0);
    }
    for (session, lost) in back {
        connection_changed(world, session, true, lost);
    }
    for (session, reason) in ending {
        leave_all(world, session, reason);
    }
    for (id, ms) in stuck {
        let message = format!("a callback ran for {ms} ms and was given up");
        close_room(world, id, Closed { code: FaultKind::Script.code(), reason: "stuck".into(), message });
    }
    if let Some(grace_s) = stopping {
        terminate_all(world, grace_s);
    }
}

/// Tells every match that the server ends, then ends the rooms.
fn terminate_all(world: &mut World, grace_s: u32) {
    let ids: Vec<RoomId> = world.resource::<RoomIndex>().iter().map(|(id, _)| id).collect();
    for id in ids {
        let mut wishes = Vec::new();
        with_match(world, id, &mut wishes, |playing, env| {
            let result = catch_unwind(AssertUnwindSafe(|| playing.game.terminate(env, grace_s)));
            if let Ok(Err(error)) = result {
                let text = describe(&error, &format!("room {id}"), "the server stops all the same");
                env.log(Level::Error, format!("room {id}"), text);
            }
        });
        apply(world, wishes);
        let closed = Closed {
            code: FaultKind::Stopping.code(),
            reason: "stopping".to_owned(),
            message: FaultKind::Stopping.text().to_owned(),
        };
        close_room(world, id, closed);
    }
}

/// Runs `work` on a room's match with an environment, and collects what it wished.
fn with_match(
    world: &mut World,
    id: RoomId,
    wishes: &mut Vec<Wishes>,
    work: impl FnOnce(&mut Playing, &mut Env<'_>),
) {
    let Some(mut matches) = world.remove_non_send::<Matches>() else { return };
    if let Some(mut playing) = matches.by_room.remove(&id) {
        let ops = world.resource::<Ops>().0.clone();
        let mut dice = playing.dice.clone();
        let mut env = Env::new(world, &ops, Caller::Room(id), &mut dice);
        work(&mut playing, &mut env);
        wishes.push(env.finish());
        playing.dice = dice;
        matches.by_room.insert(id, playing);
    }
    world.insert_non_send(matches);
}

fn expire_empty(world: &mut World, frame: u64) {
    loop {
        let first = world.resource::<Agenda>().empty.first().copied();
        let Some((_, id)) = first.filter(|(end, _)| *end <= frame) else { return };
        let closed = Closed { code: 0, reason: "empty".to_owned(), message: "nobody came back".to_owned() };
        close_room(world, id, closed);
    }
}

/// The rooms that have something to do now, by id; `true`: a tick is due.
fn due_rooms(world: &mut World, frame: u64) -> std::collections::BTreeMap<RoomId, bool> {
    let mut due = std::collections::BTreeMap::new();
    if !world.resource::<Agenda>().events.is_empty() {
        due.extend(
            std::mem::take(&mut world.resource_mut::<Agenda>().events).into_iter().map(|id| (id, false)),
        );
    }
    if !world.resource::<ReadyRooms>().0.is_empty() {
        due.extend(
            std::mem::take(&mut world.resource_mut::<ReadyRooms>().0).into_iter().map(|id| (id, false)),
        );
    }
    let any = world.resource::<Agenda>().ticks.first().is_some_and(|(at, _)| *at <= frame);
    if any {
        let mut agenda = world.resource_mut::<Agenda>();
        let later = agenda.ticks.split_off(&(frame + 1, RoomId(Uuid::nil())));
        let now = std::mem::replace(&mut agenda.ticks, later);
        due.extend(now.into_iter().map(|(_, id)| (id, true)));
    }
    due
}

/// Runs one room. Returns how it ends, if it does.
fn room(
    world: &mut World,
    id: RoomId,
    tick_due: bool,
    frame: u64,
    wishes: &mut Vec<Wishes>,
) -> Option<Closed> {
    let entity = world.resource::<RoomIndex>().get(id)?;
    let rate = world.get::<Room>(entity)?.tick_rate;
    if rate == 0 {
        relay(world, entity);
        return None;
    }
    let hz = world.resource::<Clock>().hz();
    let lag_max = world.resource::<Settings>().room.lag_ticks_max;
    let mut tick = None;
    let mut skipped = 0;
    if tick_due {
        let mut beat = world.get_mut::<Beat>(entity)?;
        // Ticks that should have run by now, this one included.
        let behind = (frame - beat.start.min(frame)).saturating_mul(u64::from(rate)) / hz;
        let late = behind.saturating_sub(beat.next);
        if late > lag_max {
            skipped = late;
            beat.next += late;
            beat.skipped += late;
        }
        tick = Some(beat.next);
        beat.next += 1;
        // At most one tick a frame: a late room catches up in the frames that follow.
        let next = beat.due(beat.next, hz, rate).max(frame + 1);
        world.resource_mut::<Agenda>().ticks.insert((next, id));
    }
    let mut inbox = world.get_mut::<Inbox>(entity)?;
    let events = std::mem::take(&mut inbox.events);
    let messages: Vec<RoomMessage> = if tick.is_some() && !inbox.messages.is_empty() {
        inbox.bytes = 0;
        inbox.messages.drain(..).collect()
    } else {
        Vec::new()
    };
    let mut outcome = None;
    with_match(world, id, wishes, |playing, env| {
        let batch = Batch { tick, skipped, events: &events, messages: &messages };
        outcome = Some(judge(playing, env, id, &batch, frame, hz));
    });
    // A room with a tick rate always has a match; one without is a defect, and ends.
    outcome.unwrap_or_else(|| Some(internal()))
}

/// Runs a batch and applies the policy to what failed.
fn judge(
    playing: &mut Playing,
    env: &mut Env<'_>,
    id: RoomId,
    batch: &Batch<'_>,
    frame: u64,
    hz: u64,
) -> Option<Closed> {
    let ran = catch_unwind(AssertUnwindSafe(|| playing.game.tick(env, batch)));
    let Ok(TickOutcome { errors, ended }) = ran else {
        let text = "a defect of the server ended this room: its runtime panicked in the tick";
        env.log(Level::Error, format!("room {id}"), text);
        return Some(internal());
    };
    if errors.is_empty() {
        playing.errors_in_row = if batch.tick.is_some() { 0 } else { playing.errors_in_row };
    } else {
        playing.errors_in_row += 1;
    }
    let settings = env.world.resource::<Settings>().game.clone();
    let mut end = ended.then(|| Closed {
        code: 0,
        reason: "ended".to_owned(),
        message: "the match is over".to_owned(),
    });
    for error in &errors {
        let (fatal, policy) = verdict(error, settings.on_error, playing.errors_in_row, settings.errors_max);
        // Every error that ends a room is written; of the others one a second, with a count of the rest.
        if fatal || frame >= playing.log_after {
            let tick = batch.tick.map_or_else(String::new, |tick| format!(" tick {tick}"));
            let place = format!("room {id}{tick}, {} messages", batch.messages.len());
            let mut text = describe(error, &place, &policy);
            if playing.unlogged > 0 {
                text.push_str(&format!(
                    "\n  {} further errors of this room were not written",
                    playing.unlogged
                ));
            }
            env.log(Level::Error, format!("room {id}"), text);
            playing.log_after = frame + hz;
            playing.unlogged = 0;
        } else {
            playing.unlogged += 1;
        }
        if fatal {
            let message = "the room's match failed; the server's log has the details".to_owned();
            let reason = error_word(error.kind).to_owned();
            end = Some(Closed { code: FaultKind::Script.code(), reason, message });
            break;
        }
    }
    end
}

fn internal() -> Closed {
    let message = FaultKind::Internal.text().to_owned();
    Closed { code: FaultKind::Internal.code(), reason: "internal".to_owned(), message }
}

/// What the policy says of an error: does the room end, and in which words.
fn verdict(error: &MatchError, policy: Policy, in_row: u32, errors_max: u32) -> (bool, String) {
    if error.kind == MatchErrorKind::Memory {
        return (true, "out of memory: the room ends".to_owned());
    }
    match policy {
        Policy::End => (true, "policy end: the room ends".to_owned()),
        Policy::Skip if in_row >= errors_max => {
            (true, format!("policy skip ({in_row} of {errors_max} in a row): the room ends"))
        }
        Policy::Skip => (
            false,
            format!(
                "policy skip ({in_row} of {errors_max} in a row): the callback was abandoned, the room goes on"
            ),
        ),
    }
}

/// Passes on what members of a room without a script sent.
fn relay(world: &mut World, entity: Entity) {
    let Some(mut inbox) = world.get_mut::<Inbox>(entity) else { return };
    inbox.bytes = 0;
    inbox.events.clear();
    let messages = std::mem::take(&mut inbox.messages);
    for RoomMessage { sender, to, op, data, reliable, .. } in messages {
        let index = sender.as_ref().map_or(TO_ROOM, |sender| sender.index);
        let seat = |index: u16| world.get::<Seats>(entity).and_then(|seats| seats.get(index));
        let audience = match (to, &sender) {
            (TO_ROOM, None) => Some(Audience::All),
            (TO_ROOM, Some(sender)) => Some(seat(sender.index).map_or(Audience::All, Audience::Except)),
            // A member that left meanwhile gets nothing, and nobody else gets it instead.
            (member, _) => seat(member).map(Audience::One),
        };
        if let Some(audience) = audience
            && let Err(fault) =
                send_to_room(world, entity, audience, &Outbound::Data { sender: index, op, data, reliable })
        {
            tracing::error!(%fault, "a relayed message cannot be sent");
        }
    }
}

/// Sends what was broadcast and runs what was ordered, in the order of rooms.
fn apply(world: &mut World, mut wishes: Vec<Wishes>) {
    let mut refused = Vec::new();
    for wish in &mut wishes {
        for one in std::mem::take(&mut wish.casts) {
            if let Err(fault) = cast(world, one) {
                let source = match &wish.caller {
                    Caller::Room(room) => format!("room {room}"),
                    _ => "scripts".to_owned(),
                };
                refused.push(Log {
                    level: Level::Warn,
                    source,
                    text: format!("a broadcast was refused: {fault}"),
                });
            }
        }
        wish.logs.append(&mut refused);
    }
    for one in take_casts(world) {
        if let Err(fault) = cast(world, one) {
            tracing::warn!(%fault, "a broadcast of a plugin or hook was refused");
        }
    }
    if wishes.iter().any(|wish| !wish.orders.is_empty() || !wish.logs.is_empty()) {
        grant_wishes(world, wishes);
    }
}

/// Asks for the frame in which the next room is due.
fn ask(world: &World) {
    let agenda = world.resource::<Agenda>();
    let clock = world.resource::<Clock>();
    for at in agenda.ticks.first().into_iter().chain(agenda.empty.first()).map(|(at, _)| *at) {
        clock.wake_at(at);
    }
    if !agenda.events.is_empty() {
        clock.wake_at(clock.frame() + 1);
    }
}
