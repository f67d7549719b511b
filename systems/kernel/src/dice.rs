//! Randomness as a function of the server's seed: one independent stream per user of random numbers.

use bevy_ecs::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A stream of random numbers from ChaCha8, whose crate guarantees the same values in all versions.
///
/// Knowing the server's seed is enough to predict it, so it is fit for games and ids only. Keys and tokens come from
/// the operating system's randomness: doors draw them and pass them in as inputs.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `name` and `id` under the server's seed.
    pub fn of(seed: u64, name: &str, id: u128) -> Self {
        let mut key = [0u8; 32];
        let low = xxh3_128_with_seed(name.as_bytes(), seed);
        let high = xxh3_128_with_seed(&id.to_le_bytes(), seed ^ 0x9e37_79b9_7f4a_7c15);
        key[..16].copy_from_slice(&low.to_le_bytes());
        key[16..].copy_from_slice(&high.to_le_bytes());
        Dice(ChaCha8Rng::from_seed(key))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A version 4 UUID.
    pub fn uuid(&mut self) -> Uuid {
        let bits = u128::from(self.roll()) << 64 | u128::from(self.roll());
        uuid::Builder::from_u128(bits)
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

/// The server's seed, from `Boot`, and its stream of ids.
#[derive(Resource, Debug)]
pub struct ServerDice {
    seed: u64,
    ids: Dice,
}

impl ServerDice {
    /// The dice of a run with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        ServerDice { seed, ids: Dice::of(seed, "ids", 0) }
    }

    /// The seed of this run, from the first input of the journal.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A new id, for a room or a user, for example.
    pub fn uuid(&mut self) -> Uuid {
        self.ids.uuid()
    }

    /// The stream of `name` and `id`, independent of all others.
    pub fn of(&self, name: &str, id: u128) -> Dice {
        Dice::of(self.seed, name, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_equal_by_name_and_apart_by_id() {
        let roll = |name, id| Dice::of(7, name, id).roll();
        assert_eq!(roll("room", 1), roll("room", 1));
        assert_ne!(roll("room", 1), roll("room", 2));
        assert_ne!(roll("room", 1), roll("hook", 1));
        assert_eq!(Dice::of(7, "ids", 0).uuid().get_version_num(), 4);
    }
}
