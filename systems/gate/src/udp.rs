//! The UDP door: one socket and one rudp endpoint, pumped by the frame thread.

mod handshakes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::PeerId;
use kaos_kernel::input::{Door, Gone, Input};
use kaos_kernel::output::Channel as FrameChannel;
pub use kaos_rudp::io::Socket;
use kaos_rudp::io::{Flow, Options};
use kaos_rudp::{Channel, CloseReason, Config, Endpoint, Event, Micros, SecretKey, SendError};
use rustix::fd::{AsFd, BorrowedFd};

use crate::bridge::{Bridge, empty_message, weight};
use crate::identity::credentials::Credentials;
use crate::intake::InputBudget;
use crate::kaos::start::{Opening, farewell};
use crate::peers::{Slots, Transport};
use crate::stats::Stats;
use crate::udp::handshakes::Handshakes;

/// Datagrams that one pump reads. What is left waits in the socket for the next one, half a millisecond later.
const DATAGRAMS_MAX: usize = 2048;

/// What the operating system should buffer, in bytes; it may give less. A hundred players at 60 Hz fill it
/// in a third of a second.
const BUFFER_BYTES: usize = 4 << 20;

/// Why the UDP door does not open.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// The operating system refused.
    #[error("port {} (udp) cannot be opened on {}: {source}", address.port(), address.ip())]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Opens the socket of the UDP door.
///
/// # Errors
/// See [`UdpError`].
pub fn bind(address: SocketAddr) -> Result<Socket, UdpError> {
    let options = Options {
        receive_buffer_bytes: Some(BUFFER_BYTES),
        send_buffer_bytes: Some(BUFFER_BYTES),
        ..Options::default()
    };
    Socket::bind(address, &options).map_err(|source| UdpError::Bind { address, source })
}

/// A UDP door to be.
pub struct UdpSetup {
    /// From [`bind`].
    pub socket: Socket,
    /// Thirty-two bytes of the operating system's randomness, from [`random`](crate::random).
    pub seed: [u8; 32],
    /// Who the server is: clients that know the public half talk to nobody else.
    pub key: SecretKey,
    /// Connections at a time; further ones are refused.
    pub peers_max: u32,
    /// Silence after which a connection is gone, at least a second.
    pub idle: Duration,
}

struct UdpPeer {
    rudp: kaos_rudp::PeerId,
    peer: PeerId,
    started: bool,
}

/// Why a message was not taken.
pub(crate) enum SendRefused {
    /// No room now; `Writable` follows.
    Full,
    /// It can never be sent so, or the connection is gone.
    Never,
}

/// The door.
pub(crate) struct UdpDoor {
    socket: Socket,
    endpoint: Endpoint,
    handshakes: Handshakes,
    /// By the slot of the rudp peer.
    peers: Vec<Option<UdpPeer>>,
    stats: Arc<Stats>,
}

impl UdpDoor {
    pub(crate) fn new(setup: UdpSetup, bridge: &Arc<Bridge>, stats: Arc<Stats>) -> io::Result<Self> {
        let UdpSetup { socket, seed, key, peers_max, idle } = setup;
        let config = Config {
            peers_max: peers_max as usize,
            secret_key: Some(key),
            // The session's own time-out decides; the transport's only follows it.
            idle_timeout: idle.max(Duration::from_secs(1)),
            mtu_max: socket.features().mtu_max(),
            ..Config::server()
        };
        let endpoint = Endpoint::new(config, seed);
        let handshakes = Handshakes::start(bridge.clone())?;
        Ok(UdpDoor { socket, endpoint, handshakes, peers: Vec::new(), stats })
    }

    /// What to wait for: the socket, and whether also for room in it.
    pub(crate) fn fd(&self) -> (BorrowedFd<'_>, bool) {
        (self.socket.as_fd(), self.socket.is_blocked())
    }

    pub(crate) fn time_out(&self) -> Option<Micros> {
        self.endpoint.poll_timeout()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.endpoint.peer_count() == 0
    }

    /// Reads the socket and does what is due. Returns whether there may be more to read.
    pub(crate) fn receive(&mut self, now: Micros) -> bool {
        let UdpDoor { socket, endpoint, .. } = self;
        let take = |from, datagram: &mut [u8]| endpoint.handle(now, from, datagram);
        let more = match socket.receive(DATAGRAMS_MAX, take) {
            Ok(intake) => intake.more,
            // Some systems report here what happened to datagrams that were sent: nothing to do with us, and more
            // may lie behind it.
            Err(_) => true,
        };
        self.handshakes.pump(now, &mut self.endpoint);
        self.endpoint.handle_timeout(now);
        more
    }

    /// Turns what happened into inputs. Returns whether something was left for the next frame.
    pub(crate) fn take(
        &mut self,
        now: Micros,
        slots: &mut Slots,
        credentials: &Credentials,
        budget: &mut InputBudget<'_>,
    ) -> bool {
        while budget.room() {
            match self.endpoint.poll_event() {
                Some(event) => self.event(now, event, slots, credentials, budget),
                None => return false,
            }
        }
        true
    }

    fn event(
        &mut self,
        now: Micros,
        event: Event,
        slots: &mut Slots,
        credentials: &Credentials,
        budget: &mut InputBudget<'_>,
    ) {
        match event {
            Event::Connected { peer: rudp, addr, .. } => match slots.open(Transport::Udp(rudp)) {
                Some(peer) => {
                    self.enter(UdpPeer { rudp, peer, started: false });
                    budget.push(Input::Open { peer, door: Door::Udp, address: addr.ip().to_canonical() });
                }
                None => {
                    let fault = Fault::new(FaultKind::Busy, "the server has no room for another connection");
                    self.refuse(now, rudp, &fault.retry_in_ms(5000));
                }
            },
            Event::Message { peer: rudp, channel, bytes: buffer } => {
                // The frame keeps the message for a while; the transport gets its buffer back at once.
                let bytes = Bytes::copy_from_slice(&buffer);
                self.endpoint.recycle(buffer);
                let Some(known) = self.known(rudp) else { return };
                let (peer, started) = (known.peer, known.started);
                self.stats.door(Door::Udp).came(bytes.len());
                if started {
                    budget.weight += weight(&bytes);
                    let empty = bytes.is_empty();
                    budget.push(Input::Data { peer, bytes });
                    if empty {
                        // The frame ends the session for it; nothing more is read of the connection.
                        self.close_for(now, rudp, &empty_message());
                        self.forget(rudp);
                        slots.close(peer);
                        budget.push(Input::Gone { peer, reason: Gone::Protocol });
                    }
                    return;
                }
                let opening = if channel == Channel::CONTROL {
                    Opening::read(&bytes, credentials)
                } else {
                    Err(Fault::new(
                        FaultKind::Protocol,
                        "the first message of a connection has to be a SessionStart on channel 0",
                    ))
                };
                match opening {
                    Ok(opening) => {
                        if let Some(known) = self.known(rudp) {
                            known.started = true;
                        }
                        opening.inputs(peer).for_each(|input| budget.push(input));
                    }
                    Err(fault) => {
                        self.refuse(now, rudp, &fault);
                        self.forget(rudp);
                        slots.close(peer);
                        budget.push(Input::Gone { peer, reason: Gone::Local });
                    }
                }
            }
            // The session goes on; its address is told once, when it begins.
            Event::Moved { .. } => {}
            Event::Writable { peer: rudp } => {
                if let Some(known) = self.known(rudp) {
                    budget.push(Input::Writable { peer: known.peer });
                }
            }
            Event::Closed { peer: rudp, reason } => {
                let Some(peer) = self.forget(rudp) else { return };
                slots.close(peer);
                budget.push(Input::Gone { peer, reason: gone(&reason) });
            }
        }
    }

    fn refuse(&mut self, now: Micros, rudp: kaos_rudp::PeerId, fault: &Fault) {
        self.stats.starts_refused.fetch_add(1, Ordering::Relaxed);
        self.close_for(now, rudp, fault);
    }

    /// Closes a connection with a last word. Where there is no room for it, the close says as much.
    fn close_for(&mut self, now: Micros, rudp: kaos_rudp::PeerId, fault: &Fault) {
        let _ = self.endpoint.send(rudp, Channel::CONTROL, &[&farewell(fault)]);
        self.endpoint.close_after_flush(now, rudp, fault.kind.code(), fault.kind.word());
    }

    /// ThreadCounts a message to the transport.
    pub(crate) fn send(
        &mut self,
        rudp: kaos_rudp::PeerId,
        channel: FrameChannel,
        parts: &[&[u8]],
    ) -> Result<(), SendRefused> {
        let channel = match channel {
            FrameChannel::Control => Channel::CONTROL,
            FrameChannel::Data => Channel::DATA,
            FrameChannel::Unreliable => Channel::UNRELIABLE,
        };
        match self.endpoint.send(rudp, channel, parts) {
            Ok(()) => {
                self.stats.door(Door::Udp).went(parts.iter().map(|part| part.len()).sum());
                Ok(())
            }
            Err(SendError::WouldBlock) => Err(SendRefused::Full),
            // No message is over the transport's bounds: see the assertion on them in `codec`.
            Err(
                SendError::TooLarge { .. }
                | SendError::NoSuchChannel(_)
                | SendError::Closed
                | SendError::NotConnected,
            ) => Err(SendRefused::Never),
        }
    }

    /// Closes a peer after its messages.
    pub(crate) fn close(&mut self, now: Micros, rudp: kaos_rudp::PeerId, code: u16, reason: &str) {
        self.forget(rudp);
        self.endpoint.close_after_flush(now, rudp, code, reason);
    }

    /// Sends what there is to send. A full socket is waited for by `fd`; what it refuses counts as lost on the way,
    /// and the transport repeats what has to arrive.
    pub(crate) fn transmit(&mut self, now: Micros) {
        if self.socket.transmit(&mut self.endpoint, now) == Flow::Drained
            && let Some(notice) = self.socket.take_notice()
        {
            tracing::warn!("the UDP door works, but slower than it could: {notice}");
        }
        let counters = self.socket.counters();
        self.stats.datagrams_unsent.store(counters.too_long + counters.refused, Ordering::Relaxed);
    }

    fn enter(&mut self, peer: UdpPeer) {
        let at = peer.rudp.slot() as usize;
        if self.peers.len() <= at {
            self.peers.resize_with(at + 1, || None);
        }
        if let Some(row) = self.peers.get_mut(at) {
            *row = Some(peer);
        }
    }

    fn known(&mut self, rudp: kaos_rudp::PeerId) -> Option<&mut UdpPeer> {
        self.peers.get_mut(rudp.slot() as usize)?.as_mut().filter(|known| known.rudp == rudp)
    }

    fn forget(&mut self, rudp: kaos_rudp::PeerId) -> Option<PeerId> {
        let peer = self.known(rudp)?.peer;
        if let Some(row) = self.peers.get_mut(rudp.slot() as usize) {
            *row = None;
        }
        while self.peers.last().is_some_and(Option::is_none) {
            self.peers.pop();
        }
        if self.peers.len() * 4 < self.peers.capacity() {
            self.peers.shrink_to(self.peers.len() * 2);
        }
        Some(peer)
    }
}

fn gone(reason: &CloseReason) -> Gone {
    match reason {
        CloseReason::Local => Gone::Local,
        CloseReason::Remote { .. } | CloseReason::Refused { .. } => Gone::Closed,
        CloseReason::TimedOut => Gone::TimedOut,
        CloseReason::Protocol(_) | CloseReason::WrongKey { .. } | CloseReason::KeysWorn => Gone::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SessionStart of somebody without a token.
    fn session_start() -> Vec<u8> {
        let credentials = Some(kaos_wire::v1::session_start::Credentials::Anonymous("ada".into()));
        let start = kaos_wire::v1::SessionStart {
            protocol_min: 1,
            protocol_max: 1,
            credentials,
            ..Default::default()
        };
        let mut bytes = Vec::new();
        kaos_wire::encode(kaos_wire::Opcode::SessionStart, &start, &mut bytes).expect("short");
        bytes
    }

    #[test]
    fn an_empty_message_is_the_last_that_is_taken_of_a_connection() {
        let bridge = Arc::new(Bridge::new().expect("a descriptor"));
        let stats = Arc::new(Stats::default());
        let home = SocketAddr::from(([127, 0, 0, 1], 1));
        let setup = UdpSetup {
            socket: bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port"),
            seed: [1; 32],
            key: SecretKey::from_bytes([7; 32]),
            peers_max: 8,
            idle: Duration::from_secs(10),
        };
        let mut door = UdpDoor::new(setup, &bridge, stats.clone()).expect("a thread");
        let (mut slots, credentials) = (Slots::new(8, stats), Credentials::new(b"", true));
        let mut client = Endpoint::new(Config::default(), [2; 32]);
        let to =
            client.connect(Micros(0), home, Some(SecretKey::from_bytes([7; 32]).public())).expect("possible");
        let mut inputs = Vec::new();
        let mut buffer = vec![0; 2048];
        // One round of the network, in memory; both ends think that the other is at `home`.
        let mut round = |door: &mut UdpDoor, client: &mut Endpoint, inputs: &mut Vec<Input>, ms: u64| {
            let now = Micros(ms * 1000);
            client.handle_timeout(now);
            while client.poll_transmit(now, &mut buffer).is_some() {
                door.endpoint.handle(now, home, &mut buffer);
            }
            door.handshakes.pump(now, &mut door.endpoint);
            door.endpoint.handle_timeout(now);
            let mut budget = InputBudget::new(inputs);
            door.take(now, &mut slots, &credentials, &mut budget);
            while door.endpoint.poll_transmit(now, &mut buffer).is_some() {
                client.handle(now, home, &mut buffer);
            }
        };
        let mut ms = 0;
        let mut connected = false;
        while !connected {
            ms += 1;
            round(&mut door, &mut client, &mut inputs, ms);
            while let Some(event) = client.poll_event() {
                connected |= matches!(event, Event::Connected { .. });
            }
            if !connected && door.endpoint.totals().jobs > 0 {
                bridge.wait(None, Some(Duration::from_secs(20)), false);
            }
        }
        client.send(to, Channel::CONTROL, &[&session_start()]).expect("room");
        for _ in 0..100 {
            client.send(to, Channel::CONTROL, &[]).expect("room");
        }
        inputs.clear();
        for _ in 0..100 {
            ms += 10;
            round(&mut door, &mut client, &mut inputs, ms);
        }
        let [
            Input::Open { peer, .. },
            Input::Start { .. },
            Input::Data { bytes, .. },
            Input::Gone { reason: Gone::Protocol, .. },
        ] = &inputs[..]
        else {
            panic!("{inputs:?}")
        };
        assert!(bytes.is_empty() && slots.close(*peer).is_none());
    }
}
