//! The endpoint: what its user calls, the queue of connections that want to send, and how connections end.

mod ending;
mod incoming;
mod packets;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    channel::{Channel, SendOptions},
    config::Config,
    connection::{Connection, Context, Ending},
    cookie::Cookies,
    error::{CloseReason, ConnectError, SendError},
    events::{Event, Events},
    handshake::Answer,
    identity::{PublicKey, SecretKey},
    job::{HandshakeDone, HandshakeJob, Identity},
    keys::Suite,
    limit::Limiter,
    packet::{DATAGRAM_BYTES_MAX, FLAG_HANDSHAKE},
    peer_id::PeerId,
    peers::{Peers, State},
    pool::Pool,
    queue::{Queue, shrink},
    random::{Random, derive},
    send::Message,
    stats::{Stats, Totals},
    timer::{Deadlines, Micros},
};

/// Stateless answers that may wait for `poll_transmit`. A server reserves their memory, 200 KB, when it is made: enough
/// for a thousand clients that come all at once. At the bound, Hellos are dropped, and clients repeat them.
const ANSWERS_MAX: usize = 1024;

/// Accepted connections from one address: at most one that is open and one that may replace it.
#[derive(Default)]
struct FromAddress {
    open: Option<PeerId>,
    half_open: Option<PeerId>,
}

/// All connections of one UDP socket. See the crate's documentation for the order of calls.
pub struct Endpoint {
    config: Config,
    random: Random,
    cookies: Cookies,
    peers: Peers,
    /// Accepted connections by address.
    accepted: BTreeMap<SocketAddr, FromAddress>,
    /// Connections that this side opened, closing ones included: datagrams to a connector carry no id.
    dialed: BTreeMap<SocketAddr, PeerId>,
    half_open: usize,
    /// Half-open connections, the oldest first. Some of them may no longer be half-open.
    begun: VecDeque<PeerId>,
    /// Connections that the application knows.
    known: usize,
    deadlines: Deadlines,
    due: Vec<u32>,
    /// The connections that may have something to send, in the order of `ready_since`. Until a connection leaves this
    /// queue, its entry in `deadlines` may be too late or missing.
    ready: Queue<PeerId>,
    answers: VecDeque<(SocketAddr, Answer)>,
    events: Events,
    pool: Pool,
    identity: Arc<Identity>,
    jobs: VecDeque<HandshakeJob>,
    limiter: Limiter,
    reassembly_total: usize,
    /// The latest time that the endpoint was told.
    now: Micros,
    totals: Totals,
}

impl Endpoint {
    /// An endpoint whose randomness and secrets all come from `seed`: the door draws it from the operating system,
    /// tests choose it. Two live endpoints must not share a seed.
    pub fn new(mut config: Config, seed: [u8; 32]) -> Endpoint {
        config.peers_max = config.peers_max.min(Config::PEERS_MAX);
        let own = config.secret_key.clone();
        let secret = own.unwrap_or_else(|| SecretKey::from_bytes(derive(&seed, b"kaos-rudp static key")));
        let identity = Arc::new(Identity { public: secret.public(), secret });
        let answers = if config.accept { ANSWERS_MAX } else { 0 };
        Endpoint {
            random: Random::new(&seed),
            cookies: Cookies::new(&seed),
            peers: Peers::default(),
            accepted: BTreeMap::new(),
            dialed: BTreeMap::new(),
            half_open: 0,
            begun: VecDeque::new(),
            known: 0,
            deadlines: Deadlines::default(),
            due: Vec::new(),
            ready: Queue::default(),
            answers: VecDeque::with_capacity(answers),
            events: Events::default(),
            pool: Pool::new(config.pool_bytes_max),
            identity,
            jobs: VecDeque::new(),
            limiter: Limiter::default(),
            reassembly_total: 0,
            now: Micros::ZERO,
            totals: Totals::default(),
            config,
        }
    }

    // ---- by the application ----

    /// Begins a connection. `Event::Connected` or `Event::Closed` follows; messages may be queued at once, and leave
    /// only when the server has proved that it is `expected`: any other ends the attempt with
    /// [`CloseReason::WrongKey`], half a second later, since the right one may still answer. Without `expected`,
    /// **whoever answers is believed**: it may be an attacker on the path.
    ///
    /// # Errors
    /// See [`ConnectError`]. Nothing was begun.
    pub fn connect(
        &mut self,
        now: Micros,
        to: SocketAddr,
        expected: Option<PublicKey>,
    ) -> Result<PeerId, ConnectError> {
        self.now = self.now.max(now);
        let to = canonical(to);
        if self.config.plaintext && !to.ip().to_canonical().is_loopback() {
            return Err(ConnectError::PlaintextOffLoopback(to));
        }
        if !self.config.plaintext && self.config.suites.iter().all(|&suite| suite == Suite::Plaintext) {
            return Err(ConnectError::NoSuite);
        }
        if to.port() == 0 || to.ip().is_unspecified() {
            return Err(ConnectError::InvalidAddress(to));
        }
        if let Some(&old) = self.dialed.get(&to) {
            if self.peers.live(old).is_some() {
                return Err(ConnectError::AlreadyConnected(to));
            }
            // The old connection is closing: the rest of its closes are still sent, but late packets to it get no
            // answer.
            self.dialed.remove(&to);
        }
        if self.is_full() {
            return Err(ConnectError::Full { peers_max: self.config.peers_max });
        }
        let (ephemeral, config) = (SecretKey::from_bytes(self.random.bytes()), &self.config);
        let peer = self
            .peers
            .insert(|id| State::Live(Box::new(Connection::dial(id, to, now, config, ephemeral, expected))));
        self.dialed.insert(to, peer);
        self.known += 1;
        self.settle(now, peer.slot(), None);
        Ok(peer)
    }

    /// Queues one message, the concatenation of `parts`: all of it or nothing. It leaves with `poll_transmit`.
    ///
    /// # Errors
    /// See [`SendError`]. `WouldBlock` is followed by `Event::Writable`, and only for reliable channels: unreliable
    /// ones drop their oldest unsent messages instead.
    pub fn send(&mut self, peer: PeerId, channel: Channel, parts: &[&[u8]]) -> Result<(), SendError> {
        self.send_with(peer, channel, parts, SendOptions::default())
    }

    /// Queues one message with settings that differ from those of its channel.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_with(
        &mut self,
        peer: PeerId,
        channel: Channel,
        parts: &[&[u8]],
        options: SendOptions,
    ) -> Result<(), SendError> {
        let Some(connection) = self.peers.live(peer).filter(|connection| !connection.is_half_open()) else {
            return Err(if self.peers.was_issued(peer) {
                SendError::Closed
            } else {
                SendError::NotConnected
            });
        };
        let message = Message { channel, parts, options };
        connection.send(self.now, &self.config, &mut self.pool, message)?;
        self.make_ready(peer.slot());
        Ok(())
    }

    /// Takes back the buffer of an [`Event::Message`] that has been read, so that the next message needs no allocation.
    /// Any buffer will do. Without this call everything works as well, at the cost of an allocation for each message.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }

    /// Closes at once: what is queued is dropped, and the other side is told three times within a probe time-out.
    /// `reason` is cut to 200 bytes; codes from `0xff00` on are the transport's. Unknown and closed peers are ignored.
    /// `Event::Closed` with [`CloseReason::Local`] follows.
    pub fn close(&mut self, now: Micros, peer: PeerId, code: u16, reason: &str) {
        if self.is_known(peer) {
            let text = crate::packet::cut(reason).to_owned();
            self.settle(now, peer.slot(), Some(Ending::Tell { code, text, reason: CloseReason::Local }));
        }
    }

    /// Takes no more messages, and closes as soon as all reliable ones are acknowledged, or after two seconds.
    pub fn close_after_flush(&mut self, now: Micros, peer: PeerId, code: u16, reason: &str) {
        if !self.is_known(peer) {
            return;
        }
        let Some(connection) = self.peers.live(peer) else { return };
        let ending = connection.close_after_flush(now, code, reason);
        self.settle(now, peer.slot(), ending);
    }

    // ---- in ----

    /// Takes a datagram that came from `from`. It is decrypted in place: what `datagram` holds afterwards means
    /// nothing. A datagram over [`DATAGRAM_BYTES_MAX`] bytes is dropped unread.
    pub fn handle(&mut self, now: Micros, from: SocketAddr, datagram: &mut [u8]) {
        self.now = self.now.max(now);
        self.totals.datagrams_in += 1;
        let from = canonical(from);
        match datagram.first() {
            Some(_) if datagram.len() > DATAGRAM_BYTES_MAX => self.totals.unknown += 1,
            Some(first) if first & FLAG_HANDSHAKE != 0 => self.handle_handshake(now, from, datagram),
            Some(_) => self.handle_packet(now, from, datagram),
            None => self.totals.unknown += 1,
        }
    }

    /// Does what is due by `now`. Costs nothing for connections whose time has not come.
    pub fn handle_timeout(&mut self, now: Micros) {
        self.now = self.now.max(now);
        self.limiter.prune(now);
        for &peer in self.ready.iter() {
            let Some(entry) = self.peers.get_mut(peer) else { continue };
            // The queue is in the order of time. What just happened to a connection makes something due later, never
            // now; what happened before may have made something due, if nobody has asked for datagrams since.
            if entry.ready_since.is_none_or(|since| since >= now) {
                break;
            }
            entry.next = entry.deadline(&self.config);
            self.deadlines.want(peer.slot(), &mut entry.registered, entry.next);
        }
        let mut due = mem::take(&mut self.due);
        while let Some(slot) = self.deadlines.pop_due(now) {
            due.push(slot);
        }
        for slot in due.drain(..) {
            let Some(entry) = self.peers.at(slot) else { continue };
            entry.registered = None;
            if entry.next > now {
                // Most deadlines have moved since. Those of connections in the queue are set when they leave it.
                if entry.ready_since.is_none() {
                    self.deadlines.want(slot, &mut entry.registered, entry.next);
                }
                continue;
            }
            let ending = match &mut entry.state {
                State::Live(connection) => {
                    let mut cx = Context {
                        config: &self.config,
                        events: &mut self.events,
                        reassembly_total: &mut self.reassembly_total,
                        pool: &mut self.pool,
                    };
                    connection.on_timeout(now, &mut cx)
                }
                State::Closing(closing) => closing.on_timeout(now).then_some(Ending::Forget),
            };
            self.settle(now, slot, ending);
        }
        self.due = due;
        if self.pool.trim(now) {
            self.events.trim();
            self.ready.trim();
            self.tidy_begun();
            if self.begun.is_empty() {
                self.begun = VecDeque::new();
            }
            self.deadlines.trim();
            self.due.shrink_to(1024);
        }
    }

    // ---- out ----

    /// Clears `buf` and fills it with the next datagram to send, if there is one. Call until `None`.
    pub fn poll_transmit(&mut self, now: Micros, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.now = self.now.max(now);
        buf.clear();
        if let Some((to, answer)) = self.answers.pop_front() {
            buf.extend_from_slice(answer.as_bytes());
            self.totals.datagrams_out += 1;
            return Some(to);
        }
        while let Some(&peer) = self.ready.front() {
            let Some(entry) = self.peers.get_mut(peer) else {
                self.ready.pop();
                continue;
            };
            let (to, is_done) = match &mut entry.state {
                State::Live(connection) => {
                    let to = connection.transmit(now, buf, &mut self.pool);
                    (to, to.is_none() || connection.is_done(now))
                }
                State::Closing(closing) => (closing.transmit(buf).then_some(closing.addr), !closing.is_due),
            };
            if is_done {
                // Once for everything that has happened to it since it entered the queue.
                entry.next = entry.deadline(&self.config);
                self.deadlines.want(peer.slot(), &mut entry.registered, entry.next);
                entry.ready_since = None;
                self.ready.pop();
            }
            if to.is_some() {
                self.totals.datagrams_out += 1;
                return to;
            }
        }
        None
    }

    /// When to call `handle_timeout` next. May be too early, never too late. If nothing else happens at the time of a
    /// `handle_timeout`, the next time lies after it, even while a full socket keeps `poll_transmit` from being called:
    /// datagrams that are ready then wait for the socket and not for a timer. Costs nothing once `poll_transmit` has
    /// returned `None`; before that, a little for each peer that may have a datagram to send.
    pub fn poll_timeout(&self) -> Option<Micros> {
        let ready = self.ready.iter().filter_map(|&peer| self.peers.get(peer));
        ready.map(|entry| entry.deadline(&self.config)).chain(self.deadlines.first()).min()
    }

    /// The next event. Call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    // ---- handshake jobs ----

    /// The next key exchange to do. Call until `None`, after `handle`. Jobs may run on other threads and take as long
    /// as they like; hand what they make to [`finish_job`](Self::finish_job), in any order. At most `half_open_max`
    /// wait here.
    pub fn poll_job(&mut self) -> Option<HandshakeJob> {
        while let Some(job) = self.jobs.pop_front() {
            if self.peers.live(job.peer).is_some() {
                return Some(job);
            }
        }
        shrink(&mut self.jobs);
        None
    }

    /// Takes what a job has made: the Accept leaves with the next `poll_transmit`.
    pub fn finish_job(&mut self, now: Micros, done: HandshakeDone) {
        let HandshakeDone { peer, made } = done;
        let Some(connection) = self.peers.live(peer) else { return };
        let ending = match made {
            Some((keys, accept)) => {
                connection.answer(*keys, accept);
                None
            }
            None => Some(Ending::Forget),
        };
        self.settle(now, peer.slot(), ending);
    }

    /// Runs all waiting jobs on this thread: for tests, and where the thread has nothing better to do.
    pub fn run_jobs(&mut self, now: Micros) {
        while let Some(job) = self.poll_job() {
            self.finish_job(now, job.run());
        }
    }

    // ---- getters ----

    /// The key that clients of this endpoint should expect.
    pub fn public_key(&self) -> PublicKey {
        self.identity.public
    }

    /// Counters of a connection that is not closed.
    pub fn stats(&self, peer: PeerId) -> Option<Stats> {
        match &self.peers.get(peer)?.state {
            State::Live(connection) => Some(connection.stats()),
            State::Closing(_) => None,
        }
    }

    /// Bytes of messages that may be queued for a peer now and leave without waiting for the path: what fits into the
    /// congestion window and leaves, spread by the pacer, within 16 ms; minus what is queued already. Many small
    /// messages cost up to a twentieth more for their frames. Zero for unknown and closed peers. Sending more is safe,
    /// it merely waits: this is for applications that build messages as large as the path can take.
    pub fn send_budget(&self, now: Micros, peer: PeerId) -> usize {
        match self.peers.get(peer).map(|entry| &entry.state) {
            Some(State::Live(connection)) => connection.send_budget(now),
            _ => 0,
        }
    }

    /// Counters of the endpoint.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Connections that the application knows: those it began and those that were `Connected`, until `Closed`.
    pub fn peer_count(&self) -> usize {
        self.known
    }

    /// What an attacker has that is itself the client.
    #[cfg(test)]
    pub(crate) fn keys_of(&mut self, peer: PeerId) -> Option<(crate::keys::Keys, u32)> {
        let connection = self.peers.live(peer)?;
        Some((connection.keys()?.clone(), connection.wire_id))
    }

    fn is_known(&mut self, peer: PeerId) -> bool {
        self.peers.live(peer).is_some_and(|connection| !connection.is_half_open())
    }
}

/// The address without the flow label of IPv6, which may differ between packets of one sender.
fn canonical(mut addr: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut addr {
        v6.set_flowinfo(0);
    }
    addr
}
