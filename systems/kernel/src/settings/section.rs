//! A section: the keys of one owner, as a type.

use std::fmt::Display;
use std::ops::RangeInclusive;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::row::{SettingRow, key, to_json};
use super::{Sections, Settings};

/// A section of the configuration, or some keys of one: two owners may share a section, but no key.
/// [`settings!`](crate::settings!) writes it.
pub trait Section: Resource + Clone + Default {
    /// Its name, under which its keys stand: `guestbook`. Empty: they stand alone.
    const NAME: &'static str;

    /// Its keys.
    fn rows() -> Vec<SettingRow>;

    /// Sets all of its keys.
    fn write(&self, to: &mut Settings);

    /// Reads what was set; a key that is not has its default.
    ///
    /// # Errors
    /// A sentence for each value of another type.
    fn read(from: &Settings) -> Result<Self, Vec<String>>;

    /// What is out of range, or cannot be for another reason: a sentence each, which begins with its key in back quotes.
    fn check(&self) -> Vec<String>;
}

/// Registers a section: reads what was set for it, and makes it a resource. What is wrong stops the start, and until then the
/// defaults stand there.
pub(crate) fn add<S: Section>(app: &mut App) {
    app.init_resource::<Sections>();
    let world = app.world_mut();
    let read = S::read(world.resource::<Settings>()).and_then(|read: S| {
        let wrong = read.check();
        if wrong.is_empty() { Ok(read) } else { Err(wrong) }
    });
    let mut sections = world.resource_mut::<Sections>();
    sections.add::<S>();
    let read = read.unwrap_or_else(|wrong| {
        sections.errors.extend(wrong);
        S::default()
    });
    world.insert_resource(read);
}

/// For [`settings!`](crate::settings!).
#[doc(hidden)]
pub fn write_value<T: Serialize>(to: &mut Settings, section: &str, name: &str, value: &T) {
    to.set(key(section, name), to_json(value));
}

/// For [`settings!`](crate::settings!): reads a value, if one was set; `false`: it has another type.
#[doc(hidden)]
pub fn read_value<T: DeserializeOwned>(from: &Settings, section: &str, name: &str, to: &mut T) -> bool {
    let Some(value) = from.get(&key(section, name)) else { return true };
    match T::deserialize(value) {
        Ok(value) => {
            *to = value;
            true
        }
        Err(_) => false,
    }
}

/// For [`settings!`](crate::settings!): the sentences about values of another type.
#[doc(hidden)]
pub fn mistyped(rows: &[SettingRow], names: &[&str], from: &Settings) -> Vec<String> {
    let rows = rows.iter().filter(|row| names.contains(&row.name));
    rows.filter_map(|row| from.get(&row.key).map(|value| row.mistyped(value))).collect()
}

/// For [`settings!`](crate::settings!): the sentence about a value out of its range.
#[doc(hidden)]
pub fn out_of_range<T: PartialOrd + Display>(
    section: &str,
    name: &str,
    value: &T,
    range: RangeInclusive<T>,
) -> Option<String> {
    if range.contains(value) {
        return None;
    }
    let (key, min, max) = (key(section, name), range.start(), range.end());
    Some(format!("`{key}` is {value}: it goes from {min} to {max}"))
}

/// For [`settings!`](crate::settings!): gives a closure its types.
#[doc(hidden)]
pub fn dependent<S, T>(range: fn(&S) -> RangeInclusive<T>) -> fn(&S) -> RangeInclusive<T> {
    range
}
