//! The table of sections: every key of a server and its plugins, and the sentences about wrong values and unknown keys.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use serde_json::{Map, Value as Json};

use super::{Section, SettingRow, Settings};
use crate::spelling::nearest;

/// A registered section.
#[derive(Clone, Debug)]
pub struct SectionRows {
    /// Its name; empty: its keys are not in a section.
    pub name: &'static str,
    /// Its keys, in the order of their definition.
    pub rows: Vec<SettingRow>,
    /// Reads and checks the section; see [`SectionRows::wrong`].
    check: fn(&Settings) -> Vec<String>,
}

impl SectionRows {
    /// Checks the values of these keys. Returns one sentence per wrong value, which begins with its key in back quotes.
    /// While a value has the wrong type, ranges are not checked.
    pub fn wrong(&self, settings: &Settings) -> Vec<String> {
        (self.check)(settings)
    }
}

/// All sections, in the order of registration.
#[derive(Resource, Clone, Default, Debug)]
pub struct Sections {
    list: Vec<SectionRows>,
    /// What is wrong with the definitions of sections and with the values that registered sections were read from, one
    /// sentence each. A server with any of them is not built.
    pub(crate) errors: Vec<String>,
}

impl Sections {
    /// Adds a section. Its first key that exists already, or that a file or variable cannot name, becomes one of
    /// [`Sections::errors`].
    pub fn add<S: Section>(&mut self) {
        let rows = S::rows();
        let problem = rows.iter().find_map(|row| self.problem(row));
        self.errors.extend(problem);
        self.list.push(SectionRows {
            name: S::NAME,
            rows,
            check: |settings| match S::read(settings) {
                Ok(section) => section.check(),
                Err(wrong) => wrong,
            },
        });
    }

    /// A sentence about why a row cannot be added; `None`: it can.
    fn problem(&self, row: &SettingRow) -> Option<String> {
        let key = &row.key;
        let is_plain =
            |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        // In a variable's name a dot is an underscore.
        let variable = |byte: u8| if byte == b'.' { b'_' } else { byte };
        let clashes = |known: &str| known.bytes().map(variable).eq(key.bytes().map(variable));
        if !is_plain(row.section) || !is_plain(row.name) {
            return Some(format!("setting `{key}`: a name has lower-case letters, digits and underscores"));
        }
        if row.is_secret && row.in_ctx {
            return Some(format!("setting `{key}`: what is kept secret cannot be shown to scripts"));
        }
        if row.is_secret && row.range.is_some() {
            return Some(format!(
                "setting `{key}`: a secret has no range, which would print it when it is wrong"
            ));
        }
        let has_key = |name: &str| self.row(name).is_some_and(|known| known.section.is_empty());
        if row.section.is_empty() && self.is_section(row.name) || has_key(row.section) {
            return Some(format!("setting `{key}`: a section and a key have the same name"));
        }
        let known = self.rows().find(|known| clashes(&known.key))?;
        Some(if known.key == *key {
            format!("setting `{key}`: registered twice; a key belongs to one plugin")
        } else {
            format!("setting `{key}`: its variable would be the one of `{}`", known.key)
        })
    }

    /// The sections.
    pub fn iter(&self) -> impl Iterator<Item = &SectionRows> {
        self.list.iter()
    }

    /// Every key.
    pub fn rows(&self) -> impl Iterator<Item = &SettingRow> {
        self.list.iter().flat_map(|section| &section.rows)
    }

    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&SettingRow> {
        self.rows().find(|row| row.key == key)
    }

    /// Whether a section has this name.
    pub fn is_section(&self, name: &str) -> bool {
        !name.is_empty() && self.list.iter().any(|section| section.name == name)
    }

    /// Sorts the sections by a key of their names. The sort is stable.
    pub fn sort_by_key<K: Ord>(&mut self, order: impl Fn(&str) -> K) {
        self.list.sort_by_key(|section| order(section.name));
    }

    /// Appends the sections and errors of another table. Keys are checked as in [`Sections::add`].
    pub fn append(&mut self, others: Sections) {
        for section in others.list {
            let problem = section.rows.iter().find_map(|row| self.problem(row));
            self.errors.extend(problem);
            self.list.push(section);
        }
        self.errors.extend(others.errors);
    }

    /// What is wrong with the definitions and the values of registered sections, one sentence each.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Every key with its value: the one that was set, or the default.
    pub fn whole(&self, set: &Settings) -> Settings {
        self.with(set, |_| true)
    }

    /// As [`Sections::whole`], without secrets: the settings in a journal's header.
    pub fn whole_but_secrets(&self, set: &Settings) -> Settings {
        self.with(set, |row| !row.is_secret)
    }

    /// The wanted keys with their values.
    fn with(&self, set: &Settings, wanted: impl Fn(&SettingRow) -> bool) -> Settings {
        let mut whole = Settings::default();
        for row in self.rows().filter(|row| wanted(row)) {
            whole.set(row.key.clone(), row.value(set));
        }
        whole
    }

    /// The settings that scripts see: an object per section, and the keys without a section next to these. `None`: no
    /// key is shown to scripts.
    pub fn shown_to_scripts(&self, set: &Settings) -> Option<Json> {
        let mut sections: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
        for row in self.rows().filter(|row| row.in_ctx) {
            sections.entry(row.section).or_default().insert(row.name.to_owned(), row.value(set));
        }
        let mut shown = sections.remove("").unwrap_or_default();
        shown.extend(sections.into_iter().map(|(name, values)| (name.to_owned(), Json::Object(values))));
        (!shown.is_empty()).then_some(Json::Object(shown))
    }

    /// The sentence about a key that does not exist. The first case that applies decides: the key is the name of a
    /// section; it is a former name; a known key is similar; its section does not exist.
    pub fn unknown(&self, key: &str) -> String {
        if self.is_section(key) {
            let first = self.rows().find(|row| row.section == key).map_or("", |row| row.key.as_str());
            return format!("`{key}` is a section: its keys are under it, such as `{first}`");
        }
        if let Some(row) = self.renamed(key) {
            return format!("`{key}` is called `{}` now", row.key);
        }
        let near = self.near(key);
        if !near.is_empty() {
            return format!("unknown key `{key}`{near}");
        }
        match key.split_once('.') {
            Some((section, _)) if !self.is_section(section) => {
                format!("unknown key `{key}`: no plugin of this server has a section `{section}`")
            }
            _ => format!("unknown key `{key}`"),
        }
    }

    /// The row of a key, by one of its former names.
    pub fn renamed(&self, was: &str) -> Option<&SettingRow> {
        self.rows().find(|row| row.was.contains(&was))
    }

    /// One sentence per key that was set and does not exist.
    pub fn all_unknown(&self, set: &Settings) -> Vec<String> {
        set.iter().filter(|(key, _)| self.row(key).is_none()).map(|(key, _)| self.unknown(key)).collect()
    }

    /// `. Did you mean …?` for a key that was probably meant; empty when there is none. In a section that exists, that
    /// is a similar name of the section, or else the same name in another one. Otherwise it is a similar key or
    /// section.
    fn near(&self, key: &str) -> String {
        let Some((section, name)) = key.split_once('.').filter(|(section, _)| self.is_section(section))
        else {
            let names = self.list.iter().map(|section| section.name).filter(|name| !name.is_empty());
            return nearest(key, self.rows().map(|row| row.key.clone()).chain(names.map(str::to_owned)));
        };
        let similar =
            nearest(name, self.rows().filter(|row| row.section == section).map(|row| row.name.to_owned()));
        if !similar.is_empty() {
            return similar.replacen('`', &format!("`{section}."), 1);
        }
        let elsewhere = self.rows().find(|row| row.name == name);
        elsewhere.map_or(String::new(), |row| format!(". Did you mean `{}`?", row.key))
    }
}
