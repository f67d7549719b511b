//! `Core::Ingest`: inputs become peers, sessions, calls and answers. Data is left to Route.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::call::{Caller, Calls, FrameOutputs, ReplyTo, route};
use crate::clock::Clock;
use crate::codec::Outbound;
use crate::deadline::{DeadlineOf, Deadlines};
use crate::dice::ServerDice;
use crate::failures::{guarded, put_back};
use crate::fault::{Fault, FaultKind};
use crate::flush::close_slow_reader;
use crate::hooks::HookDice;
use crate::ids::{PeerId, SessionId, Ticket};
use crate::input::{Body, Claim, Counts, Gone, Identity, Input};
use crate::limit::Addresses;
use crate::op::Ops;
use crate::output::{Answer, Reply};
use crate::resend::{ResendBuffer, Resumed};
use crate::room::SessionFacts;
use crate::session::{
    Handles, Peer, PeerIndex, Session, SessionIndex, SessionState, close_peer, end_session, forget_peer,
    lose_peer, send_now,
};
use crate::settings::Settings;

/// The inputs of this frame, and the data among them that Route will read.
#[derive(Resource, Default)]
pub(crate) struct FrameInputs {
    pub(crate) inputs: Vec<Input>,
    pub(crate) data: Vec<PeerData>,
}

impl FrameInputs {
    /// Gives memory beyond so many rows back.
    pub(crate) fn shrink_to(&mut self, rows: usize) {
        self.inputs.shrink_to(rows);
        self.data.shrink_to(rows);
    }
}

/// What a peer sent, with the session that the peer carried when it came: the peer may be gone by the end of Ingest.
pub(crate) struct PeerData {
    pub(crate) peer: PeerId,
    pub(crate) session: SessionId,
    pub(crate) entity: Entity,
    pub(crate) bytes: Bytes,
}

/// The whole of `Core::Ingest`.
pub(crate) fn ingest(world: &mut World) {
    let any = !world.resource::<FrameInputs>().inputs.is_empty();
    if any {
        let mut inputs = std::mem::take(&mut world.resource_mut::<FrameInputs>().inputs);
        for input in inputs.drain(..) {
            let peer = peer_of(&input);
            if guarded(|| take(world, input)).is_none() {
                end_after_panic(world, peer);
            }
        }
        world.resource_mut::<FrameInputs>().inputs = inputs;
    }
    expire(world);
}

/// Whose input it is.
fn peer_of(input: &Input) -> Option<PeerId> {
    match input {
        Input::Open { peer, .. }
        | Input::Start { peer, .. }
        | Input::Data { peer, .. }
        | Input::Gone { peer, .. }
        | Input::Blocked { peer, .. }
        | Input::Writable { peer } => Some(*peer),
        _ => None,
    }
}

/// An input was taken half since a plugin's observer panicked: whoever it came from ends, and nobody else.
fn end_after_panic(world: &mut World, peer: Option<PeerId>) {
    tracing::error!(?peer, "an input was taken only half, since something panicked: its peer ends");
    let Some(peer) = peer else { return };
    let ended = guarded(|| match session_of(world, peer) {
        Some(session) => {
            end_session(world, session, Some(FaultKind::Internal.into()));
        }
        None => {
            send_now(world, peer, &Outbound::Ended(FaultKind::Internal.into()));
            close_peer(world, peer, Some(FaultKind::Internal));
        }
    });
    if ended.is_none() {
        tracing::error!(?peer, "nor could it be ended without a panic");
    }
}

fn take(world: &mut World, input: Input) {
    match input {
        Input::Boot(boot) => {
            world.resource_mut::<Clock>().set_wall_ms(boot.wall_ms);
            let dice = ServerDice::new(boot.seed);
            world.insert_resource(HookDice(dice.of("hooks", 0)));
            world.insert_resource(dice);
            let mut index = world.resource_mut::<SessionIndex>();
            // Sixteen bits of the start in seconds: the next run of this node gives other ids.
            index.boot = (boot.wall_ms / 1000) as u16;
            index.node = boot.node;
        }
        Input::Wall { ms } => world.resource_mut::<Clock>().set_wall_ms(ms),
        Input::Open { peer, door, address } => open(world, peer, door, address),
        Input::Start { peer, claim, fresh, vars } => start(world, peer, claim, fresh, vars),
        Input::Data { peer, bytes } => data(world, peer, bytes),
        Input::Gone { peer, reason } => gone(world, peer, reason),
        Input::Blocked { peer, control, data } => {
            with_resend(world, peer, |resend| resend.blocked(control, data));
        }
        Input::Writable { peer } => {
            with_resend(world, peer, ResendBuffer::writable);
            let slot = session_of(world, peer).map(SessionId::slot);
            world.resource_mut::<DirtySessions>().0.extend(slot);
        }
        Input::Call { ticket, op, identity, address, body } => {
            call(world, ticket, &op, identity, address, &body)
        }
        Input::Cancel { ticket } => calls(world, |calls, _| calls.cancel(ticket)),
        Input::Done { ticket, answer } => calls(world, |calls, _| calls.done(ticket, answer)),
        Input::Ask { ticket, seq, op, body } => ask(world, ticket, seq, &op, body),
        Input::Stuck { room, ms } => world.resource_mut::<SessionFacts>().news.stuck.push((room, ms)),
        Input::Stop { grace_s } => {
            world.resource_mut::<SessionFacts>().news.stopping = Some(grace_s);
            world.insert_resource(Stopping);
        }
    }
}

/// The server is stopping: no new sessions, calls or rooms.
#[derive(Resource)]
pub struct Stopping;

/// Sessions whose keep may have something for their peer.
#[derive(Resource, Default)]
pub(crate) struct DirtySessions(pub(crate) Vec<u32>);

fn now_ns(world: &World) -> u64 {
    let clock = world.resource::<Clock>();
    clock.frame().saturating_mul(clock.quantum().us() * 1000)
}

fn session_of(world: &World, peer: PeerId) -> Option<SessionId> {
    let entity = world.resource::<PeerIndex>().get(peer)?;
    world.get::<Peer>(entity)?.session
}

fn with_resend(world: &mut World, peer: PeerId, work: impl FnOnce(&mut ResendBuffer)) {
    let entity = session_of(world, peer).and_then(|id| world.resource::<SessionIndex>().get(id));
    if let Some(mut resend) = entity.and_then(|entity| world.get_mut::<ResendBuffer>(entity)) {
        work(&mut resend);
    }
}

fn calls(world: &mut World, work: impl FnOnce(&mut Calls, &mut World)) {
    if let Some(calls) = world.remove_non_send::<Calls>() {
        put_back(
            world,
            calls,
            |world, calls| work(calls, world),
            |world, calls| world.insert_non_send(calls),
        );
    }
}

fn open(world: &mut World, peer: PeerId, door: crate::input::Door, address: std::net::IpAddr) {
    let now = now_ns(world);
    let (limits, start_ms) = {
        let settings = world.resource::<Settings>();
        (settings.limit.clone(), settings.session.start_ms)
    };
    if !world.resource::<PeerIndex>().is_free(peer) {
        tracing::error!(?peer, "a door opened a peer in a place that is taken or does not exist");
        return;
    }
    let frame = world.resource::<Clock>().frame();
    let admitted = world.resource_mut::<Addresses>().open(address, now, &limits);
    // Known before observers hear of it: one that panics leaves nothing that is not found again.
    let entity = world.spawn_empty().id();
    world.resource_mut::<PeerIndex>().insert(peer, entity);
    world.entity_mut(entity).insert(Peer { id: peer, door, address, opened: frame, session: None, admitted });
    if !admitted {
        let fault = Fault::new(FaultKind::Busy, "too many connections from this address").retry_in_ms(5000);
        send_now(world, peer, &Outbound::Ended(fault));
        close_peer(world, peer, Some(FaultKind::Busy));
        return;
    }
    let frames = world.resource::<Clock>().frames_in_ms(start_ms);
    world.resource_mut::<Deadlines>().add(DeadlineOf::Peer(peer), frame + frames);
}

/// Notes who is heard, before the silent are looked for, and leaves the reading to Route.
fn data(world: &mut World, peer: PeerId, bytes: Bytes) {
    let Some(of) = world.resource::<PeerIndex>().get(peer).and_then(|entity| world.get::<Peer>(entity))
    else {
        return;
    };
    let Some(session) = of.session else {
        let fault = Fault::new(FaultKind::Protocol, "the first message has to be a SessionStart");
        send_now(world, peer, &Outbound::Ended(fault));
        close_peer(world, peer, Some(FaultKind::Protocol));
        return;
    };
    let frame = world.resource::<Clock>().frame();
    let Some(entity) = world.resource::<SessionIndex>().get(session) else { return };
    if let Some(mut session) = world.get_mut::<Session>(entity) {
        session.last_heard = frame;
    }
    world.resource_mut::<FrameInputs>().data.push(PeerData { peer, session, entity, bytes });
}

fn start(
    world: &mut World,
    peer: PeerId,
    claim: Claim,
    fresh: [u8; 16],
    vars: std::collections::BTreeMap<String, String>,
) {
    let Some(entity) = world.resource::<PeerIndex>().get(peer) else { return };
    let Some(of) = world.get::<Peer>(entity).cloned() else { return };
    let result = if of.session.is_some() {
        Err(Fault::new(
            FaultKind::Protocol,
            "the session has started already: one SessionStart for each connection",
        ))
    } else {
        admit(world, &of).and_then(|()| match claim {
            Claim::Resume { session, token, received } => resume(world, &of, session, token, received, fresh),
            Claim::User(identity) => begin(world, &of, identity, false, fresh, vars),
            Claim::Anonymous { name } => {
                let user_id = world.resource_mut::<ServerDice>().uuid().hyphenated().to_string();
                begin(
                    world,
                    &of,
                    Identity { user_id, username: name, ..Identity::default() },
                    true,
                    fresh,
                    vars,
                )
            }
        })
    };
    if let Err(fault) = result {
        let kind = fault.kind;
        match of.session {
            Some(session) => {
                end_session(world, session, Some(fault));
            }
            None => {
                send_now(world, peer, &Outbound::Ended(fault));
                close_peer(world, peer, Some(kind));
            }
        }
    }
}

fn admit(world: &mut World, peer: &Peer) -> Result<(), Fault> {
    if world.contains_resource::<Stopping>() {
        return Err(FaultKind::Stopping.into());
    }
    let now = now_ns(world);
    let limits = world.resource::<Settings>().limit.clone();
    world.resource_mut::<Addresses>().start(peer.address, now, &limits).map_err(|retry_ms| {
        Fault::new(FaultKind::RateLimited, "too many session starts from this address").retry_in_ms(retry_ms)
    })
}

fn begin(
    world: &mut World,
    peer: &Peer,
    identity: Identity,
    anonymous: bool,
    fresh: [u8; 16],
    vars: std::collections::BTreeMap<String, String>,
) -> Result<(), Fault> {
    let settings = world.resource::<Settings>();
    let (sessions_max, user_max) = (settings.limit.sessions_max, settings.limit.user_sessions_max);
    let (idle_ms, replace) = (settings.session.idle_ms, settings.session.replace);
    let others: Vec<SessionId> =
        world.resource::<SessionIndex>().by_user.get(&identity.user_id).cloned().unwrap_or_default();
    let live = |world: &World, id: &SessionId| {
        let entity = world.resource::<SessionIndex>().get(*id);
        entity.and_then(|entity| world.get::<Session>(entity)).is_some_and(|session| session.ending.is_none())
    };
    let others: Vec<SessionId> = others.into_iter().filter(|id| live(world, id)).collect();
    if !replace && others.len() >= user_max as usize {
        return Err(Fault::new(FaultKind::Busy, format!("this user has {user_max} sessions already")));
    }
    // First the new, then the end of the old: who is refused has not lost what he had.
    let id = world
        .resource_mut::<SessionIndex>()
        .reserve(sessions_max)
        .ok_or_else(|| Fault::new(FaultKind::Busy, "the server is full").retry_in_ms(5000))?;
    let frame = world.resource::<Clock>().frame();
    let idle = world.resource::<Clock>().frames_in_ms(idle_ms);
    let session = Session {
        id,
        identity: identity.clone(),
        anonymous,
        vars,
        peer: Some(peer.id),
        door: peer.door,
        address: peer.address,
        started: frame,
        last_input: frame,
        last_heard: frame,
        lost_since: None,
        rtt_us: 0,
        ending: None,
    };
    let state = SessionState { resume_token: fresh, ..SessionState::default() };
    let entity = world.spawn_empty().id();
    world.resource_mut::<SessionIndex>().enter(id, entity, &identity.user_id);
    let made = guarded(|| {
        world.entity_mut(entity).insert((session, state, ResendBuffer::default(), Handles::default()));
    });
    if made.is_none() {
        tracing::error!(session = %id, "an observer of new sessions panicked: this one is refused");
        world.resource_mut::<SessionIndex>().remove(id, &identity.user_id);
        if guarded(|| world.despawn(entity)).is_none() {
            tracing::error!(session = %id, "an observer of sessions that go panicked too");
        }
        return Err(FaultKind::Internal.into());
    }
    for other in others.into_iter().filter(|_| replace) {
        end_session(world, other, Some(FaultKind::Replaced.into()));
    }
    bind(world, peer.id, id);
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + idle);
    started(world, peer.id, id, identity, fresh, None);
    Ok(())
}

fn bind(world: &mut World, id: PeerId, session: SessionId) {
    let entity = world.resource::<PeerIndex>().get(id);
    if let Some(mut peer) = entity.and_then(|entity| world.get_mut::<Peer>(entity)) {
        peer.session = Some(session);
    }
    let mut deadlines = world.resource_mut::<Deadlines>();
    deadlines.forget(DeadlineOf::Peer(id));
}

fn resume(
    world: &mut World,
    peer: &Peer,
    id: SessionId,
    token: [u8; 16],
    received: Counts,
    fresh: [u8; 16],
) -> Result<(), Fault> {
    let cannot = || Fault::from(FaultKind::CannotResume);
    let entity = world.resource::<SessionIndex>().get(id).ok_or_else(cannot)?;
    let state = world.get::<SessionState>(entity).ok_or_else(cannot)?;
    // Compared without an early exit, so that timing tells nothing of a nearly right token.
    let equals = |known: [u8; 16]| known.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    let by_former = state.former_token.is_some_and(equals);
    let ending = world.get::<Session>(entity).is_none_or(|session| session.ending.is_some());
    if !(equals(state.resume_token) || by_former) || ending {
        return Err(cannot());
    }
    let resumed = world.get_mut::<ResendBuffer>(entity).ok_or_else(cannot)?.resume(received, !by_former);
    let Some(Resumed { base, lost, unstated }) = resumed else {
        return Err(Fault::new(FaultKind::Protocol, "the client claims messages that were never sent"));
    };
    let frame = world.resource::<Clock>().frame();
    let idle = world.resource::<Clock>().frames_in_ms(world.resource::<Settings>().session.idle_ms);
    // A client keeps as much as the server does, and sends it as fast as it can.
    let resend_bytes = world.resource::<Settings>().session.resend_bytes;
    let replay_frames = world.resource::<Clock>().frames_in_secs(5);
    let mut session = world.get_mut::<Session>(entity).ok_or_else(cannot)?;
    let old_peer = session.peer.replace(peer.id);
    session.door = peer.door;
    session.address = peer.address;
    session.last_heard = frame;
    session.lost_since = None;
    let identity = session.identity.clone();
    if let Some(old) = old_peer {
        send_now(world, old, &Outbound::Ended(FaultKind::Resumed.into()));
        close_peer(world, old, Some(FaultKind::Resumed));
    }
    let received = {
        let mut state = world.get_mut::<SessionState>(entity).ok_or_else(cannot)?;
        state.former_token = Some(token);
        state.lost_peer = None;
        state.resume_token = fresh;
        state.unacknowledged = 0;
        // Once in a while, however often it resumes; what is left of it holds from the newest resume on.
        if frame >= state.replay_credit.1 {
            state.replay_credit.0 = resend_bytes;
        }
        state.replay_credit.1 = frame + replay_frames;
        state.received
    };
    bind(world, peer.id, id);
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + idle);
    world.resource_mut::<SessionFacts>().news.connections.push((id, unstated));
    world.resource_mut::<DirtySessions>().0.push(id.slot());
    started(world, peer.id, id, identity, fresh, Some((received, base, lost)));
    Ok(())
}

fn started(
    world: &mut World,
    peer: PeerId,
    id: SessionId,
    identity: Identity,
    resume_token: [u8; 16],
    resumed: Option<(Counts, Counts, u64)>,
) {
    let settings = world.resource::<Settings>();
    let (received, base, lost) = resumed.unwrap_or_default();
    let message = Outbound::Started {
        session: id,
        user_id: identity.user_id,
        username: identity.username,
        resume_token,
        resumed: resumed.is_some(),
        received,
        base,
        lost,
        heartbeat_ms: u32::try_from(settings.session.heartbeat_ms).unwrap_or(u32::MAX),
        seat_ms: u32::try_from(settings.session.seat_ms).unwrap_or(u32::MAX),
        server_time_ms: world.resource::<Clock>().now_ms(),
        node: settings.node.0.clone(),
    };
    send_now(world, peer, &message);
}

fn gone(world: &mut World, id: PeerId, _reason: Gone) {
    let Some(peer) = forget_peer(world, id) else { return };
    if let Some(session) = peer.session {
        let seat_ms = world.resource::<Settings>().session.seat_ms;
        let seat_frames = world.resource::<Clock>().frames_in_ms(seat_ms);
        lose_peer(world, session, seat_frames);
    }
}

fn call(
    world: &mut World,
    ticket: Ticket,
    op: &str,
    identity: Option<Identity>,
    address: std::net::IpAddr,
    body: &Body,
) {
    let now = now_ns(world);
    let limits = world.resource::<Settings>().limit.clone();
    let ops = world.resource::<Ops>().0.clone();
    let cost = ops.by_name(op).map_or(1, |row| row.op.cost);
    let wire = matches!(body, Body::Wire(_));
    let refused = if world.contains_resource::<Stopping>() {
        Err(Fault::from(FaultKind::Stopping))
    } else {
        world.resource_mut::<Addresses>().call(address, now, cost, &limits).map_err(|retry_ms| {
            Fault::new(FaultKind::RateLimited, "too many calls from this address").retry_in_ms(retry_ms)
        })
    };
    calls(world, |calls, world| {
        let caller = identity.map_or(Caller::Anonymous, Caller::User);
        let reply_to = ReplyTo::Door { ticket, wire };
        let routed = refused.and_then(|()| route(calls, &ops, op, caller, body, reply_to));
        if let Err(fault) = routed {
            world.resource_mut::<FrameOutputs>().0.replies.push(Reply { ticket, result: Err(fault) });
        }
    });
}

fn ask(world: &mut World, ticket: Ticket, seq: u32, op: &str, body: Bytes) {
    let ops = world.resource::<Ops>().0.clone();
    calls(world, |calls, world| {
        let reply_to = ReplyTo::Ask { ticket, seq };
        // A script asks in the server's name: what it may do is its author's business. Whoever asked for
        // the job must still be waiting, or its answer would go nowhere.
        let routed = match calls.caller_of(ticket) {
            Some(_) => route(calls, &ops, op, Caller::Server, &Body::Json(body), reply_to),
            None => Err(FaultKind::SessionGone.into()),
        };
        if let Err(fault) = routed {
            world.resource_mut::<FrameOutputs>().0.answers.push(Answer { ticket, seq, result: Err(fault) });
        }
    });
}

/// Peers that never started, sessions that went silent, seats that waited long enough, readers that are too slow.
fn expire(world: &mut World) {
    let Some(due) = world.resource::<Deadlines>().first() else { return };
    if !world.resource::<Clock>().reached(due) {
        return;
    }
    let frame = world.resource::<Clock>().frame();
    while let Some(who) = world.resource_mut::<Deadlines>().pop(frame) {
        let looked = guarded(|| match who {
            DeadlineOf::Peer(peer) => {
                let fault = Fault::new(FaultKind::TimedOut, "no SessionStart came in time");
                send_now(world, peer, &Outbound::Ended(fault));
                close_peer(world, peer, Some(FaultKind::TimedOut));
            }
            DeadlineOf::Session(id) => check_deadline(world, id, frame),
        });
        if looked.is_none() {
            tracing::error!(?who, "an observer panicked at a deadline");
        }
    }
}

/// Has a session waited too long? If not, it is entered again for when it will have.
fn check_deadline(world: &mut World, id: SessionId, frame: u64) {
    let clock = world.resource::<Clock>();
    let settings = &world.resource::<Settings>().session;
    let idle = clock.frames_in_ms(settings.idle_ms);
    let seat = clock.frames_in_ms(settings.seat_ms);
    let patience = clock.frames_in_ms(settings.slow_reader_ms);
    let Some(entity) = world.resource::<SessionIndex>().get(id) else { return };
    let Some(session) = world.get::<Session>(entity).filter(|session| session.ending.is_none()) else {
        return;
    };
    let Some(peer) = session.peer else {
        let deadline = session.lost_since.unwrap_or(frame) + seat;
        if frame >= deadline {
            end_session(world, id, Some(FaultKind::TimedOut.into()));
        } else {
            world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), deadline);
        }
        return;
    };
    let silent = session.last_heard + idle;
    let slow =
        world.get::<ResendBuffer>(entity).and_then(|resend| resend.over_since).map(|since| since + patience);
    if slow.is_some_and(|slow| frame >= slow) {
        close_slow_reader(world, id);
    } else if frame >= silent {
        close_peer(world, peer, Some(FaultKind::TimedOut));
        lose_peer(world, id, seat);
    } else {
        let next = slow.map_or(silent, |slow| slow.min(silent));
        world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), next);
    }
}

/// Asks for the frame of the next deadline; at the end of every frame that ran, since an asking lasts one frame.
pub(crate) fn rearm(world: &World) {
    if let Some(due) = world.resource::<Deadlines>().first() {
        world.resource::<Clock>().wake_at(due);
    }
}
