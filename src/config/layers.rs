//! The four sources of the configuration and how they lie on each other, each value with where it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use kaos_kernel::settings::section::SettingRow;
use kaos_kernel::spelling::nearest;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{Config, DEFAULT_YAML, FILE_NAME, announced_key};

/// A key that can be set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Its dotted path, such as `room.max_players`; `--` before it makes the flag.
    pub path: String,
    /// The environment variable: `KAOS_ROOM_MAX_PLAYERS`.
    pub env: String,
    /// The comment above it in assets/config/default.yaml.
    pub doc: String,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A variable of the environment.
    Env(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where it was written.
    pub at: Origin,
    /// A sentence: what is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Origin::Default => f.write_str(&self.message),
            Origin::File { path, line: 0 } => write!(f, "{}: {}", path.display(), self.message),
            at => write!(f, "{at}: {}", self.message),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

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

/// Every key, in the order of assets/config/default.yaml; keys that it lacks (a test says there are none) last.
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let (order, docs) = documented();
        let place = |path: &str| order.iter().position(|known| known == path).unwrap_or(usize::MAX);
        let mut keys: Vec<Key> = leaves(&as_json(&Config::default()))
            .into_iter()
            .map(|(path, _)| Key {
                env: variable(&path),
                doc: docs
                    .get(&path)
                    .cloned()
                    .or_else(|| announced_key(&path).map(SettingRow::line))
                    .unwrap_or_default(),
                path,
            })
            .collect();
        keys.sort_by_key(|key| place(&key.path));
        keys
    });
    &KEYS
}

/// The variable of a key.
fn variable(path: &str) -> String {
    format!("KAOS_{}", path.replace('.', "_").to_uppercase())
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

struct Layers {
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
    fn problem(&mut self, at: Origin, message: String) {
        self.problems.push(Problem { at, message });
    }

    fn file(&mut self, path: &Path, text: &str) {
        // YAML 1.1 takes `off` and `yes` for booleans; here they are words.
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
            Ok(root) => self.node(path, text, "", &root, None),
            Err(error) => {
                let line = error.location().map_or(0, |location| location.line());
                let message = error.without_snippet().to_string();
                // The library puts its own place before the sentence.
                let sentence = message.split_once(": ").filter(|(place, _)| place.contains("line "));
                let sentence = sentence.map_or(message.as_str(), |(_, sentence)| sentence);
                // What follows the key are settings of the library.
                let twice = sentence.strip_prefix("duplicate mapping key: ");
                let twice = twice.and_then(|rest| rest.split([' ', ',', ';', '(']).next());
                let sentence = match twice {
                    Some(key) => format!("`{key}` is there twice: leave one of them out"),
                    None => format!("this is no YAML: {sentence}"),
                };
                self.problem(Origin::File { path: path.to_owned(), line }, sentence);
            }
        }
    }

    fn node(&mut self, file: &Path, text: &str, path: &str, node: &Spanned<Node>, key_line: Option<u64>) {
        let line = key_line.unwrap_or(node.referenced.line());
        let at = Origin::File { path: file.to_owned(), line };
        let is_key = keys().iter().any(|key| key.path == path);
        match &node.value {
            Node::Map(entries) if !is_key => {
                if !path.is_empty() && !is_section(path) {
                    return self.problem(at, unknown(path));
                }
                for (key, value) in entries {
                    let below =
                        if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    self.node(file, text, &below, value, Some(key.referenced.line()));
                }
            }
            // `http:` with nothing under it, and an empty file.
            Node::Scalar(Value::Null) if path.is_empty() || is_section(path) => {}
            Node::Scalar(_) | Node::Seq(_) if path.is_empty() => {
                let what = "a configuration is keys with their values, such as `node: kaos1`";
                self.problem(at, format!("there is no key here: {what}"));
            }
            Node::Scalar(value) => {
                let span = node.referenced.span();
                let raw = span.byte_offset().zip(span.byte_len());
                let raw = raw.and_then(|(from, len)| text.get(from as usize..(from + len) as usize));
                let mut choices = vec![value.clone()];
                if let Some(raw) = raw.filter(|_| matches!(value, Value::Number(_) | Value::Bool(_))) {
                    choices.push(Value::from(raw));
                }
                self.set(at, path, choices);
            }
            Node::Seq(items) => {
                let items = items.iter().map(|item| match &item.value {
                    Node::Scalar(value) => value.clone(),
                    Node::Map(_) | Node::Seq(_) => Value::Null,
                });
                self.set(at, path, vec![items.collect()]);
            }
            Node::Map(_) => {
                self.problem(at, format!("`{path}` is a mapping: expected {}", self.expected(path)));
            }
        }
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
    fn set(&mut self, at: Origin, path: &str, choices: Vec<Value>) {
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
    fn expected(&self, path: &str) -> String {
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

/// Is this variable one of those that Kubernetes gives every pod for a Service, such as `kaos-udp`? `rest`: its name
/// without `KAOS_`. `NAME_PORT` has to have the value of one: a bare number was meant for us.
fn is_of_a_service(rest: &str, value: &OsStr) -> bool {
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // NAME_PORT_7352_UDP, and the same with _PROTO, _PORT and _ADDR.
    let of_a_port = |(at, _): (usize, &str)| {
        let mut parts = rest[at + "_PORT_".len()..].split('_');
        let (number, protocol) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        is_number(number) && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    (rest.ends_with("_PORT") && is_url) || rest.match_indices("_PORT_").any(of_a_port)
}

/// Keys that have another name now: who still has the old one is told the new one.
const RENAMED: [(&str, &str); 3] = [
    ("session.keep_bytes", "session.resend_bytes"),
    ("limit.session_rooms_made_max", "limit.session_rooms_created_max"),
    ("limit.address_rooms_made_max", "limit.address_rooms_created_max"),
];

/// The sentence about a key that does not exist.
pub(crate) fn unknown(path: &str) -> String {
    if is_section(path) {
        return format!(
            "`{path}` is a section: its keys stand under it, such as `{path}.{}`",
            first_of(path)
        );
    }
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == path) {
        return format!("`{path}` is called `{new}` now");
    }
    format!("unknown key `{path}`{}", near(path))
}

/// `. Did you mean …?`: a key of the same section with a similar name, or the same name in another section.
fn near(path: &str) -> String {
    let Some((section, name)) = path.split_once('.').filter(|(section, _)| is_section(section)) else {
        let sections =
            keys().iter().filter_map(|key| key.path.split_once('.')).map(|(section, _)| section.to_owned());
        return nearest(path, keys().iter().map(|key| key.path.clone()).chain(sections));
    };
    let below = keys().iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'));
    let similar = nearest(name, below.map(str::to_owned));
    if !similar.is_empty() {
        return similar.replacen('`', &format!("`{section}."), 1);
    }
    let elsewhere = keys().iter().find(|key| key.path.rsplit('.').next() == Some(name));
    elsewhere.map_or(String::new(), |key| format!(". Did you mean `{}`?", key.path))
}

fn is_section(path: &str) -> bool {
    keys().iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn first_of(section: &str) -> &'static str {
    let below = keys().iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'));
    below.min().unwrap_or_default()
}

fn as_json(config: &Config) -> Value {
    // Plain data: JSON writes all of it.
    serde_json::to_value(config).unwrap_or_default()
}

/// The values under their dotted paths.
fn leaves(value: &Value) -> Vec<(String, Value)> {
    let Value::Object(sections) = value else { return Vec::new() };
    let below = sections.iter().flat_map(|(name, value)| match value {
        Value::Object(_) => {
            leaves(value).into_iter().map(|(path, value)| (format!("{name}.{path}"), value)).collect()
        }
        _ => vec![(name.clone(), value.clone())],
    });
    below.collect()
}

fn put(config: &mut Value, path: &str, value: Value) {
    let mut at = config;
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
}

/// The keys of assets/config/default.yaml in their order, and the comment that stands above each.
fn documented() -> (Vec<String>, BTreeMap<String, String>) {
    let (mut order, mut docs) = (Vec::new(), BTreeMap::new());
    let (mut section, mut comment) = (String::new(), String::new());
    for line in DEFAULT_YAML.lines() {
        let text = line.trim();
        if let Some(words) = text.strip_prefix('#') {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(words.trim());
            continue;
        }
        if let Some((key, value)) = text.split_once(':') {
            let nested = line.starts_with(' ');
            if value.trim().is_empty() && !nested {
                key.clone_into(&mut section);
            } else {
                let path = if nested { format!("{section}.{key}") } else { key.to_owned() };
                docs.insert(path.clone(), std::mem::take(&mut comment));
                order.push(path);
            }
        }
        comment.clear();
    }
    (order, docs)
}

/// YAML as it was written, each piece with its line.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    Seq(Vec<Spanned<Node>>),
    Scalar(Value),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping, a list or a value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Node::Seq(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = from.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }

        from.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Result<Loaded, Vec<String>> {
        let mut layers = Layers::default();
        layers.file(Path::new("kaosnet.yaml"), text);
        layers.finish(None).map_err(|error| error.0.iter().map(Problem::to_string).collect())
    }

    fn flags(flags: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
        let mut layers = Layers::default();
        for (key, value) in flags {
            layers.text(Origin::Flag(format!("--{key}")), key, value);
        }
        layers.finish(None).map_err(|error| error.0.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn default_yaml_is_the_defaults_and_has_every_key_with_a_comment() {
        let loaded = yaml(DEFAULT_YAML).expect("default.yaml holds");
        assert_eq!(loaded.config, Config::default());
        for key in keys() {
            let origin = loaded.origin(&key.path);
            assert!(matches!(origin, Origin::File { .. }), "default.yaml has no `{}`", key.path);
            assert!(!key.doc.is_empty(), "`{}` has no comment", key.path);
        }
    }

    #[test]
    fn variables_and_keys_are_one_to_one() {
        let names: std::collections::BTreeSet<&str> = keys().iter().map(|key| key.env.as_str()).collect();
        assert_eq!(names.len(), keys().len());
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_the_next_step() {
        let cases = [
            (
                "room:\n  max_player: 3\n",
                "kaosnet.yaml:2: unknown key `room.max_player`. Did you mean `room.max_players`?",
            ),
            ("\nrom:\n  max_players: 3\n", "kaosnet.yaml:2: unknown key `rom`. Did you mean `room`?"),
            (
                "room:\n  max_players: many\n",
                "kaosnet.yaml:2: `room.max_players` is `many`: expected a whole number",
            ),
            (
                "room:\n  max_players: -1\n",
                "kaosnet.yaml:2: `room.max_players` is `-1`: expected a whole number",
            ),
            ("dev: maybe\n", "kaosnet.yaml:1: `dev` is `maybe`: expected true or false"),
            (
                "room: 5\n",
                "kaosnet.yaml:1: `room` is a section: its keys stand under it, such as `room.create`",
            ),
            (
                "room:\n  create: nobody\n",
                "kaosnet.yaml:2: `room.create` is `nobody`: expected one of `anyone`, `users`, `server`",
            ),
            (
                "http:\n  address: here\n",
                "kaosnet.yaml:2: `http.address` is `here`: expected an address such as 127.0.0.1:7350",
            ),
            (
                "udp:\n  address: here\n",
                "kaosnet.yaml:2: `udp.address` is `here`: expected an address such as 127.0.0.1:7352, or `off`",
            ),
            ("http:\n  origins: {a: 1}\n", "kaosnet.yaml:2: `http.origins` is a mapping: expected a list"),
            (
                "match:\n\n  errors_max: 0\n",
                "kaosnet.yaml:3: `match.errors_max` is 0: it goes from 1 to 1000",
            ),
            ("dev: true\ndev: true\n", "kaosnet.yaml:2: `dev` is there twice: leave one of them out"),
            (
                "room:\n  max_players: 2\n  max_players: 3\n",
                "kaosnet.yaml:3: `max_players` is there twice: leave one of them out",
            ),
            (
                "match:\n  on_error: explode\n",
                "kaosnet.yaml:2: `match.on_error` is `explode`: expected `skip` or `end`",
            ),
            ("- a\n- b\n", "kaosnet.yaml:1: there is no key here: a configuration is keys with their values"),
            ("hello\n", "kaosnet.yaml:1: there is no key here: "),
            ("foo: 1\n", "kaosnet.yaml:1: unknown key `foo`"),
            ("a: [1\n", "kaosnet.yaml:1: this is no YAML: "),
        ];
        for (text, sentence) in cases {
            let wrong = yaml(text).expect_err(sentence);
            assert!(wrong[0].starts_with(sentence), "wanted {sentence}\n   got {}", wrong[0]);
        }
        assert_eq!(yaml("foo: 1\n").expect_err("unknown"), ["kaosnet.yaml:1: unknown key `foo`"]);
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let wrong = yaml("rom: 1\nroom:\n  max_players: x\nquantum_us: 7\n").expect_err("three mistakes");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn values_take_the_type_of_their_key() {
        let loaded = flags(&[
            ("session.key", "12345678901234567890"),
            ("session.anonymous", "false"),
            ("http.origins", "https://a.example, https://b.example"),
            ("udp.address", "off"),
            ("room.create", "users"),
            ("journal.record", "data/run.kj"),
            ("data", "7"),
        ])
        .expect("they hold");
        let config = loaded.config;
        assert_eq!(config.session.key.as_deref(), Some("12345678901234567890"));
        assert_eq!(config.session.anonymous, Some(false));
        assert_eq!(config.http.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.udp.address, None);
        assert_eq!(config.journal.record, Some("data/run.kj".into()));
        assert_eq!(config.data, PathBuf::from("7"));

        let loaded = yaml("udp:\n  address: off\nsession:\n  key: 0x1234567890123456\n").expect("they hold");
        assert_eq!(loaded.config.udp.address, None);
        assert_eq!(loaded.config.session.key.as_deref(), Some("0x1234567890123456"));
    }

    #[test]
    fn an_empty_file_and_empty_sections_change_nothing() {
        for text in ["", "# nothing\n", "http:\nroom:\n"] {
            assert_eq!(yaml(text).expect(text).config, Config::default(), "{text:?}");
        }
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let dir = std::env::temp_dir().join(format!("kaosnet-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("k.yaml");
        std::fs::write(&file, "room:\n  max_players: 2\n  rooms_max: 3\nnode: a\n").unwrap();
        let env = [("KAOS_ROOM_MAX_PLAYERS", "4"), ("KAOS_NODE", "b"), ("HOME", "/"), ("KAOS_OTHER", "1")];
        let env = env.map(|(name, value)| (name.into(), value.into()));
        let loaded = load(Some(&file), env, &[("node".into(), "c".into())]).expect("it holds");
        assert_eq!((loaded.config.room.rooms_max, loaded.config.room.max_players), (3, 4));
        assert_eq!(loaded.config.node, "c");
        assert_eq!(loaded.origin("room.rooms_max").to_string(), format!("{}:3", file.display()));
        assert_eq!(loaded.origin("room.max_players").to_string(), "environment KAOS_ROOM_MAX_PLAYERS");
        assert_eq!(loaded.origin("node").to_string(), "--node");
        assert_eq!(loaded.origin("dev"), &Origin::Default);
        assert_eq!(loaded.warnings.len(), 1);

        let wrong = [("KAOS_ROOM_TICKS".into(), "4".into())];
        let error = load(None, wrong, &[]).expect_err("unknown").to_string();
        assert!(error.starts_with("environment KAOS_ROOM_TICKS: no key belongs"), "{error}");
        for (name, nearest) in
            [("KAOS_ROOM_TICKRATE", ""), ("KAOS_ROOM_MAXPLAYERS", ". Did you mean `KAOS_ROOM_MAX_PLAYERS`?")]
        {
            let wrong = [(name.to_owned(), "4".to_owned())].map(|(name, value)| (name.into(), value.into()));
            let error = load(None, wrong, &[]).expect_err("unknown").to_string();
            assert_eq!(error, format!("environment {name}: no key belongs to this variable{nearest}"));
        }
        let error = load(Some(&dir.join("none.yaml")), [], &[]).expect_err("missing").to_string();
        assert!(error.contains("none.yaml: the configuration cannot be read"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn variables_that_are_not_utf8_are_named_if_they_are_ours() {
        use std::os::unix::ffi::OsStrExt;
        let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let foreign = [(os(b"LS_\xff"), os(b"x")), (os(b"WHERE"), os(b"/tmp/\xe9"))];
        assert_eq!(load(None, foreign, &[]).expect("not ours").config, Config::default());
        let ours = [(os(b"KAOS_NODE"), os(b"caf\xe9")), (os(b"KAOS_N\xe9"), os(b"x"))];
        let error = load(None, ours, &[]).expect_err("ours").to_string();
        assert_eq!(
            error,
            "environment KAOS_NODE: the value of `node` is not UTF-8\n\
             environment KAOS_N\u{fffd}: the name of this variable is not UTF-8: no key belongs to it"
        );
    }

    #[test]
    fn variables_of_a_kubernetes_service_stop_nothing() {
        // As kubelet makes them for Services `kaos-udp` and `kaos-http`.
        let made = [
            ("KAOS_UDP_SERVICE_HOST", "10.0.0.9"),
            ("KAOS_UDP_SERVICE_PORT", "7352"),
            ("KAOS_UDP_SERVICE_PORT_GAME", "7352"),
            ("KAOS_UDP_PORT", "udp://10.0.0.9:7352"),
            ("KAOS_UDP_PORT_7352_UDP", "udp://10.0.0.9:7352"),
            ("KAOS_UDP_PORT_7352_UDP_PROTO", "udp"),
            ("KAOS_UDP_PORT_7352_UDP_PORT", "7352"),
            ("KAOS_UDP_PORT_7352_UDP_ADDR", "10.0.0.9"),
            ("KAOS_HTTP_PORT_7350_TCP_ADDR", "10.0.0.9"),
        ];
        let loaded = load(None, made.map(|(name, value)| (name.into(), value.into())), &[]).expect("no keys");
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert!(made.iter().all(|(name, _)| loaded.warnings[0].contains(name)), "{:?}", loaded.warnings);
        for (name, value) in [("KAOS_HTTP_PORT", "8080"), ("KAOS_UDP_PORT_MAX", "1"), ("KAOS_UDP_HOST", "a")]
        {
            let error = load(None, [(name.into(), value.into())], &[]).expect_err(name).to_string();
            assert!(error.starts_with(&format!("environment {name}: no key belongs")), "{error}");
        }
    }

    #[test]
    fn an_empty_key_is_not_the_wish_for_one_to_be_made() {
        for key in ["session.key", "udp.key"] {
            let wrong = flags(&[(key, "")]).expect_err(key);
            assert!(wrong[0].starts_with(&format!("--{key}: `{key}` is ")), "{wrong:?}");
            assert_eq!(flags(&[(key, "null")]).expect(key).config, Config::default());
        }
        assert!(yaml("session:\n  key: ''\n").is_err());
        assert_eq!(flags(&[("journal.record", "")]).expect("none").config, Config::default());
    }
}
