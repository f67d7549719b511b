//! The HTTP door: one thread with a tokio runtime for HTTP and WebSockets. Everything ends at the bridge.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use fastwebsockets::upgrade;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::input::Door;
use kaos_kernel::op::OpTable;
use kaos_wire::prost::Message;
use kaos_wire::{PROTOCOL_MAX, PROTOCOL_MIN, v1};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Access;
use crate::bridge::Bridge;
use crate::credentials::Credentials;
use crate::files::Files;
use crate::link::lock;
use crate::routes::{Found, Matched, Routes};
use crate::stats::Stats;
use crate::{metrics, reply, socket};

/// Bytes of a request's body. A message of the protocol is shorter; an operation has its own bounds.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a request's head: a session token takes 4 KiB of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a request's head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time for a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Time that connections have to end when the server stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the HTTP door is told.
pub struct WebSetup {
    /// From [`bind`].
    pub listener: TcpListener,
    /// Where calls and connections go.
    pub bridge: Arc<Bridge>,
    /// Who gets in.
    pub credentials: Arc<Credentials>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// The operations, for their routes.
    pub ops: Arc<OpTable>,
    /// Which pages and neighbours.
    pub access: Access,
    /// Where the UDP door listens, for `/v1/connect`.
    pub udp: Option<SocketAddr>,
    /// The node's name.
    pub node: String,
    /// TCP connections at a time; further ones are closed at once.
    pub connections_max: u32,
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

/// What every request needs.
struct Shared {
    server: socket::Server,
    routes: Routes,
    ops: Arc<OpTable>,
    access: Access,
    files: Files,
    udp: Option<SocketAddr>,
    node: String,
    call_time: Duration,
    stopped: watch::Receiver<bool>,
    connections: Mutex<BTreeMap<IpAddr, u32>>,
}

/// A TCP connection, counted as long as something holds it: the task that reads requests, or its WebSocket.
#[derive(Clone)]
struct Connection(Arc<Counted>);

struct Counted {
    remote: IpAddr,
    shared: Arc<Shared>,
}

impl Connection {
    /// Counts a connection; `None` when there are too many in all or half of all from one address.
    fn new(shared: &Arc<Shared>, remote: IpAddr, connections_max: u32) -> Option<Self> {
        let remote = remote.to_canonical();
        let mut connections = lock(&shared.connections);
        let all: u32 =
            u32::try_from(shared.server.stats.connections.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let of_address = connections.get(&remote).copied().unwrap_or(0);
        let fair = remote.is_loopback() || of_address < connections_max.div_ceil(2);
        if all >= connections_max || !fair {
            return None;
        }
        connections.insert(remote, of_address + 1);
        shared.server.stats.connections.fetch_add(1, Ordering::Relaxed);
        drop(connections);
        Some(Connection(Arc::new(Counted { remote, shared: shared.clone() })))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.server.stats.connections.fetch_sub(1, Ordering::Relaxed);
        let mut connections = lock(&self.shared.connections);
        if let Some(count) = connections.get_mut(&self.remote) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.remote);
            }
        }
    }
}

async fn serve(setup: WebSetup, stopped: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(setup.listener)?;
    let connections_max = setup.connections_max;
    allow_descriptors(connections_max);
    let shared = Arc::new(Shared {
        routes: Routes::new(&setup.ops),
        server: socket::Server { bridge: setup.bridge, credentials: setup.credentials, stats: setup.stats },
        ops: setup.ops,
        access: setup.access,
        files: Files::new(setup.dev),
        udp: setup.udp,
        node: setup.node,
        call_time: Duration::from_millis(setup.call_ms),
        stopped: stopped.clone(),
        connections: Mutex::default(),
    });
    let router = Router::new()
        .route("/v1/connect", get(connect))
        .route("/healthcheck", get(health))
        .route("/metrics", get(figures))
        .route("/kaos", get(upgrade_socket))
        .fallback(other)
        .with_state(shared.clone());
    let service = TowerToHyperService::new(router);
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

/// Asks for as many descriptors as there may be connections, and some. Many systems give 1024 to begin with.
fn allow_descriptors(connections_max: u32) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = u64::from(connections_max) + 256;
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
            let set = setrlimit(Resource::Nofile, limit.clone());
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
async fn requests(
    stream: tokio::net::TcpStream,
    connection: Connection,
    service: TowerToHyperService<Router>,
) {
    let mut stopped = connection.0.shared.stopped.clone();
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

/// Where a client finds everything.
async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    guarded(&shared, &request, |shared| {
        let local = remote(&request).is_some_and(|ip| ip.is_loopback());
        // An address on loopback is of no use to anybody else.
        let udp = shared.udp.filter(|udp| local || !udp.ip().is_loopback());
        let body = json!({
            "protocol": {"min": PROTOCOL_MIN, "max": PROTOCOL_MAX},
            "udp": udp.map(|address| json!({"address": address.to_string(), "key": null})),
            "websocket": "/kaos",
            "node": shared.node,
            "version": env!("CARGO_PKG_VERSION"),
        });
        Ok(reply::json_bytes(body.to_string().into()))
    })
}

async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let stuck_ms = shared.server.stats.stuck_ms.load(Ordering::Relaxed);
    if *shared.stopped.borrow() || shared.server.bridge.stopping() {
        return reply::refusal(&FaultKind::Stopping.into());
    }
    if stuck_ms > 0 {
        let sentence = format!("the frame thread has been in one frame for {stuck_ms} ms");
        return reply::refusal(&Fault::new(FaultKind::Busy, sentence).retry_in_ms(1000));
    }
    reply::json_bytes(Bytes::from_static(br#"{"status":"ok"}"#))
}

async fn figures(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let local = remote(&request).is_some_and(|ip| shared.access.is_local(ip, request.headers()));
    if !shared.access.metrics_open && !local {
        return reply::refusal(&Fault::new(
            FaultKind::Denied,
            "metrics are for this machine only: `metrics.open: true` opens them",
        ));
    }
    reply::ok(metrics::KIND, metrics::render(&shared.server.stats, &shared.ops))
}

async fn upgrade_socket(State(shared): State<Arc<Shared>>, mut request: Request) -> Response<Body> {
    if let Err(fault) = shared.access.check(request.headers()) {
        return reply::refusal(&fault);
    }
    let Some(connection) = request.extensions().get::<Connection>().cloned() else {
        return reply::refusal(&FaultKind::Internal.into());
    };
    if shared.server.bridge.stopping() {
        return reply::refusal(&FaultKind::Stopping.into());
    }
    if !upgrade::is_upgrade_request(&request) {
        let fault = Fault::invalid("this path speaks WebSocket: connect to it with a WebSocket client");
        return reply::refusal_as(StatusCode::UPGRADE_REQUIRED, &fault);
    }
    match upgrade::upgrade(&mut request) {
        Ok((response, upgraded)) => {
            tokio::spawn(async move {
                // A client that goes away in this moment was never there.
                if let Ok(socket) = upgraded.await {
                    socket::serve(socket.into_inner(), &shared.server, connection.0.remote).await;
                }
                drop(connection);
            });
            response.map(|_| Body::empty())
        }
        Err(error) => reply::refusal(&Fault::invalid(format!("this is no WebSocket handshake: {error}"))),
    }
}

/// Operations by their routes, and the files of the playground.
async fn other(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let origin = match shared.access.check(request.headers()) {
        Ok(origin) => origin,
        Err(fault) => return reply::refusal(&fault),
    };
    let path = request.uri().path();
    let mut response = match shared.routes.find(request.method(), path) {
        Found::Op(matched) => call(&shared, matched, request).await,
        Found::Methods(methods) if request.method() == Method::OPTIONS => preflight(&methods),
        Found::Methods(methods) => {
            let fault = Fault::new(FaultKind::Unimplemented, "this path knows other methods");
            let mut response = reply::refusal_as(StatusCode::METHOD_NOT_ALLOWED, &fault);
            allow(&mut response, &methods);
            response
        }
        Found::Nothing => file(&shared, &request),
    };
    cross_origin(&mut response, origin);
    response
}

fn file(shared: &Shared, request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !Files::has(path) {
        return reply::refusal(&Fault::not_found("there is nothing at this path"));
    }
    let local = remote(request).is_some_and(|ip| shared.access.is_local(ip, request.headers()));
    if !shared.access.playground_open && !local {
        return reply::refusal(&Fault::not_found(
            "the playground is for this machine only: `playground.open: true` opens it",
        ));
    }
    shared.files.get(path).unwrap_or_else(|| reply::refusal(&FaultKind::NotFound.into()))
}

async fn call(shared: &Arc<Shared>, matched: Matched, request: Request) -> Response<Body> {
    let json = is_json(&request);
    match timeout(shared.call_time, try_call(shared, &matched, request)).await {
        Ok(Ok(bytes)) => {
            shared.server.stats.door(Door::Http).went(bytes.len());
            if matched.raw && !json {
                reply::ok("application/octet-stream", bytes)
            } else {
                reply::json_bytes(bytes)
            }
        }
        Ok(Err(Refused::Fault(fault))) => reply::refusal(&fault),
        Ok(Err(Refused::TooLong)) => {
            let fault = Fault::invalid(format!("a request's body is at most {BODY_BYTES_MAX} bytes"));
            reply::refusal_as(StatusCode::PAYLOAD_TOO_LARGE, &fault)
        }
        Err(_) => reply::refusal(&FaultKind::Deadline.into()),
    }
}

enum Refused {
    Fault(Fault),
    TooLong,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused::Fault(fault)
    }
}

async fn try_call(shared: &Arc<Shared>, matched: &Matched, request: Request) -> Result<Bytes, Refused> {
    let address = remote(&request).ok_or(Fault::from(FaultKind::Internal))?;
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::to_str);
    let authorization = authorization
        .transpose()
        .map_err(|_| Fault::new(FaultKind::Unauthenticated, "the Authorization header is no text"))?;
    let identity = shared.server.credentials.authorization(authorization)?;
    let method = request.method().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = timeout(BODY_TIME, body)
        .await
        .map_err(|_| Fault::new(FaultKind::TimedOut, "the request's body took too long"))?
        .map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                Refused::TooLong
            } else {
                Refused::Fault(Fault::invalid("the request's body cannot be read"))
            }
        })?
        .to_bytes();
    shared.server.stats.door(Door::Http).came(body.len());
    let body = matched.body(&method, &query, body)?;
    shared.server.stats.count_call(matched.op);
    let waiting = shared.server.bridge.call(matched.name.clone(), identity, address, body)?;
    let answer = waiting.answer().await?;
    if !matched.raw {
        return Ok(answer);
    }
    let response = v1::RpcResponse::decode(answer)
        .map_err(|error| Fault::internal(format!("the reply of the rpc cannot be read: {error}")))?;
    Ok(response.payload.into())
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"))
}

fn remote(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Connection>().map(|connection| connection.0.remote)
}

/// Looks at where a request comes from before it is answered.
fn guarded(
    shared: &Arc<Shared>,
    request: &Request,
    answer: impl FnOnce(&Shared) -> Result<Response<Body>, Fault>,
) -> Response<Body> {
    match shared.access.check(request.headers()) {
        Ok(origin) => {
            let mut response = answer(shared).unwrap_or_else(|fault| reply::refusal(&fault));
            cross_origin(&mut response, origin);
            response
        }
        Err(fault) => reply::refusal(&fault),
    }
}

/// Lets the page of a configured origin read the answer.
fn cross_origin(response: &mut Response<Body>, origin: Option<String>) {
    let Some(origin) = origin.and_then(|origin| HeaderValue::try_from(origin).ok()) else { return };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// A browser asks before it sends what a form could not.
fn preflight(methods: &[Method]) -> Response<Body> {
    let mut response = reply::ok("text/plain", Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    allow(&mut response, methods);
    let headers = response.headers_mut();
    if let Some(methods) = headers.get(header::ALLOW).cloned() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn allow(response: &mut Response<Body>, methods: &[Method]) {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if let Ok(methods) = HeaderValue::try_from(methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
}
