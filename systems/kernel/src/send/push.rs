//! Pushing an event: the one way to send clients something unprompted. Events go to this node's outbox; a bus between
//! nodes would be connected here.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;
use serde::Serialize;

use super::asked::Asked;
use super::hooked::note;
use super::outbox::{Outbox, post};
use super::target::{Recipient, Target, recipients};
use crate::codec::Outbound;
use crate::event::{EventRow, EventTable, Events};
use crate::fault::Fault;
use crate::op::Payload;

/// The result of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pushed {
    /// The number of sessions that the event was sent to. With 0 the event is dropped; a feature that needs it later
    /// has to store it. A session that is away and may resume counts: it gets a reliable event after its resume.
    pub sessions: usize,
}

/// Pushes an event. It leaves at the end of this frame, after everything sent to the same session before.
///
/// # Errors
/// `invalid`: the body is longer than its row allows. `not_found`: no feature has targets of this kind. `internal`: no
/// event has this type, the body cannot be written, the event has room handles and the target is not a room, or no door
/// registered a codec.
pub fn push<T: Serialize + Send + 'static>(world: &mut World, to: &Target, body: T) -> Result<Pushed, Fault> {
    let row = world.resource::<Events>().0.of::<T>()?.clone();
    deliver(world, to, row, Box::new(body), Source::Server)
}

/// Pushes an event by its name, for scripts. The body is read as the event's type.
///
/// # Errors
/// As [`push`]; also `not_found`: no event has this name, and `invalid`: the body does not fit, or the event has a
/// binary form, which only the server may push.
pub fn push_json(
    world: &mut World,
    to: &Target,
    event: &str,
    body: serde_json::Value,
) -> Result<Pushed, Fault> {
    let row = world.resource::<Events>().0.by_name(event)?.clone();
    if row.event.form.is_some() {
        return Err(Fault::invalid(format!("{event}: only the server pushes it; a script cannot")));
    }
    let body = row.parse(body)?;
    deliver(world, to, row, body, Source::Script)
}

/// Writes an event once and returns its index in the outbox. The caller adds the recipients with [`Outbox::to`]: a room
/// may address only some of its members. Hooks get `to` as the event's target.
///
/// # Errors
/// As [`push`], except for those about the target.
pub fn write<T: Serialize + Send + 'static>(world: &mut World, to: &Target, body: T) -> Result<u32, Fault> {
    let row = world.resource::<Events>().0.of::<T>()?.clone();
    note(world, &row, to, &body);
    post(world, &Outbound::Event { row, body: Box::new(body) })
}

/// The origin of a push. An event that a script pushes is not passed to hooks: a hook that pushes its own event would
/// never end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Server,
    Script,
}

/// Encodes an event and addresses it to every recipient of its target.
fn deliver(
    world: &mut World,
    to: &Target,
    row: Arc<EventRow>,
    body: Box<dyn Payload>,
    source: Source,
) -> Result<Pushed, Fault> {
    if row.event.form.is_some_and(|form| form.room) && !matches!(to, Target::Room(_)) {
        let name = &row.event.name;
        return Err(Fault::internal(format!(
            "the event {name} has room handles: its target has to be a room"
        )));
    }
    let recipients = recipients(world, to)?;
    if source == Source::Server {
        note(world, &row, to, &*body);
    }
    // Without recipients the event is not written at all.
    if recipients.is_empty() {
        return Ok(Pushed::default());
    }
    let payload = post(world, &Outbound::Event { row, body })?;
    let mut outbox = world.resource_mut::<Outbox>();
    for Recipient { slot, handle } in &recipients {
        outbox.to(*slot, *handle, payload);
    }
    Ok(Pushed { sessions: recipients.len() })
}

/// Pushes events from a system. They leave at the end of this frame, or of the next frame when pushed in
/// `Stage::Flush`. Like broadcasts they are collected and leave in the order of the systems' names, whichever ran
/// first.
///
/// An event that cannot be sent, such as one that is longer than its row allows, is dropped, and the log says why.
#[derive(SystemParam)]
pub struct Push<'w, 's> {
    events: Res<'w, Events>,
    buffer: Deferred<'s, PushBuffer>,
}

impl Push<'_, '_> {
    /// Pushes an event. Any failure that is found later is written to the log.
    ///
    /// # Errors
    /// `internal`: no event has this type.
    pub fn push<T: Serialize + Send + Sync + 'static>(&mut self, to: Target, body: T) -> Result<(), Fault> {
        let row = self.events.0.of::<T>()?.clone();
        self.buffer.0.push((to, row, Box::new(body)));
        Ok(())
    }
}

/// An event that a system pushed and that is not sent yet: its target, its row and its body.
pub(crate) type QueuedPush = (Target, Arc<EventRow>, Box<dyn Payload + Send + Sync>);

/// The events that one system pushed, until its deferred parameters are applied.
#[derive(Default)]
pub(crate) struct PushBuffer(Vec<QueuedPush>);

impl SystemBuffer for PushBuffer {
    fn queue(&mut self, system: &SystemMeta, mut world: DeferredWorld<'_>) {
        if self.0.is_empty() {
            return;
        }
        world.resource_mut::<Asked>().pushes.add(&system.name().to_string(), self.0.drain(..));
    }
}

/// Sends the events that systems pushed. Called by Flush.
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
