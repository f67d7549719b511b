//! A server with a plugin from outside: players who do nothing are closed, and can ask how often that happened.
//!
//! ```text
//! cargo run --example game_server
//! ```
//! In Lua the operation is `kaos.afk_status()`, over HTTP `GET /v1/afk`, on the sockets `afk.status`.

use kaosnet::prelude::*;

/// Closes sessions that sent nothing for a while.
pub struct Afk {
    /// How long a session may do nothing, in seconds.
    pub seconds: u64,
}

#[derive(Component, Default)]
struct Strikes(u32);

#[derive(Resource)]
struct Limit {
    frames: u64,
}

impl Plugin for Afk {
    fn build(&self, app: &mut App) {
        let limit = Limit { frames: app.clock().frames_in_secs(self.seconds) };
        app.register_required_components::<Session, Strikes>()
            .insert_resource(limit)
            .add_systems(Frame, kick_afk.in_set(Stage::Match).run_if(every_ms(1000)))
            .op(
                Op::new("afk.status").about("How often this session was idle.").session().rest("GET /v1/afk"),
                afk_status,
            );
    }
}

fn kick_afk(
    clock: Res<Clock>,
    limit: Res<Limit>,
    mut sessions: Query<(&Session, &mut Strikes)>,
    mut kicks: Kicks,
) {
    for (session, mut strikes) in &mut sessions {
        if clock.frame() - session.last_input > limit.frames {
            strikes.0 += 1;
            kicks.kick(session.id, "afk");
        }
    }
}

async fn afk_status(cx: Call, _: ()) -> Result<u32, Fault> {
    Ok(cx.me(|strikes: &mut Strikes| strikes.0))
}

fn main() -> std::process::ExitCode {
    kaosnet::cli(|app| {
        app.add_plugins(Afk { seconds: 120 });
    })
}
