//! JSON text from Lua's stack, written without a value in between: keys sorted, so that equal tables give
//! equal text.

use std::ffi::c_int;

use mlua::ffi;

use super::convert::is_array;
use super::slot::{State, bytes_at, type_at};
use crate::value::{Bounds, Unfit};

/// Writes the value at `index` to `out`. A table with the keys 1 to n is an array; an empty one is an
/// object, unless it is marked as an array. What it writes it takes from `bounds`, as far as it came when it
/// fails.
///
/// # Errors
/// What JSON has no text for, or more than `bounds`, and where it stands. `out` holds a part then.
///
/// # Safety
/// Raises nothing and leaves the stack as it was.
pub(super) unsafe fn write(
    state: State,
    index: c_int,
    out: &mut Vec<u8>,
    bounds: &mut Bounds,
) -> Result<(), Unfit> {
    let mut writer = Writer { state, out, bounds };
    // SAFETY: the caller's promise.
    unsafe { writer.value(ffi::lua_absindex(state, index)) }
}

struct Writer<'a> {
    state: State,
    out: &'a mut Vec<u8>,
    bounds: &'a mut Bounds,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Number(i64),
    Name(&'a [u8]),
}

impl Writer<'_> {
    unsafe fn value(&mut self, index: c_int) -> Result<(), Unfit> {
        let state = self.state;
        self.bounds.nodes = self.bounds.nodes.checked_sub(1).ok_or_else(|| Unfit::new("too many values"))?;
        // SAFETY: nothing here raises: strings are not converted, and the stack is checked.
        unsafe {
            match ffi::lua_type(state, index) {
                ffi::LUA_TNIL => self.out.extend_from_slice(b"null"),
                ffi::LUA_TBOOLEAN if ffi::lua_toboolean(state, index) != 0 => {
                    self.out.extend_from_slice(b"true")
                }
                ffi::LUA_TBOOLEAN => self.out.extend_from_slice(b"false"),
                ffi::LUA_TNUMBER if ffi::lua_isinteger(state, index) != 0 => {
                    self.serde(&ffi::lua_tointeger(state, index))?;
                }
                ffi::LUA_TNUMBER => {
                    let number = ffi::lua_tonumber(state, index);
                    if !number.is_finite() {
                        return Err(Unfit::new(format!("{number} has no JSON")));
                    }
                    self.serde(&number)?;
                }
                ffi::LUA_TSTRING => self.text(bytes_at(state, index).unwrap_or_default(), "a string")?,
                ffi::LUA_TTABLE => self.table(index)?,
                _ => return Err(Unfit::new(format!("{} has no JSON", type_at(state, index)))),
            }
        }
        Ok(())
    }

    unsafe fn table(&mut self, table: c_int) -> Result<(), Unfit> {
        self.bounds.depth =
            self.bounds.depth.checked_sub(1).ok_or_else(|| Unfit::new("tables too deep, or a cycle"))?;
        let state = self.state;
        // SAFETY: as in `value`.
        let (top, result) = unsafe {
            let top = ffi::lua_gettop(state);
            (top, self.entries(table))
        };
        self.bounds.depth += 1;
        // SAFETY: lowers the stack.
        unsafe { ffi::lua_settop(state, top) };
        result
    }

    unsafe fn entries(&mut self, table: c_int) -> Result<(), Unfit> {
        let state = self.state;
        let mut keys: Vec<(Key<'_>, c_int)> = Vec::new();
        // SAFETY: nothing here raises: the key given to `lua_next` is the one that it gave. Each key and
        // value stays on the stack, so the text of a key lives as long as `keys`.
        unsafe {
            if ffi::lua_checkstack(state, 8) == 0 {
                return Err(Unfit::new("tables too deep"));
            }
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, table) != 0 {
                let value = ffi::lua_gettop(state);
                let key = match ffi::lua_type(state, value - 1) {
                    ffi::LUA_TNUMBER if ffi::lua_isinteger(state, value - 1) != 0 => {
                        Key::Number(ffi::lua_tointeger(state, value - 1))
                    }
                    ffi::LUA_TSTRING => Key::Name(bytes_at(state, value - 1).unwrap_or_default()),
                    _ => {
                        return Err(Unfit::new(format!(
                            "{} as a key has no JSON",
                            type_at(state, value - 1)
                        )));
                    }
                };
                keys.push((key, value));
                if keys.len() > self.bounds.nodes as usize || ffi::lua_checkstack(state, 8) == 0 {
                    return Err(Unfit::new("too many values"));
                }
                ffi::lua_pushvalue(state, value - 1);
            }
        }
        keys.sort_unstable();
        let list = !keys.is_empty() && keys.iter().zip(1..).all(|((key, _), i)| *key == Key::Number(i));
        if list {
            return self.list(&keys);
        }
        if keys.is_empty() {
            // SAFETY: as in `value`; the stack was checked.
            let array = unsafe { is_array(state, table) };
            self.out.extend_from_slice(if array { b"[]" } else { b"{}" });
            return Ok(());
        }
        self.map(&keys)
    }

    fn list(&mut self, keys: &[(Key<'_>, c_int)]) -> Result<(), Unfit> {
        for (i, (_, value)) in keys.iter().enumerate() {
            self.out.push(if i == 0 { b'[' } else { b',' });
            // SAFETY: `value` is an index that `entries` left there.
            unsafe { self.value(*value) }.map_err(|unfit| unfit.at(i + 1))?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, keys: &[(Key<'_>, c_int)]) -> Result<(), Unfit> {
        for (i, (key, value)) in keys.iter().enumerate() {
            self.out.push(if i == 0 { b'{' } else { b',' });
            match key {
                Key::Number(n) => {
                    let text = n.to_string();
                    // Numbers sort before names, so a name of the same text is further on.
                    if keys.binary_search_by(|(other, _)| other.cmp(&Key::Name(text.as_bytes()))).is_ok() {
                        return Err(Unfit::new(format!("the keys {n} and \"{n}\" in one table")));
                    }
                    self.text(text.as_bytes(), "a key")?;
                }
                Key::Name(name) => self.text(name, "a key")?,
            }
            self.out.push(b':');
            // SAFETY: `value` is an index that `entries` left there.
            unsafe { self.value(*value) }.map_err(|unfit| match key {
                Key::Number(n) => unfit.at(n),
                Key::Name(name) => unfit.at(String::from_utf8_lossy(name)),
            })?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn text(&mut self, bytes: &[u8], what: &str) -> Result<(), Unfit> {
        self.bounds.bytes =
            self.bounds.bytes.checked_sub(bytes.len()).ok_or_else(|| Unfit::new("too much text"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| Unfit::new(format!("{what} that is not UTF-8")))?;
        self.serde(text)
    }

    fn serde<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        serde_json::to_writer(&mut *self.out, value).map_err(|e| Unfit::new(e.to_string()))
    }
}
