//! ENet, crate `rusty_enet` 0.4: channels, no encryption. Default settings.

use std::{cell::Cell, collections::VecDeque, convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use kaos_rudp::Micros;
use rusty_enet::{Event, Host as Enet, HostSettings, MTU_MAX, Packet, PacketReceived, PeerID, Socket};

use crate::stack::{Delivery, Host, Stack};

/// Most peers of a host: ENet's own limit.
const PEERS_MAX: usize = rusty_enet::consts::PROTOCOL_MAXIMUM_PEER_ID as usize;

/// ENet with a kind of packets.
pub(crate) struct EnetStack {
    pub(crate) delivery: Delivery,
}

impl EnetStack {
    fn host(&self, now: Micros, peers: usize, seed: u64) -> EnetHost {
        let clock = Rc::new(Cell::new(Duration::from_micros(now.0)));
        let time = clock.clone();
        let settings = HostSettings {
            peer_limit: peers.clamp(1, PEERS_MAX),
            channel_limit: 2,
            time: Box::new(move || time.get()),
            seed: Some(seed as u32),
            ..HostSettings::default()
        };
        let enet = match Enet::new(Mail::default(), settings) {
            Ok(enet) => enet,
            Err(error) => unreachable!("its settings are within its limits: {error}"),
        };
        EnetHost { enet, clock, delivery: self.delivery, peers: Vec::new(), arrived: VecDeque::new() }
    }
}

impl Stack for EnetStack {
    fn name(&self) -> String {
        match self.delivery {
            Delivery::Unreliable => "enet unreliable".into(),
            _ => "enet reliable".into(),
        }
    }

    fn server(&self, now: Micros, _: SocketAddr, peers: usize, seed: u64) -> Box<dyn Host> {
        Box::new(self.host(now, peers, seed))
    }

    fn client(&self, now: Micros, to: SocketAddr, index: usize, seed: u64) -> Box<dyn Host> {
        let mut host = self.host(now, 1, seed.wrapping_mul(31).wrapping_add(index as u64 + 1));
        let _ = host.enet.connect(to, 2, 0);
        Box::new(host)
    }
}

/// A socket made of two queues. Used buffers are kept, so that the harness allocates nothing.
#[derive(Default)]
struct Mail {
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Mail {
    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        copy
    }
}

impl Socket for Mail {
    type Address = SocketAddr;
    type Error = Infallible;

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<usize, Infallible> {
        let copy = self.copy(bytes);
        self.outbox.push_back((to, copy));
        Ok(bytes.len())
    }

    fn receive(
        &mut self,
        buffer: &mut [u8; MTU_MAX],
    ) -> Result<Option<(SocketAddr, PacketReceived)>, Infallible> {
        let Some((from, bytes)) = self.inbox.pop_front() else { return Ok(None) };
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.spare.push(bytes);
        Ok(Some((from, PacketReceived::Complete(length))))
    }
}

struct EnetHost {
    enet: Enet<Mail>,
    clock: Rc<Cell<Duration>>,
    delivery: Delivery,
    peers: Vec<PeerID>,
    arrived: VecDeque<Packet>,
}

impl Host for EnetHost {
    fn handle(&mut self, _: Micros, from: SocketAddr, bytes: &mut [u8]) {
        let mail = self.enet.socket_mut();
        let copy = mail.copy(bytes);
        mail.inbox.push_back((from, copy));
    }

    fn tick(&mut self, now: Micros) {
        self.clock.set(Duration::from_micros(now.0));
        while let Ok(Some(event)) = self.enet.service() {
            match event {
                Event::Connect { peer, .. } => self.peers.push(peer.id()),
                Event::Receive { packet, .. } => self.arrived.push_back(packet),
                Event::Disconnect { .. } => {}
            }
        }
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        for packet in self.arrived.drain(..) {
            message(packet.data());
        }
    }

    fn send(&mut self, now: Micros, peer: usize, bytes: &[u8]) -> bool {
        self.clock.set(Duration::from_micros(now.0));
        let packet = match self.delivery {
            Delivery::Unreliable => Packet::unreliable(bytes),
            Delivery::Ordered | Delivery::Unordered => Packet::reliable(bytes),
        };
        self.enet.peer_mut(self.peers[peer]).send(0, &packet).is_ok()
    }

    fn transmit(&mut self, now: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        self.clock.set(Duration::from_micros(now.0));
        self.enet.flush();
        let mail = self.enet.socket_mut();
        while let Some((to, bytes)) = mail.outbox.pop_front() {
            datagram(to, &bytes);
            mail.spare.push(bytes);
        }
    }

    fn connected(&self) -> usize {
        self.peers.len()
    }
}
