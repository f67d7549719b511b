//! The operations on rooms: what can be asked for, by whom, and in which forms.

use kaos_kernel::op::{ParseWire, Payload, WireForm};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_kernel::room::{Inbox, ReadyRooms, RoomMessage, Seats, TickSchedule};
use kaos_kernel::settings::RoomCreation;
use kaos_kernel::{
    codec::{Closed, TO_ROOM},
    script::Broadcast,
};
use kaos_wire::prost::Message as _;
use kaos_wire::{ClientMessage, Op as Opcode, decode_client, v1};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::Agenda;
use crate::broadcast::broadcast;
use crate::life::{Spec, close_room, create_room, find, room_for_one, set_label};
use crate::lobby::Lobby;
use crate::members::{ask_match, join, kick, label_text, leave, may_join};
use crate::quota::{Creator, RoomQuota};

/// Rooms that join-or-create asks before it makes a new one.
const CANDIDATES_MAX: usize = 8;

/// Rooms that one list returns at most.
const LIST_MAX: usize = 100;

/// Registers every operation of this file.
pub(crate) fn register(app: &mut App) {
    app.op(
        Op::new("room.create")
            .about("Makes a room: of a match module, or a relayed one without a script. Does not join it.")
            .script(ScriptUse::Command)
            .args(&["module", "params"])
            .draws("room_id")
            .cost(10)
            .wire(Channel::Data, form(Opcode::RoomCreate, Opcode::RoomCreate, parse_create, render_created)),
        create_op,
    )
    .op(
        Op::new("room.join")
            .about("Joins a room by its id, or an open room of a module, which is made when there is none.")
            .session()
            .script(ScriptUse::Never)
            .cost(5)
            .wire(Channel::Data, form(Opcode::RoomJoin, Opcode::RoomJoin, parse_join, render_joined)),
        join_op,
    )
    .op(
        Op::new("room.leave")
            .about("Leaves a room.")
            .session()
            .script(ScriptUse::Never)
            .wire(Channel::Data, form(Opcode::RoomLeave, Opcode::RoomLeave, parse_leave, render_left)),
        leave_op,
    )
    .read_op(
        Op::new("room.get").about("Shows a room.").args(&["room_id"]).rest("GET /v1/rooms/{room_id}"),
        get_op,
    )
    .read_op(
        Op::new("room.list")
            .about("Lists rooms by module, label and size, the oldest first.")
            .cost(5)
            .rest("GET /v1/rooms"),
        list_op,
    )
    .read_op(
        Op::new("room.presences").about("Lists who is in a room, in the order of joining.").server().args(&["room_id"]),
        presences_op,
    )
    .op(
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
            .script(ScriptUse::Never),
        broadcast_op,
    )
    .op(
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

/// A request for a room.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// A match module; empty: relayed.
    pub module: String,
    /// An object for match_init.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub params: Json,
    /// The label of a relayed room: text or an object.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub label: Json,
    /// Seats; 0: the default.
    pub max_players: u32,
    /// The id that a script drew beforehand; only scripts may name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
}

/// A room was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub room_id: RoomId,
}

/// A request to join.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Join {
    /// This room, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// an open room of this module, which is made when there is none.
    pub module: String,
    /// An object for match_init when a room is made.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub params: Json,
    /// For match_join_attempt.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub metadata: Json,
    /// With a module: only rooms whose label is this text, or this object as JSON, in any order of its fields.
    pub label: String,
    /// Seats when a room is made; 0: the default.
    pub max_players: u32,
}

/// A seat was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A request that names a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    /// The room.
    pub room_id: RoomId,
}

/// What is asked of a list. A field that is left out asks for nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// Rooms of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Rooms whose label is this text, or an object with these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Json>,
    /// Members at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u32>,
    /// Members at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u32>,
    /// Rooms at most, 1 to 100. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A room, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// Its id.
    pub room_id: RoomId,
    /// Its match module; empty: relayed.
    pub module: String,
    /// Text or an object.
    pub label: Json,
    /// Ticks a second; 0: relayed.
    pub tick_rate: u8,
    /// The last tick that ran.
    pub tick: u64,
    /// Members.
    pub size: u32,
    /// Seats.
    pub max_players: u32,
}

/// A message to a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A request to take a session out of a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relabel {
    /// The room.
    pub room_id: RoomId,
    /// Text or an object.
    pub label: Json,
}

/// A signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signal {
    /// The room.
    pub room_id: RoomId,
    /// For match_signal.
    #[serde(default)]
    pub data: Json,
}

fn may_create(world: &World, caller: &Caller) -> Result<(), Fault> {
    if caller.is_server() {
        return Ok(());
    }
    let denied = |why: &'static str| Err(Fault::new(FaultKind::Denied, why));
    match world.resource::<Settings>().room.create {
        RoomCreation::Anyone => Ok(()),
        RoomCreation::Server => denied("on this server only scripts make rooms"),
        RoomCreation::Users => {
            let known = match caller {
                Caller::User(_) => true,
                Caller::Session(id) => {
                    let entity = world.resource::<SessionIndex>().get(*id);
                    entity
                        .and_then(|entity| world.get::<Session>(entity))
                        .is_some_and(|session| !session.anonymous)
                }
                Caller::Anonymous | Caller::Room(_) | Caller::Server => false,
            };
            if known { Ok(()) } else { denied("on this server only signed-in users make rooms") }
        }
    }
}

/// What [`create_room`] refuses whatever the room is: told at once, and not after a turn was waited for.
fn may_create_one_more(world: &World, caller: &Caller) -> Result<(), Fault> {
    room_for_one(world)?;
    Creator::of(caller).map_or(Ok(()), |creator| RoomQuota::admit(world, creator).map(drop))
}

/// Parameters are an object, or nothing.
fn object(value: Json, what: &str) -> Result<Json, Fault> {
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
            let closed = Closed { code: 0, reason: "empty".to_owned(), message: "nobody came".to_owned() };
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
    for id in world.resource::<Lobby>().candidates(&request.module, &request.label, CANDIDATES_MAX) {
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

fn show(world: &World, id: RoomId, entity: Entity) -> Option<Shown> {
    let room = world.get::<Room>(entity)?;
    Some(Shown {
        room_id: id,
        module: room.module.clone(),
        label: room.label.clone(),
        tick_rate: room.tick_rate,
        tick: world.get::<TickSchedule>(entity).map_or(0, |beat| beat.next.saturating_sub(1)),
        size: world.get::<Seats>(entity).map_or(0, |seats| seats.taken),
        max_players: room.max_players,
    })
}

fn get_op(world: &World, caller: &Caller, request: Named) -> Result<Option<Shown>, Fault> {
    let shown = find(world, request.room_id).map(|entity| show(world, request.room_id, entity));
    match shown {
        // A script asks whether a room is there and gets nil; a client named one that is not.
        Err(_) if caller.is_server() => Ok(None),
        shown => shown,
    }
}

fn list_op(world: &World, _: &Caller, query: Option<Query>) -> Result<Vec<Shown>, Fault> {
    let query = query.unwrap_or_default();
    let limit = query.limit.unwrap_or(10);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(Fault::invalid(format!("limit is {limit}: it goes from 1 to {LIST_MAX}")));
    }
    let fits = |room: &Room, size: u32| {
        query.module.as_ref().is_none_or(|module| *module == room.module)
            && query.min_size.is_none_or(|min| size >= min)
            && query.max_size.is_none_or(|max| size <= max)
            && query.label.as_ref().is_none_or(|label| label_fits(label, &room.label))
    };
    let rooms = world.resource::<Lobby>().rooms().filter(|(_, entity)| {
        let size = world.get::<Seats>(*entity).map_or(0, |seats| seats.taken);
        world.get::<Room>(*entity).is_some_and(|room| fits(room, size))
    });
    Ok(rooms.take(limit).filter_map(|(id, entity)| show(world, id, entity)).collect())
}

/// Text must be equal; of an object, every field that was asked for must be.
fn label_fits(asked: &Json, label: &Json) -> bool {
    match asked {
        Json::Object(fields) => fields.iter().all(|(name, value)| label.get(name) == Some(value)),
        Json::Null => true,
        Json::Array(list) if list.is_empty() => true,
        Json::String(asked) if !matches!(label, Json::Object(_)) => label.as_str().unwrap_or("") == asked,
        asked => label_text(asked) == label_text(label),
    }
}

fn presences_op(world: &World, _: &Caller, request: Named) -> Result<Vec<PresenceInfo>, Fault> {
    let Ok(entity) = find(world, request.room_id) else { return Ok(Vec::new()) };
    let members = world.get::<Presences>(entity).map(Presences::entities).unwrap_or_default();
    let infos = members.iter().filter_map(|entity| world.get::<Presence>(*entity));
    Ok(infos.map(|presence| (*presence.info).clone()).collect())
}

async fn send_op(cx: Call, request: SendTo) -> Result<(), Fault> {
    cx.with(|world| {
        let entity = find(world, request.room_id)?;
        let frame = world.resource::<Clock>().frame();
        let (messages_max, bytes_max) = {
            let settings = &world.resource::<Settings>().room;
            (settings.inbox_messages, settings.inbox_bytes)
        };
        let relayed = world.get::<Room>(entity).is_some_and(|room| room.tick_rate == 0);
        let mut inbox =
            world.get_mut::<Inbox>(entity).ok_or_else(|| Fault::not_found("the room is ending"))?;
        let data = request.data.0;
        if inbox.messages.len() >= messages_max || inbox.bytes + data.len() > bytes_max {
            return Err(Fault::new(FaultKind::Busy, "the room's inbox is full").retry_in_ms(100));
        }
        inbox.bytes += data.len();
        inbox.messages.push_back(RoomMessage {
            sender: None,
            to: TO_ROOM,
            op: request.op,
            data,
            reliable: true,
            frame,
        });
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

async fn kick_op(cx: Call, request: Kick) -> Result<(), Fault> {
    let reason = request.reason.unwrap_or_default();
    cx.with(|world| kick(world, request.session_id, request.room_id, &reason))
}

async fn label_op(cx: Call, request: Relabel) -> Result<(), Fault> {
    cx.with(|world| set_label(world, request.room_id, request.label))
}

async fn signal_op(cx: Call, request: Signal) -> Result<Json, Fault> {
    cx.with(|world| {
        find(world, request.room_id)?;
        let answer =
            ask_match(world, request.room_id, "match_signal", |game, env| game.signal(env, &request.data));
        // What the match wished is done in the Match stage, which must then come.
        world.resource_mut::<Agenda>().events.insert(request.room_id);
        match answer {
            None => {
                Err(Fault::new(FaultKind::Precondition, "the room is relayed: it has no match to signal"))
            }
            Some(answer) => answer.map_err(|error| Fault::new(FaultKind::Script, error.message)),
        }
    })
}

// ---- binary forms ---------------------------------------------------------------------------

fn form(
    request: Opcode,
    reply: Opcode,
    parse: ParseWire,
    render: fn(u32, &dyn Payload) -> Result<Vec<u8>, Fault>,
) -> WireForm {
    WireForm { opcode: request as u8, reply_opcode: reply as u8, parse, render }
}

/// Reads a payload with all checks of the wire.
pub(crate) fn read(op: Opcode, payload: &[u8]) -> Result<ClientMessage<'_>, Fault> {
    decode_client(op as u8, payload).map_err(|error| Fault::invalid(error.to_string()))
}

/// The reply of an operation, as the type that its renderer expects.
pub(crate) fn reply<T: 'static>(reply: &dyn Payload) -> Result<&T, Fault> {
    let reply = reply.as_any().downcast_ref::<T>();
    reply.ok_or_else(|| Fault::internal("a reply reached the wrong renderer"))
}

fn json(text: &str, field: &str) -> Result<Json, Fault> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_str(text).map_err(|error| Fault::invalid(format!("{field} is no JSON: {error}")))
}

/// A label on the wire: JSON when it begins like an object, text otherwise.
fn label(text: String) -> Result<Json, Fault> {
    if text.trim_start().starts_with('{') { json(&text, "label") } else { Ok(Json::String(text)) }
}

fn wrong() -> Fault {
    Fault::internal("a payload reached the wrong parser")
}

fn parse_create(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomCreate(m) = read(Opcode::RoomCreate, payload)? else { return Err(wrong()) };
    let params = json(&m.params, "params")?;
    let label = label(m.label)?;
    let create = Create { module: m.module, params, label, max_players: m.max_players, room_id: None };
    Ok((m.cid, Box::new(create)))
}

fn render_created(cid: u32, payload: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let created = reply::<Created>(payload)?;
    Ok(v1::RoomCreated { cid, room_id: created.room_id.to_string() }.encode_to_vec())
}

fn parse_join(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomJoin(m) = read(Opcode::RoomJoin, payload)? else { return Err(wrong()) };
    let room_id = room_id(&m.room_id)?;
    let params = json(&m.params, "params")?;
    let metadata = json(&m.metadata, "metadata")?;
    let join =
        Join { room_id, module: m.module, params, metadata, label: m.label, max_players: m.max_players };
    Ok((m.cid, Box::new(join)))
}

fn room_id(text: &str) -> Result<Option<RoomId>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Fault::invalid(format!("room_id: {error}")))
}

fn render_joined(cid: u32, payload: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let joined = reply::<Joined>(payload)?;
    let message = v1::RoomJoined {
        cid,
        room_id: joined.room_id.to_string(),
        handle: joined.handle.into(),
        index: joined.index.into(),
        created: joined.created,
    };
    Ok(message.encode_to_vec())
}

fn parse_leave(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let ClientMessage::RoomLeave(m) = read(Opcode::RoomLeave, payload)? else { return Err(wrong()) };
    let room_id = room_id(&m.room_id)?.ok_or_else(|| Fault::invalid("room_id is missing"))?;
    Ok((m.cid, Box::new(Named { room_id })))
}

fn render_left(cid: u32, payload: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let left = reply::<Named>(payload)?;
    Ok(v1::RoomLeft { cid, room_id: left.room_id.to_string() }.encode_to_vec())
}
