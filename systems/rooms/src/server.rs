//! The operations on the server itself: what it offers, and pushing events from scripts.

use kaos_kernel::event::Events;
use kaos_kernel::op::{Ops, Schema};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_kernel::send::push_json;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Registers the operations of this file.
pub(crate) fn register(app: &mut App) {
    app.read_op(
        Op::new("server.describe")
            .about("Lists the operations that clients may call, and the events that they may hear.")
            .rest("GET /v1/describe")
            .price(5),
        describe,
    )
    .op(
        Op::new("event.push")
            .about("Pushes an event to a session, a user, a room, or what a feature has a name for.")
            .server()
            .script(ScriptUse::Command)
            .args(&["to", "event", "body"]),
        push_event,
    );
}

/// How much is described.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Describe {
    /// With the JSON Schema of every request, reply and event.
    pub schemas: bool,
}

/// What a server offers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// What clients may call, in the order of registration.
    pub ops: Vec<OpShown>,
    /// What clients may hear, in the order of registration.
    pub events: Vec<EventShown>,
}

/// An operation, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OpShown {
    /// Its dotted name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// Who may call: `public`, `user` or `session`.
    pub auth: String,
    /// Its HTTP routes: `GET /v1/rooms`.
    pub routes: Vec<String>,
    /// What a request holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Json>,
    /// What a reply holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Json>,
}

/// An event, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventShown {
    /// Its dotted name.
    pub name: String,
    /// When it comes.
    pub about: String,
    /// Whether it arrives, in order, after a lost connection too.
    pub reliable: bool,
    /// What its body holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
}

fn describe(world: &World, _: &Caller, request: Describe) -> Result<Description, Fault> {
    let with = |schema: &Schema| request.schemas.then(|| schema.json());
    let ops = world.resource::<Ops>().0.rows().iter().filter_map(|row| {
        let auth = match row.op.auth {
            Auth::Public => "public",
            Auth::User => "user",
            Auth::Session => "session",
            Auth::Server => return None,
        };
        Some(OpShown {
            name: row.op.name.clone(),
            about: row.op.about.to_owned(),
            auth: auth.to_owned(),
            routes: row.op.rests().map(|(_, rest)| format!("{} {}", rest.method, rest.path)).collect(),
            request: with(&row.request),
            reply: with(&row.reply),
        })
    });
    // What has a binary form is heard through it: a room's events in the room.
    let named = world.resource::<Events>().0.rows().iter().filter(|row| row.event.form.is_none());
    let events = named.map(|row| EventShown {
        name: row.event.name.clone(),
        about: row.event.about.to_owned(),
        reliable: row.event.channel != Channel::Unreliable,
        body: with(&row.body),
    });
    Ok(Description { ops: ops.collect(), events: events.collect() })
}

/// An event to be pushed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PushEvent {
    /// To whom.
    pub to: Target,
    /// The event's dotted name.
    pub event: String,
    /// What it says.
    #[serde(default)]
    pub body: Json,
}

async fn push_event(cx: Call, request: PushEvent) -> Result<usize, Fault> {
    let PushEvent { to, event, body } = request;
    cx.with(|world| push_json(world, &to, &event, body)).map(|pushed| pushed.sessions)
}
