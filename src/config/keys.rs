//! Every key of the configuration, with its variable and its meaning.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kaos_kernel::settings::section::SettingRow;
use serde_json::Value;

use super::{Config, DEFAULT_YAML, announced_key};

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
pub(super) fn variable(path: &str) -> String {
    format!("KAOS_{}", path.replace('.', "_").to_uppercase())
}

pub(super) fn is_section(path: &str) -> bool {
    keys().iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

pub(super) fn first_of(section: &str) -> &'static str {
    let below = keys().iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'));
    below.min().unwrap_or_default()
}

pub(super) fn as_json(config: &Config) -> Value {
    // Plain data: JSON writes all of it.
    serde_json::to_value(config).unwrap_or_default()
}

/// The values under their dotted paths.
pub(super) fn leaves(value: &Value) -> Vec<(String, Value)> {
    let Value::Object(sections) = value else { return Vec::new() };
    let below = sections.iter().flat_map(|(name, value)| match value {
        Value::Object(_) => {
            leaves(value).into_iter().map(|(path, value)| (format!("{name}.{path}"), value)).collect()
        }
        _ => vec![(name.clone(), value.clone())],
    });
    below.collect()
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
