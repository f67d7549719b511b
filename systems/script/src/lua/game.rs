//! A match on a machine of its own: the callbacks of the contract, the state between them, and what is
//! handed in.

use std::ffi::c_int;

use mlua::ffi;

use super::batch::{self, Keys};
use super::convert;
use super::slot::{State, bytes_at, type_at};
use super::vm::{FnRef, Vm};
use crate::contract::{self, Callback, Left, MatchInit, Need};
use crate::error::ScriptError;
use crate::host::{Host, Message, Presence};
use crate::runtime::{Called, StateHash};
use crate::value::{Bounds, Value};

/// One match.
///
/// A callback that fails leaves the state as it had changed it; the next one is called with that. Whether
/// there is a next one is the host's policy. `match_loop` that returns nil ends the match; the others may
/// return nothing, which keeps the state. A state of another type than before is an error, and the old one
/// stays.
pub struct Game {
    vm: Vm,
    shown: String,
    callbacks: [Option<FnRef>; Callback::COUNT],
    ctx: c_int,
    state: c_int,
}

impl Game {
    /// Loads the file at `path` into `vm` and calls `match_init(ctx, params)`.
    ///
    /// # Errors
    /// The file does not load, a callback is missing, or `match_init` failed or did not return
    /// `{ state = …, tick_rate = 1 to 128 }`.
    pub fn begin(
        mut vm: Vm,
        host: &mut dyn Host,
        path: &str,
        ctx: &Value,
        params: &Value,
    ) -> Result<(Self, MatchInit), ScriptError> {
        let module = vm.load(host, path)?.value;
        let shown = vm.slot.sources.shown(&module.path);
        let mut callbacks = [None; Callback::COUNT];
        for (slot, &callback) in callbacks.iter_mut().zip(Callback::ALL) {
            *slot = vm.function(&module, callback.name())?;
            if slot.is_none() && callback.need() == Need::Required {
                let message =
                    format!("{} is missing: a match module returns a table that has it", callback.name());
                return Err(ScriptError::contract(shown, message));
            }
        }
        let (ctx, state) = prepare(&mut vm, ctx).map_err(|_| ScriptError::memory(&shown, Vec::new()))?;
        let mut game = Self { vm, shown, callbacks, ctx, state };
        let init = game.init(host, params)?;
        Ok((game, init))
    }

    fn init(&mut self, host: &mut dyn Host, params: &Value) -> Result<MatchInit, ScriptError> {
        let slot = self.state;
        let fuel = self.vm.limits().load_fuel;
        // SAFETY: `params` is borrowed; `read_init` raises nothing.
        let called = unsafe {
            self.call(
                Callback::Init,
                host,
                fuel,
                1,
                |state, _| {
                    // `match_init` has no state yet: its second argument is `params`.
                    ffi::lua_pop(state, 1);
                    convert::push(state, params);
                },
                |state, first| read_init(state, first, slot),
            )?
        };
        called
            .map(|called| called.value)
            .ok_or_else(|| ScriptError::contract(self.shown.clone(), "no match_init"))
    }

    /// Asks `match_join_attempt`. `Ok(Err(reason))`: refused. A match without the callback admits everyone.
    ///
    /// # Errors
    /// The callback failed.
    pub fn join_attempt(
        &mut self,
        host: &mut dyn Host,
        presence: Presence<'_>,
        metadata: &Value,
    ) -> Result<Result<(), String>, ScriptError> {
        let (slot, fuel) = (self.state, self.vm.limits().fuel);
        // SAFETY: arguments are borrowed; what is read is no error's source.
        let called = unsafe {
            self.call(
                Callback::JoinAttempt,
                host,
                fuel,
                3,
                |state, keys| {
                    // Not kept: it is not in the room yet.
                    batch::push_new_presence(state, keys, &presence);
                    convert::push(state, metadata);
                },
                |state, first| {
                    keep_state(state, first, slot, Callback::JoinAttempt)?;
                    // A reason in the place of accept is true, and lets nobody in.
                    if ffi::lua_type(state, first + 1) != ffi::LUA_TBOOLEAN {
                        return Err(format!(
                            "match_join_attempt returned {} as accept, not true or false: \
                             return state, accept, reason",
                            super::slot::type_at(state, first + 1)
                        ));
                    }
                    if ffi::lua_toboolean(state, first + 1) != 0 {
                        return Ok(Ok(()));
                    }
                    let reason = bytes_at(state, first + 2);
                    Ok(Err(reason.map_or_else(
                        || "the match refused".to_owned(),
                        |reason| String::from_utf8_lossy(&reason[..reason.len().min(1024)]).into_owned(),
                    )))
                },
            )?
        };
        Ok(called.map_or(Ok(()), |called| called.value))
    }

    /// `match_join`.
    ///
    /// # Errors
    /// The callback failed.
    pub fn join(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        // SAFETY: `presences` is borrowed.
        unsafe {
            self.event(Callback::Join, host, |state, keys| {
                batch::push_presences(state, keys, presences, false);
            })
        }
    }

    /// `match_leave`; each presence with its reason.
    ///
    /// # Errors
    /// The callback failed.
    pub fn leave(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        // SAFETY: `presences` is borrowed.
        unsafe {
            self.event(Callback::Leave, host, |state, keys| {
                batch::push_presences(state, keys, presences, true);
            })
        }
    }

    /// `match_loop` with what came since the last tick.
    ///
    /// # Errors
    /// The callback failed.
    pub fn tick(
        &mut self,
        host: &mut dyn Host,
        tick: u64,
        messages: &[Message<'_>],
    ) -> Result<Called<Left>, ScriptError> {
        let (slot, fuel) = (self.state, self.vm.limits().fuel);
        // SAFETY: `messages` is borrowed; setting a slot that exists raises nothing.
        let called = unsafe {
            self.call(
                Callback::Loop,
                host,
                fuel,
                1,
                |state, keys| {
                    ffi::lua_pushinteger(state, tick.cast_signed());
                    batch::push_messages(state, keys, messages);
                },
                |state, first| {
                    let kept = keep_state(state, first, slot, Callback::Loop)?;
                    Ok(if kept { Left::Running } else { Left::Ended })
                },
            )?
        };
        called.ok_or_else(|| ScriptError::contract(self.shown.clone(), "no match_loop"))
    }

    /// `match_signal`; nil without the callback.
    ///
    /// # Errors
    /// The callback failed, or answered with what is not plain data.
    pub fn signal(&mut self, host: &mut dyn Host, data: &Value) -> Result<Value, ScriptError> {
        let (slot, fuel) = (self.state, self.vm.limits().fuel);
        // SAFETY: `data` is borrowed; reading raises nothing.
        let called = unsafe {
            self.call(
                Callback::Signal,
                host,
                fuel,
                2,
                |state, _| convert::push(state, data),
                |state, first| {
                    keep_state(state, first, slot, Callback::Signal)?;
                    convert::read(state, first + 1, &mut Bounds::CALL.clone())
                        .map_err(|unfit| format!("match_signal answered {unfit}"))
                },
            )?
        };
        Ok(called.map_or(Value::Nil, |called| called.value))
    }

    /// `match_terminate`, if there is one.
    ///
    /// # Errors
    /// The callback failed.
    pub fn terminate(&mut self, host: &mut dyn Host, grace_s: u32) -> Result<(), ScriptError> {
        // SAFETY: an integer is pushed.
        unsafe {
            self.event(Callback::Terminate, host, |state, _| ffi::lua_pushinteger(state, grace_s.into()))
        }
    }

    /// A number that is equal when the state is, in any process. See [`Vm::hash`].
    pub fn hash(&mut self) -> StateHash {
        let slot = &self.vm.slot;
        let roots = [self.state, self.ctx, slot.loaded.get(), slot.presences.get()];
        // SAFETY: no script runs; the slots are in the registry.
        unsafe { self.vm.walk.hash(&roots) }
    }

    /// The state as plain data.
    ///
    /// # Errors
    /// What in it is not plain data, or that it is larger than [`Bounds::STATE`].
    pub fn state(&mut self) -> Result<Value, String> {
        let main = self.vm.meter.main_state();
        // SAFETY: no script runs; reading raises nothing and leaves the stack as it was.
        unsafe {
            if ffi::lua_checkstack(main, 8) == 0 {
                return Err("out of memory".to_owned());
            }
            ffi::lua_rawgeti(main, ffi::LUA_REGISTRYINDEX, self.state.into());
            let value = convert::read(main, -1, &mut Bounds::STATE.clone());
            ffi::lua_pop(main, 1);
            value.map_err(|unfit| unfit.to_string())
        }
    }

    /// The machine, for its limits, its memory and its rest.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// Bytes that Lua holds now.
    pub fn memory_bytes(&self) -> usize {
        self.vm.memory_bytes()
    }

    /// Sets a field of `ctx`.
    ///
    /// # Errors
    /// The machine is out of memory.
    pub fn set_ctx(&mut self, key: &str, value: &Value) -> Result<(), ScriptError> {
        let ctx = self.ctx;
        // SAFETY: the closure owns nothing.
        let done = unsafe {
            self.vm.lua.exec_raw::<()>((), |state| {
                ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, ctx.into());
                convert::push_bytes(state, key.as_bytes());
                convert::push(state, value);
                ffi::lua_rawset(state, -3);
                ffi::lua_settop(state, 0);
            })
        };
        done.map_err(|_| ScriptError::memory(&self.shown, Vec::new()))
    }

    /// A callback that returns the state and nothing else.
    ///
    /// # Safety
    /// `push` may raise, so nothing in it may own anything.
    unsafe fn event(
        &mut self,
        callback: Callback,
        host: &mut dyn Host,
        push: impl FnOnce(State, Keys),
    ) -> Result<(), ScriptError> {
        let (slot, fuel) = (self.state, self.vm.limits().fuel);
        // SAFETY: the caller's promise; setting a slot that exists raises nothing.
        let called = unsafe {
            self.call(callback, host, fuel, 1, push, |state, first| {
                keep_state(state, first, slot, callback)?;
                Ok(())
            })?
        };
        called.map_or(Ok(()), |_| Ok(()))
    }

    /// Calls a callback with `ctx`, the state and what `push` pushes; `None` when the module has it not.
    ///
    /// # Safety
    /// `push` may raise, so nothing in it may own anything. `pull` must not raise.
    unsafe fn call<R>(
        &mut self,
        callback: Callback,
        host: &mut dyn Host,
        fuel: i64,
        results: c_int,
        push: impl FnOnce(State, Keys),
        pull: impl FnOnce(State, c_int) -> Result<R, String>,
    ) -> Result<Option<Called<R>>, ScriptError> {
        let Some(FnRef(function)) = self.callbacks[callback as usize] else {
            return Ok(None);
        };
        let (ctx, slot) = (self.ctx, self.state);
        let (presences, now) = (self.vm.slot.presences.get(), host.now_ms());
        // SAFETY: the caller's promise.
        let called = unsafe {
            self.vm.enter(
                host,
                callback.name(),
                fuel,
                results,
                |state| {
                    let keys = batch::push_keys(state, presences);
                    ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, function.into());
                    let start = ffi::lua_gettop(state);
                    ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, ctx.into());
                    ffi::lua_pushinteger(state, now);
                    ffi::lua_setfield(state, -2, c"now".as_ptr());
                    ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, slot.into());
                    push(state, keys);
                    ffi::lua_gettop(state) - start
                },
                pull,
            )
        };
        called.map(Some).map_err(|mut error| {
            if error.file.is_empty() {
                error.file.clone_from(&self.shown);
            }
            error
        })
    }
}

/// Makes `ctx` and a slot for the state.
fn prepare(vm: &mut Vm, fields: &Value) -> mlua::Result<(c_int, c_int)> {
    let (mut ctx, mut slot) = (0, 0);
    // SAFETY: the closure owns nothing.
    unsafe {
        vm.lua.exec_raw::<()>((), |state| {
            convert::push(state, fields);
            ctx = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            // Not nil, which would be no slot at all.
            ffi::lua_pushboolean(state, 0);
            slot = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        })?;
    }
    Ok((ctx, slot))
}

/// Keeps what `callback` returned at `index` as the state; false when that is nil and the old one stays. It
/// has the type that the state always had: a callback that returns its answer alone would lose the state.
///
/// # Safety
/// Raises nothing: the slot exists.
unsafe fn keep_state(state: State, index: c_int, slot: c_int, callback: Callback) -> Result<bool, String> {
    // SAFETY: the caller's promise; what is pushed is taken off.
    unsafe {
        let kind = ffi::lua_type(state, index);
        if kind == ffi::LUA_TNIL {
            return Ok(false);
        }
        if !matches!(callback, Callback::Init) {
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, slot.into());
            let (same, was) = (ffi::lua_type(state, -1) == kind, type_at(state, -1));
            ffi::lua_pop(state, 1);
            if !same {
                return Err(format!(
                    "{} returned {} where the state ({was}) comes first: return {}",
                    callback.name(),
                    type_at(state, index),
                    callback.gives()
                ));
            }
        }
        ffi::lua_pushvalue(state, index);
        ffi::lua_rawseti(state, ffi::LUA_REGISTRYINDEX, slot.into());
        Ok(true)
    }
}

/// Reads `{ state, tick_rate, label, max_players }`.
///
/// # Safety
/// Raises nothing.
unsafe fn read_init(state: State, index: c_int, slot: c_int) -> Result<MatchInit, String> {
    // SAFETY: raw accesses raise nothing. (`lua_pushstring` of a key that is in the table makes no string; a
    // key that is nowhere may, and memory for a few bytes was there a moment ago.)
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TTABLE {
            return Err(format!(
                "match_init returned {}, not a table with state and tick_rate",
                type_at(state, index)
            ));
        }
        let value = entry(state, index, "state")?;
        if value == ffi::LUA_TNIL || !keep_state(state, -1, slot, Callback::Init)? {
            return Err("match_init returned no state".to_owned());
        }
        entry(state, index, "tick_rate")?;
        let tick_rate = convert::read(state, -1, &mut Bounds::CALL.clone())
            .ok()
            .and_then(|rate| rate.as_int())
            .and_then(|rate| u8::try_from(rate).ok())
            .filter(|rate| contract::TICK_RATES.contains(rate))
            .ok_or_else(|| no_tick_rate(state))?;
        let kind = entry(state, index, "label")?;
        let label = match kind {
            ffi::LUA_TNIL => Value::text(""),
            ffi::LUA_TSTRING | ffi::LUA_TTABLE => convert::read(state, -1, &mut Bounds::CALL.clone())
                .map_err(|unfit| format!("match_init returned a label with {unfit}"))?,
            _ => return Err("match_init returned a label that is neither a string nor a table".to_owned()),
        };
        let kind = entry(state, index, "max_players")?;
        let max_players = match kind {
            ffi::LUA_TNIL => None,
            _ => Some(
                convert::read(state, -1, &mut Bounds::CALL.clone())
                    .ok()
                    .and_then(|seats| seats.as_int())
                    .and_then(|seats| u32::try_from(seats).ok())
                    .filter(|seats| *seats > 0)
                    .ok_or("match_init returned a max_players that is not a positive integer")?,
            ),
        };
        Ok(MatchInit { tick_rate, label, max_players })
    }
}

/// What is wrong with the tick rate on top of the stack.
///
/// # Safety
/// Raises nothing.
unsafe fn no_tick_rate(state: State) -> String {
    // SAFETY: a number is read and not converted.
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TNUMBER {
            return "match_init returned no tick_rate from 1 to 128".to_owned();
        }
        let rate = ffi::lua_tonumber(state, -1);
        contract::wrong_tick_rate(rate)
    }
}

/// Pushes `table[name]` found by walking the table, which makes no string and raises nothing.
///
/// # Safety
/// Raises nothing.
unsafe fn entry(state: State, table: c_int, name: &str) -> Result<c_int, String> {
    // SAFETY: the caller's promise; the key given to `lua_next` is the one that it gave.
    unsafe {
        if ffi::lua_checkstack(state, 6) == 0 {
            return Err("out of memory".to_owned());
        }
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            if bytes_at(state, -2) == Some(name.as_bytes()) {
                ffi::lua_remove(state, -2);
                return Ok(ffi::lua_type(state, -1));
            }
            ffi::lua_pop(state, 1);
        }
        ffi::lua_pushnil(state);
        Ok(ffi::LUA_TNIL)
    }
}
