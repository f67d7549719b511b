//! The operations on rooms: a file an operation, or a few that belong together. In each the row comes first, then the
//! request, the reply and the handler. `wire` has the binary forms of those that have one.

pub mod admin;
pub mod create;
pub mod join;
pub mod list;
pub mod send;
pub(crate) mod wire;

use kaos_kernel::prelude::*;
use serde::{Deserialize, Serialize};

/// A request that names a room.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// The room.
    pub room_id: RoomId,
}

/// Registers every operation on rooms.
pub(crate) fn register(app: &mut App) {
    create::register(app);
    join::register(app);
    list::register(app);
    send::register(app);
    admin::register(app);
}
