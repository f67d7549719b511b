//! The interface to scripts: what a runtime implements for the frame, and what the frame offers a running script.

mod settings;
pub use settings::{MatchSettings, Policy};

use std::collections::BTreeSet;

use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::call::job::Job;
use crate::dice::Dice;
use crate::event::EventRow;
use crate::fault::Fault;
use crate::ids::{RoomId, SessionId};
use crate::op::{Caller, OpId, OpRow, OpTable, Payload};
use crate::output::{Level, Log};
use crate::room::presence::PresenceInfo;
use crate::room::{RoomFact, RoomMessage};
use crate::running::{MatchGuard, RunningMatch};
use crate::send::{Broadcast, Target};

/// All scripts of the server. kaos-script implements it, and the frame thread owns it.
pub trait Scripts: 'static {
    /// The scripts that were loaded.
    fn summary(&self) -> Summary;

    /// Opens a match: creates its virtual machine and calls `match_init` with `params`.
    ///
    /// # Errors
    /// The module does not exist, or its `match_init` failed or broke the contract.
    fn open(
        &mut self,
        env: &mut Env<'_>,
        module: &str,
        room: MatchSeed,
        params: &Json,
    ) -> Result<OpenedMatch, MatchError>;

    /// Runs the before-hook of an operation. Returns the request, changed or not.
    ///
    /// # Errors
    /// The hook refused (returned nil, or `nil, reason`) or failed.
    fn before(
        &mut self,
        env: &mut Env<'_>,
        op: &OpRow,
        context: &HookContext,
        request: Box<dyn Payload>,
    ) -> Result<Box<dyn Payload>, Fault>;

    /// Runs the after-hook of an operation. A failure is written to the log.
    fn after(
        &mut self,
        env: &mut Env<'_>,
        op: &OpRow,
        context: &HookContext,
        request: &Json,
        result: Result<&dyn Payload, &Fault>,
    );

    /// Runs the hook of an event that was pushed to `to`. A failure is written to the log.
    fn heard(&mut self, env: &mut Env<'_>, event: &EventRow, context: &HookContext, to: &Target, body: &Json);

    /// A hash of the state of the hooks' virtual machine: equal states give equal hashes, in any process.
    fn hash(&mut self) -> u64;
}

/// The scripts, as non-send data. A server that was built without scripts does not have it.
pub struct ScriptHost(pub Box<dyn Scripts>);

/// A match in a room: one virtual machine.
pub trait Match: 'static {
    /// Calls `match_join_attempt`. A module without it admits everyone.
    ///
    /// # Errors
    /// The callback failed, and the join is refused.
    fn join_attempt(
        &mut self,
        env: &mut Env<'_>,
        presence: &PresenceInfo,
        metadata: &Json,
    ) -> Result<Admission, MatchError>;

    /// Calls the callbacks for joins and leaves, then `match_loop` if a tick is due. Each callback is guarded
    /// separately: one that fails is abandoned and reported, and the next one runs.
    fn tick(&mut self, env: &mut Env<'_>, batch: &Batch<'_>) -> TickOutcome;

    /// Calls `match_signal`. For a module without it the answer is null.
    ///
    /// # Errors
    /// The callback failed.
    fn signal(&mut self, env: &mut Env<'_>, data: &Json) -> Result<Json, MatchError>;

    /// Calls `match_terminate`, if the module has it.
    ///
    /// # Errors
    /// The callback failed.
    fn terminate(&mut self, env: &mut Env<'_>, grace_s: u32) -> Result<(), MatchError>;

    /// Sets the label that `ctx` shows, after the room's label changed.
    fn set_label(&mut self, label: &Json);

    /// A hash of the state: equal states give equal hashes, in any process.
    fn hash(&mut self) -> u64;

    /// The state as JSON, for tests and inspection. Values that JSON cannot express are shown as text.
    fn state(&mut self) -> Json;

    /// The memory of its virtual machine, in bytes.
    fn memory_bytes(&mut self) -> usize;
}

/// The identity and the seed of a new match.
#[derive(Clone, Copy, Debug)]
pub struct MatchSeed {
    /// The room's id.
    pub room: RoomId,
    /// The seed of all its randomness, the order of hash tables included; from the room's dice.
    pub seed: u64,
}

/// A match that was opened, with the results of `match_init`.
pub struct OpenedMatch {
    /// The match.
    pub game: Box<dyn Match>,
    /// Ticks per second, 1 to 128.
    pub tick_rate: u8,
    /// The room's label: text or an object.
    pub label: Json,
    /// The number of seats; `None`: the server's default.
    pub max_players: Option<u32>,
}

/// The answer of `match_join_attempt`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The client may join.
    Yes,
    /// The join is refused; the client gets this sentence.
    No(String),
}

/// The input of one run of a match.
pub struct Batch<'a> {
    /// The number of the tick that is due; `None`: none is due, and only `events` are handled.
    pub tick: Option<u64>,
    /// The number of ticks that were left out before this one.
    pub skipped: u64,
    /// Joins and leaves, in order. They are handled before the tick.
    pub events: &'a [RoomFact],
    /// Messages, in order; empty unless a tick is due.
    pub messages: &'a [RoomMessage],
}

/// The outcome of one run of a match.
#[derive(Default, Debug)]
pub struct TickOutcome {
    /// Callbacks that failed, in order.
    pub errors: Vec<MatchError>,
    /// Whether the match is over, because it returned nil.
    pub ended: bool,
}

/// A callback that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchError {
    /// The name of the callback, such as `match_loop`.
    pub callback: &'static str,
    /// The kind of failure.
    pub kind: MatchErrorKind,
    /// File and line, such as `scripts/matches/arena.lua:24`; empty when the line is not known.
    pub place: Box<str>,
    /// The first line of the error, with the place: `scripts/matches/arena.lua:24: attempt to …`.
    pub message: String,
    /// The stack, one line per entry.
    pub stack: Vec<String>,
    /// The fault for the caller when the script refused on purpose; that is not written to the log. `None`: the failure
    /// is a defect.
    pub refusal: Option<Fault>,
}

impl MatchError {
    /// A failure without a place, a stack or a refusal.
    pub fn new(callback: &'static str, kind: MatchErrorKind, message: impl Into<String>) -> Self {
        let (place, message) = (Box::default(), message.into());
        MatchError { callback, kind, place, message, stack: Vec::new(), refusal: None }
    }
}

/// Kinds of failure of a callback.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MatchErrorKind {
    /// The script raised an error.
    Error,
    /// The callback used up its fuel.
    Fuel,
    /// The virtual machine is out of memory: the room ends, whatever the policy.
    Memory,
    /// The script broke the contract: a missing callback, a wrong return value.
    Contract,
    /// The module does not exist.
    NoModule,
}

/// The scripts that were loaded from the scripts' directory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The files.
    pub modules: Vec<String>,
    /// The names of match modules, under which rooms are created.
    pub matches: BTreeSet<String>,
    /// The ids of rpcs.
    pub rpcs: BTreeSet<String>,
    /// Operations with a before-hook, by script name (`room_join`).
    pub before: BTreeSet<String>,
    /// Operations and events with an after-hook, by script name.
    pub after: BTreeSet<String>,
}

/// The rpc ids that scripts registered. A call of any other id is refused without leaving the frame.
#[derive(Resource, Default)]
pub struct RpcIds(pub BTreeSet<String>);

/// The `ctx` of a hook.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HookContext {
    /// The calling session; `None`: the caller is not a session.
    pub session_id: Option<SessionId>,
    /// The caller's user id; empty: there is no user.
    pub user_id: String,
    /// The caller's username; empty: there is no user.
    pub username: String,
    /// Unix time of the frame, in milliseconds.
    pub now_ms: u64,
    /// The node's name.
    pub node: String,
}

/// The environment of a running script: the world as it was when the stage began, and lists of what the script
/// requests.
pub struct Env<'a> {
    /// The world, which does not change while the script runs.
    pub world: &'a World,
    /// The operations.
    pub ops: &'a OpTable,
    /// The caller of the script's operations.
    pub caller: Caller,
    /// The source of ids that a command draws beforehand.
    pub dice: &'a mut Dice,
    /// Unix time of the frame, in milliseconds.
    pub now_ms: u64,
    /// Commands, in the order of the script's calls.
    pub commands: Vec<Command>,
    /// Broadcasts, in the order of the script's calls.
    pub broadcasts: Vec<Broadcast>,
    /// Lines for the log.
    pub logs: Vec<Log>,
    /// Marks the room's match as running until it is dropped; `None`: the caller is not a room, or nobody watches.
    _run: Option<MatchGuard<'a>>,
}

impl<'a> Env<'a> {
    /// An environment with empty lists. While it exists, a calling room [is running](crate::running::RunningMatch).
    pub fn new(world: &'a World, ops: &'a OpTable, caller: Caller, dice: &'a mut Dice) -> Self {
        let now_ms = world.resource::<crate::clock::Clock>().now_ms();
        let run = match (&caller, world.get_resource::<RunningMatch>()) {
            (Caller::Room(room), Some(running)) => Some(running.enter(*room)),
            _ => None,
        };
        Env {
            world,
            ops,
            caller,
            dice,
            now_ms,
            commands: Vec::new(),
            broadcasts: Vec::new(),
            logs: Vec::new(),
            _run: run,
        }
    }

    /// Adds a line to the log.
    pub fn log(&mut self, level: Level, source: impl Into<String>, text: impl Into<String>) {
        self.logs.push(Log { level, source: source.into(), text: text.into() });
    }

    /// The script's requests, without the borrow of the world.
    pub fn finish(self) -> ScriptEffects {
        ScriptEffects {
            caller: self.caller,
            commands: self.commands,
            broadcasts: self.broadcasts,
            logs: self.logs,
        }
    }
}

/// The requests of a script, to be carried out after it ran.
pub struct ScriptEffects {
    /// The caller of the commands.
    pub caller: Caller,
    /// Commands, in the order of the script's calls.
    pub commands: Vec<Command>,
    /// Broadcasts, in the order of the script's calls.
    pub broadcasts: Vec<Broadcast>,
    /// Lines for the log.
    pub logs: Vec<Log>,
}

/// A command: a call of an operation that is applied after the stage.
#[derive(Debug)]
pub struct Command {
    /// The operation.
    pub op: OpId,
    /// The request.
    pub request: Box<dyn Payload>,
}

/// The job of running a script's rpc on a virtual machine that no request has used before. kaos-script registers its
/// work and its pool. The result is the return value of the rpc's function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRpc {
    /// The name under which the script registered it.
    pub id: String,
    /// The request's bytes.
    pub payload: Bytes,
    /// The rpc's `ctx`.
    pub context: RpcContext,
}

impl Job for RunRpc {
    type Out = Bytes;
    const NAME: &'static str = "rpc";
    const POOL: &'static str = "rpc";
}

/// The `ctx` of an rpc.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct RpcContext {
    /// The calling session; `None`: the call came over HTTP or from the server.
    pub session_id: Option<SessionId>,
    /// The caller's user id; empty: there is no user.
    pub user_id: String,
    /// The caller's username; empty: there is no user.
    pub username: String,
    /// The session's variables.
    pub vars: std::collections::BTreeMap<String, String>,
    /// Unix time of the frame in which it was called, in milliseconds.
    pub now_ms: u64,
    /// The seed of this request's dice.
    pub seed: u64,
    /// The node's name.
    pub node: String,
}
