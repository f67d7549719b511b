//! The command line, for `kaosnet` and for anyone's own binary: what was typed becomes one command and an exit code.
//!
//! Exit codes: 0 all is well · 1 it ran, and what it looked for is wrong (a script with an error, a journal that
//! differs, lost messages), or a server crashed or could not end everything · 2 it could not begin (usage, configuration, a taken port), said in one sentence.

mod bots;
mod check;
mod config;
mod offline;
mod out;
mod replay;
mod serve;
mod tables;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use kaos_kernel::prelude::App;
use kaos_kernel::settings::{Sections, SettingRow};

use crate::config::{ConfigError, Loaded, load, sections};
use out::Out;

/// Adds the plugins of this binary; called once for each server that is built.
type Plugins = Arc<dyn Fn(&mut App) + Send + Sync>;

/// Ran, and found something wrong.
const FAILED: u8 = 1;

/// Could not begin.
const USAGE: u8 = 2;

/// Keys that the help of every command shows; all others are in `kaosnet config`.
const SHOWN: [&str; 5] = ["http.address", "udp.address", "data", "scripts", "dev"];

#[derive(Parser)]
#[command(
    name = "kaosnet",
    version,
    about = "A headless multiplayer game server: matches in Lua, plugins in Rust, clients over UDP and WebSocket.",
    before_help = "kaosnet                                    serves on this machine; open what it prints\n\
                   kaosnet --dev                              the same, and scripts' errors reach the clients\n\
                   kaosnet check                              is everything in order?",
    after_help = "Every key of the configuration is a flag (--room.max_players 20) and a variable \
                  (KAOS_ROOM_MAX_PLAYERS=20);\n`kaosnet config` lists them with their values and where these come from."
)]
struct Typed {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: kaosnet.yaml, if it is there]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration", display_order = 900)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server; ^C stops it, twice at once. This is what no command does
    #[command(before_help = "kaosnet serve --http.address 127.0.0.1:7360")]
    Serve,
    /// Checks configuration and scripts, every error with file and line; runs nothing
    #[command(before_help = "kaosnet check --scripts my/scripts")]
    Check(check::Args),
    /// Plays with many clients, and says what was lost and how long it took
    #[command(before_help = "kaosnet bots --clients 100 --match arena --secs 10")]
    Bots(bots::Args),
    /// Makes a signed session token
    #[command(before_help = "kaosnet token --user ada")]
    Token(token::Args),
    /// Runs a journal again and compares: equal inputs, equal outputs, equal state
    #[command(
        before_help = "kaosnet replay data/run.kj          (recorded with --journal.record data/run.kj)"
    )]
    Replay(replay::Args),
    /// Lists the operations of this binary: who may call, what a call takes, by which routes
    #[command(before_help = "kaosnet ops --long")]
    Ops(tables::Args),
    /// Lists the events of this binary: what clients are told by themselves
    #[command(before_help = "kaosnet events --json")]
    Events(tables::Args),
    /// Shows every key, its value, and where it was set
    #[command(before_help = "kaosnet config --defaults > kaosnet.yaml")]
    Config(config::Args),
}

/// Runs the command that was typed, for a binary with these plugins: all commands of `kaosnet` are there.
///
/// `plugins` is called once for each server that is built, and a command may build none, one or more.
///
/// ```no_run
/// use kaosnet::prelude::*;
///
/// fn main() -> std::process::ExitCode {
///     kaosnet::cli(|app: &mut App| {
///         app.add_systems(Frame, (|| {}).in_set(Stage::Match));
///     })
/// }
/// ```
pub fn cli(plugins: impl Fn(&mut App) + Send + Sync + 'static) -> ExitCode {
    let begun = out::now();
    let out = Out::new();
    let sections = sections(&plugins);
    if !sections.errors().is_empty() {
        sections.errors().iter().for_each(|sentence| out.error(sentence));
        return ExitCode::from(USAGE);
    }
    let matches = match parse(&sections, std::env::args_os()) {
        Ok(matches) => matches,
        Err(error) => return wrong_usage(&out, &sections, &error),
    };
    let typed = match Typed::from_arg_matches(&matches) {
        Ok(typed) => typed,
        Err(error) => return wrong_usage(&out, &sections, &error),
    };
    let flags = flags(&sections, &matches);
    let loaded = load(sections, typed.config.as_deref(), std::env::vars_os(), &flags);
    let plugins: Plugins = Arc::new(plugins);
    let command = typed.command.unwrap_or(Command::Serve);
    // `check` says what is wrong with the configuration itself; all others need one that holds.
    if let Command::Check(args) = command {
        return check::run(&out, &args, loaded, &plugins);
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return wrong_config(&out, &error),
    };
    match command {
        Command::Serve => serve::run(&out, &loaded, plugins, begun),
        Command::Check(_) => ExitCode::SUCCESS,
        Command::Bots(args) => bots::run(&out, &args, &loaded, plugins),
        Command::Token(args) => token::run(&out, &args, &loaded),
        Command::Replay(args) => replay::run(&out, &args, &loaded, &plugins),
        Command::Ops(args) => tables::ops(&out, &args, &loaded, &plugins),
        Command::Events(args) => tables::events(&out, &args, &loaded, &plugins),
        Command::Config(args) => config::run(&out, &args, &loaded),
    }
}

/// Every key of the configuration is an argument of every command.
fn parse(
    sections: &Sections,
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<ArgMatches, clap::Error> {
    Typed::command().args(sections.rows().map(flag)).try_get_matches_from(args)
}

/// The flag of a key.
fn flag(row: &SettingRow) -> Arg {
    let arg = Arg::new(row.key.clone())
        .long(row.key.clone())
        .value_name("VALUE")
        .help(row.line())
        .help_heading("Configuration")
        .display_order(901)
        .allow_hyphen_values(true)
        .hide(!SHOWN.contains(&row.key.as_str()))
        .global(true);
    match row.key.as_str() {
        "dev" => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        "http.address" => arg.visible_alias("http"),
        "udp.address" => arg.visible_alias("udp"),
        _ => arg,
    }
}

/// The keys that were typed, with their values.
fn flags(sections: &Sections, matches: &ArgMatches) -> Vec<(String, String)> {
    // What is global reaches the matches of the command.
    let matches = matches.subcommand().map_or(matches, |(_, below)| below);
    let typed = sections.rows().filter_map(|row| {
        let value = matches.get_one::<String>(&row.key)?;
        Some((row.key.clone(), value.clone()))
    });
    typed.collect()
}

fn wrong_usage(out: &Out, sections: &Sections, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // A key that does not exist reads the same here as in the file.
    let mistyped = match error.get(clap::error::ContextKind::InvalidArg) {
        Some(clap::error::ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => {
            flag.strip_prefix("--").filter(|flag| flag.contains('.'))
        }
        _ => None,
    };
    match mistyped {
        Some(key) => out.error(&sections.unknown(key)),
        None => {
            let _ = error.print();
        }
    }
    ExitCode::from(USAGE)
}

fn wrong_config(out: &Out, error: &ConfigError) -> ExitCode {
    for problem in &error.0 {
        out.error(&problem.to_string());
    }
    ExitCode::from(USAGE)
}

fn warnings(out: &Out, loaded: &Loaded) {
    for warning in &loaded.warnings {
        out.warning(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<(Typed, Vec<(String, String)>), clap::Error> {
        let words = std::iter::once("kaosnet").chain(line.split_whitespace()).map(Into::into);
        let sections = sections(|_| {});
        let matches = parse(&sections, words)?;
        let flags = flags(&sections, &matches);
        Typed::from_arg_matches(&matches).map(|typed| (typed, flags))
    }

    #[test]
    fn the_commands_are_consistent() {
        Typed::command().args(sections(|_| {}).rows().map(flag)).debug_assert();
    }

    #[test]
    fn keys_are_flags_before_and_after_the_command() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for line in ["--room.max_players 20 --dev serve", "serve --dev --room.max_players=20"] {
            let (_, mut flags) = typed(line).map_err(|error| error.to_string()).expect(line);
            flags.sort();
            assert_eq!(flags, [pair("dev", "true"), pair("room.max_players", "20")], "{line}");
        }
        let (_, flags) =
            typed("--http 127.0.0.1:1 --udp off --dev=false").map_err(|e| e.to_string()).unwrap();
        assert_eq!(flags.len(), 3);
        assert!(flags.contains(&pair("udp.address", "off")) && flags.contains(&pair("dev", "false")));
    }

    #[test]
    fn the_help_of_each_command_begins_with_a_line_to_copy() {
        for command in ["serve", "check", "bots", "token", "replay", "config"] {
            let help = typed(&format!("{command} --help")).map(|_| ()).expect_err("help").to_string();
            assert!(help.starts_with(&format!("kaosnet {command}")), "{help}");
        }
    }

    #[test]
    fn what_does_not_exist_is_a_usage_error() {
        for line in
            ["sevre", "--room.tickrate 3", "token", "bots --clients many", "bots --door carrier-pigeon"]
        {
            let error = typed(line).map(|_| ()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
