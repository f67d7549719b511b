//! The functions of `kaos.*` that every machine has, and the door to those that only the host knows.

use std::ffi::c_int;

use kaos_kernel::output::Level;
use mlua::ffi;

use super::convert;
use super::json;
use super::slot::{Scratch, State, bytes_at, raise, slot_of, type_at};
use crate::host::{Host, Raised};
use crate::runtime::RegisterKind;
use crate::value::{Bounds, Value};

/// Handlers that the files of one machine may register.
const REGISTERED_MAX: usize = 1000;

pub(super) unsafe extern "C-unwind" fn time_now(state: State) -> c_int {
    let mut now = 0;
    // SAFETY: called by Lua with the slot as upvalue; nothing is owned when it raises.
    unsafe {
        let open = slot_of(state).work(|host, _| {
            now = host.now_ms();
            Ok(())
        });
        if !open {
            raise(state)
        }
        ffi::lua_pushinteger(state, now);
    }
    1
}

pub(super) unsafe extern "C-unwind" fn json_encode(state: State) -> c_int {
    // SAFETY: as in `time_now`. The bytes stay in the scratch until the next function works.
    unsafe {
        let slot = slot_of(state);
        ffi::lua_settop(state, 1);
        let mut parts = (std::ptr::null(), 0);
        let done = slot.work(|_, scratch| {
            scratch.bytes.clear();
            let mut bounds = Bounds::CALL;
            let written = json::write(state, 1, &mut scratch.bytes, &mut bounds);
            // What fails was work too.
            let nodes = u64::from(Bounds::CALL.nodes - bounds.nodes);
            kaos_lua::ffi::kaoslua_owe(state, 4 * (1 + nodes) + (scratch.bytes.len() as u64 >> 4));
            written.map_err(|e| format!("kaos.json_encode: {e}"))?;
            parts = (scratch.bytes.as_ptr(), scratch.bytes.len());
            Ok(())
        });
        if !done {
            raise(state)
        }
        ffi::lua_pushlstring(state, parts.0.cast(), parts.1);
    }
    1
}

pub(super) unsafe extern "C-unwind" fn json_decode(state: State) -> c_int {
    // SAFETY: as in `time_now`. The value stays in the scratch until the next function works.
    unsafe {
        let slot = slot_of(state);
        let mut value: *const Value = std::ptr::null();
        let done = slot.work(|_, scratch| {
            let text = bytes_at(state, 1)
                .ok_or_else(|| format!("kaos.json_decode: {} is not a string", type_at(state, 1)))?;
            if text.len() > Bounds::CALL.bytes {
                return Err(format!("kaos.json_decode: over {} bytes", Bounds::CALL.bytes));
            }
            kaos_lua::ffi::kaoslua_owe(state, 1 + (text.len() as u64 >> 2));
            let decoded =
                Value::parse_json(text, Bounds::CALL).map_err(|e| format!("kaos.json_decode: {e}"))?;
            scratch.values.clear();
            scratch.values.push(decoded);
            value = &raw const scratch.values[0];
            Ok(())
        });
        if !done {
            raise(state)
        }
        convert::push(state, &*value);
    }
    1
}

/// `kaos.json_array(t)`: `t`, or a new table, which is `[]` while it is empty.
pub(super) unsafe extern "C-unwind" fn json_array(state: State) -> c_int {
    // SAFETY: as in `time_now`.
    unsafe {
        ffi::lua_settop(state, 1);
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            ffi::lua_settop(state, 0);
            ffi::lua_createtable(state, 0, 0);
        }
        convert::mark_array(state);
    }
    1
}

/// `kaos.logger_*(text)` and `print(...)`: the level is upvalue 2.
pub(super) unsafe extern "C-unwind" fn log(state: State) -> c_int {
    // SAFETY: as in `time_now`. `luaL_tolstring` may run `__tostring` and raise; nothing is owned then.
    unsafe {
        let slot = slot_of(state);
        let level = match ffi::lua_tointeger(state, ffi::lua_upvalueindex(2)) {
            0 => Level::Info,
            1 => Level::Warn,
            _ => Level::Error,
        };
        let count = ffi::lua_gettop(state);
        kaos_lua::ffi::kaoslua_owe(state, count as u64);
        for i in 1..=count {
            ffi::luaL_tolstring(state, i, std::ptr::null_mut());
            ffi::lua_replace(state, i);
        }
        let done = slot.work(|host, scratch| {
            scratch.bytes.clear();
            for i in 1..=count {
                if i > 1 {
                    scratch.bytes.push(b'\t');
                }
                let bytes = bytes_at(state, i).unwrap_or_default();
                let room = (2 * crate::host::LOG_BYTES_MAX).saturating_sub(scratch.bytes.len());
                scratch.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            kaos_lua::ffi::kaoslua_owe(state, 16 + (scratch.bytes.len() as u64 >> 4));
            scratch.log(host, level);
            Ok(())
        });
        if !done {
            raise(state)
        }
    }
    0
}

/// `kaos.register_*(name, handler)`: the kind is upvalue 2.
pub(super) unsafe extern "C-unwind" fn register(state: State) -> c_int {
    // SAFETY: as in `time_now`.
    unsafe {
        let slot = slot_of(state);
        let kind = match ffi::lua_tointeger(state, ffi::lua_upvalueindex(2)) {
            0 => RegisterKind::Rpc,
            1 => RegisterKind::Before,
            _ => RegisterKind::After,
        };
        ffi::lua_settop(state, 2);
        let mut handler = ffi::LUA_NOREF;
        if ffi::lua_type(state, 2) == ffi::LUA_TFUNCTION {
            ffi::lua_pushvalue(state, 2);
            handler = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        }
        let loading = slot.loading.get();
        let done = slot.work(|_, scratch| {
            keep(state, scratch, kind, handler, loading)
                .map_err(|e| format!("kaos.register_{}: {e}", kind.name()))
        });
        if !done {
            ffi::luaL_unref(state, ffi::LUA_REGISTRYINDEX, handler);
            raise(state)
        }
    }
    0
}

/// # Safety
/// Raises nothing.
unsafe fn keep(
    state: State,
    scratch: &mut Scratch,
    kind: RegisterKind,
    handler: c_int,
    loading: bool,
) -> Result<(), String> {
    if !loading {
        return Err("only while a file is loaded, not in a callback".to_owned());
    }
    // SAFETY: the caller's promise.
    let name = unsafe { bytes_at(state, 1) }.and_then(|name| std::str::from_utf8(name).ok());
    let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= 128) else {
        return Err("the name is a string of 1 to 128 bytes".to_owned());
    };
    if handler == ffi::LUA_NOREF {
        // SAFETY: the caller's promise.
        return Err(format!("the handler of '{name}' is {}, not a function", unsafe { type_at(state, 2) }));
    }
    // SAFETY: the caller's promise.
    let place = unsafe { place_of_caller(state) };
    if let Some((_, first)) = scratch.registered.get(&(kind, name.to_owned())) {
        return Err(format!("'{name}' is registered already, at {first}"));
    }
    if scratch.registered.len() == REGISTERED_MAX {
        return Err(format!("over {REGISTERED_MAX} handlers"));
    }
    scratch.registered.insert((kind, name.to_owned()), (handler, place));
    Ok(())
}

/// `file:line` of the function that called the running one.
///
/// # Safety
/// Raises nothing.
unsafe fn place_of_caller(state: State) -> String {
    // SAFETY: the caller's promise.
    unsafe { kaos_lua::frames(state, 1, 1) }.first().map_or_else(
        || "?".to_owned(),
        |frame| match frame.line {
            Some(line) => format!("{}:{line}", frame.source),
            None => frame.source.clone(),
        },
    )
}

/// Any function that only the host knows: its number is upvalue 2.
pub(super) unsafe extern "C-unwind" fn call(state: State) -> c_int {
    // SAFETY: as in `time_now`. The results stay in the scratch until the next function works.
    unsafe {
        let slot = slot_of(state);
        let number = ffi::lua_tointeger(state, ffi::lua_upvalueindex(2)) as usize;
        let mut results: *const [Value] = &[];
        let done = slot.work(|host, scratch| {
            scratch.values = answer(state, host, number).map_err(|raised| {
                let name = slot.functions.get(number).map_or("?".to_owned(), ToString::to_string);
                let text = format!("{name}: {}", raised.text);
                scratch.raised = raised.fault.map(|fault| (text.clone(), fault));
                text
            })?;
            results = &raw const scratch.values[..];
            Ok(())
        });
        if !done {
            raise(state)
        }
        let results = &*results;
        ffi::luaL_checkstack(state, results.len() as c_int + 1, c"too many results".as_ptr());
        for result in results {
            convert::push(state, result);
        }
        results.len() as c_int
    }
}

/// # Safety
/// Raises nothing.
unsafe fn answer(state: State, host: &mut dyn Host, number: usize) -> Result<Vec<Value>, Raised> {
    // SAFETY: the caller's promise.
    unsafe {
        kaos_lua::ffi::kaoslua_owe(state, 32);
        let count = ffi::lua_gettop(state);
        if count > 16 {
            return Err("too many arguments".into());
        }
        let mut bounds = Bounds::CALL;
        let mut arguments = Vec::with_capacity(count as usize);
        let mut unfit = None;
        for i in 1..=count {
            match convert::read(state, i, &mut bounds) {
                Ok(argument) => arguments.push(argument),
                Err(e) => {
                    unfit = Some(format!("argument {i}: {e}"));
                    break;
                }
            }
        }
        // What was read is charged, whatever becomes of it.
        kaos_lua::ffi::kaoslua_owe(state, convert::fuel(Bounds::CALL, bounds));
        if let Some(unfit) = unfit {
            return Err(unfit.into());
        }
        let before = kaos_lua::ffi::kaoslua_getfuel(state);
        let mut fuel = before;
        let answer = host.call(number, arguments, &mut fuel);
        kaos_lua::ffi::kaoslua_owe(state, u64::try_from(before.saturating_sub(fuel)).unwrap_or(0));
        let answer = answer?;
        kaos_lua::ffi::kaoslua_owe(state, answer.iter().map(Value::fuel).sum());
        Ok(answer)
    }
}
