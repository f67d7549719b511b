//! Handles: the small numbers by which a session names its rooms, handed out cyclically.

use bevy_ecs::prelude::*;
use smallvec::SmallVec;

/// A session's presences by handle.
///
/// A handle is reused only after all others were: data under way to a room that just ended must not reach the room that
/// was joined next.
#[derive(Component, Debug, Default)]
pub struct Handles {
    /// Sorted by handle; stored inline, because every message looks here and a session is in few rooms.
    rows: SmallVec<[(u16, Entity); 2]>,
    next: u16,
}

impl Handles {
    /// The presence with this handle.
    pub fn get(&self, handle: u16) -> Option<Entity> {
        self.find(handle).ok().and_then(|at| self.rows.get(at)).map(|(_, presence)| *presence)
    }

    /// How many rooms the session is in.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the session is in no room.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The next free handle, of which there is one while fewer than 65,536 are taken. It is not reserved:
    /// [`Handles::set`] takes it.
    pub fn draw(&mut self) -> u16 {
        while self.find(self.next).is_ok() && self.rows.len() <= usize::from(u16::MAX) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        handle
    }

    /// Gives a handle to a presence.
    pub fn set(&mut self, handle: u16, presence: Entity) {
        match self.find(handle) {
            Ok(at) => {
                if let Some(row) = self.rows.get_mut(at) {
                    row.1 = presence;
                }
            }
            Err(at) => self.rows.insert(at, (handle, presence)),
        }
    }

    /// Frees a handle.
    pub fn clear(&mut self, handle: u16) {
        if let Ok(at) = self.find(handle) {
            self.rows.remove(at);
        }
    }

    fn find(&self, handle: u16) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&handle, |(handle, _)| *handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_go_in_a_circle_and_are_found_while_they_are_taken() {
        let mut handles = Handles::default();
        let presence = Entity::PLACEHOLDER;
        for expected in 0..3 {
            let handle = handles.draw();
            assert_eq!(handle, expected);
            handles.set(handle, presence);
        }
        handles.clear(1);
        handles.clear(1);
        assert_eq!((handles.get(0), handles.get(1), handles.len()), (Some(presence), None, 2));
        for _ in 3..=u16::MAX {
            let handle = handles.draw();
            assert_eq!(handles.get(handle), None, "{handle} is not given again before all others were");
        }
        assert_eq!(handles.draw(), 1, "0 and 2 are still taken");
    }
}
