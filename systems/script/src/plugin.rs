//! The plugin: reads the scripts' directory, ties it to the operation table, and gives the frame its scripts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaos_kernel::event::{EventTable, Events};
use kaos_kernel::op::{Auth, OpTable};
use kaos_kernel::prelude::*;
use kaos_kernel::script::{RunRpc, ScriptHost};
use kaos_kernel::server::{BuildErrors, ScriptsHash};
use kaos_kernel::spelling::nearest;

use crate::context::ScriptContext;
use crate::directory::read_dir;
use crate::functions::{Functions, ScriptFunction, ScriptModule, register, register_module};
use crate::library::Library;
use crate::live::FrameScripts;
use crate::lua::Lua;
use crate::runtime::{Limits, RegisterKind, Registered, Runtime, Runtimes};
use crate::sources::{Diagnostic, Sources};
use crate::worker::{Scripting, Worker};

/// What a feature says to the app for scripts. Each registers until the scripts are loaded, which is when every plugin is
/// built.
pub trait ScriptApp {
    /// Registers a function that scripts of every language call. Operations become functions by themselves.
    fn script_function(&mut self, function: ScriptFunction) -> &mut Self;

    /// Registers what a module of functions says of itself.
    fn script_module(&mut self, module: ScriptModule) -> &mut Self;

    /// Registers a language that scripts are written in, beside Lua.
    fn script_runtime(&mut self, runtime: impl Runtime) -> &mut Self;
}

impl ScriptApp for App {
    fn script_function(&mut self, function: ScriptFunction) -> &mut Self {
        register(self, function);
        self
    }

    fn script_module(&mut self, module: ScriptModule) -> &mut Self {
        register_module(self, module);
        self
    }

    fn script_runtime(&mut self, runtime: impl Runtime) -> &mut Self {
        self.init_resource::<Runtimes>().init_resource::<BuildErrors>();
        let world = self.world_mut();
        if let Err(sentence) = world.resource_mut::<Runtimes>().add(Arc::new(runtime)) {
            world.resource_mut::<BuildErrors>().0.push(sentence);
        }
        self
    }
}

/// Scripts for a server. Built last, since scripts have a function for every operation of every plugin.
pub struct Scripts {
    files: Files,
}

/// Where the files are.
enum Files {
    Dir(PathBuf),
    Memory(Sources),
}

/// Rpcs that run at a time, each on a virtual machine of its own. One that waits for an answer of the frame does not count:
/// that may take a frame or two, or as long as a plugin's slow job.
const RUNNING: usize = 2;

/// Threads for rpcs, those included whose rpc waits; each holds a machine with its memory. When the rpcs of all of them wait,
/// the queue waits, until the first answer or the first deadline: no rpc waits longer than `call.wait_ms` in all.
const THREADS_MAX: usize = 32;

impl Scripts {
    /// The scripts of a directory, which is read when the server is built; one that is not there holds none.
    pub fn from_dir(dir: &Path) -> Self {
        Scripts { files: Files::Dir(dir.to_owned()) }
    }

    /// Scripts that are in memory: tests, and games that carry their own.
    pub fn from_sources(sources: Sources) -> Self {
        Scripts { files: Files::Memory(sources) }
    }

    fn load(&self, world: &mut World) -> Result<Library, Vec<Diagnostic>> {
        let runtimes = world.resource::<Runtimes>().clone();
        let ops = world.ops();
        let functions = Functions::of(world, ops.clone());
        let sources = match &self.files {
            Files::Dir(dir) => read_dir(dir, &runtimes)?,
            Files::Memory(sources) => sources.clone(),
        };
        let game = world.resource::<MatchSettings>();
        let limits = Limits { memory_bytes: game.memory_bytes, load_fuel: game.fuel_init, fuel: game.fuel };
        let library = Library::load(sources, runtimes, functions, limits)?;
        let events = world.resource::<Events>().0.clone();
        let wrong = idle_hooks(library.registered.iter().map(|(row, _)| row), &ops, &events);
        if wrong.is_empty() { Ok(library) } else { Err(wrong) }
    }
}

impl Plugin for Scripts {
    fn build(&self, app: &mut App) {
        app.script_runtime(Lua);
    }

    fn finish(&self, app: &mut App) {
        let library = match self.load(app.world_mut()) {
            Ok(library) => Arc::new(library),
            Err(wrong) => {
                let sentences = wrong.iter().map(ToString::to_string);
                app.world_mut().resource_mut::<BuildErrors>().0.extend(sentences);
                return;
            }
        };
        let world = app.world();
        let context = ScriptContext::of(world);
        let (fuel, hook_fuel) =
            (world.resource::<CallSettings>().fuel, world.resource::<MatchSettings>().fuel);
        let dev = world.resource::<NodeSettings>().dev;
        let live = FrameScripts::new(library.clone(), context.clone(), hook_fuel, dev);
        app.insert_resource(ScriptsHash(library.hash)).insert_non_send(ScriptHost(Box::new(live)));
        run_rpcs(app, Scripting { library, fuel, context, dev });
    }
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
fn idle_hooks<'a>(
    rows: impl Iterator<Item = &'a Registered>,
    ops: &OpTable,
    events: &EventTable,
) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for row in rows.filter(|row| row.kind != RegisterKind::Rpc) {
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
