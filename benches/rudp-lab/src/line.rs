//! A real socket on loopback: as the standard library has it, or through `kaos_rudp::io`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use kaos_rudp::{
    Micros,
    io::{Backend, Options, Socket},
};

use crate::stack::{Host, Stack};

/// A socket that does not block.
pub(crate) enum Line {
    /// `recv_from` and `send_to`, one datagram each.
    Plain(UdpSocket, Vec<u8>),
    /// `recvmmsg`, GRO and GSO.
    Batched(Box<Socket>),
}

impl Line {
    /// Whichever of the two the stack wants, on a free port.
    pub(crate) fn of(stack: &dyn Stack, options: &Options) -> io::Result<Line> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if stack.is_batched() {
            let options = Options { backend: Backend::Batched, ..options.clone() };
            return Ok(Line::Batched(Box::new(Socket::bind(addr, &options)?)));
        }
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        Ok(Line::Plain(socket, vec![0; 2048]))
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        match self {
            Line::Plain(socket, _) => socket.local_addr(),
            Line::Batched(socket) => socket.local_addr(),
        }
    }

    /// Gives the host what the socket has, up to about `max` datagrams. Returns how many there were.
    pub(crate) fn drain(&mut self, host: &mut dyn Host, now: Micros, max: usize) -> usize {
        match self {
            Line::Plain(socket, buf) => {
                let mut moved = 0;
                while moved < max
                    && let Ok((length, from)) = socket.recv_from(buf)
                {
                    host.handle(now, from, &mut buf[..length]);
                    moved += 1;
                }
                moved
            }
            Line::Batched(socket) => {
                let intake = socket.receive(max, |from, bytes| host.handle(now, from, bytes));
                intake.map_or(0, |intake| intake.datagrams)
            }
        }
    }

    /// Sends what the host has to send. On a plain socket a full buffer is a loss; a batched one keeps what did not
    /// leave.
    pub(crate) fn flush(&mut self, host: &mut dyn Host, now: Micros) -> usize {
        let mut moved = 0;
        match self {
            Line::Plain(socket, _) => host.transmit(now, &mut |to, bytes| {
                let _ = socket.send_to(bytes, to);
                moved += 1;
            }),
            Line::Batched(socket) => {
                let _ = socket.transmit_with(|buf| {
                    let to = host.next_datagram(now, buf);
                    moved += usize::from(to.is_some());
                    to
                });
            }
        }
        moved
    }
}
