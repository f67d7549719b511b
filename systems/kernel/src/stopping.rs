//! The server's stop, as everyone can see it.

use bevy_ecs::prelude::*;

/// The server is stopping: no new sessions, calls or rooms.
#[derive(Resource)]
pub struct Stopping;

/// The server was asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerStopping {
    /// What match_terminate is told, in seconds.
    pub grace_s: u32,
}
