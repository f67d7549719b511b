//! The faces of an operation: how each kind of door reaches it. A face owns both conversions, from a door's message to
//! the request and from the reply to a door's message. So handlers do not know doors, and doors do not know operations.

mod parts;
pub(crate) use parts::Parts;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::payload::Payload;
use super::schema::Schema;
use crate::fault::Fault;
use crate::input::RestRequest;
use crate::output::Channel;

/// One way to reach an operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Face {
    /// An HTTP route.
    Rest(Rest),
    /// A binary form of KaosNet's protocol.
    Wire(WireForm),
}

/// Reads the cid and the request of a message in an operation's binary form.
pub type ParseWire = fn(&[u8]) -> Result<(u32, Box<dyn Payload>), Fault>;

/// An operation's binary form.
#[derive(Clone, Copy, Debug)]
pub struct WireForm {
    /// The channel of requests and replies.
    pub channel: Channel,
    /// The opcode of the request.
    pub opcode: u8,
    /// The opcode of the reply.
    pub reply_opcode: u8,
    /// Reads the cid and the request.
    pub parse: ParseWire,
    /// Writes the reply with the request's cid.
    pub render: fn(u32, &dyn Payload) -> Result<Vec<u8>, Fault>,
}

/// What the body of an HTTP request contains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestBody {
    /// JSON: the whole request, or those of its fields that are neither in the path nor in the query. An empty body
    /// counts as an object without fields.
    Json,
    /// The bytes of this field, unread.
    Raw(&'static str),
    /// A JSON string, whose text is this field. An empty body or null leaves the field out.
    Text(&'static str),
    /// Nothing: a body is ignored.
    None,
}

/// Takes the bytes to send from a reply that is not sent as JSON.
pub type RawReply = fn(&dyn Payload) -> Result<Bytes, Fault>;

/// How a reply is written.
#[derive(Clone, Copy, Debug)]
pub enum RestReply {
    /// The JSON of the reply's type.
    Json,
    /// JSON that this function makes of the reply: with other names, without some fields, with large numbers as text.
    Shaped(fn(&dyn Payload) -> Result<Json, Fault>),
    /// Bytes.
    Raw {
        /// Takes the bytes from the reply.
        bytes: RawReply,
        /// The content type. `None`: `application/json` when the request's own content type is that, otherwise
        /// `application/octet-stream`.
        content_type: Option<&'static str>,
    },
}

/// Changes the fields from query and body before they are checked against the request's schema: renames fields, drops
/// some silently, reads numbers from text. It gets neither the path's parameters, which are added afterwards, nor a raw
/// body, and it is not called for a JSON body that is not an object.
pub type RequestShape = fn(&Schema, Map<String, Json>) -> Result<Map<String, Json>, Fault>;

/// The HTTP response to a refused request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Json,
}

/// Writes a refusal, from its fault and the HTTP status that KaosNet itself would use.
pub type Refuse = fn(&Fault, u16) -> Refusal;

/// An HTTP route.
#[derive(Clone, Debug)]
pub struct Rest {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: String,
    /// The path. A segment `{name}` is a parameter, which becomes the request field of that name.
    pub path: String,
    /// The fields that may be in the query string; `None`: any.
    pub query: Option<&'static [&'static str]>,
    /// What the body contains.
    pub body: RestBody,
    /// Changes the fields from query and body before the request is checked.
    pub shape: Option<RequestShape>,
    /// How the reply is written.
    pub reply: RestReply,
    /// How a refusal is written.
    pub refuse: Refuse,
    /// Restricts the route to requests with this key in the query string, whatever its value. Such a request prefers
    /// this route to one of the same method and path without `when`. The key is not a request field.
    pub when: Option<&'static str>,
    /// A key of the query string whose value is a credential; it takes precedence over the header `Authorization`. The
    /// door removes it from the request, so that it gets into no journal. The key is not a request field.
    pub credential: Option<&'static str>,
}

impl Rest {
    /// A route such as `GET /v1/rooms/{room_id}`. By default GET and DELETE have no body and the others have a JSON
    /// body; any field may be in the query string.
    pub fn new(route: &str) -> Self {
        // `problem` reports a route without a method.
        let (method, path) = route.split_once(' ').unwrap_or(("", route));
        let body = if matches!(method, "GET" | "DELETE") { RestBody::None } else { RestBody::Json };
        Rest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: None,
            body,
            shape: None,
            reply: RestReply::Json,
            refuse: refusal,
            when: None,
            credential: None,
        }
    }

    /// Names the fields that may be in the query string.
    pub fn query(mut self, fields: &'static [&'static str]) -> Self {
        self.query = Some(fields);
        self
    }

    /// Sets what the body contains.
    pub fn body(mut self, body: RestBody) -> Self {
        self.body = body;
        self
    }

    /// Sets the function that changes the fields from query and body before the request is checked.
    pub fn shape(mut self, shape: RequestShape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Sets how the reply is written.
    pub fn reply(mut self, reply: RestReply) -> Self {
        self.reply = reply;
        self
    }

    /// Sends bytes as the reply, with the default content type of [`RestReply::Raw`].
    pub fn raw_reply(self, bytes: RawReply) -> Self {
        self.reply(RestReply::Raw { bytes, content_type: None })
    }

    /// Restricts the route to requests with this key in the query string; see the field `when`.
    pub fn when(mut self, key: &'static str) -> Self {
        self.when = Some(key);
        self
    }

    /// Accepts a credential in this key of the query string, with precedence over the header `Authorization`.
    pub fn credential(mut self, key: &'static str) -> Self {
        self.credential = Some(key);
        self
    }

    /// Sets how refusals are written.
    pub fn refusals(mut self, refuse: Refuse) -> Self {
        self.refuse = refuse;
        self
    }

    /// The names of the path's parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> + '_ {
        let names =
            self.path.split('/').map(|part| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')));
        names.flatten()
    }

    /// A sentence about what is wrong with this route for an operation with this request; `None`: nothing.
    pub(crate) fn problem(&self, request: &Schema) -> Option<String> {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        if !known.contains(&self.method.as_str()) || !self.path.starts_with('/') {
            let route = format!("{} {}", self.method, self.path);
            return Some(format!("`{}` is not a route: write `GET /v1/things`", route.trim_start()));
        }
        let route = || format!("{} {}", self.method, self.path);
        let body = match self.body {
            RestBody::Raw(field) | RestBody::Text(field) => Some(field),
            RestBody::Json | RestBody::None => None,
        };
        let mut fields = self.parameters().chain(body);
        // With a `shape` the query string may use other names than the request does.
        let mut allowed = self.query.into_iter().flatten().copied().filter(|_| self.shape.is_none());
        let unknown = fields.find(|field| !request.has_field(field));
        if let Some(unknown) = unknown.or_else(|| allowed.find(|field| !request.has_field(field))) {
            return Some(format!("{}: its request has no field `{unknown}`", route()));
        }
        let key = self.when.into_iter().chain(self.credential).find(|key| request.names_field(key))?;
        Some(format!("{}: the key `{key}` is a field of its request, too", route()))
    }

    /// Whether two routes of one server would match the same requests.
    pub(crate) fn conflicts_with(&self, other: &Rest) -> bool {
        // The name of a parameter does not tell requests apart, so all parameters are compared as equal.
        let segments = |path: &str| -> Vec<Option<String>> {
            path.split('/').map(|part| (!part.starts_with('{')).then(|| part.to_owned())).collect()
        };
        self.method == other.method
            && self.when == other.when
            && segments(&self.path) == segments(&other.path)
    }

    /// Assembles a request from path, query and body.
    ///
    /// # Errors
    /// `invalid`: a field that may not be in the query or is given twice; a body that is not JSON or has the wrong
    /// type.
    pub(crate) fn read<'b>(&self, schema: &Schema, request: &'b RestRequest) -> Result<Parts<'b>, Fault> {
        let RestRequest { parameters, query, body, .. } = request;
        let mut fields = self.read_query(schema, query)?;
        let mut raw = None;
        let mut whole = None;
        match self.body {
            RestBody::None => {}
            RestBody::Raw(field) => raw = Some((field, body)),
            RestBody::Json | RestBody::Text(_) if body.is_empty() => {}
            RestBody::Text(field) => match read_json(body)? {
                Json::Null => {}
                text @ Json::String(_) => merge(&mut fields, Map::from_iter([(field.to_owned(), text)]))?,
                _ => return Err(Fault::invalid("the body is not a JSON string")),
            },
            RestBody::Json => match read_json(body)? {
                Json::Object(more) => merge(&mut fields, more)?,
                value if fields.is_empty() && parameters.is_empty() => whole = Some(value),
                _ => return Err(Fault::invalid("the body is not a JSON object")),
            },
        }
        if let (Some(change), None) = (self.shape, &whole) {
            fields = change(schema, fields)?;
        }
        // Parameters come last and overwrite: a field of query or body must not replace what the path names.
        for (name, text) in parameters {
            let value = schema.read_text(name, std::slice::from_ref(text)).map_err(Fault::invalid)?;
            fields.insert(name.clone(), value);
        }
        let is_empty = fields.is_empty() && raw.is_none();
        let json = whole.unwrap_or_else(|| if is_empty { schema.nothing() } else { Json::Object(fields) });
        Ok(Parts { json, raw })
    }

    /// The fields in the query string, each read by its type.
    fn read_query(&self, schema: &Schema, query: &[(String, String)]) -> Result<Map<String, Json>, Fault> {
        let mut fields = Map::new();
        // Grouped by one sort instead of a search per name, because the client chooses the number of names. The sort is
        // stable, so the values of one name stay in their order.
        let mut pairs: Vec<&(String, String)> = query.iter().collect();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        for group in pairs.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((name, _)) = group.first() else { continue };
            if self.query.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
                return Err(Fault::invalid(format!("`{name}` cannot be given in the query string")));
            }
            let texts: Vec<String> = group.iter().map(|(_, text)| text.clone()).collect();
            fields.insert(name.clone(), schema.read_text(name, &texts).map_err(Fault::invalid)?);
        }
        Ok(fields)
    }

    /// Writes a reply as this route sends it.
    ///
    /// # Errors
    /// The fault of the route's own function; `internal` for a reply that cannot be written as JSON.
    pub(crate) fn write(&self, reply: &dyn Payload) -> Result<Bytes, Fault> {
        match self.reply {
            RestReply::Raw { bytes, .. } => bytes(reply),
            RestReply::Shaped(to_json) => Ok(to_json(reply)?.to_string().into()),
            RestReply::Json => write_json(reply),
        }
    }
}

/// Writes a reply as JSON.
///
/// # Errors
/// `internal`: JSON cannot express it.
pub(crate) fn write_json(reply: &dyn Payload) -> Result<Bytes, Fault> {
    serde_json::to_vec(reply)
        .map(Bytes::from)
        .map_err(|error| Fault::internal(format!("the reply is not JSON: {error}")))
}

/// Reads JSON from a body.
///
/// # Errors
/// `invalid`: the body is not JSON.
fn read_json(body: &[u8]) -> Result<Json, Fault> {
    serde_json::from_slice(body).map_err(|error| not_json(&error))
}

/// Adds the fields of a body to those of the query string.
///
/// # Errors
/// `invalid`: a field is in both.
fn merge(fields: &mut Map<String, Json>, more: Map<String, Json>) -> Result<(), Fault> {
    for (name, value) in more {
        if fields.contains_key(&name) {
            return Err(Fault::invalid(format!("`{name}` is given in the query string and in the body")));
        }
        fields.insert(name, value);
    }
    Ok(())
}

/// The fault for bytes that should be JSON and are not.
pub(crate) fn not_json(error: &serde_json::Error) -> Fault {
    Fault::invalid(format!("this is not JSON: {error}"))
}

/// KaosNet's own refusal: `{"code", "name", "message"}`. The door adds the header `Retry-After`.
pub fn refusal(fault: &Fault, status: u16) -> Refusal {
    let body = json!({ "code": fault.kind.code(), "name": fault.kind.name(), "message": fault.message });
    Refusal { status, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Query {
        a: Vec<u32>,
        b: String,
    }

    #[test]
    fn the_values_of_a_key_stay_in_their_order_with_others_between_them() {
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let query = vec![pair("a", "2"), pair("b", "x"), pair("a", "1")];
        let request = RestRequest { face: 0, parameters: Vec::new(), query, body: Bytes::new() };
        let parts = Rest::new("GET /v1/things").read(&Schema::of::<Query>(), &request).expect("read");
        assert_eq!(parts.json, json!({ "a": [2, 1], "b": "x" }));
    }
}
