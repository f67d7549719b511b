//! The two backends of a socket, and what a kind of socket must offer for them.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::{
    Backend, Counters, Features, Flow, Intake, Options,
    inbox::Inbox,
    outbox::{Outbox, Sink},
};

/// A non-blocking socket, of the standard library or of a runtime.
pub(super) trait System {
    /// Whether it says only once that it can be read or written, and again only after an operation found that it
    /// cannot.
    const TELLS_ONCE: bool;

    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize>;
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;
    fn reading<R>(&self, read: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R>;
    fn writing<R>(&self, write: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R>;
}

impl System for UdpSocket {
    const TELLS_ONCE: bool = false;

    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buf)
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.send_to(bytes, to)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn reading<R>(&self, read: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        read(self.into())
    }

    fn writing<R>(&self, write: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        write(self.into())
    }
}

/// Everything about a socket except the socket itself.
pub(super) struct Engine {
    /// `None`: plain.
    state: Option<UdpSocketState>,
    segmented: bool,
    /// The only peer, if the system was told so.
    pub(super) connected: Option<SocketAddr>,
    /// Why it is not batched.
    pub(super) fallback: Option<String>,
    /// The segments of a send when `take_notice` last spoke.
    noticed: Option<usize>,
    inbox: Inbox,
    outbox: Outbox,
    pub(super) counters: Counters,
}

impl Engine {
    /// Changes the options of `socket`. If that fails, the socket should no longer be used.
    pub(super) fn new(socket: &UdpSocket, options: &Options) -> io::Result<Engine> {
        socket.set_nonblocking(true)?;
        let buffers = socket2::SockRef::from(socket);
        // A refusal only means smaller buffers.
        if let Some(bytes) = options.receive_buffer_bytes {
            let _ = buffers.set_recv_buffer_size(bytes);
        }
        if let Some(bytes) = options.send_buffer_bytes {
            let _ = buffers.set_send_buffer_size(bytes);
        }
        let (state, inbox, outbox) = match options.backend {
            Backend::Auto | Backend::Batched => {
                let state = UdpSocketState::new(socket.into())?;
                (Some(state), Inbox::batched(options.reads_max), Outbox::batched())
            }
            Backend::Plain => (None, Inbox::plain(), Outbox::default()),
        };
        Ok(Engine {
            state,
            segmented: options.segmented,
            connected: None,
            fallback: None,
            noticed: None,
            inbox,
            outbox,
            counters: Counters::default(),
        })
    }

    pub(super) fn receive<S: System>(
        &mut self,
        system: &S,
        max: usize,
        take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<Intake> {
        self.inbox.receive(system, self.state.as_ref(), max, &mut self.counters, take)
    }

    pub(super) fn transmit<S: System>(
        &mut self,
        system: &S,
        poll: impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>,
    ) -> Flow {
        let state = self.state.as_ref().filter(|_| self.segmented);
        let sink = Way { system, state, connected: self.connected };
        self.outbox.transmit(&sink, &mut self.counters, poll)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.outbox.is_waiting()
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.outbox.error.take()
    }

    pub(super) fn take_notice(&mut self) -> Option<String> {
        let segments = self.segments_out_max();
        if self.noticed.replace(segments) == Some(segments) {
            return None;
        }
        self.features().fallback
    }

    fn segments_out_max(&self) -> usize {
        self.state.as_ref().filter(|_| self.segmented).map_or(1, UdpSocketState::max_gso_segments)
    }

    pub(super) fn features(&self) -> Features {
        let Some(state) = &self.state else {
            return Features {
                backend: Backend::Plain,
                segments_out_max: 1,
                segments_in_max: 1,
                may_fragment: true,
                fallback: self.fallback.clone(),
            };
        };
        let segments_out_max = self.segments_out_max();
        let refused = self.outbox.refusal.as_ref().filter(|_| self.segmented && segments_out_max == 1);
        Features {
            backend: Backend::Batched,
            segments_out_max,
            segments_in_max: state.gro_segments(),
            may_fragment: state.may_fragment(),
            fallback: refused
                .map(|error| format!("a segmented send was refused ({error}): each datagram goes by itself")),
        }
    }
}

/// The way out.
struct Way<'a, S> {
    system: &'a S,
    state: Option<&'a UdpSocketState>,
    connected: Option<SocketAddr>,
}

impl<S: System> Sink for Way<'_, S> {
    fn segments_max(&self) -> usize {
        self.state.map_or(1, UdpSocketState::max_gso_segments)
    }

    fn send_segments(&self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
        let Some(state) = self.state else { return Err(io::ErrorKind::Unsupported.into()) };
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: Some(segment),
            src_ip: None,
        };
        self.system.writing(|socket| state.try_send(socket, &transmit))
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        // Without control messages this is the cheapest call for one datagram. Some systems take no address when the
        // socket is connected.
        match self.connected {
            Some(only) if only == to => self.system.send(bytes)?,
            _ => self.system.send_to(bytes, to)?,
        };
        Ok(())
    }
}
