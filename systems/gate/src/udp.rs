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

use crate::bridge::Bridge;
use crate::identity::credentials::Credentials;
use crate::intake::InputBudget;
use crate::kaos::handshake::{Handshake, Received};
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
    handshake: Handshake,
}

/// What the frame thread lends the door while it turns events into inputs.
struct Intake<'a, 'inputs> {
    now: Micros,
    slots: &'a mut Slots,
    credentials: &'a Credentials,
    budget: &'a mut InputBudget<'inputs>,
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
    pub(crate) fn drain_events(
        &mut self,
        now: Micros,
        slots: &mut Slots,
        credentials: &Credentials,
        budget: &mut InputBudget<'_>,
    ) -> bool {
        let mut intake = Intake { now, slots, credentials, budget };
        while intake.budget.room() {
            match self.endpoint.poll_event() {
                Some(event) => self.event(event, &mut intake),
                None => return false,
            }
        }
        true
    }

    fn event(&mut self, event: Event, intake: &mut Intake<'_, '_>) {
        match event {
            Event::Connected { peer, addr, .. } => self.connected(peer, addr, intake),
            Event::Message { peer, channel, bytes } => self.message(peer, channel, bytes, intake),
            // The session goes on; its address is told once, when it begins.
            Event::Moved { .. } => {}
            Event::Writable { peer: rudp } => {
                if let Some(known) = self.known(rudp) {
                    intake.budget.push(Input::Writable { peer: known.peer });
                }
            }
            Event::Closed { peer, reason } => self.drop_peer(peer, gone(&reason), intake),
        }
    }

    fn connected(&mut self, rudp: kaos_rudp::PeerId, addr: SocketAddr, intake: &mut Intake<'_, '_>) {
        match intake.slots.open(Transport::Udp(rudp)) {
            Some(peer) => {
                self.enter(UdpPeer { rudp, peer, handshake: Handshake::default() });
                let address = addr.ip().to_canonical();
                intake.budget.push(Input::Open { peer, door: Door::Udp, address });
            }
            None => {
                let fault = Fault::new(FaultKind::Busy, "the server has no room for another connection");
                self.refuse(intake.now, rudp, &fault.retry_in_ms(5000));
            }
        }
    }

    /// Does what a message asks for.
    ///
    /// The frame hears of a message before it hears that the connection is gone, so that an empty message still ends its
    /// session. The connection is told why before it is forgotten: nothing can be sent to it after that.
    fn message(
        &mut self,
        rudp: kaos_rudp::PeerId,
        channel: Channel,
        buffer: Vec<u8>,
        intake: &mut Intake<'_, '_>,
    ) {
        // The frame keeps the message for a while; the transport gets its buffer back at once.
        let bytes = Bytes::copy_from_slice(&buffer);
        self.endpoint.recycle(buffer);
        let Some(known) = self.known(rudp) else { return };
        let (peer, len) = (known.peer, bytes.len());
        let received = known.handshake.receive(bytes, |first| read_start(channel, first, intake.credentials));
        self.stats.door(Door::Udp).came(len);
        match received {
            Received::Start(opening) => opening.inputs(peer).for_each(|input| intake.budget.push(input)),
            Received::Data(bytes) => intake.budget.push_data(peer, bytes),
            Received::Empty(bytes, fault) => {
                intake.budget.push_data(peer, bytes);
                self.close_for(intake.now, rudp, &fault);
                self.drop_peer(rudp, Gone::Protocol, intake);
            }
            Received::Refused(fault) => {
                self.refuse(intake.now, rudp, &fault);
                self.drop_peer(rudp, Gone::Local, intake);
            }
        }
    }

    /// Forgets a peer and tells the frame, unless it is forgotten already.
    fn drop_peer(&mut self, rudp: kaos_rudp::PeerId, reason: Gone, intake: &mut Intake<'_, '_>) {
        let Some(peer) = self.forget(rudp) else { return };
        intake.slots.close(peer);
        intake.budget.push(Input::Gone { peer, reason });
    }

    fn refuse(&mut self, now: Micros, rudp: kaos_rudp::PeerId, fault: &Fault) {
        self.stats.starts_refused.fetch_add(1, Ordering::Relaxed);
        self.close_for(now, rudp, fault);
    }

    /// Closes a connection with a last word. Where there is no room for it, the close says as much.
    fn close_for(&mut self, now: Micros, rudp: kaos_rudp::PeerId, fault: &Fault) {
        let _ = self.endpoint.send(rudp, Channel::CONTROL, &[&farewell(fault)]);
        self.endpoint.close_after_flush(now, rudp, fault.kind.code(), fault.kind.name());
    }

    /// Hands a message to the transport.
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

/// Reads the first message of a connection.
fn read_start(channel: Channel, first: &Bytes, credentials: &Credentials) -> Result<Opening, Fault> {
    if channel != Channel::CONTROL {
        return Err(Fault::new(
            FaultKind::Protocol,
            "the first message of a connection has to be a SessionStart on channel 0",
        ));
    }
    Opening::read(first, credentials, crate::random)
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
mod tests;
