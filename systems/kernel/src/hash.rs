//! Hashes of outputs and state, by which two runs are compared without keeping either.

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::clock::Clock;
use crate::output::Outputs;
use crate::room::presence::Presence;
use crate::room::{Inbox, Room, Seats, TickSchedule};
use crate::session::resend::ResendBuffer;
use crate::session::{Handles, Session, SessionState};
use crate::world::{RoomIndex, SessionIndex};

/// Adds a frame's outputs to a running hash. Text for people is left out: log lines, the reasons of closes, and the
/// sentences of faults with their `retry_ms`.
pub fn hash_outputs(frame: u64, outputs: &Outputs, into: u64) -> u64 {
    let mut hash = Xxh3::with_seed(into);
    hash.update(&frame.to_le_bytes());
    let lists = [
        outputs.sends.len(),
        outputs.closes.len(),
        outputs.replies.len(),
        outputs.answers.len(),
        outputs.jobs.len(),
    ];
    for list in lists {
        hash.update(&(list as u64).to_le_bytes());
    }
    for send in &outputs.sends {
        hash.update(&[send.channel as u8]);
        hash.update(&send.peer.slot.to_le_bytes());
        hash.update(&send.peer.generation.to_le_bytes());
        hash.update(&send.seq.to_le_bytes());
        hash.update(&(send.head.len() as u64).to_le_bytes());
        hash.update(&send.head);
        hash.update(&(send.body.len() as u64).to_le_bytes());
        hash.update(&send.body);
    }
    for close in &outputs.closes {
        hash.update(&close.peer.slot.to_le_bytes());
        hash.update(&close.peer.generation.to_le_bytes());
        hash.update(&close.code.to_le_bytes());
    }
    let mut add_result = |ticket: u64, seq: u32, result: &Result<bytes::Bytes, crate::fault::Fault>| {
        hash.update(&ticket.to_le_bytes());
        hash.update(&seq.to_le_bytes());
        match result {
            Ok(bytes) => {
                hash.update(&(bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
            Err(fault) => {
                hash.update(&u64::MAX.to_le_bytes());
                hash.update(&fault.kind.code().to_le_bytes());
            }
        }
    };
    for reply in &outputs.replies {
        add_result(reply.ticket.0, u32::MAX, &reply.result);
    }
    for answer in &outputs.answers {
        add_result(answer.ticket.0, answer.seq, &answer.result);
    }
    for job in &outputs.jobs {
        hash.update(&job.ticket.0.to_le_bytes());
        hash.update(&(job.name.len() as u64).to_le_bytes());
        hash.update(job.name.as_bytes());
        hash.update(&(job.body.len() as u64).to_le_bytes());
        hash.update(&job.body);
    }
    hash.update(&[u8::from(outputs.stopped)]);
    hash.digest()
}

/// Functions that hash further state: kaos-rooms adds that of the matches, and a plugin may add its own.
#[derive(Resource, Default)]
pub struct StateHashers(pub Vec<fn(&mut World) -> u64>);

/// Adds a resource to the state hash.
pub(crate) fn add<R: Resource + Serialize>(app: &mut App) {
    app.init_resource::<StateHashers>();
    let hash = |world: &mut World| world.get_resource::<R>().map_or(0, |resource| part(RESOURCE, resource));
    app.world_mut().resource_mut::<StateHashers>().0.push(hash);
}

/// The seed of a resource's part.
const RESOURCE: u64 = 5;
/// The seed of the server's own part of the state hash.
const SERVER: u64 = 1;
/// The seed of a session's part.
const SESSION: u64 = 2;
/// The seed of a room's part.
const ROOM: u64 = 3;
/// The seed of a presence's part.
const PRESENCE: u64 = 4;

/// The part of one thing in the state hash. `kind` is one of the seeds above, so that equal values of two kinds have
/// different parts. The parts are summed, so that their order does not matter.
fn part<T: Serialize>(kind: u64, value: &T) -> u64 {
    // A value that cannot be written gets a constant, so that equal states still have equal hashes.
    postcard::to_allocvec(value).map_or(kind, |bytes| xxh3_64_with_seed(&bytes, kind))
}

/// A hash of the server's state. Equal states give equal hashes, in any process.
///
/// It is not complete. Of inboxes, resend buffers, handles and seats it has numbers and sizes, not contents. Calls,
/// deadlines and all rate limits but that of bad messages are left out. A difference there may show in later outputs.
pub(crate) fn hash_state(world: &mut World) -> u64 {
    // Without the frame number: a run that skips quiet frames is at an earlier frame, in the same state.
    let mut sum =
        part(SERVER, &(world.resource::<Clock>().wall_us(), world.resource::<SessionIndex>().len()));
    for (id, entity) in world.resource::<SessionIndex>().iter() {
        let (Some(session), Some(state)) = (world.get::<Session>(entity), world.get::<SessionState>(entity))
        else {
            continue;
        };
        let resend = world
            .get::<ResendBuffer>(entity)
            .map(|resend| (resend.counts(), resend.bytes, resend.superseded));
        let row = (
            id.0,
            &session.identity,
            &session.vars,
            session.peer,
            session.door.name(),
            (session.started, session.last_input, session.last_heard, session.lost_since, session.rtt_us),
            (state.resume_token, state.received, state.bad_messages.arrival_time()),
            world.get::<Handles>(entity).map(Handles::len),
            resend,
        );
        sum = sum.wrapping_add(part(SESSION, &row));
    }
    for (id, entity) in world.resource::<RoomIndex>().iter() {
        let Some(room) = world.get::<Room>(entity) else { continue };
        let schedule = world
            .get::<TickSchedule>(entity)
            .map(|schedule| (schedule.start, schedule.next, schedule.skipped));
        let inbox =
            world.get::<Inbox>(entity).map(|inbox| (inbox.messages.len(), inbox.bytes, inbox.events.len()));
        let row = (
            id.0.as_u128(),
            (&room.module, room.label.to_string(), room.tick_rate, room.max_players, room.empty_since),
            (room.number, room.created, room.ends_empty),
            schedule,
            inbox,
            world.get::<Seats>(entity).map(|seats| (seats.taken, seats.rows.len())),
        );
        sum = sum.wrapping_add(part(ROOM, &row));
    }
    let mut presences = world.query::<&Presence>();
    for presence in presences.iter(world) {
        sum = sum.wrapping_add(part(PRESENCE, &(presence.handle, presence.session_slot, &*presence.info)));
    }
    let hashers = world.resource::<StateHashers>().0.clone();
    for (index, hasher) in hashers.iter().enumerate() {
        let hash = hasher(world);
        sum = sum.wrapping_add(xxh3_64(&[(index as u64).to_le_bytes(), hash.to_le_bytes()].concat()));
    }
    sum
}
