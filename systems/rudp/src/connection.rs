//! One connection: its stage, its packets in and out, its deadlines.

mod dial;
mod roam;

use std::{mem, net::SocketAddr, time::Duration};

use self::{
    dial::Dial,
    roam::{HUSH_PING_BYTES, Hush, Kept},
};
use crate::{
    ack::{Ack, Arrival, Received},
    channel::{Channel, SendOptions},
    config::Config,
    congestion::{INITIAL, PACKET},
    cookie::COOKIE_BYTES,
    endpoint::Event,
    error::{CloseReason, SendError, Violation, code},
    events::Events,
    handshake::{self, Accept},
    identity::{PublicKey, SecretKey},
    keys::{Keys, NUMBER_END, Side},
    linger::Linger,
    mtu::Mtu,
    packet::{DATAGRAM_BYTES_BASE, FRAGMENT_BYTES, Frame, Header, Reader, Writer, cut},
    path::Path,
    peers::PeerId,
    pool::Pool,
    receive::{Budget, Fragment, Receiving, Taken},
    recovery::Recovery,
    send::{PathState, Sending},
    stats::Stats,
    timer::{Micros, NEVER},
};

/// How long `close_after_flush` waits.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Longest probe time-out that the copies of a close are spread over, however slow the path was: so that what is closed
/// is forgotten after three seconds.
const LINGER_PTO_MAX: Duration = Duration::from_secs(1);

/// Silence, of both sides, after which a connection rests: it gives back the memory that packets need and silence does not.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What a connection needs of its endpoint.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) events: &'a mut Events,
    pub(crate) reassembly_total: &'a mut usize,
    pub(crate) pool: &'a mut Pool,
}

/// How a connection ends.
pub(crate) enum Ending {
    /// The application learns of it; the other side knows, or cannot be told.
    Quiet(CloseReason),
    /// Both learn of it.
    Tell { code: u16, text: String, reason: CloseReason },
    /// Nobody ever knew of it.
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
    /// Acceptor: the cookie was good, no packet yet. Ends at the given time.
    HalfOpen(Micros),
    Open,
}

/// The Accept, and how it fares.
struct Accepting {
    bytes: Box<[u8]>,
    is_due: bool,
    /// When it left last, and how often it did.
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
    kept: Option<Box<Kept>>,
    hush: Hush,
    pub(crate) side: Side,
    /// The id on the wire, given by the acceptor.
    pub(crate) wire_id: u32,
    stage: Stage,
    keys: Option<Keys>,
    /// Acceptor: the first half of the client's key, which tells a repeated Hello from a new one.
    greeted: [u8; 16],
    /// The Accept, from when its job is done until the client has shown that it got it.
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

/// A genuine packet: its number is fresh and it opened.
pub(crate) struct Genuine<'a> {
    number: u64,
    /// Higher than all before.
    is_newest: bool,
    has_ack: bool,
    frames: &'a [u8],
    bytes: usize,
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
            kept: None,
            hush: Hush::default(),
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

    /// Whether this connection came from the Hello with this key; if so its Accept goes out again.
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

    /// The server's key when this opened the connection.
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

    // ---- in: packets ----

    /// Checks the number and decrypts. What does not open changes nothing but a counter.
    pub(crate) fn open<'a>(
        &mut self,
        now: Micros,
        header: &Header,
        datagram: &'a mut [u8],
    ) -> Option<Genuine<'a>> {
        let keys = self.keys.as_mut()?;
        let expected = self.received.expected();
        let number = header.number(expected);
        let bytes = datagram.len();
        let is_fresh = number < NUMBER_END && self.received.arrival(number) == Arrival::Fresh;
        // Three probe time-outs: after these a packet that was overtaken has long been sent again.
        let opened = if is_fresh {
            keys.open_with(now, || self.recovery.pto() * 3, header, number, datagram).ok()
        } else {
            None
        };
        self.counts.rejected += u64::from(opened.is_none());
        let is_newest = number >= expected;
        Some(Genuine { number, is_newest, has_ack: header.has_ack, frames: opened?, bytes })
    }

    /// The end, if the keys must not be used any longer.
    pub(crate) fn worn(&self) -> Option<Ending> {
        let is_worn = self.keys.as_ref()?.are_worn(self.recovery.next_number());
        is_worn.then(|| Ending::Tell {
            code: code::KEYS_WORN,
            text: CloseReason::KeysWorn.to_string(),
            reason: CloseReason::KeysWorn,
        })
    }

    /// The first packet of a half-open connection: it is open now.
    pub(crate) fn confirm(&mut self, now: Micros) {
        self.stage = Stage::Open;
        if let Some(Accepting { sent_at, sent: 1, .. }) = self.accept.take().as_deref() {
            self.recovery.rtt.update(now, now - *sent_at, Duration::ZERO);
        }
    }

    /// Takes in a genuine packet from `from`.
    pub(crate) fn take_in(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Ending> {
        self.hush.on_packet(now - self.last_in);
        self.last_in = now;
        self.counts.packets_in += 1;
        self.counts.bytes_in += packet.bytes as u64;
        match self.take_frames(now, from, packet, cx) {
            Ok(None) => {}
            Ok(ending) => return ending,
            Err(violation) => return Some(Ending::violation(violation)),
        }
        if self.flush.is_some() {
            return self.flushed();
        }
        if self.sending.take_writable(cx.config) {
            cx.events.push(Event::Writable { peer: self.id });
        }
        None
    }

    fn take_frames(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Ending>, Violation> {
        let mut reader = Reader::new(packet.frames);
        if packet.has_ack {
            let ack = Ack::decode(&mut reader)?;
            self.on_ack_of_probe(&ack);
            if let Some(known) = self.recovery.on_ack(now, &ack, &mut self.sending, cx.pool)? {
                self.received.ack_was_seen(known);
            }
        }
        let (mut eliciting, mut reliable, mut taken) = (false, false, Taken::Yes);
        let peer = self.id;
        while let Some(frame) = Frame::next(&mut reader)? {
            eliciting |= !matches!(frame, Frame::Challenge(_) | Frame::Answer(_));
            let mut budget = Budget {
                config: cx.config,
                peer: &mut self.reassembly,
                total: cx.reassembly_total,
                pool: cx.pool,
                stale: &mut self.counts.stale,
            };

            let result = match frame {
                Frame::Ping => Taken::Yes,
                Frame::Challenge(challenge) => {
                    self.path.on_challenge(from, challenge);
                    Taken::Yes
                }
                Frame::Answer(answer) => {
                    self.on_answer(from, &answer, cx.config);
                    Taken::Yes
                }
                Frame::Close { code, reason } => {
                    let reason = handshake::reason_text(reason);
                    return Ok(Some(Ending::Quiet(CloseReason::Remote { code, reason })));
                }
                Frame::Message { channel, id, bytes } => {
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    reliable |= inbox.is_reliable();
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.message(id, bytes, &mut budget, deliver)?
                }
                Frame::Fragment { channel, id, index, count, bytes } => {
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    reliable |= inbox.is_reliable();
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.fragment(now, id, Fragment { index, count, bytes }, &mut budget, deliver)?
                }
                Frame::Skip { channel, id } => {
                    reliable = true;
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.skip(channel, id, &mut budget, deliver)?
                }
            };
            if result == Taken::No {
                taken = Taken::No;
            }
        }
        if taken == Taken::Yes {
            self.received.insert(now, packet.number, eliciting, reliable, cx.config.ack_delay_max);
        } else {
            self.received.refuse(packet.number);
        }
        Ok(None)
    }

    // ---- by the application ----

    pub(crate) fn send(
        &mut self,
        now: Micros,
        config: &Config,
        pool: &mut Pool,
        channel: Channel,
        parts: &[&[u8]],
        options: SendOptions,
    ) -> Result<(), SendError> {
        if self.flush.is_some() {
            return Err(SendError::Closed);
        }
        self.sending.push(now, config, pool, channel, parts, options)
    }

    pub(crate) fn close_after_flush(&mut self, now: Micros, code: u16, reason: &str) -> Option<Ending> {
        if self.flush.is_none() {
            let reason = cut(reason).to_owned();
            self.flush = Some(Box::new(Flush { ends_at: now + FLUSH_MAX, code, reason }));
        }
        self.flushed()
    }

    /// The end, if a close waits for the queue and the queue is empty.
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
            lost: self.recovery.lost,
            lost_spurious: self.recovery.lost_spurious,
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
        // What a full datagram carries, of what it costs.
        let bytes = wire / PACKET * FRAGMENT_BYTES + (wire % PACKET).min(FRAGMENT_BYTES);
        bytes.saturating_sub(self.sending.unsent_bytes())
    }

    // ---- out ----

    /// Fills `out` with one datagram, if there is one to send now. Returns where to.
    pub(crate) fn transmit(&mut self, now: Micros, out: &mut Vec<u8>, pool: &mut Pool) -> Option<SocketAddr> {
        let mut to = self.path.proven();
        let sent = match &mut self.stage {
            Stage::Dialing(dial) => dial.transmit(now, out),
            Stage::HalfOpen(_) => self.transmit_accept(now, out),
            Stage::Open => {
                if let Some(challenged) = self.transmit_challenge(out) {
                    to = challenged;
                    true
                } else {
                    to = self.path.target();
                    self.transmit_packet(now, out, pool) || self.transmit_mtu_probe(now, out)
                }
            }
        };
        if !sent {
            return None;
        }
        self.path.on_sent(to, out.len());
        self.last_out = now;
        self.counts.packets_out += 1;
        self.counts.bytes_out += out.len() as u64;
        Some(to)
    }

    fn transmit_accept(&mut self, now: Micros, out: &mut Vec<u8>) -> bool {
        let Some(accept) = self.accept.as_mut().filter(|accept| accept.is_due) else { return false };
        accept.is_due = false;
        (accept.sent_at, accept.sent) = (now, accept.sent.saturating_add(1));
        out.clear();
        out.extend_from_slice(&accept.bytes);
        true
    }

    fn transmit_packet(&mut self, now: Micros, out: &mut Vec<u8>, pool: &mut Pool) -> bool {
        if self.recovery.is_unjudged() {
            self.recovery.judge(now, &mut self.sending);
        }
        self.check_black_hole(now);
        let bytes = self.packet_bytes();
        let path = PathState {
            loss_ppm: self.recovery.loss_ppm(),
            limited: self.recovery.is_limited(),
            window_bytes: self.recovery.window_bytes(),
            rtt: self.recovery.rtt.smoothed(),
        };
        self.sending.begin(now, path, pool);
        let is_probe = self.probes > 0;
        // What an address on trial may not be sent waits for its proof and not for the pacer's time.
        let has_pending = bytes > 0 && self.sending.has_pending();
        let may_send = bytes > 0 && (self.recovery.may_send(now, has_pending) || is_probe);
        let wants_repeat = self.sending.wants_repeat(now, may_send);
        let wants_send =
            is_probe || self.ping_due || self.path.has_answers() || wants_repeat || (may_send && has_pending);
        if bytes == 0 {
            self.recovery.on_nothing_to_send();
        }
        if bytes == 0 || (!wants_send && !self.received.is_due(now)) {
            self.sending.end_round();
            return false;
        }
        let Some(keys) = &mut self.keys else { return false };
        let number = self.recovery.next_number();
        // The first packet of a new phase asks for an acknowledgement, or the next change would never come.
        let acked = self.recovery.largest_acked();
        self.ping_due |= keys.change(number, acked) || keys.must_ask(number, acked);
        let ack = if self.received.should_ride(now) { self.received.take_ack(now) } else { None };
        let refs_at = self.recovery.refs_end();
        let connection = (self.side == Side::Connector).then_some(self.wire_id);
        // What is sent to find out why nothing comes back must not be lost to its size.
        let bytes = if is_probe { bytes.min(DATAGRAM_BYTES_BASE) } else { bytes };
        let mut writer =
            Writer::new(out, connection, number, self.recovery.largest_acked(), ack.as_ref()).within(bytes);
        let mut has_answer = false;
        while let Some(answer) = self.path.pop_answer() {
            has_answer |= writer.answer(&answer);
        }
        if may_send {
            self.sending.fill(now, number, &mut writer, self.recovery.refs(), pool);
        }
        if (is_probe || self.ping_due) && !writer.eliciting {
            writer.ping();
            if mem::take(&mut self.hush.is_ping) {
                writer.pad(HUSH_PING_BYTES);
            }
        }
        if writer.cramped && !is_probe {
            self.mtu.want();
        }
        let eliciting = writer.eliciting;
        if !eliciting && !has_answer && ack.is_none() {
            // An address on trial may not be sent so much.
            self.sending.wants_repeat(now, false);
            self.sending.end_round();
            return false;
        }
        keys.seal(number, writer.finish());
        if eliciting {
            self.probes = self.probes.saturating_sub(1);
            self.ping_due = false;
            self.recovery.on_sent(now, out.len(), refs_at, ack.map(|ack| ack.largest));
        } else {
            self.recovery.on_sent_unrecorded();
        }
        true
    }

    /// After a datagram left: whether another `transmit` would send nothing, which holds for most datagrams. Then it does
    /// what that call would have done.
    pub(crate) fn is_done(&mut self, now: Micros) -> bool {
        let is_quiet = matches!(self.stage, Stage::Open)
            && self.probes == 0
            && !self.ping_due
            && !self.path.is_on_trial()
            && !self.path.has_answers()
            && !self.mtu.is_wanted()
            && !self.received.is_due(now)
            && !self.recovery.is_unjudged()
            && !self.sending.may_repeat();
        if !is_quiet || self.sending.has_pending() {
            return false;
        }
        self.recovery.may_send(now, false);
        self.sending.end_round();
        true
    }

    /// When `on_timeout` is to be called next.
    pub(crate) fn deadline(&self, config: &Config) -> Micros {
        match &self.stage {
            Stage::Dialing(dial) => dial.deadline(),
            Stage::HalfOpen(ends_at) => *ends_at,
            Stage::Open => {
                let pings = self.side == Side::Connector && !self.ping_due;
                let keepalive = if pings { self.last_out + config.keepalive } else { NEVER };
                let flush = self.flush.as_ref().map_or(NEVER, |flush| flush.ends_at);
                let keys = self.keys.as_ref().and_then(Keys::deadline).unwrap_or(NEVER).min(self.rest_at());
                let idle = self.last_in + config.idle_timeout;
                let channels = self.sending.deadline().min(self.receiving.deadline());
                let packets = self.received.deadline().min(self.recovery.deadline());
                idle.min(keepalive).min(flush).min(keys).min(self.roam_deadline()).min(channels).min(packets)
            }
        }
    }

    /// When it is to rest; `NEVER` while it does.
    fn rest_at(&self) -> Micros {
        let is_awake = self.keys.as_ref().is_some_and(Keys::are_awake);
        if is_awake { self.last_in.max(self.last_out) + REST_AFTER } else { NEVER }
    }

    /// Nothing came or left for a while. The next packet wakes it, for about a microsecond.
    fn rest(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.sleep();
        }
        self.received.rest();
        self.recovery.rest();
        self.sending.rest();
        self.receiving.rest();
    }

    /// Does what is due. Whatever it decides to send goes out with `transmit`.
    pub(crate) fn on_timeout(&mut self, now: Micros, cx: &mut Context<'_>) -> Option<Ending> {
        match &mut self.stage {
            Stage::Dialing(dial) => dial.on_timeout(now).then(|| Ending::Quiet(dial.reason())),
            Stage::HalfOpen(ends_at) => (*ends_at <= now).then_some(Ending::Forget),
            Stage::Open => self.on_timeout_open(now, cx),
        }
    }

    fn on_timeout_open(&mut self, now: Micros, cx: &mut Context<'_>) -> Option<Ending> {
        let config = cx.config;
        if self.last_in + config.idle_timeout <= now {
            // Perhaps only the way to us is broken.
            let text = "nothing was heard for the idle time-out".to_owned();
            return Some(Ending::Tell { code: code::TIMED_OUT, text, reason: CloseReason::TimedOut });
        }
        if self.flush.as_ref().is_some_and(|flush| flush.ends_at <= now) {
            return self.flush_over();
        }
        if let Some(keys) = &mut self.keys {
            keys.forget_old(now);
        }
        self.received.on_timeout(now);
        self.sending.expire(now, cx.pool);
        let (stale, freed) = self.receiving.on_timeout(now);
        self.counts.stale += stale;
        self.reassembly -= freed;
        *cx.reassembly_total -= freed;
        self.roam_on_timeout(now);
        let probes = self.recovery.on_timeout(now, &mut self.sending);
        if self.rest_at() <= now {
            self.rest();
        }
        self.probes = self.probes.max(probes);
        self.ping_due |= self.side == Side::Connector && self.last_out + config.keepalive <= now;
        None
    }

    /// What remains of it after the application or a time-out closed it. `None` when the other side has no keys yet.
    pub(crate) fn linger(&mut self, now: Micros, code: u16, reason: String) -> Option<Linger> {
        if !matches!(self.stage, Stage::Open) {
            return None;
        }
        Some(Linger {
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
            pto_us: self.recovery.pto().min(LINGER_PTO_MAX).as_micros() as u64,
            copies_sent: 1,
            answers: 0,
            is_due: true,
        })
    }
}
