//! Pushing: the one function through which the server tells clients something by itself. What stands behind it is this
//! node's outbox; a bus between nodes would stand in the same place.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;
use serde::Serialize;

use super::asked::Asked;
use super::hooked::note;
use super::outbox::{Outbox, post};
use super::target::{Target, recipients};
use crate::codec::Outbound;
use crate::event::{EventRow, EventTable, Events};
use crate::fault::Fault;
use crate::op::Payload;

/// What became of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pushed {
    /// Sessions that it was sent to. 0: there was nobody, and the event is dropped; who wants it to be found later stores
    /// it. A session that is away and may resume counts: it gets what is reliable when it is back.
    pub sessions: usize,
}

/// Pushes an event. It leaves at the end of this frame, after everything that was sent to the same session before.
///
/// # Errors
/// `invalid`: the body is longer than its row allows. `not_found`: a target of a kind that no feature has. `internal`: no
/// event carries this type.
pub fn push<T: Serialize + Send + 'static>(world: &mut World, to: &Target, body: T) -> Result<Pushed, Fault> {
    let row = world.resource::<Events>().0.of::<T>()?.clone();
    deliver(world, to, row, Box::new(body), Source::Server)
}

/// [`push`] by name, for scripts: the body is read as the event's type.
///
/// # Errors
/// As [`push`]; `not_found` for an event that is not there, `invalid` for a body that does not fit, and for an event with a
/// binary form, which only the server tells.
pub fn push_json(
    world: &mut World,
    to: &Target,
    event: &str,
    body: serde_json::Value,
) -> Result<Pushed, Fault> {
    let row = world.resource::<Events>().0.by_name(event)?.clone();
    if row.event.form.is_some() {
        return Err(Fault::invalid(format!("{event}: the server alone tells it; a script cannot push it")));
    }
    let body = row.parse(body)?;
    deliver(world, to, row, body, Source::Script)
}

/// Writes an event once, for a caller that addresses it itself with [`Outbox::to`]: a room, which may mean some of its
/// members only. `to` is what hooks are told.
///
/// # Errors
/// As [`push`].
pub fn write<T: Serialize + Send + 'static>(world: &mut World, to: &Target, body: T) -> Result<u32, Fault> {
    let row = world.resource::<Events>().0.of::<T>()?.clone();
    note(world, &row, to, &body);
    post(world, &Outbound::Event { row, body: Box::new(body) })
}

/// Who pushes. What scripts push passes no hooks: a hook that pushes what it hooks would never end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Server,
    Script,
}

fn deliver(
    world: &mut World,
    to: &Target,
    row: Arc<EventRow>,
    body: Box<dyn Payload>,
    source: Source,
) -> Result<Pushed, Fault> {
    if row.event.form.is_some_and(|form| form.room) && !matches!(to, Target::Room(_)) {
        let name = &row.event.name;
        return Err(Fault::internal(format!("the event {name} is told in a room: its target has to be one")));
    }
    let recipients = recipients(world, to)?;
    if source == Source::Server {
        note(world, &row, to, &*body);
    }
    // To nobody: it is not written at all.
    if recipients.is_empty() {
        return Ok(Pushed::default());
    }
    let payload = post(world, &Outbound::Event { row, body })?;
    let mut outbox = world.resource_mut::<Outbox>();
    for (slot, handle) in &recipients {
        outbox.to(*slot, *handle, payload);
    }
    Ok(Pushed { sessions: recipients.len() })
}

/// Pushes events from a system. They leave at the end of this frame; from `Stage::Flush`, of the next one. Like kicks and
/// broadcasts they are collected, and leave in the order of the systems' names, whichever ran first.
///
/// A body that is longer than its row allows is written to the log and not sent.
#[derive(SystemParam)]
pub struct Push<'w, 's> {
    events: Res<'w, Events>,
    buffer: Deferred<'s, PushBuffer>,
}

impl Push<'_, '_> {
    /// Pushes an event.
    ///
    /// # Errors
    /// `internal`: no event carries this type.
    pub fn push<T: Serialize + Send + Sync + 'static>(&mut self, to: Target, body: T) -> Result<(), Fault> {
        let row = self.events.0.of::<T>()?.clone();
        self.buffer.0.push((to, row, Box::new(body)));
        Ok(())
    }
}

/// An event that a system pushed.
pub(crate) type Waiting = (Target, Arc<EventRow>, Box<dyn Payload + Send + Sync>);

#[derive(Default)]
pub(crate) struct PushBuffer(Vec<Waiting>);

impl SystemBuffer for PushBuffer {
    fn queue(&mut self, system: &SystemMeta, mut world: DeferredWorld<'_>) {
        if self.0.is_empty() {
            return;
        }
        world.resource_mut::<Asked>().pushes.add(&system.name().to_string(), self.0.drain(..));
    }
}

/// Sends what systems pushed.
pub(crate) fn deliver_pushes(world: &mut World) {
    if world.resource::<Asked>().pushes.is_empty() {
        return;
    }
    let pushes = world.resource_mut::<Asked>().pushes.take();
    for (system, (to, row, body)) in pushes {
        debug_assert!(EventTable::fits(&row, &*body), "the row was looked up by the type of the body");
        let name = row.event.name.clone();
        if let Err(fault) = deliver(world, &to, row, body, Source::Server) {
            tracing::warn!(%system, event = name, %fault, "an event was not sent");
        }
    }
}
