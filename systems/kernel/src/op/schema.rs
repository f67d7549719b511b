//! The schema of a request, a reply or an event: made from its type, used to read text and to refuse values that do not
//! fit, in the same words on every door.
//!
//! schemars derives a JSON Schema from the type, and documents are made from that. Checks run for every request and
//! need only a part of it. That part is compiled into a shape (`shape`), which checks a [`Tree`] (`tree`); `format` has
//! the text formats of ids, and `words` the words of a refusal.

mod format;
mod shape;
mod tree;
mod words;
pub use tree::{Node, Tree};

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use format::Format;
use shape::Shape;
use words::Path;

/// The depth to which a request is checked. Deeper values are left to the type that reads them; `serde_json` itself
/// reads 128 levels.
const DEPTH_MAX: usize = 64;

/// The schema of a type. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Makes the JSON Schema, which is large and seldom asked for.
    json: fn() -> Json,
    /// The part of it that is checked.
    shape: Arc<Shape>,
    unchecked: Option<&'static str>,
}

/// The schemas of this process. They depend on nothing but their types, and a command builds the tables of a server more than
/// once: to know what can be set, and to run it.
static SCHEMAS: Mutex<BTreeMap<TypeId, Schema>> = Mutex::new(BTreeMap::new());

impl Schema {
    /// The schema of a type.
    pub fn of<T: JsonSchema + 'static>() -> Self {
        let known = || SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&TypeId::of::<T>()) {
            return schema.clone();
        }
        let json = json_of::<T>();
        let shape = Arc::new(Shape::of(&json));
        let schema = Schema { json: json_of::<T>, shape, unchecked: unchecked(&json) };
        known().insert(TypeId::of::<T>(), schema.clone());
        schema
    }

    /// The JSON Schema, draft 2020-12. Only types that contain themselves are referenced; all others are inlined.
    pub fn json(&self) -> Json {
        (self.json)()
    }

    /// The keyword of a bound that the schema states and [`Schema::check`] does not check; `None`: all are checked.
    pub(crate) fn unchecked(&self) -> Option<&'static str> {
        self.unchecked
    }

    /// The names of its fields; empty when it is not an object.
    pub fn fields(&self) -> impl Iterator<Item = &str> + '_ {
        self.shape.object().into_iter().flat_map(|fields| fields.named.keys().map(String::as_str))
    }

    /// Whether a field of that name is accepted: it is declared, or the type accepts any name.
    pub fn has_field(&self, name: &str) -> bool {
        matches!(*self.shape, Shape::Any | Shape::Map(_))
            || self
                .shape
                .object()
                .is_some_and(|fields| fields.others.is_some() || fields.named.contains_key(name))
    }

    /// Whether a field of that name is declared.
    pub fn names_field(&self, name: &str) -> bool {
        self.shape.object().is_some_and(|fields| fields.named.contains_key(name))
    }

    /// The request that an empty body stands for: null if the type accepts it, otherwise an object without fields.
    pub fn nothing(&self) -> Json {
        if self.shape.takes_null() { Json::Null } else { Json::Object(serde_json::Map::new()) }
    }

    /// Reads the texts of a field from a query string or a path, by the field's type; for a list, each text is an item.
    /// Text that the type cannot read stays text, which [`Schema::check`] then refuses.
    ///
    /// # Errors
    /// A sentence: the field is not a list, and there are several texts.
    pub fn read_text(&self, field: &str, texts: &[String]) -> Result<Json, String> {
        let any = Shape::Any;
        let shape = match &*self.shape {
            Shape::Map(value) => value,
            shape => shape.object().and_then(|fields| fields.shape_of(field)).unwrap_or(&any),
        };
        match (shape.list(), texts) {
            (Some(item), texts) => Ok(Json::Array(texts.iter().map(|text| item.read_text(text)).collect())),
            (None, [text]) => Ok(shape.read_text(text)),
            (None, _) => Err(format!("`{field}` is given {} times", texts.len())),
        }
    }

    /// [`Schema::check`] for an object to which the field `excluded` will be added later: it is not required yet, and
    /// refused if it is there already.
    pub(crate) fn check_without(&self, value: &Json, excluded: &str) -> Result<(), String> {
        let Some(fields) = self.shape.object() else { return Ok(()) };
        let mut fields = fields.clone();
        fields.named.remove(excluded);
        Shape::Object(fields).check(value, &Path::Root, DEPTH_MAX)
    }

    /// Checks a value for missing fields, unknown fields, values of the wrong type and values out of range.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self, value: &dyn Tree) -> Result<(), String> {
        self.shape.check(value, &Path::Root, DEPTH_MAX)
    }
}

fn json_of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Keywords of JSON Schema whose bounds are not checked. `uniqueItems` is not among them: a duplicate in a set is
/// allowed, and serde drops it.
const UNCHECKED: [&str; 8] = [
    "allOf",
    "pattern",
    "multipleOf",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minProperties",
    "maxProperties",
    "not",
];

/// The first keyword of [`UNCHECKED`] in a schema or its parts.
fn unchecked(schema: &Json) -> Option<&'static str> {
    let Json::Object(keywords) = schema else { return None };
    // The check of an id's format includes its pattern.
    let is_checked = |keyword: &str| keyword == "pattern" && Format::of(schema).is_some();
    let own = UNCHECKED.into_iter().find(|keyword| keywords.contains_key(*keyword) && !is_checked(keyword));
    let in_part = |name: &str| match keywords.get(name) {
        Some(Json::Object(parts)) if matches!(name, "properties" | "$defs") => {
            parts.values().find_map(unchecked)
        }
        Some(Json::Array(parts)) => parts.iter().find_map(unchecked),
        Some(part) => unchecked(part),
        None => None,
    };
    let parts =
        ["properties", "$defs", "items", "additionalProperties", "oneOf", "anyOf", "allOf", "prefixItems"];
    own.or_else(|| parts.into_iter().find_map(in_part))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::ids::{RoomId, SessionId};

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        /// The oldest first.
        Oldest,
        Newest,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum To {
        Room(String),
        Named { kind: String, id: u8 },
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Query {
        /// A name.
        module: Option<String>,
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        #[serde(default)]
        open: bool,
        #[serde(default)]
        ids: Vec<u64>,
        order: Order,
        #[serde(default)]
        label: Json,
        to: Option<To>,
        #[schemars(length(max = 3))]
        short: Option<String>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Bounded {
        #[schemars(length(min = 10, max = 128))]
        device: Option<String>,
        #[schemars(length(min = 2))]
        name: Option<String>,
        #[schemars(length(min = 1, max = 3))]
        ids: Option<Vec<u8>>,
        #[schemars(range(min = 0.5, max = 2))]
        speed: Option<f64>,
        #[schemars(range(min = 0))]
        weight: Option<f32>,
        letter: Option<char>,
        #[serde(flatten)]
        more: std::collections::BTreeMap<String, u8>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Ids {
        room: RoomId,
        session: Option<SessionId>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Unchecked {
        list: Vec<Inner>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Inner {
        #[schemars(regex(pattern = "^a"))]
        name: String,
    }

    fn refused(value: Json) -> String {
        Schema::of::<Query>().check(&value).expect_err("it does not fit")
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words_that_name_the_field() {
        let fits = json!({ "order": "newest", "module": null, "limit": 100, "ids": [1], "label": { "a": 1 },
            "to": { "named": { "kind": "party", "id": 3 } }, "short": "äöü" });
        assert_eq!(Schema::of::<Query>().check(&fits), Ok(()));
        for (value, sentence) in [
            (json!({}), "`order` is missing"),
            (json!({ "order": "newest", "modul": "x" }), "there is no field `modul`. Did you mean `module`?"),
            (json!({ "order": "new" }), "`order` is \"new\", not `newest` or `oldest`"),
            (json!({ "order": "newest", "limit": 0 }), "`limit` is 0, not an integer from 1 to 100"),
            (json!({ "order": "newest", "limit": "5" }), "`limit` is \"5\", not an integer from 1 to 100"),
            (json!({ "order": "newest", "limit": 1.5 }), "`limit` is 1.5, not an integer from 1 to 100"),
            (json!({ "order": "newest", "open": 1 }), "`open` is 1, not true or false"),
            (
                json!({ "order": "newest", "ids": [1, -1] }),
                "`ids[1]` is -1, not an integer from 0 to 18446744073709551615",
            ),
            (
                json!({ "order": "newest", "short": "four" }),
                "`short` is \"four\", not text of at most 3 characters",
            ),
            (
                json!({ "order": "newest", "to": { "named": { "kind": "x", "id": 256 } } }),
                "`to.named.id` is 256, not an integer from 0 to 255",
            ),
            (json!([1]), "the request is a list of 1, not an object"),
        ] {
            assert_eq!(refused(value), sentence);
        }
    }

    #[test]
    fn every_bound_of_a_schema_is_held_and_said() {
        let schema = Schema::of::<Bounded>();
        for fits in [
            json!({ "device": "0123456789", "name": "äö", "ids": [1], "speed": 0.5, "weight": 0, "letter": "ä" }),
            json!({ "speed": 2, "ids": [1, 2, 3], "score": 7 }),
        ] {
            assert_eq!(schema.check(&fits), Ok(()), "{fits}");
        }
        for (value, sentence) in [
            (json!({ "device": "short" }), "`device` is \"short\", not text of 10 to 128 characters"),
            (json!({ "name": "a" }), "`name` is \"a\", not text of at least 2 characters"),
            (json!({ "ids": [] }), "`ids` is a list of 0, not a list of 1 to 3"),
            (json!({ "ids": [1, 2, 3, 4] }), "`ids` is a list of 4, not a list of 1 to 3"),
            (json!({ "speed": 0.4 }), "`speed` is 0.4, not a number from 0.5 to 2"),
            (json!({ "weight": -1 }), "`weight` is -1, not a number of at least 0"),
            (json!({ "letter": "ab" }), "`letter` is \"ab\", not text of exactly 1 character"),
            // A field of the flattened map.
            (json!({ "score": 256 }), "`score` is 256, not an integer from 0 to 255"),
        ] {
            assert_eq!(schema.check(&value), Err(sentence.to_owned()));
        }
        assert!(schema.has_field("score"));
        assert_eq!(schema.read_text("score", &["7".to_owned()]), Ok(json!(7)));
    }

    #[test]
    fn an_id_is_refused_by_its_field() {
        let schema = Schema::of::<Ids>();
        let room = "6f1c2d3e-0000-4000-8000-000000000001";
        assert_eq!(schema.check(&json!({ "room": room, "session": "00000000000000ff" })), Ok(()));
        for (value, sentence) in [
            (json!({ "room": "x" }), "`room` is \"x\", not a UUID in its 36-character form"),
            (
                json!({ "room": room, "session": "ff" }),
                "`session` is \"ff\", not a session id of 16 hexadecimal digits",
            ),
            (json!({ "room": 5 }), "`room` is 5, not a UUID in its 36-character form"),
        ] {
            assert_eq!(schema.check(&value), Err(sentence.to_owned()));
        }
        assert_eq!(schema.unchecked(), None);
    }

    #[test]
    fn what_a_schema_says_and_nobody_checks_is_known() {
        assert_eq!(Schema::of::<Bounded>().unchecked(), None);
        assert_eq!(Schema::of::<std::collections::BTreeSet<u8>>().unchecked(), None);
        assert_eq!(Schema::of::<Unchecked>().unchecked(), Some("pattern"));
    }

    #[test]
    fn text_is_read_by_the_type_of_its_field() {
        let schema = Schema::of::<Query>();
        let read = |field: &str, text: &str| schema.read_text(field, &[text.to_owned()]);
        assert_eq!(read("module", "5"), Ok(json!("5")));
        assert_eq!(read("module", "true"), Ok(json!("true")));
        assert_eq!(read("limit", "5"), Ok(json!(5)));
        assert_eq!(read("limit", "five"), Ok(json!("five")));
        assert_eq!(read("open", "true"), Ok(json!(true)));
        assert_eq!(read("ids", "18446744073709551615"), Ok(json!([u64::MAX])));
        assert_eq!(read("label", "5"), Ok(json!("5")));
        let twice = ["1".to_owned(), "2".to_owned()];
        assert_eq!(schema.read_text("ids", &twice), Ok(json!([1, 2])));
        assert_eq!(schema.read_text("limit", &twice), Err("`limit` is given 2 times".to_owned()));
    }

    #[test]
    fn nothing_is_null_where_the_type_takes_it() {
        assert_eq!(Schema::of::<()>().nothing(), Json::Null);
        assert_eq!(Schema::of::<Option<Query>>().nothing(), Json::Null);
        assert_eq!(Schema::of::<Query>().nothing(), json!({}));
        assert_eq!(Schema::of::<Option<Query>>().fields().count(), 8);
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Goal {
        Room { room: String },
        Nobody,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Shot {
        strength: u8,
        #[serde(flatten)]
        goal: Goal,
    }

    #[test]
    fn a_struct_with_a_flattened_enum_has_the_fields_of_both() {
        let schema = Schema::of::<Shot>();
        assert_eq!(schema.unchecked(), None);
        assert_eq!(schema.check(&json!({ "strength": 3, "kind": "room", "room": "a" })), Ok(()));
        assert_eq!(schema.check(&json!({ "strength": 3, "kind": "nobody" })), Ok(()));
        for wrong in [
            json!({ "kind": "nobody" }),
            json!({ "strength": 300, "kind": "nobody" }),
            json!({ "strength": 3, "kind": "room" }),
            json!({ "strength": 3, "kind": "nobody", "room": "a" }),
            json!({ "strength": 3, "kind": "room", "room": "a", "rooom": "b" }),
        ] {
            assert!(schema.check(&wrong).is_err(), "{wrong}");
        }
    }
}
