//! The end of a session and of a peer: who is told, what is forgotten, and in which order.

use bevy_ecs::prelude::*;

use super::{Peer, SessionState};
use crate::clock::Clock;
use crate::codec::{Outbound, SessionCodec};
use crate::facts::Facts;
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId};
use crate::limit::Addresses;
use crate::op::Ops;
use crate::output::{Channel, Close, FrameOutputs, Send};
use crate::session::SessionSettings;
use crate::session::deadline::{DeadlineOf, Deadlines};
use crate::session::resend::ResendBuffer;
use crate::session::{ConnectionChanged, PeerIndex, Session, SessionEnding};
use crate::world::{SessionIndex, WorldExt};

/// Sends a message that is not counted, at once and before anything that waits in the resend buffer.
pub(crate) fn send_now(world: &mut World, peer: PeerId, message: &Outbound) {
    let encoded = {
        let ops = world.resource::<Ops>();
        let Some(codec) = world.get_resource::<SessionCodec>() else { return };
        codec.0.encode(message, &ops.0).map(|encoded| (codec.0.head(&encoded, 0), encoded))
    };
    match encoded {
        Ok((head, encoded)) => {
            let send = Send { peer, channel: Channel::Control, seq: 0, head, body: encoded.body };
            world.resource_mut::<FrameOutputs>().0.sends.push(send);
        }
        Err(fault) => tracing::error!(%fault, "a message of the server itself cannot be encoded"),
    }
}

/// Closes a peer after what was sent to it, and forgets it.
pub(crate) fn close_peer(world: &mut World, id: PeerId, kind: Option<FaultKind>) {
    let close = Close {
        peer: id,
        code: kind.map_or(0, FaultKind::code),
        reason: kind.map_or("bye", FaultKind::name),
    };
    world.resource_mut::<FrameOutputs>().0.closes.push(close);
    forget_peer(world, id);
}

/// Removes a peer from the world.
pub(crate) fn forget_peer(world: &mut World, id: PeerId) -> Option<Peer> {
    let entity = world.resource_mut::<PeerIndex>().remove(id)?;
    let peer = world.entity_mut(entity).take::<Peer>();
    world.despawn(entity);
    world.resource_mut::<Deadlines>().forget(DeadlineOf::Peer(id));
    if let Some(peer) = peer.as_ref().filter(|peer| peer.admitted) {
        world.resource_mut::<Addresses>().close(peer.address);
    }
    peer
}

/// Starts ending a session: the client is told and its peer closed; rooms learn of it in the next Match stage that
/// begins, and after that the session is removed. `fault` is why; `None` means that the client said goodbye.
///
/// Returns `false`, and changes nothing, for a session that is gone or ending already.
pub fn end_session(world: &mut World, id: SessionId, fault: Option<Fault>) -> bool {
    let Some(entity) = world.session(id) else { return false };
    let Some(mut session) = world.get_mut::<Session>(entity) else { return false };
    if session.ending.is_some() {
        return false;
    }
    // A goodbye has no fault number; what rooms and logs are told is that the session left.
    let kind = fault.as_ref().map(|fault| fault.kind);
    session.ending = Some(kind.unwrap_or(FaultKind::SessionGone));
    let peer = session.peer.take();
    let user_id = session.identity.user_id.as_str().into();
    let reason = kind.map_or("left", leave_reason);
    world.resource_mut::<Facts<SessionEnding>>().write(SessionEnding { session: id, user_id, reason });
    if let Some(peer) = peer {
        // In this order: what was promised to the client, then why the session ends, then the close.
        hand_over_rest(world, entity, peer);
        if let Some(fault) = fault {
            send_now(world, peer, &Outbound::Ended(fault));
        }
        close_peer(world, peer, kind);
    }
    true
}

/// What the other members of a room are told of a session that ends for this fault.
fn leave_reason(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::TimedOut => "disconnected",
        kind => kind.name(),
    }
}

/// Hands the rest of a session's resend buffer to its peer.
fn hand_over_rest(world: &mut World, entity: Entity, peer: PeerId) {
    let mut sends = Vec::new();
    if let Some(mut resend) = world.get_mut::<ResendBuffer>(entity) {
        resend.hand_over(peer, &mut sends);
    }
    world.resource_mut::<FrameOutputs>().0.sends.append(&mut sends);
}

/// A session lost its peer: its seats are held for `seat_frames`; at 0 it ends.
pub(crate) fn lose_peer(world: &mut World, id: SessionId, seat_frames: u64) {
    let Some(entity) = world.session(id) else { return };
    let frame = world.resource::<Clock>().frame();
    let Some(mut session) = world.get_mut::<Session>(entity) else { return };
    let peer = session.peer.take();
    session.lost_since = Some(frame);
    if let Some(mut state) = world.get_mut::<SessionState>(entity) {
        state.lost_peer = peer;
    }
    if seat_frames == 0 {
        end_session(world, id, Some(FaultKind::TimedOut.into()));
        return;
    }
    world.resource_mut::<Facts<ConnectionChanged>>().write(ConnectionChanged { session: id, lost: 0 });
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + seat_frames);
}

/// Handles a session whose resend buffer stayed over its bound too long, or is far over it. One that was silent for two
/// heartbeats has lost its connection unnoticed, as happens over UDP: its seat is held and its buffer trimmed. Any
/// other reads too slowly, and ends.
pub(crate) fn close_slow_reader(world: &mut World, id: SessionId) {
    let clock = world.resource::<Clock>();
    let settings = world.resource::<SessionSettings>();
    let silence = clock.frames_in_ms(settings.heartbeat_ms * 2);
    let (frame, seat) = (clock.frame(), clock.frames_in_ms(settings.seat_ms));
    let resend_bytes = settings.resend_bytes;
    let Some(entity) = world.session(id) else { return };
    let Some(session) = world.get::<Session>(entity) else { return };
    let silent = session.peer.filter(|_| frame > session.last_heard + silence);
    if let Some(peer) = silent {
        close_peer(world, peer, Some(FaultKind::TimedOut));
        lose_peer(world, id, seat);
        let bounded = world.get_mut::<ResendBuffer>(entity).is_some_and(|mut resend| {
            resend.over_since = None;
            resend.drop_room_data(resend_bytes)
        });
        if bounded {
            return;
        }
    }
    end_session(world, id, Some(FaultKind::SlowReader.into()));
}

/// Removes the sessions whose end the readers of this frame's Match stage could see. What ended since then is removed
/// in the next frame.
pub(crate) fn remove_ended(world: &mut World) {
    let ended: Vec<SessionId> =
        world.resource::<Facts<SessionEnding>>().before_mark().map(|end| end.session).collect();
    for id in ended {
        if guarded(|| remove(world, id)).is_none() {
            tracing::error!(session = %id, "an observer of removed sessions panicked");
        }
    }
}

fn remove(world: &mut World, id: SessionId) {
    let Some(entity) = world.session(id) else { return };
    let user =
        world.get::<Session>(entity).map(|session| session.identity.user_id.clone()).unwrap_or_default();
    world.resource_mut::<SessionIndex>().remove(id, &user);
    world.resource_mut::<Deadlines>().forget(DeadlineOf::Session(id));
    world.despawn(entity);
}
