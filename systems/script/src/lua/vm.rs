//! One virtual machine: made from a seed, limited in memory, and entered for one call at a time.

use std::ffi::c_int;
use std::panic::resume_unwind;
use std::sync::Arc;

use kaos_lua::{Meter, UNLIMITED};
use mlua::{Lua, StdLib, ffi};

use super::convert;
use super::error::on_error;
use super::hash::Walk;
use super::runtime::EXTENSION;
use super::sandbox;
use super::slot::{HostSlot, State, push_function};
use crate::error::{ErrorKind, ScriptError};
use crate::functions::FunctionName;
use crate::host::Host;
use crate::runtime::{Called, Limits, RegisterKind, StateHash};
use crate::sources::Sources;
use crate::value::{Bounds, Value};

/// What a machine is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// From the room's dice: the order of tables and `math.random` follow it.
    pub seed: u64,
    /// What it may use.
    pub limits: Limits,
    /// The scripts' directory.
    pub sources: Arc<Sources>,
    /// Functions that [`Host::call`] answers, by their place in this list.
    pub functions: Arc<[FunctionName]>,
}

/// One function that a file registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// As what.
    pub kind: RegisterKind,
    /// Under which name.
    pub name: String,
    /// The function, to be called.
    pub function: FnRef,
    /// `file:line` of the call to `kaos.register_*`.
    pub place: String,
}

/// A function of one machine, kept for later. It means nothing to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FnRef(pub(super) c_int);

/// A file that a machine has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRef {
    /// Its path inside the scripts' directory.
    pub path: String,
}

/// One virtual machine. It stays on the thread that made it.
///
/// The garbage collector is stopped while scripts run. [`Vm::rest`] runs it by a rule that knows only bytes
/// and ticks, so that it runs at the same points in a replay.
pub struct Vm {
    // Both hold the Lua state; they go before the slot, whose address Lua's functions hold.
    pub(super) lua: Lua,
    pub(super) meter: Meter,
    pub(super) walk: Walk,
    handler: c_int,
    limits: Limits,
    /// Bytes in use after the last collection.
    live_bytes: usize,
    /// Spreads the machines over the ticks of `rest`.
    phase: u64,
    pub(super) slot: Box<HostSlot>,
}

/// A machine that has not grown to twice its size is collected after this many ticks.
const REST_TICKS: u64 = 60;

/// Growth that is always allowed between two collections (bytes).
const REST_BYTES: usize = 64 << 10;

impl Vm {
    /// A machine with its libraries and `kaos`, and no file loaded.
    ///
    /// # Errors
    /// The memory limit is too small for an empty machine.
    pub fn new(config: Config) -> Result<Self, ScriptError> {
        let fail = |_| ScriptError::memory("", Vec::new());
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8;
        let lua = kaos_lua::new_state(config.seed, libs).map_err(fail)?;
        lua.gc_stop();
        lua.set_memory_limit(config.limits.memory_bytes).map_err(fail)?;
        let meter = Meter::of(&lua).map_err(fail)?;
        let slot = Box::new(HostSlot::new(config.sources, config.functions));
        let mut handler = 0;
        // SAFETY: the closure owns nothing; the slot outlives the state (see the order of the fields).
        unsafe {
            lua.exec_raw::<()>((), |state| {
                sandbox::furnish(state, &slot);
                push_function(state, &slot, on_error, 0);
                handler = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            })
            .map_err(fail)?;
        }
        let walk = Walk::new(&lua).map_err(fail)?;
        lua.gc_collect().map_err(fail)?;
        let live_bytes = lua.used_memory();
        Ok(Self {
            lua,
            meter,
            walk,
            handler,
            limits: config.limits,
            live_bytes,
            phase: config.seed % REST_TICKS,
            slot,
        })
    }

    /// What it may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes that Lua holds now.
    pub fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Loads the file at `path` of the scripts' directory and runs it, unless that was done before.
    ///
    /// # Errors
    /// There is no such file, its text is no Lua, or it failed.
    pub fn load(&mut self, host: &mut dyn Host, path: &str) -> Result<Called<ModuleRef>, ScriptError> {
        self.slot.loading.set(true);
        let fuel = self.limits.load_fuel;
        let slot: *const HostSlot = &raw const *self.slot;
        // SAFETY: what is pushed owns nothing; the slot lives as long as the machine.
        let called = unsafe {
            self.enter(
                host,
                "main chunk",
                fuel,
                1,
                |state| {
                    push_function(state, &*slot, sandbox::require, 0);
                    convert::push_bytes(state, path.as_bytes());
                    1
                },
                |_, _| Ok(()),
            )
        };
        self.slot.loading.set(false);
        let called = called.map_err(|mut error| {
            if error.file.is_empty() && error.message.starts_with("require: ") {
                error.message.replace_range(.."require: ".len(), "");
            }
            error
        })?;
        // `require` found it, so `find` does.
        let path = self.slot.sources.find(path, EXTENSION).unwrap_or(path).to_owned();
        Ok(Called { value: ModuleRef { path }, fuel: called.fuel })
    }

    /// The function `name` of the table that the file returned; `None` when it has none.
    ///
    /// # Errors
    /// The machine is out of memory.
    pub fn function(&mut self, module: &ModuleRef, name: &str) -> Result<Option<FnRef>, ScriptError> {
        let loaded = self.slot.loaded.get();
        let mut slot = None;
        // SAFETY: the closure owns nothing.
        let done = unsafe {
            self.lua.exec_raw::<()>((), |state| {
                ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, loaded.into());
                convert::push_bytes(state, module.path.as_bytes());
                ffi::lua_rawget(state, -2);
                if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                    convert::push_bytes(state, name.as_bytes());
                    ffi::lua_rawget(state, -2);
                    if ffi::lua_type(state, -1) == ffi::LUA_TFUNCTION {
                        slot = Some(ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX));
                    }
                }
                ffi::lua_settop(state, 0);
            })
        };
        done.map_err(|_| ScriptError::memory(&self.slot.sources.shown(&module.path), Vec::new()))?;
        Ok(slot.map(FnRef))
    }

    /// What the loaded files registered, by kind and name.
    pub fn registered(&self) -> Vec<Handler> {
        let scratch = self.slot.scratch.borrow();
        let rows = scratch.registered.iter().map(|((kind, name), (slot, place))| Handler {
            kind: *kind,
            name: name.clone(),
            function: FnRef(*slot),
            place: place.clone(),
        });
        rows.collect()
    }

    /// Calls a function with plain data and gives back what it returned, at most 8 values. `name` is how
    /// tracebacks call it.
    ///
    /// # Errors
    /// It failed, or returned what is not plain data.
    pub fn call(
        &mut self,
        host: &mut dyn Host,
        name: &str,
        function: FnRef,
        arguments: &[Value],
        fuel: i64,
    ) -> Result<Called<Vec<Value>>, ScriptError> {
        // SAFETY: what is pushed is borrowed; reading raises nothing.
        unsafe {
            self.enter(
                host,
                name,
                fuel,
                ffi::LUA_MULTRET,
                |state| {
                    ffi::luaL_checkstack(state, arguments.len() as c_int + 1, c"too many arguments".as_ptr());
                    ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, function.0.into());
                    for argument in arguments {
                        convert::push(state, argument);
                    }
                    arguments.len() as c_int
                },
                |state, first| {
                    let last = ffi::lua_gettop(state).min(first + 7);
                    let mut bounds = Bounds::CALL;
                    (first..=last)
                        .map(|index| convert::read(state, index, &mut bounds))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|unfit| format!("{name} returned {unfit}"))
                },
            )
        }
    }

    /// Collects garbage when the memory limit comes near: three quarters of it are in use, and more than a
    /// little came since the last collection. Before and after every call, so that no call finds the memory
    /// full of what others threw away. Like [`Vm::rest`] it goes by bytes alone.
    fn ease(&mut self) {
        let (used, limit) = (self.lua.used_memory(), self.limits.memory_bytes);
        let grown = used.saturating_sub(self.live_bytes);
        let little = (limit / 16).min(limit.saturating_sub(self.live_bytes) / 2);
        if used > limit / 4 * 3 && grown > little {
            self.collect();
        }
    }

    /// Collects garbage when it is time: the machine holds twice what was live and 64 KiB, or it is its turn
    /// (every 60 ticks, spread by the seed). Call it after each tick. True when it collected.
    pub fn rest(&mut self, tick: u64) -> bool {
        let used = self.lua.used_memory();
        let due = used > 2 * self.live_bytes + REST_BYTES || (tick + self.phase).is_multiple_of(REST_TICKS);
        due && self.collect()
    }

    /// Collects garbage now. True when it did: a machine without finalisers always can.
    pub fn collect(&mut self) -> bool {
        let collected = self.lua.gc_collect().is_ok();
        if collected {
            self.live_bytes = self.lua.used_memory();
        }
        collected
    }

    /// A number that is equal when the state is: globals, loaded modules with the variables that their
    /// functions hold, and what a match keeps. It changes nothing, the bytes in use included.
    pub fn hash(&mut self) -> StateHash {
        let roots = [self.slot.loaded.get()];
        // SAFETY: no script runs; the slots are in the registry.
        unsafe { self.walk.hash(&roots) }
    }

    /// Runs one call: `push` puts a function and its arguments on the stack and says how many arguments,
    /// `pull` reads what came back, from the given index on.
    ///
    /// # Safety
    /// `push` may raise, so nothing in it may own anything. `pull` must not raise.
    pub(super) unsafe fn enter<R>(
        &mut self,
        host: &mut dyn Host,
        name: &str,
        fuel: i64,
        results: c_int,
        push: impl FnOnce(State) -> c_int,
        pull: impl FnOnce(State, c_int) -> Result<R, String>,
    ) -> Result<Called<R>, ScriptError> {
        self.ease();
        let (meter, handler) = (&self.meter, self.handler);
        let mut end = End { status: ffi::LUA_ERRMEM, left: fuel, trace: Vec::new(), collecting: 0 };
        let mut value = None;
        let lent = self.slot.lend(host);
        // SAFETY: the caller's promises. Fuel is unlimited again before the closure ends, since mlua itself
        // enters Lua to leave it.
        let entered = unsafe {
            self.lua.exec_raw::<()>((), |state| {
                ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, handler.into());
                let base = ffi::lua_gettop(state);
                let arguments = push(state);
                // Results come where the function stood; what `push` put below it stays there.
                let first = ffi::lua_gettop(state) - arguments;
                meter.set(fuel);
                end.status = ffi::lua_pcall(state, arguments, results, base);
                end.left = meter.left();
                if end.left < 0 {
                    end.trace = meter.take_trace();
                    end.collecting = meter.emergency_fuel();
                }
                meter.set(UNLIMITED);
                if end.status == ffi::LUA_OK && end.left >= 0 {
                    value = Some(pull(state, first));
                }
                ffi::lua_settop(state, base - 1);
            })
        };
        drop(lent);
        // A script cannot catch what is the host's fault.
        let panic = self.slot.scratch.borrow_mut().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        let used = fuel.saturating_sub(end.left);
        let result = match value {
            Some(Ok(value)) if entered.is_ok() => Ok(Called { value, fuel: used }),
            Some(Err(message)) if entered.is_ok() => {
                Err(ScriptError { kind: ErrorKind::Contract, ..ScriptError::raised(&message, &[], name) })
            }
            _ => Err(self.failed(name, fuel, end)),
        };
        self.ease();
        result.map_err(|error| ScriptError { fuel: used, ..error })
    }

    /// Makes an error of what a call left behind.
    fn failed(&mut self, name: &str, fuel: i64, end: End) -> ScriptError {
        let (text, frames, refusal) = {
            let mut scratch = self.slot.scratch.borrow_mut();
            let (error, frames) = (std::mem::take(&mut scratch.error), std::mem::take(&mut scratch.frames));
            (error, frames, scratch.refusal.take())
        };
        if end.left < 0 {
            let mut error = ScriptError::fuel(fuel, &end.trace, name);
            // A collection in the middle of a call visits everything: it is memory that was short.
            if end.collecting > 0 && end.left.saturating_add(end.collecting) >= 0 {
                let (used, limit) = (self.lua.used_memory() >> 20, self.limits.memory_bytes >> 20);
                error.message = format!(
                    "too little memory: the machine's memory of {limit} MiB was full in {name}, and collecting \
                     garbage there used up its fuel ({used} MiB are left in use)"
                );
            }
            return error;
        }
        match end.status {
            ffi::LUA_ERRMEM => ScriptError::memory("", vec![format!("in {name}")]),
            // The handler itself failed, so it noted nothing.
            ffi::LUA_ERRERR if text.is_empty() => {
                ScriptError::raised("error in error handling", &frames, name)
            }
            _ => ScriptError { refusal: refusal.map(Box::new), ..ScriptError::raised(&text, &frames, name) },
        }
    }
}

/// How a call ended.
struct End {
    status: c_int,
    left: i64,
    trace: Vec<kaos_lua::Frame>,
    /// Fuel that collections at the memory limit took.
    collecting: i64,
}
