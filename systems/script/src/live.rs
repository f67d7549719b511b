//! Scripts inside the frame: matches and live hooks, reading the world as it stands and ordering what comes after.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::event::EventRow;
use kaos_kernel::op::{OpRow, Payload};
use kaos_kernel::output::Level;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{RoomFact, RoomMessage};
use kaos_kernel::script::{
    Admission, Batch, Birth, Command, Env, HookContext, Match, MatchError, MatchErrorKind, Opened, Scripts,
    Summary, TickOutcome,
};
use kaos_kernel::send::Broadcast;
use serde_json::Value as Json;

use crate::functions::{Does, fit, nothing, request};
use crate::host::{self, Host, LogLevel, Message, Raised};
use crate::library::Library;
use crate::lua::{ErrorKind, FnRef, Game, Identity, Left, RegisterKind, ScriptError, Vm};
use crate::value::Value;

/// Broadcasts of one callback: they wait outside of the machine's memory limit until the stage ends.
const BROADCASTS_MAX: usize = 4096;

/// Their data in one callback, in bytes.
const BROADCAST_BYTES_MAX: usize = 4 << 20;

/// Commands of one callback.
const COMMANDS_MAX: usize = 1024;

/// Their requests in one callback, in bytes of memory, about: they wait outside of the machine's limit too.
const COMMAND_BYTES_MAX: usize = 4 << 20;

/// The frame's [`Env`] as a running script's host, for one callback.
struct Live<'a, 'w> {
    env: &'a mut Env<'w>,
    library: &'a Library,
    source: &'a str,
    /// What this callback has broadcast and ordered so far.
    broadcasts: usize,
    broadcast_bytes: usize,
    commands: usize,
    command_bytes: usize,
}

impl<'a, 'w> Live<'a, 'w> {
    fn new(env: &'a mut Env<'w>, library: &'a Library, source: &'a str) -> Self {
        Live { env, library, source, broadcasts: 0, broadcast_bytes: 0, commands: 0, command_bytes: 0 }
    }
}

impl Host for Live<'_, '_> {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.env.now_ms).unwrap_or(i64::MAX)
    }

    fn log(&mut self, level: LogLevel, line: &str) {
        let level = match level {
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
            LogLevel::Error => Level::Error,
        };
        self.env.log(level, self.source, line);
    }

    fn broadcast(&mut self, broadcast: host::Broadcast<'_>) -> Result<(), String> {
        self.broadcasts += 1;
        self.broadcast_bytes += broadcast.data.len();
        if self.broadcasts > BROADCASTS_MAX || self.broadcast_bytes > BROADCAST_BYTES_MAX {
            return Err(format!(
                "one callback may broadcast {BROADCASTS_MAX} times and {} MiB: send less, or in the next tick",
                BROADCAST_BYTES_MAX >> 20
            ));
        }
        let room = broadcast.room.parse::<RoomId>().map_err(|error| error.to_string())?;
        self.env.broadcasts.push(Broadcast {
            room,
            sender: broadcast.sender.map(SessionId),
            op: broadcast.op,
            data: Bytes::copy_from_slice(broadcast.data),
            to: broadcast.to.map(|sessions| sessions.iter().map(|id| SessionId(*id)).collect()),
            reliable: broadcast.reliable,
        });
        Ok(())
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, _: &mut i64) -> Result<Value, Raised> {
        let function = self.library.functions.get(function).ok_or("this function is not there")?;
        let Does::Call { op, script, args, draws } = &function.does else {
            nothing(&arguments)?;
            return Ok(Value::text(self.env.dice.uuid().hyphenated().to_string()));
        };
        let row = self.env.ops.by_name(op).ok_or("this operation is not there")?;
        self.env.caller.allowed(row.op.auth).map_err(|fault| fault.message.into_owned())?;
        let mut given = request(args, arguments)?;
        let mut drawn = Value::Nil;
        if let (Some(field), ScriptUse::Command, Value::Map(fields)) = (draws, script, &mut given) {
            drawn = Value::text(self.env.dice.uuid().hyphenated().to_string());
            fields.insert((*field).to_owned(), drawn.clone());
        }
        let weight = given.weight();
        let request = fit(self.library, row, given)?;
        match script {
            ScriptUse::Read => {
                let reply = row.read(self.env.world, &self.env.caller, request).map_err(Raised::of)?;
                to_value(&*reply).map_err(Raised::from)
            }
            ScriptUse::Command => {
                self.commands += 1;
                self.command_bytes += weight;
                if self.commands > COMMANDS_MAX || self.command_bytes > COMMAND_BYTES_MAX {
                    return Err(Raised::from(format!(
                        "one callback may give {COMMANDS_MAX} commands and {} MiB: go on in the next tick",
                        COMMAND_BYTES_MAX >> 20
                    )));
                }
                self.env.commands.push(Command { op: row.id, request });
                Ok(drawn)
            }
            ScriptUse::Wait | ScriptUse::Rpc | ScriptUse::Never => {
                Err("waits for its answer, and nothing may wait here: call it in an rpc".into())
            }
        }
    }
}

fn to_value(reply: &dyn Payload) -> Result<Value, String> {
    serde_json::to_value(reply).map(|json| Value::from_json(&json)).map_err(|error| error.to_string())
}

/// All scripts of the frame thread: the machine of the live hooks, and what opens matches.
pub(crate) struct LiveScripts {
    library: Arc<Library>,
    /// Made with the first hook that runs, when the dice are known that its seed comes from.
    hooks: Option<HookMachine>,
    summary: Summary,
    hook_fuel: i64,
    /// How long a call may wait, in ms: for `ctx.deadline`.
    wait_ms: u64,
    /// What scripts see of plugins' settings; `None`: nothing.
    settings: Option<Value>,
    dev: bool,
}

/// Hooks after which their machine's garbage is collected: some 50 µs for a small machine, so 10 µs a hook,
/// and never more garbage than so many calls leave.
const HOOKS_A_REST: u64 = 4;

struct HookMachine {
    vm: Vm,
    functions: BTreeMap<(RegisterKind, String), FnRef>,
    /// Hooks that ran, for the garbage rule.
    ran: u64,
    /// Out of memory: it is thrown away, and the next hook gets a new one.
    spent: bool,
}

impl LiveScripts {
    pub(crate) fn new(
        library: Arc<Library>,
        registered: &[(RegisterKind, String)],
        hook_fuel: i64,
        wait_ms: u64,
        settings: Option<Value>,
        dev: bool,
    ) -> Self {
        let of = |kind: RegisterKind| {
            registered.iter().filter(move |row| row.0 == kind).map(|(_, name)| name.clone()).collect()
        };
        let summary = Summary {
            modules: library.sources.paths().map(str::to_owned).collect(),
            matches: library.matches.keys().cloned().collect(),
            rpcs: of(RegisterKind::Rpc),
            before: of(RegisterKind::Before),
            after: of(RegisterKind::After),
        };
        LiveScripts { library, hooks: None, summary, hook_fuel, wait_ms, settings, dev }
    }

    /// Calls a hook; `None`: there is none of that name.
    fn hook(
        &mut self,
        env: &mut Env<'_>,
        kind: RegisterKind,
        name: &str,
        arguments: &[Value],
    ) -> Option<Result<Vec<Value>, ScriptError>> {
        let registered = match kind {
            RegisterKind::Before => &self.summary.before,
            RegisterKind::After => &self.summary.after,
            RegisterKind::Rpc => return None,
        };
        if !registered.contains(name) {
            return None;
        }
        if self.hooks.as_ref().is_none_or(|machine| machine.spent) {
            let mut said = Vec::new();
            let vm = match self.library.service_vm(env.dice.roll(), &mut said) {
                Ok((vm, _)) => vm,
                Err(error) => return Some(Err(error)),
            };
            let functions =
                vm.registered().into_iter().map(|row| ((row.kind, row.name), row.function)).collect();
            self.hooks = Some(HookMachine { vm, functions, ran: 0, spent: false });
        }
        let machine = self.hooks.as_mut()?;
        let function = *machine.functions.get(&(kind, name.to_owned()))?;
        let mut host = Live::new(env, &self.library, "hooks");
        let called = machine.vm.call(&mut host, name, function, arguments, self.hook_fuel);
        machine.ran += 1;
        if machine.ran.is_multiple_of(HOOKS_A_REST) {
            machine.vm.collect();
        }
        machine.spent = matches!(&called, Err(error) if error.kind == ErrorKind::Memory);
        Some(called.map(|called| called.value))
    }
}

fn failed(env: &mut Env<'_>, name: &str, error: &ScriptError, consequence: &str) {
    let text = format!("{error}\n  in the hook {name}\n  {}\n  {consequence}", error.stack_line());
    env.log(Level::Error, "hooks", text);
}

fn context(env: &Env<'_>, context: &HookContext, wait_ms: u64, settings: &Option<Value>) -> Value {
    let ms = |ms: u64| Value::Int(i64::try_from(ms).unwrap_or(i64::MAX));
    let session = context.session_id.and_then(|id| env.world.get_resource::<SessionIndex>()?.get(id));
    let vars = session.and_then(|session| env.world.get::<Session>(session)).map(|session| &session.vars);
    let vars = vars.into_iter().flatten().map(|(name, value)| (name.clone(), Value::text(value)));
    let mut fields = vec![
        ("user_id", Value::text(&context.user_id)),
        ("username", Value::text(&context.username)),
        ("vars", Value::map(vars)),
        ("now", ms(context.now_ms)),
        ("deadline", ms(context.now_ms.saturating_add(wait_ms))),
        ("node", Value::text(&context.node)),
    ];
    if let Some(session) = context.session_id {
        fields.push(("session_id", Value::text(session.to_string())));
    }
    fields.extend(settings.clone().map(|settings| ("settings", settings)));
    Value::map(fields)
}

impl Scripts for LiveScripts {
    fn summary(&self) -> Summary {
        self.summary.clone()
    }

    fn open(
        &mut self,
        env: &mut Env<'_>,
        module: &str,
        room: Birth,
        params: &Json,
    ) -> Result<Opened, MatchError> {
        let path = self.library.matches.get(module).ok_or_else(|| MatchError {
            callback: "match_init",
            kind: MatchErrorKind::NoModule,
            message: format!("there is no match module `{module}`"),
            stack: Vec::new(),
            refusal: None,
        })?;
        let source = format!("room {}", room.room);
        let id = room.room.to_string();
        let node = env.world.resource::<NodeSettings>().node.clone();
        let failed = |error: ScriptError| of_script("match_init", &error);
        let vm = self.library.vm(room.seed).map_err(failed)?;
        let identity = Identity { room_id: &id, module, node: &node, settings: self.settings.as_ref() };
        let mut host = Live::new(env, &self.library, &source);
        let (game, begun) =
            Game::begin(vm, &mut host, path, identity, &Value::from_json(params)).map_err(failed)?;
        let label = begun.label.to_json().map_err(|unfit| MatchError {
            callback: "match_init",
            kind: MatchErrorKind::Contract,
            message: format!("match_init returned a label that JSON cannot hold: {unfit}"),
            stack: Vec::new(),
            refusal: None,
        })?;
        let game = LuaMatch { game, partial: false, library: self.library.clone(), source };
        Ok(Opened { game: Box::new(game), tick_rate: begun.tick_rate, label, max_players: begun.max_players })
    }

    fn before(
        &mut self,
        env: &mut Env<'_>,
        op: &OpRow,
        ctx: &HookContext,
        request: Box<dyn Payload>,
    ) -> Result<Box<dyn Payload>, Fault> {
        let name = op.op.script_name();
        let message = to_value(&*request).map_err(Fault::internal)?;
        let arguments = [context(env, ctx, self.wait_ms, &self.settings), message];
        let Some(returned) = self.hook(env, RegisterKind::Before, &name, &arguments) else {
            return Ok(request);
        };
        match returned {
            Ok(returned) => {
                let mut returned = returned.into_iter();
                match returned.next().unwrap_or_default() {
                    Value::Nil => {
                        let reason = returned.next().and_then(|reason| reason.as_str().map(str::to_owned));
                        let reason =
                            reason.unwrap_or_else(|| format!("a hook of the game refused {}", op.op.name));
                        Err(Fault::new(FaultKind::Refused, reason))
                    }
                    changed => {
                        let parsed = op.check(&changed).and_then(|()| {
                            op.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(changed))
                        });
                        parsed.map_err(|fault| {
                            let text = format!(
                                "the hook before {name} returned a request that does not fit: {}",
                                fault.message
                            );
                            env.log(Level::Error, "hooks", text);
                            FaultKind::Script.into()
                        })
                    }
                }
            }
            Err(ScriptError { refusal: Some(fault), .. }) => Err(fault),
            Err(error) => {
                failed(env, &name, &error, "the request was refused");
                let told = self.dev.then(|| Fault::new(FaultKind::Script, error.to_string()));
                Err(told.unwrap_or_else(|| FaultKind::Script.into()))
            }
        }
    }

    fn after(
        &mut self,
        env: &mut Env<'_>,
        op: &OpRow,
        ctx: &HookContext,
        request: &Json,
        result: Result<&dyn Payload, &Fault>,
    ) {
        let name = op.op.script_name();
        // An after-hook hears of what happened; what was refused did not.
        let Ok(Ok(reply)) = result.map(to_value) else { return };
        let arguments = [context(env, ctx, self.wait_ms, &self.settings), Value::from_json(request), reply];
        if let Some(Err(error)) = self.hook(env, RegisterKind::After, &name, &arguments) {
            failed(env, &name, &error, "what it follows has happened all the same");
        }
    }

    fn heard(&mut self, env: &mut Env<'_>, event: &EventRow, ctx: &HookContext, to: &Target, body: &Json) {
        let name = event.event.script_name();
        // In the shape in which `kaos.event_push` takes it.
        let to = Value::from_json(&serde_json::to_value(to).unwrap_or_default());
        let arguments = [context(env, ctx, self.wait_ms, &self.settings), Value::from_json(body), to];
        if let Some(Err(error)) = self.hook(env, RegisterKind::After, &name, &arguments) {
            failed(env, &name, &error, "the event was sent all the same");
        }
    }

    fn hash(&mut self) -> u64 {
        self.hooks.as_mut().map_or(0, |machine| machine.vm.hash().hash)
    }
}

/// A match in Lua.
struct LuaMatch {
    game: Game,
    /// Its hash covers a part of the state, and that was said.
    partial: bool,
    library: Arc<Library>,
    source: String,
}

fn of_script(callback: &'static str, error: &ScriptError) -> MatchError {
    let kind = match error.kind {
        ErrorKind::Error | ErrorKind::Depth => MatchErrorKind::Error,
        ErrorKind::Fuel => MatchErrorKind::Fuel,
        ErrorKind::Memory => MatchErrorKind::Memory,
        ErrorKind::Contract => MatchErrorKind::Contract,
    };
    let stack = if error.traceback.is_empty() { Vec::new() } else { vec![error.stack_line()] };
    MatchError { callback, kind, message: error.to_string(), stack, refusal: error.refusal.clone() }
}

fn presence(info: &PresenceInfo) -> host::Presence<'_> {
    host::Presence {
        session_id: info.session_id.0,
        user_id: &info.user_id,
        username: &info.username,
        index: info.index,
        reason: info.reason.as_deref(),
    }
}

impl LuaMatch {
    fn with<R>(&mut self, env: &mut Env<'_>, work: impl FnOnce(&mut Game, &mut dyn Host) -> R) -> R {
        let mut host = Live::new(env, &self.library, &self.source);
        work(&mut self.game, &mut host)
    }
}

impl Match for LuaMatch {
    fn join_attempt(
        &mut self,
        env: &mut Env<'_>,
        info: &PresenceInfo,
        metadata: &Json,
    ) -> Result<Admission, MatchError> {
        let metadata = Value::from_json(metadata);
        let answer = self.with(env, |game, host| game.join_attempt(host, presence(info), &metadata));
        match answer.map_err(|error| of_script("match_join_attempt", &error))? {
            Ok(()) => Ok(Admission::Yes),
            Err(reason) => Ok(Admission::No(reason)),
        }
    }

    fn tick(&mut self, env: &mut Env<'_>, batch: &Batch<'_>) -> TickOutcome {
        let mut outcome = TickOutcome::default();
        for event in batch.events {
            let (callback, result) = match event {
                RoomFact::Joined(infos) => {
                    let presences: Vec<host::Presence<'_>> =
                        infos.iter().map(|info| presence(info)).collect();
                    ("match_join", self.with(env, |game, host| game.join(host, &presences)))
                }
                RoomFact::Left(infos) => {
                    let presences: Vec<host::Presence<'_>> =
                        infos.iter().map(|info| presence(info)).collect();
                    ("match_leave", self.with(env, |game, host| game.leave(host, &presences)))
                }
            };
            if let Err(error) = result {
                let memory = error.kind == ErrorKind::Memory;
                outcome.errors.push(of_script(callback, &error));
                if memory {
                    return outcome;
                }
            }
        }
        let Some(tick) = batch.tick else { return outcome };
        if batch.skipped > 0
            && let Err(error) = self.game.set_skipped(batch.skipped)
        {
            outcome.errors.push(of_script("match_loop", &error));
            return outcome;
        }
        let number = tick.cast_signed();
        let messages: Vec<Message<'_>> =
            batch.messages.iter().map(|message| of_room(message, number)).collect();
        match self.with(env, |game, host| game.tick(host, tick, &messages)) {
            Ok(called) => outcome.ended = called.value == Left::Ended,
            Err(error) => outcome.errors.push(of_script("match_loop", &error)),
        }
        if batch.skipped > 0
            && let Err(error) = self.game.set_skipped(0)
        {
            outcome.errors.push(of_script("match_loop", &error));
        }
        self.game.vm().rest(tick);
        outcome
    }

    fn signal(&mut self, env: &mut Env<'_>, data: &Json) -> Result<Json, MatchError> {
        let data = Value::from_json(data);
        let answer = self.with(env, |game, host| game.signal(host, &data));
        let answer = answer.map_err(|error| of_script("match_signal", &error))?;
        answer.to_json().map_err(|unfit| MatchError {
            callback: "match_signal",
            kind: MatchErrorKind::Contract,
            message: format!("match_signal answered what JSON cannot hold: {unfit}"),
            stack: Vec::new(),
            refusal: None,
        })
    }

    fn terminate(&mut self, env: &mut Env<'_>, grace_s: u32) -> Result<(), MatchError> {
        self.with(env, |game, host| game.terminate(host, grace_s))
            .map_err(|error| of_script("match_terminate", &error))
    }

    fn set_label(&mut self, label: &Json) {
        // A machine without the memory for a label fails in its next callback, which says so.
        let _ = self.game.set_label(&Value::from_json(label));
    }

    fn hash(&mut self) -> u64 {
        let hash = self.game.hash();
        if !hash.complete && !self.partial {
            self.partial = true;
            let (source, values) = (&self.source, hash.values);
            tracing::warn!(
                source,
                "the state is too large for its hash, which covers {values} values: a difference behind them is not found"
            );
        }
        hash.hash
    }

    fn state(&mut self) -> Json {
        match self.game.state() {
            Ok(value) => value.to_json().unwrap_or_else(|unfit| Json::String(unfit.to_string())),
            Err(sentence) => Json::String(sentence),
        }
    }

    fn memory_bytes(&mut self) -> usize {
        self.game.vm().memory_bytes()
    }
}

fn of_room(message: &RoomMessage, tick: i64) -> Message<'_> {
    Message { sender: message.sender.as_deref().map(presence), op: message.op, data: &message.data, tick }
}
