//! The session as a state machine: bytes in, bytes and events out; no socket, no clock, no thread.
//!
//! [`Core`] counts messages, has the resend buffers, resumes over new connections, and knows the rooms and the open
//! requests. A *driver* owns the connection: it gives what comes to [`Core::receive`], sends what [`Core::peek`] shows,
//! opens and closes connections as [`Core::poll_action`] says, and calls [`Core::handle_timeout`] when it is time.
//! The async client and the swarm are two such drivers over one implementation.
//!
//! ```text
//!             Dial ─► driver ─► opened ─► SessionStart … SessionStarted ─► live
//!              ▲                closed ────────────────────────┐            │
//!              └── backoff: 0, ¼, ½, 1, 2, 2 … s ◄── lost ◄────┴────────────┘
//!                                                    └─► seat time over ─► ended
//! ```

mod receive;
mod requests;
mod resend;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kaos_rudp::{Micros, PublicKey};
use kaos_wire::limits::{RESEND_MAX, RESUME_TOKEN, SERVER_RESEND_MAX};
use kaos_wire::{Channel, Opcode, PROTOCOL_MAX, PROTOCOL_MIN, encode, v1};

use crate::credentials::{Credentials, Options};
use crate::error::{End, Error};
use crate::event::{Event, RoomEvent, RoomInfo};
use crate::fault;
use requests::Request;
use resend::ResendBuffer;

pub use requests::{Create, Join};

/// Requests that may wait for their answers.
pub const REQUESTS_MAX: usize = 1024;

/// Unreliable messages that wait for the connection; beyond it the oldest is dropped.
const UNRELIABLE_MAX: usize = 256;

/// Bytes that may arrive before SessionStarted (over UDP, whose channels overtake each other): the largest resend buffer of
/// a server, and what a server with a small one sends meanwhile.
const EARLY_BYTES_MAX: usize = SERVER_RESEND_MAX + RESEND_MAX;

/// Pauses before the attempts to come back; the last one repeats.
const BACKOFF_MS: [u64; 5] = [0, 250, 500, 1000, 2000];

/// How long a goodbye waits for what was sent to be acknowledged.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the driver has to do with the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Open a new connection, then call [`Core::opened`] or [`Core::closed`]. One that exists is to be
    /// dropped without a goodbye, and nothing more of it given to the core.
    Dial,
    /// Close the connection after what was handed to it has left.
    Hangup,
}

#[derive(Clone, PartialEq, Debug)]
enum Phase {
    /// No connection; the next attempt is at `at`.
    Waiting { attempt: usize, at: Micros },
    /// The driver opens one, or the answer to SessionStart is awaited; given up at `until`.
    Opening { attempt: usize, until: Micros, open: bool },
    /// In session.
    Live,
    /// Over.
    Ended(End),
}

/// What the server said at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The session.
    pub session_id: u64,
    /// The user.
    pub user_id: String,
    /// The user's name, which may differ from the one that was asked for.
    pub username: String,
    /// The node.
    pub node: String,
}

/// One session with a server. See the module for how it is driven.
pub struct Core {
    credentials: Credentials,
    options: Options,
    phase: Phase,
    identity: Option<Identity>,
    server_key: Option<PublicKey>,
    token: Vec<u8>,
    heartbeat: Duration,
    seat: Duration,
    /// When a lost session is given up.
    give_up: Option<Micros>,
    closing: Option<Micros>,

    resend: [ResendBuffer; 2],
    kept_bytes: usize,
    received: [u64; 2],
    unacknowledged: usize,
    bad_messages: u32,

    /// SessionStart, SessionEnd, Heartbeats: never counted, never sent again.
    urgent: VecDeque<Bytes>,
    unreliable: VecDeque<Bytes>,
    early: Vec<(u8, Bytes)>,
    early_bytes: usize,

    heard: Micros,
    beat_at: Micros,
    rtt: Option<Duration>,

    rooms: BTreeMap<u16, Member>,
    requests: BTreeMap<u32, Request>,
    cid: u32,

    events: VecDeque<Event>,
    actions: VecDeque<Action>,
    jitter: u64,
}

/// A room, from its first RoomState on.
struct Member {
    info: RoomInfo,
    /// RoomJoined has come.
    joined: bool,
}

impl Core {
    /// A session that has not started yet; the first action is [`Action::Dial`]. `seed` spreads the attempts of clients
    /// that lost their server together.
    pub fn new(now: Micros, credentials: Credentials, options: Options, seed: u64) -> Core {
        let until = now + options.open_timeout;
        Core {
            credentials,
            options,
            phase: Phase::Opening { attempt: 0, until, open: false },
            identity: None,
            server_key: None,
            token: Vec::new(),
            heartbeat: Duration::from_millis(1000),
            seat: Duration::ZERO,
            give_up: None,
            closing: None,
            resend: Default::default(),
            kept_bytes: 0,
            received: [0; 2],
            unacknowledged: 0,
            bad_messages: 0,
            urgent: VecDeque::new(),
            unreliable: VecDeque::new(),
            early: Vec::new(),
            early_bytes: 0,
            heard: now,
            beat_at: now,
            rtt: None,
            rooms: BTreeMap::new(),
            requests: BTreeMap::new(),
            cid: 0,
            events: VecDeque::new(),
            actions: VecDeque::from([Action::Dial]),
            jitter: seed | 1,
        }
    }

    // ---- getters ----

    /// Who this is to the server; `None` before the session started.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The key of the server that answered last over UDP; `None`: none has yet. The driver expects it of every later
    /// UDP connection of this session that names no key of its own, because a resume carries what the seat is worth.
    pub fn server_key(&self) -> Option<PublicKey> {
        self.server_key
    }

    /// Whether a connection is up and the session on it.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Why the session is over; `None` while it is not.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The last round trip of a heartbeat.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// A joined room, as far as it is known; `None` when this session is not in it.
    pub fn room(&self, handle: u16) -> Option<&RoomInfo> {
        self.rooms.get(&handle).filter(|member| member.joined).map(|member| &member.info)
    }

    /// Bytes of reliable messages that the server has not acknowledged; at most 262,144.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    // ---- out ----

    /// What happened, oldest first. Take all after each call of the driver's kind.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What to do with the connection, oldest first.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message for the open connection, whole with its header. After it was taken: [`Core::advance`].
    pub fn peek(&self) -> Option<(Channel, &Bytes)> {
        if let Some(message) = self.urgent.front() {
            return Some((Channel::Control, message));
        }
        if self.phase != Phase::Live {
            return None;
        }
        let [control, data] = &self.resend;
        let control = control.peek().map(|message| (Channel::Control, message));
        let data = || data.peek().map(|message| (Channel::Data, message));
        control
            .or_else(data)
            .or_else(|| self.unreliable.front().map(|message| (Channel::Unreliable, message)))
    }

    /// The connection took what [`Core::peek`] showed.
    pub fn advance(&mut self) {
        if self.urgent.pop_front().is_some() {
            return;
        }
        let [control, data] = &mut self.resend;
        if control.peek().is_some() {
            control.advance();
        } else if data.peek().is_some() {
            data.advance();
        } else {
            self.unreliable.pop_front();
        }
    }

    /// When [`Core::handle_timeout`] is due; `None` once the session is over.
    pub fn poll_timeout(&self) -> Option<Micros> {
        match &self.phase {
            Phase::Ended(_) => None,
            Phase::Waiting { at, .. } => Some(self.give_up.map_or(*at, |give_up| give_up.min(*at))),
            Phase::Opening { until, .. } => Some(self.give_up.map_or(*until, |give_up| give_up.min(*until))),
            Phase::Live => {
                let beat = self.beat_at.min(self.heard + self.silence());
                Some(self.closing.map_or(beat, |closing| closing.min(beat)))
            }
        }
    }

    // ---- in: from the driver ----

    /// The connection that is about to open is one to the server with this key. To be called before [`Core::opened`],
    /// over UDP only: a WebSocket proves no key.
    pub fn met(&mut self, server_key: PublicKey) {
        self.server_key = Some(server_key);
    }

    /// The connection that was dialled is open.
    pub fn opened(&mut self, now: Micros) {
        let Phase::Opening { open, .. } = &mut self.phase else { return };
        *open = true;
        self.heard = now;
        self.forget_connection();
        let credentials = if self.identity.is_some() {
            v1::session_start::Credentials::Resume(v1::Resume {
                session_id: self.identity.as_ref().map_or(0, |identity| identity.session_id),
                token: self.token.clone(),
                received: Some(self.counts()),
            })
        } else {
            match &self.credentials {
                Credentials::Token(token) => v1::session_start::Credentials::Token(token.clone()),
                Credentials::Anonymous(name) => v1::session_start::Credentials::Anonymous(name.clone()),
            }
        };
        let start = v1::SessionStart {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            client: self.options.client.clone(),
            vars: self.options.vars.clone().into_iter().collect(),
            credentials: Some(credentials),
        };
        let mut message = Vec::new();
        match encode(Opcode::SessionStart, &start, &mut message) {
            Ok(()) => self.urgent.push_back(message.into()),
            Err(_) => {
                self.refused(End::fault(fault::INVALID, "name, token or vars are too long for one message"))
            }
        }
    }

    /// The connection is gone, or the attempt failed; `why` is a few words.
    pub fn closed(&mut self, now: Micros, why: &str) {
        match self.phase.clone() {
            Phase::Live => self.lost(now, Duration::ZERO),
            Phase::Opening { attempt, .. } => self.attempt_failed(now, attempt, why),
            Phase::Waiting { .. } | Phase::Ended(_) => {}
        }
    }

    /// The transport was refused with a reason that another attempt cannot change.
    pub fn refused(&mut self, end: End) {
        self.actions.push_back(Action::Hangup);
        self.finish(end);
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Micros) {
        if self.give_up.is_some_and(|give_up| give_up <= now) && self.phase != Phase::Live {
            self.actions.push_back(Action::Hangup);
            return self.finish(End::fault(
                fault::TIMED_OUT,
                "the connection was lost and did not come back in time",
            ));
        }
        match self.phase.clone() {
            Phase::Waiting { attempt, at } if at <= now => {
                let until = now + self.options.open_timeout;
                self.phase = Phase::Opening { attempt, until, open: false };
                self.actions.push_back(Action::Dial);
            }
            Phase::Opening { attempt, until, open } if until <= now => {
                let why = if open { "the server did not answer SessionStart" } else { "no answer" };
                self.attempt_failed(now, attempt, why);
            }
            Phase::Live if self.heard + self.silence() <= now => self.lost(now, Duration::ZERO),
            Phase::Live => {
                if let Some(deadline) = self.closing
                    && (deadline <= now || self.resend.iter().all(ResendBuffer::is_empty))
                {
                    return self.say_goodbye();
                }
                if self.beat_at <= now {
                    self.beat(now);
                }
            }
            _ => {}
        }
    }

    // ---- by the application ----

    /// Sends a heartbeat now, to measure the round trip.
    pub fn ping(&mut self, now: Micros) {
        if self.phase == Phase::Live {
            self.beat(now);
        }
    }

    /// Drops the connection and comes back over a new one, after `pause`. For tests, and to change doors.
    pub fn lose(&mut self, now: Micros, pause: Duration) {
        match self.phase {
            Phase::Live => self.lost(now, pause),
            Phase::Opening { attempt, .. } => self.attempt_failed(now, attempt, "given up"),
            _ => {}
        }
    }

    /// Ends the session: at once when nothing waits to be acknowledged, else within a second.
    pub fn close(&mut self, now: Micros) {
        match self.phase {
            Phase::Live if self.resend.iter().all(ResendBuffer::is_empty) => self.say_goodbye(),
            Phase::Live => {
                self.closing.get_or_insert(now + GOODBYE);
                self.beat(now);
            }
            Phase::Ended(_) => {}
            // Nobody is there to hear a goodbye: the seat is given up by time.
            Phase::Waiting { .. } | Phase::Opening { .. } => {
                self.actions.push_back(Action::Hangup);
                self.finish(End::own("closed", "closed by this client"));
            }
        }
    }

    // ---- inside ----

    /// The silence after which the connection counts as lost. A healthy server may send nothing but its answers to
    /// heartbeats, and one of those may be late.
    fn silence(&self) -> Duration {
        self.options.silence.max(self.heartbeat * 2 + Duration::from_secs(1))
    }

    fn counts(&self) -> v1::Counts {
        v1::Counts { control: self.received[0], data: self.received[1] }
    }

    /// Sends a heartbeat that the server answers, which measures the round trip, and plans the next one.
    fn beat(&mut self, now: Micros) {
        // While saying goodbye every acknowledgement is awaited.
        let pause = if self.closing.is_some() { Duration::from_millis(50) } else { self.heartbeat };
        self.beat_at = now + pause;
        // 0 would mean that no answer is wanted.
        self.send_heartbeat(now.0 + 1);
    }

    /// Sends a heartbeat that only tells what was received; the server does not answer it.
    fn acknowledge(&mut self) {
        self.send_heartbeat(0);
    }

    fn send_heartbeat(&mut self, client_time_us: u64) {
        // A connection that takes nothing does not need another heartbeat.
        if self.urgent.len() > 8 {
            return;
        }
        let beat = v1::Heartbeat {
            client_time_us,
            received: Some(self.counts()),
            rtt_us: self.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
            server_time_ms: 0,
        };
        let mut message = Vec::with_capacity(32);
        if encode(Opcode::Heartbeat, &beat, &mut message).is_ok() {
            self.urgent.push_back(message.into());
            self.unacknowledged = 0;
        }
    }

    fn say_goodbye(&mut self) {
        let mut message = Vec::new();
        if encode(Opcode::SessionEnd, &v1::SessionEnd::default(), &mut message).is_ok() {
            self.urgent.push_back(message.into());
        }
        self.actions.push_back(Action::Hangup);
        self.finish(End::own("closed", "closed by this client"));
    }

    fn lost(&mut self, now: Micros, pause: Duration) {
        if !self.options.resume || self.closing.is_some() {
            self.actions.push_back(Action::Hangup);
            let end = if self.closing.is_some() {
                End::own("closed", "closed by this client")
            } else {
                End::own("lost", "the connection was lost, and this client does not resume")
            };
            return self.finish(end);
        }
        self.forget_connection();
        self.give_up = Some(now + self.seat);
        self.phase = Phase::Waiting { attempt: 0, at: now + pause };
        self.events.push_back(Event::Lost);
    }

    fn attempt_failed(&mut self, now: Micros, attempt: usize, why: &str) {
        if self.identity.is_none() {
            self.actions.push_back(Action::Hangup);
            return self.finish(End::own("unreachable", why));
        }
        self.forget_connection();
        let attempt = attempt + 1;
        let pause = BACKOFF_MS.get(attempt).or(BACKOFF_MS.last()).copied().unwrap_or(2000);
        // xorshift: a quarter more or less, so that clients who lost one server do not come back as one.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let pause = pause * (750 + self.jitter % 500);
        self.phase = Phase::Waiting { attempt, at: now + Duration::from_micros(pause) };
    }

    fn forget_connection(&mut self) {
        self.urgent.clear();
        self.unreliable.clear();
        self.early.clear();
        self.early_bytes = 0;
    }

    /// The session is over: everything open learns it.
    fn finish(&mut self, end: End) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.phase = Phase::Ended(end.clone());
        for (cid, _) in std::mem::take(&mut self.requests) {
            self.events.push_back(Event::Answer { cid, answer: Err(Error::Ended(end.clone())) });
        }
        for (handle, member) in std::mem::take(&mut self.rooms) {
            if member.joined {
                self.events.push_back(Event::Room { handle, event: RoomEvent::Closed(end.clone()) });
            }
        }
        self.resend = Default::default();
        self.kept_bytes = 0;
        self.unreliable.clear();
        self.early.clear();
        self.events.push_back(Event::Ended(end));
    }

    /// The server broke the protocol.
    fn violated(&mut self, what: &str) {
        self.actions.push_back(Action::Hangup);
        self.finish(End::protocol(what));
    }
}

const _: () = assert!(RESUME_TOKEN == 16);
