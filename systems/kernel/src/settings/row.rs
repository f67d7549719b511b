//! A row: the description of one key, independent of the key's type.

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
    /// Its section; empty: the key is not in a section.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// Its meaning, in sentences.
    pub doc: String,
    /// Its unit, such as `ms`; empty: it has none, or `doc` states it.
    pub unit: &'static str,
    /// Its default.
    pub default: Json,
    /// The range of a number; `None`: there is none.
    pub range: Option<SettingRange>,
    /// Whether scripts see it, as `ctx.settings.<section>.<name>`.
    pub in_ctx: bool,
    /// Whether its value is neither shown nor written into journals.
    pub is_secret: bool,
    /// Its former names, as whole keys.
    pub was: &'static [&'static str],
    /// The accepted type or names, in words; `None`: its schema states them.
    words: Option<&'static str>,
    /// The words of the type's schema. Worked out only when somebody reads them: a server has a hundred keys, and most of its
    /// starts show none.
    type_words: fn() -> String,
    /// Reads a value as the key's type and writes it again; `None`: the value has the wrong type.
    read: fn(&Json) -> Option<Json>,
}

/// The range of a key, both ends included.
#[derive(Clone, PartialEq, Debug)]
pub struct SettingRange {
    /// The minimum.
    pub min: Json,
    /// The maximum.
    pub max: Json,
    /// Whether the range depends on other keys. If so, `min` and `max` apply while those keys have their defaults.
    pub depends: bool,
}

impl SettingRow {
    /// For [`settings!`](crate::settings!): the row of a key of type `T`, without a range.
    #[doc(hidden)]
    pub fn of<T: Serialize + DeserializeOwned + JsonSchema>(
        section: &'static str,
        name: &'static str,
        doc: &[&str],
        default: &T,
    ) -> Self {
        let doc: Vec<&str> = doc.iter().map(|line| line.trim()).collect();
        SettingRow {
            key: key(section, name),
            section,
            name,
            doc: doc.join(" "),
            unit: "",
            default: to_json(default),
            range: None,
            in_ctx: false,
            is_secret: false,
            was: &[],
            words: None,
            type_words: type_words::<T>,
            read: |value| T::deserialize(value).ok().map(|value| to_json(&value)),
        }
    }

    /// For [`settings!`](crate::settings!): sets the accepted values in words.
    #[doc(hidden)]
    pub fn set_words(&mut self, words: &'static str) {
        self.words = Some(words);
    }

    /// For [`settings!`](crate::settings!): sets a fixed range.
    #[doc(hidden)]
    pub fn set_range<T: Serialize>(&mut self, range: RangeInclusive<T>) {
        self.range =
            Some(SettingRange { min: to_json(range.start()), max: to_json(range.end()), depends: false });
    }

    /// For [`settings!`](crate::settings!): sets a range that depends on other keys, as it is with their defaults.
    #[doc(hidden)]
    pub fn set_dependent_range<T: Serialize>(&mut self, range: RangeInclusive<T>) {
        self.range =
            Some(SettingRange { min: to_json(range.start()), max: to_json(range.end()), depends: true });
    }

    /// The value as this key's type writes it, for example 1.0 for 1 when the key takes fractions. `None`: the value
    /// has the wrong type. The range is not checked.
    pub fn read(&self, value: &Json) -> Option<Json> {
        (self.read)(value)
    }

    /// The value that was set, or the default. A value of the wrong type, with which no server is built, counts as not
    /// set.
    pub fn value(&self, set: &Settings) -> Json {
        set.get(&self.key).and_then(|value| self.read(value)).unwrap_or_else(|| self.default.clone())
    }

    /// The accepted values in words, with the range if it does not depend on other keys.
    pub fn expects(&self) -> String {
        let words = self.words.map_or_else(self.type_words, str::to_owned);
        match self.range.as_ref().filter(|range| !range.depends) {
            Some(SettingRange { min, max, .. }) => format!("{words} from {min} to {max}"),
            None => words,
        }
    }

    /// The sentence about a value of the wrong type. It does not quote a secret.
    pub fn mistyped(&self, value: &Json) -> String {
        let key = &self.key;
        if self.is_secret {
            return format!("`{key}` has the wrong type: expected {}", self.expects());
        }
        format!("`{key}` is {value}: expected {}", self.expects())
    }

    /// Meaning, unit and range in one line, for a page or a comment.
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

fn type_words<T: JsonSchema>() -> String {
    let schema = SchemaSettings::default().with(|schema| schema.inline_subschemas = true);
    expected(T::json_schema(&mut schema.into_generator()).as_value())
}

/// The values that a type accepts, in words, from its schema.
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

/// Collects the names of an enum without fields.
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

/// Whether a schema accepts null.
fn takes_null(schema: &Json) -> bool {
    let is_null = |kind: &Json| kind == "null";
    let kinds = schema.get("type");
    kinds.is_some_and(|kinds| is_null(kinds) || kinds.as_array().is_some_and(|all| all.iter().any(is_null)))
        || schema.get("anyOf").and_then(Json::as_array).is_some_and(|all| all.iter().any(takes_null))
}

/// The type of a schema in words, null aside.
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
            SettingRow::of("a", "b", &[], &default).expects()
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
