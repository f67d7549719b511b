//! The names that things carry: peers, sessions, rooms, tickets. None of them is an ECS entity id.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bevy_ecs::prelude::Entity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
pub use uuid::Uuid;

/// One network endpoint, numbered by the doors: a slot that is used again and a generation that never is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PeerId {
    /// Place in the doors' table; small numbers, reused.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A session: unique in a cluster for all practical time.
///
/// From the lowest bit: slot (20), generation of the slot (20), boot (16), node (8). On the wire a
/// `fixed64`, in scripts, JSON and logs 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Sessions that one node can hold at a time: the 20 bits of the slot.
    pub const SLOTS: u32 = 1 << 20;

    /// The last use of a slot: the 20 bits of the generation.
    const LAST: u32 = (1 << 20) - 1;

    pub(crate) fn new(slot: u32, generation: u32, boot: u16, node: u8) -> Self {
        let generation = u64::from(generation) & 0xf_ffff;
        SessionId(u64::from(node) << 56 | u64::from(boot) << 40 | generation << 20 | u64::from(slot))
    }

    /// Place in this node's table of sessions.
    pub fn slot(self) -> u32 {
        (self.0 & 0xf_ffff) as u32
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(SessionId).ok_or(BadId("a session id is 16 hexadecimal digits"))
    }
}

/// A room: a version 4 UUID from the server's dice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub Uuid);

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RoomId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let hyphenated = text.len() == 36;
        let uuid = hyphenated.then(|| Uuid::try_parse(text).ok()).flatten();
        uuid.map(RoomId).ok_or(BadId("a room id is a UUID in its 36-character form"))
    }
}

/// Names a request that a door waits for, or a job that left the frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Text that is no id; the sentence says what one looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadId(&'static str);

/// Ids cross scripts, JSON and the journal as text, and only text.
macro_rules! as_text {
    ($id:ty) => {
        impl Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $id;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an id as text")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$id, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
    };
}
as_text!(SessionId);
as_text!(RoomId);

/// Slot and generation to entity: how a session or peer is found without scanning or hashing.
///
/// A freed slot is used again, the lowest first, so that the table stays as small as the most that
/// were ever there at a time. After its last generation a slot is not used again: no id comes twice.
#[derive(Default, Debug)]
pub(crate) struct Slab {
    rows: Vec<Row>,
    /// Slots that were used up.
    retired: u32,
    /// Free slots, as a sorted set: which one comes next must not depend on the order of leaving.
    free: std::collections::BTreeSet<u32>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Row {
    generation: u32,
    entity: Option<Entity>,
}

impl Slab {
    /// Takes the lowest free slot; `None` when `slots_max` are in use, or all of [`SessionId::SLOTS`] were used up.
    pub(crate) fn reserve(&mut self, slots_max: u32) -> Option<(u32, u32)> {
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.rows.len()).ok().filter(|slot| *slot < SessionId::SLOTS)?;
                if slot - self.retired >= slots_max {
                    return None;
                }
                self.rows.push(Row::default());
                slot
            }
        };
        let row = self.rows.get_mut(slot as usize)?;
        row.generation += 1;
        Some((slot, row.generation))
    }

    pub(crate) fn set(&mut self, slot: u32, entity: Entity) {
        if let Some(row) = self.rows.get_mut(slot as usize) {
            row.entity = Some(entity);
        }
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(row) = self.rows.get_mut(slot as usize)
            && row.entity.take().is_some()
        {
            if row.generation < SessionId::LAST {
                self.free.insert(slot);
            } else {
                self.retired += 1;
            }
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<Entity> {
        self.rows.get(slot as usize)?.entity
    }
}

/// The doors' side of [`PeerId`]: gives out slots and takes them back.
#[derive(Default, Debug)]
pub struct PeerSlots {
    /// The newest generation of each slot, and whether it is open.
    rows: Vec<(u32, bool)>,
    free: Vec<u32>,
    /// Slots that were used up.
    retired: usize,
}

impl PeerSlots {
    /// A peer id that was never given before; `None` when `peers_max` are in use.
    pub fn open(&mut self, peers_max: u32) -> Option<PeerId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                if self.open_count() >= peers_max as usize {
                    return None;
                }
                let slot = u32::try_from(self.rows.len()).ok()?;
                self.rows.push((0, false));
                slot
            }
        };
        let (generation, open) = self.rows.get_mut(slot as usize)?;
        *generation += 1;
        *open = true;
        Some(PeerId { slot, generation: *generation })
    }

    /// Gives the slot back. An id that is not open changes nothing.
    pub fn close(&mut self, peer: PeerId) {
        if let Some((generation, open)) = self.rows.get_mut(peer.slot as usize)
            && *generation == peer.generation
            && std::mem::take(open)
        {
            if *generation < u32::MAX {
                self.free.push(peer.slot);
            } else {
                self.retired += 1;
            }
        }
    }

    /// Peers that are open now.
    pub fn open_count(&self) -> usize {
        self.rows.len() - self.free.len() - self.retired
    }
}

impl JsonSchema for SessionId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SessionId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "session-id", "pattern": "^[0-9a-fA-F]{16}$" })
    }
}

impl JsonSchema for RoomId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RoomId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text() {
        let session = SessionId::new(7, 3, 0xbeef, 2);
        assert_eq!(session.to_string().parse(), Ok(session));
        assert_eq!(session.slot(), 7);
        let room = RoomId(Uuid::from_u128(42));
        assert_eq!(room.to_string().parse(), Ok(room));
        assert!("+00000000000000f".parse::<SessionId>().is_err());
        assert!("42".parse::<RoomId>().is_err());
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_not_given_again() {
        let mut slab = Slab::default();
        let mut seen = None;
        for _ in 0..SessionId::LAST {
            let (slot, generation) = slab.reserve(1).expect("one place");
            assert!(slot == 0 && seen < Some(generation), "{generation} comes twice");
            seen = Some(generation);
            slab.set(slot, Entity::PLACEHOLDER);
            slab.free(slot);
        }
        assert_eq!(slab.reserve(1), Some((1, 1)), "the next slot");
        assert_eq!(slab.reserve(1), None, "and one place is still one");
        let last = PeerId { slot: 0, generation: u32::MAX };
        let mut slots = PeerSlots { rows: vec![(u32::MAX, true)], ..PeerSlots::default() };
        slots.close(last);
        assert_eq!((slots.open_count(), slots.open(1)), (0, Some(PeerId { slot: 1, generation: 1 })));
        assert_eq!(slots.open(1), None);
    }

    #[test]
    fn a_freed_slot_comes_back_with_another_generation() {
        let mut slots = PeerSlots::default();
        let first = slots.open(1).expect("one place");
        assert_eq!(slots.open(1), None);
        slots.close(first);
        slots.close(first);
        let second = slots.open(1).expect("free again");
        assert_eq!(second.slot, first.slot);
        assert_ne!(second, first);
        assert_eq!(slots.open_count(), 1);
    }
}
