//! What a request, a reply or an event holds: made from its type, and used to read text and to refuse what does not fit, in
//! the same words on every door.
//!
//! The type's own derive (schemars) says it as a JSON Schema, from which documents are made. Checking needs less of it, and
//! often: that is the [`Shape`].

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::spelling::nearest;

/// Depth to which a request is checked; what lies deeper is left to the type that reads it. `serde_json` itself reads 128.
const DEPTH_MAX: usize = 64;

/// Characters of a wrong text that its refusal repeats.
const SHOWN_MAX: usize = 40;

/// What a type holds.
#[derive(Clone, Debug)]
pub struct Schema {
    json: Json,
    shape: Shape,
}

impl Schema {
    /// Of a type.
    pub fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let json = settings.into_generator().into_root_schema_for::<T>().to_value();
        let shape = Shape::of(&json);
        Schema { json, shape }
    }

    /// As a JSON Schema, draft 2020-12, without references but those of types that hold themselves.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// The names of its fields; none when it is no object.
    pub fn fields(&self) -> impl Iterator<Item = &str> + '_ {
        self.shape.object().into_iter().flat_map(|fields| fields.keys().map(String::as_str))
    }

    /// Whether there is a field of that name, or any is welcome.
    pub fn has_field(&self, name: &str) -> bool {
        matches!(self.shape, Shape::Any | Shape::Map(_))
            || self.shape.object().is_some_and(|fields| fields.contains_key(name))
    }

    /// What stands for a request when nothing was sent: null if the type takes it, otherwise an object without fields.
    pub fn nothing(&self) -> Json {
        if self.shape.takes_null() { Json::Null } else { Json::Object(serde_json::Map::new()) }
    }

    /// Reads the texts that a query or a path gives for a field: as the field's type, several of them as a list. What
    /// cannot be read so stays text, and is refused by [`Schema::check`].
    ///
    /// # Errors
    /// A sentence: the field holds one value, and several were given.
    pub fn read_text(&self, field: &str, texts: &[String]) -> Result<Json, String> {
        let any = Shape::Any;
        let shape = match &self.shape {
            Shape::Map(value) => value,
            shape => shape.object().and_then(|fields| fields.get(field)).map_or(&any, |field| &field.shape),
        };
        match (shape.list(), texts) {
            (Some(item), texts) => Ok(Json::Array(texts.iter().map(|text| item.read_text(text)).collect())),
            (None, [text]) => Ok(shape.read_text(text)),
            (None, _) => Err(format!("`{field}` is given {} times", texts.len())),
        }
    }

    /// [`Schema::check`], for an object to which a field will be added.
    pub(crate) fn check_but(&self, value: &Json, added: &str) -> Result<(), String> {
        let Some(fields) = self.shape.object() else { return Ok(()) };
        let mut fields = fields.clone();
        fields.remove(added);
        Shape::Object(fields).check(value, &Path::Root, DEPTH_MAX)
    }

    /// Checks a value: fields that are not there, values of the wrong type or out of their range.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self, value: &dyn Tree) -> Result<(), String> {
        self.shape.check(value, &Path::Root, DEPTH_MAX)
    }
}

/// A value that can be looked at without knowing its type: JSON, or what a script made.
pub trait Tree {
    /// What it is.
    fn node(&self) -> Node<'_>;
}

impl dyn Tree + '_ {
    /// A field that is text.
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
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Bytes that are no text.
    Bytes(usize),
    /// Values in order.
    List(Vec<&'a dyn Tree>),
    /// Values by name.
    Map(Vec<(&'a str, &'a dyn Tree)>),
    /// A list or a map without anything in it, in a language that does not tell them apart.
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

/// What is checked of a type.
#[derive(Clone, Debug)]
enum Shape {
    Any,
    Null,
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    Number,
    /// `names`: one of these; empty: any text of at most `max` characters.
    Text {
        names: Vec<String>,
        max: u64,
    },
    List {
        item: Box<Shape>,
        max: u64,
    },
    Map(Box<Shape>),
    Object(BTreeMap<String, Field>),
    Either(Vec<Shape>),
}

#[derive(Clone, Debug)]
struct Field {
    shape: Shape,
    required: bool,
}

impl Shape {
    /// What it does not know it takes as any value: the type that reads it decides.
    fn of(schema: &Json) -> Self {
        for choice in ["oneOf", "anyOf"] {
            if let Some(list) = schema.get(choice).and_then(Json::as_array) {
                return Shape::either(list.iter().map(Shape::of).collect());
            }
        }
        if let Some(name) = schema.get("const").and_then(Json::as_str) {
            return Shape::Text { names: vec![name.to_owned()], max: u64::MAX };
        }
        match schema.get("type") {
            Some(Json::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Json::as_str);
                Shape::either(kinds.map(|kind| Shape::of_kind(kind, schema)).collect())
            }
            Some(Json::String(kind)) => Shape::of_kind(kind, schema),
            _ => Shape::Any,
        }
    }

    fn of_kind(kind: &str, schema: &Json) -> Self {
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64).unwrap_or(u64::MAX);
        let part = |name: &str| schema.get(name).map_or(Shape::Any, Shape::of);
        match kind {
            "null" => Shape::Null,
            "boolean" => Shape::Bool,
            "integer" => Shape::integer(schema),
            "number" => Shape::Number,
            "string" => {
                let names =
                    schema.get("enum").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
                let names = names.iter().filter_map(Json::as_str).map(str::to_owned).collect();
                Shape::Text { names, max: bound("maxLength") }
            }
            "array" => Shape::List { item: Box::new(part("items")), max: bound("maxItems") },
            "object" => Shape::object_of(schema),
            _ => Shape::Any,
        }
    }

    fn integer(schema: &Json) -> Self {
        let bound = |name: &str| match schema.get(name) {
            Some(bound) => bound.as_i64().map(i128::from).or(bound.as_u64().map(i128::from)),
            None => None,
        };
        // A u64 has no maximum in its schema, and an i64 neither bound.
        let (least, most) = match schema.get("format").and_then(Json::as_str) {
            Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let (min, max) = (bound("minimum").unwrap_or(least), bound("maximum").unwrap_or(most));
        Shape::Integer { min: min.max(least), max: max.min(most) }
    }

    fn object_of(schema: &Json) -> Self {
        let properties = schema.get("properties").and_then(Json::as_object);
        let Some(properties) = properties else {
            return match schema.get("additionalProperties") {
                Some(value @ Json::Object(_)) => Shape::Map(Box::new(Shape::of(value))),
                // A struct without fields has neither.
                Some(Json::Bool(false)) => Shape::Object(BTreeMap::new()),
                _ => Shape::Map(Box::new(Shape::Any)),
            };
        };
        let required = schema.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let field = |(name, schema): (&String, &Json)| {
            let required = required.iter().any(|other| other.as_str() == Some(name));
            (name.clone(), Field { shape: Shape::of(schema), required })
        };
        Shape::Object(properties.iter().map(field).collect())
    }

    /// Names of one enum are one choice.
    fn either(shapes: Vec<Shape>) -> Self {
        let mut all = Vec::new();
        for shape in shapes {
            let last_names = all.iter_mut().find_map(|other| match other {
                Shape::Text { names, .. } if !names.is_empty() => Some(names),
                _ => None,
            });
            match (shape, last_names) {
                (Shape::Text { names, .. }, Some(known)) if !names.is_empty() => known.extend(names),
                (Shape::Either(more), _) => all.extend(more),
                (shape, _) => all.push(shape),
            }
        }
        match <[Shape; 1]>::try_from(all) {
            Ok([one]) => one,
            Err(all) => Shape::Either(all),
        }
    }

    fn object(&self) -> Option<&BTreeMap<String, Field>> {
        match self {
            Shape::Object(fields) => Some(fields),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::object),
            _ => None,
        }
    }

    fn list(&self) -> Option<&Shape> {
        match self {
            Shape::List { item, .. } => Some(item),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::list),
            _ => None,
        }
    }

    fn takes_null(&self) -> bool {
        match self {
            Shape::Null | Shape::Any => true,
            Shape::Either(shapes) => shapes.iter().any(Shape::takes_null),
            _ => false,
        }
    }

    fn read_text(&self, text: &str) -> Json {
        let read = match self {
            Shape::Integer { .. } => {
                text.parse::<i64>().map(Json::from).or_else(|_| text.parse::<u64>().map(Json::from)).ok()
            }
            Shape::Number => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from),
            Shape::Bool => text.parse::<bool>().map(Json::from).ok(),
            Shape::Either(shapes) => {
                let read = shapes.iter().map(|shape| shape.read_text(text));
                // What is no text was meant: text takes everything.
                read.into_iter().find(|read| !read.is_string())
            }
            _ => None,
        };
        read.unwrap_or_else(|| Json::String(text.to_owned()))
    }

    fn check(&self, value: &dyn Tree, path: &Path<'_>, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        let node = value.node();
        let wrong = || Err(format!("{path} is {}, not {self}", Shown(&node)));
        match (self, &node) {
            (Shape::Any, _)
            | (Shape::Null, Node::Null | Node::Empty)
            | (Shape::Bool, Node::Bool(_))
            | (Shape::Number, Node::Integer(_) | Node::Float(_))
            | (Shape::List { .. } | Shape::Map(_), Node::Empty) => Ok(()),
            // A list of bytes, as scripts have it.
            (Shape::List { item, .. }, Node::Bytes(_))
                if matches!(**item, Shape::Integer { min: 0, max: 255 }) =>
            {
                Ok(())
            }
            (Shape::Integer { min, max }, Node::Integer(number)) if (min..=max).contains(&number) => Ok(()),
            (Shape::Text { names, .. }, Node::Text(text)) if names.iter().any(|name| name == text) => Ok(()),
            (Shape::Text { names, max }, Node::Text(text))
                if names.is_empty() && text.chars().count() as u64 <= *max =>
            {
                Ok(())
            }
            (Shape::List { item, max }, Node::List(list)) if list.len() as u64 <= *max => {
                let mut each = list.iter().enumerate();
                each.try_for_each(|(at, value)| item.check(*value, &Path::Item(path, at), depth - 1))
            }
            (Shape::Map(item), Node::Map(map)) => map
                .iter()
                .try_for_each(|(name, value)| item.check(*value, &Path::Field(path, name), depth - 1)),
            (Shape::Object(fields), Node::Map(map)) => check_fields(fields, map, path, depth),
            (Shape::Object(fields), Node::Empty) => check_fields(fields, &[], path, depth),
            (Shape::Either(shapes), _) => check_either(shapes, value, path, depth).unwrap_or_else(wrong),
            _ => wrong(),
        }
    }
}

fn check_fields(
    fields: &BTreeMap<String, Field>,
    map: &[(&str, &dyn Tree)],
    path: &Path<'_>,
    depth: usize,
) -> Result<(), String> {
    for (name, value) in map {
        let Some(field) = fields.get(*name) else {
            let shown: String = name.chars().take(SHOWN_MAX).collect();
            let within = match path {
                Path::Root => String::new(),
                path => format!(" in {path}"),
            };
            return Err(format!(
                "there is no field `{shown}`{within}{}",
                nearest(name, fields.keys().cloned())
            ));
        };
        field.shape.check(*value, &Path::Field(path, name), depth - 1)?;
    }
    let missing = fields.iter().find(|(name, field)| {
        field.required && !field.shape.takes_null() && !map.iter().any(|(given, _)| given == name)
    });
    match missing {
        Some((name, _)) => Err(format!("{} is missing", Path::Field(path, name))),
        None => Ok(()),
    }
}

/// `None`: it fits none, and none of them says it better than all together.
fn check_either(
    shapes: &[Shape],
    value: &dyn Tree,
    path: &Path<'_>,
    depth: usize,
) -> Option<Result<(), String>> {
    let mut refused = Vec::new();
    for shape in shapes {
        match shape.check(value, path, depth - 1) {
            Ok(()) => return Some(Ok(())),
            Err(sentence) => refused.push((shape, sentence)),
        }
    }
    // Of objects the one that has the first field: a variant is named by it.
    let Node::Map(map) = value.node() else { return None };
    let first = map.first().map_or("", |(name, _)| name);
    refused.retain(|(shape, _)| shape.object().is_some());
    let only = refused.len() == 1;
    let of_first = |shape: &Shape| shape.object().is_some_and(|fields| fields.contains_key(first));
    refused.into_iter().find(|(shape, _)| only || of_first(shape)).map(|(_, sentence)| Err(sentence))
}

/// Where in a request a value stands. It becomes text when something is wrong and not before: most requests fit.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(above, name) => above.write(f).and_then(|()| write!(f, ".{name}")),
            Path::Item(above, at) => above.write(f).and_then(|()| write!(f, "[{at}]")),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Path::Root) {
            return f.write_str("the request");
        }
        f.write_str("`")?;
        self.write(f)?;
        f.write_str("`")
    }
}

/// What was wanted, in words.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Any => f.write_str("a value"),
            Shape::Null => f.write_str("nothing"),
            Shape::Bool => f.write_str("true or false"),
            Shape::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Shape::Number => f.write_str("a number"),
            Shape::Text { names, max } => match names.as_slice() {
                [] if *max == u64::MAX => f.write_str("text"),
                [] => write!(f, "text of at most {max} characters"),
                names => {
                    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                    f.write_str(&names.join(" or "))
                }
            },
            Shape::List { max: u64::MAX, .. } => f.write_str("a list"),
            Shape::List { max, .. } => write!(f, "a list of at most {max}"),
            Shape::Map(_) | Shape::Object(_) => f.write_str("an object"),
            Shape::Either(shapes) => {
                let shapes = shapes.iter().filter(|shape| !matches!(shape, Shape::Null));
                let words: Vec<String> = shapes.map(ToString::to_string).collect();
                f.write_str(&words.join(" or "))
            }
        }
    }
}

/// What was given, in words: never more than a line.
struct Shown<'a>(&'a Node<'a>);

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
            Node::Bytes(length) => write!(f, "{length} bytes that are no text"),
            Node::List(list) => write!(f, "a list of {}", list.len()),
            Node::Map(_) => f.write_str("an object"),
            Node::Empty => f.write_str("an empty table"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        /// The oldest first.
        Oldest,
        Newest,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum To {
        Room(String),
        Named { kind: String, id: u8 },
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
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
}
