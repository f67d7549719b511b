//! A game's bytes in formats that may have only text.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes from a script or client. They are written as text if they are UTF-8, and as bytes otherwise. They are read
/// from text, from bytes, or from a list of numbers from 0 to 255; null is read as no bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Blob(pub Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => to.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(text.as_bytes())))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Blob, E> {
                Ok(Blob::default())
            }

            fn visit_none<E: de::Error>(self) -> Result<Blob, E> {
                Ok(Blob::default())
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Blob, A::Error> {
                // The capacity is not taken from the length that the list claims; it grows with the items that arrive.
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element::<u8>()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes.into()))
            }
        }
        from.deserialize_any(Any)
    }
}

impl JsonSchema for Blob {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // JSON has no bytes, so a list has one number per byte. Bytes from scripts are checked by the type.
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 255 } },
                { "type": "null" },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lists_and_null_are_bytes() {
        let read = |json: &str| serde_json::from_str::<Blob>(json).map(|blob| blob.0.to_vec()).ok();
        assert_eq!(read("\"hi\""), Some(b"hi".to_vec()));
        assert_eq!(read("[1,255]"), Some(vec![1, 255]));
        assert_eq!(read("null"), Some(vec![]));
        assert_eq!(read("[256]"), None);
        assert_eq!(serde_json::to_string(&Blob(Bytes::from_static(b"hi"))).ok().as_deref(), Some("\"hi\""));
    }
}
