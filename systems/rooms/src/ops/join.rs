//! `room.join` and `room.leave`.

use kaos_kernel::prelude::*;
use kaos_wire::Opcode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::directory::RoomDirectory;
use crate::events::RoomClosed;
use crate::lifecycle::{Spec, close_room, create_room};
use crate::members::{join, leave, may_join};
use crate::ops::Named;
use crate::ops::create::{may_create, may_create_one_more, object};
use crate::ops::wire::{form, parse_join, parse_leave, render_joined, render_left};
use crate::quota::Creator;

/// Registers the operations of this file.
pub(crate) fn register(app: &mut App) {
    app.op(
        Op::new("room.join")
            .about("Joins a room by its id, or an open room of a module, which is made when there is none.")
            .session()
            .script(ScriptUse::Never)
            .price(5)
            .wire(form(Opcode::RoomJoin, Opcode::RoomJoin, parse_join, render_joined)),
        join_op,
    )
    .op(
        Op::new("room.leave")
            .about("Leaves a room.")
            .session()
            .script(ScriptUse::Never)
            .wire(form(Opcode::RoomLeave, Opcode::RoomLeave, parse_leave, render_left))
            .price(1),
        leave_op,
    );
}

/// Rooms that join-or-create asks before it makes a new one.
const CANDIDATES_MAX: usize = 8;

/// A request to join.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Join {
    /// This room, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// an open room of this module, which is made when there is none.
    pub module: String,
    /// An object for match_init when a room is made.
    #[serde(skip_serializing_if = "Json::is_null")]
    #[schemars(with = "Option<serde_json::Map<String, Json>>")]
    pub params: Json,
    /// For match_join_attempt.
    #[serde(skip_serializing_if = "Json::is_null")]
    #[schemars(with = "Option<serde_json::Map<String, Json>>")]
    pub metadata: Json,
    /// With a module: only rooms whose label is this text, or this object as JSON, in any order of its fields.
    pub label: String,
    /// Seats when a room is made; 0: the default.
    pub max_players: u32,
}

/// A seat was taken.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// The room.
    pub room_id: RoomId,
    /// How this session calls the room in room data.
    pub handle: u16,
    /// The session's own sender index.
    pub index: u16,
    /// Was the room made for this join?
    pub created: bool,
}

async fn join_op(cx: Call, mut request: Join) -> Result<Joined, Fault> {
    let session = cx.session()?.id;
    let caller = cx.caller().clone();
    let metadata = object(std::mem::take(&mut request.metadata), "metadata")?;
    if let Some(id) = request.room_id {
        let seat = cx.with(|world| join(world, session, id, &metadata))?;
        return Ok(Joined { room_id: id, handle: seat.handle, index: seat.index, created: false });
    }
    if request.module.is_empty() {
        return Err(Fault::invalid("a join names a room_id or a module"));
    }
    if let Some(joined) = cx.with(|world| join_open(world, session, &request, &metadata))? {
        return Ok(joined);
    }
    cx.with(|world| may_create(world, &caller).and_then(|()| may_create_one_more(world, &caller)))?;
    let waited = cx.turn().await?;
    cx.with(|world| {
        // Others had their turn before: there may be an open room by now.
        if waited && let Some(joined) = join_open(world, session, &request, &metadata)? {
            return Ok(joined);
        }
        let spec = Spec {
            id: None,
            module: request.module,
            params: object(request.params, "params")?,
            label: Json::Null,
            max_players: (request.max_players > 0).then_some(request.max_players),
            ends_empty: true,
            creator: Creator::of(&caller),
        };
        let id = create_room(world, spec)?;
        let seat = join(world, session, id, &metadata).inspect_err(|_| {
            // Made for this join and nobody else: it goes with it.
            let closed = RoomClosed::well("empty", "nobody came");
            close_room(world, id, closed);
        })?;
        Ok(Joined { room_id: id, handle: seat.handle, index: seat.index, created: true })
    })
}

/// Joins the first open room of the module that wants this session.
fn join_open(
    world: &mut World,
    session: SessionId,
    request: &Join,
    metadata: &Json,
) -> Result<Option<Joined>, Fault> {
    may_join(world, session)?;
    for id in world.resource::<RoomDirectory>().candidates(&request.module, &request.label, CANDIDATES_MAX) {
        match join(world, session, id, metadata) {
            Ok(seat) => {
                let joined = Joined { room_id: id, handle: seat.handle, index: seat.index, created: false };
                return Ok(Some(joined));
            }
            // These rooms do not want this session; another may.
            Err(fault)
                if matches!(
                    fault.kind,
                    FaultKind::Refused | FaultKind::Full | FaultKind::Exists | FaultKind::Script
                ) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(None)
}

async fn leave_op(cx: Call, request: Named) -> Result<Named, Fault> {
    let session = cx.session()?.id;
    cx.with(|world| leave(world, session, request.room_id, "left"))?;
    Ok(request)
}
