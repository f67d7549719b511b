//! What a session may send: its rates, what a resume lets it send again, and what counts as a flood.

use bevy_ecs::prelude::*;

use crate::clock::Clock;
use crate::codec::{Inbound, InboundData, InboundMessage};
use crate::limit::{LimitSettings, Rate};
use crate::op::OpTable;
use crate::room::{InboxLimits, RoomSettings};
use crate::session::{SessionSettings, SessionState};

/// A client that is refused slows down. A session that exceeds its rate of messages or bytes this many times does not,
/// and ends. Everything counts, heartbeats and refused messages too, since the journal keeps them all; only data that
/// is sent again within its credit does not.
const FLOOD_FACTOR: u32 = 8;

/// Seconds after which one unreadable message is forgotten: a client with a rare defect should not be closed.
const BAD_FORGOTTEN_S: u32 = 60;

/// The limits that apply to every message of this frame.
pub(crate) struct FrameLimits {
    pub(crate) frame: u64,
    pub(crate) second: u64,
    pub(crate) now_ns: u64,
    pub(crate) messages: Rate,
    bytes: Rate,
    flood: Rate,
    pub(crate) flood_bytes: Rate,
    pub(crate) bad: Rate,
    pub(crate) resend_bytes: usize,
    pub(crate) inbox: InboxLimits,
}

impl FrameLimits {
    pub(crate) fn of(world: &World) -> Self {
        let (clock, limit) = (world.resource::<Clock>(), world.resource::<LimitSettings>());
        let room = world.resource::<RoomSettings>();
        let flood = |number: u32| number.saturating_mul(FLOOD_FACTOR);
        FrameLimits {
            frame: clock.frame(),
            second: clock.hz(),
            now_ns: clock.now_ns(),
            messages: Rate::new(limit.session_messages, limit.session_messages_burst),
            bytes: Rate::new(limit.session_bytes, limit.session_bytes_burst),
            flood: Rate::new(flood(limit.session_messages), flood(limit.session_messages_burst)),
            flood_bytes: Rate::new(flood(limit.session_bytes), flood(limit.session_bytes_burst)),
            // One less: the message that reaches `bad_messages_max` ends the session.
            bad: Rate::slow(BAD_FORGOTTEN_S, limit.bad_messages_max.saturating_sub(1)),
            resend_bytes: world.resource::<SessionSettings>().resend_bytes,
            inbox: room.into(),
        }
    }
}

/// The session floods the server and has to end: see [`FLOOD_FACTOR`].
pub(crate) struct Flood;

/// Whether this is room data that a client sends again after a resume, within its credit, from which it is then taken.
/// No limit may refuse such data: it was counted, so the client believes that it arrived.
pub(crate) fn is_sent_again(state: &mut SessionState, limits: &FrameLimits, inbound: &Inbound) -> bool {
    let InboundMessage::Data(InboundData { reliable: true, .. }) = inbound.message else { return false };
    let (credit, until) = &mut state.replay_credit;
    let within = limits.frame < *until && inbound.size <= *credit;
    if within {
        *credit -= inbound.size;
    }
    within
}

/// Charges a message to its session. `Ok(Err(ms))`: it is refused, and may pass in `ms`. Heartbeats and goodbyes are
/// free, since refusing them would only lose a healthy session.
///
/// # Errors
/// The session floods.
pub(crate) fn take_from_budget(
    state: &mut SessionState,
    ops: &OpTable,
    limits: &FrameLimits,
    inbound: &Inbound,
) -> Result<Result<(), u32>, Flood> {
    state.flood.take(limits.now_ns, 1, limits.flood).map_err(|_| Flood)?;
    let cost = match &inbound.message {
        InboundMessage::Heartbeat { .. } | InboundMessage::End => return Ok(Ok(())),
        InboundMessage::Call { op, request, .. } => {
            ops.get(*op).map_or(1, |row| row.price_of_request(&**request))
        }
        InboundMessage::Data(_) | InboundMessage::Bad { .. } => 1,
    };
    let taken = state.messages.take(limits.now_ns, limits.messages.at_most_a_burst(cost), limits.messages);
    Ok(taken.and_then(|()| state.bytes.take(limits.now_ns, inbound.size as u64, limits.bytes)))
}
