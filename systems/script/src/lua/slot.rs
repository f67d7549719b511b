//! The slot that holds a machine's host while a script runs, and nothing otherwise.
//!
//! Functions of `kaos.*` are C functions. An error raised in one jumps over its Rust frames, so each works
//! in two steps: [`HostSlot::work`] does everything that owns memory and raises nothing; what follows it touches
//! only Lua and plain data, and may raise. What the second step needs from the first lies in [`Scratch`].

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use kaos_kernel::fault::Fault;
use kaos_kernel::output::Level;
use kaos_lua::Frame;
use mlua::ffi;

use crate::error::ScriptRefusal;
use crate::functions::FunctionName;
use crate::host::{Host, LOG_BYTES_MAX, LOG_LINES_MAX};
use crate::runtime::RegisterKind;
use crate::sources::Sources;
use crate::value::Value;

pub(super) type State = *mut ffi::lua_State;

/// Bytes that the scratch keeps between calls, so that most calls allocate nothing.
const SCRATCH_BYTES: usize = 4096;

/// What the functions of one machine share. Its address is an upvalue of each of them.
pub(super) struct HostSlot {
    host: Cell<Option<NonNull<dyn Host>>>,
    pub(super) scratch: RefCell<Scratch>,
    pub(super) sources: Arc<Sources>,
    /// Names of the functions that only the host knows, by their number.
    pub(super) functions: Arc<[FunctionName]>,
    /// A file is being loaded: `register_*` may be called.
    pub(super) loading: Cell<bool>,
    /// Registry slot of the presences by session id.
    pub(super) presences: Cell<c_int>,
    /// Registry slot of the loaded modules by path.
    pub(super) loaded: Cell<c_int>,
    /// Registry slot of the metatable of files being loaded.
    pub(super) closer: Cell<c_int>,
}

/// What one step leaves for the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// What to raise.
    pub(super) error: String,
    /// Bytes to push.
    pub(super) bytes: Vec<u8>,
    /// Values to push.
    pub(super) values: Vec<Value>,
    /// Session ids of a broadcast.
    pub(super) sessions: Vec<u64>,
    /// The stack at the last error that reached the host.
    pub(super) frames: Vec<Frame>,
    /// A panic of the host, to go on outside of Lua.
    pub(super) panic: Option<Box<dyn Any + Send>>,
    /// What files registered: by kind and name, where and in which registry slot.
    pub(super) registered: BTreeMap<(RegisterKind, String), (c_int, String)>,
    /// What a function of the host raised last in this call: the text that the script saw, and the refusal that it was.
    pub(super) raised: Option<(String, Fault)>,
    /// The refusal that the error of this call is.
    pub(super) refusal: Option<ScriptRefusal>,
    /// Lines logged in this call, and lines dropped.
    pub(super) lines: u32,
    pub(super) dropped: u32,
}

impl HostSlot {
    pub(super) fn new(sources: Arc<Sources>, functions: Arc<[FunctionName]>) -> Self {
        Self {
            host: Cell::new(None),
            scratch: RefCell::default(),
            sources,
            functions,
            loading: Cell::new(false),
            presences: Cell::new(0),
            loaded: Cell::new(0),
            closer: Cell::new(0),
        }
    }

    /// Lends `host` to the machine until the guard is dropped.
    pub(super) fn lend<'a>(&'a self, host: &'a mut dyn Host) -> Lent<'a> {
        let host: NonNull<dyn Host + 'a> = NonNull::from(host);
        // SAFETY: only the lifetime changes. The guard, which borrows the host for as long, empties the slot.
        let host: NonNull<dyn Host + 'static> = unsafe { std::mem::transmute(host) };
        self.host.set(Some(host));
        let mut scratch = self.scratch.borrow_mut();
        scratch.lines = 0;
        scratch.dropped = 0;
        scratch.error.clear();
        scratch.frames.clear();
        scratch.raised = None;
        scratch.refusal = None;
        Lent { slot: self }
    }

    /// Does the part of a host function that raises nothing. False: `scratch.error` says what to raise.
    pub(super) fn work(&self, work: impl FnOnce(&mut dyn Host, &mut Scratch) -> Result<(), String>) -> bool {
        // Taken out while it is used, so that the host can never be lent twice.
        let host = self.host.take();
        let mut scratch = self.scratch.borrow_mut();
        let outcome = match host {
            // SAFETY: `lend` put it there and its guard is alive, since it empties the slot when dropped.
            Some(mut lent) => catch_unwind(AssertUnwindSafe(|| work(unsafe { lent.as_mut() }, &mut scratch))),
            None => Ok(Err("nothing is running".to_owned())),
        };
        self.host.set(host);
        match outcome {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                scratch.error = error;
                false
            }
            Err(panic) => {
                scratch.panic = Some(panic);
                scratch.error = "the host panicked".to_owned();
                false
            }
        }
    }
}

/// A host is lent.
pub(super) struct Lent<'a> {
    slot: &'a HostSlot,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let dropped = std::mem::take(&mut self.slot.scratch.borrow_mut().dropped);
        if dropped > 0 {
            let text = format!("{dropped} more lines were dropped: a call may log {LOG_LINES_MAX}");
            if let Some(mut host) = self.slot.host.get() {
                // SAFETY: as in `work`; nothing runs any more.
                unsafe { host.as_mut() }.log(Level::Warn, &text);
            }
        }
        self.slot.host.set(None);
        // Nothing of the call stays outside of the machine's memory limit but a little room for the next one.
        let mut scratch = self.slot.scratch.borrow_mut();
        scratch.values = Vec::new();
        scratch.bytes.clear();
        scratch.bytes.shrink_to(SCRATCH_BYTES);
        scratch.sessions.clear();
        scratch.sessions.shrink_to(SCRATCH_BYTES / 8);
    }
}

impl Scratch {
    /// One line of `self.bytes` to the log, within the limits.
    pub(super) fn log(&mut self, host: &mut dyn Host, level: Level) {
        if self.lines == LOG_LINES_MAX {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        let cut = self.bytes.len().min(LOG_BYTES_MAX);
        host.log(level, &String::from_utf8_lossy(&self.bytes[..cut]));
    }
}

/// The slot of the running function.
///
/// # Safety
/// The function was made by [`push_function`], and its machine is alive.
pub(super) unsafe fn slot_of<'a>(state: State) -> &'a HostSlot {
    // SAFETY: upvalue 1 is the address of the machine's slot, which outlives its Lua state.
    unsafe { &*ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<HostSlot>() }
}

/// Pushes `function` with the slot as its first upvalue and `number` as its second.
///
/// # Safety
/// May raise. `slot` outlives the Lua state.
pub(super) unsafe fn push_function(state: State, slot: &HostSlot, function: ffi::lua_CFunction, number: i64) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_pushlightuserdata(state, std::ptr::from_ref(slot).cast_mut().cast());
        ffi::lua_pushinteger(state, number);
        ffi::lua_pushcclosure(state, function, 2);
    }
}

/// Raises `scratch.error` with the script's line before it.
///
/// # Safety
/// Called from a function made by [`push_function`] whose frame owns nothing.
pub(super) unsafe fn raise(state: State) -> ! {
    // SAFETY: the caller's promise. The borrow ends before anything can raise; the text stays where it is
    // until the next `work`.
    unsafe {
        let (text, length) = {
            let scratch = slot_of(state).scratch.borrow();
            (scratch.error.as_ptr(), scratch.error.len())
        };
        ffi::luaL_where(state, 1);
        ffi::lua_pushlstring(state, text.cast(), length);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

/// The bytes of the string at `index`, or `None` when it is none. Numbers are not converted.
///
/// # Safety
/// Raises nothing. The bytes live as long as the string does.
pub(super) unsafe fn bytes_at<'a>(state: State, index: c_int) -> Option<&'a [u8]> {
    // SAFETY: for a string `lua_tolstring` neither converts nor allocates.
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TSTRING {
            return None;
        }
        let mut length = 0;
        let text = ffi::lua_tolstring(state, index, &raw mut length);
        Some(std::slice::from_raw_parts(text.cast(), length))
    }
}

/// What Lua calls the type of the value at `index`.
///
/// # Safety
/// Raises nothing.
pub(super) unsafe fn type_at(state: State, index: c_int) -> &'static str {
    // SAFETY: any index is answered.
    match unsafe { ffi::lua_type(state, index) } {
        ffi::LUA_TNONE => "no value",
        ffi::LUA_TNIL => "nil",
        ffi::LUA_TBOOLEAN => "a boolean",
        ffi::LUA_TNUMBER => "a number",
        ffi::LUA_TSTRING => "a string",
        ffi::LUA_TTABLE => "a table",
        ffi::LUA_TFUNCTION => "a function",
        ffi::LUA_TTHREAD => "a coroutine",
        _ => "userdata",
    }
}
