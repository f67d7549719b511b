//! How rooms begin and end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kaos_kernel::Stopping;
use kaos_kernel::output::Level;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, ReadyRooms, Seats, TickSchedule};
use kaos_kernel::script::{Env, MatchSeed, ScriptHost};
use serde_json::Value as Json;

use crate::broadcast::{Audience, tell};
use crate::directory;
use crate::directory::Listing;
use crate::due_rooms::{DueRooms, RoomCounter};
use crate::errors::{Written, client_text, describe, panicked};
use crate::events::RoomClosed;
use crate::label::check_label;
use crate::matches::{MatchEntry, Matches};
use crate::quota::{CreatedBy, Creator, RoomQuota};
use crate::seats::{end_of_empty, vacate};

/// What a room is made from.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Its id, when a script drew it beforehand.
    pub id: Option<RoomId>,
    /// A match module; empty: relayed.
    pub module: String,
    /// An object for match_init.
    pub params: Json,
    /// The label of a relayed room.
    pub label: Json,
    /// Seats; `None`: the match's or the server's default.
    pub max_players: Option<u32>,
    /// Ends when it was empty for `room.empty_ms`.
    pub ends_empty: bool,
    /// Whose room it is; `None`: the server's.
    pub creator: Option<Creator>,
}

/// Makes a room and opens its match.
///
/// # Errors
/// `stopping`, `busy` at `room.rooms_max` and where its creator has made as many as it may, `exists`, `not_found` for
/// an unknown module, `invalid` for a label or size out of bounds, `script` when match_init failed.
pub fn create_room(world: &mut World, spec: Spec) -> Result<RoomId, Fault> {
    room_for_one(world)?;
    let settings = world.resource::<RoomSettings>().clone();
    let made_by =
        spec.creator.as_ref().map(|creator| RoomQuota::admit(world, creator.clone())).transpose()?;
    let id = spec.id.unwrap_or_else(|| RoomId(world.resource_mut::<ServerDice>().uuid()));
    if world.room(id).is_some() {
        return Err(Fault::new(FaultKind::Exists, format!("there is a room {id} already")));
    }
    let number = world.resource::<RoomCounter>().next;
    world.resource_mut::<RoomCounter>().next += 1;
    let (tick_rate, label, max_players) = if spec.module.is_empty() {
        (0, spec.label, spec.max_players)
    } else {
        let opened = open_match(world, id, &spec)?;
        (opened.0, opened.1, opened.2.or(spec.max_players))
    };
    let max_players = check_label(&label, settings.label_bytes_max)
        .and_then(|()| check_seats(max_players.unwrap_or(settings.max_players), settings.seats_max))
        .inspect_err(|_| forget_match(world, id))?;
    let clock = world.resource::<Clock>();
    let (frame, hz) = (clock.frame(), clock.hz());
    let room = Room {
        id,
        number,
        module: spec.module,
        label,
        tick_rate,
        max_players,
        ends_empty: spec.ends_empty,
        created: frame,
        empty_since: Some(frame),
    };
    // Rooms of one rate are spread over their period, or a thousand of them would tick in one frame. A
    // large odd step visits the whole period before it repeats.
    let period = hz / u64::from(tick_rate.max(1));
    let beat =
        TickSchedule { start: frame + 1 + number.wrapping_mul(7919) % period.max(1), next: 0, skipped: 0 };
    let entity = world.spawn((room, beat, Inbox::default(), Seats::default(), Listing::default())).id();
    world.resource_mut::<RoomIndex>().insert(id, entity);
    directory::enter(world, entity);
    if let Some(made_by) = made_by {
        world.resource_mut::<RoomQuota>().enter(&made_by);
        world.entity_mut(entity).insert(made_by);
    }
    if let Some(mut matches) = world.get_non_send_mut::<Matches>()
        && let Some(entry) = matches.by_room.get_mut(&id)
    {
        entry.due = beat.start;
    }
    let mut due = world.resource_mut::<DueRooms>();
    if tick_rate > 0 {
        due.ticks.insert((beat.start, id));
    }
    if spec.ends_empty {
        let end = end_of_empty(world, frame);
        world.resource_mut::<DueRooms>().empty.insert((end, id));
    }
    Ok(id)
}

/// The seats of a room, if it may have so many.
fn check_seats(seats: u32, most: u32) -> Result<u32, Fault> {
    (1..=most).contains(&seats).then_some(seats).ok_or_else(|| {
        Fault::invalid(format!("max_players is {seats}: it goes from 1 to {most} (`room.seats_max`)"))
    })
}

/// Ends a match that is in no room yet. As for one that could not begin, only the log lines are kept of what it asked for.
fn forget_match(world: &mut World, id: RoomId) {
    let Some(mut matches) = world.get_non_send_mut::<Matches>() else { return };
    matches.by_room.remove(&id);
    for effect in matches.effects.iter_mut().filter(|effect| effect.caller == Caller::Room(id)) {
        effect.commands.clear();
        effect.broadcasts.clear();
    }
}

/// Is there room for one more room?
///
/// # Errors
/// `stopping`, `busy` at `room.rooms_max`.
pub(crate) fn room_for_one(world: &World) -> Result<(), Fault> {
    if world.contains_resource::<Stopping>() {
        return Err(FaultKind::Stopping.into());
    }
    if world.resource::<RoomIndex>().len() >= world.resource::<RoomSettings>().rooms_max as usize {
        return Err(Fault::new(FaultKind::Busy, "the server has as many rooms as it may").retry_in_ms(5000));
    }
    Ok(())
}

/// The entity of a room.
pub(crate) fn find(world: &World, id: RoomId) -> Result<Entity, Fault> {
    world.room(id).ok_or_else(|| Fault::not_found(format!("there is no room {id}")))
}

fn open_match(world: &mut World, id: RoomId, spec: &Spec) -> Result<(u8, Json, Option<u32>), Fault> {
    let ops = world.resource::<kaos_kernel::op::Ops>().0.clone();
    let mut dice = world.resource::<ServerDice>().of("room", id.0.as_u128());
    let seed = dice.roll();
    let Some(mut host) = world.remove_non_send::<ScriptHost>() else {
        return Err(no_module(&spec.module, std::iter::empty()));
    };
    let known = host.0.summary().matches;
    if !known.contains(&spec.module) {
        world.insert_non_send(host);
        return Err(no_module(&spec.module, known.into_iter()));
    }
    let mut env = Env::new(world, &ops, Caller::Room(id), &mut dice);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        host.0.open(&mut env, &spec.module, MatchSeed { room: id, seed }, &spec.params)
    }));
    let mut effects = env.finish();
    let opened = opened.unwrap_or_else(|_| Err(panicked("match_init")));
    let result = match opened {
        Ok(opened) => {
            let entry =
                MatchEntry { game: opened.game, dice, errors_in_row: 0, written: Written::default(), due: 0 };
            if let Some(mut matches) = world.get_non_send_mut::<Matches>() {
                matches.by_room.insert(id, entry);
                matches.effects.push(effects);
            }
            Ok((opened.tick_rate, opened.label, opened.max_players))
        }
        Err(error) => {
            effects.logs.push(kaos_kernel::output::Log {
                level: Level::Error,
                source: spec.module.clone(),
                text: describe(&error, &format!("room {id}"), "the room was not made"),
            });
            // What a match that was never made wished is not done; only its log lines are kept.
            effects.commands.clear();
            effects.broadcasts.clear();
            if let Some(mut matches) = world.get_non_send_mut::<Matches>() {
                matches.effects.push(effects);
            }
            let dev = world.resource::<NodeSettings>().dev;
            let sentence = format!("the match `{}` could not begin", spec.module);
            Err(Fault::new(FaultKind::Script, client_text(dev, &error, &sentence)))
        }
    };
    world.insert_non_send(host);
    result
}

fn no_module(module: &str, known: impl Iterator<Item = String>) -> Fault {
    let nearest = kaos_kernel::spelling::nearest(module, known);
    Fault::not_found(format!("there is no match module `{module}`{nearest}"))
}

/// Ends a room: its members are told why, and nothing of it stays.
pub fn close_room(world: &mut World, id: RoomId, closed: RoomClosed) {
    let Some(entity) = world.room(id) else { return };
    if let Err(fault) = tell(world, entity, Audience::All, closed) {
        tracing::error!(%fault, room = %id, "the end of a room cannot be told");
    }
    // Newest first: a presence leaves a vector, and the last one is the cheapest to take out.
    let members: Vec<Entity> =
        world.get::<Presences>(entity).map(|presences| presences.entities().to_vec()).unwrap_or_default();
    for presence in members.into_iter().rev() {
        vacate(world, presence);
    }
    directory::remove(world, entity);
    if let Some(made_by) = world.get::<CreatedBy>(entity).cloned() {
        world.resource_mut::<RoomQuota>().remove(&made_by);
    }
    world.resource_mut::<RoomIndex>().remove(id);
    world.resource_mut::<ReadyRooms>().0.remove(&id);
    let tick = world
        .get_non_send_mut::<Matches>()
        .and_then(|mut matches| matches.by_room.remove(&id))
        .map(|entry| entry.due);
    let end = world
        .get::<Room>(entity)
        .filter(|room| room.ends_empty)
        .and_then(|room| room.empty_since)
        .map(|since| end_of_empty(world, since));
    let mut due = world.resource_mut::<DueRooms>();
    if let Some(tick) = tick {
        due.ticks.remove(&(tick, id));
    }
    if let Some(end) = end {
        due.empty.remove(&(end, id));
    }
    due.events.remove(&id);
    world.despawn(entity);
}
