//! `room.send` and `room.broadcast`: room data from scripts and plugins.

use kaos_kernel::codec::TO_ROOM;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, ReadyRooms, RoomMessage};
use kaos_kernel::send::Broadcast;
use serde::{Deserialize, Serialize};

use crate::broadcast::broadcast;
use crate::lifecycle::find;

/// Registers the operations of this file.
pub(crate) fn register(app: &mut App) {
    app.op(
        Op::new("room.send")
            .about("Puts a message into a room's inbox, in the server's name; a relayed room passes it on to all.")
            .server()
            .script(ScriptUse::Command)
            .args(&["room_id", "op", "data"]),
        send_op,
    )
    .op(
        Op::new("room.broadcast")
            .about("Sends room data to members, as kaos.broadcast does in a match.")
            .server()
            .script(ScriptUse::Broadcast),
        broadcast_op,
    );
}

/// A message to a room.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SendTo {
    /// The room.
    pub room_id: RoomId,
    /// The game's own number.
    #[serde(default)]
    pub op: u8,
    /// The game's own bytes.
    #[serde(default)]
    pub data: Blob,
}

/// Room data for members.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BroadcastRequest {
    /// The room.
    pub room_id: RoomId,
    /// In whose name; left out: the server's.
    #[serde(default)]
    pub sender: Option<SessionId>,
    /// The game's own number.
    #[serde(default)]
    pub op: u8,
    /// The game's own bytes.
    #[serde(default)]
    pub data: Blob,
    /// To which sessions; left out: all members.
    #[serde(default)]
    pub to: Option<Vec<SessionId>>,
    /// Must it arrive?
    #[serde(default = "yes")]
    pub reliable: bool,
}

fn yes() -> bool {
    true
}

async fn send_op(cx: Call, request: SendTo) -> Result<(), Fault> {
    cx.with(|world| {
        let entity = find(world, request.room_id)?;
        let frame = world.resource::<Clock>().frame();
        let limits = world.resource::<RoomSettings>().into();
        let relayed = world.get::<Room>(entity).is_some_and(|room| room.tick_rate == 0);
        let mut inbox =
            world.get_mut::<Inbox>(entity).ok_or_else(|| Fault::not_found("the room is ending"))?;
        let data = request.data.0;
        inbox.admit(data.len(), limits)?;
        inbox.push(RoomMessage { sender: None, to: TO_ROOM, op: request.op, data, reliable: true, frame });
        if relayed {
            world.resource_mut::<ReadyRooms>().0.insert(request.room_id);
            world.resource::<Clock>().wake_at(frame + 1);
        }
        Ok(())
    })
}

async fn broadcast_op(cx: Call, request: BroadcastRequest) -> Result<(), Fault> {
    let BroadcastRequest { room_id, sender, op, data, to, reliable } = request;
    let to = to.map(Into::into);
    cx.with(|world| broadcast(world, Broadcast { room: room_id, sender, op, data: data.0, to, reliable }))
}
