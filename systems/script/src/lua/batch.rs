//! Presences and messages on their way into a script, built in one go with keys that are made once.

use std::ffi::c_int;

use mlua::ffi;

use super::convert::{push_bytes, size_hint};
use super::slot::State;
use crate::host::{Message, Presence, session_text};

/// Stack slots of the keys that [`push_keys`] pushed.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    base: c_int,
    presences: c_int,
}

const NAMES: [&std::ffi::CStr; 8] =
    [c"sender", c"op", c"data", c"tick", c"session_id", c"user_id", c"username", c"index"];

impl Keys {
    const SENDER: c_int = 0;
    const OP: c_int = 1;
    const DATA: c_int = 2;
    const TICK: c_int = 3;
    const SESSION: c_int = 4;
    const USER: c_int = 5;
    const NAME: c_int = 6;
    const INDEX: c_int = 7;

    /// Pushes key `which`.
    ///
    /// # Safety
    /// One slot of the stack is free.
    unsafe fn push(self, state: State, which: c_int) {
        // SAFETY: `push_keys` put it there.
        unsafe { ffi::lua_pushvalue(state, self.base + which) }
    }
}

/// Pushes the keys and the table of presences, which stay below what is pushed after them.
///
/// # Safety
/// May raise (memory).
pub(super) unsafe fn push_keys(state: State, presences: c_int) -> Keys {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::luaL_checkstack(state, 40, c"the stack is full".as_ptr());
        let base = ffi::lua_gettop(state) + 1;
        for name in NAMES {
            ffi::lua_pushstring(state, name.as_ptr());
        }
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, presences.into());
        Keys { base, presences: ffi::lua_gettop(state) }
    }
}

/// Pushes the messages as a list of `{sender, op, data, tick}`.
///
/// # Safety
/// May raise (memory).
pub(super) unsafe fn push_messages(state: State, keys: Keys, messages: &[Message<'_>]) {
    // SAFETY: the caller's promise. Every table is made large enough for what is set.
    unsafe {
        ffi::lua_createtable(state, size_hint(messages.len()), 0);
        for (i, message) in messages.iter().enumerate() {
            ffi::lua_createtable(state, 0, 4);
            if let Some(sender) = &message.sender {
                keys.push(state, Keys::SENDER);
                push_presence(state, keys, sender);
                ffi::lua_rawset(state, -3);
            }
            keys.push(state, Keys::OP);
            ffi::lua_pushinteger(state, message.op.into());
            ffi::lua_rawset(state, -3);
            keys.push(state, Keys::DATA);
            push_bytes(state, message.data);
            ffi::lua_rawset(state, -3);
            keys.push(state, Keys::TICK);
            ffi::lua_pushinteger(state, message.tick);
            ffi::lua_rawset(state, -3);
            ffi::lua_rawseti(state, -2, i as i64 + 1);
        }
    }
}

/// Pushes the table of a presence: the one that it had when it joined, or a new one for someone who left
/// before the message was read.
///
/// # Safety
/// May raise (memory).
unsafe fn push_presence(state: State, keys: Keys, presence: &Presence<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::lua_rawgeti(state, keys.presences, presence.session_id.cast_signed()) != ffi::LUA_TTABLE {
            ffi::lua_pop(state, 1);
            push_new_presence(state, keys, presence);
        }
    }
}

/// Pushes a list of presences. Those who leave come with their reason, and are forgotten.
///
/// # Safety
/// May raise (memory).
pub(super) unsafe fn push_presences(state: State, keys: Keys, list: &[Presence<'_>], leaving: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_createtable(state, size_hint(list.len()), 0);
        for (i, presence) in list.iter().enumerate() {
            push_presence(state, keys, presence);
            if leaving {
                // Its table goes with it; the room knows it no more.
                push_bytes(state, presence.reason.unwrap_or("left").as_bytes());
                ffi::lua_setfield(state, -2, c"reason".as_ptr());
                ffi::lua_pushnil(state);
                ffi::lua_rawseti(state, keys.presences, presence.session_id.cast_signed());
            } else {
                ffi::lua_pushvalue(state, -1);
                ffi::lua_rawseti(state, keys.presences, presence.session_id.cast_signed());
            }
            ffi::lua_rawseti(state, -2, i as i64 + 1);
        }
    }
}

/// # Safety
/// May raise (memory).
pub(super) unsafe fn push_new_presence(state: State, keys: Keys, presence: &Presence<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::lua_createtable(state, 0, 5);
        keys.push(state, Keys::SESSION);
        push_bytes(state, &session_text(presence.session_id));
        ffi::lua_rawset(state, -3);
        for (key, text) in [(Keys::USER, presence.user_id), (Keys::NAME, presence.username)] {
            keys.push(state, key);
            push_bytes(state, text.as_bytes());
            ffi::lua_rawset(state, -3);
        }
        keys.push(state, Keys::INDEX);
        ffi::lua_pushinteger(state, presence.index.into());
        ffi::lua_rawset(state, -3);
    }
}
