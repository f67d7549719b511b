//! The table of operations, and how a row reads its requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::{Schema, Tree};
use super::{Face, Op, OpId, Rest, not_json};
use crate::failures::guarded_or_fault;
use crate::fault::{Fault, FaultKind};
use crate::input::Body;
use crate::op::{Auth, Payload};
use crate::spelling::{is_dotted_name, nearest};

type ParseFn = fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, erased_serde::Error>;

/// The type of a request: read from JSON and from scripts, and described by its schema.
pub trait Request: Serialize + DeserializeOwned + JsonSchema + 'static {}

impl<T: Serialize + DeserializeOwned + JsonSchema + 'static> Request for T {}

/// The type of a reply.
pub trait Reply: Serialize + JsonSchema + 'static {}

impl<T: Serialize + JsonSchema + 'static> Reply for T {}

/// A registered operation: its definition, its schemas, and how to read its request. Its handler is in `call::handler`.
pub struct OpRow {
    /// Its position in the table.
    pub id: OpId,
    /// Its definition.
    pub op: Op,
    /// The schema of its request.
    pub request: Schema,
    /// The schema of its reply.
    pub reply: Schema,
    parse: ParseFn,
}

impl OpRow {
    /// Reads a request from any serde format. A caller that has a [`Tree`] of it should [check](OpRow::check) that
    /// first.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](crate::fault::FaultKind::Invalid) with serde's sentence.
    pub fn parse(&self, from: &mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, Fault> {
        guarded_or_fault(&self.op.name, "the call is refused", || {
            (self.parse)(from).map_err(|error| self.invalid(&error.to_string()))
        })
    }

    /// Checks whether a request fits its schema.
    ///
    /// # Errors
    /// `invalid`, with a sentence that names the field.
    pub fn check(&self, request: &dyn Tree) -> Result<(), Fault> {
        self.request.check(request).map_err(|sentence| self.invalid(&sentence))
    }

    /// Reads a request as it came through a door.
    ///
    /// # Errors
    /// As [`OpRow::check`] and [`OpRow::parse`]; `invalid` also for a route that the operation does not have.
    pub fn parse_body(&self, body: &Body) -> Result<Box<dyn Payload>, Fault> {
        match body {
            Body::Json(bytes) => self.parse_json(bytes),
            Body::Rest(request) => {
                let route = self.op.rest_at(request.face);
                let route = route.ok_or_else(|| self.invalid("it has no such route"))?;
                let parts =
                    route.read(&self.request, request).map_err(|fault| self.invalid(&fault.message))?;
                // A raw field may contain any bytes, so only the other fields are checked.
                match parts.raw {
                    None => self.check(&parts.json)?,
                    Some((field, _)) => {
                        let checked = self.request.check_without(&parts.json, field);
                        checked.map_err(|sentence| self.invalid(&sentence))?;
                    }
                }
                self.parse(&mut *parts.into_deserializer())
            }
        }
    }

    /// Reads a request from JSON. No bytes at all stand for [`Schema::nothing`].
    ///
    /// # Errors
    /// As [`OpRow::check`] and [`OpRow::parse`].
    pub fn parse_json(&self, bytes: &[u8]) -> Result<Box<dyn Payload>, Fault> {
        let json = if bytes.is_empty() {
            self.request.nothing()
        } else {
            serde_json::from_slice(bytes).map_err(|error| self.invalid(&not_json(&error).message))?
        };
        self.check(&json)?;
        self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(json))
    }

    /// The price that is charged before the request is read, in messages.
    pub(crate) fn price_unread(&self) -> u32 {
        self.op.price.map_or(1, |price| price.unread())
    }

    /// The price that is charged before the call begins, in messages, [`OpRow::price_unread`] included. When the
    /// plugin's price function panics, that is written to the log and the price is [`OpRow::price_unread`].
    pub(crate) fn price_of_request(&self, request: &dyn Payload) -> u32 {
        let price = guarded_or_fault(&self.op.name, "the call costs the least it can", || {
            Ok(self.op.price.map_or(1, |price| price.of_request(request)))
        });
        price.unwrap_or_else(|_| self.price_unread())
    }

    /// The price that is charged for the reply, in messages. When the plugin's price function panics, that is written
    /// to the log and the price is 0.
    pub(crate) fn price_of_reply(&self, reply: &dyn Payload) -> u32 {
        let price = guarded_or_fault(&self.op.name, "the call costs nothing more", || {
            Ok(self.op.price.map_or(0, |price| price.of_reply(reply)))
        });
        price.unwrap_or(0)
    }

    /// An `invalid` fault whose sentence begins with the operation's name.
    fn invalid(&self, sentence: &str) -> Fault {
        Fault::invalid(format!("{}: {sentence}", self.op.name))
    }
}

/// All operations. The table is filled while the server is built and does not change after the first frame.
#[derive(Default)]
pub struct OpTable {
    rows: Vec<OpRow>,
    by_name: BTreeMap<String, OpId>,
    by_opcode: BTreeMap<u8, OpId>,
    /// What is wrong with the table, as sentences. A server with any of them is not built.
    pub(crate) errors: Vec<String>,
}

/// The table as a resource. It is shared, because a handler starts while the world is borrowed.
#[derive(Resource, Clone, Default)]
pub struct Ops(pub Arc<OpTable>);

impl OpTable {
    /// Every row, in order of registration.
    pub fn rows(&self) -> &[OpRow] {
        &self.rows
    }

    /// A row by its position.
    pub fn get(&self, id: OpId) -> Option<&OpRow> {
        self.rows.get(usize::from(id.0))
    }

    /// A row by its dotted name.
    pub fn by_name(&self, name: &str) -> Option<&OpRow> {
        self.get(*self.by_name.get(name)?)
    }

    /// A row by its dotted name, for whoever was given the name.
    ///
    /// # Errors
    /// `unimplemented`, with the nearest name that clients may call.
    pub fn named(&self, name: &str) -> Result<&OpRow, Fault> {
        self.by_name(name).ok_or_else(|| {
            let known = self.rows.iter().filter(|row| row.op.auth != Auth::Server);
            let near = nearest(name, known.map(|row| row.op.name.clone()));
            let name: String = name.chars().take(64).collect();
            let sentence = format!("there is no operation `{name}` on this server{near}");
            Fault::new(FaultKind::Unimplemented, sentence)
        })
    }

    /// A row by the opcode of its request.
    pub fn by_opcode(&self, opcode: u8) -> Option<&OpRow> {
        self.get(*self.by_opcode.get(&opcode)?)
    }

    /// Adds a row and collects in `errors` what is wrong with it. `None`: the table is full, and the row is not added.
    pub(crate) fn add<Req: Request, Rep: Reply>(&mut self, op: Op) -> Option<OpId> {
        let Ok(position) = u16::try_from(self.rows.len()) else {
            self.errors.push(format!("op {}: the table is full (65536 rows)", op.name));
            return None;
        };
        let id = OpId(position);
        let (request, reply) = (Schema::of::<Req>(), Schema::of::<Rep>());
        if let Some(word) = request.unchecked() {
            self.errors.push(format!("op {}: {}", op.name, not_checked(word)));
        }
        if op.price.is_none() && op.auth != Auth::Server {
            self.errors.push(format!(
                "op {}: it has no price: say what a call takes of its caller's budget, such as `.price(1)`",
                op.name
            ));
        }
        if !is_dotted_name(&op.name) {
            self.errors.push(format!(
                "op `{}`: a name is lower-case letters, digits, dots and underscores",
                op.name
            ));
        }
        if self.by_name.insert(op.name.clone(), id).is_some() {
            self.errors.push(format!("op {}: registered twice; a name belongs to one plugin", op.name));
        }
        if let Some(form) = op.wire_form()
            && let Some(other) = self.by_opcode.insert(form.opcode, id)
        {
            let other = self.get(other).map_or("", |row| row.op.name.as_str()).to_owned();
            self.errors.push(format!("op {}: opcode 0x{:02x} belongs to {other}", op.name, form.opcode));
        }
        if op.faces.iter().filter(|face| matches!(face, Face::Wire(_))).count() > 1 {
            self.errors.push(format!("op {}: it has two binary forms; an operation has one", op.name));
        }
        if let Some(arg) = op.args.iter().find(|arg| !request.has_field(arg)) {
            self.errors.push(format!("op {}: its argument `{arg}` is not a field of its request", op.name));
        }
        for (_, rest) in op.rests() {
            let problem = self.route_problem(&op, rest, &request);
            self.errors.extend(problem);
        }
        self.rows.push(OpRow { id, op, request, reply, parse: parse::<Req> });
        Some(id)
    }

    /// A sentence about what is wrong with a route; `None`: nothing.
    fn route_problem(&self, op: &Op, rest: &Rest, request: &Schema) -> Option<String> {
        let Rest { method, path, .. } = rest;
        let refuses = match op.auth {
            Auth::Session => Some(("a live session", "session")),
            Auth::Server => Some(("scripts and the server", "server")),
            Auth::Public | Auth::User => None,
        };
        if let Some((who, way)) = refuses {
            return Some(format!(
                "op {}: only {who} may call it, and {method} {path} would refuse everyone: leave out `.{way}()` or \
                 `.rest(…)`",
                op.name
            ));
        }
        let taken = self.rows.iter().find(|row| row.op.rests().any(|(_, other)| rest.conflicts_with(other)));
        if let Some(other) = taken {
            return Some(format!("op {}: {method} {path} belongs to {}", op.name, other.op.name));
        }
        if op.rests().filter(|(_, other)| rest.conflicts_with(other)).count() > 1 {
            return Some(format!("op {}: it has {method} {path} twice", op.name));
        }
        rest.problem(request).map(|sentence| format!("op {}: {sentence}", op.name))
    }
}

/// The sentence about a bound in a schema that is not checked. Such a bound is an error, because handlers and documents
/// would rely on it.
pub(crate) fn not_checked(keyword: &str) -> String {
    format!(
        "its schema says `{keyword}`, which is not checked: check it in the handler and leave it out of the type"
    )
}

/// Reads a request of one type and erases the type.
fn parse<Req: Request>(
    from: &mut dyn erased_serde::Deserializer<'_>,
) -> Result<Box<dyn Payload>, erased_serde::Error> {
    erased_serde::deserialize::<Req>(from).map(|request| Box::new(request) as Box<dyn Payload>)
}
