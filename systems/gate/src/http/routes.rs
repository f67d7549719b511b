//! The HTTP routes of the op table: which operation and which of its faces a path names, and what path and query say.

use axum::http::Method;
use bytes::Bytes;
use kaos_kernel::fault::Fault;
use kaos_kernel::input::{Body, RestRequest};
use kaos_kernel::op::{OpId, OpTable, Rest};

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
    rest: Rest,
}

/// All routes.
pub(crate) struct Routes(Vec<Row>);

/// What a path names.
pub(crate) enum Found<'r> {
    /// An operation.
    Op(Matched<'r>),
    /// Operations, but not with this method; these are there.
    Methods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// An operation and what the path says.
pub(crate) struct Matched<'r> {
    row: &'r Row,
    parameters: Vec<(String, String)>,
}

/// What a query string says.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct QueryString {
    /// The fields, in their order.
    pub(crate) fields: Vec<(String, String)>,
    /// The credential, when the route takes one from here.
    pub(crate) credential: Option<String>,
}

impl Routes {
    /// The routes that the table names.
    pub(crate) fn new(ops: &OpTable) -> Self {
        let mut rows = Vec::new();
        for row in ops.rows() {
            rows.extend(row.op.rests().filter_map(|(face, rest)| {
                Some(Row {
                    op: row.id,
                    name: row.op.name.clone(),
                    method: rest.method.parse().ok()?,
                    segments: rest.path.trim_start_matches('/').split('/').map(segment).collect(),
                    face,
                    rest: rest.clone(),
                })
            }));
        }
        // Literal segments win over parameters, the leftmost first; of equal paths the one that asks for a key.
        rows.sort_by_key(|row| -> (Vec<bool>, bool) {
            let parameters =
                row.segments.iter().map(|segment| matches!(segment, Segment::Parameter(_))).collect();
            (parameters, row.rest.when.is_none())
        });
        Routes(rows)
    }

    /// What path and query string name, as they stand in the request.
    pub(crate) fn find(&self, method: &Method, path: &str, query: &str) -> Found<'_> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let mut methods = Vec::new();
        for row in &self.0 {
            if row.rest.when.is_some_and(|key| !has_key(query, key)) {
                continue;
            }
            let Some(parameters) = fit(&row.segments, &parts) else { continue };
            if row.method == *method {
                return Found::Op(Matched { row, parameters });
            }
            if !methods.contains(&row.method) {
                methods.push(row.method.clone());
            }
        }
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
    }
}

/// Whether a query string has a key, which needs no encoding.
fn has_key(query: &str, key: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(key))
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

impl Matched<'_> {
    /// Which operation.
    pub(crate) fn op(&self) -> OpId {
        self.row.op
    }

    /// The operation's dotted name.
    pub(crate) fn name(&self) -> &str {
        &self.row.name
    }

    /// The face by which it is reached.
    pub(crate) fn rest(&self) -> &Rest {
        &self.row.rest
    }

    /// Reads the query string. Keys that are no fields do not go on.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`](kaos_kernel::fault::FaultKind::Invalid): the query string cannot be read.
    pub(crate) fn query(&self, query: &str) -> Result<QueryString, Fault> {
        let mut fields: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|error| {
            Fault::invalid(format!("{}: the query string cannot be read: {error}", self.row.name))
        })?;
        let Rest { when, credential: key, .. } = &self.row.rest;
        let mut credential = None;
        fields.retain_mut(|(name, value)| {
            if *key == Some(name.as_str()) {
                credential = Some(std::mem::take(value));
                return false;
            }
            *when != Some(name.as_str())
        });
        Ok(QueryString { fields, credential })
    }

    /// The request, to be read by the operation's face.
    pub(crate) fn body(self, fields: Vec<(String, String)>, body: Bytes) -> Body {
        let (face, parameters) = (self.row.face, self.parameters);
        Body::Rest(Box::new(RestRequest { face, parameters, query: fields, body }))
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
            app.op(Op::new("room.get").rest("GET /v1/rooms/{id}").price(1), nothing)
                .op(Op::new("room.mine").rest("GET /v1/rooms/mine").price(1), nothing)
                .op(Op::new("room.tell").rest("POST /v1/rooms/{id}/tell").price(1), nothing)
                .op(Op::new("afk.status").rest("GET /v1/afk").rest("POST /v1/afk").price(1), nothing)
                .op(
                    Op::new("call")
                        .rest("POST /v2/rpc/{id}")
                        .face(Face::Rest(
                            Rest::new("POST /v2/rpc/{id}").when("unwrap").credential("http_key"),
                        ))
                        .price(1),
                    nothing,
                );
        });
        Routes::new(&server.expect("builds").ops())
    }

    fn found<'r>(routes: &'r Routes, method: Method, path: &str, query: &str) -> Option<Matched<'r>> {
        match routes.find(&method, path, query) {
            Found::Op(matched) => Some(matched),
            Found::Methods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn paths_name_operations_and_literals_win() {
        let routes = routes();
        let get = |path| found(&routes, Method::GET, path, "");
        assert_eq!(get("/v1/afk").expect("there").name(), "afk.status");
        assert_eq!(get("/v1/rooms/mine").expect("there").name(), "room.mine");
        let matched = get("/v1/rooms/a%2Fb+c%20d").expect("there");
        assert_eq!((matched.name(), matched.parameters[0].1.as_str()), ("room.get", "a/b+c d"));
        for path in ["/", "/v1", "/v1/rooms", "/v1/rooms/", "/v1/rooms/a/b/c", "/v1/afk/"] {
            assert!(get(path).is_none(), "{path}");
        }
        let Found::Methods(methods) = routes.find(&Method::DELETE, "/v1/afk", "") else { panic!("found") };
        assert_eq!(methods, [Method::GET, Method::POST]);
    }

    #[test]
    fn a_request_says_what_path_query_and_body_say() {
        let routes = routes();
        let get = found(&routes, Method::GET, "/v1/rooms/a&b", "").expect("there");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let came = RestRequest {
            face: 0,
            parameters: vec![pair("id", "a&b")],
            query: vec![pair("limit", "3"), pair("limit", "4 5")],
            body: Bytes::from_static(b"x"),
        };
        let query = get.query("limit=3&limit=4+5").expect("a query");
        assert_eq!(query.credential, None);
        assert_eq!(get.body(query.fields, Bytes::from_static(b"x")), Body::Rest(Box::new(came)));
        let other = found(&routes, Method::POST, "/v1/afk", "").expect("its other route");
        assert_eq!(other.row.face, 1);
    }

    #[test]
    fn a_key_of_the_query_chooses_the_face_and_a_credential_goes_no_further() {
        let routes = routes();
        let post = |query| found(&routes, Method::POST, "/v2/rpc/x", query).expect("there");
        assert_eq!(post("").row.face, 0);
        for query in ["unwrap", "unwrap=", "a=b&unwrap=true"] {
            assert_eq!(post(query).row.face, 1, "{query}");
        }
        for query in ["unwrapped=1", "a=unwrap", "Unwrap"] {
            assert_eq!(post(query).row.face, 0, "{query}");
        }
        let query = post("unwrap=1").query("a=1&unwrap=1&http_key=secret&a=2").expect("a query");
        let pair = |value: &str| ("a".to_owned(), value.to_owned());
        let expected =
            QueryString { fields: vec![pair("1"), pair("2")], credential: Some("secret".to_owned()) };
        assert_eq!(query, expected);
        let Found::Methods(methods) = routes.find(&Method::PUT, "/v2/rpc/x", "unwrap") else {
            panic!("found")
        };
        assert_eq!(methods, [Method::POST], "said once");
    }
}
