//! The watchdog: says loudly when the frame thread stays in one frame, and ends the room whose match keeps it there.
//!
//! Fuel stops what a script does by itself. This is for what fuel does not see: an operation of a plugin that a script
//! calls, a runtime with a defect. A thread cannot be taken out of such a call; when it comes back by itself, the room
//! ends before it can do so again. That it ends is an input, and so part of the journal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use kaos_gate::stats::Stats;
use kaos_kernel::ids::RoomId;
use kaos_kernel::input::Input;
use kaos_kernel::running::RunningMatch;

use super::Since;

/// When something is stuck, and how often that is looked for.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) look: Duration,
    pub(super) stuck_ms: u64,
}

impl Pace {
    /// A frame of a second is stuck: rooms miss dozens of ticks, clients begin to time out.
    pub(super) const USUAL: Pace = Pace { look: Duration::from_millis(500), stuck_ms: 1000 };
}

/// Ends its thread when it is dropped.
pub(super) struct Watchdog {
    _ends: Sender<()>,
}

impl Watchdog {
    /// Watches `frame_entered` of the statistics and the matches that run; `tell` takes what the next frame has to
    /// know.
    pub(super) fn start(
        stats: &Arc<Stats>,
        running: RunningMatch,
        pace: Pace,
        tell: impl Fn(Input) + Send + 'static,
    ) -> io::Result<Self> {
        let (ends, ended) = channel();
        let stats = stats.clone();
        std::thread::Builder::new().name("kaos-watchdog".to_owned()).spawn(move || {
            let since = Since::now();
            let (mut frame, mut turn) = (Watched::default(), Watched::default());
            while ended.recv_timeout(pace.look) == Err(RecvTimeoutError::Timeout) {
                let now_ms = since.us() / 1000;
                if let Some((number, room)) = running.look()
                    && turn.see(number, now_ms)
                    && turn.is_first_over(pace.stuck_ms)
                {
                    tell(stuck(room, turn.ms));
                }
                let entered = stats.frame_entered.load(Ordering::Relaxed);
                if entered == 0 || !frame.see(entered, now_ms) {
                    if stats.stuck_ms.swap(0, Ordering::Relaxed) > 0 {
                        tracing::warn!("the frame thread goes on");
                    }
                    continue;
                }
                if !frame.is_over(pace.stuck_ms) {
                    continue;
                }
                // Once for each doubling of the time: loud, but no flood.
                let told = stats.stuck_ms.load(Ordering::Relaxed);
                if told == 0 || frame.ms >= told * 2 {
                    stats.stuck_ms.store(frame.ms, Ordering::Relaxed);
                    tracing::error!(
                        stuck_ms = frame.ms,
                        "the frame thread is stuck in one frame: a system, an operation or a script does not return"
                    );
                }
            }
        })?;
        Ok(Watchdog { _ends: ends })
    }
}

fn stuck(room: RoomId, ms: u64) -> Input {
    tracing::error!(%room, ms, "the match of this room does not return: the room ends as soon as it does");
    Input::Stuck { room, ms }
}

/// How long one and the same number was seen.
#[derive(Default)]
struct Watched {
    number: u64,
    since_ms: u64,
    ms: u64,
    looks: u32,
    over: bool,
}

impl Watched {
    /// Sees `number`; `false`: for the first time.
    fn see(&mut self, number: u64, now_ms: u64) -> bool {
        if number != self.number || self.looks == 0 {
            *self = Watched { number, since_ms: now_ms, looks: 1, ..Watched::default() };
            return false;
        }
        self.ms = now_ms.saturating_sub(self.since_ms);
        self.looks = self.looks.saturating_add(1);
        true
    }

    /// Is it over the bound? It takes three looks: of a process that stood still, and its watchdog with it, one look
    /// says nothing.
    fn is_over(&self, bound_ms: u64) -> bool {
        self.looks >= 3 && self.ms >= bound_ms
    }

    /// Is it over the bound, and was not before?
    fn is_first_over(&mut self, bound_ms: u64) -> bool {
        let over = self.is_over(bound_ms);
        over && !std::mem::replace(&mut self.over, over)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Receiver;

    use kaos_kernel::prelude::*;

    use super::*;
    use crate::testing::{Event, server_of};

    /// What the operation `hang` waits for: fuel sees nothing of it.
    #[derive(Resource)]
    struct Until(Mutex<Receiver<Input>>, Sender<Input>);

    fn hang(world: &World, caller: &Caller, (): ()) -> Result<(), Fault> {
        let Until(tells, found) = world.resource::<Until>();
        // On a busy machine the watchdog may find others too: a thread that waits for its turn looks stuck.
        let mine =
            |input: &Input| matches!(input, Input::Stuck { room, .. } if Caller::Room(*room) == *caller);
        if let Some(input) = tells.lock().expect("one thread").iter().find(mine) {
            found.send(input).expect("the test is there");
        }
        Ok(())
    }

    fn game(work: &str) -> String {
        format!(
            "local M = {{}}
            function M.match_init() return {{ state = {{ ticks = 0 }}, tick_rate = 20 }} end
            function M.match_join(_, s) return s end
            function M.match_leave(_, s) return s end
            function M.match_loop(_, s) s.ticks = s.ticks + 1 {work} return s end
            return M"
        )
    }

    #[test]
    fn a_match_that_hangs_in_an_operation_is_named_and_its_room_ends_alone() {
        let (told, tells) = channel();
        let (found, finds) = channel();
        let running = RunningMatch::default();
        let pace = Pace { look: Duration::from_millis(2), stuck_ms: 5 };
        let tell = move |input| drop(told.send(input));
        let _watchdog = Watchdog::start(&Arc::default(), running.clone(), pace, tell).expect("a thread");
        // Servers that replay this run have nobody who tells them: their `hang` returns at once.
        let once = Mutex::new(Some((running, tells)));
        let plugin = move |app: &mut App| {
            let (running, tells) = once
                .lock()
                .expect("one thread")
                .take()
                .unwrap_or_else(|| (RunningMatch::default(), channel().1));
            app.insert_resource(running)
                .insert_resource(Until(Mutex::new(tells), found.clone()))
                .read_op(Op::new("hang").about("Waits.").server(), hang);
        };
        let (hangs, sound) = (game("if s.ticks == 3 then kaos.hang() end"), game(""));
        let mut t = server_of([("matches/hangs.lua", hangs.as_str()), ("matches/sound.lua", sound.as_str())])
            .plugins(plugin)
            .start();
        let (ada, bob) = (t.join("sound", "ada"), t.join("hangs", "bob"));
        let room = t.room("hangs").id();
        t.run_ms(300);
        let input = finds.try_recv().expect("the third tick hung until the watchdog told");
        assert!(matches!(input, Input::Stuck { room: stuck, ms } if stuck == room && ms >= 5), "{input:?}");
        t.input(input);
        t.run_ms(100);
        assert!(bob.events().contains(&Event::Closed("stuck".into())));
        assert_eq!((ada.ended(), bob.ended()), (None, None), "sockets stay open");
        assert!(t.room("sound").state("/ticks").as_u64().is_some_and(|ticks| ticks >= 7));
        t.replays_equally();
    }

    #[test]
    fn a_process_that_stood_still_ends_no_room() {
        let mut turn = Watched::default();
        assert!(!turn.see(1, 0));
        assert!(turn.see(1, 60_000) && !turn.is_first_over(1000), "one look after a long stop");
        assert!(turn.see(1, 60_500) && turn.is_first_over(1000));
        assert!(turn.see(1, 61_000) && !turn.is_first_over(1000), "told once");
        assert!(!turn.see(3, 61_500) && turn.see(3, 62_000) && !turn.is_first_over(1000));
    }
}
