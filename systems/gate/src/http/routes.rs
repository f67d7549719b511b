//! The HTTP routes of the op table: which operation and which of its faces a path names, and what path and query say.

use axum::http::Method;
use bytes::Bytes;
use kaos_kernel::fault::Fault;
use kaos_kernel::input::{Body, RestRequest};
use kaos_kernel::op::{OpId, OpTable, Refuse, Rest};

enum Segment {
    Literal(String),
    Parameter(String),
}

struct Row {
    op: OpId,
    name: String,
    method: Method,
    segments: Vec<Segment>,
    face: u16,
    raw_reply: bool,
    refuse: Refuse,
}

/// All routes.
pub(crate) struct Routes(Vec<Row>);

/// What a path names.
pub(crate) enum Found {
    /// An operation.
    Op(Matched),
    /// Operations, but not with this method; these are there.
    Methods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// An operation and what the path says.
pub(crate) struct Matched {
    pub(crate) op: OpId,
    pub(crate) name: String,
    /// The reply is bytes, and not written as JSON.
    pub(crate) raw_reply: bool,
    /// How its refusals are written.
    pub(crate) refuse: Refuse,
    face: u16,
    parameters: Vec<(String, String)>,
}

impl Routes {
    /// The routes that the table names.
    pub(crate) fn new(ops: &OpTable) -> Self {
        let mut rows = Vec::new();
        for row in ops.rows() {
            rows.extend(row.op.rests().filter_map(|(face, rest)| {
                let Rest { method, path, raw_reply, refuse, .. } = rest;
                Some(Row {
                    op: row.id,
                    name: row.op.name.clone(),
                    method: method.parse().ok()?,
                    segments: path.trim_start_matches('/').split('/').map(segment).collect(),
                    face,
                    raw_reply: raw_reply.is_some(),
                    refuse: *refuse,
                })
            }));
        }
        // Literal segments win over parameters, the leftmost first.
        rows.sort_by_key(|row| -> Vec<bool> {
            row.segments.iter().map(|segment| matches!(segment, Segment::Parameter(_))).collect()
        });
        Routes(rows)
    }

    /// What `path` names, as it stands in the request.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let mut methods = Vec::new();
        for row in &self.0 {
            let Some(parameters) = fit(&row.segments, &parts) else { continue };
            if row.method == *method {
                let Row { op, name, face, raw_reply, refuse, .. } = row;
                let (op, face, raw_reply, refuse) = (*op, *face, *raw_reply, *refuse);
                return Found::Op(Matched { op, name: name.clone(), raw_reply, refuse, face, parameters });
            }
            methods.push(row.method.clone());
        }
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
    }
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) => Segment::Parameter(name.to_owned()),
        None => Segment::Literal(text.to_owned()),
    }
}

fn fit(segments: &[Segment], parts: &[&str]) -> Option<Vec<(String, String)>> {
    if segments.len() != parts.len() {
        return None;
    }
    let mut parameters = Vec::new();
    for (segment, part) in segments.iter().zip(parts) {
        match segment {
            Segment::Literal(text) if text == part => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(name) if !part.is_empty() => parameters.push((name.clone(), decode(part)?)),
            Segment::Parameter(_) => return None,
        }
    }
    Some(parameters)
}

/// Undoes the percent-encoding of a path segment. A plus is a plus there, and an ampersand an ampersand.
fn decode(part: &str) -> Option<String> {
    let pair = format!("x={}", part.replace('+', "%2B").replace('&', "%26"));
    let pairs = serde_urlencoded::from_str::<Vec<(String, String)>>(&pair).ok()?;
    match pairs.as_slice() {
        [(_, value)] => Some(value.clone()),
        _ => None,
    }
}

impl Matched {
    /// The request, to be read by the operation's face.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](kaos_kernel::fault::FaultKind::Invalid): the query string cannot be read.
    pub(crate) fn body(&self, query: &str, body: Bytes) -> Result<Body, Fault> {
        let query = serde_urlencoded::from_str(query).map_err(|error| {
            Fault::invalid(format!("{}: the query string cannot be read: {error}", self.name))
        })?;
        let came = RestRequest { face: self.face, parameters: self.parameters.clone(), query, body };
        Ok(Body::Rest(Box::new(came)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaos_kernel::prelude::*;
    use kaos_kernel::server::{Build, Server};

    fn routes() -> Routes {
        async fn nothing(_: Call, _: serde_json::Value) -> Result<(), Fault> {
            Ok(())
        }
        let server = Server::build(Build { journal_bytes_max: 0, ..Build::default() }, |app| {
            app.op(Op::new("room.get").rest("GET /v1/rooms/{id}"), nothing)
                .op(Op::new("room.mine").rest("GET /v1/rooms/mine"), nothing)
                .op(Op::new("room.tell").rest("POST /v1/rooms/{id}/tell"), nothing)
                .op(Op::new("afk.status").rest("GET /v1/afk").rest("POST /v1/afk"), nothing);
        });
        Routes::new(&server.expect("builds").ops())
    }

    fn found(method: Method, path: &str) -> Option<Matched> {
        match routes().find(&method, path) {
            Found::Op(matched) => Some(matched),
            Found::Methods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn paths_name_operations_and_literals_win() {
        assert_eq!(found(Method::GET, "/v1/afk").expect("there").name, "afk.status");
        assert_eq!(found(Method::GET, "/v1/rooms/mine").expect("there").name, "room.mine");
        let matched = found(Method::GET, "/v1/rooms/a%2Fb+c%20d").expect("there");
        assert_eq!((matched.name.as_str(), matched.parameters[0].1.as_str()), ("room.get", "a/b+c d"));
        for path in ["/", "/v1", "/v1/rooms", "/v1/rooms/", "/v1/rooms/a/b/c", "/v1/afk/"] {
            assert!(found(Method::GET, path).is_none(), "{path}");
        }
        let Found::Methods(methods) = routes().find(&Method::DELETE, "/v1/afk") else { panic!("found") };
        assert_eq!(methods, [Method::GET, Method::POST]);
    }

    #[test]
    fn a_request_says_what_path_query_and_body_say() {
        let get = found(Method::GET, "/v1/rooms/a&b").expect("there");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let came = RestRequest {
            face: 0,
            parameters: vec![pair("id", "a&b")],
            query: vec![pair("limit", "3"), pair("limit", "4 5")],
            body: Bytes::from_static(b"x"),
        };
        let body = Bytes::from_static(b"x");
        assert_eq!(get.body("limit=3&limit=4+5", body), Ok(Body::Rest(Box::new(came))));
        assert_eq!(found(Method::POST, "/v1/afk").expect("its other route").face, 1);
    }
}
