//! A kaos-rudp endpoint with one peer on a socket of its own.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use kaos_rudp::io::Options;
use kaos_rudp::io::tokio::{DialError, Driver};
use kaos_rudp::{Channel, CloseReason, Config, Event, Micros, PeerId, PublicKey, SendError, code};
use ring::rand::{SecureRandom, SystemRandom};

use super::Dialing;
use crate::clock;
use crate::core::Core;
use crate::error::End;
use crate::fault;

pub(crate) struct UdpLink {
    driver: Driver,
    server: SocketAddr,
    peer: PeerId,
    open: bool,
}

impl UdpLink {
    pub(super) fn dial(
        server: SocketAddr,
        key: Option<PublicKey>,
        now: Micros,
        dialing: &Dialing,
    ) -> Result<UdpLink, String> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| "the system has no randomness".to_owned())?;
        let config = Config { peers_max: 1, handshake_timeout: dialing.open_timeout, ..Config::default() };
        let dialled = Driver::dial(now, server, key, config, seed, &Options::client());
        let (mut driver, peer) = dialled.map_err(|error| match error {
            DialError::Io(error) => words(&error),
            DialError::Connect(error) => error.to_string(),
        })?;
        if let Some(emulation) = &dialing.emulation {
            driver.emulate(emulation.clone());
        }
        Ok(UdpLink { driver, server, peer, open: false })
    }

    pub(super) async fn ready(&mut self) {
        self.driver.ready().await;
    }

    pub(super) fn timeout(&self) -> Option<Micros> {
        self.driver.poll_timeout()
    }

    pub(super) fn pump(&mut self, now: Micros, core: &mut Core) -> bool {
        if let Err(error) = self.driver.receive(now) {
            core.closed(now, &words(&error));
            return false;
        }
        while let Some(event) = self.driver.endpoint.poll_event() {
            match event {
                Event::Connected { server_key, .. } => {
                    self.open = true;
                    if let Some(key) = server_key {
                        core.met(key);
                    }
                    core.opened(now);
                }
                Event::Message { channel, bytes, .. } => {
                    core.receive(now, Some(wire(channel)), &Bytes::from(bytes));
                }
                Event::Writable { .. } | Event::Moved { .. } => {}
                Event::Closed { reason, .. } => {
                    match reason {
                        CloseReason::Refused { code: code::CLIENT_TOO_OLD, .. } => core.refused(End::fault(
                            fault::CLIENT_TOO_OLD,
                            "the client is too old for this server: update the client",
                        )),
                        CloseReason::Refused { code: code::SERVER_TOO_OLD, .. } => core.refused(End::fault(
                            fault::SERVER_TOO_OLD,
                            "the server is too old for this client: update the server",
                        )),
                        CloseReason::WrongKey { expected, found } => {
                            core.refused(End::wrong_key(self.server, expected, found, core.server_key()));
                        }
                        other => core.closed(now, &other.to_string()),
                    }
                    return false;
                }
            }
        }
        true
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
            match self.driver.endpoint.send(self.peer, channel, &[message]) {
                // What can never be sent must not stand in the way; the core has refused it before.
                Ok(()) | Err(SendError::TooLarge { .. } | SendError::NoSuchChannel(_)) => core.advance(),
                Err(SendError::WouldBlock | SendError::Closed | SendError::NotConnected) => break,
            }
        }
        // What a full socket leaves is kept, and `ready` waits for room.
        let _kept = self.driver.transmit(now);
    }

    pub(super) async fn finish(self: Box<Self>) {
        self.driver.close(clock::now, self.peer, 0, "").await;
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
