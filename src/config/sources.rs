//! The four sources of the configuration and how they lie on each other, each value with where it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use kaos_kernel::settings::{Sections, SettingRow, Settings};
use kaos_kernel::spelling::nearest;
use serde_json::Value;

use super::keys::variable;
use super::kubernetes::is_of_a_service;
use super::origin::{ConfigError, Origin, Problem};
use super::sections::ServerSettings;
use super::{Config, FILE_NAME};

/// A configuration that holds, and the source of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Everything that can be set.
    pub sections: Sections,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Of each key that is not at its default: where it was set last.
    pub origins: BTreeMap<String, Origin>,
    /// What looks like a mistake but stops nothing.
    pub warnings: Vec<String>,
    /// What was set.
    set: Settings,
}

impl Loaded {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Every key with its value as JSON and its source.
    pub fn rows(&self) -> impl Iterator<Item = (&SettingRow, Value, &Origin)> {
        self.sections.rows().map(|row| (row, row.value(&self.set), self.origin(&row.key)))
    }
}

/// Reads the four sources.
///
/// `file`: a file that must be there; `None`: `kaosnet.yaml` in the working directory, if it is there. `env`:
/// name and value of each variable, as [`std::env::vars_os`] has them; those that do not begin with `KAOS_` are passed
/// over. `flags`: key and value. `sections`: what can be set, see [`sections`](super::sections).
///
/// # Errors
/// Every problem at once, each with its place: a file that cannot be read, keys that do not exist, values of
/// a wrong type, out of range or not UTF-8.
pub fn load(
    sections: Sections,
    file: Option<&Path>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::new(sections);
    let named = file.is_some();
    let path = file.unwrap_or_else(|| Path::new(FILE_NAME));
    let read = match std::fs::read_to_string(path) {
        Ok(text) => {
            layers.file(path, &text);
            true
        }
        Err(error) if named || error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("the configuration cannot be read: {error}");
            layers.problem(Origin::File { path: path.to_owned(), line: 0 }, message);
            false
        }
        Err(_) => false,
    };
    for (name, value) in env {
        layers.env(&name, &value);
    }
    for (key, value) in flags {
        layers.text(Origin::Flag(format!("--{key}")), key, value);
    }
    let loaded = layers.finish(read.then(|| path.to_owned()))?;
    match no_scripts(&loaded) {
        Some(problem) => Err(ConfigError(vec![problem])),
        None => Ok(loaded),
    }
}

/// A folder of scripts that was asked for by name and is not there was mistyped. The default one need not be there.
fn no_scripts(loaded: &Loaded) -> Option<Problem> {
    let (scripts, at) = (&loaded.config.server.scripts, loaded.origin("scripts"));
    let asked = match at {
        Origin::Default => false,
        Origin::File { .. } => *scripts != ServerSettings::default().scripts,
        Origin::Env(_) | Origin::Flag(_) => true,
    };
    (asked && !scripts.is_dir()).then(|| Problem {
        at: at.clone(),
        message: format!("`scripts` is `{}`: there is no such folder", scripts.display()),
    })
}

pub(super) struct Layers {
    pub(super) sections: Sections,
    set: Settings,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Variables that Kubernetes made.
    services: Vec<String>,
}

impl Layers {
    fn new(sections: Sections) -> Self {
        Layers {
            sections,
            set: Settings::default(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            services: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, at: Origin, message: String) {
        self.problems.push(Problem { at, message });
    }

    fn env(&mut self, name: &OsStr, value: &OsStr) {
        if !name.as_encoded_bytes().starts_with(b"KAOS_") {
            return;
        }
        let name = match name.to_str() {
            Some(name) => name.to_owned(),
            None => {
                let sentence = "the name of this variable is not UTF-8: no key belongs to it";
                return self.problem(Origin::Env(name.to_string_lossy().into_owned()), sentence.to_owned());
            }
        };
        let is_it = |key: &str| variable(key) == name;
        let renamed = self.sections.rows().flat_map(|row| row.was).find(|old| is_it(old));
        if let Some(old) = renamed {
            let sentence = self.sections.unknown(old);
            return self.problem(Origin::Env(name), sentence);
        }
        let key = self.sections.rows().map(|row| &row.key).find(|key| is_it(key)).cloned();
        if let Some(key) = key {
            return match value.to_str() {
                Some(value) => self.text(Origin::Env(name), &key, value),
                None => self.problem(Origin::Env(name), format!("the value of `{key}` is not UTF-8")),
            };
        }
        let rest = &name["KAOS_".len()..];
        if is_of_a_service(rest, value) {
            return self.services.push(name);
        }
        // Names of a section are meant for us; others may be another program's.
        let section = rest.split('_').next().unwrap_or_default().to_lowercase();
        // What all variables begin with makes none of them similar.
        let is_ours = self.sections.is_section(&section);
        let above = if is_ours { section.len() + 1 } else { 0 };
        let (start, end) = name.split_at(name.len() - rest.len() + above.min(rest.len()));
        let names = self.sections.rows().map(|row| variable(&row.key));
        let ends = names.filter_map(|name| name.strip_prefix(start).map(str::to_owned));
        let nearest = nearest(end, ends).replacen('`', &format!("`{start}"), 1);
        if is_ours {
            self.problem(Origin::Env(name), format!("no key belongs to this variable{nearest}"));
        } else {
            self.warnings.push(format!("environment {name}: no key belongs to this variable{nearest}"));
        }
    }

    /// A value from the environment or a flag: text, whose type the key knows.
    fn text(&mut self, at: Origin, path: &str, text: &str) {
        let list = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect();
        let typed = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string());
        // Who gives an empty secret forgot to fill it in: that does not ask for one to be made.
        let is_secret = self.sections.row(path).is_some_and(|row| row.is_secret);
        let empty = (text.is_empty() && !is_secret || text == "null").then_some(Value::Null);
        self.set(at, path, typed.into_iter().chain(empty).chain([Value::from(text), list]).collect());
    }

    /// Sets `path` to the first of the choices that its type takes.
    pub(super) fn set(&mut self, at: Origin, path: &str, choices: Vec<Value>) {
        let Some(row) = self.sections.row(path) else {
            let sentence = self.sections.unknown(path);
            return self.problem(at, sentence);
        };
        if let Some(value) = choices.iter().find_map(|choice| row.read(choice)) {
            self.set.set(path, value);
            self.origins.insert(path.to_owned(), at);
            return;
        }
        let text = choices.iter().find_map(Value::as_str).map(str::to_owned);
        let written = text.or_else(|| choices.first().map(Value::to_string)).unwrap_or_default();
        let is = if row.is_secret { "has another type".to_owned() } else { format!("is `{written}`") };
        let sentence = format!("`{path}` {is}: expected {}", row.expects());
        self.problem(at, sentence);
    }

    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        if !self.services.is_empty() {
            let names = self.services.join(", ");
            self.warnings.push(format!(
                "environment {names}: made by Kubernetes for a Service whose name begins with `kaos`, no keys, and \
                 passed over; `enableServiceLinks: false` in the pod leaves them out"
            ));
        }
        let mut wrong = self.sections.errors().to_vec();
        wrong.extend(self.sections.iter().flat_map(|section| section.wrong(&self.set)));
        let config = Config::of(&self.set).unwrap_or_else(|sentences| {
            wrong.extend(sentences);
            Config::default()
        });
        wrong.extend(config.wrong_keys());
        for message in wrong {
            // Each sentence begins with its key: it leads to the place where it was set.
            let key = message.split('`').nth(1).unwrap_or_default();
            let at = self.origins.get(key).cloned().unwrap_or(Origin::Default);
            self.problems.push(Problem { at, message });
        }
        if !self.problems.is_empty() {
            return Err(ConfigError(self.problems));
        }
        let Layers { sections, set, origins, warnings, .. } = self;
        Ok(Loaded { config, sections, file, origins, warnings, set })
    }
}

#[cfg(test)]
mod tests;
