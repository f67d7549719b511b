//! Closing sessions from a system.

use bevy_ecs::system::{Deferred, SystemBuffer, SystemMeta, SystemParam};
use bevy_ecs::world::DeferredWorld;

use super::asked::Asked;
use crate::fault::{Fault, FaultKind};
use crate::ids::SessionId;

/// Closes sessions from a system. Several kicks of one session in a frame count as one, with the reason that sorts
/// first.
#[derive(SystemParam)]
pub struct Kicks<'s> {
    buffer: Deferred<'s, KickBuffer>,
}

impl Kicks<'_> {
    /// Closes a session at the end of this frame, or of the next frame when called in `Stage::Flush`. The client gets
    /// the fault `kicked` with this reason.
    pub fn kick(&mut self, session: SessionId, reason: &str) {
        self.buffer.0.push((session, reason.to_owned()));
    }
}

/// The kicks of one system, until its deferred parameters are applied.
#[derive(Default)]
pub(crate) struct KickBuffer(Vec<(SessionId, String)>);

impl SystemBuffer for KickBuffer {
    fn queue(&mut self, _: &SystemMeta, mut world: DeferredWorld<'_>) {
        if self.0.is_empty() {
            return;
        }
        let mut asked = world.resource_mut::<Asked>();
        for (session, reason) in self.0.drain(..) {
            let known = asked.kicks.entry(session).or_insert_with(|| reason.clone());
            if reason < *known {
                *known = reason;
            }
        }
    }
}

/// The fault with which a kicked session ends; an empty reason stands for the default sentence.
pub fn kicked(reason: String) -> Fault {
    if reason.is_empty() { FaultKind::Kicked.into() } else { Fault::new(FaultKind::Kicked, reason) }
}
