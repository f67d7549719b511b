//! The frame thread: waits for the grid, a socket or another thread, runs frames, and hands out what they say.
//!
//! Frame n runs at n·Q after the start. Something that comes in runs at the next line of the grid, together
//! with everything else that came until then; frames in which nothing came and nothing is due are left out.
//! A thread that was late runs the frame of the moment, so numbers jump and the grid holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kaos_gate::bridge::Bridge;
use kaos_gate::bridge::waker::{pause, sleep_exactly};
use kaos_gate::doors::Doors;
use kaos_gate::identity::keys::open_private;
use kaos_gate::jobs::JobPools;
use kaos_gate::stats::Stats;
use kaos_kernel::clock::Clock;
use kaos_kernel::input::{Boot, Input};
use kaos_kernel::journal::Journal;
use kaos_kernel::output::{Outputs, write_log};
use kaos_kernel::server::Server;
use kaos_kernel::world::{RoomIndex, SessionIndex};

use super::recorder::Recorder;
use super::{Parts, Since, Stopped};

/// What match_terminate is told, in seconds: a room is closed in the frame in which it is told, so there is no grace.
const GRACE_S: u32 = 0;

/// How long rooms and sessions may take to be told and closed. A frame ends few rooms, so this holds to within one.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(5);

/// How long the transports may take for their last messages.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The calendar is set again when it is off by more than this: clocks are kept by small steps that nobody
/// should see in frames.
const CALENDAR_OFF_MS: u64 = 50;

/// How often the calendar is looked at, in seconds of frames.
const CALENDAR_SECS: u64 = 10;

/// The frame thread's things.
pub(super) struct Frames {
    server: Server,
    doors: Doors,
    jobs: JobPools,
    bridge: Arc<Bridge>,
    stats: Arc<Stats>,
    recorder: Option<Recorder>,
    /// Where the journal in memory goes when a frame panics.
    crash: PathBuf,
    since: Since,
    /// Microseconds in a frame.
    quantum_us: u64,
    inputs: Vec<Input>,
    outputs: Outputs,
    /// The line of the grid that the inputs are waiting for.
    wanted: Option<u64>,
    /// The second of the grid in which slow things were last looked at.
    second: u64,
    /// Where the calendar stood in frame 0, in milliseconds of Unix time.
    calendar_ms: u64,
    stopped: bool,
}

impl Frames {
    pub(super) fn new(
        parts: Parts,
        doors: Doors,
        bridge: Arc<Bridge>,
        stats: Arc<Stats>,
        recorder: Option<Recorder>,
    ) -> Self {
        let Parts { mut server, jobs, crash } = parts;
        let quantum_us = server.world().resource::<Clock>().quantum().us();
        if recorder.is_some() {
            let header = server.header().clone();
            server.journal().start_stream(&header);
        }
        Frames {
            server,
            doors,
            jobs,
            bridge,
            stats,
            recorder,
            crash,
            since: Since::now(),
            quantum_us,
            inputs: Vec::new(),
            outputs: Outputs::default(),
            wanted: None,
            second: 0,
            calendar_ms: 0,
            stopped: false,
        }
    }

    /// Runs until the server was asked to stop and has. Everything random in it follows from `seed`.
    pub(super) fn run(mut self, seed: u64) -> Stopped {
        sleep_exactly();
        self.calendar_ms = calendar_ms();
        self.inputs.push(Input::Boot(Boot { seed, wall_ms: self.calendar_ms, node: 1 }));
        self.frame(0, 0);
        while !self.bridge.stopping() {
            self.step(None);
        }
        self.stop()
    }

    /// Tells everybody, waits for the end, and lets the transports say their last words.
    fn stop(mut self) -> Stopped {
        let begun = self.since.us();
        let mut stopped = Stopped {
            rooms: self.stats.rooms.load(Ordering::Relaxed),
            sessions: self.stats.sessions.load(Ordering::Relaxed),
            ..Stopped::default()
        };
        self.inputs.push(Input::Stop { grace_s: GRACE_S });
        let until = begun + micros(STOP_TIME);
        while !self.stopped && self.since.us() < until {
            self.step(Some(until));
        }
        stopped.clean = self.stopped;
        if !self.stopped {
            stopped.rooms_left = self.stats.rooms.load(Ordering::Relaxed);
            stopped.sessions_left = self.stats.sessions.load(Ordering::Relaxed);
        }
        self.doors.shut(self.since.us());
        let until = self.since.us() + micros(FLUSH_TIME);
        loop {
            let now = self.since.us();
            self.doors.transmit(now);
            if self.doors.is_empty() || now >= until {
                break;
            }
            let next = self.doors.time_out_us().map_or(until, |at| at.min(until));
            self.doors.wait_while_stopping(Some(Duration::from_micros(next.saturating_sub(now))));
            self.doors.receive(self.since.us(), &mut self.inputs);
            self.inputs.clear();
        }
        if self.recorder.is_some() {
            self.server.check();
            self.record();
        }
        stopped.recorded = self.recorder.take().map(Recorder::finish);
        stopped.took = Duration::from_micros(self.since.us() - begun);
        stopped.frames = self.stats.frames.load(Ordering::Relaxed);
        stopped
    }

    /// Waits for whatever comes next and does it. `until`, in microseconds: not longer; the server stops.
    fn step(&mut self, until: Option<u64>) {
        let now = self.since.us();
        if self.inputs.is_empty() && !self.doors.waiting() {
            let due = self.server.due().map(|due| due.max(self.next()).saturating_mul(self.quantum_us));
            let next = [due, self.doors.time_out_us(), until].into_iter().flatten().min();
            let time = next.map(|next| Duration::from_micros(next.saturating_sub(now)));
            let came = match until {
                Some(_) => self.doors.wait_while_stopping(time),
                None => self.doors.wait(time),
            };
            if came {
                self.until_line();
            }
        } else {
            self.until_line();
        }
        let now = self.since.us();
        self.doors.receive(now, &mut self.inputs);
        let line = now / self.quantum_us;
        let due = self.server.due().is_some_and(|due| due <= line);
        if (self.inputs.is_empty() && !due) || line < self.next() {
            // Acknowledgements and timers of the transport need no frame.
            self.doors.transmit(now);
            if self.inputs.is_empty() {
                self.wanted = None;
            }
            return;
        }
        self.frame(line, now);
    }

    /// The least number that the next frame may have.
    fn next(&self) -> u64 {
        self.server.last_frame().map_or(0, |last| last + 1)
    }

    /// Sleeps until the next line of the grid, whatever comes meanwhile.
    fn until_line(&mut self) {
        let line = (self.since.us() / self.quantum_us + 1).max(self.next());
        let line = *self.wanted.get_or_insert(line);
        loop {
            let left = line.saturating_mul(self.quantum_us).saturating_sub(self.since.us());
            if left == 0 {
                break;
            }
            pause(Duration::from_micros(left));
        }
    }

    /// Runs frame `n` at `now` and hands out what it says.
    fn frame(&mut self, n: u64, now: u64) {
        let due = self.server.due().filter(|due| *due <= n);
        let wanted = self.wanted.take().filter(|wanted| *wanted <= n && !self.inputs.is_empty());
        let planned = [due, wanted].into_iter().flatten().min().unwrap_or(n);
        self.look_at_calendar(n);
        self.stats.frame_entered.store(n + 1, Ordering::Relaxed);
        let (recorder, stats) = (&mut self.recorder, &self.stats);
        // Before it runs: a frame that never ends, or ends the process, is in the file.
        let noted = |journal: &mut Journal| record(recorder.as_mut(), journal, stats);
        self.server.frame_noted(n, &mut self.inputs, &mut self.outputs, noted);
        self.stats.frame_entered.store(0, Ordering::Relaxed);
        self.hand_out();
        let done = self.since.us();
        self.stats.frames.fetch_add(1, Ordering::Relaxed);
        self.stats.frame_time.add(done - now);
        self.stats.frame_lateness.add(now - planned * self.quantum_us);
        if let Some(due) = due {
            self.stats.tick_lateness.add(now - due * self.quantum_us);
        }
        if planned < n {
            self.stats.frames_late.fetch_add(1, Ordering::Relaxed);
        }
        let world = self.server.world();
        self.stats.sessions.store(world.resource::<SessionIndex>().len() as u64, Ordering::Relaxed);
        self.stats.rooms.store(world.resource::<RoomIndex>().len() as u64, Ordering::Relaxed);
        self.once_a_second(n);
        self.record();
    }

    fn hand_out(&mut self) {
        for job in self.outputs.jobs.drain(..) {
            self.inputs.extend(self.jobs.submit(job));
        }
        for answer in self.outputs.answers.drain(..) {
            self.jobs.answer(answer);
        }
        self.outputs.logs.iter().for_each(write_log);
        self.stopped |= self.outputs.stopped;
        self.doors.send(self.since.us(), &mut self.outputs);
    }

    fn once_a_second(&mut self, n: u64) {
        let second = n.saturating_mul(self.quantum_us) / 1_000_000;
        if second == self.second {
            return;
        }
        self.second = second;
        let entities = self.server.population().entities as u64;
        self.stats.entities.store(entities, Ordering::Relaxed);
        if self.recorder.is_some() {
            self.server.check();
        }
    }

    fn record(&mut self) {
        record(self.recorder.as_mut(), self.server.journal(), &self.stats);
    }

    /// A frame panicked: what led to it is written down.
    fn write_crash(&mut self) {
        self.server.write_broken();
        if self.recorder.is_some() {
            self.record();
            tracing::error!("the journal of this run ends with the frame that panicked");
            return;
        }
        let header = self.server.header().clone();
        let path = self.crash.display();
        let Some(bytes) = self.server.journal().to_bytes(&header) else {
            tracing::error!(
                "no journal of this run: `journal.memory_bytes` is less than it had come to. `journal.record` keeps all"
            );
            return;
        };
        match write_private(&self.crash, &bytes) {
            Ok(()) => tracing::error!(
                "the inputs of this run are in {path}: `kaosnet replay {path}` makes it again"
            ),
            Err(error) => tracing::error!(%error, "the inputs of this run cannot be written to {path}"),
        }
    }

    /// The operating system may have set its clock: then the calendar follows, as an input of this frame.
    fn look_at_calendar(&mut self, n: u64) {
        let passed_ms = n.saturating_mul(self.quantum_us) / 1000;
        let second = passed_ms / 1000;
        if second / CALENDAR_SECS == self.second / CALENDAR_SECS {
            return;
        }
        let (is, shows) = (calendar_ms(), self.calendar_ms.saturating_add(passed_ms));
        if is.abs_diff(shows) > CALENDAR_OFF_MS {
            self.calendar_ms = is.saturating_sub(passed_ms);
            self.inputs.push(Input::Wall { ms: is });
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.write_crash();
        }
    }
}

/// Hands what is new in the journal over to its file.
fn record(recorder: Option<&mut Recorder>, journal: &mut Journal, stats: &Stats) {
    if let Some(recorder) = recorder
        && let Some(chunk) = journal.take_stream()
    {
        stats.journal_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        recorder.append(chunk);
    }
}

/// A file that only its owner may read: a journal is as secret as the traffic. One that is there is replaced.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(std::fs::OpenOptions::new().write(true).create_new(true), path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the calendar comes in here, as an input")]
fn calendar_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
