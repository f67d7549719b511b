//! The words of a refusal: where a value is, and what was expected.

use std::fmt;

use super::shape::{Length, Shape};

/// The place of a value in a request. It is written as text only for a sentence, because most requests fit.
pub(super) enum Path<'p> {
    /// The request itself.
    Root,
    /// A field of the object at a path.
    Field(&'p Path<'p>, &'p str),
    /// An item of the list at a path.
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// Writes the path without quotes: `to.ids[3]`.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => {
                parent.write(f)?;
                write!(f, ".{name}")
            }
            Path::Item(parent, index) => {
                parent.write(f)?;
                write!(f, "[{index}]")
            }
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

/// The expected value, in words.
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

/// ` of 1 to 3`, to follow "a list" or "text"; nothing when any length is allowed.
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
