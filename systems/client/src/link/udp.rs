//! A kaos-rudp endpoint with one peer on a socket of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use kaos_rudp::{Channel, CloseReason, Config, Endpoint, Event, Micros, PeerId, SendError, code};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;

use crate::clock;
use crate::core::Core;
use crate::error::End;

/// Longer than any datagram of the transport.
const DATAGRAM: usize = 2048;

pub(crate) struct UdpLink {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    peer: PeerId,
    open: bool,
    /// A datagram that the socket had no room for.
    unsent: Option<Vec<u8>>,
    buffer: Vec<u8>,
}

impl UdpLink {
    pub(super) fn dial(server: SocketAddr, now: Micros, timeout: Duration) -> Result<UdpLink, String> {
        let words = |error: io::Error| error.to_string();
        let local: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(local).map_err(words)?;
        // Connected: the kernel drops strangers' datagrams, and says when nobody listens.
        socket.connect(server).map_err(words)?;
        socket.set_nonblocking(true).map_err(words)?;
        let socket = UdpSocket::from_std(socket).map_err(words)?;
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| "the system has no randomness".to_owned())?;
        let config = Config { peers_max: 1, handshake_timeout: timeout, ..Config::default() };
        let mut endpoint = Endpoint::new(config, seed);
        let peer = endpoint.connect(now, server, None).map_err(|error| error.to_string())?;
        Ok(UdpLink {
            socket,
            server,
            endpoint,
            peer,
            open: false,
            unsent: None,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    pub(super) async fn ready(&mut self) {
        // An error here comes again in `pump`, which tells the core.
        if self.unsent.is_some() {
            let _ = self.socket.ready(tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE).await;
        } else {
            let _ = self.socket.readable().await;
        }
    }

    pub(super) fn timeout(&self) -> Option<Micros> {
        self.endpoint.poll_timeout()
    }

    pub(super) fn pump(&mut self, now: Micros, core: &mut Core) -> bool {
        if let Err(error) = self.read(now) {
            core.closed(now, &words(&error));
            return false;
        }
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Connected { .. } => {
                    self.open = true;
                    core.opened(now);
                }
                Event::Message { channel, bytes, .. } => {
                    core.receive(now, Some(wire(channel)), &Bytes::from(bytes));
                }
                Event::Writable { .. } | Event::Moved { .. } => {}
                Event::Closed { reason, .. } => {
                    match reason {
                        CloseReason::Refused { code: code::CLIENT_TOO_OLD, .. } => core.refused(End::new(
                            20,
                            "client_too_old",
                            "the client is too old for this server: update the client",
                        )),
                        CloseReason::Refused { code: code::SERVER_TOO_OLD, .. } => core.refused(End::new(
                            21,
                            "server_too_old",
                            "the server is too old for this client: update the server",
                        )),
                        other => core.closed(now, &other.to_string()),
                    }
                    return false;
                }
            }
        }
        true
    }

    fn read(&mut self, now: Micros) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM];
        loop {
            match self.socket.try_recv(&mut datagram) {
                Ok(length) => {
                    self.endpoint.handle(now, self.server, datagram.get_mut(..length).unwrap_or_default())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn flush(&mut self, now: Micros, core: &mut Core) {
        while self.open
            && let Some((channel, message)) = core.peek()
        {
            let channel = match channel {
                kaos_wire::Channel::Control => Channel::CONTROL,
                kaos_wire::Channel::Data => Channel::DATA,
                kaos_wire::Channel::Unreliable => Channel::UNRELIABLE,
            };
            match self.endpoint.send(self.peer, channel, &[message]) {
                // What can never be sent must not stand in the way; the core has refused it before.
                Ok(()) | Err(SendError::TooLarge { .. } | SendError::NoSuchChannel(_)) => core.advance(),
                Err(SendError::WouldBlock | SendError::Closed | SendError::NotConnected) => break,
            }
        }
        self.transmit(now);
    }

    fn transmit(&mut self, now: Micros) {
        loop {
            let datagram = match self.unsent.take() {
                Some(unsent) => unsent,
                None if self.endpoint.poll_transmit(now, &mut self.buffer).is_some() => {
                    std::mem::take(&mut self.buffer)
                }
                None => return,
            };
            match self.socket.try_send(&datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent = Some(datagram);
                    return;
                }
                // Other errors are of the path: the transport repeats what does not arrive.
                Ok(_) | Err(_) => self.buffer = datagram,
            }
        }
    }

    pub(super) async fn finish(mut self: Box<Self>) {
        let deadline = clock::now() + Duration::from_secs(2);
        self.endpoint.close_after_flush(clock::now(), self.peer, 0, "");
        loop {
            let now = clock::now();
            if self.read(now).is_err() || now >= deadline {
                return;
            }
            self.endpoint.handle_timeout(now);
            self.transmit(now);
            while let Some(event) = self.endpoint.poll_event() {
                if matches!(event, Event::Closed { .. }) {
                    // The close itself is on its way.
                    return self.transmit(clock::now());
                }
            }
            let next = self.endpoint.poll_timeout().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = self.ready() => {}
                () = tokio::time::sleep_until(clock::instant(next)) => {}
            }
        }
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    }
}

fn wire(channel: Channel) -> kaos_wire::Channel {
    match channel {
        Channel::CONTROL => kaos_wire::Channel::Control,
        Channel::DATA => kaos_wire::Channel::Data,
        _ => kaos_wire::Channel::Unreliable,
    }
}
