//! A socket for a thread that polls.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use super::{Backend, Counters, Features, Flow, Intake, Options, backend::Engine};
use crate::{endpoint::Endpoint, timer::Micros};

/// A non-blocking UDP socket for one [`Endpoint`].
///
/// ```no_run
/// use kaos_rudp::{Config, Endpoint, Micros, io::{Options, Socket}};
///
/// # fn clock() -> Micros { Micros(0) }
/// let mut socket = Socket::bind("127.0.0.1:7352".parse().unwrap(), &Options::default())?;
/// let config = Config { mtu_max: socket.features().mtu_max(), ..Config::server() };
/// let mut endpoint = Endpoint::new(config, [1; 32]); // a seed from the operating system, in production
/// loop {
///     let now = clock(); // yours
///     socket.receive(2048, |from, datagram| endpoint.handle(now, from, datagram))?;
///     endpoint.run_jobs(now); // or poll_job, for another thread
///     endpoint.handle_timeout(now);
///     while let Some(event) = endpoint.poll_event() { /* … */ }
///     let _flow = socket.transmit(&mut endpoint, now);
///     // Sleep until endpoint.poll_timeout(), until the socket can be read, or written if the flow is blocked.
/// }
/// # #[allow(unreachable_code)] Ok::<(), std::io::Error>(())
/// ```
pub struct Socket {
    socket: UdpSocket,
    engine: Engine,
}

impl Socket {
    /// Opens a socket.
    ///
    /// With [`Backend::Auto`] a system that lacks what batches need gets a plain socket, and [`Features::fallback`] the
    /// reason.
    ///
    /// # Errors
    /// The system's: the address is taken, or not this machine's.
    pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Socket> {
        let socket = Socket::from_std(UdpSocket::bind(address)?, options).and_then(Socket::tried);
        match socket {
            Err(error) if options.backend == Backend::Auto => {
                // A half-prepared socket might join datagrams unasked, so the plain one has to be new.
                let plain = Options { backend: Backend::Plain, ..options.clone() };
                let mut socket = Socket::from_std(UdpSocket::bind(address)?, &plain)?;
                socket.engine.fallback = Some(format!("batches do not work here ({error})"));
                Ok(socket)
            }
            other => other,
        }
    }

    /// Takes over a socket that was opened elsewhere. [`Backend::Auto`] means `Batched` here: the options of a socket
    /// cannot be taken back, so falling back needs a new one.
    ///
    /// # Errors
    /// The system refused an option that the backend needs.
    pub fn from_std(socket: UdpSocket, options: &Options) -> io::Result<Socket> {
        let engine = Engine::new(&socket, options)?;
        Ok(Socket { socket, engine })
    }

    /// Some systems know the options but not the calls, which a first read shows by any error but "nothing there". A
    /// datagram that came meanwhile is lost.
    fn tried(mut self) -> io::Result<Socket> {
        self.receive(1, |_, _| {})?;
        Ok(self)
    }

    /// Tells the system that there is only this peer: it then drops what others send, and reports when nobody listens
    /// there.
    ///
    /// # Errors
    /// The system's: there is no route.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<()> {
        self.socket.connect(to)?;
        self.engine.connected = Some(to);
        Ok(())
    }

    /// Reads until the socket is empty or `max` datagrams have come, and gives each to `take`. The last read may exceed
    /// `max`, by at most 2,047 datagrams.
    ///
    /// # Errors
    /// The system's; datagrams that came before were given to `take`. A connected socket reports here that nobody
    /// listens at the other side. Some systems report such things on other sockets as well, and a server should go on.
    pub fn receive(&mut self, max: usize, take: impl FnMut(SocketAddr, &mut [u8])) -> io::Result<Intake> {
        self.engine.receive(&self.socket, max, take)
    }

    /// Sends what an earlier call had to leave behind, then everything that `endpoint` has to send now. Consecutive
    /// datagrams to the same peer leave together. A refused datagram counts as lost on the way; see the module.
    pub fn transmit(&mut self, endpoint: &mut Endpoint, now: Micros) -> Flow {
        self.transmit_with(|datagram| endpoint.poll_transmit(now, datagram))
    }

    /// The same for datagrams of any origin: `poll` clears its argument, fills it with the next one and says for whom,
    /// or says that there is none.
    pub fn transmit_with(&mut self, poll: impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>) -> Flow {
        self.engine.transmit(&self.socket, poll)
    }

    /// Whether datagrams wait until the socket can be written.
    pub fn is_blocked(&self) -> bool {
        self.engine.is_waiting()
    }

    /// The last error of sending since the last call: a refusal that was not because of length.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.engine.take_error()
    }

    /// A notice for the log: why the socket does less than was asked for. `None` until that changes again.
    pub fn take_notice(&mut self) -> Option<String> {
        self.engine.take_notice()
    }

    /// What it can do, as of now.
    pub fn features(&self) -> Features {
        self.engine.features()
    }

    /// What it did.
    pub fn counters(&self) -> Counters {
        self.engine.counters
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The socket alone; datagrams that wait are dropped.
    pub fn into_std(self) -> UdpSocket {
        self.socket
    }

    #[cfg(feature = "tokio")]
    pub(super) fn into_parts(self) -> (UdpSocket, Engine) {
        (self.socket, self.engine)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Socket {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.socket.as_socket()
    }
}
