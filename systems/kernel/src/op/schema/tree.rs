//! A value that can be inspected without knowing its type, and how a refusal shows it.

use std::fmt;

use serde_json::Value as Json;

/// The longest text, in characters, that a refusal quotes. Of a longer text it states the length.
pub(super) const SHOWN_MAX: usize = 40;

/// A value that can be inspected without knowing its type: JSON, or a value of a script.
pub trait Tree {
    /// The kind of this value, with its parts.
    fn node(&self) -> Node<'_>;
}

impl dyn Tree + '_ {
    /// The text of a field; `None`: there is no such field, or it is not text.
    pub fn text(&self, field: &str) -> Option<&str> {
        let Node::Map(map) = self.node() else { return None };
        match map.into_iter().find(|(name, _)| *name == field)?.1.node() {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// One value of a [`Tree`].
pub enum Node<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// The number of bytes in a value that is not text.
    Bytes(usize),
    /// Values in order.
    List(Vec<&'a dyn Tree>),
    /// Values by name.
    Map(Vec<(&'a str, &'a dyn Tree)>),
    /// An empty list or map, in a language that does not distinguish the two.
    Empty,
}

impl Tree for Json {
    fn node(&self) -> Node<'_> {
        match self {
            Json::Null => Node::Null,
            Json::Bool(value) => Node::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Node::Integer(number.into()),
                (_, Some(number)) => Node::Integer(number.into()),
                _ => Node::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Node::Text(text),
            Json::Array(list) => Node::List(list.iter().map(|value| value as &dyn Tree).collect()),
            Json::Object(map) => {
                Node::Map(map.iter().map(|(name, value)| (name.as_str(), value as &dyn Tree)).collect())
            }
        }
    }
}

/// Shows a refused value in words, in at most one line.
pub(super) struct Shown<'a>(pub(super) &'a Node<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Node::Null => f.write_str("null"),
            Node::Bool(value) => write!(f, "{value}"),
            Node::Integer(number) => write!(f, "{number}"),
            Node::Float(number) => write!(f, "{number}"),
            Node::Text(text) if text.chars().count() > SHOWN_MAX => {
                write!(f, "text of {} characters", text.chars().count())
            }
            Node::Text(text) => write!(f, "{}", Json::from(*text)),
            Node::Bytes(length) => write!(f, "{length} bytes that are not text"),
            Node::List(list) => write!(f, "a list of {}", list.len()),
            Node::Map(_) => f.write_str("an object"),
            Node::Empty => f.write_str("an empty table"),
        }
    }
}
