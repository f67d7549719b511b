//! The file: YAML whose pieces know their lines.

use std::fmt;
use std::path::Path;

use kaos_kernel::settings::SettingRow;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::origin::Origin;
use super::sources::Layers;

impl Layers {
    pub(super) fn file(&mut self, path: &Path, text: &str) {
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
                    None => format!("this is not YAML: {sentence}"),
                };
                self.problem(Origin::File { path: path.to_owned(), line }, sentence);
            }
        }
    }

    fn node(&mut self, file: &Path, text: &str, path: &str, node: &Spanned<Node>, key_line: Option<u64>) {
        let line = key_line.unwrap_or(node.referenced.line());
        let at = Origin::File { path: file.to_owned(), line };
        let is_key = self.sections.row(path).is_some();
        match &node.value {
            Node::Map(entries) if !is_key => {
                if !path.is_empty() && !self.sections.is_section(path) {
                    let sentence = self.sections.unknown(path);
                    return self.problem(at, sentence);
                }
                for (key, value) in entries {
                    let below =
                        if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    self.node(file, text, &below, value, Some(key.referenced.line()));
                }
            }
            // `http:` with nothing under it, and an empty file.
            Node::Scalar(Value::Null) if path.is_empty() || self.sections.is_section(path) => {}
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
                let expected = self.sections.row(path).map(SettingRow::expects).unwrap_or_default();
                self.problem(at, format!("`{path}` is a mapping: expected {expected}"));
            }
        }
    }
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
