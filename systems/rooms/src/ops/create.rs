//! `room.create`.

use kaos_kernel::prelude::*;
use kaos_kernel::room::RoomCreation;
use kaos_kernel::spelling::nearest;
use kaos_wire::Opcode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::label::LabelSchema;
use crate::lifecycle::{Spec, create_room, room_for_one};
use crate::ops::wire::{form, parse_create, render_created};
use crate::quota::{Creator, RoomQuota};

/// Registers the operation of this file.
pub(crate) fn register(app: &mut App) {
    app.op(
        Op::new("room.create")
            .about("Makes a room: of a match module, or a relayed one without a script. Does not join it.")
            .script(ScriptUse::Command)
            .args(&["module", "params"])
            .draws("room_id")
            .check(check)
            .price(10)
            .wire(form(Opcode::RoomCreate, Opcode::RoomCreate, parse_create, render_created)),
        create_op,
    );
}

/// A script hears at once of a match that is not there.
fn check(known: &CheckContext<'_>, request: &dyn Tree) -> Result<(), String> {
    match request.text("module") {
        None | Some("") => Ok(()),
        Some(module) if known.matches.contains_key(module) => Ok(()),
        Some(module) => {
            let near = nearest(module, known.matches.keys().cloned());
            let module: String = module.chars().take(64).collect();
            Err(format!("`module`: there is no match module `{module}`{near}"))
        }
    }
}

/// A request for a room.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Create {
    /// A match module; empty: relayed.
    pub module: String,
    /// An object for match_init.
    #[serde(skip_serializing_if = "Json::is_null")]
    #[schemars(with = "Option<serde_json::Map<String, Json>>")]
    pub params: Json,
    /// The label of a relayed room: text or an object.
    #[serde(skip_serializing_if = "Json::is_null")]
    #[schemars(with = "Option<LabelSchema>")]
    pub label: Json,
    /// Seats; 0: the default.
    pub max_players: u32,
    /// The id that a script drew beforehand; only scripts may name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
}

/// A room was made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// Its id.
    pub room_id: RoomId,
}

pub(crate) fn may_create(world: &World, caller: &Caller) -> Result<(), Fault> {
    if caller.is_server() {
        return Ok(());
    }
    let denied = |why: &'static str| Err(Fault::new(FaultKind::Denied, why));
    match world.resource::<RoomSettings>().create {
        RoomCreation::Anyone => Ok(()),
        RoomCreation::Server => denied("on this server only scripts make rooms"),
        RoomCreation::Users => {
            let known = match caller {
                Caller::User(_) => true,
                Caller::Session(id) => {
                    world.of_session::<Session>(*id).is_some_and(|session| !session.anonymous)
                }
                Caller::Anonymous | Caller::Room(_) | Caller::Server => false,
            };
            if known { Ok(()) } else { denied("on this server only signed-in users make rooms") }
        }
    }
}

/// What [`create_room`] refuses whatever the room is: told at once, and not after a turn was waited for.
pub(crate) fn may_create_one_more(world: &World, caller: &Caller) -> Result<(), Fault> {
    room_for_one(world)?;
    Creator::of(caller).map_or(Ok(()), |creator| RoomQuota::admit(world, creator).map(drop))
}

/// Parameters are an object, or nothing.
pub(crate) fn object(value: Json, what: &str) -> Result<Json, Fault> {
    match value {
        Json::Null => Ok(Json::Object(serde_json::Map::new())),
        // An empty Lua table reads as an empty list.
        Json::Array(list) if list.is_empty() => Ok(Json::Object(serde_json::Map::new())),
        object @ Json::Object(_) => Ok(object),
        _ => Err(Fault::invalid(format!("{what} is an object"))),
    }
}

async fn create_op(cx: Call, request: Create) -> Result<Created, Fault> {
    let caller = cx.caller().clone();
    cx.with(|world| may_create(world, &caller).and_then(|()| may_create_one_more(world, &caller)))?;
    if !request.module.is_empty() {
        cx.turn().await?;
    }
    cx.with(|world| {
        let spec = Spec {
            id: request.room_id.filter(|_| caller.is_server()),
            module: request.module,
            params: object(request.params, "params")?,
            label: request.label,
            max_players: (request.max_players > 0).then_some(request.max_players),
            ends_empty: !caller.is_server(),
            creator: Creator::of(&caller),
        };
        create_room(world, spec).map(|room_id| Created { room_id })
    })
}
