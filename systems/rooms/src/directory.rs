//! Rooms in the order in which they were made, and those with a free seat by module and label: how a join or a
//! list finds rooms without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use kaos_kernel::prelude::*;
use kaos_kernel::room::Seats;
use serde_json::Value as Json;

use crate::label::label_text;

/// The open rooms of a module, of all labels or of one.
type OpenKey = (String, Option<String>);

/// Where rooms are looked for.
#[derive(Resource, Default)]
pub(crate) struct RoomDirectory {
    /// Every room, by number: the oldest first.
    all: BTreeMap<u64, (RoomId, Entity)>,
    /// Rooms that may have a seat, by number.
    open: BTreeMap<OpenKey, BTreeSet<(u64, RoomId)>>,
}

/// The label under which a room stands among the open ones; `None`: it is not open.
#[derive(Component, Default)]
pub(crate) struct Listing(Option<String>);

impl RoomDirectory {
    /// Rooms, the oldest first.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = (RoomId, Entity)> + '_ {
        self.all.values().copied()
    }

    /// At most `most` rooms of a module that may have a seat, the oldest first: they fill up before new ones open.
    /// An empty label asks for any; of an object, as JSON, the order of the fields means nothing.
    pub(crate) fn candidates(&self, module: &str, label: &str, most: usize) -> Vec<RoomId> {
        let label = key_of_text(label);
        let key_of_open = (module.to_owned(), (!label.is_empty()).then_some(label));
        self.open.get(&key_of_open).into_iter().flatten().take(most).map(|(_, id)| *id).collect()
    }

    fn keys(module: &str, label: &str) -> [Option<OpenKey>; 2] {
        let labelled = (!label.is_empty()).then(|| (module.to_owned(), Some(label.to_owned())));
        [Some((module.to_owned(), None)), labelled]
    }

    fn put(&mut self, module: &str, label: &str, row: (u64, RoomId)) {
        for key_of_open in Self::keys(module, label).into_iter().flatten() {
            self.open.entry(key_of_open).or_default().insert(row);
        }
    }

    fn take(&mut self, module: &str, label: &str, row: (u64, RoomId)) {
        for key_of_open in Self::keys(module, label).into_iter().flatten() {
            if let Some(rooms) = self.open.get_mut(&key_of_open) {
                rooms.remove(&row);
                if rooms.is_empty() {
                    self.open.remove(&key_of_open);
                }
            }
        }
    }
}

/// The label by which a room is found: the same for objects that are equal, in whichever order their fields were
/// written, and whether they came as an object or as text.
fn key(label: &Json) -> String {
    match label {
        Json::String(text) => key_of_text(text),
        label => label_text(label).into_owned(),
    }
}

fn key_of_text(text: &str) -> String {
    let object =
        text.trim_start().starts_with('{').then(|| serde_json::from_str::<Json>(text).ok()).flatten();
    // A map of serde_json is in the order of its keys.
    object.map_or_else(|| text.to_owned(), |object| object.to_string())
}

/// A room was made.
pub(crate) fn enter(world: &mut World, entity: Entity) {
    let Some((number, id)) = world.get::<Room>(entity).map(|room| (room.number, room.id)) else { return };
    world.resource_mut::<RoomDirectory>().all.insert(number, (id, entity));
    list(world, entity);
}

/// A room's seats changed: is it open?
pub(crate) fn seats_changed(world: &mut World, entity: Entity) {
    // At most one of a thousand changes opens or closes a room, and its label stays.
    let listed = world.get::<Listing>(entity).is_some_and(|listing| listing.0.is_some());
    if is_open(world, entity).is_some_and(|open| open != listed) {
        list(world, entity);
    }
}

/// A room's label changed: is it open, and under which label?
pub(crate) fn label_changed(world: &mut World, entity: Entity) {
    list(world, entity);
}

/// Whether a room takes players. `None`: it is gone.
fn is_open(world: &World, entity: Entity) -> Option<bool> {
    let (room, seats) = (world.get::<Room>(entity)?, world.get::<Seats>(entity)?);
    let says_open = room.label.get("open").and_then(Json::as_bool).unwrap_or(true);
    Some(says_open && seats.taken < room.max_players)
}

/// Enters a room under its label if it is open, and takes it out from where it was.
fn list(world: &mut World, entity: Entity) {
    let (Some(open), Some(room)) = (is_open(world, entity), world.get::<Room>(entity)) else { return };
    let label = open.then(|| key(&room.label));
    let (module, row) = (room.module.clone(), (room.number, room.id));
    let Some(mut listing) = world.get_mut::<Listing>(entity) else { return };
    let before = std::mem::replace(&mut listing.0, label.clone());
    let mut directory = world.resource_mut::<RoomDirectory>();
    if let Some(before) = before {
        directory.take(&module, &before, row);
    }
    if let Some(label) = label {
        directory.put(&module, &label, row);
    }
}

/// A room is over.
pub(crate) fn remove(world: &mut World, entity: Entity) {
    let Some(room) = world.get::<Room>(entity) else { return };
    let (module, row) = (room.module.clone(), (room.number, room.id));
    let before = world.get_mut::<Listing>(entity).and_then(|mut listing| listing.0.take());
    let mut directory = world.resource_mut::<RoomDirectory>();
    directory.all.remove(&row.0);
    if let Some(before) = before {
        directory.take(&module, &before, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaos_kernel::ids::Uuid;

    fn room(world: &mut World, number: u64, label: &str, max_players: u32) -> Entity {
        let room = Room {
            id: RoomId(Uuid::from_u128(u128::from(100 - number))),
            number,
            module: "m".into(),
            label: Json::String(label.into()),
            tick_rate: 0,
            max_players,
            ends_empty: true,
            created: 0,
            empty_since: None,
        };
        let entity = world.spawn((room, Seats::default(), Listing::default())).id();
        enter(world, entity);
        entity
    }

    fn found(world: &World, label: &str) -> Vec<u128> {
        let directory = world.resource::<RoomDirectory>();
        directory.candidates("m", label, 8).into_iter().map(|id| 100 - id.0.as_u128()).collect()
    }

    #[test]
    fn open_rooms_are_found_by_label_oldest_first_and_leave_nothing() {
        let mut world = World::new();
        world.init_resource::<RoomDirectory>();
        let rooms: Vec<Entity> =
            (0..4).map(|n| room(&mut world, n, if n % 2 == 0 { "even" } else { "odd" }, 1)).collect();
        assert_eq!((found(&world, ""), found(&world, "odd")), (vec![0, 1, 2, 3], vec![1, 3]));
        // Full, free again, renamed, closed by its label, gone.
        if let Some(mut seats) = world.get_mut::<Seats>(rooms[0]) {
            seats.take(0, Entity::PLACEHOLDER);
        }
        seats_changed(&mut world, rooms[0]);
        assert_eq!(found(&world, ""), [1, 2, 3]);
        if let Some(mut seats) = world.get_mut::<Seats>(rooms[0]) {
            seats.leave(0);
        }
        seats_changed(&mut world, rooms[0]);
        if let Some(mut room) = world.get_mut::<Room>(rooms[1]) {
            room.label = Json::String("even".into());
        }
        label_changed(&mut world, rooms[1]);
        assert_eq!((found(&world, "even"), found(&world, "odd")), (vec![0, 1, 2], vec![3]));
        if let Some(mut room) = world.get_mut::<Room>(rooms[2]) {
            room.label = serde_json::json!({ "open": false });
        }
        label_changed(&mut world, rooms[2]);
        assert_eq!(found(&world, ""), [0, 1, 3]);
        // An object is found by its fields, whatever their order, and also when a script wrote it as text.
        for (label, at) in [
            (serde_json::json!({ "mode": "ctf", "map": { "b": 1, "a": 2 } }), rooms[0]),
            (Json::String(r#" {"map":{"b":1,"a":2},"mode":"ctf"}"#.into()), rooms[1]),
            (Json::String("{no json".into()), rooms[3]),
        ] {
            if let Some(mut room) = world.get_mut::<Room>(at) {
                room.label = label;
            }
            label_changed(&mut world, at);
        }
        assert_eq!(found(&world, r#"{"mode": "ctf", "map": {"a": 2, "b": 1}}"#), [0, 1]);
        assert_eq!(found(&world, "{no json"), [3]);
        for entity in rooms {
            remove(&mut world, entity);
        }
        let directory = world.resource::<RoomDirectory>();
        assert!(directory.open.is_empty() && directory.all.is_empty());
    }
}
