//! The operation table: one row an operation, from which every door, script and metric is derived.
//!
//! This file is the row; `table` is all of them and reads their requests, `caller` says who may call, `payload` is what
//! travels between a door and a handler.

mod caller;
mod face;
mod payload;
mod price;
pub mod schema;
mod table;
pub use caller::{Auth, Caller};
pub use face::{
    Face, ParseWire, RawReply, Refusal, Refuse, RequestShape, Rest, RestBody, RestReply, WireForm, refusal,
};
pub(crate) use face::{no_json, write_json};
pub use payload::Payload;
pub(crate) use payload::unpack;
pub use price::Price;
pub use schema::{Node, Schema, Tree};
pub(crate) use table::not_checked;
pub use table::{OpRow, OpTable, Ops, Reply, Request};

use std::collections::BTreeMap;

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
    /// Runs another rpc, in the rpc that calls it: on its thread and with what is left of its fuel, so that rpcs never wait
    /// for each other's threads. For rpcs only.
    Rpc,
    /// What `kaos.broadcast` is in an rpc. In a match it is no operation: the room's data go out with the frame's others.
    /// One operation of a server is called so.
    Broadcast,
    /// Not for scripts.
    Never,
}

impl ScriptUse {
    /// Whether scripts have a function that is named for the operation.
    pub fn is_function(self) -> bool {
        !matches!(self, ScriptUse::Broadcast | ScriptUse::Never)
    }
}

/// What is known when a script calls an operation that is applied later.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// The match modules, by the name under which rooms are made.
    pub matches: &'a BTreeMap<String, String>,
}

/// Whether a request that fits its schema can be meant so, as far as is known when a script calls. The sentence is raised
/// at the script's line.
pub type ScriptCheck = fn(&CheckContext<'_>, &dyn Tree) -> Result<(), String>;

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
    /// What a script is told at its line, beyond what the request's schema refuses.
    pub check: Option<ScriptCheck>,
    /// How doors reach it, beside the generic call by name that every operation has.
    pub faces: Vec<Face>,
    /// What a call costs, and who pays. `None` only for what no client may call: another row without a price is no row,
    /// since who adds it has to think of whoever calls it without end.
    pub price: Option<Price>,
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
            check: None,
            faces: Vec::new(),
            price: None,
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

    /// Lets scripts read it, unless they may not call it at all: a handler that only reads is called at once.
    pub(crate) fn read_by_scripts(mut self) -> Self {
        if self.script != ScriptUse::Never {
            self.script = ScriptUse::Read;
        }
        self
    }

    /// Names the request's fields that a script gives by position.
    pub fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    /// Says what a script is told at its line when it calls, beyond what the request's schema refuses.
    pub fn check(mut self, check: ScriptCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Names the field that gets an id drawn beforehand when a script calls.
    pub fn draws(mut self, field: &'static str) -> Self {
        self.draws = Some(field);
        self
    }

    /// Adds an HTTP route: `"GET /v1/afk"`. An operation may have several.
    pub fn rest(self, route: &str) -> Self {
        self.face(Face::Rest(Rest::new(route)))
    }

    /// Adds a way to reach it.
    pub fn face(mut self, face: Face) -> Self {
        self.faces.push(face);
        self
    }

    /// Gives it a binary form.
    pub fn wire(self, form: WireForm) -> Self {
        self.face(Face::Wire(form))
    }

    /// Says what a call costs: a number of messages of its caller's budget, or a [`Price`] that depends on the call.
    pub fn price(mut self, price: impl Into<Price>) -> Self {
        self.price = Some(price.into());
        self
    }

    /// Its HTTP routes, each with its place among the faces.
    pub fn rests(&self) -> impl Iterator<Item = (u16, &Rest)> + '_ {
        let numbered = (0..).zip(&self.faces);
        numbered.filter_map(|(at, face)| match face {
            Face::Rest(rest) => Some((at, rest)),
            Face::Wire(_) => None,
        })
    }

    /// One of its HTTP routes, by its place among the faces.
    pub fn rest_at(&self, at: u16) -> Option<&Rest> {
        self.rests().find(|(place, _)| *place == at).map(|(_, rest)| rest)
    }

    /// Its binary form, if it has one.
    pub fn wire_form(&self) -> Option<&WireForm> {
        self.faces.iter().find_map(|face| match face {
            Face::Wire(form) => Some(form),
            Face::Rest(_) => None,
        })
    }

    /// The name in scripts: dots become underscores.
    pub fn script_name(&self) -> String {
        self.name.replace('.', "_")
    }
}
