//! The server as a state machine: built once, then `frame(n, inputs) -> outputs`.

use std::collections::{BTreeMap, BTreeSet};

use bevy_app::App;
use bevy_ecs::prelude::*;

use crate::burst::CapacityWindow;
use crate::call::CallSettings;
use crate::call::calls::Calls;
use crate::call::handler::Handlers;
use crate::call::hooked::{AfterHooks, BeforeHooks};
use crate::call::job::Jobs;
use crate::clock::{Clock, Quantum};
use crate::dice::{Dice, ServerDice};
use crate::event::Events;
use crate::failures::Failures;
use crate::frame::{Frame, add_core, explain, listing, schedule, strays};
use crate::hash::{StateHashers, hash_outputs, hash_state};
use crate::input::Input;
use crate::journal::{Header, Journal, Record};
use crate::limit::{Addresses, LimitSettings};
use crate::op::{OpId, OpTable, Ops};
use crate::output::{FrameOutputs, Outputs};
use crate::room::presence::Presence;
use crate::room::{ReadyRooms, RoomSettings, RoomStuck};
use crate::script::{MatchSettings, RpcIds, ScriptHost, Summary};
use crate::send::{Asked, EventHooks, Outbox, Targets};
use crate::session::deadline::Deadlines;
use crate::session::resend::DirtySessions;
use crate::session::{ConnectionChanged, PeerIndex, SessionEnding, SessionSettings, SessionStarted};
use crate::settings::{self, NodeSettings, Sections, Settings};
use crate::spelling::nearest;
use crate::stages::hooks::HookDice;
use crate::stages::ingest::FrameInputs;
use crate::stopping::ServerStopping;
use crate::strict::who_broke_quiet;
use crate::world::{RoomIndex, SessionIndex, WorldExt};
use crate::{facts, failures};

/// What a server is built with beside its plugins.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// The settings that were set; all others have their defaults.
    pub settings: Settings,
    /// The length of a frame.
    pub quantum: Quantum,
    /// Bytes of the journal that are kept in memory. 0, the default, keeps none, so nothing can be replayed from
    /// memory.
    pub journal_bytes_max: usize,
    /// Finds in every quiet frame which systems changed something. For tests: it costs 100 µs per frame at 10,000
    /// sessions.
    pub strict: bool,
}

/// Why a server cannot be built: a sentence for each reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BuildError(pub Vec<String>);

/// What plugins found wrong while they were built. The server does not start if there is any sentence.
#[derive(Resource, Default)]
pub struct BuildErrors(pub Vec<String>);

/// The whole server. It reads no clock, no socket and no randomness of its own.
pub struct Server {
    world: World,
    schedule: Schedule,
    header: Header,
    journal: Journal,
    strict: bool,
    /// The last frame that ran.
    frame: Option<u64>,
    /// The frame under way, if the journal does not have it: one without input that ran exactly when it was due.
    unwritten: Option<u64>,
    /// The next frame that something requested.
    due: Option<u64>,
    /// Of all outputs so far.
    outputs_hash: u64,
    /// What strict mode found.
    noise: Vec<String>,
    /// What plugins' systems did wrong.
    failures: Failures,
    /// How many rows frames needed lately, by which their lists keep memory.
    window: CapacityWindow,
}

/// How much there is of everything. Equal before clients connect and after all have gone, unless something leaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Population {
    /// Entities of all kinds.
    pub entities: usize,
    /// Peers.
    pub peers: usize,
    /// Sessions, held seats included.
    pub sessions: usize,
    /// Rooms.
    pub rooms: usize,
    /// Presences.
    pub presences: usize,
    /// Calls under way, which wait for a job or a turn.
    pub waiting_calls: usize,
}

impl Server {
    /// Builds a server: `plugins` adds what it is made of.
    ///
    /// # Errors
    /// Sentences for people: values out of range, operations that clash, systems without an order
    /// between them, hooks on operations that are not there.
    pub fn build(build: Build, plugins: impl FnOnce(&mut App)) -> Result<Server, BuildError> {
        let mut app = app(&build);
        plugins(&mut app);
        // Checked first: one wrong value would cause many errors that follow from it.
        let wrong = wrong_settings(app.world());
        if !wrong.is_empty() {
            return Err(BuildError(wrong));
        }
        app.finish();
        app.cleanup();
        let mut world = std::mem::take(app.world_mut());
        let mut schedule = world
            .resource_mut::<Schedules>()
            .remove(Frame)
            .ok_or_else(|| BuildError(vec!["a plugin took the Frame schedule away".to_owned()]))?;
        if let Err(error) = schedule.initialize(&mut world) {
            return Err(BuildError(explain(&error, &schedule, &world)));
        }
        let mut wrong = world.remove_resource::<BuildErrors>().unwrap_or_default().0;
        wrong.extend(strays(&schedule));
        // Again, for sections that plugins registered in `finish`.
        wrong.extend(wrong_settings(&world));
        wrong.extend(hook_scripts(&mut world));
        if !wrong.is_empty() {
            return Err(BuildError(wrong));
        }
        let header = header(&world, &build);
        Ok(Server {
            world,
            schedule,
            header,
            journal: Journal::new(build.journal_bytes_max),
            strict: build.strict,
            frame: None,
            unwritten: None,
            due: None,
            outputs_hash: 0,
            noise: Vec::new(),
            failures: Failures::default(),
            window: CapacityWindow::default(),
        })
    }

    /// Runs frame `n`, which is greater than that of the last frame. The ones between were quiet, or the runner was
    /// late.
    ///
    /// `inputs` is drained, `outputs` is cleared and filled.
    ///
    /// # Panics
    /// When the server itself has a defect. A fault of a plugin's system, handler, observer or type ends only that
    /// piece of work, and is counted in [`Server::failures`].
    pub fn frame(&mut self, n: u64, inputs: &mut Vec<Input>, outputs: &mut Outputs) {
        self.frame_noted(n, inputs, outputs, |_| ());
    }

    /// [`Server::frame`]; `noted` is called with the journal after this frame was recorded and before anything in it is
    /// processed, so that a journal on disk includes a frame that hangs or ends the process.
    ///
    /// # Panics
    /// As [`Server::frame`].
    pub fn frame_noted(
        &mut self,
        n: u64,
        inputs: &mut Vec<Input>,
        outputs: &mut Outputs,
        noted: impl FnOnce(&mut Journal),
    ) {
        let quiet = inputs.is_empty() && self.due.is_none_or(|due| n < due);
        let exactly_due = inputs.is_empty() && self.due == Some(n);
        if !quiet && !exactly_due {
            let after = self.frame.unwrap_or(0);
            self.journal.push(&Record::Frame { frame: n, after, inputs: inputs.clone() });
        } else {
            self.unwritten = Some(n);
        }
        noted(&mut self.journal);
        outputs.clear();
        let came = inputs.len();
        let before = self.world.read_change_tick();
        {
            let mut clock = self.world.resource_mut::<Clock>();
            clock.bypass_change_detection().enter(n);
            let mut frame_inputs = self.world.resource_mut::<FrameInputs>();
            frame_inputs.bypass_change_detection().inputs.append(inputs);
            let mut frame_outputs = self.world.resource_mut::<FrameOutputs>();
            std::mem::swap(&mut frame_outputs.bypass_change_detection().0, outputs);
        }
        // Bevy does this only for the schedules in its own list. Without it, old changes would look new after 4 billion
        // ticks, of which each run of a system takes one.
        if let Some(check) = self.world.check_change_ticks() {
            self.schedule.check_change_ticks(check);
        }
        self.schedule.run(&mut self.world);
        // First: it may record failures, and request the next frame.
        facts::settle(&mut self.world);
        self.failures.take(n, self.world.resource::<Clock>().hz());
        if self.strict && quiet {
            self.noise.extend(who_broke_quiet(&self.world, &self.schedule, before));
        }
        // After the look of strict mode, which needs them.
        self.world.clear_trackers();
        let mut frame_outputs = self.world.resource_mut::<FrameOutputs>();
        std::mem::swap(&mut frame_outputs.bypass_change_detection().0, outputs);
        // What was requested after the kernel's part of Flush: the next frame has to come.
        let hooks_wait = !self.world.resource::<EventHooks>().is_empty();
        if hooks_wait || !self.world.resource::<Asked>().is_empty() {
            self.world.resource::<Clock>().wake_at(n + 1);
        }
        self.due = self.world.resource::<Clock>().due();
        self.frame = Some(n);
        self.unwritten = None;
        self.give_back(n, came, inputs, outputs);
        if !outputs.is_empty() {
            self.outputs_hash = hash_outputs(n, outputs, self.outputs_hash);
        }
    }

    /// Gives the memory of bursts back, once a second. `came`: how many inputs this frame had.
    fn give_back(&mut self, n: u64, came: usize, inputs: &mut Vec<Input>, outputs: &mut Outputs) {
        let world = &mut self.world;
        let written = world.resource_mut::<Outbox>().bypass_change_detection().most();
        let most = came.max(written).max(outputs.most());
        let Some(rows) = self.window.keep(n, world.resource::<Clock>().hz(), most) else { return };
        inputs.shrink_to(rows);
        outputs.shrink_to(rows);
        world.resource_mut::<FrameInputs>().bypass_change_detection().shrink_to(rows);
        world.resource_mut::<Outbox>().bypass_change_detection().shrink_to(rows);
        world.resource_mut::<DirtySessions>().bypass_change_detection().0.shrink_to(rows);
    }

    /// The next frame that something requested; `None` when only an input can make anything happen.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// The last frame that ran.
    pub fn last_frame(&self) -> Option<u64> {
        self.frame
    }

    /// The hash of all outputs so far.
    pub fn outputs_hash(&self) -> u64 {
        self.outputs_hash
    }

    /// The hash of the state. Takes about 40 ns per session, and what the matches take.
    pub fn state_hash(&mut self) -> u64 {
        hash_state(&mut self.world)
    }

    /// Appends the hashes of outputs and state to the journal, for a replay to compare.
    pub fn check(&mut self) -> Record {
        let state_hash = self.state_hash();
        let record =
            Record::Check { frame: self.frame.unwrap_or(0), outputs_hash: self.outputs_hash, state_hash };
        self.journal.push(&record);
        record
    }

    /// After a frame panicked: records it if it had no input and was therefore not recorded, so that a replay panics in
    /// the same frame. The server must not run again.
    pub fn write_broken(&mut self) {
        if let Some(frame) = self.unwritten.take() {
            let after = self.frame.unwrap_or(0);
            self.journal.push(&Record::Frame { frame, after, inputs: Vec::new() });
        }
    }

    /// The journal.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// What a journal of this server begins with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// In strict mode: a sentence for each system that changed something in a frame that should have been quiet.
    pub fn noise(&self) -> &[String] {
        &self.noise
    }

    /// What failed since the start: plugins' systems, run conditions, commands and observers, and readers of facts.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The operation table.
    pub fn ops(&self) -> std::sync::Arc<OpTable> {
        self.world.ops()
    }

    /// The jobs that plugins registered.
    pub fn jobs(&self) -> Jobs {
        self.world.resource::<Jobs>().clone()
    }

    /// What was loaded from scripts; empty without them.
    pub fn scripts(&self) -> Summary {
        self.world.get_non_send::<ScriptHost>().map(|host| host.0.summary()).unwrap_or_default()
    }

    /// The systems by stage, for a golden file.
    pub fn listing(&self) -> String {
        listing(&self.schedule)
    }

    /// How much there is of everything.
    pub fn population(&mut self) -> Population {
        let mut presences = self.world.query::<&Presence>();
        let presences = presences.iter(&self.world).count();
        Population {
            entities: self.world.iter_entities().count(),
            peers: self.world.resource::<PeerIndex>().len,
            sessions: self.world.resource::<SessionIndex>().len(),
            rooms: self.world.resource::<RoomIndex>().len(),
            presences,
            waiting_calls: self.world.get_non_send::<Calls>().map_or(0, Calls::waiting),
        }
    }

    /// The world, for tests and inspection between frames. Changes made here are not in the journal, so a replay
    /// differs.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }
}

fn header(world: &World, build: &Build) -> Header {
    let scripts_hash = world.get_resource::<ScriptsHash>().map_or(0, |hash| hash.0);
    let settings = world.resource::<Sections>().whole_but_secrets(world.resource::<Settings>());
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        quantum_us: u32::try_from(build.quantum.us()).unwrap_or(u32::MAX),
        // Settings are plain data; JSON writes all of it.
        settings: serde_json::to_string(&settings).unwrap_or_default(),
        scripts_hash,
        ops: world.resource::<Ops>().0.rows().iter().map(|row| row.op.name.clone()).collect(),
    }
}

/// Of all scripts' names and bytes; inserted by kaos-script.
#[derive(Resource, Clone, Copy, Debug)]
pub struct ScriptsHash(pub u64);

/// Operations and events that have one name in scripts.
fn clashing_names(world: &World) -> Vec<String> {
    let ops: BTreeSet<String> =
        world.resource::<Ops>().0.rows().iter().map(|row| row.op.script_name()).collect();
    let events = world.resource::<Events>().0.rows().iter().map(|row| &row.event);
    let clashing = events.filter(|event| ops.contains(&event.script_name()));
    clashing
        .map(|event| {
            format!("event {}: an operation has this name; hooks could not tell them apart", event.name)
        })
        .collect()
}

/// An app with everything that the kernel has itself, before any plugin.
fn app(build: &Build) -> App {
    let mut app = App::empty();
    app.add_schedule(schedule());
    failures::forget();
    app.set_error_handler(failures::failed);
    app.insert_resource(Clock::new(build.quantum))
        .insert_resource(build.settings.clone())
        .insert_resource(ServerDice::new(0))
        .insert_resource(HookDice(Dice::of(0, "hooks", 0)))
        .init_resource::<Ops>()
        .init_resource::<Handlers>()
        .init_resource::<Events>()
        .init_resource::<Targets>()
        .init_resource::<Jobs>()
        .init_resource::<BuildErrors>()
        .init_resource::<FrameInputs>()
        .init_resource::<FrameOutputs>()
        .init_resource::<DirtySessions>()
        .init_resource::<SessionIndex>()
        .init_resource::<PeerIndex>()
        .init_resource::<RoomIndex>()
        .init_resource::<ReadyRooms>()
        .init_resource::<Deadlines>()
        .init_resource::<Addresses>()
        .init_resource::<Outbox>()
        .init_resource::<Asked>()
        .init_resource::<EventHooks>()
        .init_resource::<StateHashers>()
        .init_resource::<RpcIds>()
        .init_resource::<BeforeHooks>()
        .init_resource::<AfterHooks>()
        .insert_non_send(Calls::new());
    add_settings(&mut app);
    facts::add::<SessionStarted>(&mut app);
    facts::add::<ConnectionChanged>(&mut app);
    facts::add::<SessionEnding>(&mut app);
    facts::add::<RoomStuck>(&mut app);
    facts::add::<ServerStopping>(&mut app);
    add_core(&mut app);
    app
}

/// The sections that the kernel has itself.
fn add_settings(app: &mut App) {
    settings::add::<NodeSettings>(app);
    settings::add::<SessionSettings>(app);
    settings::add::<RoomSettings>(app);
    settings::add::<MatchSettings>(app);
    settings::add::<CallSettings>(app);
    settings::add::<LimitSettings>(app);
}

/// What can be set of every server: the sections of the kernel. Takes a hundredth of what [`sections`] takes.
pub fn own_sections() -> Sections {
    let mut app = App::empty();
    app.init_resource::<Settings>();
    add_settings(&mut app);
    app.world_mut().remove_resource::<Sections>().unwrap_or_default()
}

/// Everything that can be set of a server with these plugins. They are built as for one, and nothing is made of it.
pub fn sections(plugins: impl FnOnce(&mut App)) -> Sections {
    let mut app = app(&Build::default());
    plugins(&mut app);
    app.world_mut().remove_resource::<Sections>().unwrap_or_default()
}

/// What is wrong with sections and with what was set, as sentences.
fn wrong_settings(world: &World) -> Vec<String> {
    let sections = world.resource::<Sections>();
    let mut wrong = sections.errors().to_vec();
    wrong.extend(sections.all_unknown(world.resource::<Settings>()));
    wrong
}

/// Ties hooks and rpcs to the table. Returns what does not fit, as sentences.
fn hook_scripts(world: &mut World) -> Vec<String> {
    let mut wrong = world.resource::<Ops>().0.errors.clone();
    wrong.extend(world.resource::<Events>().0.errors.iter().cloned());
    wrong.extend(clashing_names(world));
    wrong.extend(world.resource::<Jobs>().wrong());
    let Some(summary) = world.get_non_send::<ScriptHost>().map(|host| host.0.summary()) else { return wrong };
    let (before, heard) = hooked(world, &summary.before, "before", &mut wrong);
    // Nobody asks for an event, so nothing comes before it.
    wrong.extend(heard.iter().map(|name| format!("a script registers a hook before the event {name}")));
    let (after, heard) = hooked(world, &summary.after, "after", &mut wrong);
    world.resource_mut::<EventHooks>().hooked = heard;
    world.insert_resource(BeforeHooks(before));
    world.insert_resource(AfterHooks(after));
    world.insert_resource(RpcIds(summary.rpcs));
    wrong
}

/// The operations and events behind the names of hooks; a name that nothing has is a sentence more in `wrong`.
fn hooked(
    world: &World,
    names: &BTreeSet<String>,
    which: &str,
    wrong: &mut Vec<String>,
) -> (BTreeSet<OpId>, BTreeSet<String>) {
    let ops = world.resource::<Ops>().0.rows().iter().map(|row| (row.op.script_name(), row.id));
    let ops: BTreeMap<String, OpId> = ops.collect();
    let events = world.resource::<Events>().0.rows().iter();
    let events: BTreeMap<String, &str> =
        events.map(|row| (row.event.script_name(), row.event.name.as_str())).collect();
    let (mut found_ops, mut found_events) = (BTreeSet::new(), BTreeSet::new());
    for name in names {
        match (ops.get(name), events.get(name)) {
            (Some(op), _) => {
                found_ops.insert(*op);
            }
            (None, Some(event)) => {
                found_events.insert((*event).to_owned());
            }
            (None, None) => wrong.push(format!(
                "a script registers a hook {which} `{name}`, and no operation or event has that name{}",
                nearest(name, ops.keys().chain(events.keys()).cloned())
            )),
        }
    }
    (found_ops, found_events)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ids::PeerId;
    use crate::input::{Boot, Claim, Door, Gone};

    #[test]
    fn a_server_without_rooms_removes_the_sessions_that_end() {
        let mut server = Server::build(Build::default(), |_| {}).expect("it needs no plugin");
        let mut inputs = vec![Input::Boot(Boot { seed: 1, wall_ms: 1, node: 1 })];
        let mut outputs = Outputs::default();
        server.frame(0, &mut inputs, &mut outputs);
        let empty = server.population();
        let peer = PeerId { slot: 0, generation: 1 };
        let claim = Claim::Anonymous { name: "ada".into() };
        inputs.push(Input::Open { peer, door: Door::Memory, address: Ipv4Addr::LOCALHOST.into() });
        inputs.push(Input::Start { peer, claim, fresh: [7; 16], vars: Default::default() });
        server.frame(1, &mut inputs, &mut outputs);
        assert_eq!(server.population().sessions, 1);
        inputs.push(Input::Gone { peer, reason: Gone::Closed });
        server.frame(2, &mut inputs, &mut outputs);
        let mut frames = 0;
        while let Some(due) = server.due() {
            server.frame(due, &mut inputs, &mut outputs);
            frames += 1;
        }
        assert_eq!(server.population(), empty);
        assert!(frames < 10, "nothing wakes a server in which nothing is left");
    }
}
