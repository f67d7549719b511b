//! The ids of peers, sessions, rooms and tickets. None of them is an ECS entity id.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bevy_ecs::prelude::Entity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
pub use uuid::Uuid;

/// The id of a peer, which is one transport connection. Doors number them: slots are reused, and each use of a slot has
/// its own generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PeerId {
    /// The index in the doors' table: a small number, reused.
    pub slot: u32,
    /// The number of this use of the slot, from 1.
    pub generation: u32,
}

/// The id of a session, unique in a cluster for all practical time.
///
/// From the lowest bit: slot (20), generation of the slot (20), boot (16), node (8). On the wire it is a `fixed64`, in
/// scripts, JSON and logs 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The most sessions that one node can have at a time: the slot has 20 bits.
    pub const SLOTS: u32 = 1 << 20;

    /// The last generation of a slot: the generation has 20 bits.
    const LAST_GENERATION: u32 = (1 << 20) - 1;

    /// Puts an id together. `slot` is below [`SessionId::SLOTS`].
    pub(crate) fn new(slot: u32, generation: u32, boot: u16, node: u8) -> Self {
        let generation = u64::from(generation) & 0xf_ffff;
        SessionId(u64::from(node) << 56 | u64::from(boot) << 40 | generation << 20 | u64::from(slot))
    }

    /// The index in this node's table of sessions.
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

/// The id of a room: a version 4 UUID from the server's dice.
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

/// The number of a request whose reply a door waits for, or of a job that left the frame. Doors give even numbers from
/// 2, and the frame gives odd numbers to jobs, so that no two tickets are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Text that is not an id. The sentence states what one looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadId(&'static str);

/// Writes and reads ids as text only: in scripts, in JSON and in the journal.
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

/// The table from slots to entities, which finds a session without scanning or hashing. It does not compare
/// generations: a caller with an id has to check that the entity in its slot has the same id.
///
/// The lowest free slot is used next, so that the table is only as long as the most sessions there were at a time.
/// After its last generation a slot is retired, so that no id is given twice.
#[derive(Default, Debug)]
pub(crate) struct Slab {
    rows: Vec<Row>,
    /// The number of retired slots.
    retired: u32,
    /// The free slots. The set is sorted, because the next slot must not depend on the order in which slots became
    /// free.
    free: std::collections::BTreeSet<u32>,
}

/// One slot.
#[derive(Clone, Copy, Default, Debug)]
struct Row {
    /// The generation of its last use; 0: it was never used.
    generation: u32,
    /// The entity in the slot; `None`: the slot is free, retired, or reserved without an entity yet.
    entity: Option<Entity>,
}

impl Slab {
    /// Takes the lowest free slot. Returns it with its new generation. `None`: no slot is free, and `slots_max` are in
    /// use or the table has [`SessionId::SLOTS`] rows.
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

    /// Puts an entity into a reserved slot.
    pub(crate) fn set(&mut self, slot: u32, entity: Entity) {
        if let Some(row) = self.rows.get_mut(slot as usize) {
            row.entity = Some(entity);
        }
    }

    /// Frees a slot that has an entity, or retires it after its last generation. Any other slot stays as it is.
    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(row) = self.rows.get_mut(slot as usize)
            && row.entity.take().is_some()
        {
            if row.generation < SessionId::LAST_GENERATION {
                self.free.insert(slot);
            } else {
                self.retired += 1;
            }
        }
    }

    /// The entity in a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<Entity> {
        self.rows.get(slot as usize)?.entity
    }
}

/// The table from which doors give peer ids.
#[derive(Default, Debug)]
pub struct PeerSlots {
    /// The generation of each slot's last use, and whether the slot is open.
    rows: Vec<(u32, bool)>,
    free: Vec<u32>,
    /// The number of slots that had their last generation.
    retired: usize,
}

impl PeerSlots {
    /// Gives a peer id that was never given before; `None`: `peers_max` peers are open.
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

    /// Frees the slot of an open peer. Any other id changes nothing.
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

    /// The number of open peers.
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
        for _ in 0..SessionId::LAST_GENERATION {
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
