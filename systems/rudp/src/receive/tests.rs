//! The receiving half of each kind of channel: any order, any number of times, bounds.

use super::*;
use crate::{
    channel::ChannelConfig,
    events::Event,
    lab::Rng,
    packet::{FRAGMENT_BYTES_MIN, UNRELIABLE_FRAGMENTS_MAX},
};

const LONG: [u8; 600] = [7; 600];

/// One channel of each kind, 0 to 3 in the order of kinds.
struct Bench {
    config: Config,
    receiving: Receiving,
    channel: Channel,
    now: Micros,
    peer: usize,
    total: usize,
    stale: u64,
    got: Vec<Vec<u8>>,
    events: Events,
    pool: Pool,
}

impl Bench {
    fn new(kind: ChannelKind, config: Config) -> Bench {
        let channel = Channel::new(9).unwrap();
        let mut config = config;
        config.channels.set(channel, ChannelConfig::new(kind));
        Bench {
            config,
            receiving: Receiving::new(),
            channel,
            now: Micros::ZERO,
            peer: 0,
            total: 0,
            stale: 0,
            got: Vec::new(),
            events: Events::default(),
            pool: Pool::new(4096),
        }
    }

    fn with(
        &mut self,
        what: impl FnOnce(&mut Inbox, &mut InboxContext<'_>) -> Result<Taken, Violation>,
    ) -> Result<Taken, Violation> {
        let inbox = self.receiving.inbox(&self.config, self.channel)?;
        let taken = what(
            inbox,
            &mut InboxContext {
                config: &self.config,
                peer: PeerId::from_bits(1),
                channel: self.channel,
                events: &mut self.events,
                pool: &mut self.pool,
                peer_bytes: &mut self.peer,
                total_bytes: &mut self.total,
                stale: &mut self.stale,
            },
        );
        while let Some(event) = self.events.pop() {
            let Event::Message { channel, bytes, .. } = event else { panic!("{event:?}") };
            assert_eq!(channel, self.channel);
            self.got.push(bytes);
        }
        taken
    }

    fn message(&mut self, id: u16, bytes: &[u8]) -> Result<Taken, Violation> {
        self.with(|inbox, cx| inbox.message(id, bytes, cx))
    }

    fn fragment(&mut self, id: u16, index: u32, count: u32, bytes: &[u8]) -> Result<Taken, Violation> {
        let now = self.now;
        self.with(|inbox, cx| inbox.fragment(now, id, Fragment { index, count, bytes }, cx))
    }

    fn skip(&mut self, id: u16) -> Result<Taken, Violation> {
        self.with(|inbox, cx| inbox.skip(id, cx))
    }

    fn first_bytes(&self) -> Vec<u8> {
        self.got.iter().map(|message| message[0]).collect()
    }
}

#[test]
fn a_place_in_an_order_is_no_longer_than_what_it_costs() {
    assert!(size_of::<parts::Parts>() <= SLOT_COST && size_of::<Vec<u8>>() <= SLOT_COST);
    assert!(Ordered::place_bytes() <= SLOT_COST);
}

#[test]
fn any_order_and_any_number_of_times_gives_once_and_in_order() {
    let mut bench = Bench::new(ChannelKind::Ordered, Config::default());
    for id in [2, 2, 1, 4, 0, 0, 3, 1, 4] {
        assert_eq!(bench.message(id, &[id as u8]), Ok(Taken::Yes));
    }
    assert_eq!(bench.got.concat(), [0, 1, 2, 3, 4]);
    assert_eq!((bench.peer, bench.total), (0, 0));
    for index in [2, 0, 2, 1, 1] {
        let bytes = [index as u8; FRAGMENT_BYTES_MIN];
        bench.fragment(5, index, 3, if index == 2 { b"c" } else { &bytes }).unwrap();
    }
    assert_eq!(bench.got[5], [&[0; 512][..], &[1; 512], b"c"].concat());
    assert_eq!((bench.peer, bench.total), (0, 0));
}

/// Messages and fragments of many ids, each several times, in a random order within what a sender may have under way.
#[test]
fn shuffled_traffic_comes_out_right_on_reliable_channels() {
    for (seed, kind) in [(1, ChannelKind::Ordered), (2, ChannelKind::Unordered)] {
        let mut rng = Rng::new(seed);
        let mut bench = Bench::new(kind, Config::default());
        let count = 70_000u32;
        let mut waiting: Vec<(u32, u32)> = Vec::new();
        let (mut next, mut skipped) = (0, 0);
        while next < count || !waiting.is_empty() {
            // Every eleventh message has two fragments, every seventh is skipped.
            while next < count && waiting.len() < 60 {
                waiting.push((next, 0));
                if next % 11 == 0 {
                    waiting.push((next, 1));
                }
                skipped += u32::from(next % 7 == 0);
                next += 1;
            }
            let at = rng.below(waiting.len() as u64) as usize;
            let (id, index) = waiting[at];
            let wire = id as u16;
            let taken = match () {
                () if id % 7 == 0 => bench.skip(wire),
                () if id % 11 == 0 && index == 0 => {
                    bench.fragment(wire, 0, 2, &[&id.to_le_bytes()[..], &LONG].concat())
                }
                () if id % 11 == 0 => bench.fragment(wire, 1, 2, &[9]),
                () => bench.message(wire, &id.to_le_bytes()),
            };
            assert_eq!(taken, Ok(Taken::Yes));
            if rng.chance(0.6) {
                waiting.swap_remove(at);
            }
        }
        let mut got: Vec<u32> =
            bench.got.iter().map(|bytes| u32::from_le_bytes(*bytes.first_chunk().unwrap())).collect();
        if kind == ChannelKind::Unordered {
            assert!(!got.is_sorted());
            got.sort_unstable();
        }
        let expected: Vec<u32> = (0..count).filter(|id| id % 7 != 0).collect();
        assert!(got == expected, "{kind:?}");
        assert!(bench.got.iter().all(|bytes| bytes.len() == 4 || bytes.len() == 605));
        assert_eq!((bench.peer, bench.total, skipped), (0, 0, 10_000), "{kind:?}");
    }
}

#[test]
fn ids_wrap_around_sixteen_bits() {
    for (kind, got) in [
        (ChannelKind::Ordered, 200_000),
        (ChannelKind::Unordered, 200_000),
        (ChannelKind::Sequenced, 200_000),
        (ChannelKind::Unreliable, 200_000),
    ] {
        let mut bench = Bench::new(kind, Config::default());
        for id in 0..200_000u32 {
            bench.message(id as u16, &[]).unwrap();
            bench.message(id as u16, &[]).unwrap();
        }
        assert_eq!(bench.got.len(), got, "{kind:?}");
    }
}

#[test]
fn the_bound_holds_and_what_is_next_gets_in_over_it() {
    let config = Config { reassembly_bytes_max: 1_600, ..Config::default() };
    let mut bench = Bench::new(ChannelKind::Ordered, config);
    assert_eq!(bench.message(1, &LONG), Ok(Taken::Yes));
    // The message, its piece, its place, and that of message 0.
    assert_eq!(bench.peer, 600 + 64 + 2 * 32);
    assert_eq!(bench.message(2, &[2; 900]), Ok(Taken::No));
    assert_eq!(bench.fragment(3, 0, 2, &LONG), Ok(Taken::Yes));
    assert_eq!(bench.peer, 728 + 600 + 64 + 4 * 32 - 2 * 32 + 2 * 32);
    assert_eq!(bench.message(20, &[]), Ok(Taken::No), "the places up to it cost too much");
    assert_eq!(bench.skip(20), Ok(Taken::No));
    assert_eq!(bench.message(9000, &[]), Ok(Taken::No), "too far ahead");
    assert_eq!(bench.fragment(0, 0, 2, &LONG), Ok(Taken::Yes), "is next");
    assert!(bench.peer > 1_600);
    assert_eq!(bench.fragment(0, 1, 2, &LONG), Ok(Taken::Yes));
    assert_eq!((bench.got.len(), bench.peer), (2, 600 + 64 + 2 * 32 + 2 * 32));
    assert_eq!(bench.message(2, &[2; 600]), Ok(Taken::Yes));
    (bench.config.reassembly_bytes_total_max, bench.config.reassembly_bytes_share) = (50, 0);
    assert_eq!(bench.message(5, &[]), Ok(Taken::No));
    assert_eq!(bench.fragment(3, 1, 2, &[1]), Ok(Taken::Yes), "is next");
    assert_eq!((bench.got.len(), bench.peer, bench.total), (4, 0, 0));
}

#[test]
fn a_share_is_a_peers_own_and_no_more_than_its_bound() {
    let config = Config { reassembly_bytes_total_max: 0, reassembly_bytes_share: 1_000, ..Config::default() };
    let mut bench = Bench::new(ChannelKind::Ordered, config);
    // Others hold all there is.
    bench.total = 1 << 30;
    assert_eq!(bench.message(1, &LONG), Ok(Taken::Yes));
    assert_eq!(bench.message(2, &LONG), Ok(Taken::No), "over the share");
    assert_eq!(bench.message(2, &LONG[..100]), Ok(Taken::Yes));
    assert_eq!((bench.peer, bench.total - (1 << 30)), (924, 924));
    bench.config.reassembly_bytes_max = 950;
    assert_eq!(bench.message(3, &[]), Ok(Taken::No), "over the bound of a peer");
    assert_eq!(bench.message(0, &[0]), Ok(Taken::Yes));
    assert_eq!((bench.got.len(), bench.peer, bench.total), (3, 0, 1 << 30));
}

#[test]
fn fragments_that_disagree_or_add_up_to_too_much_are_violations() {
    for kind in [ChannelKind::Ordered, ChannelKind::Unordered, ChannelKind::Sequenced] {
        let mut bench = Bench::new(kind, Config { message_bytes_max: 1_500, ..Config::default() });
        assert_eq!(bench.fragment(0, 0, 4, &LONG), Err(Violation::TooLarge(1_500)), "1,537 bytes at least");
        assert_eq!(
            bench.fragment(0, 0, 2, &[1; 511]),
            Err(Violation::BadFragment),
            "short, and not the last"
        );
        assert_eq!(bench.message(0, &[1; 1_501]), Err(Violation::TooLarge(1_500)));
        bench.fragment(0, 0, 2, &LONG).unwrap();
        assert_eq!(bench.fragment(0, 2, 3, &[1; 10]), Err(Violation::BadFragment));
        assert_eq!(bench.fragment(0, 1, 2, &[1; 901]), Err(Violation::TooLarge(1_500)));
        if kind != ChannelKind::Sequenced {
            assert_eq!(bench.message(0, &[1; 10]), Err(Violation::BadFragment));
        }
        if kind == ChannelKind::Ordered {
            bench.message(1, &[1]).unwrap();
            assert_eq!(bench.fragment(1, 1, 2, &[1]), Err(Violation::BadFragment));
        }
    }
    let mut bench = Bench::new(ChannelKind::Unreliable, Config::default());
    let count = UNRELIABLE_FRAGMENTS_MAX;
    assert_eq!(bench.fragment(0, 0, count + 1, &LONG), Err(Violation::TooLarge(65_538)));
    assert_eq!(bench.fragment(0, 0, count, &LONG), Ok(Taken::Yes));
    assert_eq!(bench.skip(0), Err(Violation::BadChannel(9)));
    bench.channel = Channel::new(10).unwrap();
    assert_eq!(bench.message(0, &[]), Err(Violation::BadChannel(10)));
}

#[test]
fn a_skipped_message_frees_its_fragments_and_what_is_whole_stays() {
    for kind in [ChannelKind::Ordered, ChannelKind::Unordered] {
        let mut bench = Bench::new(kind, Config::default());
        bench.message(3, &[3]).unwrap();
        bench.fragment(1, 0, 2, &LONG).unwrap();
        for id in [1, 1, 3, 2] {
            assert_eq!(bench.skip(id), Ok(Taken::Yes));
        }
        assert_eq!(bench.fragment(1, 1, 2, &LONG), Ok(Taken::Yes), "too late");
        assert_eq!(bench.message(2, &[2]), Ok(Taken::Yes), "too late");
        bench.message(0, &[0]).unwrap();
        bench.skip(0).unwrap();
        bench.message(4, &[4]).unwrap();
        let expected: [u8; 3] = if kind == ChannelKind::Ordered { [0, 3, 4] } else { [3, 0, 4] };
        assert_eq!((bench.first_bytes(), bench.peer), (expected.to_vec(), 0));
    }
}

#[test]
fn without_order_nothing_waits_for_anything() {
    let mut bench = Bench::new(ChannelKind::Unordered, Config::default());
    for id in [5, 3, 5, 0, 3, 8191, 1] {
        assert_eq!(bench.message(id, &[id as u8]), Ok(Taken::Yes));
    }
    assert_eq!(bench.message(8194, &[]), Ok(Taken::No), "too far ahead");
    assert_eq!(bench.first_bytes(), [5, 3, 0, 255, 1]);
    // Many incomplete messages: the bound holds, except for what is next.
    for id in 10..300 {
        bench.fragment(id, 1, 2, &[1]).unwrap();
    }
    assert_eq!(bench.fragment(300, 1, 2, &[1]), Ok(Taken::No));
    assert_eq!(bench.fragment(2, 1, 2, &[1]), Ok(Taken::Yes));
    assert_eq!(bench.fragment(2, 0, 2, &LONG), Ok(Taken::Yes));
    for id in 10..266 {
        bench.fragment(id, 0, 2, &LONG).unwrap();
    }
    assert_eq!((bench.got.len(), bench.peer), (5 + 1 + 256, 0));
}

/// First fragments of as many messages as may be incomplete, in any order, then the second ones in another.
#[test]
fn fragments_of_many_messages_find_each_other_in_any_order() {
    let mut rng = Rng::new(6);
    let mut bench = Bench::new(ChannelKind::Unordered, Config::default());
    for base in [0u64, 65_400] {
        let mut ids: Vec<u64> = (base..base + 200).collect();
        for index in 0..2 {
            for at in 0..ids.len() {
                ids.swap(at, rng.below(200) as usize);
            }
            for &id in &ids {
                let mut bytes = [&id.to_le_bytes()[..], &LONG].concat();
                bytes.truncate(if index == 0 { 600 } else { 9 });
                assert_eq!(bench.fragment(id as u16, index, 2, &bytes), Ok(Taken::Yes));
            }
        }
        let mut got: Vec<u64> = bench
            .got
            .drain(..)
            .map(|bytes| {
                let (first, second) = bytes.split_at(600);
                assert_eq!((&first[..8], second.len()), (&second[..8], 9));
                u64::from_le_bytes(*first.first_chunk().unwrap())
            })
            .collect();
        got.sort_unstable();
        assert_eq!((got, bench.peer), ((base..base + 200).collect(), 0));
        // The ids go on to where their sixteen bits wrap around.
        if base == 0 {
            (200..65_400u64).for_each(|id| assert_eq!(bench.message(id as u16, &[]), Ok(Taken::Yes)));
            bench.got.clear();
        }
    }
}

#[test]
fn a_sequenced_channel_gives_only_what_is_newer() {
    let mut bench = Bench::new(ChannelKind::Sequenced, Config::default());
    for id in [3, 1, 4, 4, 2, 9] {
        bench.message(id, &[id as u8]).unwrap();
    }
    assert_eq!((bench.first_bytes(), bench.stale), (vec![3, 4, 9], 3));
    // A message that is complete only after a newer one is not delivered.
    bench.fragment(10, 0, 2, &LONG).unwrap();
    bench.fragment(11, 0, 2, &LONG).unwrap();
    bench.fragment(11, 1, 2, &[1]).unwrap();
    assert_eq!((bench.got.len(), bench.stale, bench.peer), (4, 4, 0));
    bench.fragment(10, 1, 2, &[1]).unwrap();
    bench.fragment(10, 0, 2, &LONG).unwrap();
    assert_eq!((bench.got.len(), bench.stale, bench.peer), (4, 5, 0));
}

#[test]
fn an_unreliable_message_comes_once_in_any_order() {
    let mut rng = Rng::new(4);
    let mut bench = Bench::new(ChannelKind::Unreliable, Config::default());
    let (mut sent, mut late) = (0, 0);
    for base in (0..100_000u32).step_by(100) {
        // A block in a random order, each message up to three times, one in ten never; of some only fragments come.
        let mut block: Vec<u32> = (0..300).map(|at| base + at % 100).filter(|id| id % 10 != 3).collect();
        for at in 0..block.len() {
            block.swap(at, rng.below(300 - 30) as usize);
        }
        for id in block {
            if id % 10 == 4 {
                bench.fragment(id as u16, 1, 2, &[1]).unwrap();
                bench.fragment(id as u16, 0, 2, &[&id.to_le_bytes()[..], &LONG].concat()).unwrap();
            } else {
                bench.message(id as u16, &id.to_le_bytes()).unwrap();
            }
        }
        sent += 90;
        // One that was missed comes very late, and once more.
        if base >= 2_000 {
            bench.message((base - 697) as u16, &(base - 697).to_le_bytes()).unwrap();
            bench.message((base - 697) as u16, &(base - 697).to_le_bytes()).unwrap();
            bench.message((base - 1_397) as u16, &[9; 4]).unwrap();
            late += 1;
        }
    }
    let mut got: Vec<u32> =
        bench.got.iter().map(|bytes| u32::from_le_bytes(*bytes.first_chunk().unwrap())).collect();
    assert_eq!(got.len(), sent + late);
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), sent + late, "none twice");
}

#[test]
fn incomplete_unreliable_messages_are_given_up() {
    for kind in [ChannelKind::Unreliable, ChannelKind::Sequenced] {
        let mut bench = Bench::new(kind, Config::default());
        for id in 1..=8 {
            bench.fragment(id, 0, 2, &LONG).unwrap();
        }
        let eight = bench.peer;
        bench.fragment(0, 0, 2, &LONG).unwrap();
        assert_eq!((bench.peer, bench.stale), (eight, 1), "older than all that are here");
        bench.fragment(9, 0, 2, &LONG).unwrap();
        assert_eq!((bench.peer, bench.stale), (eight, 2));
        bench.now = Micros::from_millis(500);
        bench.fragment(7, 1, 2, &[1]).unwrap();
        assert_eq!(bench.got.len(), 1);
        bench.fragment(20, 1, 2, &[1]).unwrap();
        assert_eq!(bench.receiving.deadline(), Micros::from_millis(1_000));
        let before = bench.peer;
        let (count, freed) = bench.receiving.on_timeout(Micros::from_millis(1_000));
        assert_eq!(count, if kind == ChannelKind::Sequenced { 2 } else { 7 });
        assert_eq!(before - freed, 1 + 64 + 2 * 32, "the last one stays");
        assert_eq!(bench.receiving.on_timeout(Micros::from_millis(1_500)), (1, 129));
        assert_eq!(bench.receiving.deadline(), NEVER);
    }
    // No room: the fragment is lost, the packet is acknowledged all the same.
    let mut bench =
        Bench::new(ChannelKind::Unreliable, Config { reassembly_bytes_max: 700, ..Config::default() });
    assert_eq!(bench.fragment(0, 0, 3, &LONG), Ok(Taken::Yes));
    assert_eq!(bench.peer, 96);
}
