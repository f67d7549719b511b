//! What is checked of a type: the shape of its JSON Schema, and the words for what does not fit it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use super::format::Format;
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
    Number {
        min: f64,
        max: f64,
    },
    /// `names`: one of these; empty: any text of so many characters.
    Text {
        names: Vec<String>,
        length: Length,
    },
    Id(Format),
    List {
        item: Box<Shape>,
        length: Length,
    },
    Map(Box<Shape>),
    Object(Fields),
    Either(Vec<Shape>),
}

/// How long a text or a list is, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Length {
    min: u64,
    max: u64,
}

impl Length {
    const ANY: Length = Length { min: 0, max: u64::MAX };

    fn of(schema: &Json, min: &str, max: &str) -> Self {
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        Length { min: bound(min).unwrap_or(0), max: bound(max).unwrap_or(u64::MAX) }
    }

    fn holds(self, length: usize) -> bool {
        (self.min..=self.max).contains(&(length as u64))
    }
}

/// ` of 1 to 3`: what follows "a list" or "text"; nothing when any length will do.
impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (0, u64::MAX) => Ok(()),
            (min, u64::MAX) => write!(f, " of at least {min}"),
            (0, max) => write!(f, " of at most {max}"),
            (min, max) if min == max => write!(f, " of exactly {min}"),
            (min, max) => write!(f, " of {min} to {max}"),
        }
    }
}

/// The fields of an object.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) named: BTreeMap<String, Field>,
    /// What fields of any other name hold; `None`: there are no others.
    pub(super) others: Option<Box<Shape>>,
}

impl Fields {
    /// What a field holds; `None`: there is none of that name.
    pub(super) fn shape_of(&self, name: &str) -> Option<&Shape> {
        self.named.get(name).map(|field| &field.shape).or(self.others.as_deref())
    }
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
                // Fields beside the choice belong to each of its objects: a struct that holds an enum flattened.
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

    /// An object with these fields, too; anything else as it is.
    fn with_fields(mut self, more: Option<&Fields>) -> Self {
        if let (Shape::Object(fields), Some(more)) = (&mut self, more) {
            fields.named.extend(more.named.iter().map(|(name, field)| (name.clone(), field.clone())));
            fields.others = fields.others.take().or_else(|| more.others.clone());
        }
        self
    }

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
        // A struct that holds a map flattened has fields of its own and those of the map.
        let others = match schema.get("additionalProperties") {
            Some(value @ Json::Object(_)) => Some(Box::new(Shape::of(value))),
            Some(Json::Bool(true)) => Some(Box::new(Shape::Any)),
            _ => None,
        };
        let Some(properties) = properties else {
            return match (others, schema.get("additionalProperties")) {
                (Some(others), _) => Shape::Map(others),
                // A struct without fields has neither.
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

    pub(super) fn object(&self) -> Option<&Fields> {
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
            Shape::Number { .. } => {
                text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from)
            }
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

    pub(super) fn check(&self, value: &dyn Tree, path: &Path<'_>, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        let node = value.node();
        let wrong = || Err(format!("{path} is {}, not {self}", Shown(&node)));
        match (self, &node) {
            (Shape::Any, _)
            | (Shape::Null, Node::Null | Node::Empty)
            | (Shape::Bool, Node::Bool(_))
            | (Shape::Map(_), Node::Empty) => Ok(()),
            (Shape::List { length, .. }, Node::Empty) if length.holds(0) => Ok(()),
            // A list of bytes, as scripts have it.
            (Shape::List { item, length }, Node::Bytes(bytes))
                if matches!(**item, Shape::Integer { min: 0, max: 255 }) && length.holds(*bytes) =>
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
                if names.is_empty() && (*length == Length::ANY || length.holds(text.chars().count())) =>
            {
                Ok(())
            }
            (Shape::Id(format), Node::Text(text)) if format.holds(text) => Ok(()),
            (Shape::List { item, length }, Node::List(list)) if length.holds(list.len()) => {
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
    let of_first = |shape: &Shape| shape.object().is_some_and(|fields| fields.named.contains_key(first));
    refused.into_iter().find(|(shape, _)| only || of_first(shape)).map(|(_, sentence)| Err(sentence))
}

/// Where in a request a value stands. It becomes text when something is wrong and not before: most requests fit.
pub(super) enum Path<'p> {
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
            Shape::Number { min, max } => match (min.is_finite(), max.is_finite()) {
                (false, false) => f.write_str("a number"),
                (true, false) => write!(f, "a number of at least {min}"),
                (false, true) => write!(f, "a number of at most {max}"),
                (true, true) => write!(f, "a number from {min} to {max}"),
            },
            Shape::Text { names, length: Length::ANY } if names.is_empty() => f.write_str("text"),
            Shape::Text { names, length } if names.is_empty() => {
                let s = if *length == (Length { min: 1, max: 1 }) { "" } else { "s" };
                write!(f, "text{length} character{s}")
            }
            Shape::Text { names, .. } => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                f.write_str(&names.join(" or "))
            }
            Shape::Id(format) => f.write_str(format.words()),
            Shape::List { length, .. } => write!(f, "a list{length}"),
            Shape::Map(_) | Shape::Object(_) => f.write_str("an object"),
            Shape::Either(shapes) => {
                let shapes = shapes.iter().filter(|shape| !matches!(shape, Shape::Null));
                let words: Vec<String> = shapes.map(ToString::to_string).collect();
                f.write_str(&words.join(" or "))
            }
        }
    }
}
