//! An endpoint on a tokio socket: for clients, and for servers that are not in a hurry. Feature `tokio`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn_udp::UdpSockRef;
use tokio::{io::Interest, net::UdpSocket, time::sleep};

use super::{
    Counters, Features, Flow, Options, Socket,
    backend::{Engine, System},
};
use crate::{
    config::Config,
    endpoint::Endpoint,
    error::ConnectError,
    events::Event,
    identity::PublicKey,
    lab::{Emulation, Emulator},
    peer_id::PeerId,
    timer::Micros,
};

/// Datagrams that one [`Driver::receive`] takes before timers and the application have a turn.
const DATAGRAMS_MAX: usize = 2048;

/// How long [`Driver::close`] goes on, at most.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// How long it sleeps when nothing is due. Any time will do.
const IDLE: Duration = Duration::from_secs(3600);

impl System for UdpSocket {
    const TELLS_ONCE: bool = true;

    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.try_recv_from(buf)
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.try_send_to(bytes, to)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_send(bytes)
    }

    fn reading<R>(&self, read: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::READABLE, || read(self.into()))
    }

    fn writing<R>(&self, write: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::WRITABLE, || write(self.into()))
    }
}

/// Why nothing was dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// An endpoint and its socket.
///
/// Two ways to use it. By [`next`](Driver::next) alone, which does everything until something happens:
///
/// ```no_run
/// use kaos_rudp::{Channel, Config, Event, Micros, io::{Options, tokio::Driver}};
///
/// # fn clock() -> Micros { Micros(0) }
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let seed = [7; 32]; // from the operating system, in production
/// let server = "127.0.0.1:7352".parse()?;
/// let (mut driver, peer) = Driver::dial(clock(), server, None, Config::default(), seed, &Options::client())?;
/// driver.endpoint.send(peer, Channel::DATA, &[b"hello"])?;
/// while let Ok(event) = driver.next(clock).await {
///     if let Event::Closed { .. } = event {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// Or piece by piece inside of another loop: [`ready`](Driver::ready), [`receive`](Driver::receive), events,
/// [`transmit`](Driver::transmit), and sleep until [`poll_timeout`](Driver::poll_timeout).
pub struct Driver {
    /// The endpoint: to send, to ask, to close. What it wants to send leaves with the next `transmit` or `next`.
    pub endpoint: Endpoint,
    socket: UdpSocket,
    engine: Engine,
    /// A bad network between the endpoint and its socket.
    emulator: Option<Box<Emulator>>,
}

impl Driver {
    /// Puts `endpoint` on `socket`.
    ///
    /// # Errors
    /// The system has no room for another watched socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn new(socket: Socket, endpoint: Endpoint) -> io::Result<Driver> {
        let (socket, engine) = socket.into_parts();
        Ok(Driver { endpoint, socket: UdpSocket::from_std(socket)?, engine, emulator: None })
    }

    /// Opens a socket that only knows `server`, and begins to connect to it; `expected` is as in [`Endpoint::connect`].
    /// `Event::Connected` or `Event::Closed` follows.
    ///
    /// # Errors
    /// See [`DialError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn dial(
        now: Micros,
        server: SocketAddr,
        expected: Option<PublicKey>,
        config: Config,
        seed: [u8; 32],
        options: &Options,
    ) -> Result<(Driver, PeerId), DialError> {
        let local: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let mut socket = Socket::bind(local, options)?;
        socket.connect(server)?;
        let mtu_max = config.mtu_max.min(socket.features().mtu_max());
        let mut endpoint = Endpoint::new(Config { mtu_max, ..config }, seed);
        let peer = endpoint.connect(now, server, expected)?;
        Ok((Driver::new(socket, endpoint)?, peer))
    }

    /// Puts a bad network between the endpoint and its socket, from now on: to try a game on it, and for load tests.
    /// The connection becomes one of `emulation`'s.
    pub fn emulate(&mut self, emulation: Arc<Emulation>) {
        self.emulator = Some(Box::new(Emulator::new(emulation)));
    }

    /// Waits until the socket can be read, or written when it was full. Cancel safe.
    pub async fn ready(&self) {
        // `receive` reports the same error.
        let _ = match self.engine.is_waiting() {
            true => self.socket.ready(Interest::READABLE | Interest::WRITABLE).await.map(drop),
            false => self.socket.readable().await,
        };
    }

    /// Gives the endpoint the datagrams that came, then the time. Key exchanges run here as well, some 100 µs each.
    ///
    /// # Errors
    /// The system's. From [`dial`](Driver::dial) on, `ConnectionRefused` says that nobody listens at the server's port.
    pub fn receive(&mut self, now: Micros) -> io::Result<()> {
        let Driver { endpoint, socket, engine, emulator } = self;
        let result = engine.receive(socket, DATAGRAMS_MAX, |from, datagram| match emulator {
            Some(emulator) => emulator.put_in(now, from, datagram),
            None => endpoint.handle(now, from, datagram),
        });
        if let Some(emulator) = emulator {
            while let Some((from, mut datagram)) = emulator.take_in(now) {
                endpoint.handle(now, from, &mut datagram);
            }
        }
        endpoint.run_jobs(now);
        endpoint.handle_timeout(now);
        result?;
        // The system reports this only once, to whichever call comes first.
        match engine.take_error() {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends what the endpoint has to send, as far as the socket takes it; [`ready`](Driver::ready) waits until it
    /// takes more.
    pub fn transmit(&mut self, now: Micros) -> Flow {
        let Driver { endpoint, socket, engine, emulator } = self;
        let Some(emulator) = emulator else {
            return engine.transmit(socket, |datagram| endpoint.poll_transmit(now, datagram));
        };
        let mut datagram = Vec::new();
        while let Some(to) = endpoint.poll_transmit(now, &mut datagram) {
            emulator.put_out(now, to, &datagram);
        }
        engine.transmit(socket, |datagram| emulator.take_out(now, datagram))
    }

    /// When to call `receive` and `transmit` even if the socket is silent: at the time of [`Endpoint::poll_timeout`],
    /// or when a datagram has crossed the emulated network.
    pub fn poll_timeout(&self) -> Option<Micros> {
        let crossed = self.emulator.as_ref().and_then(|emulator| emulator.timeout());
        [self.endpoint.poll_timeout(), crossed].into_iter().flatten().min()
    }

    /// Drives the endpoint until something happens. `clock` gives the time, with the same start as the times that the
    /// endpoint was given before. Cancel safe: no event is lost.
    ///
    /// # Errors
    /// Those of [`receive`](Driver::receive).
    pub async fn next(&mut self, clock: impl Fn() -> Micros) -> io::Result<Event> {
        loop {
            let now = clock();
            self.receive(now)?;
            let event = self.endpoint.poll_event();
            let _kept = self.transmit(now);
            match event {
                Some(event) => return Ok(event),
                None => self.wait(clock(), now + IDLE).await,
            }
        }
    }

    /// Waits until everything that was sent reliably has arrived, then closes the connection. Returns when the other
    /// side was told, or after three seconds.
    pub async fn close(mut self, clock: impl Fn() -> Micros, peer: PeerId, code: u16, reason: &str) {
        let begun = clock();
        self.endpoint.close_after_flush(begun, peer, code, reason);
        loop {
            let now = clock();
            if self.receive(now).is_err() || now >= begun + CLOSE_TIME {
                return;
            }
            let _kept = self.transmit(now);
            while let Some(event) = self.endpoint.poll_event() {
                if matches!(event, Event::Closed { peer: closed, .. } if closed == peer) {
                    // The close itself is on its way.
                    let _kept = self.transmit(now);
                    return;
                }
            }
            self.wait(clock(), begun + CLOSE_TIME).await;
        }
    }

    /// Waits until the socket is ready or a timer is due, and no longer than `until`.
    async fn wait(&self, now: Micros, until: Micros) {
        let until = self.poll_timeout().map_or(until, |due| due.min(until));
        tokio::select! {
            () = self.ready() => {}
            () = sleep(until.since(now)) => {}
        }
    }

    /// What the socket can do.
    pub fn features(&self) -> Features {
        self.engine.features()
    }

    /// What the socket did.
    pub fn counters(&self) -> Counters {
        self.engine.counters
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
