//! A row: what is known of one key, without its type.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::Settings;

/// One key of a section.
#[derive(Clone, Debug)]
pub struct SettingRow {
    /// The whole key: `guestbook.pages`.
    pub key: String,
    /// Its section; empty: it has none.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What it means, in sentences.
    pub doc: String,
    /// What it counts, such as `ms`; empty: nothing, or the sentences say it.
    pub unit: &'static str,
    /// What holds when nobody says otherwise.
    pub default: Json,
    /// What it takes, in words: `true or false`.
    pub expects: String,
    /// The least and the most, for numbers.
    pub range: Option<SettingRange>,
    /// Whether scripts see it, as `ctx.settings.<section>.<name>`.
    pub in_ctx: bool,
    /// Whether it is neither shown nor written into journals.
    pub is_secret: bool,
    /// Its former names, with their sections.
    pub was: &'static [&'static str],
    read: fn(&Json) -> Option<Json>,
}

/// The least and the most that a key takes.
#[derive(Clone, PartialEq, Debug)]
pub struct SettingRange {
    /// The least.
    pub min: Json,
    /// The most.
    pub max: Json,
    /// Whether other keys move it; then this is where it lies while those have their defaults.
    pub depends: bool,
}

impl SettingRow {
    /// The row of a key of this type, without a range. For [`settings!`](crate::settings!).
    #[doc(hidden)]
    pub fn of<T: Serialize + DeserializeOwned + JsonSchema>(
        section: &'static str,
        name: &'static str,
        doc: &[&str],
        default: &T,
    ) -> Self {
        let doc: Vec<&str> = doc.iter().map(|line| line.trim()).collect();
        let schema = SchemaSettings::default().with(|schema| schema.inline_subschemas = true);
        let schema = T::json_schema(&mut schema.into_generator());
        SettingRow {
            key: key(section, name),
            section,
            name,
            doc: doc.join(" "),
            unit: "",
            default: to_json(default),
            expects: expected(schema.as_value()),
            range: None,
            in_ctx: false,
            is_secret: false,
            was: &[],
            read: |value| T::deserialize(value).ok().map(|value| to_json(&value)),
        }
    }

    /// For [`settings!`](crate::settings!).
    #[doc(hidden)]
    pub fn set_range<T: Serialize>(&mut self, range: RangeInclusive<T>) {
        self.range =
            Some(SettingRange { min: to_json(range.start()), max: to_json(range.end()), depends: false });
    }

    /// For [`settings!`](crate::settings!).
    #[doc(hidden)]
    pub fn set_dependent_range<T: Serialize>(&mut self, range: RangeInclusive<T>) {
        self.set_range(range);
        self.range.iter_mut().for_each(|range| range.depends = true);
    }

    /// A value as the type of this key writes it: a whole number of a key that takes fractions becomes one of these. `None`:
    /// it has another type. Its range is another question.
    pub fn read(&self, value: &Json) -> Option<Json> {
        (self.read)(value)
    }

    /// What was set, or the default; a value of another type, which no server is built with, counts as not set.
    pub fn value(&self, set: &Settings) -> Json {
        set.get(&self.key).and_then(|value| self.read(value)).unwrap_or_else(|| self.default.clone())
    }

    /// What it takes, in words, with its range if that is always the same.
    pub fn expects(&self) -> String {
        match self.range.as_ref().filter(|range| !range.depends) {
            Some(SettingRange { min, max, .. }) => format!("{} from {min} to {max}", self.expects),
            None => self.expects.clone(),
        }
    }

    /// The sentence about a value of another type.
    pub fn mistyped(&self, value: &Json) -> String {
        let key = &self.key;
        if self.is_secret {
            return format!("`{key}` has another type: expected {}", self.expects());
        }
        format!("`{key}` is {value}: expected {}", self.expects())
    }

    /// Meaning, unit and range, for a page or a comment.
    pub fn line(&self) -> String {
        let range = self.range.as_ref().map(|SettingRange { min, max, depends }| {
            format!("{min} to {max}{}", if *depends { " by default" } else { "" })
        });
        let unit = Some(self.unit.to_owned()).filter(|unit| !unit.is_empty());
        let facts: Vec<String> = unit.into_iter().chain(range).collect();
        if facts.is_empty() { self.doc.clone() } else { format!("{} ({})", self.doc, facts.join(", ")) }
    }
}

/// A key from its parts.
pub(super) fn key(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Json {
    // Numbers, texts, truth values and lists: JSON writes all of it.
    serde_json::to_value(value).unwrap_or_default()
}

/// What a type takes, in words, from its schema.
fn expected(schema: &Json) -> String {
    let mut names = Vec::new();
    collect_names(schema, &mut names);
    let words = match names.as_slice() {
        [] => kind(schema).to_owned(),
        [one] => format!("`{one}`"),
        [one, two] => format!("`{one}` or `{two}`"),
        names => format!("one of `{}`", names.join("`, `")),
    };
    match (takes_null(schema), words.as_str()) {
        (true, "true or false") => "true, false or null".to_owned(),
        (true, words) => format!("{words} or null"),
        (false, _) => words,
    }
}

/// The names of an enum without fields.
fn collect_names<'a>(schema: &'a Json, names: &mut Vec<&'a str>) {
    names.extend(schema.get("const").and_then(Json::as_str));
    for (word, nested) in [("enum", false), ("oneOf", true), ("anyOf", true)] {
        for choice in schema.get(word).and_then(Json::as_array).into_iter().flatten() {
            if nested {
                collect_names(choice, names);
            } else {
                names.extend(choice.as_str());
            }
        }
    }
}

fn takes_null(schema: &Json) -> bool {
    let is_null = |kind: &Json| kind == "null";
    let kinds = schema.get("type");
    kinds.is_some_and(|kinds| is_null(kinds) || kinds.as_array().is_some_and(|all| all.iter().any(is_null)))
        || schema.get("anyOf").and_then(Json::as_array).is_some_and(|all| all.iter().any(takes_null))
}

fn kind(schema: &Json) -> &'static str {
    let first = |kinds: &'_ Json| -> Option<String> {
        let all = kinds.as_array().map_or_else(|| std::slice::from_ref(kinds), Vec::as_slice);
        all.iter().filter_map(Json::as_str).find(|kind| *kind != "null").map(str::to_owned)
    };
    match schema.get("type").and_then(first).as_deref() {
        Some("boolean") => "true or false",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("array") => "a list",
        Some("string") => "a text",
        _ => "a value",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        /// As blood.
        Red,
        Green,
        Blue,
    }

    #[test]
    fn what_a_key_expects_is_said_in_words() {
        fn words<T: Serialize + DeserializeOwned + JsonSchema>(default: T) -> String {
            SettingRow::of("a", "b", &[], &default).expects
        }
        assert_eq!(words(false), "true or false");
        assert_eq!(words(Some(true)), "true, false or null");
        assert_eq!(words(5_u32), "a whole number");
        assert_eq!(words(5_i64), "a whole number");
        assert_eq!(words(0.5), "a number");
        assert_eq!(words(String::new()), "a text");
        assert_eq!(words(Some(String::new())), "a text or null");
        assert_eq!(words(vec![String::new()]), "a list");
        assert_eq!(words(Colour::Red), "one of `green`, `blue`, `red`");
        assert_eq!(words(Some(Colour::Red)), "one of `green`, `blue`, `red` or null");
    }

    #[test]
    fn a_value_has_to_have_the_type_of_its_key() {
        let row = SettingRow::of("a", "b", &[], &5_u32);
        assert_eq!(row.read(&7.into()), Some(7.into()));
        for other in [(-1).into(), "7".into(), u64::MAX.into(), 7.5.into(), Json::Null] {
            assert_eq!(row.read(&other), None, "{other}");
        }
        let row = SettingRow::of("a", "b", &[], &Some(Colour::Red));
        assert_eq!(row.read(&"blue".into()), Some("blue".into()));
        assert_eq!((row.read(&Json::Null), row.read(&"pink".into())), (Some(Json::Null), None));
    }
}
