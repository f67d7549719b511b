//! What Lua raised, made into a [`ScriptError`]: place, sentence, stack, and the refusal that it may be.

use std::ffi::c_int;

use kaos_kernel::fault::FaultKind;
use kaos_kernel::spelling::nearest;
use kaos_lua::Frame;
use mlua::ffi;

use super::convert;
use super::slot::{State, bytes_at, slot_of, type_at};
use crate::error::{ErrorKind, RefusalCode, ScriptError, ScriptRefusal};
use crate::value::Bounds;

/// Functions kept of a stack.
pub(super) const FRAMES_MAX: usize = 16;

/// Bytes kept of a message that a script made.
const MESSAGE_BYTES_MAX: usize = 2048;

impl ScriptError {
    pub(super) fn memory(place: &str, traceback: Vec<String>) -> Self {
        Self { file: place.to_owned(), traceback, ..Self::new(ErrorKind::Memory, "not enough memory") }
    }

    /// From what Lua said, and the stack at that moment.
    pub(super) fn raised(text: &str, frames: &[Frame], callback: &str) -> Self {
        let (file, line, message) = match split_place(text) {
            Some((mut file, mut line, mut message)) => {
                // `coroutine.wrap` puts its own place before the one where it happened.
                while let Some(inner) = split_place(message).filter(|(file, ..)| file.ends_with(".lua")) {
                    (file, line, message) = inner;
                }
                (file.to_owned(), line, message)
            }
            None => {
                let (file, line) = place(frames);
                (file, line, text)
            }
        };
        let deep = message.starts_with("stack overflow")
            || message.starts_with("C stack overflow")
            || message == "error in error handling";
        let kind = if deep { ErrorKind::Depth } else { ErrorKind::Error };
        Self { file, line, traceback: traceback(frames, callback), ..Self::new(kind, message) }
    }

    /// Out of fuel at the innermost of `frames`.
    pub(super) fn fuel(budget: i64, frames: &[Frame], callback: &str) -> Self {
        let (file, line) = place(frames);
        let message = format!("out of fuel: {callback} may use {budget} and was stopped");
        let traceback = traceback(frames, callback);
        Self { file, line, traceback, fuel: budget, ..Self::new(ErrorKind::Fuel, message) }
    }
}

/// The innermost function that has a line.
fn place(frames: &[Frame]) -> (String, u32) {
    frames.iter().find_map(|frame| frame.line.map(|line| (frame.source.clone(), line))).unwrap_or_default()
}

fn traceback(frames: &[Frame], callback: &str) -> Vec<String> {
    // Lua knows no name for the function that the host called, but the host does.
    let outermost = frames.iter().rposition(|frame| frame.line.is_some());
    let mut stack = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        match (frame.line, frame.function.as_deref()) {
            (Some(line), name) => {
                let name = if Some(i) == outermost && name.is_none() {
                    callback
                } else {
                    name.unwrap_or("a function")
                };
                stack.push(format!("{}:{line} in {name}", frame.source));
            }
            (None, Some(name)) => stack.push(format!("[C] in {name}")),
            (None, None) => {}
        }
    }
    stack
}

/// Parts `file:line: sentence`. Chunks made by `load` are shown as `[string "…"]`, which has colons too.
fn split_place(text: &str) -> Option<(&str, u32, &str)> {
    let start = if text.starts_with("[string \"") { text.find("\"]:")? + 2 } else { text.find(':')? };
    let (file, rest) = (&text[..start], &text[start + 1..]);
    let (line, message) = rest.split_once(": ")?;
    // A script may name its chunks by itself; "12:30: noon" is no place.
    let word = |c: char| !c.is_ascii_digit() && c != ' ';
    let known =
        file.ends_with(".lua") || file.starts_with('[') || file.starts_with(word) && !file.contains(' ');
    let known = known && !file.contains('\n');
    known.then_some((file, line.parse().ok()?, message))
}

/// The message handler of every call: notes the stack, turns the error into text.
pub(super) unsafe extern "C-unwind" fn on_error(state: State) -> c_int {
    // SAFETY: made by `push_function`; raises nothing: no string is converted but a number, which may fail
    // for lack of memory and is then an error in error handling, as for any handler.
    unsafe {
        let slot = slot_of(state);
        if ffi::lua_type(state, 1) == ffi::LUA_TTABLE {
            // Before anything is owned: a key may need memory.
            ffi::lua_settop(state, 1);
            for key in [c"message", c"code", c"data"] {
                ffi::lua_pushstring(state, key.as_ptr());
                ffi::lua_rawget(state, 1);
            }
        }
        let error = describe(state);
        let refusal = refusal(state);
        ffi::lua_settop(state, 1);
        let frames = kaos_lua::frames(state, 1, FRAMES_MAX);
        let mut scratch = slot.scratch.borrow_mut();
        scratch.frames = frames;
        // What an operation refused, and the script let pass.
        let passed = scratch.raised.take().filter(|(text, _)| error.ends_with(text.as_str()));
        (scratch.error, scratch.refusal) = match refusal {
            None => (error, passed.map(|(_, fault)| fault.into())),
            Some(Ok(refusal)) => (error, Some(refusal)),
            Some(Err(sentence)) => (sentence, None),
        };
        1
    }
}

/// The error at 1; of a table the fields `message` and `code`, which lie at 2 and 3.
///
/// # Safety
/// Raises nothing.
unsafe fn describe(state: State) -> String {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return plain(state, 1).unwrap_or_else(|| format!("the error is {}", type_at(state, 1)));
        }
        match (plain(state, 2), plain(state, 3)) {
            (Some(message), Some(code)) => format!("{message} (code {code})"),
            (Some(message), None) => message,
            (None, Some(code)) => format!("the error is a table with the code {code}"),
            (None, None) => "the error is a table".to_owned(),
        }
    }
}

/// What a script refuses with when it raises a table that has a `code`, a word of the fault table or a number, or a
/// `message` alone; with its `data`. `None`: it is no refusal. `Err`: it cannot be one, a sentence.
///
/// # Safety
/// Raises nothing. The fields `message`, `code` and `data` lie at 2, 3 and 4.
unsafe fn refusal(state: State) -> Option<Result<ScriptRefusal, String>> {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return None;
        }
        let text =
            |index| (ffi::lua_type(state, index) == ffi::LUA_TSTRING).then(|| plain(state, index)).flatten();
        let (message, word) = (text(2), text(3));
        if let Some(sentence) = misspelled(state) {
            return Some(Err(sentence));
        }
        let code = match (&word, &message) {
            (Some(word), _) => FaultKind::of_request(word).map(RefusalCode::Kind),
            (None, Some(_)) if ffi::lua_type(state, 3) == ffi::LUA_TNIL => {
                Ok(RefusalCode::Kind(FaultKind::Refused))
            }
            (None, _) if ffi::lua_isinteger(state, 3) != 0 => {
                Ok(RefusalCode::Number(ffi::lua_tointeger(state, 3)))
            }
            (None, _) => return None,
        };
        // What is not plain data takes nothing from the refusal: no door sends it.
        let data = match ffi::lua_type(state, 4) {
            ffi::LUA_TNIL => None,
            _ => convert::read(state, 4, &mut Bounds::CALL.clone()).ok(),
        };
        Some(code.map(|code| {
            let message = message.unwrap_or_else(|| match code {
                RefusalCode::Kind(kind) => kind.text().to_owned(),
                RefusalCode::Number(number) => format!("refused with the code {number}"),
            });
            ScriptRefusal { code, message, retry_ms: 0, data }
        }))
    }
}

/// A key of the table at 1 that is almost one of a refusal's: what it says would be lost.
///
/// # Safety
/// Raises nothing. Leaves the stack as it was.
unsafe fn misspelled(state: State) -> Option<String> {
    const KEYS: [&str; 3] = ["message", "code", "data"];
    let mut found = None;
    // SAFETY: the caller's promise; the keys that `lua_next` is given are its own.
    unsafe {
        let top = ffi::lua_gettop(state);
        ffi::lua_pushnil(state);
        // A refusal is a small table; what lies in a large one is not looked through.
        for _ in 0..16 {
            if ffi::lua_next(state, 1) == 0 {
                break;
            }
            ffi::lua_settop(state, -2);
            let is_text = ffi::lua_type(state, -1) == ffi::LUA_TSTRING;
            if let Some(key) = is_text.then(|| plain(state, -1)).flatten()
                && !KEYS.contains(&key.as_str())
            {
                let near = nearest(&key, KEYS.map(str::to_owned).into_iter());
                if !near.is_empty() {
                    found = Some(format!("a refusal has no field `{key}`{near}"));
                    break;
                }
            }
        }
        ffi::lua_settop(state, top);
    }
    found
}

/// A text or a number as text.
///
/// # Safety
/// Raises nothing.
unsafe fn plain(state: State, index: c_int) -> Option<String> {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::lua_type(state, index) == ffi::LUA_TNUMBER {
            return Some(match ffi::lua_isinteger(state, index) {
                0 => ffi::lua_tonumber(state, index).to_string(),
                _ => ffi::lua_tointeger(state, index).to_string(),
            });
        }
        let bytes = bytes_at(state, index)?;
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(MESSAGE_BYTES_MAX)]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parted_from_sentences() {
        assert_eq!(
            split_place("scripts/a.lua:24: attempt to x"),
            Some(("scripts/a.lua", 24, "attempt to x"))
        );
        assert_eq!(
            split_place("scripts/a.lua:3: key: value: x"),
            Some(("scripts/a.lua", 3, "key: value: x"))
        );
        assert_eq!(split_place("[string \"a:1: b\"]:7: boom"), Some(("[string \"a:1: b\"]", 7, "boom")));
        assert_eq!(split_place("my game/a b.lua:3: x"), Some(("my game/a b.lua", 3, "x")));
        assert_eq!(split_place("stage:1: x"), Some(("stage", 1, "x")));
        for plain in
            ["no place", "hint: say more", "12:30: noon said", "", "a b:1: c", ":1: x", "a\nb.lua:1: x"]
        {
            assert_eq!(split_place(plain), None, "{plain}");
        }
    }
}
