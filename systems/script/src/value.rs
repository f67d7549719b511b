//! The one value between Rust and any virtual machine: plain data, bounded, in a fixed order.

use kaos_kernel::op::schema::{Node, Tree};
use std::cell::Cell;
use std::collections::BTreeMap;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};

/// Plain data as scripts know it.
///
/// Unlike JSON it tells integers from floats and holds bytes that are no text. Maps are sorted by key, so
/// that two equal values are equal in every way.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// Lua's `nil`, JSON's `null`. It never stands in a list or a map that came from a script.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A float. JSON refuses those that are not finite.
    Float(f64),
    /// A string of bytes. JSON refuses what is not UTF-8.
    Text(Vec<u8>),
    /// A table with the keys 1 to n and no others. An empty one is a table that `kaos.json_array` marked, or JSON's `[]`.
    List(Vec<Value>),
    /// Any other table; integer keys are written as text. An empty table without a mark is an empty map.
    Map(BTreeMap<String, Value>),
}

/// How much of a value is read from a script. What is larger is refused as a whole, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Tables within tables; 1 is a table of scalars. A cycle ends here too.
    pub depth: u16,
    /// Values and keys, in all.
    pub nodes: u32,
    /// Bytes of all strings and keys together.
    pub bytes: usize,
}

impl Bounds {
    /// What functions of the host accept: 32 deep, 20,000 values, 1 MiB of text.
    pub const CALL: Bounds = Bounds { depth: 32, nodes: 20_000, bytes: 1 << 20 };
    /// What inspection shows of a state: 64 deep, 200,000 values, 16 MiB of text.
    pub const STATE: Bounds = Bounds { depth: 64, nodes: 200_000, bytes: 16 << 20 };
}

impl Value {
    /// Text from anything that has bytes.
    pub fn text(bytes: impl AsRef<[u8]>) -> Self {
        Self::Text(bytes.as_ref().to_vec())
    }

    /// A map from pairs.
    pub fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The text, if it is text and UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one or a float without a fraction.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            // The range in which every integral float has an exact i64.
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e18 => Some(*f as i64),
            _ => None,
        }
    }

    /// Entry `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// Text that is not UTF-8 and floats that are not finite have no JSON; the error names the place.
    pub fn to_json(&self) -> Result<Json, Unfit> {
        Ok(match self {
            Self::Nil => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) => Json::from(*n),
            Self::Float(f) => {
                Json::Number(Number::from_f64(*f).ok_or_else(|| Unfit::new(format!("{f} has no JSON")))?)
            }
            Self::Text(bytes) => Json::String(
                std::str::from_utf8(bytes).map_err(|_| Unfit::new("a string that is not UTF-8"))?.to_owned(),
            ),
            Self::List(list) => Json::Array(
                list.iter()
                    .enumerate()
                    .map(|(i, value)| value.to_json().map_err(|e| e.at(i + 1)))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Map(map) => Json::Object(
                map.iter()
                    .map(|(key, value)| Ok((key.clone(), value.to_json().map_err(|e| e.at(key))?)))
                    .collect::<Result<_, Unfit>>()?,
            ),
        })
    }

    /// From JSON. Integers over the range of `i64` become floats.
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => {
                n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or_default()), Self::Int)
            }
            Json::String(text) => Self::Text(text.as_bytes().to_vec()),
            Json::Array(list) => Self::List(list.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
        }
    }
}

impl Value {
    /// From JSON text, as [`Value::from_json`]. It stops where `bounds` end.
    ///
    /// # Errors
    /// The text is not JSON, or more than `bounds`; with the line and the column.
    pub fn parse_json(text: &[u8], bounds: Bounds) -> Result<Self, serde_json::Error> {
        let nodes = Cell::new(bounds.nodes);
        let mut from = serde_json::Deserializer::from_slice(text);
        let value = Within { nodes: &nodes }.deserialize(&mut from)?;
        from.end()?;
        Ok(value)
    }

    /// What handing it to a script costs in fuel: 4 a value, and one for 16 bytes.
    pub(crate) fn fuel(&self) -> u64 {
        match self {
            Self::Nil | Self::Bool(_) | Self::Int(_) | Self::Float(_) => 4,
            Self::Text(bytes) => 4 + (bytes.len() as u64 >> 4),
            Self::List(list) => 4 + list.iter().map(Self::fuel).sum::<u64>(),
            Self::Map(map) => {
                4 + map.iter().map(|(key, value)| 4 + (key.len() as u64 >> 4) + value.fuel()).sum::<u64>()
            }
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Nil | Self::Bool(_) | Self::Int(_) | Self::Float(_) => 32,
            Self::Text(bytes) => 32 + bytes.len(),
            Self::List(list) => 32 + list.iter().map(Self::weight).sum::<usize>(),
            Self::Map(map) => {
                32 + map.iter().map(|(key, value)| 32 + key.len() + value.weight()).sum::<usize>()
            }
        }
    }
}

/// Reads JSON until so many values and keys came.
#[derive(Clone, Copy)]
struct Within<'a> {
    nodes: &'a Cell<u32>,
}

impl Within<'_> {
    fn take<E: de::Error>(self) -> Result<(), E> {
        let left = self.nodes.get().checked_sub(1).ok_or_else(|| E::custom("too many values"))?;
        self.nodes.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.take()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, f: f64) -> Result<Value, E> {
        Ok(Value::Float(f))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text.into_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take()?;
            values.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Map(values))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// A value that does not fit: what it is and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    what: String,
    // Innermost key first.
    path: Vec<String>,
}

impl Unfit {
    /// Not at any key yet.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), path: Vec::new() }
    }

    /// One level further out.
    #[must_use]
    pub fn at(mut self, key: impl ToString) -> Self {
        // Enough to find it; a cycle would fill pages.
        if self.path.len() < 8 {
            self.path.push(key.to_string());
        }
        self
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "{} at ", self.what)?;
        for (i, key) in self.path.iter().rev().enumerate() {
            write!(f, "{}{key}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl std::error::Error for Unfit {}

/// As an operation's schema looks at it: an empty list is an empty table too, and text that is none is bytes.
impl Tree for Value {
    fn node(&self) -> Node<'_> {
        match self {
            Value::Nil => Node::Null,
            Value::Bool(value) => Node::Bool(*value),
            Value::Int(number) => Node::Integer((*number).into()),
            // Lua's `2.0` is the number two wherever a whole number is asked for.
            float @ Value::Float(number) => {
                float.as_int().map_or(Node::Float(*number), |number| Node::Integer(number.into()))
            }
            Value::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Node::Text(text),
                Err(_) => Node::Bytes(text.len()),
            },
            Value::List(list) if list.is_empty() => Node::Empty,
            Value::List(list) => Node::List(list.iter().map(|value| value as &dyn Tree).collect()),
            Value::Map(map) if map.is_empty() => Node::Empty,
            Value::Map(map) => {
                Node::Map(map.iter().map(|(name, value)| (name.as_str(), value as &dyn Tree)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_back() {
        let json = serde_json::json!({ "a": [1, 2.5, "x", { "b": true }], "big": u64::MAX, "none": null });
        let value = Value::from_json(&json);
        assert_eq!(value.get("a").and_then(|a| a.to_json().ok()), Some(json["a"].clone()));
        assert_eq!(value.get("big"), Some(&Value::Float(u64::MAX as f64)));
        assert_eq!(value.get("none"), Some(&Value::Nil));
    }

    #[test]
    fn what_json_cannot_hold_is_named() {
        let value = Value::map([("list", Value::List(vec![Value::Int(1), Value::Float(f64::NAN)]))]);
        assert_eq!(value.to_json().unwrap_err().to_string(), "NaN has no JSON at list.2");
        let value = Value::map([("raw", Value::text([0xff]))]);
        assert_eq!(value.to_json().unwrap_err().to_string(), "a string that is not UTF-8 at raw");
    }
}
