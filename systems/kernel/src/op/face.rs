//! The faces of an operation: how each kind of door reaches it. A face owns both conversions, from what came to the request
//! and from the reply to what goes out, so that no handler knows a door and no door an operation.

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

/// Reads a request and its cid from an operation's own binary form.
pub type ParseWire = fn(&[u8]) -> Result<(u32, Box<dyn Payload>), Fault>;

/// An operation's own binary form.
#[derive(Clone, Copy, Debug)]
pub struct WireForm {
    /// The channel of its messages.
    pub channel: Channel,
    /// The message number of the request.
    pub opcode: u8,
    /// The message number of the answer.
    pub reply_opcode: u8,
    /// Reads a request and its cid.
    pub parse: ParseWire,
    /// Writes a reply with its cid.
    pub render: fn(u32, &dyn Payload) -> Result<Vec<u8>, Fault>,
}

/// What the body of an HTTP request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestBody {
    /// The request, or those of its fields that stand neither in the path nor in the query. Nothing is an object without
    /// fields.
    Json,
    /// This field, as it came.
    Raw(&'static str),
    /// Nothing: what comes is not looked at.
    None,
}

/// Takes the bytes of a reply that is no JSON.
pub type RawReply = fn(&dyn Payload) -> Result<Bytes, Fault>;

/// How a refusal is written, as JSON. The status is the fault's.
pub type Refuse = fn(&Fault) -> Json;

/// An HTTP route.
#[derive(Clone, Debug)]
pub struct Rest {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: String,
    /// With `{name}` for what becomes a field of the request.
    pub path: String,
    /// The fields that may come in the query string; `None`: any.
    pub query: Option<&'static [&'static str]>,
    /// What the body is.
    pub body: RestBody,
    /// The reply's bytes, when it is not written as JSON. They are sent as `application/octet-stream`, or as JSON to whoever
    /// sent JSON.
    pub raw_reply: Option<RawReply>,
    /// How a refusal is written.
    pub refuse: Refuse,
}

impl Rest {
    /// A route such as `GET /v1/rooms/{room_id}`. GET and DELETE have no body, the others a JSON one; any field may come in
    /// the query string.
    pub fn new(route: &str) -> Self {
        let (method, path) = route.split_once(' ').unwrap_or(("POST", route));
        let body = if matches!(method, "GET" | "DELETE") { RestBody::None } else { RestBody::Json };
        Rest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: None,
            body,
            raw_reply: None,
            refuse: refusal,
        }
    }

    /// Names the fields that may come in the query string.
    pub fn query(mut self, fields: &'static [&'static str]) -> Self {
        self.query = Some(fields);
        self
    }

    /// Says what the body is.
    pub fn body(mut self, body: RestBody) -> Self {
        self.body = body;
        self
    }

    /// Sends bytes instead of JSON.
    pub fn raw_reply(mut self, reply: RawReply) -> Self {
        self.raw_reply = Some(reply);
        self
    }

    /// Writes refusals in a shape of its own.
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

    /// What is wrong with a route of an operation with this request, as a sentence.
    pub(crate) fn wrong(&self, request: &Schema) -> Option<String> {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        if !known.contains(&self.method.as_str()) || !self.path.starts_with('/') {
            return Some(format!("`{} {}` is no route: write `GET /v1/things`", self.method, self.path));
        }
        let raw = match self.body {
            RestBody::Raw(field) => Some(field),
            RestBody::Json | RestBody::None => None,
        };
        let mut fields = self.parameters().chain(self.query.into_iter().flatten().copied()).chain(raw);
        let lost = fields.find(|field| !request.has_field(field))?;
        Some(format!("{} {}: its request has no field `{lost}`", self.method, self.path))
    }

    /// Puts a request together from path, query and body.
    ///
    /// # Errors
    /// `invalid`: a field that may not come in the query, or is given twice; a body that is no JSON.
    pub(crate) fn read<'b>(&self, schema: &Schema, came: &'b RestRequest) -> Result<Parts<'b>, Fault> {
        let RestRequest { parameters, query, body, .. } = came;
        let mut fields = Map::new();
        for (name, _) in query {
            if fields.contains_key(name) {
                continue;
            }
            if self.query.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
                return Err(Fault::invalid(format!("`{name}` cannot be given in the query string")));
            }
            let texts: Vec<String> =
                query.iter().filter(|(other, _)| other == name).map(|(_, text)| text.clone()).collect();
            fields.insert(name.clone(), schema.read_text(name, &texts).map_err(Fault::invalid)?);
        }
        let mut raw = None;
        let mut whole = None;
        match self.body {
            RestBody::None => {}
            RestBody::Raw(field) => raw = Some((field, body)),
            RestBody::Json if body.is_empty() => {}
            RestBody::Json => match serde_json::from_slice(body).map_err(|error| no_json(&error))? {
                Json::Object(own) => merge(&mut fields, own)?,
                value if fields.is_empty() && parameters.is_empty() => whole = Some(value),
                _ => return Err(Fault::invalid("the body is no JSON object")),
            },
        }
        // Last, and over everything else: what the path names cannot be forged by a field.
        for (name, text) in parameters {
            let value = schema.read_text(name, std::slice::from_ref(text)).map_err(Fault::invalid)?;
            fields.insert(name.clone(), value);
        }
        let nothing = fields.is_empty() && raw.is_none();
        let json = whole.unwrap_or_else(|| if nothing { schema.nothing() } else { Json::Object(fields) });
        Ok(Parts { json, raw })
    }
}

fn merge(fields: &mut Map<String, Json>, own: Map<String, Json>) -> Result<(), Fault> {
    for (name, value) in own {
        if fields.contains_key(&name) {
            return Err(Fault::invalid(format!("`{name}` is given in the query string and in the body")));
        }
        fields.insert(name, value);
    }
    Ok(())
}

/// Bytes that were to be JSON.
pub(crate) fn no_json(error: &serde_json::Error) -> Fault {
    Fault::invalid(format!("this is no JSON: {error}"))
}

/// KaosNet's own refusal: `{"code", "name", "message"}`. When to try again stands in the header `Retry-After`.
pub fn refusal(fault: &Fault) -> Json {
    json!({ "code": fault.kind.code(), "name": fault.kind.word(), "message": fault.message })
}
