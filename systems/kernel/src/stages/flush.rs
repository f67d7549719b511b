//! `Core::Flush`: after-hooks, replies, pushes, hooks of events, sending, kicks, and the removal of what ended.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::hooks;
use crate::call::calls::{Calls, Finished, ReplyTo};
use crate::clock::Clock;
use crate::codec::{Outbound, SessionCodec};
use crate::failures::guarded_or_fault;
use crate::fault::{Fault, FaultKind};
use crate::ids::SessionId;
use crate::op::{Caller, OpId, OpTable, Payload, write_json};
use crate::output::{Answer, Channel, FrameOutputs, Level, Log, Reply, Send};
use crate::send::{Addressed, Asked, Outbox, deliver_pushes, kicked, post};
use crate::session::deadline::{DeadlineOf, Deadlines};
use crate::session::end::{close_slow_reader, end_session, remove_ended};
use crate::session::resend::{DirtySessions, ResendBuffer};
use crate::session::watch::rearm;
use crate::session::{Session, SessionSettings};
use crate::stopping::Stopping;
use crate::world::{RoomIndex, SessionIndex, WorldExt};

/// The whole of `Core::Flush`.
pub(crate) fn flush(world: &mut World) {
    // Replies before what systems pushed: a client hears the answer first, and then what followed from it.
    finish_calls(world);
    deliver_pushes(world);
    // After everything that pushes, so that a hook hears of an event in the frame in which it was sent.
    hooks::heard(world);
    // After everything that writes to the outbox.
    expand(world);
    // After sending, so that a session that is kicked gets the last messages for it.
    kick(world);
    // After the kicks, whose sessions end with facts that are read in the next frame; this removes those whose facts
    // were there to be read in this one.
    remove_ended(world);
    if world.contains_resource::<Stopping>() {
        stop(world);
    }
    // Last: a wake-up request lasts until the next frame that runs, and the steps above move deadlines.
    rearm(world);
}

/// Refused commands of scripts that are written to the log in one frame; further ones are only counted.
const REFUSALS_LOGGED: u32 = 20;

/// How many times `session.resend_bytes` a connected session may fall behind before it ends at once.
const OVERFLOW_FACTOR: usize = 4;

/// Runs after-hooks and sends the replies of the calls that finished in this frame. Hooks first, since sending takes
/// the reply.
fn finish_calls(world: &mut World) {
    let any = world.get_non_send::<Calls>().is_some_and(|calls| !calls.finished.is_empty());
    if !any {
        return;
    }
    let Some(mut calls) = world.remove_non_send::<Calls>() else { return };
    let finished = std::mem::take(&mut calls.finished);
    hooks::after(world, &mut calls, &finished);
    let commanded = !calls.routed.is_empty();
    world.insert_non_send(calls);
    let ops = world.ops();
    let mut refused = 0;
    for call in finished {
        answer(world, &ops, call, &mut refused);
    }
    if refused > REFUSALS_LOGGED {
        let text = format!("{} further commands of this frame were refused", refused - REFUSALS_LOGGED);
        let log = Log { level: Level::Warn, source: "scripts".to_owned(), text };
        world.resource_mut::<FrameOutputs>().0.logs.push(log);
    }
    if commanded {
        // What after-hooks requested runs in the next frame: this one has served.
        let clock = world.resource::<Clock>();
        clock.wake_at(clock.frame() + 1);
    }
}

/// Charges the call, and sends its reply to where it goes.
fn answer(world: &mut World, ops: &OpTable, call: Finished, refused: &mut u32) {
    if let (Ok(reply), Some(row)) = (&call.result, ops.get(call.op)) {
        call.reply_to.payer().charge(world, row.price_of_reply(&**reply));
    }
    let Finished { op, caller, result, reply_to, .. } = call;
    match reply_to {
        ReplyTo::Session { session, cid, form } => {
            let message = Outbound::Answer { cid, op, form, result };
            let posted = guarded_or_fault(name_of(ops, op), "the call is refused", || post(world, &message))
                .or_else(|fault| {
                    let channel = form.channel(ops, op);
                    post(world, &Outbound::Refusal { cid, channel, fault })
                });
            // Its slot may belong to another session by now, so the id is looked up.
            let there = world.session(session).is_some();
            if let Ok(payload) = posted
                && there
            {
                world.resource_mut::<Outbox>().to(session.slot(), 0, payload);
            }
        }
        ReplyTo::Door { ticket, face, .. } => {
            let result = render(ops, op, face, result);
            world.resource_mut::<FrameOutputs>().0.replies.push(Reply { ticket, result });
        }
        ReplyTo::Ask { ticket, seq } => {
            let result = render(ops, op, None, result);
            world.resource_mut::<FrameOutputs>().0.answers.push(Answer { ticket, seq, result });
        }
        ReplyTo::Gone { .. } => {}
        ReplyTo::Log => {
            if let Err(fault) = result {
                *refused += 1;
                if *refused > REFUSALS_LOGGED {
                    return;
                }
                let name = name_of(ops, op);
                let log = Log {
                    level: Level::Warn,
                    source: match &caller {
                        Caller::Room(room) => format!("room {room}"),
                        _ => "scripts".to_owned(),
                    },
                    text: format!("{name} was refused: {fault}"),
                };
                world.resource_mut::<FrameOutputs>().0.logs.push(log);
            }
        }
    }
}

fn name_of(ops: &OpTable, op: OpId) -> &str {
    ops.get(op).map_or("", |row| row.op.name.as_str())
}

fn render(
    ops: &OpTable,
    op: OpId,
    face: Option<u16>,
    result: Result<Box<dyn Payload>, Fault>,
) -> Result<Bytes, Fault> {
    let reply = result?;
    let rest = face.and_then(|face| ops.get(op)?.op.rest_at(face));
    guarded_or_fault(name_of(ops, op), "the call is refused", || match rest {
        Some(rest) => rest.write(&*reply),
        None => write_json(&*reply),
    })
}

/// Expands what was written once into every recipient's resend buffer, and hands it to the transports.
fn expand(world: &mut World) {
    if world.resource::<Outbox>().is_empty() && world.resource::<DirtySessions>().0.is_empty() {
        return;
    }
    let Some(codec) = world.get_resource::<SessionCodec>().cloned() else { return };
    let (payloads, sends) = world.resource_mut::<Outbox>().take();
    let mut touched = std::mem::take(&mut world.resource_mut::<DirtySessions>().0);
    let mut direct: Vec<Send> = Vec::new();
    for Addressed { slot, handle, payload } in &sends {
        let Some(encoded) = payloads.get(*payload as usize) else { continue };
        let Some(entity) = world.resource::<SessionIndex>().at(*slot) else { continue };
        let head = codec.0.head(encoded, *handle);
        let peer = match world.get::<Session>(entity) {
            Some(session) if session.ending.is_none() => session.peer,
            _ => continue,
        };
        let Some(mut resend) = world.get_mut::<ResendBuffer>(entity) else { continue };
        if encoded.counted {
            resend.push(encoded.channel, head, encoded.body.clone(), encoded.head);
            touched.push(*slot);
        } else if let Some(peer) = peer.filter(|_| !resend.is_blocked()) {
            direct.push(Send {
                peer,
                channel: Channel::Unreliable,
                seq: 0,
                head,
                body: encoded.body.clone(),
            });
        } else {
            resend.superseded += 1;
        }
    }
    world.resource_mut::<Outbox>().give_back(payloads, sends);
    touched.sort_unstable();
    touched.dedup();
    let mut out = std::mem::take(&mut world.resource_mut::<FrameOutputs>().0.sends);
    out.append(&mut direct);
    let mut slow = Vec::new();
    for slot in touched.drain(..) {
        let Some(entity) = world.resource::<SessionIndex>().at(slot) else { continue };
        hand_over(world, entity, &mut out, &mut slow);
    }
    world.resource_mut::<FrameOutputs>().0.sends = out;
    world.resource_mut::<DirtySessions>().0 = touched;
    for id in slow {
        close_slow_reader(world, id);
    }
}

/// Hands a session's resend buffer to its peer, and checks it against `session.resend_bytes`: a session that is over it
/// is added to `slow`, or gets a deadline. Without a peer, room data is dropped instead.
pub(crate) fn hand_over(world: &mut World, entity: Entity, out: &mut Vec<Send>, slow: &mut Vec<SessionId>) {
    let Some(session) = world.get::<Session>(entity) else { return };
    let (id, peer) = (session.id, session.peer);
    let settings = world.resource::<SessionSettings>();
    let (resend_bytes, slow_ms) = (settings.resend_bytes, settings.slow_reader_ms);
    let clock = world.resource::<Clock>();
    let (frame, patience) = (clock.frame(), clock.frames_in_ms(slow_ms));
    let Some(mut resend) = world.get_mut::<ResendBuffer>(entity) else { return };
    match peer {
        Some(peer) => {
            resend.hand_over(peer, out);
            if resend.bytes <= resend_bytes {
                resend.over_since = None;
            } else if resend.bytes > resend_bytes.saturating_mul(OVERFLOW_FACTOR) {
                slow.push(id);
            } else if resend.over_since.is_none() {
                resend.over_since = Some(frame);
                world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + patience);
            }
        }
        None => {
            if !resend.drop_room_data(resend_bytes) {
                slow.push(id);
            }
        }
    }
}

fn kick(world: &mut World) {
    if world.resource::<Asked>().kicks.is_empty() {
        return;
    }
    let kicks = std::mem::take(&mut world.resource_mut::<Asked>().kicks);
    for (session, reason) in kicks {
        end_session(world, session, Some(kicked(reason)));
    }
}

/// Ends all sessions once all rooms have ended, and reports the server as stopped once the sessions are gone.
fn stop(world: &mut World) {
    if world.resource::<RoomIndex>().is_empty() {
        let ids: Vec<SessionId> = world.resource::<SessionIndex>().iter().map(|(id, _)| id).collect();
        if ids.is_empty() {
            world.resource_mut::<FrameOutputs>().0.stopped = true;
            return;
        }
        for id in ids {
            end_session(world, id, Some(FaultKind::Stopping.into()));
        }
    }
    let clock = world.resource::<Clock>();
    clock.wake_at(clock.frame() + 1);
}
