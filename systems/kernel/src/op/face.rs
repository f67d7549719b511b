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
    /// A JSON string, whose text is this field. Nothing, or null, leaves the field out.
    Text(&'static str),
    /// Nothing: what comes is not looked at.
    None,
}

/// Takes the bytes of a reply that is no JSON.
pub type RawReply = fn(&dyn Payload) -> Result<Bytes, Fault>;

/// What a reply is written as.
#[derive(Clone, Copy, Debug)]
pub enum RestReply {
    /// JSON, as the reply's type has it.
    Json,
    /// JSON of another shape: other names, fields left out, large numbers as text.
    Shaped(fn(&dyn Payload) -> Result<Json, Fault>),
    /// Bytes.
    Raw {
        /// Takes them out of the reply.
        bytes: RawReply,
        /// Their content type. `None`: `application/octet-stream`, or JSON for whoever sent JSON.
        content_type: Option<&'static str>,
    },
}

/// Reshapes what path, query and body said, before it is held against the request's schema: other names for fields, fields
/// that are left out in silence, numbers as text. A raw body is no part of it.
pub type RequestShape = fn(&Schema, Map<String, Json>) -> Result<Map<String, Json>, Fault>;

/// A refusal as it goes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Json,
}

/// How a refusal is written: of a fault, and the status that KaosNet itself would give it.
pub type Refuse = fn(&Fault, u16) -> Refusal;

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
    /// Reshapes the request before it is checked.
    pub shape: Option<RequestShape>,
    /// What the reply is written as.
    pub reply: RestReply,
    /// How a refusal is written.
    pub refuse: Refuse,
    /// Only for requests with this key in the query string, whatever its value: they pass by a route of the same method
    /// and path without. The key is no field.
    pub when: Option<&'static str>,
    /// A key of the query string that holds a credential. The door takes it out of the request, so that it is in no
    /// journal. The key is no field.
    pub credential: Option<&'static str>,
}

impl Rest {
    /// A route such as `GET /v1/rooms/{room_id}`. GET and DELETE have no body, the others a JSON one; any field may come in
    /// the query string.
    pub fn new(route: &str) -> Self {
        // Without a method it is not a route, as `wrong` says.
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

    /// Reshapes the request before it is checked.
    pub fn shape(mut self, shape: RequestShape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Says what the reply is written as.
    pub fn reply(mut self, reply: RestReply) -> Self {
        self.reply = reply;
        self
    }

    /// Sends bytes instead of JSON: as `application/octet-stream`, or as JSON to whoever sent JSON.
    pub fn raw_reply(self, bytes: RawReply) -> Self {
        self.reply(RestReply::Raw { bytes, content_type: None })
    }

    /// Answers only requests with this key in the query string.
    pub fn when(mut self, key: &'static str) -> Self {
        self.when = Some(key);
        self
    }

    /// Takes a credential from this key of the query string, besides the header `Authorization`.
    pub fn credential(mut self, key: &'static str) -> Self {
        self.credential = Some(key);
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
            let route = format!("{} {}", self.method, self.path);
            return Some(format!("`{}` is not a route: write `GET /v1/things`", route.trim_start()));
        }
        let route = || format!("{} {}", self.method, self.path);
        let body = match self.body {
            RestBody::Raw(field) | RestBody::Text(field) => Some(field),
            RestBody::Json | RestBody::None => None,
        };
        let mut fields = self.parameters().chain(body);
        // What reshapes the query knows other names.
        let mut allowed = self.query.into_iter().flatten().copied().filter(|_| self.shape.is_none());
        let lost = fields.find(|field| !request.has_field(field));
        if let Some(lost) = lost.or_else(|| allowed.find(|field| !request.has_field(field))) {
            return Some(format!("{}: its request has no field `{lost}`", route()));
        }
        let key = self.when.into_iter().chain(self.credential).find(|key| request.names_field(key))?;
        Some(format!("{}: the key `{key}` is a field of its request, too", route()))
    }

    /// Whether two routes of one server would answer the same requests.
    pub(crate) fn conflicts_with(&self, other: &Rest) -> bool {
        // What a parameter is called does not tell requests apart.
        let segments = |path: &str| -> Vec<Option<String>> {
            path.split('/').map(|part| (!part.starts_with('{')).then(|| part.to_owned())).collect()
        };
        self.method == other.method
            && self.when == other.when
            && segments(&self.path) == segments(&other.path)
    }

    /// Puts a request together from path, query and body.
    ///
    /// # Errors
    /// `invalid`: a field that may not come in the query, or is given twice; a body that is no JSON.
    pub(crate) fn read<'b>(&self, schema: &Schema, came: &'b RestRequest) -> Result<Parts<'b>, Fault> {
        let RestRequest { parameters, query, body, .. } = came;
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
                _ => return Err(Fault::invalid("the body is no JSON string")),
            },
            RestBody::Json => match read_json(body)? {
                Json::Object(own) => merge(&mut fields, own)?,
                value if fields.is_empty() && parameters.is_empty() => whole = Some(value),
                _ => return Err(Fault::invalid("the body is no JSON object")),
            },
        }
        if let (Some(shape), None) = (self.shape, &whole) {
            fields = shape(schema, fields)?;
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

    /// The fields that the query string says, each as its type reads it.
    fn read_query(&self, schema: &Schema, query: &[(String, String)]) -> Result<Map<String, Json>, Fault> {
        let mut fields = Map::new();
        // Sorted by name once, and not searched for each: a stranger says how many names there are. The sort is stable, so
        // the texts of one name stay in their order.
        let mut pairs: Vec<&(String, String)> = query.iter().collect();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        for of_name in pairs.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((name, _)) = of_name.first() else { continue };
            if self.query.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
                return Err(Fault::invalid(format!("`{name}` cannot be given in the query string")));
            }
            let texts: Vec<String> = of_name.iter().map(|(_, text)| text.clone()).collect();
            fields.insert(name.clone(), schema.read_text(name, &texts).map_err(Fault::invalid)?);
        }
        Ok(fields)
    }

    /// Writes a reply.
    ///
    /// # Errors
    /// The face's own; `internal` for a reply that is no JSON.
    pub(crate) fn write(&self, reply: &dyn Payload) -> Result<Bytes, Fault> {
        match self.reply {
            RestReply::Raw { bytes, .. } => bytes(reply),
            RestReply::Shaped(shape) => Ok(shape(reply)?.to_string().into()),
            RestReply::Json => write_json(reply),
        }
    }
}

/// A reply as JSON.
///
/// # Errors
/// `internal`: it is none.
pub(crate) fn write_json(reply: &dyn Payload) -> Result<Bytes, Fault> {
    serde_json::to_vec(reply)
        .map(Bytes::from)
        .map_err(|error| Fault::internal(format!("the reply is no JSON: {error}")))
}

fn read_json(body: &[u8]) -> Result<Json, Fault> {
    serde_json::from_slice(body).map_err(|error| no_json(&error))
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
pub fn refusal(fault: &Fault, status: u16) -> Refusal {
    let body = json!({ "code": fault.kind.code(), "name": fault.kind.name(), "message": fault.message });
    Refusal { status, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[expect(dead_code, reason = "its schema alone is looked at")]
    struct Query {
        a: Vec<u32>,
        b: String,
    }

    #[test]
    fn the_values_of_a_key_stay_in_their_order_with_others_between_them() {
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let query = vec![pair("a", "2"), pair("b", "x"), pair("a", "1")];
        let came = RestRequest { face: 0, parameters: Vec::new(), query, body: Bytes::new() };
        let parts = Rest::new("GET /v1/things").read(&Schema::of::<Query>(), &came).expect("read");
        assert_eq!(parts.json, json!({ "a": [2, 1], "b": "x" }));
    }
}
