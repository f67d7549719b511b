//! The shape: the part of a JSON Schema that is checked.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::format::Format;
use super::tree::{Node, SHOWN_MAX, Shown, Tree};
use super::words::Path;
use crate::spelling::nearest;

/// The values that a type accepts, as far as they are checked.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Any value.
    Any,
    /// Null only.
    Null,
    /// True or false.
    Bool,
    /// An integer, both bounds included.
    Integer { min: i128, max: i128 },
    /// Any number, both bounds included. An infinite bound stands for none.
    Number { min: f64, max: f64 },
    /// One of `names`. When `names` is empty: any text of this length in characters.
    Text { names: Vec<String>, length: Length },
    /// The text of an id.
    Id(Format),
    /// A list of this length, whose items all have one shape.
    List { item: Box<Shape>, length: Length },
    /// An object with fields of any name, whose values all have one shape.
    Map(Box<Shape>),
    /// An object with declared fields.
    Object(Fields),
    /// A value that fits one of these shapes.
    Either(Vec<Shape>),
}

/// The allowed lengths of a text or a list, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Length {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Length {
    pub(super) const ANY: Length = Length { min: 0, max: u64::MAX };

    /// The lengths that a schema allows with the keywords `min` and `max`.
    fn of(schema: &Json, min: &str, max: &str) -> Self {
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        Length { min: bound(min).unwrap_or(0), max: bound(max).unwrap_or(u64::MAX) }
    }

    fn contains(self, length: usize) -> bool {
        (self.min..=self.max).contains(&(length as u64))
    }
}

/// The fields of an object.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// The declared fields.
    pub(super) named: BTreeMap<String, Field>,
    /// The shape of fields with any other name; `None`: other names are refused.
    pub(super) others: Option<Box<Shape>>,
}

impl Fields {
    /// The shape of a field; `None`: no field of that name is accepted.
    pub(super) fn shape_of(&self, name: &str) -> Option<&Shape> {
        self.named.get(name).map(|field| &field.shape).or(self.others.as_deref())
    }
}

/// A declared field of an object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

impl Shape {
    /// The shape of a schema. A schema that it does not understand becomes [`Shape::Any`]: the type that reads the
    /// value decides.
    pub(super) fn of(schema: &Json) -> Self {
        for choice in ["oneOf", "anyOf"] {
            if let Some(list) = schema.get(choice).and_then(Json::as_array) {
                // Fields next to the choice belong to each of its objects: a struct with a flattened enum has these.
                let own = schema.get("properties").map(|_| Shape::object_of(schema));
                let own = own.as_ref().and_then(Shape::object);
                let alternatives = list.iter().map(|schema| Shape::of(schema).with_fields(own));
                return Shape::either(alternatives.collect());
            }
        }
        if let Some(name) = schema.get("const").and_then(Json::as_str) {
            return Shape::Text { names: vec![name.to_owned()], length: Length::ANY };
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

    /// Adds `more` to an object's own fields. Any other shape stays as it is.
    fn with_fields(mut self, more: Option<&Fields>) -> Self {
        if let (Shape::Object(fields), Some(more)) = (&mut self, more) {
            fields.named.extend(more.named.iter().map(|(name, field)| (name.clone(), field.clone())));
            fields.others = fields.others.take().or_else(|| more.others.clone());
        }
        self
    }

    /// The shape of a schema whose `type` is `kind`.
    fn of_kind(kind: &str, schema: &Json) -> Self {
        let part = |name: &str| schema.get(name).map_or(Shape::Any, Shape::of);
        match kind {
            "null" => Shape::Null,
            "boolean" => Shape::Bool,
            "integer" => Shape::integer(schema),
            "number" => {
                let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
                let (min, max) = (bound("minimum"), bound("maximum"));
                Shape::Number { min: min.unwrap_or(f64::NEG_INFINITY), max: max.unwrap_or(f64::INFINITY) }
            }
            "string" if let Some(format) = Format::of(schema) => Shape::Id(format),
            "string" => {
                let names =
                    schema.get("enum").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
                let names = names.iter().filter_map(Json::as_str).map(str::to_owned).collect();
                Shape::Text { names, length: Length::of(schema, "minLength", "maxLength") }
            }
            "array" => Shape::List {
                item: Box::new(part("items")),
                length: Length::of(schema, "minItems", "maxItems"),
            },
            "object" => Shape::object_of(schema),
            _ => Shape::Any,
        }
    }

    /// The shape of an integer: the bounds of its `format`, narrowed by `minimum` and `maximum`.
    fn integer(schema: &Json) -> Self {
        let bound = |name: &str| match schema.get(name) {
            Some(bound) => bound.as_i64().map(i128::from).or(bound.as_u64().map(i128::from)),
            None => None,
        };
        // The schema of a u64 has no maximum, and that of an i64 has neither bound: the format supplies them.
        let (least, most) = match schema.get("format").and_then(Json::as_str) {
            Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let (min, max) = (bound("minimum").unwrap_or(least), bound("maximum").unwrap_or(most));
        Shape::Integer { min: min.max(least), max: max.min(most) }
    }

    /// The shape of an object: a map without `properties`, otherwise its fields.
    fn object_of(schema: &Json) -> Self {
        let properties = schema.get("properties").and_then(Json::as_object);
        // A struct with a flattened map has both its own fields and those of the map.
        let others = match schema.get("additionalProperties") {
            Some(value @ Json::Object(_)) => Some(Box::new(Shape::of(value))),
            Some(Json::Bool(true)) => Some(Box::new(Shape::Any)),
            _ => None,
        };
        let Some(properties) = properties else {
            return match (others, schema.get("additionalProperties")) {
                (Some(others), _) => Shape::Map(others),
                // A struct without fields that denies unknown ones.
                (None, Some(Json::Bool(false))) => {
                    Shape::Object(Fields { named: BTreeMap::new(), others: None })
                }
                (None, _) => Shape::Map(Box::new(Shape::Any)),
            };
        };
        let required = schema.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let field = |(name, schema): (&String, &Json)| {
            let required = required.iter().any(|other| other.as_str() == Some(name));
            (name.clone(), Field { shape: Shape::of(schema), required })
        };
        Shape::Object(Fields { named: properties.iter().map(field).collect(), others })
    }

    /// Joins alternatives into one shape. The names of an enum, which come as one alternative each, become one text.
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

    /// The fields of an object, or of the first alternative that is an object.
    pub(super) fn object(&self) -> Option<&Fields> {
        match self {
            Shape::Object(fields) => Some(fields),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::object),
            _ => None,
        }
    }

    /// The shape of a list's items, or of those of the first alternative that is a list.
    pub(super) fn list(&self) -> Option<&Shape> {
        match self {
            Shape::List { item, .. } => Some(item),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::list),
            _ => None,
        }
    }

    /// Whether null is accepted.
    pub(super) fn takes_null(&self) -> bool {
        match self {
            Shape::Null | Shape::Any => true,
            Shape::Either(shapes) => shapes.iter().any(Shape::takes_null),
            _ => false,
        }
    }

    /// Reads text from a query string or a path. Text that the shape cannot read stays text.
    pub(super) fn read_text(&self, text: &str) -> Json {
        let read = match self {
            Shape::Integer { .. } => {
                text.parse::<i64>().map(Json::from).or_else(|_| text.parse::<u64>().map(Json::from)).ok()
            }
            Shape::Number { .. } => {
                text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from)
            }
            Shape::Bool => text.parse::<bool>().map(Json::from).ok(),
            Shape::Either(shapes) => {
                let read = shapes.iter().map(|shape| shape.read_text(text));
                // An alternative that reads a value other than text wins, because text accepts everything.
                read.into_iter().find(|read| !read.is_string())
            }
            _ => None,
        };
        read.unwrap_or_else(|| Json::String(text.to_owned()))
    }

    /// Checks the value at `path`, down to `depth` levels.
    ///
    /// # Errors
    /// A sentence that names the first part that does not fit.
    pub(super) fn check(&self, value: &dyn Tree, path: &Path<'_>, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        let node = value.node();
        let mismatch = || format!("{path} is {}, not {self}", Shown(&node));
        match (self, &node) {
            (Shape::Any, _)
            | (Shape::Null, Node::Null | Node::Empty)
            | (Shape::Bool, Node::Bool(_))
            | (Shape::Map(_), Node::Empty) => Ok(()),
            (Shape::List { length, .. }, Node::Empty) if length.contains(0) => Ok(()),
            // A list of bytes, which a script passes as a string.
            (Shape::List { item, length }, Node::Bytes(bytes))
                if matches!(**item, Shape::Integer { min: 0, max: 255 }) && length.contains(*bytes) =>
            {
                Ok(())
            }
            (Shape::Integer { min, max }, Node::Integer(number)) if (min..=max).contains(&number) => Ok(()),
            (Shape::Number { min, max }, Node::Integer(number))
                if (*min..=*max).contains(&(*number as f64)) =>
            {
                Ok(())
            }
            (Shape::Number { min, max }, Node::Float(number)) if (min..=max).contains(&number) => Ok(()),
            (Shape::Text { names, .. }, Node::Text(text)) if names.iter().any(|name| name == text) => Ok(()),
            (Shape::Text { names, length }, Node::Text(text))
                if names.is_empty() && (*length == Length::ANY || length.contains(text.chars().count())) =>
            {
                Ok(())
            }
            (Shape::Id(format), Node::Text(text)) if format.accepts(text) => Ok(()),
            (Shape::List { item, length }, Node::List(list)) if length.contains(list.len()) => {
                let mut each = list.iter().enumerate();
                each.try_for_each(|(at, value)| item.check(*value, &Path::Item(path, at), depth - 1))
            }
            (Shape::Map(item), Node::Map(map)) => map
                .iter()
                .try_for_each(|(name, value)| item.check(*value, &Path::Field(path, name), depth - 1)),
            (Shape::Object(fields), Node::Map(map)) => check_fields(fields, map, path, depth),
            (Shape::Object(fields), Node::Empty) => check_fields(fields, &[], path, depth),
            (Shape::Either(shapes), _) => {
                check_either(shapes, value, path, depth).map_err(|meant| meant.unwrap_or_else(mismatch))
            }
            _ => Err(mismatch()),
        }
    }
}

/// Checks the fields of an object: unknown names, wrong values, and required fields that are missing.
fn check_fields(
    fields: &Fields,
    map: &[(&str, &dyn Tree)],
    path: &Path<'_>,
    depth: usize,
) -> Result<(), String> {
    for (name, value) in map {
        let Some(field) = fields.named.get(*name) else {
            if let Some(others) = &fields.others {
                others.check(*value, &Path::Field(path, name), depth - 1)?;
                continue;
            }
            let shown: String = name.chars().take(SHOWN_MAX).collect();
            let within = match path {
                Path::Root => String::new(),
                path => format!(" in {path}"),
            };
            return Err(format!(
                "there is no field `{shown}`{within}{}",
                nearest(name, fields.named.keys().cloned())
            ));
        };
        field.shape.check(*value, &Path::Field(path, name), depth - 1)?;
    }
    let missing = fields.named.iter().find(|(name, field)| {
        field.required && !field.shape.takes_null() && !map.iter().any(|(given, _)| given == name)
    });
    match missing {
        Some((name, _)) => Err(format!("{} is missing", Path::Field(path, name))),
        None => Ok(()),
    }
}

/// Checks a value that has to fit one of `shapes`.
///
/// # Errors
/// The sentence of the alternative that was evidently meant; `None` when no alternative stands out.
fn check_either(
    shapes: &[Shape],
    value: &dyn Tree,
    path: &Path<'_>,
    depth: usize,
) -> Result<(), Option<String>> {
    let mut refused = Vec::new();
    for shape in shapes {
        match shape.check(value, path, depth - 1) {
            Ok(()) => return Ok(()),
            Err(sentence) => refused.push((shape, sentence)),
        }
    }
    let Node::Map(map) = value.node() else { return Err(None) };
    refused.retain(|(shape, _)| shape.object().is_some());
    // The only object is meant, or the one that declares the value's first field: an enum's variant is named by it.
    let is_only_object = refused.len() == 1;
    let first = map.first().map_or("", |(name, _)| name);
    let declares_first =
        |shape: &Shape| shape.object().is_some_and(|fields| fields.named.contains_key(first));
    let meant = refused.into_iter().find(|(shape, _)| is_only_object || declares_first(shape));
    Err(meant.map(|(_, sentence)| sentence))
}
