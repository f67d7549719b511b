//! Scripts inside the frame: matches and live hooks, reading the world as it stands and ordering what comes after.
//!
//! `host` is what a script reaches there, `room` a match.

mod host;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::event::EventRow;
use kaos_kernel::op::{OpRow, Payload};
use kaos_kernel::prelude::*;
use kaos_kernel::script::{Env, HookContext, MatchError, MatchSeed, OpenedMatch, Scripts, Summary};
use serde_json::Value as Json;

use self::host::{FrameHost, to_value};
use crate::context::{CallContext, ScriptContext};
use crate::error::{ErrorKind, ScriptError};
use crate::library::Library;
use crate::runtime::{RegisterKind, RuntimeId, ServiceMachine};
use crate::value::Value;

/// All scripts of the frame thread: the machines of the live hooks, and what opens matches.
pub(crate) struct FrameScripts {
    library: Arc<Library>,
    /// By runtime, each made with the first hook that runs on it, when the dice are known that its seed comes from.
    hooks: BTreeMap<RuntimeId, HookMachine>,
    summary: Summary,
    hook_fuel: i64,
    context: ScriptContext,
    dev: bool,
}

/// Hooks after which their machine's garbage is collected: some 50 µs for a small machine, so 10 µs a hook,
/// and never more garbage than so many calls leave.
const HOOKS_A_REST: u64 = 4;

struct HookMachine {
    machine: Box<dyn ServiceMachine>,
    /// Hooks that ran, for the garbage rule.
    ran: u64,
    /// Out of memory: it is thrown away, and the next hook gets a new one.
    spent: bool,
}

impl FrameScripts {
    pub(crate) fn new(library: Arc<Library>, context: ScriptContext, hook_fuel: i64, dev: bool) -> Self {
        let names = |kind| library.names(kind).map(str::to_owned).collect();
        let summary = Summary {
            modules: library.files().map(str::to_owned).collect(),
            matches: library.matches.keys().cloned().collect(),
            rpcs: names(RegisterKind::Rpc),
            before: names(RegisterKind::Before),
            after: names(RegisterKind::After),
        };
        FrameScripts { library, hooks: BTreeMap::new(), summary, hook_fuel, context, dev }
    }

    /// Calls a hook; `None`: there is none of that name.
    fn hook(
        &mut self,
        env: &mut Env<'_>,
        kind: RegisterKind,
        name: &str,
        arguments: &[Value],
    ) -> Option<Result<Vec<Value>, ScriptError>> {
        let runtime = self.library.runtime_of(kind, name)?;
        if self.hooks.get(&runtime).is_none_or(|hooks| hooks.spent) {
            match self.library.services(runtime, env.dice.roll()) {
                Ok((machine, _)) => {
                    self.hooks.insert(runtime, HookMachine { machine, ran: 0, spent: false });
                }
                Err(error) => return Some(Err(error)),
            }
        }
        let hooks = self.hooks.get_mut(&runtime)?;
        let mut host = FrameHost::new(env, &self.library, "hooks");
        let called = hooks.machine.call(&mut host, (kind, name), arguments, self.hook_fuel)?;
        hooks.ran += 1;
        if hooks.ran.is_multiple_of(HOOKS_A_REST) {
            hooks.machine.collect();
        }
        hooks.spent = matches!(&called, Err(error) if error.kind == ErrorKind::Memory);
        Some(called.map(|called| called.value))
    }

    /// `ctx` of a hook.
    fn ctx(&self, env: &Env<'_>, context: &HookContext) -> Value {
        self.context.of_call(&CallContext::hook(env.world, context))
    }

    /// What a before-hook returned: the request, changed or not, or a refusal.
    fn changed(
        env: &mut Env<'_>,
        op: &OpRow,
        name: &str,
        returned: Vec<Value>,
    ) -> Result<Box<dyn Payload>, Fault> {
        let mut returned = returned.into_iter();
        let request = returned.next().unwrap_or_default();
        if request == Value::Nil {
            let reason = returned.next().and_then(|reason| reason.as_str().map(str::to_owned));
            let reason = reason.unwrap_or_else(|| format!("a hook of the game refused {}", op.op.name));
            return Err(Fault::new(FaultKind::Refused, reason));
        }
        let parsed = op
            .check(&request)
            .and_then(|()| op.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(request)));
        parsed.map_err(|fault| {
            let text =
                format!("the hook before {name} returned a request that does not fit: {}", fault.message);
            env.log(Level::Error, "hooks", text);
            FaultKind::Script.into()
        })
    }

    /// What whoever called is told of a before-hook that raised.
    fn raised(&self, env: &mut Env<'_>, name: &str, error: &ScriptError) -> Fault {
        let told = error.refusal.as_ref().and_then(|refusal| self.library.functions.told(refusal));
        told.unwrap_or_else(|| {
            failed(env, name, error, "the request was refused");
            if self.dev { Fault::new(FaultKind::Script, error.to_string()) } else { FaultKind::Script.into() }
        })
    }
}

fn failed(env: &mut Env<'_>, name: &str, error: &ScriptError, consequence: &str) {
    let text = format!("{error}\n  in the hook {name}\n  {}\n  {consequence}", error.stack_line());
    env.log(Level::Error, "hooks", text);
}

impl Scripts for FrameScripts {
    fn summary(&self) -> Summary {
        self.summary.clone()
    }

    fn open(
        &mut self,
        env: &mut Env<'_>,
        module: &str,
        room: MatchSeed,
        params: &Json,
    ) -> Result<OpenedMatch, MatchError> {
        room::open(&self.library, &self.context, env, module, room, params)
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
        let arguments = [self.ctx(env, ctx), message];
        match self.hook(env, RegisterKind::Before, &name, &arguments) {
            None => Ok(request),
            Some(Ok(returned)) => Self::changed(env, op, &name, returned),
            Some(Err(error)) => Err(self.raised(env, &name, &error)),
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
        let arguments = [self.ctx(env, ctx), Value::from_json(request), reply];
        if let Some(Err(error)) = self.hook(env, RegisterKind::After, &name, &arguments) {
            failed(env, &name, &error, "what it follows has happened all the same");
        }
    }

    fn heard(&mut self, env: &mut Env<'_>, event: &EventRow, ctx: &HookContext, to: &Target, body: &Json) {
        let name = event.event.script_name();
        // In the shape in which `kaos.event_push` takes it.
        let to = Value::from_json(&serde_json::to_value(to).unwrap_or_default());
        let arguments = [self.ctx(env, ctx), Value::from_json(body), to];
        if let Some(Err(error)) = self.hook(env, RegisterKind::After, &name, &arguments) {
            failed(env, &name, &error, "the event was sent all the same");
        }
    }

    fn hash(&mut self) -> u64 {
        let hashes = self.hooks.values_mut().map(|hooks| hooks.machine.hash().hash);
        hashes.fold(0, |all, hash| all.rotate_left(1) ^ hash)
    }
}
