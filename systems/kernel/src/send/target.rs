//! The target of an event. It is plain data, so that it can name a user who is connected to another node.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ids::{RoomId, SessionId};
use crate::room::presence::{Presence, Presences};
use crate::session::Session;
use crate::spelling::nearest;
use crate::world::{SessionIndex, WorldExt};

/// The target of an event.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One session.
    Session(SessionId),
    /// Every session of a user.
    User(String),
    /// Every member of a room.
    Room(RoomId),
    /// A feature's own kind of target, such as a stream or a party; see
    /// [`KaosApp::target`](crate::app::KaosApp::target).
    Named {
        /// The name under which the feature registered the kind.
        kind: String,
        /// The id of one target of this kind.
        id: String,
    },
}

/// Finds the sessions of one of a feature's own targets, by its id. Their order has to be the same in every process.
pub type Resolve = fn(&World, &str) -> Vec<SessionId>;

/// The kinds of targets that features have registered.
#[derive(Resource, Clone, Default, Debug)]
pub struct Targets(pub(crate) BTreeMap<String, Resolve>);

/// A session that gets an event.
pub(crate) struct Recipient {
    /// The session's slot.
    pub(crate) slot: u32,
    /// The session's handle of the room; 0 when the target is not a room.
    pub(crate) handle: u16,
}

/// The sessions of a target that exist and are not ending.
///
/// # Errors
/// `not_found`: no feature has targets of this kind.
pub(crate) fn recipients(world: &World, to: &Target) -> Result<Vec<Recipient>, Fault> {
    Ok(match to {
        Target::Session(id) => live(world, *id).into_iter().collect(),
        Target::User(user) => {
            let sessions = world.resource::<SessionIndex>().by_user.get(user);
            sessions.into_iter().flatten().filter_map(|id| live(world, *id)).collect()
        }
        Target::Room(id) => {
            let presences = world.room(*id).and_then(|room| world.get::<Presences>(room));
            let entities = presences.map(Presences::entities).unwrap_or_default();
            let presences = entities.iter().filter_map(|entity| world.get::<Presence>(*entity));
            presences
                .filter_map(|presence| {
                    let recipient = live(world, presence.info.session_id)?;
                    Some(Recipient { handle: presence.handle, ..recipient })
                })
                .collect()
        }
        Target::Named { kind, id } => {
            let known = world.resource::<Targets>();
            let resolve = known.0.get(kind).ok_or_else(|| {
                let near = nearest(kind, known.0.keys().cloned());
                Fault::not_found(format!("no feature of this server has targets of the kind `{kind}`{near}"))
            })?;
            resolve(world, id).into_iter().filter_map(|id| live(world, id)).collect()
        }
    })
}

/// The session as a recipient without a room; `None`: it does not exist or is ending.
fn live(world: &World, id: SessionId) -> Option<Recipient> {
    let session = world.get::<Session>(world.session(id)?)?;
    session.ending.is_none().then_some(Recipient { slot: id.slot(), handle: 0 })
}
