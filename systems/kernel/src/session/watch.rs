//! What waited too long: peers that never started, silent sessions, lost sessions whose seats are over, slow readers.

use bevy_ecs::prelude::*;

use crate::clock::Clock;
use crate::codec::Outbound;
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::SessionId;
use crate::session::deadline::{DeadlineOf, Deadlines};
use crate::session::end::{close_peer, close_slow_reader, end_session, lose_peer, send_now};
use crate::session::resend::ResendBuffer;
use crate::session::{Session, SessionSettings};
use crate::world::WorldExt;

/// Checks every deadline that has come.
pub(crate) fn expire(world: &mut World) {
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

/// Ends a session that waited too long, or takes its peer from it; otherwise schedules the next check. A slow reader is
/// looked for first, since one that is silent, too, is handled there.
fn check_deadline(world: &mut World, id: SessionId, frame: u64) {
    let clock = world.resource::<Clock>();
    let settings = world.resource::<SessionSettings>();
    let idle = clock.frames_in_ms(settings.idle_ms);
    let seat = clock.frames_in_ms(settings.seat_ms);
    let patience = clock.frames_in_ms(settings.slow_reader_ms);
    let Some(entity) = world.session(id) else { return };
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

/// Requests the frame of the next deadline; at the end of every frame that ran, since a request lasts until then.
pub(crate) fn rearm(world: &World) {
    if let Some(due) = world.resource::<Deadlines>().first() {
        world.resource::<Clock>().wake_at(due);
    }
}
