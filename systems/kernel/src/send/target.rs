//! To whom an event goes. Plain data, so that it can name somebody who is connected to another node.

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

/// To whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One session.
    Session(SessionId),
    /// Every session of a user.
    User(String),
    /// Every member of a room.
    Room(RoomId),
    /// What a feature has a name for: a stream, a party. See [`KaosApp::target`](crate::app::KaosApp::target).
    Named {
        /// Under which name the feature registered it.
        kind: String,
        /// Which of them.
        id: String,
    },
}

/// How a feature finds the sessions behind one of its own targets, in an order that is the same in every process.
pub type Resolve = fn(&World, &str) -> Vec<SessionId>;

/// The kinds of targets that features have registered.
#[derive(Resource, Clone, Default, Debug)]
pub struct Targets(pub(crate) BTreeMap<String, Resolve>);

/// A session's slot and its name for the room, if it is a room's event.
pub(crate) type Recipient = (u32, u16);

/// The sessions behind a target that are there and not ending.
///
/// # Errors
/// `not_found`: no feature has such targets.
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
                    live(world, presence.info.session_id).map(|(slot, _)| (slot, presence.handle))
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

fn live(world: &World, id: SessionId) -> Option<Recipient> {
    let session = world.get::<Session>(world.session(id)?)?;
    session.ending.is_none().then_some((id.slot(), 0))
}
