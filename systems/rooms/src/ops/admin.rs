//! `room.kick`, `room.label` and `room.signal`: what scripts and plugins do to rooms.

use kaos_kernel::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::broadcast::{Audience, tell};
use crate::directory;
use crate::due_rooms::DueRooms;
use crate::events::LabelChanged;
use crate::label::{LabelSchema, check_label};
use crate::lifecycle::find;
use crate::matches::{Matches, ask_match};
use crate::members::kick;

/// Registers the operations of this file.
pub(crate) fn register(app: &mut App) {
    app.op(
        Op::new("room.kick")
            .about("Takes a session out of a room; its connection stays.")
            .server()
            .script(ScriptUse::Command)
            .args(&["room_id", "session_id", "reason"]),
        kick_op,
    )
    .op(
        Op::new("room.label")
            .about("Changes a room's label: text or an object.")
            .server()
            .script(ScriptUse::Command)
            .args(&["room_id", "label"]),
        label_op,
    )
    .op(
        Op::new("room.signal")
            .about("Calls a match's match_signal and returns what it answers.")
            .server()
            .args(&["room_id", "data"]),
        signal_op,
    );
}

/// A request to take a session out of a room.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Kick {
    /// The room.
    pub room_id: RoomId,
    /// The session.
    pub session_id: SessionId,
    /// A sentence for the one who is kicked.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A request for another label.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Relabel {
    /// The room.
    pub room_id: RoomId,
    /// Text or an object.
    #[schemars(with = "LabelSchema")]
    pub label: Json,
}

/// A signal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// The room.
    pub room_id: RoomId,
    /// For match_signal.
    #[serde(default)]
    pub data: Json,
}

async fn kick_op(cx: Call, request: Kick) -> Result<(), Fault> {
    let reason = request.reason.unwrap_or_default();
    cx.with(|world| kick(world, request.session_id, request.room_id, &reason))
}

async fn label_op(cx: Call, request: Relabel) -> Result<(), Fault> {
    cx.with(|world| set_label(world, request.room_id, request.label))
}

/// Changes a room's label and tells its members.
fn set_label(world: &mut World, id: RoomId, label: Json) -> Result<(), Fault> {
    let bytes_max = world.resource::<RoomSettings>().label_bytes_max;
    check_label(&label, bytes_max)?;
    let entity = find(world, id)?;
    let Some(mut room) = world.get_mut::<Room>(entity).filter(|room| room.label != label) else {
        return Ok(());
    };
    room.label = label.clone();
    directory::label_changed(world, entity);
    if let Some(mut matches) = world.get_non_send_mut::<Matches>()
        && let Some(entry) = matches.by_room.get_mut(&id)
    {
        entry.game.set_label(&label);
    }
    tell(world, entity, Audience::All, LabelChanged(label))
}

async fn signal_op(cx: Call, request: Signal) -> Result<Json, Fault> {
    cx.with(|world| {
        find(world, request.room_id)?;
        let answer =
            ask_match(world, request.room_id, "match_signal", |game, env| game.signal(env, &request.data));
        // What the match wished is done in the Match stage, which must then come.
        world.resource_mut::<DueRooms>().events.insert(request.room_id);
        match answer {
            None => {
                Err(Fault::new(FaultKind::Precondition, "the room is relayed: it has no match to signal"))
            }
            Some(answer) => answer.map_err(|error| {
                error.refusal.unwrap_or_else(|| Fault::new(FaultKind::Script, error.message))
            }),
        }
    })
}
