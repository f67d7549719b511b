//! A server with a plugin from outside: players who do nothing are closed, and everyone can ask how many do nothing now.
//!
//! ```text
//! cargo run --example game_server
//! ```
//! In Lua the operation is `kaos.afk_count()`, over HTTP `GET /v1/afk`, on the sockets `afk.count`:
//! `me.call("afk.count")`.

use kaosnet::prelude::*;

settings! {
    /// Closing players who do nothing.
    pub struct AfkSettings in "afk" {
        /// How long a session may do nothing before it gets its first strike.
        seconds: u64 = 120, in 1..=86_400, unit "seconds";
        /// Strikes after which it is closed; one a second.
        strikes_max: u32 = 10, in 1..=3_600;
    }
}

/// Closes sessions that sent nothing for a while.
pub struct Afk;

#[derive(Component, Default)]
struct Strikes(u32);

impl Plugin for Afk {
    fn build(&self, app: &mut App) {
        app.settings::<AfkSettings>()
            .register_required_components::<Session, Strikes>()
            .add_systems(Frame, kick_afk.in_set(Stage::Match).run_if(every_ms(1000)))
            .op(
                Op::new("afk.count").about("How many sessions are idle.").rest("GET /v1/afk").price(1),
                afk_count,
            );
    }
}

fn kick_afk(
    clock: Res<Clock>,
    settings: Res<AfkSettings>,
    mut sessions: Query<(&Session, &mut Strikes)>,
    mut kicks: Kicks,
) {
    let limit = clock.frames_in_secs(settings.seconds);
    for (session, mut strikes) in &mut sessions {
        let idle = clock.frame() - session.last_input > limit;
        strikes.0 = if idle { strikes.0 + 1 } else { 0 };
        if strikes.0 == settings.strikes_max {
            kicks.kick(session.id, "afk");
        }
    }
}

async fn afk_count(cx: Call, _: ()) -> Result<usize, Fault> {
    cx.run(idle, ())
}

/// What an operation asks the world for is a bevy system too.
fn idle(sessions: Query<&Strikes>) -> usize {
    sessions.iter().filter(|strikes| strikes.0 > 0).count()
}

fn main() -> std::process::ExitCode {
    kaosnet::cli(|app| {
        app.add_plugins(Afk);
    })
}
