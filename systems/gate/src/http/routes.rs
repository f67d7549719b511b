//! The HTTP routes of the op table: which operation a path names, and the request that it makes.

use axum::http::Method;
use kaos_kernel::fault::Fault;
use kaos_kernel::input::Body;
use kaos_kernel::op::{OpId, OpTable};
use kaos_wire::prost::Message;
use kaos_wire::v1;
use serde_json::{Map, Value as Json};

enum Segment {
    Literal(String),
    Parameter(String),
}

struct Row {
    op: OpId,
    name: String,
    method: Method,
    segments: Vec<Segment>,
    /// The body is the payload of an rpc and not JSON.
    raw: bool,
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
    /// The body is the payload of an rpc and not JSON.
    pub(crate) raw: bool,
    parameters: Vec<(String, String)>,
}

impl Routes {
    /// The routes that the table names.
    pub(crate) fn new(ops: &OpTable) -> Self {
        let row = |row: &kaos_kernel::op::OpRow| {
            let route = row.op.route.as_ref()?;
            let segment = |text: &str| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                Some(name) => Segment::Parameter(name.to_owned()),
                None => Segment::Literal(text.to_owned()),
            };
            let raw = row.op.wire.is_some_and(|form| form.opcode == kaos_wire::Op::Rpc as u8);
            Some(Row {
                op: row.id,
                name: row.op.name.clone(),
                method: route.method.parse().ok()?,
                segments: route.path.trim_start_matches('/').split('/').map(segment).collect(),
                raw,
            })
        };
        let mut rows: Vec<Row> = ops.rows().iter().filter_map(row).collect();
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
                let Row { op, name, raw, .. } = row;
                return Found::Op(Matched { op: *op, name: name.clone(), raw: *raw, parameters });
            }
            methods.push(row.method.clone());
        }
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
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
    /// The request: parameters of the path, and the query (GET and DELETE) or the body (all others).
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](kaos_kernel::fault::FaultKind::Invalid): a body that is no JSON object although
    /// the path has parameters for it.
    pub(crate) fn body(&self, method: &Method, query: &str, body: bytes::Bytes) -> Result<Body, Fault> {
        if self.raw {
            let id = self.parameters.first().map(|(_, value)| value.clone()).unwrap_or_default();
            let rpc = v1::Rpc { cid: 0, id, payload: body.into() };
            return Ok(Body::Wire(rpc.encode_to_vec().into()));
        }
        if matches!(*method, Method::GET | Method::DELETE) {
            let own = serde_urlencoded::to_string(&self.parameters)
                .map_err(|error| Fault::internal(error.to_string()))?;
            let both: Vec<&str> = [own.as_str(), query].into_iter().filter(|text| !text.is_empty()).collect();
            return Ok(Body::Form(both.join("&")));
        }
        if self.parameters.is_empty() {
            return Ok(Body::Json(body));
        }
        let mut fields = match body.is_empty() {
            true => Map::new(),
            false => serde_json::from_slice(&body).map_err(|error| {
                Fault::invalid(format!("{}: the body is no JSON object: {error}", self.name))
            })?,
        };
        let parameters =
            self.parameters.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str())));
        fields.extend(parameters);
        Ok(Body::Json(Json::Object(fields).to_string().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaos_kernel::prelude::*;
    use kaos_kernel::server::{Build, Server};

    fn routes() -> Routes {
        async fn nothing(_: Call, _: ()) -> Result<(), Fault> {
            Ok(())
        }
        let server = Server::build(Build { journal_bytes_max: 0, ..Build::default() }, |app| {
            app.op(Op::new("room.get").rest("GET /v1/rooms/{id}"), nothing)
                .op(Op::new("room.mine").rest("GET /v1/rooms/mine"), nothing)
                .op(Op::new("room.tell").rest("POST /v1/rooms/{id}/tell"), nothing)
                .op(Op::new("afk.status").rest("GET /v1/afk"), nothing);
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
        let Found::Methods(methods) = routes().find(&Method::POST, "/v1/afk") else { panic!("found") };
        assert_eq!(methods, [Method::GET]);
    }

    #[test]
    fn requests_are_made_of_path_query_and_body() {
        let get = found(Method::GET, "/v1/rooms/a&b").expect("there");
        assert_eq!(
            get.body(&Method::GET, "limit=3", Bytes::new()),
            Ok(Body::Form("id=a%26b&limit=3".to_owned()))
        );
        let post = found(Method::POST, "/v1/rooms/7/tell").expect("there");
        let body = post.body(&Method::POST, "", Bytes::from_static(br#"{"text":"hi","id":"forged"}"#));
        assert_eq!(body, Ok(Body::Json(Bytes::from_static(br#"{"id":"7","text":"hi"}"#))));
        assert!(post.body(&Method::POST, "", Bytes::from_static(b"[1]")).is_err());
        assert_eq!(
            post.body(&Method::POST, "", Bytes::new()),
            Ok(Body::Json(Bytes::from_static(br#"{"id":"7"}"#)))
        );
    }
}
