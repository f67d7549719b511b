//! Answers over HTTP: JSON, faults with their status, and the headers that all of them have.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use kaos_kernel::fault::Fault;
use kaos_kernel::op::{Refusal, Refuse};

/// What no answer of a game server needs: guessing of types, frames, referrers.
fn response(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Bytes of a type.
pub(crate) fn ok(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    response(StatusCode::OK, kind, body)
}

/// JSON that is written already.
pub(crate) fn json_bytes(body: Bytes) -> Response<Body> {
    ok("application/json", body)
}

/// A refusal: `{"code", "name", "message"}` with the fault's status, and when to come back.
pub(crate) fn refusal(fault: &Fault) -> Response<Body> {
    refusal_in(kaos_kernel::op::refusal, fault, fault.kind.http())
}

/// [`refusal`] with a sharper status than the fault's own.
pub(crate) fn refusal_as(status: StatusCode, fault: &Fault) -> Response<Body> {
    refusal_in(kaos_kernel::op::refusal, fault, status.as_u16())
}

/// A refusal in the shape of the face that refuses; `status` is what KaosNet's own would have.
pub(crate) fn refusal_in(refuse: Refuse, fault: &Fault, status: u16) -> Response<Body> {
    let Refusal { status, body } = refuse(fault, status);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(status, "application/json", body.to_string());
    if fault.retry_ms > 0 {
        let secs = fault.retry_ms.div_ceil(1000);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
