//! The contract of matches, the same in each language: which callbacks there are, and what they give.

use crate::value::Value;

macro_rules! callbacks {
    ($($(#[$doc:meta])* $callback:ident = $name:literal $need:ident $gives:literal;)*) => {
        /// A callback of a match.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Callback {
            $($(#[$doc])* $callback,)*
        }

        impl Callback {
            /// Every callback, in the order of the table.
            pub const ALL: &'static [Callback] = &[$(Callback::$callback,)*];

            /// Its name in a script: `match_loop`.
            pub fn name(self) -> &'static str {
                match self { $(Callback::$callback => $name,)* }
            }

            /// Whether a match must have it.
            pub fn need(self) -> Need {
                match self { $(Callback::$callback => Need::$need,)* }
            }

            /// What it gives, in this order. Only the first may be left out, and the state stays as it was then; a
            /// `match_loop` that leaves it out ends the match.
            pub fn gives(self) -> &'static str {
                match self { $(Callback::$callback => $gives,)* }
            }
        }
    };
}

/// Whether a match must have a callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A file with callbacks that lacks it is an error.
    Required,
    /// A match without it does what its documentation says.
    Optional,
}

callbacks! {
    /// `(ctx, params)`: the match begins. Gives a [`MatchInit`], and the state.
    Init = "match_init" Required "state";
    /// `(ctx, state, presence, metadata)`: someone asks to join. Without it everyone is admitted.
    JoinAttempt = "match_join_attempt" Optional "state, accept, reason";
    /// `(ctx, state, presences)`: these joined.
    Join = "match_join" Required "state";
    /// `(ctx, state, presences)`: these left, each with its reason.
    Leave = "match_leave" Required "state";
    /// `(ctx, state, tick, messages)`: a tick.
    Loop = "match_loop" Required "state";
    /// `(ctx, state, grace_s)`: the server stops in so many seconds. Without it nothing is told.
    Terminate = "match_terminate" Optional "state";
    /// `(ctx, state, data)`: the operation `room.signal`. Without it the answer is nil.
    Signal = "match_signal" Optional "state, reply";
}

impl Callback {
    /// How many callbacks there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Which required callbacks a file lacks; `None`: it has no callback at all, so it is no match.
    ///
    /// # Errors
    /// Those of `has`.
    pub fn missing<E>(
        mut has: impl FnMut(Callback) -> Result<bool, E>,
    ) -> Result<Option<Vec<&'static str>>, E> {
        let (mut any, mut missing) = (false, Vec::new());
        for &callback in Self::ALL {
            if has(callback)? {
                any = true;
            } else if callback.need() == Need::Required {
                missing.push(callback.name());
            }
        }
        Ok(any.then_some(missing))
    }
}

/// What `match_init` gave.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchInit {
    /// Ticks a second, 1 to 128.
    pub tick_rate: u8,
    /// Text or a map; an empty text when the script gave none.
    pub label: Value,
    /// Seats, at least 1; `None`: the server's default.
    pub max_players: Option<u32>,
}

/// Ticks a second that a match may have.
pub const TICK_RATES: std::ops::RangeInclusive<u8> = 1..=128;

impl MatchInit {
    /// What every match gives keeps to this, whatever its language.
    ///
    /// # Errors
    /// A sentence: which value is out of range.
    pub fn check(&self) -> Result<(), String> {
        if !TICK_RATES.contains(&self.tick_rate) {
            return Err(wrong_tick_rate(self.tick_rate));
        }
        if !matches!(self.label, Value::Text(_) | Value::List(_) | Value::Map(_)) {
            return Err("match_init returned a label that is neither a string nor a table".to_owned());
        }
        if self.max_players == Some(0) {
            return Err("match_init returned a max_players that is not a positive integer".to_owned());
        }
        Ok(())
    }
}

/// The sentence about a tick rate that is a number and none of [`TICK_RATES`].
pub fn wrong_tick_rate(rate: impl std::fmt::Display) -> String {
    format!("match_init returned tick_rate = {rate}: it is a whole number and goes from 1 to 128")
}

/// How a tick left its match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The match goes on.
    Running,
    /// `match_loop` gave no state: the match is over.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_callbacks_is_no_match_and_one_with_a_few_lacks_the_required() {
        let missing = |has: &[Callback]| Callback::missing(|one| Ok::<_, ()>(has.contains(&one)));
        assert_eq!(missing(&[]), Ok(None));
        assert_eq!(
            missing(&[Callback::Signal, Callback::Loop]),
            Ok(Some(vec!["match_init", "match_join", "match_leave"]))
        );
        assert_eq!(missing(Callback::ALL), Ok(Some(vec![])));
        assert_eq!(Callback::missing(|_| Err("out of memory")), Err("out of memory"));
    }

    #[test]
    fn what_match_init_gives_keeps_to_its_ranges() {
        let good = MatchInit { tick_rate: 128, label: Value::text(""), max_players: Some(1) };
        assert_eq!(good.check(), Ok(()));
        for (wrong, part) in [
            (MatchInit { tick_rate: 0, ..good.clone() }, "tick_rate = 0"),
            (MatchInit { tick_rate: 129, ..good.clone() }, "tick_rate = 129"),
            (MatchInit { label: Value::Int(1), ..good.clone() }, "a label"),
            (MatchInit { max_players: Some(0), ..good }, "a max_players"),
        ] {
            let sentence = wrong.check().expect_err("out of range");
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
