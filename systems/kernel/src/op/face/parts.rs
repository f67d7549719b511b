//! A request assembled from the parts of an HTTP request, as a serde deserializer.

use bytes::Bytes;
use serde::Deserializer;
use serde::de::value::MapDeserializer;
use serde::de::{IntoDeserializer, Visitor};
use serde_json::{Map, Value as Json};

/// An assembled request.
pub(crate) struct Parts<'b> {
    /// The fields from path, query and a JSON body.
    pub(crate) json: Json,
    /// The name and bytes of the field that is a raw body.
    pub(crate) raw: Option<(&'static str, &'b Bytes)>,
}

impl Parts<'_> {
    /// A deserializer of the whole request.
    pub(crate) fn into_deserializer(self) -> Box<dyn erased_serde::Deserializer<'static>> {
        let Some((field, bytes)) = self.raw else {
            return Box::new(<dyn erased_serde::Deserializer<'_>>::erase(self.json));
        };
        let fields = match self.json {
            Json::Object(fields) => fields,
            _ => Map::new(),
        };
        let parts = fields.into_iter().map(|(name, value)| (name, Part::Json(value)));
        let raw = std::iter::once((field.to_owned(), Part::Bytes(bytes.clone())));
        let all: Vec<(String, Part)> = parts.chain(raw).collect();
        let reader = MapDeserializer::<_, serde_json::Error>::new(all.into_iter());
        Box::new(<dyn erased_serde::Deserializer<'_>>::erase(reader))
    }
}

/// The value of one field.
enum Part {
    Json(Json),
    Bytes(Bytes),
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Part {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Part {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Part::Json(value) => value.deserialize_any(visitor),
            Part::Bytes(bytes) => visitor.visit_bytes(&bytes),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Part::Json(value) => value.deserialize_option(visitor),
            bytes @ Part::Bytes(_) => visitor.visit_some(bytes),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self {
            Part::Json(value) => value.deserialize_enum(name, variants, visitor),
            Part::Bytes(bytes) => visitor.visit_bytes(&bytes),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
