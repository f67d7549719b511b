//! One bot: comes in, moves and shouts, listens, leaves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kaos_client::{Answer, Core, CoreEvent, Create, Event, Join, Micros};

use super::tally::Histogram;

/// The arena's op for a move: one byte, the speed.
const MOVE: u8 = 1;

/// The arena's op that is relayed to everyone as it is.
const SHOUT: u8 = 9;

/// A shout: run u32 | bot u32 | sequence u32 | due u64, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shout {
    /// The run of bots that it belongs to: those of another run may be in the room, and have the same numbers.
    run: u32,
    bot: u32,
    sequence: u32,
    /// When it was due, of the clock that all bots of a run share.
    due: Micros,
}

impl Shout {
    fn write(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.run.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.bot.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..].copy_from_slice(&self.due.0.to_le_bytes());
        bytes
    }

    /// `None`: no shout of a bot.
    fn read(data: &[u8]) -> Option<Shout> {
        let (words, rest) = data.split_at_checked(12)?;
        let (words, _) = words.as_chunks::<4>();
        let [run, bot, sequence] =
            [0, 1, 2].map(|n| words.get(n).map_or(0, |word| u32::from_le_bytes(*word)));
        let due = Micros(u64::from_le_bytes(rest.try_into().ok()?));
        Some(Shout { run, bot, sequence, due })
    }
}

/// How often a bot changes its direction.
const MOVE_EVERY: Duration = Duration::from_millis(500);

/// How often it measures the round trip, beside the heartbeat of every second.
const PING_EVERY: Duration = Duration::from_millis(250);

/// How often it looks for what other bots did.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What all bots are to do.
pub(super) struct Plan {
    /// What no other run has: it stands in every shout.
    pub(super) run: u32,
    pub(super) clients: u32,
    pub(super) module: String,
    /// Rooms that are made first; `None`: join or create.
    pub(super) rooms: Option<u32>,
    pub(super) hz: u32,
    pub(super) play: Duration,
    pub(super) join: Duration,
    pub(super) drain: Duration,
}

/// What bots know of each other.
pub(super) struct Shared {
    plan: Plan,
    begun: Micros,
    /// Bots that are in a room.
    pub(super) joined: AtomicU32,
    /// Bots that will not come.
    failed: AtomicU32,
    /// When the play begins, of the bots' clock; 0: not decided.
    pub(super) start_us: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// What the bots' thread has run, in nanoseconds, as it said last: it is gone when one would ask.
    pub(super) bots_ns: AtomicU64,
    /// The rooms that were made, by number.
    rooms: Mutex<BTreeMap<u32, String>>,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Shared {
        Shared {
            plan,
            begun: kaos_client::clock::now(),
            joined: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            start_us: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            bots_ns: AtomicU64::new(0),
            rooms: Mutex::default(),
        }
    }

    /// When the play begins: half a second after the last bot is in, or when waiting is over.
    fn start(&self, now: Micros) -> Option<Micros> {
        let start = self.start_us.load(Ordering::Relaxed);
        if start != 0 {
            return Some(Micros(start));
        }
        let settled = self.joined.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed);
        let late = now >= self.begun + self.plan.join;
        if settled < self.plan.clients && !late {
            return None;
        }
        let start = now + Duration::from_millis(500);
        // Of two bots that see it at once the first decides.
        match self.start_us.compare_exchange(0, start.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(start),
            Err(decided) => Some(Micros(decided)),
        }
    }
}

/// What one bot did and heard.
#[derive(Default)]
pub(super) struct Log {
    pub(super) bot: u32,
    pub(super) room: Option<String>,
    pub(super) sent: u32,
    /// By sender: the last sequence, how many came, how many came that were not the next.
    pub(super) heard: BTreeMap<u32, Heard>,
    pub(super) latency: Histogram,
    pub(super) round_trip: Histogram,
    /// Times that the connection was lost and came back.
    pub(super) resumed: u32,
    /// Why it did not play, or not to the end: a word, and the sentence that came with it.
    pub(super) trouble: Option<(String, String)>,
}

/// The shouts of one bot as another heard them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Heard {
    pub(super) last: u32,
    pub(super) distinct: u64,
    /// Came again, or after a later one.
    pub(super) doubled: u64,
}

impl Heard {
    fn hear(&mut self, sequence: u32) {
        if sequence > self.last {
            self.last = sequence;
            self.distinct += 1;
        } else {
            self.doubled += 1;
        }
    }
}

enum Phase {
    /// The session is not there yet.
    Starting,
    /// It made a room and waits for its id, or waits for the id of another's.
    Waiting {
        asked: bool,
    },
    Joining,
    Playing,
    Leaving,
}

pub(super) struct Bot {
    shared: Arc<Shared>,
    phase: Phase,
    handle: u16,
    next_wake: Option<Micros>,
    next_shout: Micros,
    next_move: Micros,
    next_ping: Micros,
    last_heard: Micros,
    log: Log,
}

impl Bot {
    pub(super) fn new(number: u32, shared: Arc<Shared>) -> Bot {
        let zero = Micros::ZERO;
        Bot {
            shared,
            phase: Phase::Starting,
            handle: 0,
            next_wake: None,
            next_shout: zero,
            next_move: zero,
            next_ping: zero,
            last_heard: zero,
            log: Log { bot: number, ..Log::default() },
        }
    }

    pub(super) fn into_log(self) -> Log {
        self.log
    }

    fn fail(&mut self, now: Micros, core: &mut Core, why: &str, sentence: impl ToString) {
        if self.log.trouble.is_none() {
            if !matches!(self.phase, Phase::Playing | Phase::Leaving) {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.log.trouble = Some((why.to_owned(), sentence.to_string()));
        }
        self.phase = Phase::Leaving;
        self.next_wake = None;
        core.close(now);
    }

    /// The number of the room that it belongs to, when rooms are made.
    fn room_number(&self) -> Option<u32> {
        self.shared.plan.rooms.map(|rooms| self.log.bot % rooms)
    }

    fn come_in(&mut self, now: Micros, core: &mut Core) {
        let module = self.shared.plan.module.clone();
        let result = match self.room_number() {
            None => {
                self.phase = Phase::Joining;
                core.join(Join { module, ..Join::default() })
            }
            Some(number) if number == self.log.bot => {
                self.phase = Phase::Waiting { asked: true };
                core.create(Create { module, ..Create::default() })
            }
            Some(_) => {
                self.phase = Phase::Waiting { asked: false };
                self.next_wake = Some(now + LOOK_EVERY);
                return;
            }
        };
        if let Err(error) = result {
            self.fail(now, core, error.reason(), &error);
        }
    }

    fn join_made(&mut self, now: Micros, core: &mut Core, room_id: String) {
        self.phase = Phase::Joining;
        self.next_wake = None;
        if let Err(error) = core.join(Join { room_id, ..Join::default() }) {
            self.fail(now, core, error.reason(), &error);
        }
    }

    fn answer(&mut self, now: Micros, core: &mut Core, answer: Result<Answer, kaos_client::Error>) {
        match answer {
            Ok(Answer::Created(room_id)) => {
                let mut rooms = self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
                rooms.insert(self.log.bot, room_id.clone());
                drop(rooms);
                self.join_made(now, core, room_id);
            }
            // The others did not wait, so what it hears and misses says nothing.
            Ok(Answer::Joined(_)) if self.shared.start_us.load(Ordering::Relaxed) != 0 => {
                self.fail(now, core, "came_in_late", "the others had begun without it");
            }
            Ok(Answer::Joined(handle)) => {
                self.handle = handle;
                self.log.room = core.room(handle).map(|room| room.room_id.clone());
                self.phase = Phase::Playing;
                self.shared.joined.fetch_add(1, Ordering::Relaxed);
                self.next_wake = Some(now);
            }
            Ok(_) => {}
            Err(error) => self.fail(now, core, error.reason(), &error),
        }
    }

    fn play(&mut self, now: Micros, core: &mut Core) {
        let plan = &self.shared.plan;
        let Some(start) = self.shared.start(now) else {
            self.next_wake = Some(now + LOOK_EVERY);
            return;
        };
        let period = Duration::from_secs(1) / plan.hz;
        let end = start + plan.play;
        if self.next_shout == Micros::ZERO {
            // Spread over the period, so that the load is even.
            self.next_shout = start + period * (self.log.bot % 100) / 100;
            self.next_move = self.next_shout;
            self.next_ping = self.next_shout;
            self.last_heard = start;
        }
        if self.next_ping <= now {
            core.ping(now);
            self.next_ping = now + PING_EVERY;
        }
        if self.next_move <= now && now < end {
            // Back and forth, each at its own pace.
            let speed = (self.log.bot % 15 + 1) as i8;
            let ahead = (self.next_move.0 / 500_000).is_multiple_of(2);
            let _ = core.send(self.handle, MOVE, &(if ahead { speed } else { -speed }).to_le_bytes());
            self.next_move += MOVE_EVERY;
        }
        let mut stuck = false;
        while self.next_shout <= now && self.next_shout < end && !stuck {
            let (run, bot, sequence) = (plan.run, self.log.bot, self.log.sent + 1);
            let shout = Shout { run, bot, sequence, due: self.next_shout }.write();
            match core.send(self.handle, SHOUT, &shout) {
                Ok(()) => {
                    self.log.sent += 1;
                    self.shared.sent.fetch_add(1, Ordering::Relaxed);
                    self.next_shout += period;
                }
                // It stays due, and the wait counts.
                Err(kaos_client::Error::KeepFull) => stuck = true,
                Err(error) => return self.fail(now, core, error.reason(), &error),
            }
        }
        let next = if stuck { now + LOOK_EVERY } else { self.next_shout.min(end) };
        if now < end {
            self.next_wake = Some(next.min(self.next_ping).min(self.next_move));
            return;
        }
        // Listening, until it was quiet for a second and everything that was said has arrived.
        let quiet = now >= self.last_heard.max(end) + Duration::from_secs(1) && core.kept_bytes() == 0;
        if quiet || now >= end + plan.drain {
            self.phase = Phase::Leaving;
            self.next_wake = None;
            core.close(now);
        } else {
            self.next_wake = Some(now + Duration::from_millis(100));
        }
    }

    fn heard(&mut self, now: Micros, data: &[u8]) {
        let Some(Shout { run, bot, sequence, due }) = Shout::read(data) else { return };
        // Its own comes back, too, and another run's bots may be in the room.
        let plan = &self.shared.plan;
        if run != plan.run || bot == self.log.bot || bot >= plan.clients {
            return;
        }
        self.last_heard = now;
        self.log.heard.entry(bot).or_default().hear(sequence);
        self.log.latency.add(now.0.saturating_sub(due.0));
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
    }
}

impl kaos_client::swarm::Bot for Bot {
    fn event(&mut self, now: Micros, core: &mut Core, event: CoreEvent) {
        match event {
            CoreEvent::Started => self.come_in(now, core),
            CoreEvent::Answer { answer, .. } => self.answer(now, core, answer),
            CoreEvent::Room { event: Event::Data { op: SHOUT, data, .. }, .. } => self.heard(now, &data),
            CoreEvent::Room { event: Event::Closed(end), .. } => {
                if !matches!(self.phase, Phase::Leaving) {
                    self.fail(now, core, &end.reason, &end.message);
                }
            }
            CoreEvent::RoundTrip(rtt) => {
                if matches!(self.phase, Phase::Playing) {
                    self.log.round_trip.add(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
                }
            }
            CoreEvent::Resumed { .. } => self.log.resumed += 1,
            // Room data that was refused is a shout that nobody hears: the reason belongs into the report.
            // A plugin of the server may push what it likes to everyone.
            CoreEvent::Pushed { .. } => {}
            CoreEvent::Notice(refusal) => {
                self.log.trouble.get_or_insert((refusal.name, refusal.message));
            }
            CoreEvent::Ended(end) => {
                if !matches!(self.phase, Phase::Leaving) {
                    self.fail(now, core, &end.reason, &end.message);
                }
            }
            CoreEvent::Room { .. } | CoreEvent::Lost => {}
        }
    }

    fn wake(&mut self, now: Micros, core: &mut Core) {
        match self.phase {
            Phase::Starting | Phase::Joining | Phase::Leaving => self.next_wake = None,
            Phase::Waiting { asked: true } => self.next_wake = None,
            Phase::Waiting { asked: false } => {
                let rooms = self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
                let made = self.room_number().and_then(|number| rooms.get(&number).cloned());
                drop(rooms);
                match made {
                    Some(room_id) => self.join_made(now, core, room_id),
                    None if now >= self.shared.begun + self.shared.plan.join => {
                        self.fail(now, core, "no_room_was_made", "the bot that was to make its room did not");
                    }
                    None => self.next_wake = Some(now + LOOK_EVERY),
                }
            }
            Phase::Playing => self.play(now, core),
        }
    }

    fn next_wake(&self) -> Option<Micros> {
        self.next_wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_stragglers_are_doubled_gaps_are_not() {
        let mut heard = Heard::default();
        for sequence in [1, 2, 5, 5, 3, 6] {
            heard.hear(sequence);
        }
        assert_eq!(heard, Heard { last: 6, distinct: 4, doubled: 2 });
    }

    #[test]
    fn shouts_of_another_run_are_not_counted() {
        let plan = Plan {
            run: 7,
            clients: 3,
            module: String::new(),
            rooms: None,
            hz: 10,
            play: Duration::ZERO,
            join: Duration::ZERO,
            drain: Duration::ZERO,
        };
        let mut bot = Bot::new(0, Arc::new(Shared::new(plan)));
        let ours = Shout { run: 7, bot: 1, sequence: 1, due: Micros(900) };
        assert_eq!(Shout::read(&ours.write()), Some(ours));
        for shout in [ours, Shout { run: 8, ..ours }, Shout { bot: 0, ..ours }, Shout { bot: 3, ..ours }] {
            bot.heard(Micros(1000), &shout.write());
        }
        for other in [&b"hello"[..], &[0; 19], &[0; 21]] {
            bot.heard(Micros(1000), other);
        }
        assert_eq!(bot.log.heard, BTreeMap::from([(1, Heard { last: 1, distinct: 1, doubled: 0 })]));
        assert_eq!((bot.log.latency.total(), bot.log.latency.max()), (1, 100));
    }
}
