//! Values between Lua's stack and Rust.

use std::collections::BTreeMap;
use std::ffi::c_int;

use mlua::ffi;

use super::slot::{State, bytes_at, type_at};
use crate::value::{Bounds, Unfit, Value};

/// Reads the value at `index` and takes it from `bounds`, as far as it was read when it fails. (The depth is
/// as before.)
///
/// # Errors
/// What is not plain data, or more than `bounds`, and where it stands.
///
/// # Safety
/// Raises nothing and leaves the stack as it was.
pub(super) unsafe fn read(state: State, index: c_int, bounds: &mut Bounds) -> Result<Value, Unfit> {
    // SAFETY: the caller's promise, passed on.
    unsafe { read_at(state, ffi::lua_absindex(state, index), bounds) }
}

/// Fuel for what was taken from `whole` until `left`: 4 a value, and one for 16 bytes.
pub(super) fn fuel(whole: Bounds, left: Bounds) -> u64 {
    4 * u64::from(whole.nodes - left.nodes) + ((whole.bytes - left.bytes) as u64 >> 4)
}

unsafe fn read_at(state: State, index: c_int, bounds: &mut Bounds) -> Result<Value, Unfit> {
    bounds.nodes = bounds.nodes.checked_sub(1).ok_or_else(|| Unfit::new("too many values"))?;
    // SAFETY: nothing here raises: strings are not converted, and the stack is checked.
    unsafe {
        Ok(match ffi::lua_type(state, index) {
            ffi::LUA_TNIL => Value::Nil,
            ffi::LUA_TBOOLEAN => Value::Bool(ffi::lua_toboolean(state, index) != 0),
            ffi::LUA_TNUMBER if ffi::lua_isinteger(state, index) != 0 => {
                Value::Int(ffi::lua_tointeger(state, index))
            }
            ffi::LUA_TNUMBER => Value::Float(ffi::lua_tonumber(state, index)),
            ffi::LUA_TSTRING => Value::Text(take_bytes(state, index, bounds)?.to_vec()),
            ffi::LUA_TTABLE => {
                bounds.depth =
                    bounds.depth.checked_sub(1).ok_or_else(|| Unfit::new("tables too deep, or a cycle"))?;
                let table = read_table(state, index, bounds);
                bounds.depth += 1;
                table?
            }
            _ => return Err(Unfit::new(format!("{} is not plain data", type_at(state, index)))),
        })
    }
}

unsafe fn read_table(state: State, table: c_int, bounds: &mut Bounds) -> Result<Value, Unfit> {
    let mut numbered: BTreeMap<i64, Value> = BTreeMap::new();
    let mut named: BTreeMap<String, Value> = BTreeMap::new();
    // SAFETY: nothing here raises: the key given to `lua_next` is the one that it gave.
    unsafe {
        if ffi::lua_checkstack(state, 4) == 0 {
            return Err(Unfit::new("tables too deep"));
        }
        let top = ffi::lua_gettop(state);
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            let entry = read_entry(state, top + 1, top + 2, bounds);
            match entry {
                Ok((Key::Number(n), value)) => drop(numbered.insert(n, value)),
                Ok((Key::Name(name), value)) => drop(named.insert(name, value)),
                Err(unfit) => {
                    ffi::lua_settop(state, top);
                    return Err(unfit);
                }
            }
            ffi::lua_settop(state, top + 1);
        }
    }
    if named.is_empty() && numbered.is_empty() {
        // SAFETY: the stack was checked, and what is pushed is taken off.
        let array = unsafe { is_array(state, table) };
        return Ok(if array { Value::List(Vec::new()) } else { Value::Map(named) });
    }
    let list = named.is_empty() && numbered.keys().copied().eq(1..=numbered.len() as i64);
    if list {
        return Ok(Value::List(numbered.into_values().collect()));
    }
    for (n, value) in numbered {
        if named.insert(n.to_string(), value).is_some() {
            return Err(Unfit::new(format!("the keys {n} and \"{n}\" in one table")));
        }
    }
    Ok(Value::Map(named))
}

/// Its address is the key, in the registry, of the metatable that marks an empty JSON array.
static ARRAY: u8 = 0;

/// Makes the metatable of empty JSON arrays.
///
/// # Safety
/// May raise (memory).
pub(super) unsafe fn make_array_mark(state: State) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        ffi::lua_pushstring(state, c"array".as_ptr());
        ffi::lua_setfield(state, -2, c"__name".as_ptr());
        ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, (&raw const ARRAY).cast());
    }
}

/// Marks the table on top of the stack as a JSON array.
///
/// # Safety
/// Raises nothing; one slot of the stack is free.
pub(super) unsafe fn mark_array(state: State) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, (&raw const ARRAY).cast());
        ffi::lua_setmetatable(state, -2);
    }
}

/// Does the table at `index` have the mark of an array?
///
/// # Safety
/// Raises nothing; two slots of the stack are free.
pub(super) unsafe fn is_array(state: State, index: c_int) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::lua_getmetatable(state, index) == 0 {
            return false;
        }
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, (&raw const ARRAY).cast());
        let same = ffi::lua_rawequal(state, -1, -2) != 0;
        ffi::lua_pop(state, 2);
        same
    }
}

enum Key {
    Number(i64),
    Name(String),
}

unsafe fn read_entry(
    state: State,
    key: c_int,
    value: c_int,
    bounds: &mut Bounds,
) -> Result<(Key, Value), Unfit> {
    // SAFETY: as in `read_at`.
    unsafe {
        let key = match ffi::lua_type(state, key) {
            ffi::LUA_TNUMBER if ffi::lua_isinteger(state, key) != 0 => {
                Key::Number(ffi::lua_tointeger(state, key))
            }
            ffi::LUA_TSTRING => Key::Name(
                std::str::from_utf8(take_bytes(state, key, bounds)?)
                    .map_err(|_| Unfit::new("a key that is not UTF-8"))?
                    .to_owned(),
            ),
            _ => return Err(Unfit::new(format!("{} as a key", type_at(state, key)))),
        };
        let value = read_at(state, value, bounds).map_err(|unfit| match &key {
            Key::Number(n) => unfit.at(n),
            Key::Name(name) => unfit.at(name),
        })?;
        Ok((key, value))
    }
}

/// # Safety
/// As [`bytes_at`]; there is a string at `index`.
unsafe fn take_bytes<'a>(state: State, index: c_int, bounds: &mut Bounds) -> Result<&'a [u8], Unfit> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes_at(state, index) }.unwrap_or_default();
    bounds.bytes = bounds.bytes.checked_sub(bytes.len()).ok_or_else(|| Unfit::new("too much text"))?;
    Ok(bytes)
}

/// Pushes `value`.
///
/// # Safety
/// May raise (memory, stack). Nothing on the way owns anything.
pub(super) unsafe fn push(state: State, value: &Value) {
    // SAFETY: the caller's promise; the stack is checked for each level.
    unsafe {
        match value {
            Value::Nil => ffi::lua_pushnil(state),
            Value::Bool(b) => ffi::lua_pushboolean(state, c_int::from(*b)),
            Value::Int(n) => ffi::lua_pushinteger(state, *n),
            Value::Float(f) => ffi::lua_pushnumber(state, *f),
            Value::Text(bytes) => push_bytes(state, bytes),
            Value::List(list) => {
                ffi::luaL_checkstack(state, 4, c"a value is too deep".as_ptr());
                ffi::lua_createtable(state, size_hint(list.len()), 0);
                for (i, value) in list.iter().enumerate() {
                    push(state, value);
                    ffi::lua_rawseti(state, -2, i as i64 + 1);
                }
                if list.is_empty() {
                    mark_array(state);
                }
            }
            Value::Map(map) => {
                ffi::luaL_checkstack(state, 4, c"a value is too deep".as_ptr());
                ffi::lua_createtable(state, 0, size_hint(map.len()));
                for (key, value) in map {
                    push_bytes(state, key.as_bytes());
                    push(state, value);
                    ffi::lua_rawset(state, -3);
                }
            }
        }
    }
}

/// Pushes a string.
///
/// # Safety
/// May raise (memory).
pub(super) unsafe fn push_bytes(state: State, bytes: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { ffi::lua_pushlstring(state, bytes.as_ptr().cast(), bytes.len()) };
}

/// A table is made in the right size at once, up to a size that a count alone may not exceed.
pub(super) fn size_hint(length: usize) -> c_int {
    length.min(4096) as c_int
}
