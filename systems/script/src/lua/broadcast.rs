//! `kaos.broadcast(room_id, sender, data, presences, opts)`: the way out, called most of all.

use std::ffi::c_int;

use kaos_kernel::spelling::nearest;
use kaos_wire::limits::{ROOM_DATA_MAX, UNRELIABLE_DATA_MAX};
use mlua::ffi;

use super::slot::{HostSlot, Scratch, State, bytes_at, raise, slot_of, type_at};
use crate::host::{Broadcast, Host, parse_session};

/// Receivers that one broadcast may name.
const TO_MAX: usize = 10_000;

pub(super) unsafe extern "C-unwind" fn broadcast(state: State) -> c_int {
    // SAFETY: called by Lua with the slot as upvalue; nothing is owned when it raises.
    unsafe {
        let slot: &HostSlot = slot_of(state);
        if slot.work(|host, scratch| send(state, host, scratch).map_err(|e| format!("kaos.broadcast: {e}"))) {
            return 0;
        }
        raise(state)
    }
}

/// # Safety
/// Raises nothing.
unsafe fn send(state: State, host: &mut dyn Host, scratch: &mut Scratch) -> Result<(), String> {
    // SAFETY: nothing here raises; every string is an argument or in a table that is one, so it stays.
    unsafe {
        kaos_lua::ffi::kaoslua_owe(state, 4);
        if ffi::lua_checkstack(state, 6) == 0 {
            return Err("the stack is full".to_owned());
        }
        let room = bytes_at(state, 1)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| format!("room_id is {}, not a room's id", type_at(state, 1)))?;
        let data = bytes_at(state, 3).ok_or_else(|| {
            format!("data is {}, not a string; kaos.json_encode makes one", type_at(state, 3))
        })?;
        kaos_lua::ffi::kaoslua_owe(state, data.len() as u64 >> 6);
        let sender = match ffi::lua_type(state, 2) {
            ffi::LUA_TNIL | ffi::LUA_TNONE => None,
            _ => Some(session(state, 2).ok_or("sender is neither a presence nor a session id nor nil")?),
        };
        scratch.sessions.clear();
        let all = matches!(ffi::lua_type(state, 4), ffi::LUA_TNIL | ffi::LUA_TNONE);
        if !all {
            receivers(state, 4, &mut scratch.sessions)?;
        }
        let (op, reliable) = options(state, 5)?;
        let most = if reliable { ROOM_DATA_MAX } else { UNRELIABLE_DATA_MAX };
        if data.len() > most {
            let (len, way) = (data.len(), if reliable { "" } else { " when it is not sent reliably" });
            return Err(format!("data has {len} bytes; it may have {most} at most{way}"));
        }
        ffi::lua_settop(state, 5);
        let to = (!all).then_some(scratch.sessions.as_slice());
        host.broadcast(Broadcast { room, sender, data, to, op, reliable })
    }
}

/// # Safety
/// Raises nothing.
unsafe fn receivers(state: State, index: c_int, to: &mut Vec<u64>) -> Result<(), String> {
    // SAFETY: raw accesses of a table raise nothing.
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TTABLE {
            return Err(format!("presences is {}, not a list or nil", type_at(state, index)));
        }
        let length = ffi::lua_rawlen(state, index);
        if length > TO_MAX {
            return Err(format!("{length} presences; at most {TO_MAX}"));
        }
        if length == 0 && !is_empty(state, index) {
            return Err(
                "presences is a table without a list: put a presence into one, { presence }".to_owned()
            );
        }
        // Before they are read, since reading may fail at the last one.
        kaos_lua::ffi::kaoslua_owe(state, length as u64);
        for i in 1..=length {
            ffi::lua_rawgeti(state, index, i as i64);
            let id = session(state, -1);
            ffi::lua_pop(state, 1);
            to.push(id.ok_or_else(|| format!("presences[{i}] is neither a presence nor a session id"))?);
        }
        Ok(())
    }
}

/// The session that a presence, or a session id, at `index` names.
///
/// # Safety
/// Raises nothing; one slot of the stack is free.
unsafe fn session(state: State, index: c_int) -> Option<u64> {
    // SAFETY: raw accesses of a table raise nothing. (`session_id` is interned long ago.)
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TTABLE {
            return bytes_at(state, index).and_then(parse_session);
        }
        let index = ffi::lua_absindex(state, index);
        field(state, index, ffi::lua_upvalueindex(3));
        let id = bytes_at(state, -1).and_then(parse_session);
        ffi::lua_pop(state, 1);
        id
    }
}

/// Pushes `table[key]`, raw; the key is an upvalue, so that no string has to be made.
///
/// # Safety
/// Raises nothing.
unsafe fn field(state: State, table: c_int, key: c_int) {
    // SAFETY: raw access.
    unsafe {
        ffi::lua_pushvalue(state, key);
        ffi::lua_rawget(state, table);
    }
}

/// # Safety
/// Raises nothing.
unsafe fn options(state: State, index: c_int) -> Result<(u8, bool), String> {
    // SAFETY: raw accesses of a table raise nothing.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TNIL | ffi::LUA_TNONE => return Ok((0, true)),
            ffi::LUA_TTABLE => {}
            _ => return Err(format!("options is {}, not a table or nil", type_at(state, index))),
        }
        only_options(state, index)?;
        field(state, index, ffi::lua_upvalueindex(4));
        let mut whole = 0;
        // A text of digits is no number here, as in every request.
        let number = ffi::lua_type(state, -1) == ffi::LUA_TNUMBER;
        let op = ffi::lua_tointegerx(state, -1, &raw mut whole);
        let none = ffi::lua_type(state, -1) == ffi::LUA_TNIL;
        let op = if none { Some(0) } else { u8::try_from(op).ok().filter(|_| number && whole != 0) };
        field(state, index, ffi::lua_upvalueindex(5));
        let reliable = match ffi::lua_type(state, -1) {
            ffi::LUA_TNIL => Some(true),
            ffi::LUA_TBOOLEAN => Some(ffi::lua_toboolean(state, -1) != 0),
            _ => None,
        };
        let kind = type_at(state, -1);
        ffi::lua_pop(state, 2);
        Ok((
            op.ok_or("op is not an integer from 0 to 255")?,
            reliable.ok_or_else(|| format!("reliable is {kind}, not true or false"))?,
        ))
    }
}

/// Fields of the options. Another one is a mistake, and what was meant would be left out in silence.
const OPTIONS: [&str; 2] = ["op", "reliable"];

/// # Safety
/// Raises nothing; three slots of the stack are free.
unsafe fn only_options(state: State, table: c_int) -> Result<(), String> {
    // SAFETY: the key given to `lua_next` is the one that it gave; nothing is converted.
    unsafe {
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            ffi::lua_pop(state, 1);
            let name = bytes_at(state, -1).map(String::from_utf8_lossy);
            if !name.as_ref().is_some_and(|name| OPTIONS.contains(&name.as_ref())) {
                let told = match &name {
                    None => {
                        format!("options has {} as a key: its fields are op and reliable", type_at(state, -1))
                    }
                    Some(name) => {
                        let name = name.chars().take(64).collect::<String>();
                        let near = nearest(&name, OPTIONS.iter().map(|option| (*option).to_owned()));
                        let near = if near.is_empty() { ": its fields are op and reliable" } else { &near };
                        format!("options has no field `{name}`{near}")
                    }
                };
                drop(name);
                ffi::lua_pop(state, 1);
                return Err(told);
            }
        }
        Ok(())
    }
}

/// # Safety
/// Raises nothing; two slots of the stack are free.
unsafe fn is_empty(state: State, table: c_int) -> bool {
    // SAFETY: as in `only_options`.
    unsafe {
        ffi::lua_pushnil(state);
        if ffi::lua_next(state, table) == 0 {
            return true;
        }
        ffi::lua_pop(state, 2);
        false
    }
}

/// Pushes the function with its upvalues: slot, number, and the keys it reads.
///
/// # Safety
/// May raise. `slot` outlives the Lua state.
pub(super) unsafe fn push_broadcast(state: State, slot: &HostSlot) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_pushlightuserdata(state, std::ptr::from_ref(slot).cast_mut().cast());
        ffi::lua_pushinteger(state, 0);
        for key in [c"session_id", c"op", c"reliable"] {
            ffi::lua_pushstring(state, key.as_ptr());
        }
        ffi::lua_pushcclosure(state, broadcast, 5);
    }
}
