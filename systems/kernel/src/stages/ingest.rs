//! `Core::Ingest`: inputs become peers, sessions, calls and answers. Data is left to Route.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::call::calls::{Calls, ReplyTo, read_call};
use crate::clock::Clock;
use crate::codec::Outbound;
use crate::dice::ServerDice;
use crate::facts::Facts;
use crate::failures::guarded;
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId, Ticket};
use crate::input::{Body, Gone, Identity, Input};
use crate::limit::{Addresses, LimitSettings};
use crate::op::{Caller, OpRow};
use crate::output::{Answer, FrameOutputs, Reply};
use crate::room::RoomStuck;
use crate::session::SessionSettings;
use crate::session::end::{close_peer, end_session, forget_peer, lose_peer, send_now};
use crate::session::resend::{DirtySessions, ResendBuffer};
use crate::session::start::{open, start};
use crate::session::watch::expire;
use crate::session::{Peer, PeerIndex, Session};
use crate::stages::hooks::HookDice;
use crate::stopping::{ServerStopping, Stopping};
use crate::world::{SessionIndex, WorldExt};

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
            let source = Source::of(&input);
            if guarded(|| take(world, input)).is_none() {
                refuse_after_panic(world, source);
            }
        }
        world.resource_mut::<FrameInputs>().inputs = inputs;
    }
    // After the inputs: whoever was heard in this frame is not silent.
    expire(world);
}

/// Where an input comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Peer(PeerId),
    /// A door that waits for the reply of a call.
    Call(Ticket),
    /// A script that runs as a job and waits for the answer to its ask.
    Ask(Ticket, u32),
    /// The runner, which waits for nothing.
    Runner,
}

impl Source {
    fn of(input: &Input) -> Self {
        match input {
            Input::Open { peer, .. }
            | Input::Start { peer, .. }
            | Input::Data { peer, .. }
            | Input::Gone { peer, .. }
            | Input::Blocked { peer, .. }
            | Input::Writable { peer } => Source::Peer(*peer),
            Input::Call { ticket, .. } => Source::Call(*ticket),
            Input::Ask { ticket, seq, .. } => Source::Ask(*ticket, *seq),
            _ => Source::Runner,
        }
    }
}

/// Code of a plugin panicked while an input was handled, so it was only partly applied: its peer or session ends, or
/// its caller is told, and nobody else notices.
fn refuse_after_panic(world: &mut World, source: Source) {
    tracing::error!(
        ?source,
        "an input was handled only partly, since something panicked: its sender is told"
    );
    let fault = || Fault::from(FaultKind::Internal);
    let ended = guarded(|| match source {
        Source::Peer(peer) => match session_of(world, peer) {
            Some(session) => {
                end_session(world, session, Some(fault()));
            }
            None => {
                send_now(world, peer, &Outbound::Ended(fault()));
                close_peer(world, peer, Some(FaultKind::Internal));
            }
        },
        Source::Call(ticket) => {
            let reply = Reply { ticket, result: Err(fault()) };
            world.resource_mut::<FrameOutputs>().0.replies.push(reply);
        }
        Source::Ask(ticket, seq) => {
            let answer = Answer { ticket, seq, result: Err(fault()) };
            world.resource_mut::<FrameOutputs>().0.answers.push(answer);
        }
        Source::Runner => {}
    });
    if ended.is_none() {
        tracing::error!(?source, "and that panicked, too");
    }
}

/// Applies an input.
fn take(world: &mut World, input: Input) {
    match input {
        Input::Boot(boot) => {
            world.resource_mut::<Clock>().set_wall_ms(boot.wall_ms);
            let dice = ServerDice::new(boot.seed);
            world.insert_resource(HookDice(dice.of("hooks", 0)));
            world.insert_resource(dice);
            let mut index = world.resource_mut::<SessionIndex>();
            // The low 16 bits of the start in seconds, so that the next run of this node gives other ids. They repeat
            // after 18 hours.
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
        Input::Stuck { room, ms } => world.resource_mut::<Facts<RoomStuck>>().write(RoomStuck { room, ms }),
        Input::Stop { grace_s } => {
            world.resource_mut::<Facts<ServerStopping>>().write(ServerStopping { grace_s });
            world.insert_resource(Stopping);
        }
    }
}

fn session_of(world: &World, peer: PeerId) -> Option<SessionId> {
    let entity = world.resource::<PeerIndex>().get(peer)?;
    world.get::<Peer>(entity)?.session
}

fn with_resend(world: &mut World, peer: PeerId, work: impl FnOnce(&mut ResendBuffer)) {
    let entity = session_of(world, peer).and_then(|id| world.session(id));
    if let Some(mut resend) = entity.and_then(|entity| world.get_mut::<ResendBuffer>(entity)) {
        work(&mut resend);
    }
}

fn calls(world: &mut World, work: impl FnOnce(&mut Calls, &mut World)) {
    world.non_send_scope(|world, calls| work(calls, world));
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
    let Some(entity) = world.session(session) else { return };
    if let Some(mut session) = world.get_mut::<Session>(entity) {
        session.last_heard = frame;
    }
    world.resource_mut::<FrameInputs>().data.push(PeerData { peer, session, entity, bytes });
}

fn gone(world: &mut World, id: PeerId, _reason: Gone) {
    let Some(peer) = forget_peer(world, id) else { return };
    if let Some(session) = peer.session {
        let seat_ms = world.resource::<SessionSettings>().seat_ms;
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
    let now = world.resource::<Clock>().now_ns();
    let limits = world.resource::<LimitSettings>().clone();
    let ops = world.ops();
    let price = ops.by_name(op).map_or(1, OpRow::price_unread);
    let face = match body {
        Body::Rest(came) => Some(came.face),
        Body::Json(_) => None,
    };
    let refused = if world.contains_resource::<Stopping>() {
        Err(Fault::from(FaultKind::Stopping))
    } else {
        world.resource_mut::<Addresses>().call(address, now, price, &limits).map_err(too_many_calls)
    };
    calls(world, |calls, world| {
        let caller = identity.map_or(Caller::Anonymous, Caller::User);
        let reply_to = ReplyTo::Door { ticket, face, address };
        let routed = refused.and_then(|()| read_call(&ops, op, caller, body, reply_to));
        let paid = routed.and_then(|call| {
            // The full price is known only after reading the request; what was paid for reading is part of it.
            let (Ok(request), Some(row)) = (&call.request, ops.get(call.op)) else { return Ok(call) };
            let all = row.price_of_request(&**request);
            let taken = match all > price {
                true => world.resource_mut::<Addresses>().call_for(address, now, price, all, &limits),
                false => Ok(()),
            };
            taken.map_err(too_many_calls).map(|()| call)
        });
        match paid {
            Ok(call) => calls.routed.push(call),
            Err(fault) => {
                world.resource_mut::<FrameOutputs>().0.replies.push(Reply { ticket, result: Err(fault) });
            }
        }
    });
}

fn too_many_calls(retry_ms: u32) -> Fault {
    Fault::new(FaultKind::RateLimited, "too many calls from this address").retry_in_ms(retry_ms)
}

fn ask(world: &mut World, ticket: Ticket, seq: u32, op: &str, body: Bytes) {
    let ops = world.ops();
    calls(world, |calls, world| {
        let reply_to = ReplyTo::Ask { ticket, seq };
        // A script asks with the server's rights: what it may do is up to its author. The call that started the job has
        // to wait still, or the answer would go nowhere.
        let routed = match calls.caller_of(ticket) {
            Some(_) => read_call(&ops, op, Caller::Server, &Body::Json(body), reply_to),
            None => Err(FaultKind::SessionGone.into()),
        };
        match routed {
            Ok(call) => calls.routed.push(call),
            Err(fault) => {
                world.resource_mut::<FrameOutputs>().0.answers.push(Answer {
                    ticket,
                    seq,
                    result: Err(fault),
                });
            }
        }
    });
}
