//! Who made the rooms that are: nobody fills the server with rooms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kaos_kernel::limit::subject;
use kaos_kernel::prelude::*;

/// For whom a room is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Creator {
    /// A session. Its address counts too.
    Session(SessionId),
    /// A user without one, by its id; all who did not say who they are have the empty one.
    User(String),
}

impl Creator {
    /// Whose room it is that `caller` makes; `None`: the server's.
    pub(crate) fn of(caller: &Caller) -> Option<Self> {
        match caller {
            Caller::Session(id) => Some(Creator::Session(*id)),
            Caller::User(identity) => Some(Creator::User(identity.user_id.clone())),
            Caller::Anonymous => Some(Creator::User(String::new())),
            Caller::Room(_) | Caller::Server => None,
        }
    }
}

/// On the entity of a room: who made it, and from where.
#[derive(Component, Clone, Debug)]
pub(crate) struct CreatedBy {
    creator: Creator,
    /// As limits count addresses.
    address: Option<IpAddr>,
}

/// How many rooms that still are everyone made. As many rows as rooms at most.
#[derive(Resource, Default, Debug)]
pub(crate) struct RoomQuota {
    by_creator: BTreeMap<Creator, u32>,
    by_address: BTreeMap<IpAddr, u32>,
}

impl RoomQuota {
    /// May `creator` make one more?
    ///
    /// # Errors
    /// `busy` at `limit.session_rooms_created_max` and `limit.address_rooms_created_max`, `session_gone`.
    pub(crate) fn admit(world: &World, creator: Creator) -> Result<CreatedBy, Fault> {
        let address = match &creator {
            Creator::Session(id) => {
                let session = world.of_session::<Session>(*id);
                Some(subject(session.ok_or(FaultKind::SessionGone)?.address))
            }
            Creator::User(_) => None,
        };
        let limit = world.resource::<LimitSettings>();
        let (most, most_of_address) = (limit.session_rooms_created_max, limit.address_rooms_created_max);
        let quota = world.resource::<RoomQuota>();
        if quota.by_creator.get(&creator).is_some_and(|made| *made >= most) {
            let sentence =
                format!("a session may have made {most} rooms at a time: one of them has to end first");
            return Err(Fault::new(FaultKind::Busy, sentence));
        }
        if address
            .and_then(|address| quota.by_address.get(&address))
            .is_some_and(|made| *made >= most_of_address)
        {
            let sentence =
                format!("the sessions of one address may have made {most_of_address} rooms at a time");
            return Err(Fault::new(FaultKind::Busy, sentence));
        }
        Ok(CreatedBy { creator, address })
    }

    /// A room was made.
    pub(crate) fn enter(&mut self, CreatedBy { creator, address }: &CreatedBy) {
        *self.by_creator.entry(creator.clone()).or_default() += 1;
        if let Some(address) = address {
            *self.by_address.entry(*address).or_default() += 1;
        }
    }

    /// A room is no more.
    pub(crate) fn remove(&mut self, CreatedBy { creator, address }: &CreatedBy) {
        take_one(&mut self.by_creator, creator);
        if let Some(address) = address {
            take_one(&mut self.by_address, address);
        }
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
