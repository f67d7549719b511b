//! The doors, what each of them reaches, and a server behind one.

use kaos_kernel::op::{OpRow, OpTable, RestBody, ScriptUse};
use serde_json::Value as Json;

use super::file::{Answer, Step, Who};
use super::kit::Kit;
use super::live::Live;

/// A way to call an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// A session of the test kit.
    Session,
    /// A call without a session in the test kit, as HTTP makes one, whether there is a route or not.
    Call,
    /// `kaos.<op>` in an rpc of the test kit.
    Script,
    /// A session over UDP.
    Udp,
    /// A session over a WebSocket.
    WebSocket,
    /// A route of the operation.
    Rest,
}

impl Door {
    pub(super) const ALL: [Door; 6] =
        [Door::Session, Door::Call, Door::Script, Door::Udp, Door::WebSocket, Door::Rest];

    pub(super) fn name(self) -> &'static str {
        match self {
            Door::Session => "session",
            Door::Call => "call",
            Door::Script => "script",
            Door::Udp => "udp",
            Door::WebSocket => "websocket",
            Door::Rest => "rest",
        }
    }

    pub(super) fn named(name: &str) -> Option<Door> {
        Door::ALL.into_iter().find(|door| door.name() == name)
    }

    /// Can this step be made through this door?
    fn reaches(self, ops: &OpTable, step: &Step, request: &Json) -> bool {
        let row = ops.by_name(&step.op);
        match self {
            Door::Session | Door::Udp | Door::WebSocket => step.who != Who::Nobody,
            Door::Call => !matches!(step.who, Who::Anonymous(_)),
            Door::Script => {
                step.who != Who::Nobody && row.is_some_and(|row| arguments(row, request).is_some())
            }
            Door::Rest => {
                !matches!(step.who, Who::Anonymous(_)) && row.is_some_and(|row| route(row, request).is_some())
            }
        }
    }
}

/// A request as arguments of the function of its operation, by position. `None`: scripts may not call it, or cannot say this.
pub(super) fn arguments(row: &OpRow, request: &Json) -> Option<Vec<Json>> {
    if row.op.script == ScriptUse::Never {
        return None;
    }
    if row.op.args.is_empty() {
        return Some(vec![request.clone()]);
    }
    let fields = request.as_object()?;
    let said = fields.keys().all(|name| row.op.args.contains(&name.as_str()));
    said.then(|| row.op.args.iter().map(|name| fields.get(*name).cloned().unwrap_or_default()).collect())
}

/// A request over HTTP.
pub(super) struct Route {
    /// Method, path and query.
    pub(super) target: String,
    pub(super) body: String,
    /// The reply is this field as it is, no JSON.
    pub(super) raw: Option<&'static str>,
}

/// A request through the first route of its operation. `None`: it has none, or cannot say this.
pub(super) fn route(row: &OpRow, request: &Json) -> Option<Route> {
    let (_, rest) = row.op.rests().next()?;
    let mut fields = match request {
        Json::Null => serde_json::Map::new(),
        Json::Object(fields) => fields.clone(),
        _ => return None,
    };
    let mut target = format!("{} ", rest.method);
    for part in rest.path.split('/').skip(1) {
        let named = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let part = match named {
            Some(name) => encode(fields.remove(name)?.as_str().filter(|text| !text.is_empty())?),
            None => part.to_owned(),
        };
        target.push_str(&format!("/{part}"));
    }
    let mut raw = None;
    let body = match rest.body {
        RestBody::Json => Json::Object(std::mem::take(&mut fields)).to_string(),
        RestBody::Raw(name) => {
            raw = Some(name);
            fields.remove(name).map_or(Some(String::new()), |text| text.as_str().map(str::to_owned))?
        }
        RestBody::Text(name) => fields.remove(name).unwrap_or_default().to_string(),
        RestBody::None => String::new(),
    };
    for (at, (name, value)) in fields.into_iter().enumerate() {
        let value = match value {
            Json::String(text) => text,
            Json::Number(_) | Json::Bool(_) => value.to_string(),
            _ => return None,
        };
        target.push_str(&format!("{}{}={}", if at == 0 { '?' } else { '&' }, encode(&name), encode(&value)));
    }
    Some(Route { target, body, raw })
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A server and its callers, for the run of a case over one door.
pub(super) struct Stage {
    door: Door,
    kit: Kit,
    /// On real sockets, from the first step on that goes there.
    live: Option<Live>,
}

impl Stage {
    pub(super) fn start(door: Door) -> Stage {
        Stage { door, kit: Kit::start(), live: None }
    }

    pub(super) fn reaches(&self, step: &Step, request: &Json) -> bool {
        self.door.reaches(&self.kit.ops, step, request)
    }

    /// What came of a step: through the door if it reaches it, and else through one that always does. `None`: none does.
    pub(super) fn answer(&mut self, step: &Step, request: &Json) -> Option<Answer> {
        let reached = self.reaches(step, request);
        match self.door {
            Door::Session | Door::Call | Door::Script => {
                let through = match step.who {
                    _ if reached => self.door,
                    Who::Nobody => Door::Call,
                    _ => Door::Session,
                };
                Some(self.kit.answer(through, step, request))
            }
            Door::Udp | Door::WebSocket | Door::Rest => {
                let through = match step.who {
                    _ if reached => self.door,
                    Who::Nobody => return None,
                    _ => Door::WebSocket,
                };
                let live = self.live.get_or_insert_with(Live::start);
                Some(live.answer(through, self.kit.ops.by_name(&step.op), step, request))
            }
        }
    }

    pub(super) fn end(self) {
        self.kit.end();
        if let Some(live) = self.live {
            live.end();
        }
    }
}
