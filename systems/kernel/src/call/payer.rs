//! Who pays for a call.

use std::net::IpAddr;

use bevy_ecs::prelude::*;

use crate::clock::Clock;
use crate::ids::SessionId;
use crate::limit::{Addresses, LimitSettings};
use crate::session::SessionState;
use crate::session::budget::FrameLimits;
use crate::world::WorldExt;

/// Whose budget a call is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payer {
    /// A session.
    Session(SessionId),
    /// The address that a call without a session came from.
    Address(IpAddr),
    /// Scripts and the server.
    Nobody,
}

impl Payer {
    /// Charges `messages`, even into debt. A session that is gone pays nothing.
    pub(crate) fn charge(self, world: &mut World, messages: u32) {
        if messages == 0 {
            return;
        }
        let now = world.resource::<Clock>().now_ns();
        match self {
            Payer::Session(session) => {
                let limits = FrameLimits::of(world);
                if let Some(entity) = world.session(session)
                    && let Some(mut state) = world.get_mut::<SessionState>(entity)
                {
                    state.messages.charge(now, messages.into(), limits.messages);
                }
            }
            Payer::Address(address) => {
                let limits = world.resource::<LimitSettings>().clone();
                world.resource_mut::<Addresses>().charge(address, now, messages, &limits);
            }
            Payer::Nobody => {}
        }
    }
}
