//! The seats of a room: index to presence.

use bevy_ecs::prelude::*;

/// The seats of a room: index to presence. The lowest free index is given next.
#[derive(Component, Default, Debug)]
pub struct Seats {
    /// By index.
    pub rows: Vec<Option<Entity>>,
    /// Taken seats.
    pub taken: u32,
}

impl Seats {
    /// The index that the next presence gets. There is one while fewer than 65,535 seats are taken (`room.seats_max`).
    pub fn free_index(&self) -> u16 {
        let free = self.rows.iter().position(Option::is_none).unwrap_or(self.rows.len());
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// The presence in a seat.
    pub fn get(&self, index: u16) -> Option<Entity> {
        self.rows.get(usize::from(index)).copied().flatten()
    }

    /// Gives a seat to a presence; one that had it loses it.
    pub fn take(&mut self, index: u16, presence: Entity) {
        let index = usize::from(index);
        if self.rows.len() <= index {
            self.rows.resize(index + 1, None);
        }
        if let Some(row) = self.rows.get_mut(index)
            && row.replace(presence).is_none()
        {
            self.taken += 1;
        }
    }

    /// Empties a seat.
    pub fn leave(&mut self, index: u16) {
        if let Some(row) = self.rows.get_mut(usize::from(index))
            && row.take().is_some()
        {
            self.taken -= 1;
        }
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_lowest_first_and_shrink() {
        let mut seats = Seats::default();
        for index in 0..3 {
            assert_eq!(seats.free_index(), index);
            seats.take(index, Entity::PLACEHOLDER);
        }
        seats.leave(1);
        assert_eq!((seats.free_index(), seats.taken), (1, 2));
        seats.leave(2);
        seats.leave(2);
        assert_eq!((seats.rows.len(), seats.taken), (1, 1));
    }
}
