//! Bare datagrams: what sockets cost before any protocol.

use std::net::SocketAddr;

use kaos_rudp::Micros;

use crate::stack::{Host, Stack};

/// Datagrams as they are; a single byte says hello.
pub(crate) struct Raw;

impl Stack for Raw {
    fn name(&self) -> String {
        "bare datagrams".into()
    }

    fn server(&self, _: Micros, _: SocketAddr, _: usize, _: u64) -> Box<dyn Host> {
        Box::<RawHost>::default()
    }

    fn client(&self, _: Micros, to: SocketAddr, _: usize, _: u64) -> Box<dyn Host> {
        let mut host = RawHost { peers: vec![to], ..RawHost::default() };
        host.push(to, &[1]);
        Box::new(host)
    }
}

#[derive(Default)]
struct RawHost {
    peers: Vec<SocketAddr>,
    received: Vec<u8>,
    received_ends: Vec<usize>,
    data: Vec<u8>,
    ends: Vec<(SocketAddr, usize)>,
}

impl RawHost {
    fn push(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push((to, self.data.len()));
    }
}

impl Host for RawHost {
    fn handle(&mut self, _: Micros, from: SocketAddr, bytes: &mut [u8]) {
        if bytes.len() == 1 {
            self.peers.push(from);
        } else {
            self.received.extend_from_slice(bytes);
            self.received_ends.push(self.received.len());
        }
    }

    fn tick(&mut self, _: Micros) {}

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        let mut start = 0;
        for end in self.received_ends.drain(..) {
            message(&self.received[start..end]);
            start = end;
        }
        self.received.clear();
    }

    fn send(&mut self, _: Micros, peer: usize, bytes: &[u8]) -> bool {
        self.push(self.peers[peer], bytes);
        true
    }

    fn transmit(&mut self, _: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        let mut start = 0;
        for (to, end) in self.ends.drain(..) {
            datagram(to, &self.data[start..end]);
            start = end;
        }
        self.data.clear();
    }

    fn connected(&self) -> usize {
        self.peers.len()
    }
}
