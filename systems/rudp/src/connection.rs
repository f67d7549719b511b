//! One connection: what it consists of, how it begins and ends, and what the application may ask of it.

mod dial;
mod migration;
mod receive;
mod time;
mod transmit;

use std::{net::SocketAddr, time::Duration};

use self::{
    dial::Dial,
    migration::{PreviousPath, Silence},
};
use crate::{
    ack::Received,
    closing::Closing,
    config::Config,
    congestion::{INITIAL, PACKET},
    cookie::COOKIE_BYTES,
    error::{CloseReason, SendError, Violation, code},
    events::Events,
    handshake::{self, Accept},
    identity::{PublicKey, SecretKey},
    keys::{Keys, Side},
    mtu::Mtu,
    packet::{FRAGMENT_BYTES, cut},
    path::Path,
    peer_id::PeerId,
    pool::Pool,
    receive::Receiving,
    recovery::Recovery,
    send::{Message, Sending},
    stats::Stats,
    timer::Micros,
};

/// How long `close_after_flush` waits at most.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// The copies of a close are spread over a probe time-out, but never over a longer one than this, however slow the path
/// is, so that a closed connection is forgotten after three seconds.
const CLOSING_PTO_MAX: Duration = Duration::from_secs(1);

/// What a connection needs of its endpoint.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) events: &'a mut Events,
    pub(crate) reassembly_total: &'a mut usize,
    pub(crate) pool: &'a mut Pool,
}

/// How a connection ends.
pub(crate) enum Ending {
    /// The application is told; the other side knows already, or cannot be told.
    Quiet(CloseReason),
    /// The application and the other side are told.
    Tell { code: u16, text: String, reason: CloseReason },
    /// Nobody is told: nobody knew of the connection.
    Forget,
}

impl Ending {
    fn violation(violation: Violation) -> Ending {
        Ending::Tell {
            code: code::PROTOCOL,
            text: violation.to_string(),
            reason: CloseReason::Protocol(violation),
        }
    }
}

enum Stage {
    /// Connector: Hellos go out.
    Dialing(Box<Dial>),
    /// Acceptor: the cookie was good, but no packet has come yet. Ends at the given time.
    HalfOpen(Micros),
    Open,
}

/// The Accept, and what has been done with it.
struct Accepting {
    bytes: Box<[u8]>,
    is_due: bool,
    /// When it was first sent, and how often it was sent.
    sent_at: Micros,
    sent: u32,
}

/// A close that waits for the acknowledgement of everything.
struct Flush {
    ends_at: Micros,
    code: u16,
    reason: String,
}

/// See the module.
pub(crate) struct Connection {
    id: PeerId,
    pub(crate) path: Path,
    mtu: Mtu,
    /// Only while an address with another IP is on trial.
    previous_path: Option<Box<PreviousPath>>,
    silence: Silence,
    pub(crate) side: Side,
    /// The id on the wire, given by the acceptor.
    pub(crate) wire_id: u32,
    stage: Stage,
    keys: Option<Keys>,
    /// Acceptor: the first half of the client's key, which tells a repeated Hello from a new one.
    greeted: [u8; 16],
    /// The Accept, from the end of its job until the client has shown that it arrived.
    accept: Option<Box<Accepting>>,
    received: Received,
    recovery: Recovery,
    sending: Sending,
    receiving: Receiving,
    pub(crate) reassembly: usize,
    last_in: Micros,
    last_out: Micros,
    probes: u8,
    ping_due: bool,
    /// A timer has asked for `transmit`, which has not been called since: no timer asks again.
    is_asking: bool,
    flush: Option<Box<Flush>>,
    counts: Counts,
}

/// What `Stats` reports and nothing else knows.
#[derive(Default)]
struct Counts {
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    rejected: u64,
    stale: u64,
    moves: u32,
    moves_refused: u32,
}

impl Connection {
    fn new(
        id: PeerId,
        addr: SocketAddr,
        side: Side,
        now: Micros,
        config: &Config,
        stage: Stage,
    ) -> Connection {
        Connection {
            id,
            path: Path::new(now, addr),
            mtu: Mtu::new(addr.ip(), config.mtu_max),
            previous_path: None,
            silence: Silence::default(),
            side,
            wire_id: 0,
            stage,
            keys: None,
            greeted: [0; 16],
            accept: None,
            received: Received::default(),
            recovery: Recovery::new(config),
            sending: Sending::new(),
            receiving: Receiving::new(),
            reassembly: 0,
            last_in: now,
            last_out: now,
            probes: 0,
            ping_due: false,
            is_asking: false,
            flush: None,
            counts: Counts::default(),
        }
    }

    /// The connector's half: says Hello.
    pub(crate) fn dial(
        id: PeerId,
        addr: SocketAddr,
        now: Micros,
        config: &Config,
        ephemeral: SecretKey,
        expected: Option<PublicKey>,
    ) -> Connection {
        let dial = Dial::new(now, config, ephemeral, expected);
        Connection::new(id, addr, Side::Connector, now, config, Stage::Dialing(Box::new(dial)))
    }

    /// The acceptor's half: waits for the keys that a Hello with a good cookie leads to.
    pub(crate) fn accept(
        id: PeerId,
        addr: SocketAddr,
        now: Micros,
        config: &Config,
        greeted: [u8; 16],
        wire_id: u32,
    ) -> Connection {
        let stage = Stage::HalfOpen(now + config.handshake_timeout);
        let mut connection = Connection::new(id, addr, Side::Acceptor, now, config, stage);
        connection.wire_id = wire_id;
        connection.greeted = greeted;
        connection
    }

    /// The keys are made: the Accept may leave.
    pub(crate) fn answer(&mut self, keys: Keys, accept: Box<[u8]>) {
        if self.keys.is_none() && self.is_half_open() {
            self.keys = Some(keys);
            self.accept =
                Some(Box::new(Accepting { bytes: accept, is_due: true, sent_at: Micros::ZERO, sent: 0 }));
        }
    }

    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.stage, Stage::HalfOpen(_))
    }

    /// When the Accept of a half-open connection was first sent.
    pub(crate) fn accept_left(&self) -> Option<Micros> {
        self.accept.as_ref().filter(|accept| accept.sent > 0).map(|accept| accept.sent_at)
    }

    /// Whether this connection began with the Hello that has this key; if so, its Accept is sent again.
    pub(crate) fn is_greeted_again(&mut self, key: &[u8; 16]) -> bool {
        let again = self.greeted == *key;
        if let Some(accept) = &mut self.accept {
            accept.is_due |= again;
        }
        again
    }

    // ---- in: the handshake, at the connector ----

    pub(crate) fn on_retry(&mut self, echo: [u8; 16], cookie: [u8; COOKIE_BYTES]) {
        if let Stage::Dialing(dial) = &mut self.stage {
            dial.on_retry(echo, cookie);
        }
    }

    /// Returns the server's key if this opened the connection.
    pub(crate) fn on_accept(
        &mut self,
        now: Micros,
        accept: &Accept,
        message: &mut [u8],
    ) -> Option<PublicKey> {
        let Stage::Dialing(dial) = &mut self.stage else { return None };
        let Some(accepted) = dial.on_accept(now, accept, message) else {
            self.counts.rejected += 1;
            return None;
        };
        if let Some(sent_at) = dial.sampled_at {
            self.recovery.rtt.update(now, now - sent_at, Duration::ZERO);
        }
        self.keys = Some(accepted.keys);
        self.wire_id = accepted.connection;
        self.stage = Stage::Open;
        self.last_in = now;
        // The acceptor opens its half with our first packet.
        self.ping_due = true;
        Some(accepted.server)
    }

    pub(crate) fn on_refuse(&self, echo: [u8; 16], body: &[u8], check: [u8; 8]) -> bool {
        match &self.stage {
            Stage::Dialing(dial) => {
                echo == dial.offer.echo() && check == handshake::refuse_check(&dial.offer.key, body)
            }
            _ => false,
        }
    }

    // ---- by the application ----

    pub(crate) fn send(
        &mut self,
        now: Micros,
        config: &Config,
        pool: &mut Pool,
        message: Message<'_>,
    ) -> Result<(), SendError> {
        if self.flush.is_some() {
            return Err(SendError::Closed);
        }
        self.sending.push(now, config, pool, message)
    }

    pub(crate) fn close_after_flush(&mut self, now: Micros, code: u16, reason: &str) -> Option<Ending> {
        if self.flush.is_none() {
            let reason = cut(reason).to_owned();
            self.flush = Some(Box::new(Flush { ends_at: now + FLUSH_MAX, code, reason }));
        }
        self.flushed()
    }

    /// The end, if a close waits for the queue to empty and it has.
    fn flushed(&mut self) -> Option<Ending> {
        if self.sending.is_flushed() { self.flush_over() } else { None }
    }

    fn flush_over(&mut self) -> Option<Ending> {
        let Flush { code, reason, .. } = *self.flush.take()?;
        Some(Ending::Tell { code, text: reason, reason: CloseReason::Local })
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.counts;
        let mut stats = Stats {
            rtt: self.recovery.rtt.smoothed(),
            rttvar: self.recovery.rtt.variation(),
            loss_ppm: self.recovery.loss_ppm(),
            lost: self.recovery.lost(),
            lost_spurious: self.recovery.lost_spurious(),
            reassembly_bytes: self.reassembly,
            is_limited: self.recovery.is_limited(),
            mtu: self.mtu.current(),
            window_bytes: self.recovery.window_bytes(),
            pacing_rate: self.recovery.pacing_rate(),
            in_flight_bytes: self.recovery.in_flight_bytes(),
            suite: self.keys.as_ref().map(Keys::suite),
            key_changes: self.keys.as_ref().map_or(0, Keys::changes),
            packets_in: counts.packets_in,
            packets_out: counts.packets_out,
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            rejected: counts.rejected,
            stale: counts.stale,
            moves: counts.moves.into(),
            moves_refused: counts.moves_refused.into(),
            ..Stats::default()
        };
        self.sending.report(&mut stats);
        stats
    }

    /// Bytes of messages that may be queued now and leave without waiting.
    pub(crate) fn send_budget(&self, now: Micros) -> usize {
        let wire = if matches!(self.stage, Stage::Open) { self.recovery.budget(now) } else { INITIAL };
        // A full datagram costs `PACKET` and carries `FRAGMENT_BYTES`.
        let bytes = wire / PACKET * FRAGMENT_BYTES + (wire % PACKET).min(FRAGMENT_BYTES);
        bytes.saturating_sub(self.sending.unsent_bytes())
    }

    /// What is left of it after the application or a time-out closed it. `None` when the other side has no keys yet.
    pub(crate) fn close(&mut self, now: Micros, code: u16, reason: String) -> Option<Closing> {
        if !matches!(self.stage, Stage::Open) {
            return None;
        }
        Some(Closing {
            addr: self.path.target(),
            allowance: self.path.allowance(),
            connection: self.wire_id,
            sends_id: self.side == Side::Connector,
            keys: self.keys.take()?,
            next_number: self.recovery.next_number(),
            largest_acked: self.recovery.largest_acked(),
            expected: self.received.expected(),
            code,
            reason,
            started: now,
            pto_us: self.recovery.pto().min(CLOSING_PTO_MAX).as_micros() as u64,
            copies_sent: 1,
            answers: 0,
            is_due: true,
        })
    }
}
