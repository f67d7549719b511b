//! Labels: text or an object, by which rooms are found.

use std::borrow::Cow;

use kaos_kernel::prelude::*;
use serde_json::Value as Json;

/// A label as text: itself, or an object as JSON.
pub(crate) fn label_text(label: &Json) -> Cow<'_, str> {
    match label {
        Json::String(text) => Cow::Borrowed(text),
        Json::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

pub(crate) fn check_label(label: &Json, bytes_max: usize) -> Result<(), Fault> {
    if !matches!(label, Json::String(_) | Json::Object(_) | Json::Null) {
        return Err(Fault::invalid("a label is text or an object"));
    }
    let bytes = label.to_string().len();
    if bytes > bytes_max {
        return Err(Fault::invalid(format!(
            "the label has {bytes} bytes as JSON: at most {bytes_max} are allowed"
        )));
    }
    Ok(())
}

/// What a label is on every door, for schemas.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: a label is kept as JSON")]
pub(crate) enum LabelSchema {
    /// Text, by which rooms are found when it is equal.
    Text(String),
    /// An object, by whose fields rooms are found.
    Object(serde_json::Map<String, Json>),
}
