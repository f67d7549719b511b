//! A section: the keys of one owner, as a Rust type.

use std::fmt::Display;
use std::ops::RangeInclusive;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::row::{SettingRow, key, to_json};
use super::{Sections, Settings};

/// A section of the configuration, or some keys of one: two owners may share a section, but not a key.
/// [`settings!`](crate::settings!) implements it.
pub trait Section: Resource + Clone + Default {
    /// The name that precedes its keys, such as `guestbook`. Empty: the keys are not in a section.
    const NAME: &'static str;

    /// Its keys.
    fn rows() -> Vec<SettingRow>;

    /// Sets all of its keys.
    fn write(&self, to: &mut Settings);

    /// Reads the values that were set; other keys get their defaults.
    ///
    /// # Errors
    /// One sentence per value of the wrong type.
    fn read(from: &Settings) -> Result<Self, Vec<String>>;

    /// Checks ranges and other rules. Returns one sentence per wrong value, which begins with its key in back quotes.
    fn check(&self) -> Vec<String>;
}

/// Registers a section: reads its values and makes it a resource. If any value is wrong, the server is not built, and
/// the resource has the defaults meanwhile.
pub(crate) fn add<S: Section>(app: &mut App) {
    app.init_resource::<Sections>();
    let world = app.world_mut();
    let checked = S::read(world.resource::<Settings>()).and_then(|section: S| {
        let wrong = section.check();
        if wrong.is_empty() { Ok(section) } else { Err(wrong) }
    });
    let mut sections = world.resource_mut::<Sections>();
    sections.add::<S>();
    let section = checked.unwrap_or_else(|wrong| {
        sections.errors.extend(wrong);
        S::default()
    });
    world.insert_resource(section);
}

/// For [`settings!`](crate::settings!): sets a key.
#[doc(hidden)]
pub fn write_value<T: Serialize>(to: &mut Settings, section: &str, name: &str, value: &T) {
    to.set(key(section, name), to_json(value));
}

/// For [`settings!`](crate::settings!): reads a key into `to`, if it was set. Returns its name when the value has the
/// wrong type; `to` stays as it was then.
#[doc(hidden)]
pub fn read_value<T: DeserializeOwned>(
    from: &Settings,
    section: &str,
    name: &'static str,
    to: &mut T,
) -> Option<&'static str> {
    match T::deserialize(from.get(&key(section, name))?) {
        Ok(value) => {
            *to = value;
            None
        }
        Err(_) => Some(name),
    }
}

/// For [`settings!`](crate::settings!): the sentences about the keys in `names`, whose values have the wrong type.
#[doc(hidden)]
pub fn mistyped(rows: &[SettingRow], names: &[&str], from: &Settings) -> Vec<String> {
    let rows = rows.iter().filter(|row| names.contains(&row.name));
    rows.filter_map(|row| from.get(&row.key).map(|value| row.mistyped(value))).collect()
}

/// For [`settings!`](crate::settings!): the sentence about a value that is out of its range; `None`: it is in range.
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

/// For [`settings!`](crate::settings!): states the types of the closure after `within`, which the compiler cannot
/// infer.
#[doc(hidden)]
pub fn dependent<S, T>(range: fn(&S) -> RangeInclusive<T>) -> fn(&S) -> RangeInclusive<T> {
    range
}
