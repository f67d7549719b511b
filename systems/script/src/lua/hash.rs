//! The canonical hash of a machine's state: equal in two processes exactly when scripts could tell no
//! difference, addresses and hash order left out.
//!
//! The state is a graph. It is walked breadth first from its roots; a table, function or coroutine gets the
//! number of its first visit and is hashed once, and what refers to it hashes the number, so cycles and
//! shared references count as what they are. The entries of a table go by key: booleans, integers, floats,
//! strings, then objects in order of creation. A function is its place in the source and the variables that
//! it holds; a coroutine is its functions, their lines and the values on its stack. What every machine has
//! from the start (`string`, `kaos`, …) is a number where it is referred to; its tables are walked as they are,
//! since scripts may write to them, and the generator of `math.random` counts once it was used.
//!
//! Left out: where in its line a coroutine stands (two `yield` in one line), and what iterators of
//! `string.gmatch` have read.
//!
//! The walk uses two Lua threads of its own, emptied afterwards: it allocates nothing in the machine that
//! stays, so that looking at a state never moves a collection.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::c_int;

use mlua::{Lua, ffi};
use xxhash_rust::xxh3::Xxh3;

use super::slot::{State, bytes_at};
use crate::runtime::StateHash;

/// Values that one hash visits at most.
const VALUES_MAX: u32 = 1_000_000;

/// Objects that one hash visits at most: each holds a slot of a Lua stack meanwhile.
const OBJECTS_MAX: usize = 100_000;

/// The walker of one machine.
pub(super) struct Walk {
    queue: State,
    desk: State,
    /// What every machine has, by address. Anchored in the registry, so that no address comes twice.
    base: BTreeMap<usize, u32>,
    /// Registry slot of the list of it.
    anchor: c_int,
    /// Places in that list of its tables.
    tables: Vec<i64>,
    /// Places in that list of functions with a state of their own, and that state at the start.
    states: Vec<(i64, Vec<u8>)>,
    /// Registry slot of the metatable of strings, which no global leads to.
    strings: c_int,
}

impl Walk {
    /// To be made when the libraries are there and no script is.
    pub(super) fn new(lua: &Lua) -> mlua::Result<Self> {
        let (mut queue, mut desk) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the closure owns nothing; the registry keeps both threads.
        unsafe {
            lua.exec_raw::<()>((), |state| {
                queue = ffi::lua_newthread(state);
                ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                desk = ffi::lua_newthread(state);
                ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            })?;
        }
        let mut walk = Self {
            queue,
            desk,
            base: BTreeMap::new(),
            anchor: 0,
            tables: Vec::new(),
            states: Vec::new(),
            strings: 0,
        };
        // SAFETY: no script runs. The globals are visited first, and are no part of the base themselves.
        unsafe {
            let mut pass = Pass::new(&walk);
            pass.root_globals();
            pass.run();
            let mut base = std::mem::take(&mut pass.numbers);
            base.retain(|_, number| *number != 0);
            // They stay reachable through a table of their own, whatever scripts do to the globals.
            let count = ffi::lua_gettop(queue);
            // The globals come first, and are walked as every root.
            for i in 2..=count {
                match ffi::lua_type(queue, i) {
                    ffi::LUA_TTABLE => walk.tables.push(i.into()),
                    ffi::LUA_TFUNCTION => {
                        let state = own_state(queue, i).map(<[u8]>::to_vec);
                        walk.states.extend(state.map(|state| (i.into(), state)));
                    }
                    _ => {}
                }
            }
            let (anchor, strings) = (&mut walk.anchor, &mut walk.strings);
            lua.exec_raw::<()>((), |state| {
                ffi::lua_createtable(state, count, 0);
                for i in 1..=count {
                    ffi::lua_pushvalue(queue, i);
                    ffi::lua_xmove(queue, state, 1);
                    ffi::lua_rawseti(state, -2, i.into());
                }
                *anchor = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                ffi::lua_pushstring(state, c"".as_ptr());
                ffi::lua_getmetatable(state, -1);
                *strings = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                ffi::lua_settop(state, 0);
            })?;
            walk.base = base;
            walk.tidy();
        }
        Ok(walk)
    }

    /// Hashes the globals and the values in the given slots of the registry.
    ///
    /// # Safety
    /// No script runs.
    pub(super) unsafe fn hash(&self, slots: &[c_int]) -> StateHash {
        // SAFETY: the caller's promise.
        unsafe {
            let mut pass = Pass::new(self);
            pass.root_globals();
            for slot in slots {
                pass.root(*slot);
            }
            pass.root(self.strings);
            pass.base();
            pass.run();
            let result = StateHash { hash: pass.hash.digest(), values: pass.values, complete: !pass.full };
            self.tidy();
            result
        }
    }

    /// Gives the stacks of both threads back.
    unsafe fn tidy(&self) {
        // SAFETY: neither thread runs or has anything to close.
        unsafe {
            ffi::lua_resetthread(self.queue);
            ffi::lua_resetthread(self.desk);
        }
    }
}

/// One walk.
struct Pass<'a> {
    walk: &'a Walk,
    hash: Xxh3,
    numbers: BTreeMap<usize, u32>,
    values: u32,
    full: bool,
}

impl<'a> Pass<'a> {
    fn new(walk: &'a Walk) -> Self {
        Self { walk, hash: Xxh3::new(), numbers: BTreeMap::new(), values: 0, full: false }
    }

    unsafe fn root_globals(&mut self) {
        // SAFETY: the registry has the globals here.
        unsafe { self.root(ffi::LUA_RIDX_GLOBALS as c_int) }
    }

    unsafe fn root(&mut self, slot: c_int) {
        let desk = self.walk.desk;
        // SAFETY: raises nothing; a fresh thread has room for 20 values.
        unsafe {
            ffi::lua_rawgeti(desk, ffi::LUA_REGISTRYINDEX, slot.into());
            self.visit();
        }
    }

    /// Hashes what scripts may have changed of what every machine has.
    unsafe fn base(&mut self) {
        let (walk, desk) = (self.walk, self.walk.desk);
        // SAFETY: raises nothing: raw accesses of the anchor, on a thread with room.
        unsafe {
            for place in &walk.tables {
                ffi::lua_rawgeti(desk, ffi::LUA_REGISTRYINDEX, walk.anchor.into());
                ffi::lua_rawgeti(desk, 1, *place);
                ffi::lua_remove(desk, 1);
                self.expand();
                ffi::lua_settop(desk, 0);
            }
            for (place, start) in &walk.states {
                ffi::lua_rawgeti(desk, ffi::LUA_REGISTRYINDEX, walk.anchor.into());
                ffi::lua_rawgeti(desk, 1, *place);
                // As it was, it is like any other: the seed is no state that a script has seen.
                if let Some(state) = own_state(desk, 2).filter(|state| state != start) {
                    self.hash.update(b"state");
                    self.hash.update(&place.to_le_bytes());
                    self.hash.update(state);
                }
                ffi::lua_settop(desk, 0);
            }
        }
    }

    /// Walks what is in the queue until nothing comes any more.
    unsafe fn run(&mut self) {
        let (queue, desk) = (self.walk.queue, self.walk.desk);
        let mut next = 1;
        // SAFETY: raises nothing; `visit` keeps one free slot on the queue.
        unsafe {
            while next <= ffi::lua_gettop(queue) && !self.full {
                ffi::lua_pushvalue(queue, next);
                ffi::lua_xmove(queue, desk, 1);
                self.expand();
                ffi::lua_settop(desk, 0);
                next += 1;
            }
        }
        if self.full {
            self.hash.update(b"full");
        }
    }

    /// Hashes the value on top of the desk and takes it off; an object is numbered and queued.
    unsafe fn visit(&mut self) {
        let (queue, desk) = (self.walk.queue, self.walk.desk);
        self.values += 1;
        // SAFETY: raises nothing: strings are not converted, stacks are checked.
        unsafe {
            let kind = ffi::lua_type(desk, -1);
            self.hash.update(&[kind as u8]);
            match kind {
                ffi::LUA_TBOOLEAN => self.hash.update(&[ffi::lua_toboolean(desk, -1) as u8]),
                ffi::LUA_TNUMBER if ffi::lua_isinteger(desk, -1) != 0 => {
                    self.hash.update(b"i");
                    self.hash.update(&ffi::lua_tointeger(desk, -1).to_le_bytes());
                }
                ffi::LUA_TNUMBER => {
                    self.hash.update(b"f");
                    self.hash.update(&float_bits(ffi::lua_tonumber(desk, -1)).to_le_bytes());
                }
                ffi::LUA_TSTRING => {
                    let bytes = bytes_at(desk, -1).unwrap_or_default();
                    self.hash.update(&(bytes.len() as u64).to_le_bytes());
                    self.hash.update(bytes);
                }
                ffi::LUA_TNIL | ffi::LUA_TLIGHTUSERDATA => {}
                _ => {
                    let address = ffi::lua_topointer(desk, -1) as usize;
                    if let Some(number) = self.walk.base.get(&address) {
                        self.hash.update(b"base");
                        self.hash.update(&number.to_le_bytes());
                    } else if let Some(number) = self.numbers.get(&address) {
                        self.hash.update(&number.to_le_bytes());
                    } else if self.numbers.len() < OBJECTS_MAX && ffi::lua_checkstack(queue, 2) != 0 {
                        let number = self.numbers.len() as u32;
                        self.numbers.insert(address, number);
                        self.hash.update(&number.to_le_bytes());
                        ffi::lua_xmove(desk, queue, 1);
                        ffi::lua_pushnil(desk); // in its place, for the line below
                    } else {
                        self.full = true;
                    }
                }
            }
            ffi::lua_pop(desk, 1);
        }
        self.full |= self.values >= VALUES_MAX;
    }

    /// Hashes what the object at 1 of the desk is made of.
    unsafe fn expand(&mut self) {
        let desk = self.walk.desk;
        // SAFETY: raises nothing.
        unsafe {
            match ffi::lua_type(desk, 1) {
                ffi::LUA_TTABLE => {
                    self.hash.update(b"{");
                    self.entries();
                    if ffi::lua_getmetatable(desk, 1) != 0 {
                        self.hash.update(b"m");
                        self.visit();
                    }
                }
                ffi::LUA_TFUNCTION => self.function(),
                ffi::LUA_TTHREAD => {
                    let thread = ffi::lua_tothread(desk, 1);
                    self.hash.update(&ffi::lua_status(thread).to_le_bytes());
                    self.thread(thread);
                }
                _ => {}
            }
        }
    }

    unsafe fn entries(&mut self) {
        let desk = self.walk.desk;
        let mut keys: Vec<(Key<'_>, c_int)> = Vec::new();
        // SAFETY: raises nothing: the key given to `lua_next` is the one that it gave. Each key and value
        // stays on the stack, so the text of a key lives as long as `keys`.
        unsafe {
            ffi::lua_pushnil(desk);
            while ffi::lua_next(desk, 1) != 0 {
                let at = ffi::lua_gettop(desk) - 1;
                keys.push((Key::of(desk, at), at));
                if ffi::lua_checkstack(desk, 8) == 0 {
                    self.full = true;
                    return;
                }
                ffi::lua_pushvalue(desk, at);
            }
            keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (_, at) in keys {
                for index in [at, at + 1] {
                    ffi::lua_pushvalue(desk, index);
                    self.visit();
                }
                if self.full {
                    return;
                }
            }
        }
    }

    /// Hashes the stack of a coroutine, which does not run.
    unsafe fn thread(&mut self, thread: State) {
        let desk = self.walk.desk;
        // SAFETY: raises nothing. A coroutine that waits is in `yield` and one that has not begun is in nothing:
        // both have 20 free slots, so that one value more needs no memory.
        unsafe {
            ffi::lua_rawgeti(desk, ffi::LUA_REGISTRYINDEX, ffi::LUA_RIDX_MAINTHREAD);
            let main = ffi::lua_tothread(desk, -1);
            ffi::lua_pop(desk, 1);
            // What is on the main stack between two calls is the host's.
            if thread == main || thread == desk || thread == self.walk.queue {
                return;
            }
            let mut info: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(thread, 0, &raw mut info) == 0 {
                for i in 1..=ffi::lua_gettop(thread).min(16) {
                    ffi::lua_pushvalue(thread, i);
                    ffi::lua_xmove(thread, desk, 1);
                    self.visit();
                }
                return;
            }
            if ffi::lua_status(thread) != ffi::LUA_YIELD {
                return;
            }
            let mut level = 0;
            while !self.full && ffi::lua_getstack(thread, level, &raw mut info) != 0 {
                if ffi::lua_getinfo(thread, c"fl".as_ptr(), &raw mut info) != 0 {
                    self.hash.update(b"at");
                    self.hash.update(&info.currentline.to_le_bytes());
                    ffi::lua_xmove(thread, desk, 1);
                    self.visit();
                }
                // Locals and temporaries, then what came as `...`.
                for sign in [1, -1] {
                    let mut n = 1;
                    while !self.full && !ffi::lua_getlocal(thread, &raw const info, sign * n).is_null() {
                        ffi::lua_xmove(thread, desk, 1);
                        self.visit();
                        n += 1;
                    }
                }
                level += 1;
            }
        }
    }

    unsafe fn function(&mut self) {
        let desk = self.walk.desk;
        // SAFETY: raises nothing; `info` is plain data that Lua fills in, and its strings live as long as
        // the function.
        unsafe {
            if ffi::lua_iscfunction(desk, 1) != 0 {
                self.hash.update(b"C");
            } else {
                let mut info: ffi::lua_Debug = std::mem::zeroed();
                ffi::lua_pushvalue(desk, 1);
                if ffi::lua_getinfo(desk, c">S".as_ptr(), &raw mut info) != 0 {
                    self.hash.update(std::ffi::CStr::from_ptr(info.short_src.as_ptr()).to_bytes());
                    self.hash.update(&info.linedefined.to_le_bytes());
                    self.hash.update(&info.lastlinedefined.to_le_bytes());
                }
            }
            let mut n = 1;
            while !ffi::lua_getupvalue(desk, 1, n).is_null() {
                self.visit();
                n += 1;
            }
        }
    }
}

/// The state that a C function holds in a block of memory: the generator of `math.random`.
///
/// # Safety
/// Raises nothing; one slot of the stack is free. The bytes live as long as the function.
unsafe fn own_state<'b>(state: State, index: c_int) -> Option<&'b [u8]> {
    // SAFETY: the caller's promise; a full userdata is `lua_rawlen` bytes.
    unsafe {
        if ffi::lua_iscfunction(state, index) == 0 || ffi::lua_getupvalue(state, index, 1).is_null() {
            return None;
        }
        let held = ffi::lua_type(state, -1) == ffi::LUA_TUSERDATA;
        let (start, length) = (ffi::lua_touserdata(state, -1), ffi::lua_rawlen(state, -1));
        ffi::lua_pop(state, 1);
        (held && !start.is_null()).then(|| std::slice::from_raw_parts(start.cast(), length))
    }
}

/// All NaNs are one.
fn float_bits(number: f64) -> u64 {
    if number.is_nan() { f64::NAN.to_bits() } else { number.to_bits() }
}

/// Keys in the order in which they are hashed.
enum Key<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    Object(u64),
}

impl Key<'_> {
    /// # Safety
    /// Raises nothing. The text lives as long as the string.
    unsafe fn of(state: State, index: c_int) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            match ffi::lua_type(state, index) {
                ffi::LUA_TBOOLEAN => Self::Bool(ffi::lua_toboolean(state, index) != 0),
                ffi::LUA_TNUMBER if ffi::lua_isinteger(state, index) != 0 => {
                    Self::Int(ffi::lua_tointeger(state, index))
                }
                ffi::LUA_TNUMBER => Self::Float(ffi::lua_tonumber(state, index)),
                ffi::LUA_TSTRING => Self::Text(bytes_at(state, index).unwrap_or_default()),
                _ => Self::Object(kaos_lua::ffi::kaoslua_objectid(state, index)),
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) => 1,
            Self::Float(_) => 2,
            Self::Text(_) => 3,
            Self::Object(_) => 4,
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Object(a), Self::Object(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}
