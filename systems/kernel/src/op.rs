//! The operation table: one row an operation, from which every door, script and metric is derived.
//!
//! This file is the row; `table` is all of them and reads their requests, `caller` says who may call, `payload` is what
//! travels between a door and a handler.

mod caller;
mod payload;
mod table;
pub use caller::{Auth, Caller};
pub use payload::Payload;
pub use table::{OpRow, OpTable, Ops};

use bevy_ecs::prelude::*;

use crate::fault::Fault;
use crate::output::Channel;

/// The place of an operation in the table: the order of registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(pub u16);

/// How a script may call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ScriptUse {
    /// Answered at once, from the world as it stood when the stage began.
    Read,
    /// Applied after the stage in the order of rooms; nothing comes back but an id drawn beforehand.
    Command,
    /// Yields until the answer is there: in rpcs, spawned coroutines and hooks of kept operations.
    Wait,
    /// Not for scripts.
    Never,
}

/// An HTTP route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// GET, POST, PUT or DELETE.
    pub method: String,
    /// With `{name}` for what becomes a field of the request.
    pub path: String,
}

/// Reads a request and its cid from an operation's own binary form.
pub type ParseWire = fn(&[u8]) -> Result<(u32, Box<dyn Payload>), Fault>;

/// An operation's own binary form.
#[derive(Clone, Copy)]
pub struct WireForm {
    /// The message number of the request.
    pub opcode: u8,
    /// The message number of the answer.
    pub reply_opcode: u8,
    /// Reads a request and its cid.
    pub parse: ParseWire,
    /// Writes a reply with its cid.
    pub render: fn(u32, &dyn Payload) -> Result<Vec<u8>, Fault>,
}

/// One row of the table, as it is registered.
#[derive(Clone)]
pub struct Op {
    /// Dotted, lower case: `room.join`. In scripts the dot is an underscore.
    pub name: String,
    /// One sentence for the API page.
    pub about: &'static str,
    /// Who may call.
    pub auth: Auth,
    /// How scripts may call.
    pub script: ScriptUse,
    /// The request's fields that a script gives by position.
    pub args: &'static [&'static str],
    /// A request field that a script's command fills with an id drawn beforehand, and gets back.
    pub draws: Option<&'static str>,
    /// The HTTP route, if it has one.
    pub route: Option<Route>,
    /// The binary form, if it has one.
    pub wire: Option<WireForm>,
    /// The channel of its messages.
    pub channel: Channel,
    /// What a call takes from the caller's rate budget, in messages.
    pub cost: u32,
}

impl Op {
    /// An operation for sessions and users on every door, called `wait`ing by scripts.
    pub fn new(name: impl Into<String>) -> Self {
        Op {
            name: name.into(),
            about: "",
            auth: Auth::User,
            script: ScriptUse::Wait,
            args: &[],
            draws: None,
            route: None,
            wire: None,
            channel: Channel::Control,
            cost: 1,
        }
    }

    /// Says in a sentence what it does.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Lets anyone call.
    pub fn public(mut self) -> Self {
        self.auth = Auth::Public;
        self
    }

    /// Asks for a live session: for what works on the one that calls, over UDP or WebSocket. Not with
    /// [`Op::rest`], since a request over HTTP has no session.
    pub fn session(mut self) -> Self {
        self.auth = Auth::Session;
        self
    }

    /// Closes every door but scripts and the server.
    pub fn server(mut self) -> Self {
        self.auth = Auth::Server;
        self
    }

    /// Says how scripts may call. Handlers registered by `read_op` are [`ScriptUse::Read`] by themselves.
    pub fn script(mut self, script: ScriptUse) -> Self {
        self.script = script;
        self
    }

    /// Names the request's fields that a script gives by position.
    pub fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    /// Names the field that gets an id drawn beforehand when a script calls.
    pub fn draws(mut self, field: &'static str) -> Self {
        self.draws = Some(field);
        self
    }

    /// Gives it an HTTP route: `"GET /v1/afk"`.
    pub fn rest(mut self, route: &str) -> Self {
        let (method, path) = route.split_once(' ').unwrap_or(("POST", route));
        self.route = Some(Route { method: method.to_owned(), path: path.to_owned() });
        self
    }

    /// Gives it a binary form and the channel of its messages.
    pub fn wire(mut self, channel: Channel, form: WireForm) -> Self {
        self.wire = Some(form);
        self.channel = channel;
        self
    }

    /// Makes a call cost more than one message of the caller's budget.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// The name in scripts: dots become underscores.
    pub fn script_name(&self) -> String {
        self.name.replace('.', "_")
    }
}
