//! The table of operations, and reading a request for a row of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::{Schema, Tree};
use super::{Face, Op, OpId, Rest, no_json};
use crate::failures::guarded_or_fault;
use crate::fault::Fault;
use crate::input::Body;
use crate::op::{Auth, Payload};
use crate::spelling::is_dotted_name;

type ParseFn = fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, erased_serde::Error>;

/// What an operation is asked: read from JSON and from scripts, and described by its schema.
pub trait Request: Serialize + DeserializeOwned + JsonSchema + 'static {}

impl<T: Serialize + DeserializeOwned + JsonSchema + 'static> Request for T {}

/// What an operation replies.
pub trait Reply: Serialize + JsonSchema + 'static {}

impl<T: Serialize + JsonSchema + 'static> Reply for T {}

/// A registered operation: the row, and how to read its request. What runs for it stands in `call`.
pub struct OpRow {
    /// Its place.
    pub id: OpId,
    /// The row.
    pub op: Op,
    /// What a request holds.
    pub request: Schema,
    /// What a reply holds.
    pub reply: Schema,
    parse: ParseFn,
}

impl OpRow {
    /// Reads a request from any serde format. Who has a [`Tree`] of it [checks](OpRow::check) it before.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](crate::fault::FaultKind::Invalid) with serde's sentence.
    pub fn parse(&self, from: &mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, Fault> {
        guarded_or_fault(&self.op.name, "the call is refused", || {
            (self.parse)(from).map_err(|error| self.invalid(&error.to_string()))
        })
    }

    /// Whether a request fits its schema.
    ///
    /// # Errors
    /// `invalid`, with a sentence that names the field.
    pub fn check(&self, request: &dyn Tree) -> Result<(), Fault> {
        self.request.check(request).map_err(|sentence| self.invalid(&sentence))
    }

    /// Reads a request as it came through a door.
    ///
    /// # Errors
    /// As [`OpRow::check`] and [`OpRow::parse`]; also when it came through a face that the operation has not.
    pub fn parse_body(&self, body: &Body) -> Result<Box<dyn Payload>, Fault> {
        match body {
            Body::Json(bytes) => self.parse_json(bytes),
            Body::Rest(came) => {
                let face = self.op.rest_at(came.face);
                let face = face.ok_or_else(|| self.invalid("it has no such route"))?;
                let parts = face.read(&self.request, came).map_err(|fault| self.invalid(&fault.message))?;
                // The raw field is what it is; only the others are checked.
                match parts.raw {
                    None => self.check(&parts.json)?,
                    Some((field, _)) => {
                        let sentence = self.request.check_but(&parts.json, field);
                        sentence.map_err(|sentence| self.invalid(&sentence))?;
                    }
                }
                self.parse(&mut *parts.into_deserializer())
            }
        }
    }

    /// Reads a request from JSON; empty means that nothing was sent.
    ///
    /// # Errors
    /// As [`OpRow::check`] and [`OpRow::parse`].
    pub fn parse_json(&self, bytes: &[u8]) -> Result<Box<dyn Payload>, Fault> {
        let json = match bytes.is_empty() {
            true => self.request.nothing(),
            false => serde_json::from_slice(bytes).map_err(|error| self.invalid(&no_json(&error).message))?,
        };
        self.check(&json)?;
        self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(json))
    }

    /// What a call takes before its request is read, in messages.
    pub(crate) fn price_unread(&self) -> u32 {
        self.op.price.map_or(1, |price| price.unread())
    }

    /// What a call takes before it begins, in messages. A plugin's function that panics costs its caller nothing beyond
    /// [`OpRow::price_unread`], and is in the log.
    pub(crate) fn price_of_request(&self, request: &dyn Payload) -> u32 {
        let price = guarded_or_fault(&self.op.name, "the call costs the least it can", || {
            Ok(self.op.price.map_or(1, |price| price.of_request(request)))
        });
        price.unwrap_or_else(|_| self.price_unread())
    }

    /// What a call takes when it has its reply, in messages; as for a function that panics, see above.
    pub(crate) fn price_of_reply(&self, reply: &dyn Payload) -> u32 {
        let price = guarded_or_fault(&self.op.name, "the call costs nothing more", || {
            Ok(self.op.price.map_or(0, |price| price.of_reply(reply)))
        });
        price.unwrap_or(0)
    }

    fn invalid(&self, sentence: &str) -> Fault {
        Fault::invalid(format!("{}: {sentence}", self.op.name))
    }
}

/// All operations. Filled while the server is built, frozen with its first frame.
#[derive(Default)]
pub struct OpTable {
    rows: Vec<OpRow>,
    by_name: BTreeMap<String, OpId>,
    by_opcode: BTreeMap<u8, OpId>,
    /// What is wrong with the table, as sentences; a server is not built while there is any.
    pub(crate) errors: Vec<String>,
}

/// The table as a resource; shared, since handlers start while the world is elsewhere.
#[derive(Resource, Clone, Default)]
pub struct Ops(pub Arc<OpTable>);

impl OpTable {
    /// Every row, in order of registration.
    pub fn rows(&self) -> &[OpRow] {
        &self.rows
    }

    /// A row by its place.
    pub fn get(&self, id: OpId) -> Option<&OpRow> {
        self.rows.get(usize::from(id.0))
    }

    /// A row by its dotted name.
    pub fn by_name(&self, name: &str) -> Option<&OpRow> {
        self.get(*self.by_name.get(name)?)
    }

    /// A row by the message number of its request.
    pub fn by_opcode(&self, opcode: u8) -> Option<&OpRow> {
        self.get(*self.by_opcode.get(&opcode)?)
    }

    /// Adds a row. `None`: there is no place for it, which is among the errors.
    pub(crate) fn add<Req: Request, Rep: Reply>(&mut self, op: Op) -> Option<OpId> {
        let Ok(place) = u16::try_from(self.rows.len()) else {
            self.errors.push(format!("op {}: the table is full (65536 rows)", op.name));
            return None;
        };
        let id = OpId(place);
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
        for (_, rest) in op.rests() {
            let wrong = self.wrong_route(&op, rest, &request);
            self.errors.extend(wrong);
        }
        self.rows.push(OpRow { id, op, request, reply, parse: parse::<Req> });
        Some(id)
    }

    /// What is wrong with a route, as a sentence.
    fn wrong_route(&self, op: &Op, rest: &Rest, request: &Schema) -> Option<String> {
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
        rest.wrong(request).map(|sentence| format!("op {}: {sentence}", op.name))
    }
}

/// A bound that stands in a schema and is not held would be believed by handlers and documents alike.
pub(crate) fn not_checked(word: &str) -> String {
    format!(
        "its schema says `{word}`, which is not checked: check it in the handler and leave it out of the type"
    )
}

fn parse<Req: Request>(
    from: &mut dyn erased_serde::Deserializer<'_>,
) -> Result<Box<dyn Payload>, erased_serde::Error> {
    erased_serde::deserialize::<Req>(from).map(|request| Box::new(request) as Box<dyn Payload>)
}
