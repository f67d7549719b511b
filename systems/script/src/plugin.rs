//! The plugin: reads the scripts' directory, ties it to the operation table, and gives the frame its scripts.

use std::path::Path;
use std::sync::Arc;

use kaos_kernel::event::{EventTable, Events};
use kaos_kernel::op::{Auth, OpTable};
use kaos_kernel::prelude::*;
use kaos_kernel::script::{RunRpc, ScriptHost};
use kaos_kernel::server::{BuildErrors, ScriptsHash};
use kaos_kernel::settings::Sections;
use kaos_kernel::spelling::nearest;

use crate::functions::functions;
use crate::library::{Diagnostic, Library, read_dir};
use crate::live::LiveScripts;
use crate::lua::{Limits, RegisterKind, Registered};
use crate::sources::Sources;
use crate::value::Value;
use crate::worker::Worker;

/// Scripts for a server. Built last, since `kaos.*` has a function for every operation of every plugin.
pub struct Scripts {
    sources: Result<Sources, Vec<Diagnostic>>,
}

/// Rpcs that run at a time, each on a virtual machine of its own. One that waits for an answer of the frame does not count:
/// that may take a frame or two, or as long as a plugin's slow job.
const RUNNING: usize = 2;

/// Threads for rpcs, those included whose rpc waits; each holds a machine with its memory. When the rpcs of all of them wait,
/// the queue waits, until the first answer or the first deadline: no rpc waits longer than `call.wait_ms` in all.
const THREADS_MAX: usize = 32;

/// What the workers of rpcs need, once the server is built.
#[derive(Clone)]
pub(crate) struct Scripting {
    pub(crate) library: Arc<Library>,
    pub(crate) ops: Arc<OpTable>,
    /// Of one request, with every rpc that it calls.
    pub(crate) fuel: i64,
    /// How long a request may wait for answers, in ms.
    pub(crate) wait_ms: u64,
    /// What scripts see of the settings.
    pub(crate) settings: Option<Value>,
    pub(crate) dev: bool,
}

impl Scripts {
    /// The scripts of a directory; one that is not there holds none.
    pub fn from_dir(dir: &Path) -> Self {
        Scripts { sources: read_dir(dir) }
    }

    /// Scripts that are in memory: tests, and games that carry their own.
    pub fn from_sources(sources: Sources) -> Self {
        Scripts { sources: Ok(sources) }
    }
}

impl Plugin for Scripts {
    fn build(&self, _: &mut App) {}

    fn finish(&self, app: &mut App) {
        let game = app.world().resource::<MatchSettings>().clone();
        let call = app.world().resource::<CallSettings>().clone();
        let dev = app.world().resource::<NodeSettings>().dev;
        let settings = shown_settings(app.world());
        let ops = app.world().ops();
        let events = app.world().resource::<Events>().0.clone();
        let functions = functions(&ops);
        let limits = Limits { memory_bytes: game.memory_bytes, load_fuel: game.fuel_init, fuel: game.fuel };
        let loaded = self.sources.clone().and_then(|sources| Library::load(sources, functions, limits));
        let loaded = loaded.and_then(|library| {
            // The files run once more without the matches: what rpcs and hooks will find.
            let (vm, _) =
                library.service_vm(library.hash, &mut Vec::new()).map_err(|error| vec![error.into()])?;
            let rows = vm.registered();
            let wrong = idle_hooks(&rows, &ops, &events);
            if !wrong.is_empty() {
                return Err(wrong);
            }
            Ok((rows.into_iter().map(|row| (row.kind, row.name)).collect::<Vec<_>>(), Arc::new(library)))
        });
        match loaded {
            Ok((registered, library)) => {
                let live = LiveScripts::new(
                    library.clone(),
                    &registered,
                    game.fuel,
                    call.wait_ms,
                    settings.clone(),
                    dev,
                );
                app.insert_resource(ScriptsHash(library.hash)).insert_non_send(ScriptHost(Box::new(live)));
                let (fuel, wait_ms) = (call.fuel, call.wait_ms);
                run_rpcs(app, Scripting { library, ops, fuel, wait_ms, settings, dev });
            }
            Err(wrong) => {
                let sentences = wrong.iter().map(ToString::to_string);
                app.world_mut().resource_mut::<BuildErrors>().0.extend(sentences);
            }
        }
    }
}

/// What scripts see of the settings, as `ctx.settings`; `None`: there is nothing to be seen.
fn shown_settings(world: &World) -> Option<Value> {
    let shown = world.resource::<Sections>().shown_to_scripts(world.resource::<Settings>());
    shown.as_ref().map(Value::from_json)
}

/// Registers rpcs as jobs.
fn run_rpcs(app: &mut App, scripting: Scripting) {
    let make = move |seed| {
        let mut worker = Worker::new(&scripting, seed);
        worker.warm();
        Ok(worker)
    };
    app.pool(Pool::new(RunRpc::POOL).threads(THREADS_MAX).running(RUNNING)).job_with(
        make,
        |worker: &mut Worker, rpc: RunRpc, cx: &mut JobContext<'_>| worker.run(&rpc, cx),
        Worker::warm,
    );
}

/// Hooks that would never run: no operation or event has their name, or only scripts call the operation.
fn idle_hooks(rows: &[Registered], ops: &OpTable, events: &EventTable) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| row.kind != RegisterKind::Rpc) {
        let (kind, name) = (row.kind.name(), &row.name);
        let op = ops.rows().iter().find(|op| op.op.script_name() == *name);
        let is_event = events.rows().iter().any(|event| event.event.script_name() == *name);
        let sentence = match op {
            Some(op) if op.op.auth == Auth::Server => {
                "only scripts call that operation, and their calls pass no hooks".to_owned()
            }
            Some(_) => continue,
            None if is_event && row.kind == RegisterKind::After => continue,
            None if is_event => {
                "that is an event, which nobody asks for: hook it with `kaos.register_after`".to_owned()
            }
            None => no_such(name, ops, events),
        };
        wrong.push(row.diagnostic(format!("a script registers a hook {kind} `{name}`, and {sentence}")));
    }
    wrong
}

fn no_such(name: &str, ops: &OpTable, events: &EventTable) -> String {
    let called = ops.rows().iter().filter(|row| row.op.auth != Auth::Server);
    let names = called.map(|row| row.op.script_name());
    let near = nearest(name, names.chain(events.rows().iter().map(|row| row.event.script_name())));
    format!("no operation or event has that name{near}")
}
