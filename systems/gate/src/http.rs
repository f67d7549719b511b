//! The HTTP door: one thread with a tokio runtime for HTTP and WebSockets. Everything ends at the bridge.

mod access;
mod budget;
mod files;
mod handlers;
mod metrics;
mod port_holder;
mod proxies;
mod reply;
mod routes;
mod state;
mod write_timeout;

pub use access::Access;
pub use port_holder::{Holder, Protocol, holder};
pub use proxies::Proxies;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kaos_kernel::limit::LimitSettings;
use kaos_kernel::op::OpTable;
use kaos_rudp::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bridge::Bridge;
use crate::http::budget::Budgets;
use crate::http::files::Files;
use crate::http::handlers::{connect, fallback, get_only, health, metrics_page, upgrade_socket};
use crate::http::routes::Routes;
use crate::http::write_timeout::WriteTimeout;
use crate::identity::credentials::Credentials;
use crate::stats::Stats;
use crate::websocket;
use state::{Connection, Shared};

/// Bytes of a request's head: a session token takes 4 KiB of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a request's head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time that connections have to end when the server stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// The parts and settings of an HTTP door.
pub struct WebSetup {
    /// From [`bind`].
    pub listener: TcpListener,
    /// Where calls and connections go.
    pub bridge: Arc<Bridge>,
    /// The check of tokens and names.
    pub credentials: Arc<Credentials>,
    /// The counters of the server.
    pub stats: Arc<Stats>,
    /// The operations, for their routes.
    pub ops: Arc<OpTable>,
    /// Which pages and local callers get what.
    pub access: Access,
    /// Where the UDP door listens and who it is, for `/v1/connect`.
    pub udp: Option<(SocketAddr, PublicKey)>,
    /// The node's name.
    pub node: String,
    /// TCP connections at a time; further ones are closed at once.
    pub connections_max: u32,
    /// What the frame allows an address: calls far beyond it are refused at the door.
    pub limits: LimitSettings,
    /// How long a call may take, in milliseconds, before the door gives it up: a little more than the frame
    /// gives it.
    pub call_ms: u64,
    /// Read the playground from the disk.
    pub dev: bool,
}

/// Opens the socket of the HTTP door.
///
/// # Errors
/// The operating system's, such as that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A server that starts again need not wait for the connections of the last one to time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// The running door.
pub struct Web {
    thread: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Web {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread or no runtime.
    pub fn start(setup: WebSetup) -> io::Result<Web> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let thread = std::thread::Builder::new().name("kaos-web".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(setup, stopped)) {
                tracing::error!(%error, "the HTTP door cannot accept connections");
            }
            // Whatever did not end in time is dropped.
            runtime.shutdown_background();
        })?;
        Ok(Web { thread: Some(thread), stop })
    }

    /// Stops accepting, gives connections two seconds to end, and waits for the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(setup: WebSetup, stopped: watch::Receiver<bool>) -> io::Result<()> {
    let connections_max = setup.connections_max;
    allow_descriptors(connections_max);
    let (listener, shared) = share(setup, stopped.clone());
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = service(&shared);
    let mut stop = stopped;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptors, or a connection that was gone at once: neither ends the door.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(connection) = Connection::new(&shared, remote.ip(), connections_max) else {
            shared.server.stats.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(requests(stream, connection, service));
    }
    drop(listener);
    let ended = async {
        while shared.server.stats.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = timeout(STOP_TIME, ended).await;
    Ok(())
}

/// What every request needs, and where connections come in.
fn share(setup: WebSetup, stopped: watch::Receiver<bool>) -> (TcpListener, Arc<Shared>) {
    let shared = Shared {
        routes: Routes::new(&setup.ops),
        server: websocket::Server {
            bridge: setup.bridge,
            credentials: setup.credentials,
            stats: setup.stats,
        },
        ops: setup.ops,
        access: setup.access,
        files: Files::new(setup.dev),
        udp: setup.udp,
        node: setup.node,
        budgets: Budgets::new(&setup.limits),
        call_time: Duration::from_millis(setup.call_ms),
        stopped,
        connections: Mutex::default(),
    };
    (setup.listener, Arc::new(shared))
}

fn service(shared: &Arc<Shared>) -> TowerToHyperService<Router> {
    let router = Router::new()
        .route("/v1/connect", get(connect))
        .route("/healthcheck", get(health))
        .route("/metrics", get(metrics_page))
        .route("/kaos", get(upgrade_socket))
        .fallback(fallback)
        .method_not_allowed_fallback(get_only)
        .with_state(shared.clone());
    TowerToHyperService::new(router)
}

/// Asks for as many descriptors as there may be connections, and some. Many systems give 1024 to begin with.
fn allow_descriptors(connections_max: u32) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = u64::from(connections_max) + 256;
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
            let set = setrlimit(Resource::Nofile, limit);
            if set.is_err() || limit.current.is_some_and(|current| current < wanted) {
                tracing::warn!(
                    connections_max,
                    "the operating system allows fewer open files than connections: raise `ulimit -n`"
                );
            }
        }
    }
    #[cfg(not(unix))]
    let _ = connections_max;
}

/// Serves the requests of one connection.
async fn requests<S>(stream: S, connection: Connection, service: TowerToHyperService<Router>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stopped = connection.0.shared.stopped.clone();
    let stream = WriteTimeout::new(stream, connection.0.upgraded.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        hyper::service::Service::call(&service, request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES_MAX).max_headers(64);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // Whatever a client does wrong here ends its connection and nothing else.
        _ = &mut serving => return,
        _ = stopped.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

#[cfg(test)]
mod tests;
