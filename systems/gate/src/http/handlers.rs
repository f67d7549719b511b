//! What the HTTP door answers: its own pages, operations by their routes, and the way to a WebSocket.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use fastwebsockets::upgrade;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::input::Door;
use kaos_kernel::op::{Auth, Caller, Rest, RestReply};
use kaos_wire::{PROTOCOL_MAX, PROTOCOL_MIN};
use serde_json::json;
use tokio::time::timeout;

use crate::http::files::Files;
use crate::http::routes::{Found, Matched};
use crate::http::state::{Connection, Shared};
use crate::http::{metrics, reply};
use crate::identity::credential::Credential;
use crate::websocket;

/// The most bytes of a request body. Messages of the protocol are shorter, and operations have bounds of their own.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The time in which a request body has to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// `/v1/connect`: the addresses and protocol versions that a client needs to connect.
pub(crate) async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    guarded(&shared, &request, |shared| {
        let local = remote(&request).is_some_and(|ip| shared.access.is_here(ip, request.headers()));
        // A loopback address is of use only to clients on this machine.
        let udp = shared.udp.filter(|(udp, _)| local || !udp.ip().is_loopback());
        let body = json!({
            "protocol": {"min": PROTOCOL_MIN, "max": PROTOCOL_MAX},
            "udp": udp.map(|(address, key)| json!({"address": address.to_string(), "key": key.to_string()})),
            "websocket": "/kaos",
            "node": shared.node,
            "version": env!("CARGO_PKG_VERSION"),
        });
        Ok(reply::json_bytes(body.to_string().into()))
    })
}

pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
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

pub(crate) async fn metrics_page(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let local = remote(&request).is_some_and(|ip| shared.access.is_local(ip, request.headers()));
    if !shared.access.metrics_open && !local {
        return reply::refusal(&Fault::new(
            FaultKind::Denied,
            "metrics are for this machine only: `metrics.open: true` opens them",
        ));
    }
    reply::ok(metrics::KIND, metrics::render(&shared.server.stats, &shared.ops))
}

pub(crate) async fn upgrade_socket(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
) -> Response<Body> {
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
    let caller = connection.caller(request.headers());
    match upgrade::upgrade(&mut request) {
        Ok((response, upgraded)) => {
            tokio::spawn(async move {
                // A client that leaves during the upgrade never had a connection.
                if let Ok(socket) = upgraded.await {
                    connection.upgraded();
                    websocket::serve(socket.into_inner(), &shared.server, caller).await;
                }
                drop(connection);
            });
            response.map(|_| Body::empty())
        }
        Err(error) => {
            reply::refusal(&Fault::invalid(format!("this is not a valid WebSocket handshake: {error}")))
        }
    }
}

/// Refuses every method but GET and HEAD, for pages that have only these.
pub(crate) async fn get_only() -> Response<Body> {
    no_method(&[Method::GET, Method::HEAD])
}

fn no_method(methods: &[Method]) -> Response<Body> {
    let fault = Fault::new(FaultKind::Unimplemented, "method not allowed");
    let mut response = reply::refusal_as(StatusCode::METHOD_NOT_ALLOWED, &fault);
    allow(&mut response, methods);
    response
}

/// Operations by their routes, and the files of the playground.
pub(crate) async fn fallback(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let origin = match shared.access.check(request.headers()) {
        Ok(origin) => origin,
        Err(fault) => return reply::refusal(&fault),
    };
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let mut response = match shared.routes.find(request.method(), path, query) {
        Found::Op(matched) => call(&shared, matched, request).await,
        Found::Methods(methods) if request.method() == Method::OPTIONS => preflight(&methods),
        Found::Methods(methods) => no_method(&methods),
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

async fn call(shared: &Arc<Shared>, matched: Matched<'_>, request: Request) -> Response<Body> {
    let json = is_json(&request);
    let Rest { reply, refuse, .. } = *matched.rest();
    match timeout(shared.call_time, try_call(shared, matched, request)).await {
        Ok(Ok(bytes)) => {
            shared.server.stats.door(Door::Http).went(bytes.len());
            match reply {
                RestReply::Raw { content_type: Some(kind), .. } => reply::ok(kind, bytes),
                RestReply::Raw { content_type: None, .. } if !json => {
                    reply::ok("application/octet-stream", bytes)
                }
                RestReply::Raw { .. } | RestReply::Json | RestReply::Shaped(_) => reply::json_bytes(bytes),
            }
        }
        Ok(Err(Refused::Fault(fault))) => reply::refusal_in(refuse, &fault, fault.kind.http()),
        Ok(Err(Refused::TooLong)) => {
            let fault =
                Fault::invalid(format!("the request body is over the limit of {BODY_BYTES_MAX} bytes"));
            reply::refusal_in(refuse, &fault, StatusCode::PAYLOAD_TOO_LARGE.as_u16())
        }
        Err(_) => {
            let fault = Fault::from(FaultKind::Deadline);
            reply::refusal_in(refuse, &fault, fault.kind.http())
        }
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

async fn try_call(shared: &Arc<Shared>, matched: Matched<'_>, request: Request) -> Result<Bytes, Refused> {
    let address = remote(&request).ok_or(Fault::from(FaultKind::Internal))?;
    let query = matched.query(request.uri().query().unwrap_or_default())?;
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::to_str);
    let authorization = authorization
        .transpose()
        .map_err(|_| Fault::new(FaultKind::Unauthenticated, "the Authorization header is not text"))?;
    let credential = Credential::read(authorization, query.credential)?;
    let identity = shared.server.credentials.prove(&credential)?;
    // A caller that the frame would refuse is refused before its body is read, so that it costs neither memory nor journal.
    let auth = shared.ops.get(matched.op()).map_or(Auth::Server, |row| row.op.auth);
    identity.clone().map_or(Caller::Anonymous, Caller::User).allowed(auth)?;
    shared.budgets.call(address)?;
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = timeout(BODY_TIME, body)
        .await
        .map_err(|_| Fault::new(FaultKind::TimedOut, "the request body took too long to arrive"))?
        .map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                Refused::TooLong
            } else {
                Refused::Fault(Fault::invalid("the request body cannot be read"))
            }
        })?
        .to_bytes();
    shared.server.stats.door(Door::Http).came(body.len());
    shared.budgets.body(address, body.len())?;
    shared.server.stats.count_call(matched.op());
    let name = matched.name().to_owned();
    let waiting = shared.server.bridge.call(name, identity, address, matched.body(query.fields, body))?;
    Ok(waiting.answer().await?)
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"))
}

fn remote(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Connection>().map(|connection| connection.caller(request.headers()))
}

/// Checks where a request comes from, then answers it.
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

/// Answers the question that a browser asks before a request that a form could not send.
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
