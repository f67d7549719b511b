//! A client, a server and the network between them, in virtual time.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{
    Micros,
    lab::{HEADER_BYTES, Link, Network},
};

use crate::stack::{Host, Stack};

/// The finest step of time.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// Datagrams of one direction.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Flow {
    pub(crate) datagrams: u64,
    /// UDP payload.
    pub(crate) bytes: u64,
}

impl Flow {
    /// With IP and UDP headers.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.bytes + HEADER_BYTES * self.datagrams
    }
}

impl std::ops::Sub for Flow {
    type Output = Flow;

    fn sub(self, before: Flow) -> Flow {
        Flow { datagrams: self.datagrams - before.datagrams, bytes: self.bytes - before.bytes }
    }
}

/// Two hosts of one stack.
pub(crate) struct Pipe {
    pub(crate) now: Micros,
    pub(crate) network: Network,
    pub(crate) client: Box<dyn Host>,
    pub(crate) server: Box<dyn Host>,
    pub(crate) client_addr: SocketAddr,
    pub(crate) server_addr: SocketAddr,
    /// Client to server.
    pub(crate) up: Flow,
    /// Server to client.
    pub(crate) down: Flow,
    poll: Duration,
    next_poll: Micros,
}

impl Pipe {
    /// Two hosts that were connected half a second ago over a clean link with a round trip of 50 ms; `None` if that
    /// fails.
    ///
    /// `poll` overrides how often the stack is polled.
    pub(crate) fn connected(stack: &dyn Stack, poll: Option<Duration>, seed: u64) -> Option<Pipe> {
        let now = Micros::from_millis(1_000);
        let server_addr = SocketAddr::from(([10, 0, 0, 1], 7352));
        let client_addr = SocketAddr::from(([10, 0, 0, 2], 50_000));
        let mut pipe = Pipe {
            now,
            network: Network::new(seed, Link::default()),
            client: stack.client(now, server_addr, 0, seed),
            server: stack.server(now, server_addr, 4, seed),
            client_addr,
            server_addr,
            up: Flow::default(),
            down: Flow::default(),
            poll: poll.unwrap_or(stack.poll()),
            next_poll: now,
        };
        let mut connected_at = None;
        for _ in 0..10_000 {
            pipe.step();
            pipe.receive(&mut |_| {}, &mut |_| {});
            pipe.transmit();
            if pipe.client.connected() > 0 && pipe.server.connected() > 0 {
                let at = *connected_at.get_or_insert(pipe.now);
                if pipe.now >= at + Duration::from_millis(500) {
                    return Some(pipe);
                }
            }
        }
        None
    }

    /// A step of time. If the hosts are polled now, they get all datagrams that are there, then their timers run.
    pub(crate) fn step(&mut self) {
        self.now += STEP;
        if self.is_polled() {
            while let Some(mut datagram) = self.network.deliver(self.now) {
                let host = match datagram.to {
                    to if to == self.server_addr => &mut self.server,
                    to if to == self.client_addr => &mut self.client,
                    _ => continue,
                };
                host.handle(self.now, datagram.from, &mut datagram.bytes);
            }
            self.client.tick(self.now);
            self.server.tick(self.now);
        }
    }

    /// When the hosts are polled next.
    pub(crate) fn next_poll(&self) -> Micros {
        self.next_poll
    }

    fn is_polled(&self) -> bool {
        self.now >= self.next_poll
    }

    /// What has arrived at the client and at the server, if they are polled now.
    pub(crate) fn receive(&mut self, client: &mut dyn FnMut(&[u8]), server: &mut dyn FnMut(&[u8])) {
        if self.is_polled() {
            self.client.receive(client);
            self.server.receive(server);
        }
    }

    /// Ends the step: both sides send, if they are polled now.
    pub(crate) fn transmit(&mut self) {
        if !self.is_polled() {
            return;
        }
        while self.next_poll <= self.now {
            self.next_poll += self.poll;
        }
        let (now, network) = (self.now, &mut self.network);
        for (host, from, flow) in [
            (&mut self.client, self.client_addr, &mut self.up),
            (&mut self.server, self.server_addr, &mut self.down),
        ] {
            host.transmit(now, &mut |to, bytes| {
                flow.datagrams += 1;
                flow.bytes += bytes.len() as u64;
                network.send(now, from, to, bytes);
            });
        }
    }
}
