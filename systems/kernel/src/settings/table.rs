//! The table of sections: every key of a server with these plugins, and what is said about values and keys that do not fit.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use serde_json::{Map, Value as Json};

use super::{Section, SettingRow, Settings};
use crate::spelling::nearest;

/// A section as it was registered.
#[derive(Clone, Debug)]
pub struct SectionRows {
    /// Its name; empty: its keys stand alone.
    pub name: &'static str,
    /// Its keys, in the order in which they were written.
    pub rows: Vec<SettingRow>,
    wrong: fn(&Settings) -> Vec<String>,
}

impl SectionRows {
    /// Everything that is wrong with the values of these keys, a sentence each, which begins with its key in back quotes.
    pub fn wrong(&self, settings: &Settings) -> Vec<String> {
        (self.wrong)(settings)
    }
}

/// All sections, in the order of registration.
#[derive(Resource, Clone, Default, Debug)]
pub struct Sections {
    list: Vec<SectionRows>,
    /// What is wrong with sections and with what was set for them.
    pub(crate) errors: Vec<String>,
}

impl Sections {
    /// Adds a section. A key that is there already, or that no file and variable could name, is an error of the build.
    pub fn add<S: Section>(&mut self) {
        let rows = S::rows();
        let refused = rows.iter().find_map(|row| self.refusal(row));
        self.errors.extend(refused);
        self.list.push(SectionRows {
            name: S::NAME,
            rows,
            wrong: |settings| match S::read(settings) {
                Ok(read) => read.check(),
                Err(wrong) => wrong,
            },
        });
    }

    /// Why a row cannot be added.
    fn refusal(&self, row: &SettingRow) -> Option<String> {
        let key = &row.key;
        let is_plain =
            |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let variable = |key: &str| key.replace('.', "_");
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
        let known = self.rows().find(|known| variable(&known.key) == variable(key))?;
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

    /// Whether keys stand under this name.
    pub fn is_section(&self, name: &str) -> bool {
        !name.is_empty() && self.list.iter().any(|section| section.name == name)
    }

    /// The same sections in another order: those that are equal in it stay as they are.
    pub fn sort_by_key<K: Ord>(&mut self, order: impl Fn(&str) -> K) {
        self.list.sort_by_key(|section| order(section.name));
    }

    /// Adds the sections of another table behind those of this one.
    pub fn append(&mut self, others: Sections) {
        for section in others.list {
            let refused = section.rows.iter().find_map(|row| self.refusal(row));
            self.errors.extend(refused);
            self.list.push(section);
        }
        self.errors.extend(others.errors);
    }

    /// What is wrong with the table itself, a sentence each.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Every key with its value: what was set, or the default.
    pub fn whole(&self, set: &Settings) -> Settings {
        self.with(set, |_| true)
    }

    /// As [`Sections::whole`], without what is kept secret: what a journal's header holds.
    pub fn whole_but_secrets(&self, set: &Settings) -> Settings {
        self.with(set, |row| !row.is_secret)
    }

    fn with(&self, set: &Settings, wanted: impl Fn(&SettingRow) -> bool) -> Settings {
        let mut whole = Settings::default();
        for row in self.rows().filter(|row| wanted(row)) {
            whole.set(row.key.clone(), row.value(set));
        }
        whole
    }

    /// What scripts see: an object for each section, with its keys that are shown to them. `None`: nothing.
    pub fn shown_to_scripts(&self, set: &Settings) -> Option<Json> {
        let mut sections: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
        for row in self.rows().filter(|row| row.in_ctx) {
            sections.entry(row.section).or_default().insert(row.name.to_owned(), row.value(set));
        }
        let mut shown = sections.remove("").unwrap_or_default();
        shown.extend(sections.into_iter().map(|(name, values)| (name.to_owned(), Json::Object(values))));
        (!shown.is_empty()).then_some(Json::Object(shown))
    }

    /// The sentence about a key that does not exist.
    pub fn unknown(&self, key: &str) -> String {
        if self.is_section(key) {
            let first = self.rows().find(|row| row.section == key).map_or("", |row| row.key.as_str());
            return format!("`{key}` is a section: its keys stand under it, such as `{first}`");
        }
        if let Some(row) = self.renamed(key) {
            return format!("`{key}` is called `{}` now", row.key);
        }
        let near = self.near(key);
        match key.split_once('.').filter(|(section, _)| near.is_empty() && !self.is_section(section)) {
            Some((section, _)) => {
                format!("unknown key `{key}`: no plugin of this server has a section `{section}`")
            }
            None => format!("unknown key `{key}`{near}"),
        }
    }

    /// The row of a key by a name that it had once.
    pub fn renamed(&self, was: &str) -> Option<&SettingRow> {
        self.rows().find(|row| row.was.contains(&was))
    }

    /// Sentences about everything that was set and that nobody has.
    pub fn all_unknown(&self, set: &Settings) -> Vec<String> {
        set.iter().filter(|(key, _)| self.row(key).is_none()).map(|(key, _)| self.unknown(key)).collect()
    }

    /// `. Did you mean …?`: a key of the same section with a similar name, or the same name in another section.
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
