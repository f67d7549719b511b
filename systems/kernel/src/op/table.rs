//! The table of operations, and reading a request for a row of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::payload::unpack;
use super::{Op, OpId, ScriptUse};
use crate::call::Call;
use crate::call::handler::{Handler, HandlerFuture};
use crate::failures::guarded_or_fault;
use crate::fault::Fault;
use crate::input::Body;
use crate::op::{Auth, Caller, Payload};

type ParseFn = fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, erased_serde::Error>;

/// A registered operation: the row, how to read its request, and its handler.
pub struct OpRow {
    /// Its place.
    pub id: OpId,
    /// The row.
    pub op: Op,
    parse: ParseFn,
    pub(crate) handler: Handler,
}

impl OpRow {
    /// Reads a request from any serde format.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](crate::fault::FaultKind::Invalid) with serde's sentence.
    pub fn parse(&self, from: &mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Payload>, Fault> {
        guarded_or_fault(&self.op.name, || {
            (self.parse)(from).map_err(|error| Fault::invalid(format!("{}: {error}", self.op.name)))
        })
    }

    /// Reads a request as it came through a door.
    ///
    /// # Errors
    /// As [`OpRow::parse`]; also when the operation has no binary form.
    pub fn parse_body(&self, body: &Body) -> Result<Box<dyn Payload>, Fault> {
        match body {
            Body::Json(bytes) => self.parse_json(bytes),
            Body::Form(text) => {
                let pairs = serde_urlencoded::from_str::<Vec<(String, String)>>(text)
                    .map_err(|error| Fault::invalid(format!("{}: {error}", self.op.name)))?;
                // Through JSON values, since a form knows no types: what reads as a number or as true
                // and false is offered as that, and requests take text for numbers where they mean text.
                let fields = pairs.into_iter().map(|(name, value)| (name, guess(value)));
                let fields: serde_json::Map<String, serde_json::Value> = fields.collect();
                if fields.is_empty() {
                    return self.parse_nothing();
                }
                let object = serde_json::Value::Object(fields);
                self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(object))
            }
            Body::Wire(bytes) => {
                let form = self.op.wire.ok_or_else(|| {
                    Fault::invalid(format!("{} has no binary form: send it as JSON", self.op.name))
                })?;
                guarded_or_fault(&self.op.name, || (form.parse)(bytes).map(|(_, request)| request))
            }
        }
    }

    /// Nothing was sent: null for an operation that takes nothing, an object without fields for one
    /// whose fields all have defaults.
    fn parse_nothing(&self) -> Result<Box<dyn Payload>, Fault> {
        let null = self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(serde_json::Value::Null));
        null.or_else(|fault| {
            let object = serde_json::Value::Object(serde_json::Map::new());
            self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(object)).map_err(|_| fault)
        })
    }

    /// Reads a request from JSON; empty means that nothing was sent.
    ///
    /// # Errors
    /// As [`OpRow::parse`].
    pub fn parse_json(&self, bytes: &[u8]) -> Result<Box<dyn Payload>, Fault> {
        if bytes.is_empty() {
            return self.parse_nothing();
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let request = self.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json));
        let request =
            request.map_err(|fault| match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                // The text is JSON, and what is wrong is a value: line and column would lead nowhere.
                Ok(_) => Fault { message: without_place(&fault.message).to_owned().into(), ..fault },
                Err(_) => fault,
            })?;
        json.end().map_err(|error| Fault::invalid(format!("{}: {error}", self.op.name)))?;
        Ok(request)
    }

    /// Runs a [`ScriptUse::Read`] operation on a world that stands still.
    ///
    /// # Errors
    /// The handler's, or [`FaultKind::Internal`](crate::fault::FaultKind::Internal) for an operation that does not read.
    pub fn read(
        &self,
        world: &World,
        caller: &Caller,
        request: Box<dyn Payload>,
    ) -> Result<Box<dyn Payload>, Fault> {
        match &self.handler {
            Handler::Read(read) => read(world, caller, request),
            Handler::Start(_) => Err(Fault::internal(format!("{} does not only read", self.op.name))),
        }
    }
}

/// A sentence of serde_json without ` at line 1 column 27` at its end.
fn without_place(sentence: &str) -> &str {
    let is_place = |place: &str| {
        let mut words = place.split(' ');
        let number = |word: Option<&str>| word.is_some_and(|word| word.parse::<u64>().is_ok());
        number(words.next())
            && words.next() == Some("column")
            && number(words.next())
            && words.next().is_none()
    };
    match sentence.rsplit_once(" at line ") {
        Some((sentence, place)) if is_place(place) => sentence,
        _ => sentence,
    }
}

fn guess(value: String) -> serde_json::Value {
    match value.as_str() {
        "true" => true.into(),
        "false" => false.into(),
        text => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => number.into(),
            _ => value.into(),
        },
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

    fn add(&mut self, op: Op, parse: ParseFn, handler: Handler) {
        let Ok(place) = u16::try_from(self.rows.len()) else {
            self.errors.push(format!("op {}: the table is full (65536 rows)", op.name));
            return;
        };
        let id = OpId(place);
        let well_formed = !op.name.is_empty()
            && op
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_');
        if !well_formed {
            self.errors.push(format!(
                "op `{}`: a name is lower-case letters, digits, dots and underscores",
                op.name
            ));
        }
        if self.by_name.insert(op.name.clone(), id).is_some() {
            self.errors.push(format!("op {}: registered twice; a name belongs to one plugin", op.name));
        }
        if let Some(form) = op.wire
            && let Some(other) = self.by_opcode.insert(form.opcode, id)
        {
            let other = self.get(other).map_or("", |row| row.op.name.as_str()).to_owned();
            self.errors.push(format!("op {}: opcode 0x{:02x} belongs to {other}", op.name, form.opcode));
        }
        if let (Some(route), Auth::Session | Auth::Server) = (&op.route, op.auth) {
            let (who, way) = match op.auth {
                Auth::Session => ("a live session", "session"),
                _ => ("scripts and the server", "server"),
            };
            self.errors.push(format!(
                "op {}: only {who} may call it, and {} {} would refuse everyone: leave out `.{way}()` or `.rest(…)`",
                op.name, route.method, route.path
            ));
        }
        if let Some(route) = &op.route {
            let taken = self.rows.iter().find(|row| row.op.route.as_ref() == Some(route));
            if let Some(other) = taken {
                let other = &other.op.name;
                self.errors
                    .push(format!("op {}: {} {} belongs to {other}", op.name, route.method, route.path));
            }
        }
        self.rows.push(OpRow { id, op, parse, handler });
    }

    pub(crate) fn add_read<Req, Rep>(
        &mut self,
        mut op: Op,
        handler: impl Fn(&World, &Caller, Req) -> Result<Rep, Fault> + Send + Sync + 'static,
    ) where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static,
    {
        if op.script != ScriptUse::Never {
            op.script = ScriptUse::Read;
        }
        let read = move |world: &World, caller: &Caller, request: Box<dyn Payload>| {
            let request = unpack::<Req>(request)?;
            handler(world, caller, request).map(|reply| Box::new(reply) as Box<dyn Payload>)
        };
        self.add(op, parse::<Req>, Handler::Read(Box::new(read)));
    }

    pub(crate) fn add_start<Req, Rep, F, Fut>(&mut self, op: Op, handler: F)
    where
        Req: Serialize + DeserializeOwned + 'static,
        Rep: Serialize + 'static,
        F: Fn(Call, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep, Fault>> + 'static,
    {
        let start = move |call: Call, request: Box<dyn Payload>| -> HandlerFuture {
            match unpack::<Req>(request) {
                Ok(request) => {
                    let work = handler(call, request);
                    Box::pin(async move { work.await.map(|reply| Box::new(reply) as Box<dyn Payload>) })
                }
                Err(fault) => Box::pin(std::future::ready(Err(fault))),
            }
        };
        self.add(op, parse::<Req>, Handler::Start(Box::new(start)));
    }
}

fn parse<Req: Serialize + DeserializeOwned + 'static>(
    from: &mut dyn erased_serde::Deserializer<'_>,
) -> Result<Box<dyn Payload>, erased_serde::Error> {
    erased_serde::deserialize::<Req>(from).map(|request| Box::new(request) as Box<dyn Payload>)
}
