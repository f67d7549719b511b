//! The operations on sessions.

use kaos_kernel::prelude::*;
use kaos_kernel::send::kicked;
use kaos_kernel::session::{Handles, end_session};
use serde::{Deserialize, Serialize};

/// Registers every operation of this file.
pub(crate) fn register(app: &mut App) {
    app.read_op(
        Op::new("session.get")
            .about("Shows a session; nil when there is none.")
            .server()
            .args(&["session_id"]),
        get,
    )
    .op(
        Op::new("session.kick")
            .about("Closes a session; its client is told `kicked` and the reason.")
            .server()
            .script(ScriptUse::Command)
            .args(&["session_id", "reason"]),
        kick,
    );
}

/// A request that names a session.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// The session.
    pub session_id: SessionId,
    /// For a kick: a sentence for the one who is kicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A session, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Its id.
    pub session_id: SessionId,
    /// Its user.
    pub user_id: String,
    /// Its name.
    pub username: String,
    /// Came without a token?
    pub anonymous: bool,
    /// Has it a peer now?
    pub connected: bool,
    /// The door of its present or last peer.
    pub door: String,
    /// The round trip that its client measured last, in milliseconds.
    pub rtt_ms: f64,
    /// Rooms it is in.
    pub rooms: usize,
    /// What the client said of itself.
    pub vars: std::collections::BTreeMap<String, String>,
}

fn get(world: &World, _: &Caller, request: Named) -> Result<Option<Shown>, Fault> {
    let entity = world.session(request.session_id);
    Ok(entity.and_then(|entity| {
        let session = world.get::<Session>(entity)?;
        Some(Shown {
            session_id: session.id,
            user_id: session.identity.user_id.clone(),
            username: session.identity.username.clone(),
            anonymous: session.anonymous,
            connected: session.peer.is_some(),
            door: session.door.name().to_owned(),
            rtt_ms: f64::from(session.rtt_us) / 1000.0,
            rooms: world.get::<Handles>(entity).map_or(0, Handles::len),
            vars: session.vars.clone(),
        })
    }))
}

async fn kick(cx: Call, request: Named) -> Result<(), Fault> {
    let reason = request.reason.unwrap_or_default();
    let ended = cx.with(|world| end_session(world, request.session_id, Some(kicked(reason))));
    if ended { Ok(()) } else { Err(Fault::not_found(format!("there is no session {}", request.session_id))) }
}
