//! The operation table: one row per operation, from which every door, script function and metric is derived.
//!
//! This file defines the row. `table` has all rows and reads their requests. `face` defines HTTP routes and binary
//! forms, `schema` describes and checks requests and replies, and `price` defines what a call costs. `caller` defines
//! who calls and who may, and `payload` is a request or reply between a door and a handler.

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
pub(crate) use face::{not_json, write_json};
pub use payload::Payload;
pub(crate) use payload::unpack;
pub use price::Price;
pub use schema::{Node, Schema, Tree};
pub(crate) use table::not_checked;
pub use table::{OpRow, OpTable, Ops, Reply, Request};

use std::collections::BTreeMap;

/// The position of an operation in the table, in order of registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(pub u16);

/// How scripts may call an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ScriptUse {
    /// The call returns at once. It reads the world as it was when the stage began.
    Read,
    /// The request is applied after the stage, in the order of rooms. The script gets nothing back, except an id that
    /// is drawn beforehand.
    Command,
    /// The call waits for the answer. For rpcs only.
    Wait,
    /// The operation runs another rpc inside the calling one: on the same thread and with the remaining fuel, so that
    /// rpcs never wait for each other's threads. For rpcs only.
    Rpc,
    /// The operation that `kaos.broadcast` calls in an rpc. In a match `kaos.broadcast` is not an operation: its data
    /// is sent with the other messages of the frame. A server has at most one such operation.
    Broadcast,
    /// Scripts cannot call it.
    Never,
}

impl ScriptUse {
    /// Whether scripts have a function named after the operation.
    pub fn is_function(self) -> bool {
        !matches!(self, ScriptUse::Broadcast | ScriptUse::Never)
    }
}

/// What a [`ScriptCheck`] may look at besides the request.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// The file of each match module, by the name under which rooms are created.
    pub matches: &'a BTreeMap<String, String>,
}

/// Checks a request that fits its schema when a script makes the call, before the operation is applied. The error is a
/// sentence, raised at the script's line.
pub type ScriptCheck = fn(&CheckContext<'_>, &dyn Tree) -> Result<(), String>;

/// The definition of an operation, as a plugin registers it.
#[derive(Clone)]
pub struct Op {
    /// The dotted name, in lower case: `room.join`. In scripts dots become underscores.
    pub name: String,
    /// One sentence for the API page.
    pub about: &'static str,
    /// Who may call.
    pub auth: Auth,
    /// How scripts may call.
    pub script: ScriptUse,
    /// The request fields that scripts pass by position, in that order.
    pub args: &'static [&'static str],
    /// The request field that a script's command fills with an id drawn beforehand. The script gets that id back.
    pub draws: Option<&'static str>,
    /// A check of a script's request beyond its schema.
    pub check: Option<ScriptCheck>,
    /// How doors reach the operation, besides the generic call by name that every operation has.
    pub faces: Vec<Face>,
    /// What a call costs. `None` is allowed only for [`Auth::Server`]. For any other operation a missing price stops
    /// the start, so that its author has to consider clients that call it without pause.
    pub price: Option<Price>,
}

impl Op {
    /// An operation for sessions and users over every door, with [`ScriptUse::Wait`]. It has no price yet: add one with
    /// [`Op::price`], or make it [`Op::server`].
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

    /// Sets the sentence for the API page.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Lets anyone call.
    pub fn public(mut self) -> Self {
        self.auth = Auth::Public;
        self
    }

    /// Requires a live session, over UDP or WebSocket: for operations on the calling session. It cannot be combined
    /// with [`Op::rest`], because a request over HTTP has no session.
    pub fn session(mut self) -> Self {
        self.auth = Auth::Session;
        self
    }

    /// Lets only scripts, plugins and the server call.
    pub fn server(mut self) -> Self {
        self.auth = Auth::Server;
        self
    }

    /// Sets how scripts may call. An operation registered with `read_op` becomes [`ScriptUse::Read`], unless it is
    /// [`ScriptUse::Never`].
    pub fn script(mut self, script: ScriptUse) -> Self {
        self.script = script;
        self
    }

    /// Makes it [`ScriptUse::Read`], unless scripts may not call it at all: a handler that only reads can answer at
    /// once.
    pub(crate) fn read_by_scripts(mut self) -> Self {
        if self.script != ScriptUse::Never {
            self.script = ScriptUse::Read;
        }
        self
    }

    /// Names the request fields that scripts pass by position.
    pub fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    /// Adds a check of a script's request, beyond its schema.
    pub fn check(mut self, check: ScriptCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Names the request field that is filled with an id drawn beforehand when a script calls.
    pub fn draws(mut self, field: &'static str) -> Self {
        self.draws = Some(field);
        self
    }

    /// Adds an HTTP route, such as `"GET /v1/afk"`. An operation may have several.
    pub fn rest(self, route: &str) -> Self {
        self.face(Face::Rest(Rest::new(route)))
    }

    /// Adds a way for doors to reach it.
    pub fn face(mut self, face: Face) -> Self {
        self.faces.push(face);
        self
    }

    /// Gives it a binary form. An operation has at most one.
    pub fn wire(self, form: WireForm) -> Self {
        self.face(Face::Wire(form))
    }

    /// Sets what a call costs: a number of messages of its caller's budget, or a [`Price`] that depends on the call.
    pub fn price(mut self, price: impl Into<Price>) -> Self {
        self.price = Some(price.into());
        self
    }

    /// Its HTTP routes, each with its index in `faces`.
    pub fn rests(&self) -> impl Iterator<Item = (u16, &Rest)> + '_ {
        let numbered = (0..).zip(&self.faces);
        numbered.filter_map(|(index, face)| match face {
            Face::Rest(rest) => Some((index, rest)),
            Face::Wire(_) => None,
        })
    }

    /// One of its HTTP routes, by its index in `faces`.
    pub fn rest_at(&self, index: u16) -> Option<&Rest> {
        self.rests().find(|(own_index, _)| *own_index == index).map(|(_, rest)| rest)
    }

    /// Its binary form, if it has one.
    pub fn wire_form(&self) -> Option<&WireForm> {
        self.faces.iter().find_map(|face| match face {
            Face::Wire(form) => Some(form),
            Face::Rest(_) => None,
        })
    }

    /// The name of its function in scripts: dots become underscores.
    pub fn script_name(&self) -> String {
        self.name.replace('.', "_")
    }
}
