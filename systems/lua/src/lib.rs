//! PUC Lua 5.4 built with fuel and seeds: deterministic limits for untrusted scripts.
//!
//! This crate links Lua for [`mlua`]; whoever uses mlua in this workspace depends on it. The build takes the
//! sources from the crate `lua-src` and applies the edits in `edits/` (see `build.rs`), which give a VM
//!
//! * **Fuel**: a 64-bit account that every loop, call and piece of work without a bound takes from. The unit
//!   is small: one turn of a short loop, one call, ten instructions, 64 bytes of memory, two steps of a
//!   pattern; 2 to 35 ns, whatever the script does (`time_of_a_unit` in `tests/cost.rs` measures it). When
//!   the account is negative the next check raises, and so does every check after it, in whatever coroutine,
//!   message handler or `__close` method it happens. A script can catch the error and cannot go on. The cut
//!   falls on the same instruction on every run and in every process.
//! * **Seeds**: the hash seed and the numbers of `math.random` come from one `u64`. Two VMs with the same
//!   seed and the same calls iterate every table in the same order, tables keyed by tables included, since
//!   no address is ever hashed. With another seed the order is another one, also for integer keys.
//! * **No addresses in text**: `tostring(t)` is `table: #12`, the number of the object in order of creation;
//!   `%p` prints the same number.
//!
//! Smaller differences to stock Lua 5.4: `load` takes text only; `setmetatable` refuses a metatable with
//! `__gc`; a stack has 200,000 slots instead of a million; a string of more than 256 bytes is never converted
//! to a number; strings are ordered by bytes in every locale; `table.sort` picks its pivots without a clock.
//!
//! The crate limits time. Memory is limited with [`mlua::Lua::set_memory_limit`].

#![allow(unsafe_code)] // the fuel functions are C; each use says why it is sound

mod meter;
mod trace;

pub use meter::{Meter, UNLIMITED};
pub use trace::{Frame, frames};

use mlua::{Lua, LuaOptions, StdLib};

/// The functions that this build adds to Lua's C API. `kaoslua.h` documents them.
pub mod ffi {
    use mlua_sys::{lua_Integer, lua_State};
    use std::ffi::c_int;

    /// See `kaoslua.h`.
    pub type Hook = unsafe extern "C-unwind" fn(state: *mut lua_State);

    unsafe extern "C-unwind" {
        /// See `kaoslua.h`.
        pub fn kaoslua_nextseed(seed: u64);
        /// See `kaoslua.h`.
        pub fn kaoslua_setfuel(state: *mut lua_State, fuel: lua_Integer);
        /// See `kaoslua.h`.
        pub fn kaoslua_getfuel(state: *mut lua_State) -> lua_Integer;
        /// See `kaoslua.h`.
        pub fn kaoslua_getemergency(state: *mut lua_State) -> lua_Integer;
        /// See `kaoslua.h`.
        pub fn kaoslua_setfuelhook(state: *mut lua_State, hook: Option<Hook>);
        /// See `kaoslua.h`.
        pub fn kaoslua_owe(state: *mut lua_State, n: u64);
        /// See `kaoslua.h`.
        pub fn kaoslua_objectid(state: *mut lua_State, index: c_int) -> u64;
    }
}

/// Gives the next state that this OS thread creates its seed. It is used up by that state; a state that
/// was given none has the seed 0.
pub fn set_next_seed(seed: u64) {
    // SAFETY: writes one variable of this thread.
    unsafe { ffi::kaoslua_nextseed(seed) }
}

/// A new VM with the given seed and standard libraries, and with unlimited fuel.
///
/// Lua's base library is always there. `libs` that mlua calls unsafe (debug) are refused.
pub fn new_state(seed: u64, libs: StdLib) -> mlua::Result<Lua> {
    set_next_seed(seed);
    Lua::new_with(libs, LuaOptions::default())
}
