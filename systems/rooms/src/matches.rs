//! The matches of rooms: which run, and how one is asked between its ticks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kaos_kernel::output::Level;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{Env, Match, MatchError, MatchErrorKind, ScriptEffects};

use crate::errors::{Outcome, Written, client_text, describe, error_name, panicked};
use crate::events::RoomClosed;

/// The match of a room and what is counted about it.
pub(crate) struct MatchEntry {
    pub(crate) game: Box<dyn Match>,
    pub(crate) dice: Dice,
    /// Ticks in a row that failed.
    pub(crate) errors_in_row: u32,
    /// What the log has of its errors.
    pub(crate) written: Written,
    /// The frame of its next tick: its entry in the due.
    pub(crate) due: u64,
}

/// The running matches, by room. Beside the world, since virtual machines stay on their thread.
#[derive(Default)]
pub(crate) struct Matches {
    pub(crate) by_room: BTreeMap<RoomId, MatchEntry>,
    /// What matches wished outside their ticks, waiting for the Match stage.
    pub(crate) effects: Vec<ScriptEffects>,
    /// Rooms whose match broke outside its tick, waiting for the Match stage.
    pub(crate) ends: Vec<(RoomId, RoomClosed)>,
}

/// The state of every match: what the hash of the world cannot see.
pub(crate) fn hash_matches(world: &mut World) -> u64 {
    let Some(mut matches) = world.remove_non_send::<Matches>() else { return 0 };
    let mut sum = 0u64;
    for (id, entry) in &mut matches.by_room {
        let state = entry.game.hash();
        sum = sum
            .wrapping_add(state.rotate_left((id.0.as_u128() as u32) % 64) ^ u64::from(entry.errors_in_row));
    }
    world.insert_non_send(matches);
    if let Some(mut scripts) = world.get_non_send_mut::<kaos_kernel::script::ScriptHost>() {
        sum = sum.wrapping_add(scripts.0.hash());
    }
    sum
}

/// What a match holds, for tests and inspection; `None` when the room has none.
pub fn match_state(world: &mut World, room: RoomId) -> Option<serde_json::Value> {
    let mut matches = world.get_non_send_mut::<Matches>()?;
    Some(matches.by_room.get_mut(&room)?.game.state())
}

/// Bytes that all virtual machines of rooms hold.
pub fn match_memory_bytes(world: &mut World) -> usize {
    let Some(mut matches) = world.get_non_send_mut::<Matches>() else { return 0 };
    matches.by_room.values_mut().map(|entry| entry.game.memory_bytes()).sum()
}

/// Calls a match between its ticks, guarded; `None`: the room has none. What it effects is done in this frame's Match
/// stage. A failure is written to the log, once a second: what provokes it may be a client. Out of memory or
/// broken, the room ends.
pub(crate) fn ask_match<R>(
    world: &mut World,
    id: RoomId,
    callback: &'static str,
    work: impl FnOnce(&mut dyn Match, &mut Env<'_>) -> Result<R, MatchError>,
) -> Option<Result<R, MatchError>> {
    let mut matches = world.remove_non_send::<Matches>()?;
    let (ops, clock) = (world.ops(), world.resource::<Clock>());
    let (frame, second) = (clock.frame(), clock.hz());
    let dev = world.resource::<NodeSettings>().dev;
    let answer = matches.by_room.get_mut(&id).map(|entry| {
        let mut env = Env::new(world, &ops, Caller::Room(id), &mut entry.dice);
        let answer = catch_unwind(AssertUnwindSafe(|| work(&mut *entry.game, &mut env)));
        let broken = answer.is_err();
        let answer = answer.unwrap_or_else(|_| Err(panicked(callback)));
        let mut end = None;
        if let Err(error) = &answer
            && error.refusal.is_none()
        {
            if broken || error.kind == MatchErrorKind::Memory {
                let message = client_text(dev, error, "the room's match failed");
                end = Some(RoomClosed::script(error_name(error.kind), message));
            }
            let (outcome, consequence) = match end {
                Some(_) => (Outcome::RoomEnds, "the room ends"),
                None => (Outcome::RoomGoesOn, "the request was refused"),
            };
            if let Some(further) = entry.written.write(error, frame, second, outcome) {
                let place = format!("room {id}");
                let text = describe(error, &place, consequence) + &further;
                env.log(Level::Error, place, text);
            }
        }
        (answer, env.finish(), end)
    });
    let answer = answer.map(|(answer, effects, end)| {
        matches.effects.push(effects);
        matches.ends.extend(end.map(|closed| (id, closed)));
        answer
    });
    world.insert_non_send(matches);
    answer
}
