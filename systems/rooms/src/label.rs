//! Labels: text or an object, by which rooms are found.

use kaos_kernel::codec::{Outbound, RoomEvent};
use kaos_kernel::prelude::*;
use serde_json::Value as Json;

use crate::broadcast::{Audience, send_to_room};
use crate::directory;
use crate::lifecycle::find;
use crate::matches::Matches;

/// A label as text: itself, or an object as JSON.
pub(crate) fn label_text(label: &Json) -> String {
    match label {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

pub(crate) fn check_label(label: &Json, bytes_max: usize) -> Result<(), Fault> {
    if !matches!(label, Json::String(_) | Json::Object(_) | Json::Null) {
        return Err(Fault::invalid("a label is text or an object"));
    }
    let bytes = label.to_string().len();
    if bytes > bytes_max {
        return Err(Fault::invalid(format!(
            "the label has {bytes} bytes as JSON: at most {bytes_max} are allowed"
        )));
    }
    Ok(())
}

/// Changes a room's label and tells its members.
pub(crate) fn set_label(world: &mut World, id: RoomId, label: Json) -> Result<(), Fault> {
    let bytes_max = world.resource::<RoomSettings>().label_bytes_max;
    check_label(&label, bytes_max)?;
    let entity = find(world, id)?;
    let Some(mut room) = world.get_mut::<Room>(entity).filter(|room| room.label != label) else {
        return Ok(());
    };
    room.label = label.clone();
    directory::note(world, entity, true);
    if let Some(mut matches) = world.get_non_send_mut::<Matches>()
        && let Some(entry) = matches.by_room.get_mut(&id)
    {
        entry.game.set_label(&label);
    }
    send_to_room(world, entity, Audience::All, &Outbound::Room(RoomEvent::Label(label)))
}

/// What a label is on every door, for schemas.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: a label is kept as JSON")]
pub(crate) enum LabelSchema {
    /// Text, by which rooms are found when it is equal.
    Text(String),
    /// An object, by whose fields rooms are found.
    Object(serde_json::Map<String, Json>),
}
