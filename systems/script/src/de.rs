//! Script values as a serde format: how what a script gives becomes an operation's request.

use std::collections::{BTreeMap, btree_map};

use kaos_kernel::spelling::nearest;
use serde::de::value::{MapAccessDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::value::Value;

/// What serde says of a value that does not fit.
pub(crate) type DeError = serde::de::value::Error;

impl<'de> IntoDeserializer<'de, DeError> for Value {
    type Deserializer = Value;

    fn into_deserializer(self) -> Value {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Value::Nil => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Int(n) => visitor.visit_i64(n),
            // Lua's `2.0` is the number two wherever a whole number is asked for.
            float @ Value::Float(f) => match float.as_int() {
                Some(n) => visitor.visit_i64(n),
                None => visitor.visit_f64(f),
            },
            Value::Text(bytes) => match String::from_utf8(bytes) {
                Ok(text) => visitor.visit_string(text),
                Err(error) => visitor.visit_byte_buf(error.into_bytes()),
            },
            Value::List(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter())),
            Value::Map(map) => visitor.visit_map(Fields { rest: map.into_iter(), at: None }),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            // An empty table is whatever it is asked to be.
            Value::List(list) if list.is_empty() => Value::Map(BTreeMap::new()).deserialize_any(visitor),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        // A field that nobody reads is a mistake: what was meant would be left out in silence.
        if let Value::Map(map) = &self
            && let Some(name) = map.keys().find(|name| !fields.contains(&name.as_str()))
        {
            let near = nearest(name, fields.iter().map(|field| (*field).to_owned()));
            let near = if near.is_empty() { format!(": there are {}", fields.join(", ")) } else { near };
            let name: String = name.chars().take(64).collect();
            return Err(DeError::custom(format!("there is no field `{name}`{near}")));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Value::Nil => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            Value::Float(f) => visitor.visit_f64(f),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self {
            // An empty table is an empty map until somebody asks for a list.
            Value::Map(map) if map.is_empty() => {
                visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Value>()))
            }
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match self {
            // A table with one field names the variant by it.
            Value::Map(map) if map.len() == 1 => {
                let fields = Fields { rest: map.into_iter(), at: None };
                visitor.visit_enum(MapAccessDeserializer::new(fields))
            }
            value => match value.as_str() {
                Some(word) => visitor.visit_enum(word.to_owned().into_deserializer()),
                None => Err(DeError::custom("a word, or a table with one field, was expected")),
            },
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

/// The entries of a map. What does not fit is told with its key.
struct Fields {
    rest: btree_map::IntoIter<String, Value>,
    at: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        self.at = self.rest.next();
        match &self.at {
            None => Ok(None),
            Some((key, _)) => seed.deserialize(key.clone().into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let (key, value) = self.at.take().unwrap_or_default();
        seed.deserialize(value).map_err(|error| {
            let key: String = key.chars().take(64).collect();
            DeError::custom(format!("`{key}`: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaos_kernel::prelude::Blob;
    use serde::Deserialize;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Request {
        room: String,
        op: u8,
        data: Blob,
        #[serde(default)]
        reason: Option<String>,
        ratio: f64,
    }

    #[test]
    fn a_table_becomes_a_request_and_bytes_stay_bytes() {
        let table = Value::map([
            ("room", Value::text("r")),
            ("op", Value::Float(7.0)),
            ("data", Value::text([0xff, 0x00])),
            ("ratio", Value::Int(2)),
        ]);
        let request = Request::deserialize(table).expect("fits");
        assert_eq!((request.op, request.reason, request.ratio), (7, None, 2.0));
        assert_eq!(&request.data.0[..], [0xff, 0x00]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let table = Value::map([("room", Value::Int(1))]);
        let error = Request::deserialize(table).expect_err("no text").to_string();
        assert!(error.contains("expected a string"), "{error}");
    }
}
