//! The four sources of the configuration and how they lie on each other, each value with where it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use kaos_kernel::spelling::nearest;
use serde_json::Value;

use super::keys::{Key, as_json, is_section, keys, leaves, variable};
use super::kubernetes::is_of_a_service;
use super::origin::{ConfigError, Origin, Problem};
use super::spelling::{RENAMED, unknown};
use super::{Config, FILE_NAME, announced_key};

/// A configuration that holds, and the source of each value.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Of each key that is not at its default: where it was set last.
    pub origins: BTreeMap<String, Origin>,
    /// What looks like a mistake but stops nothing.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Every key with its value as JSON and its source, in the order of [`keys`].
    pub fn rows(&self) -> Vec<(&'static Key, Value, &Origin)> {
        let values = leaves(&as_json(&self.config));
        let value = |key: &Key| values.iter().find(|(path, _)| *path == key.path).map(|(_, v)| v.clone());
        keys().iter().map(|key| (key, value(key).unwrap_or_default(), self.origin(&key.path))).collect()
    }
}

/// Reads the four sources.
///
/// `file`: a file that must be there; `None`: `kaosnet.yaml` in the working directory, if it is there. `env`:
/// name and value of each variable, as [`std::env::vars_os`] has them; those that do not begin with `KAOS_` are passed
/// over. `flags`: key and value.
///
/// # Errors
/// Every problem at once, each with its place: a file that cannot be read, keys that do not exist, values of
/// a wrong type, out of range or not UTF-8.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
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
    let (scripts, at) = (&loaded.config.scripts, loaded.origin("scripts"));
    let asked = match at {
        Origin::Default => false,
        Origin::File { .. } => *scripts != Config::default().scripts,
        Origin::Env(_) | Origin::Flag(_) => true,
    };
    (asked && !scripts.is_dir()).then(|| Problem {
        at: at.clone(),
        message: format!("`scripts` is `{}`: there is no such folder", scripts.display()),
    })
}

pub(super) struct Layers {
    config: Value,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Variables that Kubernetes made.
    services: Vec<String>,
}

impl Default for Layers {
    fn default() -> Self {
        Layers {
            config: as_json(&Config::default()),
            origins: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Layers {
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
        let renamed = RENAMED.iter().find(|(old, _)| variable(old) == name);
        if let Some((old, _)) = renamed {
            return self.problem(Origin::Env(name), unknown(old));
        }
        if let Some(key) = keys().iter().find(|key| key.env == name) {
            return match value.to_str() {
                Some(value) => self.text(Origin::Env(name), &key.path, value),
                None => self.problem(Origin::Env(name), format!("the value of `{}` is not UTF-8", key.path)),
            };
        }
        let rest = &name["KAOS_".len()..];
        if is_of_a_service(rest, value) {
            return self.services.push(name);
        }
        // Names of a section are meant for us; others may be another program's.
        let section = rest.split('_').next().unwrap_or_default().to_lowercase();
        // What all variables begin with makes none of them similar.
        let above = if is_section(&section) { section.len() + 1 } else { 0 };
        let (start, end) = name.split_at(name.len() - rest.len() + above.min(rest.len()));
        let ends = keys().iter().filter_map(|key| key.env.strip_prefix(start)).map(str::to_owned);
        let nearest = nearest(end, ends).replacen('`', &format!("`{start}"), 1);
        if is_section(&section) {
            self.problem(Origin::Env(name), format!("no key belongs to this variable{nearest}"));
        } else {
            self.warnings.push(format!("environment {name}: no key belongs to this variable{nearest}"));
        }
    }

    /// A value from the environment or a flag: text, whose type the key knows.
    fn text(&mut self, at: Origin, path: &str, text: &str) {
        let list = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect();
        let typed = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string());
        // Who gives an empty key forgot to fill it in: that does not ask for a key to be made.
        let is_key = path == "session.key" || path == "udp.key";
        let empty = (text.is_empty() && !is_key || text == "null").then_some(Value::Null);
        self.set(at, path, typed.into_iter().chain(empty).chain([Value::from(text), list]).collect());
    }

    /// Sets `path` to the first of the choices that its type takes.
    pub(super) fn set(&mut self, at: Origin, path: &str, choices: Vec<Value>) {
        if !keys().iter().any(|key| key.path == path) {
            return self.problem(at, unknown(path));
        }
        let mut first = None;
        let of_plugin = announced_key(path);
        for choice in &choices {
            // Of a plugin's key only its row knows the type.
            if of_plugin.is_some_and(|row| !row.takes(choice)) {
                continue;
            }
            // One value alone on top of what holds already: what fails is this value.
            let mut trial = self.config.clone();
            put(&mut trial, path, choice.clone());
            match serde_json::from_value::<Config>(trial.clone()) {
                Ok(_) => {
                    self.config = trial;
                    self.origins.insert(path.to_owned(), at);
                    return;
                }
                Err(error) => first = first.or(Some(error.to_string())),
            }
        }
        let text = choices.iter().find_map(Value::as_str).map(str::to_owned);
        let written = text.or_else(|| choices.first().map(Value::to_string)).unwrap_or_default();
        let expected = match first.as_deref().and_then(|error| error.split_once("expected ")) {
            // Only sentences for people; serde's names of types are none.
            Some((_, what))
                if what.starts_with("one of") || what.starts_with('`') || what.contains(" such as ") =>
            {
                what.to_owned()
            }
            _ => self.expected(path),
        };
        self.problem(at, format!("`{path}` is `{written}`: expected {expected}"));
    }

    /// What kind of value a key takes, by the value that it has now.
    pub(super) fn expected(&self, path: &str) -> String {
        if let Some(row) = announced_key(path) {
            return row.kind();
        }
        let values = leaves(&self.config);
        let now = values.iter().find(|(known, _)| known == path).map(|(_, value)| value);
        let kind = match now {
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a whole number",
            Some(Value::Array(_)) => "a list",
            Some(Value::Null) if path == "session.anonymous" => "true, false or null",
            Some(Value::String(_)) if path.ends_with(".address") => "an address such as 127.0.0.1:7350",
            _ => "a text",
        };
        kind.to_owned()
    }

    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        if !self.services.is_empty() {
            let names = self.services.join(", ");
            self.warnings.push(format!(
                "environment {names}: made by Kubernetes for a Service whose name begins with `kaos`, no keys, and \
                 passed over; `enableServiceLinks: false` in the pod leaves them out"
            ));
        }
        match serde_json::from_value::<Config>(self.config) {
            Ok(config) => {
                for message in config.check().err().unwrap_or_default() {
                    // Each sentence begins with its key: it leads to the place where it was set.
                    let key = message.split('`').nth(1).unwrap_or_default();
                    let at = self.origins.get(key).cloned().unwrap_or(Origin::Default);
                    self.problems.push(Problem { at, message });
                }
                if self.problems.is_empty() {
                    let (origins, warnings) = (self.origins, self.warnings);
                    return Ok(Loaded { config, file, origins, warnings });
                }
            }
            Err(error) => self.problems.push(Problem { at: Origin::Default, message: error.to_string() }),
        }
        Err(ConfigError(self.problems))
    }
}

fn put(config: &mut Value, path: &str, value: Value) {
    let mut at = config;
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
}

#[cfg(test)]
mod tests;
