//! Adding up: what all bots sent, what arrived, how long it took.

use std::collections::BTreeMap;

use super::player::Log;

/// Steps within each doubling: values are kept to within 1/64.
const STEPS: u64 = 64;

/// How often each duration came, in microseconds, exact below 64 and to within 1.6 % above.
#[derive(Clone, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    fn place(us: u64) -> usize {
        if us < STEPS {
            return us as usize;
        }
        let doublings = u64::from(us.ilog2() - STEPS.ilog2());
        // (us >> doublings) lies from STEPS to 2 * STEPS - 1.
        (doublings * STEPS + (us >> doublings)) as usize
    }

    /// The largest value that falls into a place.
    fn value(place: usize) -> u64 {
        let place = place as u64;
        if place < STEPS {
            return place;
        }
        let doublings = place / STEPS - 1;
        ((place - doublings * STEPS + 1) << doublings) - 1
    }

    pub(super) fn add(&mut self, us: u64) {
        // Over an hour is an hour: the table stays under 2,000 places.
        let place = Self::place(us.min(3_600_000_000));
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(us);
    }

    pub(super) fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value that this part of all values does not exceed, such as 0.99; 0 when there are none.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::value(place).min(self.max);
            }
        }
        0
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }
}

/// The result of a run.
#[derive(Default)]
pub(super) struct Tally {
    /// Bots that were in a room.
    pub(super) joined: u64,
    pub(super) rooms: u64,
    /// Shouts that left.
    pub(super) sent: u64,
    /// Shouts that should have arrived, over all listeners.
    pub(super) expected: u64,
    /// Shouts that arrived, each once.
    pub(super) delivered: u64,
    pub(super) lost_reliable: u64,
    /// Shouts that came again, or after a later one.
    pub(super) doubled: u64,
    pub(super) resumed: u64,
    pub(super) latency: Histogram,
    pub(super) round_trip: Histogram,
    /// Why bots did not play, or not to the end, and how many.
    pub(super) troubles: BTreeMap<String, u64>,
    /// The sentence of the first bot with each of them.
    pub(super) sentences: BTreeMap<String, String>,
}

impl Tally {
    pub(super) fn of(logs: impl Iterator<Item = Log>) -> Tally {
        let logs: Vec<Log> = logs.collect();
        let mut tally = Tally::default();
        let mut rooms: BTreeMap<&str, Vec<&Log>> = BTreeMap::new();
        for log in &logs {
            tally.sent += u64::from(log.sent);
            tally.resumed += u64::from(log.resumed);
            tally.latency.merge(&log.latency);
            tally.round_trip.merge(&log.round_trip);
            if let Some((trouble, sentence)) = &log.trouble {
                *tally.troubles.entry(trouble.clone()).or_default() += 1;
                tally.sentences.entry(trouble.clone()).or_insert_with(|| sentence.clone());
            }
            if let Some(room) = &log.room {
                tally.joined += 1;
                rooms.entry(room).or_default().push(log);
            }
        }
        tally.rooms = rooms.len() as u64;
        // All were in before the first shout: each listener should have heard every shout of everyone else in its room.
        for members in rooms.values() {
            for listener in members {
                for speaker in members.iter().filter(|speaker| speaker.bot != listener.bot) {
                    let heard = listener.heard.get(&speaker.bot).copied().unwrap_or_default();
                    let said = u64::from(speaker.sent);
                    tally.expected += said;
                    tally.delivered += heard.distinct;
                    tally.lost_reliable += said.saturating_sub(heard.distinct);
                    tally.doubled += heard.doubled;
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bots::player::Heard;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        for us in 1..=100_000 {
            histogram.add(us);
        }
        for (part, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0), (1.0, 100_000.0)] {
            let got = histogram.quantile(part) as f64;
            assert!((got / exact - 1.0).abs() < 0.02, "{part}: {got}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
        for us in [0, 1, 63, 64, 65, 127, 128, 1 << 20, 3_600_000_000] {
            let value = Histogram::value(Histogram::place(us));
            assert!(value >= us && value <= us + us / 32 + 1, "{us} reads as {value}");
        }
    }

    #[test]
    fn what_nobody_heard_is_lost_for_each_who_should_have() {
        let log = |bot, room: &str, sent, heard: &[(u32, Heard)]| Log {
            bot,
            room: Some(room.to_owned()),
            sent,
            heard: heard.iter().copied().collect(),
            ..Log::default()
        };
        let all = |n: u32| Heard { last: n, distinct: u64::from(n), doubled: 0 };
        let tally = Tally::of(
            [
                log(0, "a", 10, &[(1, all(10)), (2, all(10))]),
                log(1, "a", 10, &[(0, Heard { last: 10, distinct: 8, doubled: 1 }), (2, all(10))]),
                log(2, "a", 10, &[(0, all(9))]),
                log(3, "b", 10, &[]),
                Log {
                    bot: 4,
                    trouble: Some(("full".to_owned(), "10 of 10 seats are taken".to_owned())),
                    ..Log::default()
                },
            ]
            .into_iter(),
        );
        assert_eq!((tally.joined, tally.rooms, tally.sent), (4, 2, 40));
        assert_eq!((tally.expected, tally.delivered), (60, 47));
        assert_eq!((tally.lost_reliable, tally.doubled), (2 + 1 + 10, 1));
        assert_eq!(tally.troubles["full"], 1);
    }
}
