//! The seam to scripts: what a runtime offers the frame, and what the frame offers a running script.

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

/// Every script of the server, behind one door. Implemented by kaos-script; the frame thread owns it.
pub trait Scripts: 'static {
    /// What was loaded.
    fn summary(&self) -> Summary;

    /// Opens a match: a virtual machine of its own, `match_init` called with `params`.
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

    /// Runs the before-hook of an operation: the request comes back, changed or not.
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

    /// Runs the after-hook of an operation. What fails in it is written to the log.
    fn after(
        &mut self,
        env: &mut Env<'_>,
        op: &OpRow,
        context: &HookContext,
        request: &Json,
        result: Result<&dyn Payload, &Fault>,
    );

    /// Runs the hook of an event that was pushed to `to`. What fails in it is written to the log.
    fn heard(&mut self, env: &mut Env<'_>, event: &EventRow, context: &HookContext, to: &Target, body: &Json);

    /// A number that is equal when the state of the hooks' virtual machine is.
    fn hash(&mut self) -> u64;
}

/// The scripts, as non-send data. There are none in a server that was built without them.
pub struct ScriptHost(pub Box<dyn Scripts>);

/// A match in a room: one virtual machine.
pub trait Match: 'static {
    /// `match_join_attempt`. A module without it admits.
    ///
    /// # Errors
    /// The callback failed; the join is refused.
    fn join_attempt(
        &mut self,
        env: &mut Env<'_>,
        presence: &PresenceInfo,
        metadata: &Json,
    ) -> Result<Admission, MatchError>;

    /// Tells what happened and runs a tick if one is due. Each callback is guarded by itself: one that
    /// fails is abandoned, reported, and the next one runs.
    fn tick(&mut self, env: &mut Env<'_>, batch: &Batch<'_>) -> TickOutcome;

    /// `match_signal`. A module without it answers nothing.
    ///
    /// # Errors
    /// The callback failed.
    fn signal(&mut self, env: &mut Env<'_>, data: &Json) -> Result<Json, MatchError>;

    /// `match_terminate`, if there is one.
    ///
    /// # Errors
    /// The callback failed.
    fn terminate(&mut self, env: &mut Env<'_>, grace_s: u32) -> Result<(), MatchError>;

    /// The room's label or connected members changed, so what `ctx` shows has to.
    fn set_label(&mut self, label: &Json);

    /// A number that is equal when the state is, in any process.
    fn hash(&mut self) -> u64;

    /// The state as JSON, for tests and inspection; what JSON cannot hold is shown as text.
    fn state(&mut self) -> Json;

    /// Bytes that its virtual machine holds.
    fn memory_bytes(&mut self) -> usize;
}

/// What a new match is told.
#[derive(Clone, Copy, Debug)]
pub struct MatchSeed {
    /// The room's id.
    pub room: RoomId,
    /// The seed of all its randomness, hash order included; from the room's dice.
    pub seed: u64,
}

/// What `match_init` gave.
pub struct OpenedMatch {
    /// The match.
    pub game: Box<dyn Match>,
    /// Ticks a second, 1 to 128.
    pub tick_rate: u8,
    /// Text or an object.
    pub label: Json,
    /// Seats; `None`: the default of the server.
    pub max_players: Option<u32>,
}

/// The answer of `match_join_attempt`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Come in.
    Yes,
    /// Not now; a sentence that the client is told.
    No(String),
}

/// What a match is handed at once.
pub struct Batch<'a> {
    /// The tick that is due; `None`: only events.
    pub tick: Option<u64>,
    /// Ticks that were left out before this one.
    pub skipped: u64,
    /// Joins and leaves, in order. The match hears of them before the tick.
    pub events: &'a [RoomFact],
    /// Messages, in order; empty unless a tick is due.
    pub messages: &'a [RoomMessage],
}

/// What a tick came to.
#[derive(Default, Debug)]
pub struct TickOutcome {
    /// Callbacks that failed, in order.
    pub errors: Vec<MatchError>,
    /// The match returned nil: it is over.
    pub ended: bool,
}

/// A callback that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchError {
    /// The callback: `match_loop`.
    pub callback: &'static str,
    /// What kind of failure.
    pub kind: MatchErrorKind,
    /// Where it happened: `scripts/matches/arena.lua:24`; empty when the line is not known.
    pub place: Box<str>,
    /// The first line, with the place: `scripts/matches/arena.lua:24: attempt to …`.
    pub message: String,
    /// The stack, a line each.
    pub stack: Vec<String>,
    /// The script meant to refuse, and no defect: what whoever asked is told. It is written to no log.
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
    /// It used up its fuel.
    Fuel,
    /// Its virtual machine is out of memory: the room ends, whatever the policy.
    Memory,
    /// It broke the contract: a missing callback, a wrong return value.
    Contract,
    /// There is no such module.
    NoModule,
}

/// What was loaded from the scripts' directory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Files.
    pub modules: Vec<String>,
    /// Modules that are matches, by the name under which rooms are made.
    pub matches: BTreeSet<String>,
    /// Rpc ids.
    pub rpcs: BTreeSet<String>,
    /// Operations with a before-hook, by script name (`room_join`).
    pub before: BTreeSet<String>,
    /// Operations and events with an after-hook, by script name.
    pub after: BTreeSet<String>,
}

/// Rpc ids that scripts registered: others are refused without leaving the frame.
#[derive(Resource, Default)]
pub struct RpcIds(pub BTreeSet<String>);

/// A hook's `ctx`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HookContext {
    /// The calling session.
    pub session_id: Option<SessionId>,
    /// Its user; empty when there is none.
    pub user_id: String,
    /// Its name; empty when there is none.
    pub username: String,
    /// Unix time of the frame, in milliseconds.
    pub now_ms: u64,
    /// The node's name.
    pub node: String,
}

/// What a script can reach while it runs: the world as it stood, and lists for what it wants done.
pub struct Env<'a> {
    /// The world, standing still.
    pub world: &'a World,
    /// The operations.
    pub ops: &'a OpTable,
    /// As whom the script calls.
    pub caller: Caller,
    /// For ids that a command draws beforehand.
    pub dice: &'a mut Dice,
    /// Unix time of the frame, in milliseconds.
    pub now_ms: u64,
    /// Commands, in the order in which they were given.
    pub commands: Vec<Command>,
    /// Broadcasts, in the order in which they were made.
    pub broadcasts: Vec<Broadcast>,
    /// Lines for the log.
    pub logs: Vec<Log>,
    /// Notes for who looks from outside that a room's match runs.
    _turn: Option<MatchGuard<'a>>,
}

impl<'a> Env<'a> {
    /// An empty one. As long as it lives, a room that calls [is running](crate::running::RunningMatch).
    pub fn new(world: &'a World, ops: &'a OpTable, caller: Caller, dice: &'a mut Dice) -> Self {
        let now_ms = world.resource::<crate::clock::Clock>().now_ms();
        let _turn = match (&caller, world.get_resource::<RunningMatch>()) {
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
            _turn,
        }
    }

    /// Adds a line to the log.
    pub fn log(&mut self, level: Level, source: impl Into<String>, text: impl Into<String>) {
        self.logs.push(Log { level, source: source.into(), text: text.into() });
    }

    /// What the script wanted, without the borrows of the world.
    pub fn finish(self) -> ScriptEffects {
        ScriptEffects {
            caller: self.caller,
            commands: self.commands,
            broadcasts: self.broadcasts,
            logs: self.logs,
        }
    }
}

/// What a script wanted done.
pub struct ScriptEffects {
    /// As whom.
    pub caller: Caller,
    /// Commands.
    pub commands: Vec<Command>,
    /// Broadcasts.
    pub broadcasts: Vec<Broadcast>,
    /// Lines for the log.
    pub logs: Vec<Log>,
}

/// A command: an operation that is applied after the stage.
#[derive(Debug)]
pub struct Command {
    /// Which.
    pub op: OpId,
    /// With what.
    pub request: Box<dyn Payload>,
}

/// Runs a script's rpc on a virtual machine that no request has used. Whoever runs scripts registers how, and its pool; the
/// answer is what the function returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRpc {
    /// The name under which the script registered it.
    pub id: String,
    /// The request's bytes.
    pub payload: Bytes,
    /// Who calls, for `ctx`.
    pub context: RpcContext,
}

impl Job for RunRpc {
    type Out = Bytes;
    const NAME: &'static str = "rpc";
    const POOL: &'static str = "rpc";
}

/// What an rpc's `ctx` holds.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct RpcContext {
    /// The calling session; `None` when the call came by HTTP or from the server.
    pub session_id: Option<SessionId>,
    /// The caller's account; empty when there is none.
    pub user_id: String,
    /// The caller's name; empty when there is none.
    pub username: String,
    /// The session's variables.
    pub vars: std::collections::BTreeMap<String, String>,
    /// Unix time of the frame in which it was called, in milliseconds.
    pub now_ms: u64,
    /// A seed for the dice of this one request.
    pub seed: u64,
    /// The node's name.
    pub node: String,
}
