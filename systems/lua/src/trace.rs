//! Where fuel ran out: taken at the first check that failed, before the stack unwinds.

use mlua_sys::{lua_Debug, lua_State};
use std::cell::RefCell;
use std::ffi::CStr;

/// Functions kept of one trace.
const FRAMES_MAX: usize = 16;

/// Bytes of a path that is shown whole, the sign of a path included: `KAOSLUA_MAXPATH` of `kaoslua.h`.
const PATH_MAX: usize = 256;

/// One function of a traceback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Chunk as Lua shows it, such as `scripts/matches/arena.lua`, whole up to 255 bytes; `[C]` for a host or library function.
    pub source: String,
    /// Current line, or `None` for C functions.
    pub line: Option<u32>,
    /// Name by which it was called, when Lua knows one; `main chunk` for the body of a file.
    pub function: Option<String>,
}

thread_local! {
    static TRACE: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn take() -> Vec<Frame> {
    TRACE.with(RefCell::take)
}

pub(crate) fn clear() {
    TRACE.with(|trace| trace.borrow_mut().clear());
}

/// Called by Lua on the thread that ran dry.
pub(crate) unsafe extern "C-unwind" fn on_empty(state: *mut lua_State) {
    // SAFETY: `state` is running.
    let frames = unsafe { frames(state, 0, FRAMES_MAX) };
    // A trace that is being read at this moment stays as it is.
    TRACE.with(|trace| {
        if let Ok(mut trace) = trace.try_borrow_mut() {
            *trace = frames;
        }
    });
}

/// The functions that `state` is in, innermost first, from `level` on (0 is the running one), at most `count`.
///
/// # Safety
/// `state` is a thread of a living VM. Raises nothing and leaves the stack alone.
pub unsafe fn frames(state: *mut lua_State, level: usize, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for level in level..level.saturating_add(count) {
        // SAFETY: `lua_Debug` is plain data that Lua fills in.
        let mut info: lua_Debug = unsafe { std::mem::zeroed() };
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        // SAFETY: the caller's promise; a level that does not exist is answered with 0.
        if unsafe { mlua_sys::lua_getstack(state, level, &raw mut info) } == 0 {
            break;
        }
        // SAFETY: `info` was filled in by `lua_getstack` just above; these options touch no stack.
        if unsafe { mlua_sys::lua_getinfo(state, c"Sln".as_ptr(), &raw mut info) } == 0 {
            break;
        }
        frames.push(frame(&info));
    }
    frames
}

fn frame(info: &lua_Debug) -> Frame {
    // SAFETY: after `lua_getinfo` with "S" and "n" these are null or C strings, valid until Lua runs on.
    let (short, what, name) = unsafe { (text(info.short_src.as_ptr()), text(info.what), text(info.name)) };
    // A path is shown whole. The source of a chunk without a name is its text, which may be megabytes.
    // SAFETY: as above.
    let whole = if info.srclen <= PATH_MAX { unsafe { text(info.source) } } else { None };
    let source = whole.and_then(|s| s.strip_prefix('@').map(str::to_owned)).or(short);
    Frame {
        source: source.unwrap_or_else(|| "?".to_owned()),
        line: u32::try_from(info.currentline).ok(),
        function: name.or_else(|| (what.as_deref() == Some("main")).then(|| "main chunk".to_owned())),
    }
}

/// # Safety
/// `pointer` is null or points to a C string.
unsafe fn text(pointer: *const std::ffi::c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
