//! The receiving half of the channels: order, duplicates, reassembly, and the bounds of all that.

use std::collections::BTreeMap;

use crate::{config::Config, error::Violation, pool::Pool};

/// What a held piece costs beside its bytes, so that tiny ones are not free.
const PIECE_COST: usize = 64;
/// Ids farther ahead than this are not taken in: twice what a correct sender uses.
const IDS_AHEAD_MAX: i64 = 8192;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// Delivered, kept, or known already: may be acknowledged.
    Yes,
    /// No room: its packet must not be acknowledged, so that it comes again.
    No,
}

/// How much received data waits, against its bounds.
pub(crate) struct Budget<'a> {
    pub(crate) config: &'a Config,
    /// Bytes waiting at this peer.
    pub(crate) peer: &'a mut usize,
    /// Bytes waiting at all peers of the endpoint.
    pub(crate) total: &'a mut usize,
    pub(crate) pool: &'a mut Pool,
}

impl Budget<'_> {
    /// Books `cost`. What the channel waits for always gets in: refusing that would stop the channel for ever.
    fn take(&mut self, cost: usize, is_next: bool) -> bool {
        let fits = *self.peer + cost <= self.config.reassembly_bytes_max
            && *self.total + cost <= self.config.reassembly_bytes_total_max;
        if fits || is_next {
            *self.peer += cost;
            *self.total += cost;
        }
        fits || is_next
    }

    fn give_back(&mut self, cost: usize) {
        *self.peer -= cost;
        *self.total -= cost;
    }
}

/// A reliable ordered channel.
#[derive(Default)]
pub(crate) struct Ordered {
    /// Id of the next message to deliver.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

enum Waiting {
    Whole(Vec<u8>),
    Parts(Parts),
}

struct Parts {
    count: u32,
    bytes: usize,
    pieces: BTreeMap<u32, Vec<u8>>,
}

impl Parts {
    fn is_complete(&self) -> bool {
        self.pieces.len() == self.count as usize
    }

    fn cost(&self) -> usize {
        self.bytes + self.pieces.len() * PIECE_COST
    }

    fn join(self, pool: &mut Pool) -> Vec<u8> {
        let mut bytes = pool.take(self.bytes);
        for piece in self.pieces.into_values() {
            bytes.extend_from_slice(&piece);
            pool.give(piece);
        }
        bytes
    }
}

/// Where an id on the wire lies.
enum Place {
    Known,
    Ahead(u64),
    TooFar,
}

impl Ordered {
    pub(crate) fn message(
        &mut self,
        id: u16,
        bytes: &[u8],
        budget: &mut Budget<'_>,
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Result<Taken, Violation> {
        if bytes.len() > budget.config.message_bytes_max {
            return Err(Violation::TooLarge(budget.config.message_bytes_max));
        }
        let id = match self.place(id) {
            Place::Known => return Ok(Taken::Yes),
            Place::TooFar => return Ok(Taken::No),
            Place::Ahead(id) => id,
        };
        match self.waiting.get(&id) {
            Some(Waiting::Whole(_)) => return Ok(Taken::Yes),
            Some(Waiting::Parts(_)) => return Err(Violation::BadFragment),
            None => {}
        }
        if id == self.next {
            deliver(budget.pool.copy(bytes));
            self.next += 1;
            self.release(budget, deliver);
        } else if budget.take(bytes.len() + PIECE_COST, false) {
            self.waiting.insert(id, Waiting::Whole(budget.pool.copy(bytes)));
        } else {
            return Ok(Taken::No);
        }
        Ok(Taken::Yes)
    }

    pub(crate) fn fragment(
        &mut self,
        id: u16,
        index: u32,
        count: u32,
        bytes: &[u8],
        budget: &mut Budget<'_>,
        deliver: impl FnMut(Vec<u8>),
    ) -> Result<Taken, Violation> {
        let message_max = budget.config.message_bytes_max;
        // Every fragment has a byte at least.
        if count as usize > message_max {
            return Err(Violation::TooLarge(message_max));
        }
        let id = match self.place(id) {
            Place::Known => return Ok(Taken::Yes),
            Place::TooFar => return Ok(Taken::No),
            Place::Ahead(id) => id,
        };
        let (known, bytes_before) = match self.waiting.get(&id) {
            Some(Waiting::Whole(_)) => return Err(Violation::BadFragment),
            Some(Waiting::Parts(parts)) if parts.count != count => return Err(Violation::BadFragment),
            Some(Waiting::Parts(parts)) => (parts.pieces.contains_key(&index), parts.bytes),
            None => (false, 0),
        };
        if known {
            return Ok(Taken::Yes);
        }
        if bytes_before + bytes.len() > message_max {
            return Err(Violation::TooLarge(message_max));
        }
        if !budget.take(bytes.len() + PIECE_COST, id == self.next) {
            return Ok(Taken::No);
        }
        let empty = || Waiting::Parts(Parts { count, bytes: 0, pieces: BTreeMap::new() });
        if let Waiting::Parts(parts) = self.waiting.entry(id).or_insert_with(empty) {
            parts.bytes += bytes.len();
            parts.pieces.insert(index, budget.pool.copy(bytes));
        }
        self.release(budget, deliver);
        Ok(Taken::Yes)
    }

    fn place(&self, id: u16) -> Place {
        let distance = i64::from(id.wrapping_sub(self.next as u16) as i16);
        match distance {
            ..0 => Place::Known,
            0..IDS_AHEAD_MAX => Place::Ahead(self.next + distance as u64),
            _ => Place::TooFar,
        }
    }

    /// Delivers what is whole and next.
    fn release(&mut self, budget: &mut Budget<'_>, mut deliver: impl FnMut(Vec<u8>)) {
        while let Some(entry) = self.waiting.first_entry() {
            let is_ready = match entry.get() {
                Waiting::Whole(_) => true,
                Waiting::Parts(parts) => parts.is_complete(),
            };
            if *entry.key() != self.next || !is_ready {
                return;
            }
            match entry.remove() {
                Waiting::Whole(bytes) => {
                    budget.give_back(bytes.len() + PIECE_COST);
                    deliver(bytes);
                }
                Waiting::Parts(parts) => {
                    budget.give_back(parts.cost());
                    deliver(parts.join(budget.pool));
                }
            }
            self.next += 1;
        }
    }
}

/// The unreliable sequenced channel: only what is newer than all before.
#[derive(Default)]
pub(crate) struct Sequenced {
    next: u64,
}

impl Sequenced {
    /// Whether the message with this id is to be delivered.
    pub(crate) fn is_newer(&mut self, id: u16) -> bool {
        let distance = id.wrapping_sub(self.next as u16) as i16;
        if distance < 0 {
            return false;
        }
        self.next += distance as u64 + 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        config: Config,
        channel: Ordered,
        peer: usize,
        total: usize,
        got: Vec<Vec<u8>>,
        pool: Pool,
    }

    impl Bench {
        fn new(config: Config) -> Bench {
            Bench {
                config,
                channel: Ordered::default(),
                peer: 0,
                total: 0,
                got: Vec::new(),
                pool: Pool::new(4096),
            }
        }

        fn message(&mut self, id: u16, bytes: &[u8]) -> Result<Taken, Violation> {
            let mut budget = Budget {
                config: &self.config,
                peer: &mut self.peer,
                total: &mut self.total,
                pool: &mut self.pool,
            };
            self.channel.message(id, bytes, &mut budget, |bytes| self.got.push(bytes))
        }

        fn fragment(&mut self, id: u16, index: u32, count: u32, bytes: &[u8]) -> Result<Taken, Violation> {
            let mut budget = Budget {
                config: &self.config,
                peer: &mut self.peer,
                total: &mut self.total,
                pool: &mut self.pool,
            };
            self.channel.fragment(id, index, count, bytes, &mut budget, |bytes| self.got.push(bytes))
        }
    }

    #[test]
    fn any_order_and_any_number_of_times_gives_once_and_in_order() {
        let mut bench = Bench::new(Config::default());
        for id in [2, 2, 1, 4, 0, 0, 3, 1, 4] {
            assert_eq!(bench.message(id, &[id as u8]), Ok(Taken::Yes));
        }
        assert_eq!(bench.got.concat(), [0, 1, 2, 3, 4]);
        assert_eq!((bench.peer, bench.total), (0, 0));
        for (index, piece) in [(2, "c"), (0, "a"), (2, "c"), (1, "b"), (1, "b")] {
            bench.fragment(5, index, 3, piece.as_bytes()).unwrap();
        }
        assert_eq!(bench.got[5], b"abc");
        assert_eq!((bench.peer, bench.total), (0, 0));
    }

    #[test]
    fn ids_wrap_around_sixteen_bits() {
        let mut bench = Bench::new(Config::default());
        for id in 0..200_000u32 {
            bench.message(id as u16, &[]).unwrap();
            bench.message(id as u16, &[]).unwrap();
        }
        assert_eq!(bench.got.len(), 200_000);
        let mut sequenced = Sequenced::default();
        assert!((0..200_000u32).all(|id| sequenced.is_newer(id as u16) && !sequenced.is_newer(id as u16)));
    }

    #[test]
    fn the_bound_holds_and_what_is_next_gets_in_over_it() {
        let config = Config { reassembly_bytes_max: 200, ..Config::default() };
        let mut bench = Bench::new(config);
        assert_eq!(bench.message(1, &[1; 100]), Ok(Taken::Yes));
        assert_eq!(bench.message(2, &[2; 100]), Ok(Taken::No));
        assert_eq!(bench.fragment(3, 0, 2, &[2; 100]), Ok(Taken::No));
        assert_eq!(bench.message(9000, &[]), Ok(Taken::No), "too far ahead");
        assert_eq!(bench.peer, 164);
        assert_eq!(bench.fragment(0, 0, 2, &[3; 100]), Ok(Taken::Yes));
        assert_eq!(bench.peer, 328);
        assert_eq!(bench.fragment(0, 1, 2, &[3; 100]), Ok(Taken::Yes));
        assert_eq!((bench.got.len(), bench.peer), (2, 0));
        assert_eq!(bench.message(2, &[2; 100]), Ok(Taken::Yes));
        bench.config.reassembly_bytes_total_max = 50;
        assert_eq!(bench.message(4, &[]), Ok(Taken::No));
    }

    #[test]
    fn fragments_that_disagree_or_add_up_to_too_much_are_violations() {
        let mut bench = Bench::new(Config { message_bytes_max: 150, ..Config::default() });
        assert_eq!(bench.fragment(0, 0, 151, &[1]), Err(Violation::TooLarge(150)));
        assert_eq!(bench.message(0, &[1; 151]), Err(Violation::TooLarge(150)));
        bench.fragment(0, 0, 2, &[1; 100]).unwrap();
        assert_eq!(bench.fragment(0, 1, 3, &[1; 10]), Err(Violation::BadFragment));
        assert_eq!(bench.message(0, &[1; 10]), Err(Violation::BadFragment));
        assert_eq!(bench.fragment(0, 1, 2, &[1; 51]), Err(Violation::TooLarge(150)));
        bench.message(1, &[1]).unwrap();
        assert_eq!(bench.fragment(1, 0, 2, &[1]), Err(Violation::BadFragment));
    }
}
