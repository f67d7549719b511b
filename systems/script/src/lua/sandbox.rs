//! What a script finds: Lua's harmless libraries, `kaos`, and `require` over the scripts' directory.

use std::ffi::{CStr, CString, c_int};

use mlua::ffi;

use super::broadcast::push_broadcast;
use super::runtime::EXTENSION;
use super::slot::{HostSlot, State, bytes_at, push_function, raise, slot_of};
use super::{convert, functions};
use crate::functions::FunctionName;

/// Globals that reach out of the sandbox, or see what differs from run to run. (`load` takes text only and
/// `setmetatable` refuses `__gc` in this build of Lua; `io`, `os`, `debug` and `package` are never opened.)
const GONE: [&CStr; 4] = [c"dofile", c"loadfile", c"collectgarbage", c"warn"];

/// Sets up the globals.
///
/// # Safety
/// May raise (memory). `slot` outlives the Lua state.
pub(super) unsafe fn furnish(state: State, slot: &HostSlot) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, ffi::LUA_RIDX_GLOBALS);
        let globals = ffi::lua_gettop(state);
        for name in GONE {
            ffi::lua_pushnil(state);
            ffi::lua_setfield(state, globals, name.as_ptr());
        }
        // Bytecode never comes in, so none goes out.
        ffi::lua_getfield(state, globals, c"string".as_ptr());
        ffi::lua_pushnil(state);
        ffi::lua_setfield(state, -2, c"dump".as_ptr());
        ffi::lua_pop(state, 1);

        set(state, globals, slot, c"print", functions::log, 0);
        set(state, globals, slot, c"require", require, 0);
        ffi::lua_createtable(state, 0, 32);
        let kaos = ffi::lua_gettop(state);
        set(state, kaos, slot, c"time_now", functions::time_now, 0);
        set(state, kaos, slot, c"json_encode", functions::json_encode, 0);
        set(state, kaos, slot, c"json_decode", functions::json_decode, 0);
        set(state, kaos, slot, c"json_array", functions::json_array, 0);
        set(state, kaos, slot, c"logger_info", functions::log, 0);
        set(state, kaos, slot, c"logger_warn", functions::log, 1);
        set(state, kaos, slot, c"logger_error", functions::log, 2);
        set(state, kaos, slot, c"register_rpc", functions::register, 0);
        set(state, kaos, slot, c"register_before", functions::register, 1);
        set(state, kaos, slot, c"register_after", functions::register, 2);
        push_broadcast(state, slot);
        ffi::lua_setfield(state, kaos, c"broadcast".as_ptr());
        ffi::lua_setfield(state, globals, c"kaos".as_ptr());
        for (number, FunctionName { module, name }) in slot.functions.iter().enumerate() {
            push_module(state, globals, module);
            ffi::lua_pushlstring(state, name.as_ptr().cast(), name.len());
            push_function(state, slot, functions::call, number as i64);
            ffi::lua_rawset(state, -3);
            ffi::lua_pop(state, 1);
        }

        ffi::lua_createtable(state, 0, 8);
        slot.loaded.set(ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX));
        ffi::lua_createtable(state, 0, 16);
        slot.presences.set(ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX));
        convert::make_array_mark(state);
        ffi::lua_createtable(state, 0, 1);
        let closer = ffi::lua_gettop(state);
        set(state, closer, slot, c"__close", loading_ends, 0);
        slot.closer.set(ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX));
        ffi::lua_settop(state, globals - 1);
    }
}

/// Pushes the global table of a module, which is made when it is not there.
///
/// # Safety
/// May raise (memory).
unsafe fn push_module(state: State, globals: c_int, module: &str) {
    // SAFETY: the caller's promise.
    unsafe {
        convert::push_bytes(state, module.as_bytes());
        ffi::lua_rawget(state, globals);
        if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
            return;
        }
        ffi::lua_pop(state, 1);
        ffi::lua_createtable(state, 0, 16);
        convert::push_bytes(state, module.as_bytes());
        ffi::lua_pushvalue(state, -2);
        ffi::lua_rawset(state, globals);
    }
}

unsafe fn set(
    state: State,
    table: c_int,
    slot: &HostSlot,
    name: &CStr,
    function: ffi::lua_CFunction,
    number: i64,
) {
    // SAFETY: as in `furnish`.
    unsafe {
        push_function(state, slot, function, number);
        ffi::lua_setfield(state, table, name.as_ptr());
    }
}

/// A file without what stock Lua skips too: the byte order mark of UTF-8 that some editors write, and a first line
/// that begins with `#`, of which the line end stays so that lines keep their numbers.
fn lua_of(bytes: &[u8]) -> &[u8] {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.first() != Some(&b'#') {
        return text;
    }
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

/// Where `require` is with a file: stands in the table of loaded modules until the file returned.
const LOADING: &CStr = c"loading";

/// `require(name)`: the value that the file returned, `true` when it returned nothing. A file runs once in
/// each machine.
pub(super) unsafe extern "C-unwind" fn require(state: State) -> c_int {
    // SAFETY: called by Lua with the slot as upvalue. What the first step leaves in the scratch is copied
    // to Lua before anything else works; nothing is owned when something raises.
    unsafe {
        let slot = slot_of(state);
        ffi::lua_settop(state, 1);
        let mut path = (std::ptr::null(), 0);
        let mut source = (std::ptr::null(), 0);
        let found = slot.work(|_, scratch| {
            let name = bytes_at(state, 1).and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or("require: the module's name is a string")?;
            let file = slot.sources.find(name, EXTENSION).map_err(|e| format!("require: {e}"))?;
            let text = slot.sources.get(file).map(|bytes| lua_of(bytes));
            let bytes = text.map(|text| (text.as_ptr(), text.len())).unwrap_or(source);
            scratch.bytes = chunk_name(&slot.sources.shown(file)).into_bytes_with_nul();
            path = (file.as_ptr(), file.len());
            source = bytes;
            Ok(())
        });
        if !found {
            raise(state)
        }
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, slot.loaded.get().into()); // 2
        ffi::lua_pushlstring(state, path.0.cast(), path.1); // 3: lives in the sources
        let chunk = slot.scratch.borrow().bytes.as_ptr();
        ffi::lua_pushstring(state, chunk.cast()); // 4
        ffi::lua_pushlightuserdata(state, LOADING.as_ptr().cast_mut().cast()); // 5

        ffi::lua_pushvalue(state, 3);
        ffi::lua_rawget(state, 2);
        if ffi::lua_rawequal(state, -1, 5) != 0 {
            return circular(state);
        }
        if ffi::lua_type(state, -1) != ffi::LUA_TNIL {
            return 1;
        }
        ffi::lua_pushvalue(state, 3);
        ffi::lua_pushvalue(state, 5);
        ffi::lua_rawset(state, 2);

        // Closed when this function ends, by an error too: a file that failed may be tried again.
        ffi::lua_createtable(state, 1, 0);
        ffi::lua_pushvalue(state, 3);
        ffi::lua_rawseti(state, -2, 1);
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, slot.closer.get().into());
        ffi::lua_setmetatable(state, -2);
        ffi::lua_toclose(state, -1);

        let name = ffi::lua_tolstring(state, 4, std::ptr::null_mut());
        if ffi::luaL_loadbufferx(state, source.0.cast(), source.1, name, c"t".as_ptr()) != ffi::LUA_OK {
            ffi::lua_error(state);
        }
        ffi::lua_call(state, 0, 1);
        if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
            ffi::lua_pushboolean(state, 1);
        }
        ffi::lua_pushvalue(state, 3);
        ffi::lua_pushvalue(state, -2);
        ffi::lua_rawset(state, 2);
        1
    }
}

/// `__close` of a file that is being loaded: takes its mark away if it did not come to its end.
unsafe extern "C-unwind" fn loading_ends(state: State) -> c_int {
    // SAFETY: as in `require`; argument 1 is the table that `require` made.
    unsafe {
        ffi::lua_settop(state, 1);
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, slot_of(state).loaded.get().into());
        ffi::lua_rawgeti(state, 1, 1);
        ffi::lua_pushvalue(state, 3);
        ffi::lua_rawget(state, 2);
        if ffi::lua_type(state, -1) == ffi::LUA_TLIGHTUSERDATA {
            ffi::lua_pushvalue(state, 3);
            ffi::lua_pushnil(state);
            ffi::lua_rawset(state, 2);
        }
        0
    }
}

unsafe fn circular(state: State) -> c_int {
    // SAFETY: as in `require`.
    unsafe {
        slot_of(state).work(|_, _| {
            let path = String::from_utf8_lossy(bytes_at(state, 3).unwrap_or_default()).into_owned();
            Err(format!("require: {path} is being loaded: it requires itself, directly or through others"))
        });
        raise(state)
    }
}

/// The name that makes Lua's messages begin with the path. A path with a zero byte is cut there.
pub(super) fn chunk_name(shown: &str) -> CString {
    let text: Vec<u8> = std::iter::once(b'@').chain(shown.bytes().take_while(|b| *b != 0)).collect();
    CString::new(text).unwrap_or_default()
}
