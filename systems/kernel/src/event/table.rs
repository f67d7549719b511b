//! All events. Filled while the server is built, frozen with its first frame.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_ecs::prelude::*;

use super::{EVENT_BYTES_LIMIT, EVENT_UNRELIABLE_BYTES_MAX, Event};
use crate::failures::guarded_or_fault;
use crate::fault::Fault;
use crate::op::{Payload, Request, Schema, not_checked};
use crate::output::Channel;
use crate::spelling::{is_dotted_name, nearest};

type ParseEvent = fn(serde_json::Value) -> Result<Box<dyn Payload>, serde_json::Error>;

/// A registered event.
#[derive(Debug)]
pub struct EventRow {
    /// The row.
    pub event: Event,
    /// What its body holds.
    pub body: Schema,
    of: TypeId,
    parse: ParseEvent,
}

impl EventRow {
    /// Reads a body that a script made.
    ///
    /// # Errors
    /// `invalid`, with the name of the event and what does not fit.
    pub fn parse(&self, body: serde_json::Value) -> Result<Box<dyn Payload>, Fault> {
        let invalid = |sentence: String| Fault::invalid(format!("{}: {sentence}", self.event.name));
        self.body.check(&body).map_err(invalid)?;
        guarded_or_fault(&self.event.name, "the event is not sent", || {
            (self.parse)(body).map_err(|error| invalid(error.to_string()))
        })
    }
}

/// Every event of the server.
#[derive(Default, Debug)]
pub struct EventTable {
    rows: Vec<Arc<EventRow>>,
    by_name: BTreeMap<String, usize>,
    by_type: BTreeMap<TypeId, usize>,
    /// What is wrong with the table, as sentences; a server is not built while there is any.
    pub(crate) errors: Vec<String>,
}

/// The table as a resource.
#[derive(Resource, Clone, Default)]
pub struct Events(pub Arc<EventTable>);

impl EventTable {
    /// Every row, in the order of registration.
    pub fn rows(&self) -> &[Arc<EventRow>] {
        &self.rows
    }

    /// A row by its dotted name.
    ///
    /// # Errors
    /// `not_found`, with the nearest name.
    pub fn by_name(&self, name: &str) -> Result<&Arc<EventRow>, Fault> {
        let row = self.by_name.get(name).and_then(|at| self.rows.get(*at));
        row.ok_or_else(|| {
            let near = nearest(name, self.rows.iter().map(|row| row.event.name.clone()));
            Fault::not_found(format!("there is no event `{name}` on this server{near}"))
        })
    }

    /// The row of a type.
    ///
    /// # Errors
    /// `internal`: the type was not registered.
    pub(crate) fn of<T: 'static>(&self) -> Result<&Arc<EventRow>, Fault> {
        let row = self.by_type.get(&TypeId::of::<T>()).and_then(|at| self.rows.get(*at));
        row.ok_or_else(|| {
            let name = std::any::type_name::<T>();
            Fault::internal(format!("no event carries a `{name}`: register it with `app.event::<{name}>(…)`"))
        })
    }

    pub(crate) fn add<T: Request>(&mut self, event: Event) {
        let name = event.name.clone();
        if name.len() > 64 || !is_dotted_name(&name) {
            self.errors.push(format!(
                "event `{name}`: a name is 1 to 64 lower-case letters, digits, dots and underscores"
            ));
        }
        let limit = match event.channel {
            Channel::Unreliable => EVENT_UNRELIABLE_BYTES_MAX,
            Channel::Control | Channel::Data => EVENT_BYTES_LIMIT,
        };
        if event.form.is_none() && !(1..=limit).contains(&event.bytes_max) {
            self.errors.push(format!(
                "event {name}: its body is bounded by 1 to {limit} bytes, not by {}",
                event.bytes_max
            ));
        }
        let at = self.rows.len();
        if self.by_name.insert(name.clone(), at).is_some() {
            self.errors.push(format!("event {name}: registered twice; a name belongs to one plugin"));
        }
        if let Some(other) = self.by_type.insert(TypeId::of::<T>(), at) {
            let other = self.rows.get(other).map_or("", |row| row.event.name.as_str()).to_owned();
            let kind = std::any::type_name::<T>();
            self.errors.push(format!(
                "event {name}: a `{kind}` is the event {other} already; each event has a type of its own"
            ));
        }
        let parse: ParseEvent =
            |body| serde_json::from_value::<T>(body).map(|body| Box::new(body) as Box<dyn Payload>);
        let body = Schema::of::<T>();
        if let Some(word) = body.unchecked() {
            self.errors.push(format!("event {name}: {}", not_checked(word)));
        }
        self.rows.push(Arc::new(EventRow { event, body, of: TypeId::of::<T>(), parse }));
    }

    /// Whether the row carries this body.
    pub(crate) fn fits(row: &EventRow, body: &dyn Payload) -> bool {
        body.as_any().type_id() == row.of
    }
}
