//! `kaosnet check`: everything that can be found without running.

use std::process::ExitCode;

use kaos_kernel::prelude::*;
use kaos_kernel::script::{Env, MatchErrorKind, MatchSeed, ScriptHost};
use kaos_kernel::server::Server;
use serde_json::json;

use super::out::Out;
use super::{FAILED, Plugins, offline, warnings};
use crate::config::{ConfigError, Loaded, Origin};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Prints one JSON object: ok, problems (file, line, message), matches, rpcs
    #[arg(long)]
    json: bool,
}

/// A problem with its place.
struct Found {
    file: String,
    line: u64,
    message: String,
}

pub(super) fn run(
    out: &Out,
    args: &Args,
    loaded: Result<Loaded, ConfigError>,
    plugins: &Plugins,
) -> ExitCode {
    let (mut found, mut summary) = (Vec::new(), None);
    match &loaded {
        Err(error) => found.extend(error.0.iter().map(|problem| match &problem.at {
            Origin::File { path, line } => {
                Found { file: path.display().to_string(), line: *line, message: problem.message.clone() }
            }
            _ => Found { file: String::new(), line: 0, message: problem.to_string() },
        })),
        Ok(loaded) => {
            let config = &loaded.config;
            if !args.json {
                warnings(out, loaded);
            }
            match offline::build(config.settings(), config.quantum(), &config.server.scripts, plugins) {
                Ok(mut server) => {
                    found.extend(rehearse(&mut server));
                    summary = Some(server.scripts()).filter(|_| found.is_empty());
                }
                Err(error) => found.extend(error.0.iter().map(|sentence| place(sentence))),
            }
        }
    }
    if args.json {
        let problems: Vec<_> =
            found.iter().map(|f| json!({"file": f.file, "line": f.line, "message": f.message})).collect();
        let summary = summary.unwrap_or_default();
        let object = json!({
            "ok": problems.is_empty(), "problems": problems, "matches": summary.matches, "rpcs": summary.rpcs,
        });
        out.line(&object.to_string());
    } else {
        for Found { file, line, message } in &found {
            match (file.as_str(), line) {
                ("", _) => out.error(message),
                (file, 0) => out.error(&format!("{file}: {message}")),
                (file, line) => out.error(&format!("{file}:{line}: {message}")),
            }
        }
        if let (Some(summary), Ok(loaded)) = (summary, &loaded) {
            let file = loaded.file.as_ref().map_or("defaults".to_owned(), |file| file.display().to_string());
            let names =
                |set: std::collections::BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
            out.line(&format!(
                "{}  configuration ({file}) and {}/",
                out.green("good"),
                loaded.config.server.scripts.display()
            ));
            out.line(&format!("  matches  {}", names(summary.matches)));
            out.line(&format!("  rpcs     {}", names(summary.rpcs)));
        }
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Begins each match as a room without parameters would, in a world that never runs: what its match_init wishes is
/// thrown away. Says which give a value that is out of range. Whatever else fails may need the parameters.
fn rehearse(server: &mut Server) -> Vec<Found> {
    let (ops, matches) = (server.ops(), server.scripts().matches);
    let world = server.world();
    let Some(mut host) = world.remove_non_send::<ScriptHost>() else { return Vec::new() };
    let mut found = Vec::new();
    for module in matches {
        let mut dice = Dice::of(0, "check", 0);
        let (room, seed) = (RoomId(dice.uuid()), dice.roll());
        let mut env = Env::new(world, &ops, Caller::Room(room), &mut dice);
        let opened = host.0.open(&mut env, &module, MatchSeed { room, seed }, &json!({}));
        drop(env.finish());
        if let Err(error) = opened
            && error.kind == MatchErrorKind::Contract
            && error.message.contains("goes from")
        {
            let mut problem = place(&error.message);
            problem.line = line_of(&problem.file, "tick_rate").unwrap_or(problem.line);
            found.push(problem);
        }
    }
    world.insert_non_send(host);
    found
}

/// The first line of a file that has this word.
fn line_of(file: &str, word: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().zip(1..).find(|(line, _)| line.contains(word)).map(|(_, number)| number)
}

/// Takes the place off a sentence that begins with one: `scripts/a.lua:3: why`.
fn place(sentence: &str) -> Found {
    let whole = || Found { file: String::new(), line: 0, message: sentence.to_owned() };
    let Some((at, message)) = sentence.split_once(": ") else { return whole() };
    let (file, line) = match at.rsplit_once(':') {
        Some((file, line)) => match line.parse() {
            Ok(line) => (file, line),
            Err(_) => return whole(),
        },
        None => (at, 0),
    };
    // A path, not the first words of a sentence.
    if file.contains(' ') || !file.contains(['/', '.']) {
        return whole();
    }
    Found { file: file.to_owned(), line, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_sentences() {
        let parts = |sentence| {
            let Found { file, line, message } = place(sentence);
            (file, line, message)
        };
        assert_eq!(parts("scripts/a.lua:3: no"), ("scripts/a.lua".to_owned(), 3, "no".to_owned()));
        assert_eq!(parts("scripts/a.lua: no"), ("scripts/a.lua".to_owned(), 0, "no".to_owned()));
        for sentence in ["two plugins clash: why", "a script registers a hook", "room.join: twice"] {
            let (file, ..) = parts(sentence);
            assert!(file.is_empty() || file == "room.join", "{sentence}");
        }
    }
}
