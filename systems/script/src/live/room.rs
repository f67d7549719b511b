//! A match of any language, in its room.

use std::sync::Arc;

use kaos_kernel::prelude::*;
use kaos_kernel::room::{RoomFact, RoomMessage};
use kaos_kernel::script::{
    Admission, Batch, Env, Match, MatchError, MatchErrorKind, MatchSeed, OpenedMatch, TickOutcome,
};
use serde_json::Value as Json;

use super::host::FrameHost;
use crate::context::{ScriptContext, show_init, show_label, show_skipped};
use crate::contract::{Callback, Left};
use crate::error::{ErrorKind, ScriptError};
use crate::host::{self, Message};
use crate::library::Library;
use crate::runtime::{MatchMachine, Opening};
use crate::value::{Unfit, Value};

/// Opens the match of a module.
///
/// # Errors
/// There is no such module, or its `match_init` failed or broke the contract.
pub(super) fn open(
    library: &Arc<Library>,
    context: &ScriptContext,
    env: &mut Env<'_>,
    module: &str,
    room: MatchSeed,
    params: &Json,
) -> Result<OpenedMatch, MatchError> {
    let path = library.matches.get(module).ok_or_else(|| {
        let message = format!("there is no match module `{module}`");
        MatchError::new(Callback::Init.name(), MatchErrorKind::NoModule, message)
    })?;
    let failed = |error: ScriptError| of_script(library, Callback::Init, &error);
    let node = env.world.resource::<NodeSettings>().node.clone();
    let ctx = context.of_match(&room.room.to_string(), module, &node);
    let params = Value::from_json(params);
    let opening = Opening { seed: room.seed, path, ctx: &ctx, params: &params };
    let source = format!("room {}", room.room);
    let mut host = FrameHost::new(env, library, &source);
    let (mut machine, init) = library.open(&opening, &mut host).map_err(failed)?;
    show_init(&mut *machine, &init).map_err(failed)?;
    let label =
        init.label.to_json().map_err(|unfit| no_json(Callback::Init, "returned a label that", &unfit))?;
    let game = ScriptMatch { machine, partial: false, library: library.clone(), source };
    let (tick_rate, max_players) = (init.tick_rate, init.max_players);
    Ok(OpenedMatch { game: Box::new(game), tick_rate, label, max_players })
}

/// A match on its machine.
struct ScriptMatch {
    machine: Box<dyn MatchMachine>,
    /// Its hash covers a part of the state, and that was said.
    partial: bool,
    library: Arc<Library>,
    source: String,
}

/// A callback that failed.
fn of_script(library: &Library, callback: Callback, error: &ScriptError) -> MatchError {
    let kind = match error.kind {
        ErrorKind::Error | ErrorKind::Depth => MatchErrorKind::Error,
        ErrorKind::Fuel => MatchErrorKind::Fuel,
        ErrorKind::Memory => MatchErrorKind::Memory,
        ErrorKind::Contract => MatchErrorKind::Contract,
    };
    MatchError {
        // A file alone is no place: what its callbacks do is told apart.
        place: if error.line == 0 { Box::default() } else { error.place().into() },
        stack: if error.traceback.is_empty() { Vec::new() } else { vec![error.stack_line()] },
        refusal: error.refusal.as_ref().and_then(|refusal| library.functions.told(refusal)),
        ..MatchError::new(callback.name(), kind, error.to_string())
    }
}

/// A callback that gave what JSON has no text for.
fn no_json(callback: Callback, what: &str, unfit: &Unfit) -> MatchError {
    let message = format!("{} {what} JSON cannot hold: {unfit}", callback.name());
    MatchError::new(callback.name(), MatchErrorKind::Contract, message)
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

fn presences(infos: &[Arc<PresenceInfo>]) -> Vec<host::Presence<'_>> {
    infos.iter().map(|info| presence(info)).collect()
}

fn message(message: &RoomMessage, tick: i64) -> Message<'_> {
    Message { sender: message.sender.as_deref().map(presence), op: message.op, data: &message.data, tick }
}

impl ScriptMatch {
    /// Runs a callback on the machine, with a host of its own.
    fn run<R>(
        &mut self,
        env: &mut Env<'_>,
        callback: Callback,
        work: impl FnOnce(&mut dyn MatchMachine, &mut FrameHost<'_, '_>) -> Result<R, ScriptError>,
    ) -> Result<R, MatchError> {
        let mut host = FrameHost::new(env, &self.library, &self.source);
        work(&mut *self.machine, &mut host).map_err(|error| of_script(&self.library, callback, &error))
    }

    /// Tells of a join or a leave.
    fn tell(&mut self, env: &mut Env<'_>, event: &RoomFact) -> Result<(), MatchError> {
        match event {
            RoomFact::Joined(infos) => {
                let joined = presences(infos);
                self.run(env, Callback::Join, |machine, host| machine.join(host, &joined))
            }
            RoomFact::Left(infos) => {
                let left = presences(infos);
                self.run(env, Callback::Leave, |machine, host| machine.leave(host, &left))
            }
        }
    }

    /// Shows how many ticks were left out before this one.
    fn skipped(&mut self, ticks: u64) -> Result<(), MatchError> {
        let shown = show_skipped(&mut *self.machine, ticks);
        shown.map_err(|error| of_script(&self.library, Callback::Loop, &error))
    }
}

impl Match for ScriptMatch {
    fn join_attempt(
        &mut self,
        env: &mut Env<'_>,
        info: &PresenceInfo,
        metadata: &Json,
    ) -> Result<Admission, MatchError> {
        let metadata = Value::from_json(metadata);
        let answer = self.run(env, Callback::JoinAttempt, |machine, host| {
            machine.join_attempt(host, presence(info), &metadata)
        })?;
        Ok(answer.map_or_else(Admission::No, |()| Admission::Yes))
    }

    fn tick(&mut self, env: &mut Env<'_>, batch: &Batch<'_>) -> TickOutcome {
        let mut outcome = TickOutcome::default();
        for event in batch.events {
            if let Err(error) = self.tell(env, event) {
                let memory = error.kind == MatchErrorKind::Memory;
                outcome.errors.push(error);
                if memory {
                    return outcome;
                }
            }
        }
        let Some(tick) = batch.tick else { return outcome };
        if batch.skipped > 0
            && let Err(error) = self.skipped(batch.skipped)
        {
            outcome.errors.push(error);
            return outcome;
        }
        let number = tick.cast_signed();
        let messages: Vec<Message<'_>> =
            batch.messages.iter().map(|received| message(received, number)).collect();
        match self.run(env, Callback::Loop, |machine, host| machine.tick(host, tick, &messages)) {
            Ok(left) => outcome.ended = left == Left::Ended,
            Err(error) => outcome.errors.push(error),
        }
        if batch.skipped > 0
            && let Err(error) = self.skipped(0)
        {
            outcome.errors.push(error);
        }
        self.machine.rest(tick);
        outcome
    }

    fn signal(&mut self, env: &mut Env<'_>, data: &Json) -> Result<Json, MatchError> {
        let data = Value::from_json(data);
        let answer = self.run(env, Callback::Signal, |machine, host| machine.signal(host, &data))?;
        answer.to_json().map_err(|unfit| no_json(Callback::Signal, "answered what", &unfit))
    }

    fn terminate(&mut self, env: &mut Env<'_>, grace_s: u32) -> Result<(), MatchError> {
        self.run(env, Callback::Terminate, |machine, host| machine.terminate(host, grace_s))
    }

    fn set_label(&mut self, label: &Json) {
        // A machine without the memory for a label fails in its next callback, which says so.
        let _ = show_label(&mut *self.machine, &Value::from_json(label));
    }

    fn hash(&mut self) -> u64 {
        let hash = self.machine.hash();
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
        match self.machine.state() {
            Ok(value) => value.to_json().unwrap_or_else(|unfit| Json::String(unfit.to_string())),
            Err(sentence) => Json::String(sentence),
        }
    }

    fn memory_bytes(&mut self) -> usize {
        self.machine.memory_bytes()
    }
}
