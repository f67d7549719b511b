//! What is checked of a type: the shape of its JSON Schema, and the words for what does not fit it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use super::tree::{Node, SHOWN_MAX, Shown, Tree};
use crate::spelling::nearest;

/// What is checked of a type.
#[derive(Clone, Debug)]
pub(super) enum Shape {
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
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

impl Shape {
    /// What it does not know it takes as any value: the type that reads it decides.
    pub(super) fn of(schema: &Json) -> Self {
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

    pub(super) fn object(&self) -> Option<&BTreeMap<String, Field>> {
        match self {
            Shape::Object(fields) => Some(fields),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::object),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&Shape> {
        match self {
            Shape::List { item, .. } => Some(item),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::list),
            _ => None,
        }
    }

    pub(super) fn takes_null(&self) -> bool {
        match self {
            Shape::Null | Shape::Any => true,
            Shape::Either(shapes) => shapes.iter().any(Shape::takes_null),
            _ => false,
        }
    }

    pub(super) fn read_text(&self, text: &str) -> Json {
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

    pub(super) fn check(&self, value: &dyn Tree, path: &str, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        let node = value.node();
        let wrong = || Err(format!("{} is {}, not {self}", name_of(path), Shown(&node)));
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
                each.try_for_each(|(at, value)| item.check(*value, &format!("{path}[{at}]"), depth - 1))
            }
            (Shape::Map(item), Node::Map(map)) => {
                map.iter().try_for_each(|(name, value)| item.check(*value, &join(path, name), depth - 1))
            }
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
    path: &str,
    depth: usize,
) -> Result<(), String> {
    for (name, value) in map {
        let Some(field) = fields.get(*name) else {
            let shown: String = name.chars().take(SHOWN_MAX).collect();
            let within = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            return Err(format!(
                "there is no field `{shown}`{within}{}",
                nearest(name, fields.keys().cloned())
            ));
        };
        field.shape.check(*value, &join(path, name), depth - 1)?;
    }
    let missing = fields.iter().find(|(name, field)| {
        field.required && !field.shape.takes_null() && !map.iter().any(|(given, _)| given == name)
    });
    match missing {
        Some((name, _)) => Err(format!("{} is missing", name_of(&join(path, name)))),
        None => Ok(()),
    }
}

/// `None`: it fits none, and none of them says it better than all together.
fn check_either(shapes: &[Shape], value: &dyn Tree, path: &str, depth: usize) -> Option<Result<(), String>> {
    let results: Vec<_> = shapes.iter().map(|shape| shape.check(value, path, depth - 1)).collect();
    if results.iter().any(Result::is_ok) {
        return Some(Ok(()));
    }
    // Of objects the one that has the first field: a variant is named by it.
    let Node::Map(map) = value.node() else { return None };
    let first = map.first().map_or("", |(name, _)| name);
    let objects: Vec<_> = shapes.iter().zip(results).filter(|(shape, _)| shape.object().is_some()).collect();
    let only = objects.len() == 1;
    let of_first = |shape: &Shape| shape.object().is_some_and(|fields| fields.contains_key(first));
    objects.into_iter().find(|(shape, _)| only || of_first(shape)).map(|(_, result)| result)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn name_of(path: &str) -> String {
    if path.is_empty() { "the request".to_owned() } else { format!("`{path}`") }
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
