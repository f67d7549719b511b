//! The stop of the server: the resource and the fact that report it.

use bevy_ecs::prelude::*;

/// A resource that exists while the server is stopping. Then there are no new sessions, calls or rooms.
#[derive(Resource)]
pub struct Stopping;

/// The fact that the server was asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerStopping {
    /// The grace period that `match_terminate` gets, in seconds.
    pub grace_s: u32,
}
