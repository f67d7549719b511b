//! `ctx`: what every callback, hook and rpc is told first, put together here and nowhere else.

use std::collections::BTreeMap;

use kaos_kernel::prelude::*;
use kaos_kernel::script::{HookContext, RpcContext};
use kaos_kernel::settings::Sections;

use crate::contract::MatchInit;
use crate::error::ScriptError;
use crate::runtime::MatchMachine;
use crate::value::Value;

/// What `ctx` shows that is the same for all scripts of a server.
#[derive(Clone, Debug)]
pub(crate) struct ScriptContext {
    /// How long a call may wait for its answer, in ms: for `ctx.deadline`.
    wait_ms: u64,
    /// `ctx.settings`: what scripts see of the settings; `None`: there is nothing to be seen.
    settings: Option<Value>,
}

/// The call that a hook or an rpc runs for.
pub(crate) struct CallContext<'a> {
    session_id: Option<SessionId>,
    user_id: &'a str,
    username: &'a str,
    vars: Option<&'a BTreeMap<String, String>>,
    now_ms: u64,
    node: &'a str,
}

impl<'a> CallContext<'a> {
    /// Of a hook.
    pub(crate) fn hook(world: &'a World, context: &'a HookContext) -> Self {
        let HookContext { session_id, user_id, username, now_ms, node } = context;
        let session = session_id.and_then(|id| world.of_session::<Session>(id));
        let vars = session.map(|session| &session.vars);
        CallContext { session_id: *session_id, user_id, username, vars, now_ms: *now_ms, node }
    }

    /// Of an rpc.
    pub(crate) fn rpc(context: &'a RpcContext) -> Self {
        let RpcContext { session_id, user_id, username, vars, now_ms, node, seed: _ } = context;
        CallContext { session_id: *session_id, user_id, username, vars: Some(vars), now_ms: *now_ms, node }
    }
}

impl ScriptContext {
    /// From what the server was built with.
    pub(crate) fn of(world: &World) -> Self {
        let shown = world.resource::<Sections>().shown_to_scripts(world.resource::<Settings>());
        let settings = shown.as_ref().map(Value::from_json);
        ScriptContext { wait_ms: world.resource::<CallSettings>().wait_ms, settings }
    }

    /// Of a match. The runtime adds `now`, and [`show_init`] what the match says of itself.
    pub(crate) fn of_match(&self, room_id: &str, module: &str, node: &str) -> Value {
        let fields = [("room_id", room_id), ("module", module), ("node", node)];
        self.with_settings(fields.map(|(name, text)| (name, Value::text(text))).into())
    }

    /// Of a hook or an rpc.
    pub(crate) fn of_call(&self, call: &CallContext<'_>) -> Value {
        let vars = call.vars.into_iter().flatten();
        let vars = vars.map(|(name, value)| (name.clone(), Value::text(value)));
        let mut fields = vec![
            ("user_id", Value::text(call.user_id)),
            ("username", Value::text(call.username)),
            ("vars", Value::map(vars)),
            ("now", ms(call.now_ms)),
            ("deadline", ms(call.now_ms.saturating_add(self.wait_ms))),
            ("node", Value::text(call.node)),
        ];
        fields.extend(call.session_id.map(|id| ("session_id", Value::text(id.to_string()))));
        self.with_settings(fields)
    }

    fn with_settings(&self, mut fields: Vec<(&'static str, Value)>) -> Value {
        fields.extend(self.settings.clone().map(|settings| ("settings", settings)));
        Value::map(fields)
    }
}

/// Shows a match what its `match_init` gave: `ctx.tick_rate` and `ctx.label`, and `ctx.skipped`.
///
/// # Errors
/// The machine is out of memory.
pub fn show_init(machine: &mut dyn MatchMachine, init: &MatchInit) -> Result<(), ScriptError> {
    machine.set_ctx("tick_rate", &Value::Int(init.tick_rate.into()))?;
    show_label(machine, &init.label)?;
    show_skipped(machine, 0)
}

/// Shows a match its label: `ctx.label`.
///
/// # Errors
/// The machine is out of memory.
pub(crate) fn show_label(machine: &mut dyn MatchMachine, label: &Value) -> Result<(), ScriptError> {
    machine.set_ctx("label", label)
}

/// Shows a match how many ticks were left out before the one that comes: `ctx.skipped`.
///
/// # Errors
/// The machine is out of memory.
pub(crate) fn show_skipped(machine: &mut dyn MatchMachine, ticks: u64) -> Result<(), ScriptError> {
    machine.set_ctx("skipped", &Value::Int(ticks.cast_signed()))
}

/// Milliseconds as scripts see them.
fn ms(ms: u64) -> Value {
    Value::Int(i64::try_from(ms).unwrap_or(i64::MAX))
}
