//! The runner: one frame thread around a [`Server`], its doors, its clock, and its end.
//!
//! [`start`] gives back a server that runs in this process; [`serve`] is that with signals, for programs.
//! Only this module and the doors read a clock, and what they read decides when a frame runs, never what
//! happens in it.

mod frames;
mod recorder;
#[cfg(test)]
mod tests;
mod watchdog;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use kaos_gate::bridge::Bridge;
use kaos_gate::doors::Doors;
use kaos_gate::http::{self, Web, WebSetup};
use kaos_gate::identity::credentials::Credentials;
use kaos_gate::identity::keys::{KeyError, PublicKey, Source, session_key, transport_key};
use kaos_gate::jobs::JobPools;
use kaos_gate::kaos::codec::KaosCodec;
use kaos_gate::stats::Stats;
use kaos_gate::udp::{self, UdpError, UdpSetup};
use kaos_gate::{Access, Protocol, Proxies, holder};
use kaos_kernel::op::OpTable;
use kaos_kernel::prelude::*;
use kaos_kernel::running::RunningMatch;
use kaos_kernel::script::Summary;
use kaos_kernel::server::{Build, BuildError, Server};
use kaos_script::Scripts;

use crate::compose::compose;
use crate::config::Config;
use frames::Frames;
pub(crate) use frames::STOP_TIME;
use recorder::Recorder;
use watchdog::{Pace, Watchdog};

/// Why a server does not start: sentences for people. A command line ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values of the configuration that cannot be.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// Somebody else listens there.
    #[error(
        "port {} ({protocol}) is taken\n  {} Stop it, or choose another:  kaosnet --{flag} {}",
        .address.port(), PortHolder(.holder), ten_ports_on(*.address)
    )]
    Taken {
        /// What was asked for.
        address: SocketAddr,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The key to change.
        flag: &'static str,
        /// Who it is, if that can be found out.
        holder: Option<kaos_gate::Holder>,
    },
    /// The operating system does not let the HTTP door open.
    #[error("{address} (tcp) cannot be opened: {source}. Choose another address with `http.address`")]
    Http {
        /// What was asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The same for the UDP door.
    #[error(transparent)]
    Udp(UdpError),
    /// No key to check session tokens with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal cannot be recorded.
    #[error("the journal cannot be written to {path}: {source}. Choose another file with `journal.record`")]
    Journal {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Scripts, plugins or operations do not fit together.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The operating system gives no thread, descriptor or randomness.
    #[error("the operating system refuses what the server needs: {0}")]
    System(#[from] io::Error),
}

/// Why a server that [`serve`] ran did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It did not start. A command line ends with exit code 2.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It started, and died. A command line ends with exit code 1.
    #[error(transparent)]
    Crashed(#[from] Crashed),
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        ServeError::Start(error.into())
    }
}

/// The frame thread panicked, and the server with it: nobody was told, no session was closed. A defect of the server or
/// of a plugin; the log has the place. Holds what the panic said.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the server crashed: its frame thread panicked with `{0}`; rooms and sessions are lost, and nobody was told"
)]
pub struct Crashed(pub String);

impl Crashed {
    fn of(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Crashed(text.unwrap_or_else(|| "no text".to_owned()))
    }
}

struct PortHolder<'a>(&'a Option<kaos_gate::Holder>);

impl fmt::Display for PortHolder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) if holder.name.starts_with("kaosnet") => {
                write!(f, "another kaosnet (pid {}) listens on it.", holder.pid)
            }
            Some(holder) => write!(f, "`{}` (pid {}) listens on it.", holder.name, holder.pid),
            None => f.write_str("another program listens on it."),
        }
    }
}

/// An address to propose: ten ports on.
fn ten_ports_on(mut address: SocketAddr) -> SocketAddr {
    address.set_port(address.port().checked_add(10).unwrap_or(7360));
    address
}

/// A server that runs in this process.
pub struct Running {
    /// Where HTTP and WebSockets are.
    pub http: SocketAddr,
    /// Where UDP is, if it is.
    pub udp: Option<SocketAddr>,
    /// The key that clients know it by, if UDP is open: `kaos://address#key` is where they connect.
    pub udp_key: Option<PublicKey>,
    /// What is counted; the same figures as `/metrics`.
    pub stats: Arc<Stats>,
    /// What the scripts brought.
    pub scripts: Summary,
    /// The operations.
    pub ops: Arc<OpTable>,
    /// The key that session tokens are checked with.
    pub key: Vec<u8>,
    /// Where that came from.
    pub key_source: Source,
    /// Are names without a token let in?
    pub anonymous: bool,
    bridge: Arc<Bridge>,
    frames: Option<JoinHandle<Stopped>>,
    web: Option<Web>,
    _watchdog: Watchdog,
}

/// What a server was when it stopped.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stopped {
    /// Rooms that were told.
    pub rooms: u64,
    /// Sessions that were closed.
    pub sessions: u64,
    /// How long it took.
    pub took: Duration,
    /// Frames that ran in all.
    pub frames: u64,
    /// Everything was told and closed in time.
    pub clean: bool,
    /// Whether the journal that was to be recorded is whole in its file; `None`: none was to be.
    pub recorded: Option<bool>,
    /// Rooms that were not told in time; their match_terminate did not run.
    pub rooms_left: u64,
    /// Sessions that were not closed in time.
    pub sessions_left: u64,
}

impl Running {
    /// Asks the server to stop: rooms are told, sessions closed with `stopping`. Returns at once.
    pub fn stop(&self) {
        self.bridge.stop();
    }

    /// Waits until the server has stopped, after [`Running::stop`] or by itself.
    ///
    /// # Errors
    /// [`Crashed`] when its frame thread died instead.
    pub fn join(mut self) -> Result<Stopped, Crashed> {
        match self.wait() {
            Some(ended) => ended,
            // Only `join` and `drop` wait, and both have the last word on a server.
            None => Err(Crashed("it was waited for before".to_owned())),
        }
    }

    /// What stops this server from elsewhere.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let bridge = self.bridge.clone();
        move || bridge.stop()
    }

    fn wait(&mut self) -> Option<Result<Stopped, Crashed>> {
        let ended = self.frames.take().map(JoinHandle::join);
        if let Some(web) = self.web.take() {
            web.stop();
        }
        ended.map(|ended| ended.map_err(|panic| Crashed::of(&*panic)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.bridge.stop();
        self.wait();
    }
}

/// What the frame thread tells when its server is built.
struct Built {
    ops: Arc<OpTable>,
    scripts: Summary,
}

/// Starts a server with the rooms, the scripts and the doors that every one has, and `plugins` beside them.
///
/// # Errors
/// See [`StartError`].
#[expect(
    clippy::too_many_lines,
    reason = "one list: what a server consists of, in the order in which it can be had"
)]
pub fn start(config: &Config, plugins: impl Fn(&mut App) + Send + 'static) -> Result<Running, StartError> {
    config.check().map_err(StartError::Config)?;
    let proxies = Proxies::parse(&config.http.trusted_proxies)
        .map_err(|entry| StartError::Config(vec![crate::config::no_proxy(entry)]))?;
    let http = http::bind(config.http.address).map_err(|source| http_error(config.http.address, source))?;
    let http_address = http.local_addr()?;
    let udp = config.udp.address.0.map(udp::bind).transpose().map_err(udp_error)?;
    let udp_address = udp.as_ref().map(kaos_gate::udp::Socket::local_addr).transpose()?;
    let (key, key_source) = session_key(&config.server.data, config.session.key.as_deref(), config.node.dev)?;
    let recorder = match &config.journal.record {
        Some(path) => {
            let opened = Recorder::start(path);
            Some(opened.map_err(|source| StartError::Journal { path: path.clone(), source })?)
        }
        None => None,
    };
    let settings = config.settings();
    let session: SessionSettings = settings.section().map_err(StartError::Config)?;
    let call: CallSettings = settings.section().map_err(StartError::Config)?;
    let limits: LimitSettings = settings.section().map_err(StartError::Config)?;
    let bridge = Arc::new(Bridge::new()?);
    let stats = Arc::new(Stats::default());
    let credentials = Arc::new(Credentials::new(&key, config.anonymous()));
    let seed = kaos_gate::random()?;
    let seed_of_dice = u64::from_le_bytes(kaos_gate::random()?);
    let udp = match udp {
        Some(socket) => {
            Some((socket, transport_key(&config.server.data, config.udp.key.as_deref(), config.node.dev)?))
        }
        None => None,
    };
    let udp_key = udp.as_ref().map(|(_, key)| key.public());
    let udp = udp.map(|(socket, key)| UdpSetup {
        socket,
        seed,
        key,
        // Every session may have a peer, and newcomers one before they have a session.
        peers_max: limits.sessions_max.saturating_add(1024),
        idle: Duration::from_millis(session.idle_ms),
    });
    let peers_max = udp.as_ref().map_or(0, |udp| udp.peers_max).saturating_add(config.limit.connections_max);
    let doors = Doors::new(bridge.clone(), credentials.clone(), stats.clone(), udp, peers_max)?;

    let (built, wait_for_built) = channel();
    let (stopped, wait_for_started) = channel::<()>();
    let running = RunningMatch::default();
    let thread = {
        let (config, bridge, stats) = (config.clone(), bridge.clone(), stats.clone());
        let noted = running.clone();
        let plugins = move |app: &mut App| {
            app.insert_resource(noted.clone());
            plugins(app);
        };
        let work = move || {
            let parts = match build(&config, plugins, &bridge, &stats, &built) {
                Ok(parts) => parts,
                Err(error) => {
                    let _ = built.send(Err(error));
                    return Stopped::default();
                }
            };
            drop(built);
            // The other threads are started meanwhile; when that failed there is nothing to run for.
            if wait_for_started.recv().is_err() {
                return Stopped::default();
            }
            Frames::new(parts, doors, bridge, stats, recorder).run(seed_of_dice)
        };
        std::thread::Builder::new().name("kaos-frame".to_owned()).spawn(work)?
    };
    let Built { ops, scripts } = match wait_for_built.recv() {
        Ok(built) => built?,
        Err(_) => return Err(io::Error::other("the frame thread ended while the server was built").into()),
    };
    let web = Web::start(WebSetup {
        listener: http,
        bridge: bridge.clone(),
        credentials,
        stats: stats.clone(),
        ops: ops.clone(),
        access: Access {
            origins: config.http.origins.clone(),
            loopback: http_address.ip().is_loopback(),
            proxies,
            metrics_open: config.metrics.open,
            playground_open: config.playground.open,
        },
        udp: udp_address.zip(udp_key),
        node: config.node.node.clone(),
        connections_max: config.limit.connections_max,
        limits,
        call_ms: call.wait_ms.saturating_add(5_000),
        dev: config.node.dev,
    })?;
    let tell = {
        let bridge = bridge.clone();
        move |input| bridge.input(input)
    };
    let watchdog = Watchdog::start(&stats, running, Pace::USUAL, tell)?;
    // Received by the frame thread, which waits for nothing else.
    let _ = stopped.send(());
    Ok(Running {
        http: http_address,
        udp: udp_address,
        udp_key,
        stats,
        scripts,
        ops,
        key,
        key_source,
        anonymous: config.anonymous(),
        bridge,
        frames: Some(thread),
        web: Some(web),
        _watchdog: watchdog,
    })
}

/// [`start`], then signals: SIGINT and SIGTERM stop the server, a second one ends the process at once.
/// `ready` is called when all doors are open. Returns when the server has stopped.
///
/// # Errors
/// See [`ServeError`]. A stop that left something behind is none: see [`Stopped::clean`].
pub fn serve(
    config: &Config,
    plugins: impl Fn(&mut App) + Send + 'static,
    ready: impl FnOnce(&Running),
) -> Result<Stopped, ServeError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // Before the start, so that a signal that comes early is not lost.
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let running = start(config, plugins)?;
    let stop = running.stopper();
    let handle = signals.handle();
    let thread = std::thread::Builder::new().name("kaos-signals".to_owned()).spawn(move || {
        let asked = AtomicBool::new(false);
        for signal in signals.forever() {
            if asked.swap(true, Ordering::Relaxed) {
                // What a shell expects of a program that a signal ended.
                std::process::exit(128 + signal);
            }
            stop();
        }
    })?;
    ready(&running);
    let stopped = running.join();
    handle.close();
    let _ = thread.join();
    Ok(stopped?)
}

/// What the frame thread has when its server is built.
struct Parts {
    server: Server,
    jobs: JobPools,
    /// See [`Frames`].
    crash: std::path::PathBuf,
}

/// Builds the server, on the frame thread, where it stays.
fn build(
    config: &Config,
    plugins: impl Fn(&mut App),
    bridge: &Arc<Bridge>,
    stats: &Arc<Stats>,
    built: &Sender<Result<Built, StartError>>,
) -> Result<Parts, StartError> {
    let settings = config.settings();
    let call: CallSettings = settings.section().map_err(StartError::Config)?;
    let build = Build {
        settings,
        quantum: config.quantum(),
        journal_bytes_max: config.journal.memory_bytes,
        strict: false,
    };
    let scripts = Scripts::from_dir(&config.server.scripts);
    let codec = KaosCodec::counting(stats.clone());
    let server = compose(build, codec, scripts, plugins)?;
    let ops = server.ops();
    stats.count_ops(ops.rows().len());
    let wait = Duration::from_millis(call.wait_ms);
    let jobs = JobPools::start(bridge, stats, server.jobs(), wait)?;
    let _ = built.send(Ok(Built { ops, scripts: server.scripts() }));
    Ok(Parts { server, jobs, crash: config.server.data.join("crash.kj") })
}

fn http_error(address: SocketAddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        let holder = holder(Protocol::Tcp, address.port());
        return StartError::Taken { address, protocol: "tcp", flag: "http", holder };
    }
    StartError::Http { address, source }
}

fn udp_error(error: UdpError) -> StartError {
    match error {
        UdpError::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder(Protocol::Udp, address.port());
            StartError::Taken { address, protocol: "udp", flag: "udp", holder }
        }
        error => StartError::Udp(error),
    }
}

/// The runner's clock: the time since a start.
#[derive(Clone, Copy)]
struct Since(Instant);

impl Since {
    #[expect(clippy::disallowed_methods, reason = "the runner turns time into frame numbers")]
    fn now() -> Self {
        Since(Instant::now())
    }

    fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
