//! How a session begins and goes on: a peer opens, its SessionStart is admitted, a session is made or resumed.

use bevy_ecs::prelude::*;

use crate::clock::Clock;
use crate::codec::Outbound;
use crate::dice::ServerDice;
use crate::facts::Facts;
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId};
use crate::input::{Claim, Counts, Identity};
use crate::limit::{Addresses, LimitSettings};
use crate::session::SessionSettings;
use crate::session::deadline::{DeadlineOf, Deadlines};
use crate::session::end::{close_peer, end_session, send_now};
use crate::session::resend::{DirtySessions, LastStart, ResendBuffer, Resumed};
use crate::session::{ConnectionChanged, Handles, Peer, PeerIndex, Session, SessionStarted, SessionState};
use crate::settings::NodeSettings;
use crate::stopping::Stopping;
use crate::world::{SessionIndex, WorldExt};

pub(crate) fn open(world: &mut World, peer: PeerId, door: crate::input::Door, address: std::net::IpAddr) {
    let now = world.resource::<Clock>().now_ns();
    let limits = world.resource::<LimitSettings>().clone();
    let start_ms = world.resource::<SessionSettings>().start_ms;
    if !world.resource::<PeerIndex>().is_free(peer) {
        tracing::error!(?peer, "a door opened a peer in a place that is taken or does not exist");
        return;
    }
    let frame = world.resource::<Clock>().frame();
    let admitted = world.resource_mut::<Addresses>().open(address, now, &limits);
    // Indexed before the component is inserted: if an observer panics, the entity can still be found and removed.
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

pub(crate) fn start(
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

/// Takes a session start from the budget of the peer's address.
///
/// # Errors
/// `stopping`, `rate_limited`.
pub(crate) fn admit(world: &mut World, peer: &Peer) -> Result<(), Fault> {
    if world.contains_resource::<Stopping>() {
        return Err(FaultKind::Stopping.into());
    }
    let now = world.resource::<Clock>().now_ns();
    let limits = world.resource::<LimitSettings>().clone();
    world.resource_mut::<Addresses>().start(peer.address, now, &limits).map_err(|retry_ms| {
        Fault::new(FaultKind::RateLimited, "too many session starts from this address").retry_in_ms(retry_ms)
    })
}

/// Makes a new session for the peer.
///
/// # Errors
/// `busy`: the user has `limit.user_sessions_max` sessions, or the server `limit.sessions_max`.
fn begin(
    world: &mut World,
    peer: &Peer,
    identity: Identity,
    anonymous: bool,
    fresh: [u8; 16],
    vars: std::collections::BTreeMap<String, String>,
) -> Result<(), Fault> {
    let (limit, settings) = (world.resource::<LimitSettings>(), world.resource::<SessionSettings>());
    let (sessions_max, user_max) = (limit.sessions_max, limit.user_sessions_max);
    let (idle_ms, replace) = (settings.idle_ms, settings.replace);
    let others: Vec<SessionId> =
        world.resource::<SessionIndex>().by_user.get(&identity.user_id).cloned().unwrap_or_default();
    let live = |world: &World, id: &SessionId| {
        world.of_session::<Session>(*id).is_some_and(|session| session.ending.is_none())
    };
    let others: Vec<SessionId> = others.into_iter().filter(|id| live(world, id)).collect();
    if !replace && others.len() >= user_max as usize {
        return Err(Fault::new(FaultKind::Busy, format!("this user has {user_max} sessions already")));
    }
    // The new session is made before the old ones end: a refused start must not cost the user the session that is
    // there.
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
            tracing::error!(session = %id, "an observer of removed sessions panicked too");
        }
        return Err(FaultKind::Internal.into());
    }
    for other in others.into_iter().filter(|_| replace) {
        end_session(world, other, Some(FaultKind::Replaced.into()));
    }
    bind(world, peer.id, id);
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + idle);
    let user_id = identity.user_id.as_str().into();
    world.resource_mut::<Facts<SessionStarted>>().write(SessionStarted { session: id, user_id });
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

/// Goes on with a session over a new peer.
///
/// # Errors
/// `cannot_resume`: there is no such session, or the token is wrong. `protocol`: the client claims messages that were
/// never sent.
fn resume(
    world: &mut World,
    peer: &Peer,
    id: SessionId,
    token: [u8; 16],
    received: Counts,
    fresh: [u8; 16],
) -> Result<(), Fault> {
    let cannot = || Fault::from(FaultKind::CannotResume);
    let entity = world.session(id).ok_or_else(cannot)?;
    let state = world.get::<SessionState>(entity).ok_or_else(cannot)?;
    // Compared without an early exit, so that timing tells nothing of a nearly right token.
    let equals = |known: [u8; 16]| known.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    let by_former = state.former_token.is_some_and(equals);
    let ending = world.get::<Session>(entity).is_none_or(|session| session.ending.is_some());
    if !(equals(state.resume_token) || by_former) || ending {
        return Err(cannot());
    }
    // A client that presents the former token may never have received the latest one.
    let last = if by_former { LastStart::MayBeLost } else { LastStart::Arrived };
    let resumed = world.get_mut::<ResendBuffer>(entity).ok_or_else(cannot)?.resume(received, last);
    let Some(Resumed { base, lost, unstated }) = resumed else {
        return Err(Fault::new(FaultKind::Protocol, "the client claims messages that were never sent"));
    };
    let frame = world.resource::<Clock>().frame();
    let idle = world.resource::<Clock>().frames_in_ms(world.resource::<SessionSettings>().idle_ms);
    // A client keeps as much as the server does, and sends it as fast as it can.
    let resend_bytes = world.resource::<SessionSettings>().resend_bytes;
    let replay_frames = world.resource::<Clock>().frames_in_secs(5);
    let mut session = world.get_mut::<Session>(entity).ok_or_else(cannot)?;
    // First, so that the session has a peer at every moment: an observer of the old one may look at it.
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
        // The token that was presented: the one that the client has for certain, should it never receive the next.
        state.former_token = Some(token);
        state.lost_peer = None;
        state.resume_token = fresh;
        state.unacknowledged = 0;
        // Refilled at most once in five seconds, however often the session resumes; each resume extends what is left.
        if frame >= state.replay_credit.1 {
            state.replay_credit.0 = resend_bytes;
        }
        state.replay_credit.1 = frame + replay_frames;
        state.received
    };
    bind(world, peer.id, id);
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + idle);
    world.resource_mut::<Facts<ConnectionChanged>>().write(ConnectionChanged { session: id, lost: unstated });
    world.resource_mut::<DirtySessions>().0.push(id.slot());
    started(world, peer.id, id, identity, fresh, Some((received, base, lost)));
    Ok(())
}

/// Tells the client that its session started or goes on.
fn started(
    world: &mut World,
    peer: PeerId,
    id: SessionId,
    identity: Identity,
    resume_token: [u8; 16],
    resumed: Option<(Counts, Counts, u64)>,
) {
    let settings = world.resource::<SessionSettings>();
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
        heartbeat_ms: u32::try_from(settings.heartbeat_ms).unwrap_or(u32::MAX),
        seat_ms: u32::try_from(settings.seat_ms).unwrap_or(u32::MAX),
        server_time_ms: world.resource::<Clock>().now_ms(),
        node: world.resource::<NodeSettings>().node.clone(),
    };
    send_now(world, peer, &message);
}
