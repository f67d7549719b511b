//! `Core::Hooks`: before-hooks of the calls of this frame. After-hooks run at the head of Flush.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_ecs::prelude::*;

use crate::call::calls::{Calls, Finished, ReplyTo, Routed};
use crate::call::hooked::{AfterHooks, BeforeHooks};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::input::Identity;
use crate::op::{Caller, OpTable};
use crate::output::{FrameOutputs, Level, Log};
use crate::script::{Env, HookContext, ScriptEffects, ScriptHost};
use crate::send::{Asked, EventHooks, HOOKED_MAX, HookedEvent};
use crate::settings::NodeSettings;
use crate::world::WorldExt;

/// The dice of the hooks' virtual machine.
#[derive(Resource)]
pub(crate) struct HookDice(pub(crate) Dice);

/// The whole of `Core::Hooks`.
pub(crate) fn before(world: &mut World) {
    let hooked = !world.resource::<BeforeHooks>().0.is_empty()
        && world.get_non_send::<Calls>().is_some_and(|calls| !calls.routed.is_empty());
    if !hooked {
        return;
    }
    let Some(mut host) = world.remove_non_send::<ScriptHost>() else { return };
    let Some(mut calls) = world.remove_non_send::<Calls>() else {
        world.insert_non_send(host);
        return;
    };
    let ops = world.ops();
    let routed = std::mem::take(&mut calls.routed);
    for call in routed {
        // Calls of scripts run no hooks: a hook that calls what it hooks would never end.
        let skips_hooks = call.caller.is_server() || !world.resource::<BeforeHooks>().0.contains(&call.op);
        if skips_hooks {
            calls.routed.push(call);
            continue;
        }
        let Routed { op, caller, request, reply_to } = call;
        let request = match (request, ops.get(op)) {
            (Ok(request), Some(row)) => {
                let context = context(world, &caller);
                let (request, effects) =
                    with_env(world, &ops, |env| host.0.before(env, row, &context, request));
                apply(world, &mut calls, effects);
                request.unwrap_or_else(|| Err(Fault::internal("the hook's runtime has a defect")))
            }
            (request, _) => request,
        };
        calls.routed.push(Routed { op, caller, request, reply_to });
    }
    world.insert_non_send(calls);
    world.insert_non_send(host);
}

/// Runs the after-hooks of what finished. Called by Flush.
pub(crate) fn after(world: &mut World, calls: &mut Calls, finished: &[Finished]) {
    let hooks = world.resource::<AfterHooks>();
    if hooks.0.is_empty() || !finished.iter().any(|call| hooks.0.contains(&call.op)) {
        return;
    }
    let Some(mut host) = world.remove_non_send::<ScriptHost>() else { return };
    let ops = world.ops();
    for call in finished {
        let hooked = !call.caller.is_server() && world.resource::<AfterHooks>().0.contains(&call.op);
        if let (true, Some(request), Some(row)) = (hooked, &call.request, ops.get(call.op)) {
            let context = context(world, &call.caller);
            let result = call.result.as_deref();
            let (_, effects) = with_env(world, &ops, |env| host.0.after(env, row, &context, request, result));
            apply(world, calls, effects);
        }
    }
    world.insert_non_send(host);
}

/// Runs the hooks for this frame's events. Their commands run in the next frame. Called by Flush.
pub(crate) fn heard(world: &mut World) {
    if world.resource::<EventHooks>().is_empty() {
        return;
    }
    let (events, left_out) = world.resource_mut::<EventHooks>().take();
    let Some(mut host) = world.remove_non_send::<ScriptHost>() else { return };
    let ops = world.ops();
    for HookedEvent { row, to, body } in events {
        let context = context(world, &Caller::Server);
        let (_, effects) = with_env(world, &ops, |env| host.0.heard(env, &row, &context, &to, &body));
        let has_commands = !effects.commands.is_empty();
        world.non_send_scope::<Calls, _>(|world, calls| apply(world, calls, effects));
        if has_commands {
            let clock = world.resource::<Clock>();
            clock.wake_at(clock.frame() + 1);
        }
    }
    world.insert_non_send(host);
    if left_out > 0 {
        let text = format!(
            "{left_out} further events of this frame ran no hooks: one frame runs them for at most {HOOKED_MAX}"
        );
        let log = Log { level: Level::Warn, source: "hooks".to_owned(), text };
        world.resource_mut::<FrameOutputs>().0.logs.push(log);
    }
}

/// Runs `work` with an [`Env`] that has the server's rights, because what hooks may do is up to their author. `None`
/// when the runtime panicked.
fn with_env<R>(
    world: &mut World,
    ops: &OpTable,
    work: impl FnOnce(&mut Env<'_>) -> R,
) -> (Option<R>, ScriptEffects) {
    // Taken out and put back: the environment borrows the whole world.
    let mut dice = world.resource::<HookDice>().0.clone();
    let mut env = Env::new(world, ops, Caller::Server, &mut dice);
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut env))).ok();
    if result.is_none() {
        tracing::error!("a hook's runtime panicked: the server goes on");
    }
    let effects = env.finish();
    world.resource_mut::<HookDice>().0 = dice;
    (result, effects)
}

/// A hook's `ctx` for a caller.
fn context(world: &World, caller: &Caller) -> HookContext {
    let Identity { user_id, username, .. } = caller.identity(world).cloned().unwrap_or_default();
    HookContext {
        session_id: caller.session(),
        user_id,
        username,
        now_ms: world.resource::<Clock>().now_ms(),
        node: world.resource::<NodeSettings>().node.clone(),
    }
}

/// Does what a script requested: its commands become calls, its broadcasts wait for the rooms.
pub(crate) fn apply(world: &mut World, calls: &mut Calls, effects: ScriptEffects) {
    let ScriptEffects { caller, commands, broadcasts, logs } = effects;
    for command in commands {
        let (op, request) = (command.op, Ok(command.request));
        calls.routed.push(Routed { op, caller: caller.clone(), request, reply_to: ReplyTo::Log });
    }
    world.resource_mut::<FrameOutputs>().0.logs.extend(logs);
    if !broadcasts.is_empty() {
        world.resource_mut::<Asked>().broadcasts.add(&format!("{caller:?}"), broadcasts);
    }
}

/// For kaos-rooms: does what matches requested, in the order of rooms. Commands are applied at once. Must not be called
/// inside of an operation's handler: while calls run, none can be added.
pub fn apply_effects(world: &mut World, effects: Vec<ScriptEffects>) {
    let any = effects.iter().any(|effects| !effects.commands.is_empty());
    let Some(mut calls) = world.remove_non_send::<Calls>() else {
        tracing::error!(
            effects = effects.len(),
            "`apply_effects` was called inside of an operation's handler: the effects are lost"
        );
        return;
    };
    for effects in effects {
        apply(world, &mut calls, effects);
    }
    world.insert_non_send(calls);
    if any {
        crate::stages::serve::run_calls(world);
    }
}
