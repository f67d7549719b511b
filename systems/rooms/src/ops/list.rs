//! `room.get`, `room.list` and `room.presences`: what is shown of rooms.

use kaos_kernel::prelude::*;
use kaos_kernel::room::{Seats, TickSchedule};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::directory::RoomDirectory;
use crate::label::label_text;
use crate::lifecycle::find;
use crate::ops::Named;

/// Registers the operations of this file.
pub(crate) fn register(app: &mut App) {
    app.read_op(
        Op::new("room.get")
            .about("Shows a room.")
            .args(&["room_id"])
            .rest("GET /v1/rooms/{room_id}")
            .price(1),
        get_op,
    )
    .read_op(
        Op::new("room.list")
            .about("Lists rooms by module, label and size, the oldest first.")
            .price(5)
            .rest("GET /v1/rooms"),
        list_op,
    )
    .read_op(
        Op::new("room.presences")
            .about("Lists who is in a room, in the order of joining.")
            .server()
            .args(&["room_id"]),
        presences_op,
    );
}

/// Rooms that one list returns at most.
const LIST_MAX: usize = 100;

/// What is asked of a list. A field that is left out asks for nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Query {
    /// Rooms of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Rooms whose label is this text, or an object with these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Json>,
    /// Members at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u32>,
    /// Members at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u32>,
    /// Rooms at most, 1 to 100. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<usize>,
}

/// A room, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Its id.
    pub room_id: RoomId,
    /// Its match module; empty: relayed.
    pub module: String,
    /// Text or an object.
    pub label: Json,
    /// Ticks a second; 0: relayed.
    pub tick_rate: u8,
    /// The last tick that ran.
    pub tick: u64,
    /// Members.
    pub size: u32,
    /// Seats.
    pub max_players: u32,
}

fn show(world: &World, id: RoomId, entity: Entity) -> Option<Shown> {
    let room = world.get::<Room>(entity)?;
    Some(Shown {
        room_id: id,
        module: room.module.clone(),
        label: room.label.clone(),
        tick_rate: room.tick_rate,
        tick: world.get::<TickSchedule>(entity).map_or(0, |beat| beat.next.saturating_sub(1)),
        size: world.get::<Seats>(entity).map_or(0, |seats| seats.taken),
        max_players: room.max_players,
    })
}

fn get_op(world: &World, caller: &Caller, request: Named) -> Result<Option<Shown>, Fault> {
    let shown = find(world, request.room_id).map(|entity| show(world, request.room_id, entity));
    match shown {
        // A script asks whether a room is there and gets nil; a client named one that is not.
        Err(_) if caller.is_server() => Ok(None),
        shown => shown,
    }
}

fn list_op(world: &World, _: &Caller, query: Option<Query>) -> Result<Vec<Shown>, Fault> {
    let query = query.unwrap_or_default();
    let limit = query.limit.unwrap_or(10).min(LIST_MAX);
    let fits = |room: &Room, size: u32| {
        query.module.as_ref().is_none_or(|module| *module == room.module)
            && query.min_size.is_none_or(|min| size >= min)
            && query.max_size.is_none_or(|max| size <= max)
            && query.label.as_ref().is_none_or(|label| label_fits(label, &room.label))
    };
    let rooms = world.resource::<RoomDirectory>().rooms().filter(|(_, entity)| {
        let size = world.get::<Seats>(*entity).map_or(0, |seats| seats.taken);
        world.get::<Room>(*entity).is_some_and(|room| fits(room, size))
    });
    Ok(rooms.take(limit).filter_map(|(id, entity)| show(world, id, entity)).collect())
}

/// Text must be equal; of an object, every field that was asked for must be.
fn label_fits(asked: &Json, label: &Json) -> bool {
    match asked {
        Json::Object(fields) => fields.iter().all(|(name, value)| label.get(name) == Some(value)),
        Json::Null => true,
        Json::Array(list) if list.is_empty() => true,
        Json::String(asked) if !matches!(label, Json::Object(_)) => label.as_str().unwrap_or("") == asked,
        asked => label_text(asked) == label_text(label),
    }
}

fn presences_op(world: &World, _: &Caller, request: Named) -> Result<Vec<PresenceInfo>, Fault> {
    let Ok(entity) = find(world, request.room_id) else { return Ok(Vec::new()) };
    let members = world.get::<Presences>(entity).map(Presences::entities).unwrap_or_default();
    let infos = members.iter().filter_map(|entity| world.get::<Presence>(*entity));
    Ok(infos.map(|presence| (*presence.info).clone()).collect())
}
