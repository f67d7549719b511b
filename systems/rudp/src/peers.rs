//! The slab of connections, which shrinks again.

use std::collections::BTreeSet;

use crate::{closing::Closing, config::Config, connection::Connection, peer_id::PeerId, timer::Micros};

/// An occupied slot.
pub(crate) struct Entry {
    pub(crate) id: PeerId,
    /// The deadline that is set for it.
    pub(crate) registered: Option<Micros>,
    /// When something is due for it, worked out the last time that it left the queue of `ready_since`. While it is in
    /// that queue, something may be due earlier, but only after what caused it.
    pub(crate) next: Micros,
    /// Since when it has been in the endpoint's queue of connections that may have something to send.
    pub(crate) ready_since: Option<Micros>,
    pub(crate) state: State,
}

/// Boxed, so that an empty slot costs next to nothing.
pub(crate) enum State {
    Live(Box<Connection>),
    Closing(Box<Closing>),
}

impl Entry {
    /// When its `on_timeout` is to be called next.
    pub(crate) fn deadline(&self, config: &Config) -> Micros {
        match &self.state {
            State::Live(connection) => connection.deadline(config),
            State::Closing(closing) => closing.deadline(),
        }
    }
}

/// The slab.
#[derive(Default)]
pub(crate) struct Peers {
    slots: Vec<Option<Entry>>,
    free: BTreeSet<u32>,
    generations: u64,
}

impl Peers {
    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether this id was ever given out.
    pub(crate) fn was_issued(&self, id: PeerId) -> bool {
        (1..=self.generations).contains(&id.generation())
    }

    /// Takes the lowest free slot, so that the end of the slab empties.
    pub(crate) fn insert(&mut self, make: impl FnOnce(PeerId) -> State) -> PeerId {
        self.generations += 1;
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let id = PeerId::new(slot, self.generations);
        self.slots[slot as usize] =
            Some(Entry { id, registered: None, next: Micros::ZERO, ready_since: None, state: make(id) });
        id
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        self.free.insert(slot);
        while let Some(None) = self.slots.last() {
            self.slots.pop();
            self.free.remove(&(self.slots.len() as u32));
        }
        if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        Some(entry)
    }

    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&Entry> {
        self.slots.get(id.slot() as usize)?.as_ref().filter(|entry| entry.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Entry> {
        self.at(id.slot()).filter(|entry| entry.id == id)
    }

    /// The connection, unless it is closing or gone.
    pub(crate) fn live(&mut self, id: PeerId) -> Option<&mut Connection> {
        match &mut self.get_mut(id)?.state {
            State::Live(connection) => Some(connection),
            State::Closing(_) => None,
        }
    }
}
