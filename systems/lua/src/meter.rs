//! The fuel account of one VM, read and written without entering Lua.

use crate::{Frame, ffi, trace};
use mlua::Lua;
use std::ptr::NonNull;

/// Fuel that no script can spend: about 9.2e18.
pub const UNLIMITED: i64 = i64::MAX;

/// The fuel account of one VM.
///
/// While the account is negative everything that enters Lua fails, most of mlua's functions included. So
/// the host sets fuel right before a call, looks at [`Meter::left`] after it (also when the call returned
/// without an error: a script may have caught the last one), and sets [`UNLIMITED`] before it does
/// anything else.
pub struct Meter {
    main: NonNull<mlua_sys::lua_State>,
    // Keeps `main` alive. It also ties the meter to the thread of the VM: neither can be sent.
    _lua: Lua,
}

impl Meter {
    /// The account of `lua`.
    ///
    /// # Errors
    /// Fails when the VM has no memory or fuel left.
    pub fn of(lua: &Lua) -> mlua::Result<Self> {
        let mut main = std::ptr::null_mut();
        // SAFETY: the closure balances the stack; Lua keeps its main thread in this slot of the registry.
        unsafe {
            lua.exec_raw::<()>((), |state| {
                mlua_sys::lua_rawgeti(state, mlua_sys::LUA_REGISTRYINDEX, mlua_sys::LUA_RIDX_MAINTHREAD);
                main = mlua_sys::lua_tothread(state, -1);
                mlua_sys::lua_pop(state, 1);
                ffi::kaoslua_setfuelhook(main, Some(trace::on_empty));
            })?;
        }
        let main = NonNull::new(main).ok_or_else(|| mlua::Error::runtime("the VM has no main thread"))?;
        Ok(Self { main, _lua: lua.clone() })
    }

    /// Sets what may be spent from now on, and forgets the last trace.
    pub fn set(&self, fuel: i64) {
        trace::clear();
        // SAFETY: `main` lives as long as `_lua`, and the VM runs on this thread or not at all.
        unsafe { ffi::kaoslua_setfuel(self.main.as_ptr(), fuel) }
    }

    /// What is left; negative when the script ran out.
    pub fn left(&self) -> i64 {
        // SAFETY: as in `set`.
        unsafe { ffi::kaoslua_getfuel(self.main.as_ptr()) }
    }

    /// Of what was spent since [`Meter::set`], the part that collections at the memory limit took: 0 when
    /// there was none, at least 1 when there was. Such a collection visits the whole heap, which may be
    /// more than a budget. So a call that ran out of fuel with this above 0 had too little memory, not too
    /// much to do; [`Meter::take_trace`] says where. It must be read before the next `set`.
    pub fn emergency_fuel(&self) -> i64 {
        // SAFETY: as in `set`.
        unsafe { ffi::kaoslua_getemergency(self.main.as_ptr()) }
    }

    /// Where the fuel ran out, innermost function first (at most 16). Empty when it did not, or when the
    /// trace was taken already. It must be taken on the thread that ran the VM, before another VM runs there.
    pub fn take_trace(&self) -> Vec<Frame> {
        trace::take()
    }

    /// The main thread of the VM, for code that works on its stack.
    pub fn main_state(&self) -> *mut mlua_sys::lua_State {
        self.main.as_ptr()
    }
}
