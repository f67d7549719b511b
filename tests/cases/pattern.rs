//! Values that differ from run to run: `<room_id>` is whatever it is the first time, and the same from then on. `<_>` is
//! anything.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// What the names of a run stand for.
#[derive(Default)]
pub(super) struct Bound(BTreeMap<String, Json>);

/// The name between angle brackets, if that is all of a text.
fn name_of(text: &str) -> Option<&str> {
    let name = text.strip_prefix('<')?.strip_suffix('>')?;
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some(name)
}

/// A text in pieces: what stands there, and names.
fn pieces(text: &str) -> Vec<Result<&str, &str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(from) = rest.find('<') {
        let (before, after) = rest.split_at(from);
        let Some(name) = after.find('>').and_then(|to| name_of(&after[..=to])) else {
            let (this, later) = rest.split_at(from + 1);
            found.push(Ok(this));
            rest = later;
            continue;
        };
        found.push(Ok(before));
        found.push(Err(name));
        rest = &after[name.len() + 2..];
    }
    found.push(Ok(rest));
    found
}

fn text_of(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Bound {
    /// A request with the values of its names.
    ///
    /// # Errors
    /// A name that stands for nothing.
    pub(super) fn fill(&self, request: &Json) -> Result<Json, String> {
        Ok(match request {
            Json::String(text) => match name_of(text) {
                Some(name) => self.0.get(name).ok_or(name)?.clone(),
                None => {
                    let filled = pieces(text).into_iter().map(|piece| match piece {
                        Ok(text) => Ok(text.to_owned()),
                        Err(name) => self.0.get(name).map(text_of).ok_or_else(|| name.to_owned()),
                    });
                    Json::String(filled.collect::<Result<String, String>>()?)
                }
            },
            Json::Array(list) => Json::Array(list.iter().map(|v| self.fill(v)).collect::<Result<_, _>>()?),
            Json::Object(fields) => {
                let filled = fields.iter().map(|(name, value)| Ok((name.clone(), self.fill(value)?)));
                Json::Object(filled.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    /// Compares, and binds names.
    ///
    /// # Errors
    /// Where the first difference is.
    pub(super) fn fits(&mut self, expected: &Json, came: &Json, at: &str) -> Result<(), String> {
        let differs = || Err(format!("it differs at `{at}`"));
        match (expected, came) {
            (Json::String(text), _) if name_of(text).is_some() => {
                let name = name_of(text).unwrap_or_default();
                if name == "_" || *self.0.entry(name.to_owned()).or_insert_with(|| came.clone()) == *came {
                    return Ok(());
                }
                Err(format!("<{name}> is another one at `{at}`"))
            }
            (Json::String(text), Json::String(came)) if self.text_fits(text, came) => Ok(()),
            (Json::Array(expected), Json::Array(came)) if expected.len() == came.len() => {
                let both = expected.iter().zip(came).enumerate();
                both.into_iter().try_for_each(|(n, (e, c))| self.fits(e, c, &format!("{at}/{n}")))
            }
            (Json::Object(expected), Json::Object(came)) if expected.keys().eq(came.keys()) => expected
                .iter()
                .zip(came.values())
                .try_for_each(|((name, e), c)| self.fits(e, c, &format!("{at}/{name}"))),
            (expected, came) if expected == came => Ok(()),
            _ => differs(),
        }
    }

    /// Does a text with names fit? A name that stands for nothing yet fits whatever comes before the next piece.
    pub(super) fn text_fits(&self, expected: &str, came: &str) -> bool {
        let mut rest = came;
        let mut open = false;
        for piece in pieces(expected) {
            let literal = match piece {
                Ok(text) => text.to_owned(),
                Err(name) => match self.0.get(name) {
                    Some(value) => text_of(value),
                    None => {
                        open = true;
                        continue;
                    }
                },
            };
            let found = if open { rest.find(&literal) } else { rest.starts_with(&literal).then_some(0) };
            let Some(from) = found else { return false };
            open &= literal.is_empty();
            rest = &rest[from + literal.len()..];
        }
        open || rest.is_empty()
    }

    /// A reply as it is written into a file: with the names that stood there, and new ones for ids and times.
    pub(super) fn name(&mut self, came: &Json, old: Option<&Json>, key: &str) -> Json {
        if let Some(name) = old.and_then(Json::as_str).and_then(name_of)
            && (name == "_" || *self.0.entry(name.to_owned()).or_insert_with(|| came.clone()) == *came)
        {
            return Json::String(format!("<{name}>"));
        }
        match came {
            Json::Number(_) if key == "tick" || key.ends_with("_ms") => Json::String("<_>".to_owned()),
            Json::String(text) if is_id(text) => {
                let known = self.0.iter().find(|(_, value)| *value == came).map(|(name, _)| name.clone());
                let name = known.unwrap_or_else(|| {
                    let base = if name_of(&format!("<{key}>")).is_some() { key } else { "id" };
                    let free = (1..).map(|n| if n == 1 { base.to_owned() } else { format!("{base}_{n}") });
                    let name = free.into_iter().find(|name| !self.0.contains_key(name)).unwrap_or_default();
                    self.0.insert(name.clone(), came.clone());
                    name
                });
                Json::String(format!("<{name}>"))
            }
            Json::Array(list) => {
                let old = |n| old.and_then(|old: &Json| old.get(n));
                Json::Array(list.iter().enumerate().map(|(n, v)| self.name(v, old(n), key)).collect())
            }
            Json::Object(fields) => {
                let old = |name: &str| old.and_then(|old: &Json| old.get(name));
                let named = fields.iter().map(|(name, v)| (name.clone(), self.name(v, old(name), name)));
                Json::Object(named.collect())
            }
            other => other.clone(),
        }
    }

    /// A sentence with names for the ids in it.
    pub(super) fn name_in(&self, sentence: &str) -> String {
        let words = sentence.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(|word| is_id(word));
        let known = |id: &str| self.0.iter().find(|(_, value)| *value == id).map_or("_", |(name, _)| name);
        words.fold(sentence.to_owned(), |said, id| said.replace(id, &format!("<{}>", known(id))))
    }
}

/// A UUID, or the 16 digits of a session. One that begins with zeros was made up, and is the same in every run.
fn is_id(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    matches!(text.len(), 16 | 36) && hex(text) && !text.starts_with("00000000")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_the_same_value_from_its_first_place_on() {
        let mut bound = Bound::default();
        let expected = json!({ "id": "<a>", "list": ["<a>", "<_>", 5], "text": "room <a> of <b>!" });
        let came = json!({ "id": "x", "list": ["x", "y", 5], "text": "room x of nobody!" });
        assert_eq!(bound.fits(&expected, &came, ""), Ok(()));
        assert_eq!(
            bound.fill(&json!({ "id": "<a>", "text": "in <a>" })),
            Ok(json!({ "id": "x", "text": "in x" }))
        );
        assert_eq!(bound.fill(&json!("<c>")), Err("c".to_owned()));
        for (place, other) in [
            ("/id", json!({ "id": "y", "list": ["x", "y", 5], "text": "room x of nobody!" })),
            ("/list/2", json!({ "id": "x", "list": ["x", "y", 6], "text": "room x of nobody!" })),
            ("/text", json!({ "id": "x", "list": ["x", "y", 5], "text": "room y of nobody!" })),
            ("/text", json!({ "id": "x", "list": ["x", "y", 5], "text": "room x of nobody!?" })),
            ("", json!({ "id": "x" })),
        ] {
            let why = bound.fits(&expected, &other, "").expect_err("differs");
            assert!(why.ends_with(&format!("`{place}`")), "{why}");
        }
    }

    #[test]
    fn what_differs_from_run_to_run_gets_a_name_when_it_is_written() {
        let mut bound = Bound::default();
        let id = "0871d008-1a92-4ebd-878d-5f514056e00b";
        let came = json!({ "room_id": id, "again": [id], "tick": 7, "size": 0, "module": "duel" });
        let named = bound.name(&came, Some(&json!({ "module": "<module>" })), "");
        let expected = json!({ "room_id": "<again>", "again": ["<again>"], "tick": "<_>", "size": 0, "module": "<module>" });
        assert_eq!(named, expected);
        let sentence = format!("no room {id} here, 01f1000000100000 says");
        assert_eq!(bound.name_in(&sentence), "no room <again> here, <_> says");
    }
}
