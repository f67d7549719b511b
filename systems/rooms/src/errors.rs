//! What is told of a match's errors: to the log, one a second of each place, and to clients.

use std::collections::BTreeMap;

use kaos_kernel::script::{MatchError, MatchErrorKind};

/// Places of one match whose errors are counted apart. What fails in further ones is counted together.
const PLACES_MAX: usize = 16;

/// What an error of a match does to its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It ends.
    RoomEnds,
    /// It goes on.
    RoomGoesOn,
}

/// What was written of a match's errors, by the place where they happened.
#[derive(Default)]
pub(crate) struct Written {
    places: BTreeMap<String, Line>,
}

#[derive(Default)]
struct Line {
    /// The frame from which on an error of this place is written again.
    after: u64,
    /// Errors since the last that was written.
    unwritten: u64,
}

impl Written {
    /// Is this error written in this frame? One that ends the room always is; of the others one a `second` (in frames)
    /// of each place. Then with a line that counts those before it that were not.
    pub(crate) fn write(
        &mut self,
        error: &MatchError,
        frame: u64,
        second: u64,
        outcome: Outcome,
    ) -> Option<String> {
        let mut place = place(error);
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(place) {
            place = "";
        }
        let line = self.places.entry(place.to_owned()).or_default();
        if outcome == Outcome::RoomGoesOn && frame < line.after {
            line.unwritten += 1;
            return None;
        }
        let unwritten = std::mem::take(&mut line.unwritten);
        line.after = frame + second;
        Some(match (unwritten, place) {
            (0, _) => String::new(),
            (n, "") => format!("\n  {n} further errors of this room, at other places, were not written"),
            (n, _) => format!("\n  {n} further errors of this room at this place were not written"),
        })
    }
}

/// `scripts/matches/arena.lua:24`, or the callback when the place is not known.
fn place(error: &MatchError) -> &str {
    if error.place.is_empty() { error.callback } else { &error.place }
}

/// A failed callback as people read it.
pub(crate) fn describe(error: &MatchError, place: &str, consequence: &str) -> String {
    format!("{}\n  {consequence}", with_stack(error, &format!(", {place}")))
}

/// What clients are told of a failed callback: its error in development, otherwise only `sentence`.
pub(crate) fn client_text(dev: bool, error: &MatchError, sentence: &str) -> String {
    if !dev {
        return format!("{sentence}; the server's log has the details");
    }
    with_stack(error, "")
}

fn with_stack(error: &MatchError, place: &str) -> String {
    let mut text = format!("{}\n  in {}{place}", error.message, error.callback);
    for line in &error.stack {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

/// A runtime that panicked in a callback: a defect of the server, told as an error of the callback.
pub(crate) fn panicked(callback: &'static str) -> MatchError {
    let message = "a defect of the server: the script's runtime panicked";
    MatchError::new(callback, MatchErrorKind::Error, message)
}

/// The word that members are told when a room ends for an error of its match.
pub(crate) fn error_name(kind: MatchErrorKind) -> &'static str {
    match kind {
        MatchErrorKind::Memory => "out_of_memory",
        _ => "script_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(place: &str) -> MatchError {
        let message = format!("{place}: why");
        MatchError { place: place.into(), ..MatchError::new("match_loop", MatchErrorKind::Error, message) }
    }

    #[test]
    fn each_place_is_written_once_a_second_and_counts_its_own() {
        let mut written = Written::default();
        let (a, b) = (error("s/a.lua:3"), error("s/a.lua:9"));
        assert_eq!(written.write(&a, 0, 100, Outcome::RoomGoesOn).as_deref(), Some(""));
        assert_eq!(
            written.write(&b, 1, 100, Outcome::RoomGoesOn).as_deref(),
            Some(""),
            "another place is another error"
        );
        assert_eq!(written.write(&a, 2, 100, Outcome::RoomGoesOn), None);
        assert_eq!(written.write(&a, 3, 100, Outcome::RoomGoesOn), None);
        assert_eq!(
            written.write(&a, 100, 100, Outcome::RoomGoesOn).as_deref(),
            Some("\n  2 further errors of this room at this place were not written")
        );
        assert_eq!(written.write(&b, 101, 100, Outcome::RoomGoesOn).as_deref(), Some(""));
        assert_eq!(
            written.write(&b, 102, 100, Outcome::RoomEnds).as_deref(),
            Some(""),
            "an end is always written"
        );
    }

    #[test]
    fn places_without_end_are_counted_together() {
        let mut written = Written::default();
        for line in 0..100 {
            written.write(&error(&format!("s/a.lua:{line}")), 0, 100, Outcome::RoomGoesOn);
        }
        assert_eq!(written.places.len(), PLACES_MAX + 1);
        let text = written.write(&error("s/a.lua:99"), 100, 100, Outcome::RoomGoesOn);
        assert_eq!(
            text.as_deref(),
            Some("\n  83 further errors of this room, at other places, were not written")
        );
    }
}
