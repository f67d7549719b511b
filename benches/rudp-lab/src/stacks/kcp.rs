//! KCP, crate `kcp` 0.6: one reliable ordered stream per connection, no handshake, no encryption.
//!
//! A connection is its number `conv` and exists with its first datagram. It is flushed at its own interval and whenever
//! something was sent or received, which gives the lowest latency that its interface allows.

use std::{cell::RefCell, collections::BTreeMap, io, net::SocketAddr, rc::Rc};

use kaos_rudp::Micros;
use kcp::Kcp;

use crate::stack::{Host, Stack};

/// KCP with settings.
#[derive(Clone, Copy)]
pub(crate) struct KcpStack {
    pub(crate) label: &'static str,
    pub(crate) nodelay: bool,
    pub(crate) interval_ms: i32,
    pub(crate) resend: i32,
    /// No congestion window.
    pub(crate) nc: bool,
    pub(crate) minrto_ms: Option<u32>,
    /// Packets, both ways.
    pub(crate) window: u16,
}

impl KcpStack {
    /// The defaults: congestion window on, 100 ms interval.
    pub(crate) const CC: KcpStack = KcpStack {
        label: "default (congestion window on)",
        nodelay: false,
        interval_ms: 100,
        resend: 0,
        nc: false,
        minrto_ms: None,
        window: 128,
    };
    /// The settings that its README recommends for games.
    pub(crate) const TURBO: KcpStack = KcpStack {
        label: "turbo (nodelay 1,10,2,1)",
        nodelay: true,
        interval_ms: 10,
        resend: 2,
        nc: true,
        minrto_ms: None,
        window: 1024,
    };
    /// The fastest repair that it can do.
    pub(crate) const EXTREME: KcpStack = KcpStack {
        label: "extreme (nodelay 1,10,1,1, minrto 10)",
        resend: 1,
        minrto_ms: Some(10),
        ..KcpStack::TURBO
    };

    fn connection(&self, conv: u32, to: SocketAddr) -> Connection {
        let out = Out::default();
        let mut kcp = Kcp::new(conv, out.clone());
        kcp.set_nodelay(self.nodelay, self.interval_ms, self.resend, self.nc);
        kcp.set_wndsize(self.window, self.window);
        if let Some(minrto) = self.minrto_ms {
            kcp.set_rx_minrto(minrto);
        }
        Connection { kcp, out, to, is_dirty: false, is_updated: false }
    }

    fn host(self, side: Side) -> KcpHost {
        KcpHost {
            settings: self,
            side,
            connections: Vec::new(),
            by_conv: BTreeMap::new(),
            buf: vec![0; 65_536],
        }
    }
}

impl Stack for KcpStack {
    fn name(&self) -> String {
        format!("kcp {}", self.label)
    }

    fn server(&self, _: Micros, _: SocketAddr, _: usize, _: u64) -> Box<dyn Host> {
        Box::new(self.host(Side::Server))
    }

    fn client(&self, _: Micros, to: SocketAddr, index: usize, _: u64) -> Box<dyn Host> {
        let mut host = self.host(Side::Client);
        let conv = index as u32 + 1;
        host.connections.push(self.connection(conv, to));
        host.by_conv.insert(conv, 0);
        // So that the server learns of the connection: there is no handshake.
        host.send(Micros(0), 0, &[]);
        Box::new(host)
    }
}

/// Datagrams that wait, one after the other in one buffer.
#[derive(Clone, Default)]
struct Out(Rc<RefCell<(Vec<u8>, Vec<usize>)>>);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (data, ends) = &mut *self.0.borrow_mut();
        data.extend_from_slice(bytes);
        ends.push(data.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Connection {
    kcp: Kcp<Out>,
    out: Out,
    to: SocketAddr,
    is_dirty: bool,
    is_updated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

struct KcpHost {
    settings: KcpStack,
    side: Side,
    connections: Vec<Connection>,
    by_conv: BTreeMap<u32, usize>,
    buf: Vec<u8>,
}

impl Host for KcpHost {
    fn handle(&mut self, _: Micros, from: SocketAddr, bytes: &mut [u8]) {
        if bytes.len() < 24 {
            return;
        }
        let conv = kcp::get_conv(bytes);
        let index = match self.by_conv.get(&conv) {
            Some(&index) => index,
            None if self.side == Side::Server => {
                self.connections.push(self.settings.connection(conv, from));
                self.by_conv.insert(conv, self.connections.len() - 1);
                self.connections.len() - 1
            }
            None => return,
        };
        let connection = &mut self.connections[index];
        if self.side == Side::Server {
            connection.to = from;
        }
        let _ = connection.kcp.input(bytes);
        connection.is_dirty = true;
    }

    fn tick(&mut self, now: Micros) {
        for connection in &mut self.connections {
            let _ = connection.kcp.update((now.0 / 1000) as u32);
            connection.is_updated = true;
        }
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        for connection in &mut self.connections {
            while let Ok(length) = connection.kcp.recv(&mut self.buf) {
                if length > 0 {
                    message(&self.buf[..length]);
                }
                // It has to report the room in its window.
                connection.is_dirty = true;
            }
        }
    }

    fn send(&mut self, _: Micros, peer: usize, bytes: &[u8]) -> bool {
        let connection = &mut self.connections[peer];
        let has_room = connection.kcp.wait_snd() < 2 * usize::from(self.settings.window);
        if has_room {
            let _ = connection.kcp.send(bytes);
            connection.is_dirty = true;
        }
        has_room
    }

    fn transmit(&mut self, _: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        for connection in &mut self.connections {
            if connection.is_dirty && connection.is_updated {
                connection.is_dirty = false;
                let _ = connection.kcp.flush();
            }
            let (data, ends) = &mut *connection.out.0.borrow_mut();
            let mut start = 0;
            for end in ends.drain(..) {
                datagram(connection.to, &data[start..end]);
                start = end;
            }
            data.clear();
        }
    }

    fn connected(&self) -> usize {
        self.connections.len()
    }
}
