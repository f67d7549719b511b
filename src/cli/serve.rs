//! `kaosnet serve`: the banner, the log, the server, and the last line.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use kaos_gate::identity::keys::{PublicKey, Source};
use kaos_kernel::script::Summary;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use super::out::Out;
use super::{FAILED, Plugins, USAGE, warnings};
use crate::config::{Config, Loaded};
use crate::runner::{self, Running, STOP_TIME, ServeError, StartError, Stopped};

pub(super) fn run(out: &Out, loaded: &Loaded, plugins: Plugins, begun: Instant) -> ExitCode {
    let config = &loaded.config;
    log(config);
    warnings(out, loaded);
    let ready = |running: &Running| {
        banner(out, config, running);
        out.line(&format!("{} in {} ms", out.green("ready"), begun.elapsed().as_millis()));
    };
    match runner::serve(config, move |app| plugins(app), ready) {
        Ok(stopped) => {
            out.line(&farewell(&stopped));
            let wrong = left_behind(&stopped, config.journal.record.as_deref());
            wrong.iter().for_each(|sentence| out.error(sentence));
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(ServeError::Start(error)) => {
            cannot_start(out, &error);
            ExitCode::from(USAGE)
        }
        Err(error @ ServeError::Crashed(_)) => {
            out.error(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// What did not end as it should, a sentence each.
fn left_behind(stopped: &Stopped, journal: Option<&Path>) -> Vec<String> {
    let mut wrong = Vec::new();
    if !stopped.clean {
        let left = [(stopped.rooms_left, "room"), (stopped.sessions_left, "session")];
        let left: Vec<String> = left
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| many(number, what))
            .collect();
        let left = if left.is_empty() { "what was left".to_owned() } else { left.join(" and ") };
        let secs = STOP_TIME.as_secs();
        wrong.push(format!("{left} did not end within {secs} s: the server ended without"));
    }
    if stopped.recorded == Some(false) {
        let path = journal.unwrap_or(Path::new("the journal")).display();
        wrong.push(format!("{path} is incomplete: it ends before the run does; the log says why"));
    }
    wrong
}

fn many(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Says why a server does not start; several reasons are one each.
pub(super) fn cannot_start(out: &Out, error: &StartError) {
    match error {
        StartError::Config(reasons) => reasons.iter().for_each(|reason| out.error(reason)),
        StartError::Build(build) => build.0.iter().for_each(|reason| out.error(reason)),
        error => out.error(&error.to_string()),
    }
}

/// The log goes to standard error: standard output has what programs read.
pub(super) fn log(config: &Config) {
    use std::io::IsTerminal;
    // The level has been checked; what the filter still does not know it leaves out.
    let filter = EnvFilter::new(&config.log.level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process is refused; the first one stays.
    let _ = if config.log.json {
        builder.json().try_init()
    } else {
        let color =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        builder.with_ansi(color).fmt_fields(plain_fields()).try_init()
    };
}

/// Fields of the log as text. What scripts, players and games put into it forges no line of its own.
fn plain_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let text = escaped(&format!("{value:?}"));
        if field.name() == "message" { write!(writer, "{text}") } else { write!(writer, "{field}={text}") }
    })
    .delimited(" ")
}

/// Control characters become escapes. A line break stays before an indented line: so reports of errors go on, and no
/// record begins like that.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let goes_on = c == '\n' && text.get(at + 1..).is_some_and(|rest| rest.starts_with("  "));
        if c.is_control() && !goes_on {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn banner(out: &Out, config: &Config, running: &Running) {
    let version = env!("CARGO_PKG_VERSION");
    let where_open = if config.is_loopback() { "loopback only" } else { "open to the network" };
    let keys = match running.key_source {
        Source::Given => "key from the configuration".to_owned(),
        Source::Kept => format!("keys in {}", config.keys_dir().display()),
        Source::Made => format!("keys made in {}", config.keys_dir().display()),
    };
    let dev = if config.node.dev { "; development" } else { "" };
    out.line(&format!("{} {version}  {where_open}; {keys}{dev}", out.bold("KaosNet")));
    let row = |name: &str, what: &str, remark: &str| {
        out.line(
            &format!("  {name:<8} {what:<33} {}", out.dim(remark)).trim_end().replace(" \x1b[2m\x1b[0m", ""),
        );
    };
    let url = format!("http://{}/", running.http);
    let arena = running.scripts.matches.contains("arena");
    match (config.playground.open || running.http.ip().is_loopback(), arena) {
        (true, true) => row("play", &url, "two tabs, one arena"),
        (true, false) => row("play", &url, "the playground; it wants a match `arena`"),
        (false, _) => {
            row("http", &url, "HTTP and WebSocket; the playground is for loopback (--playground.open true)")
        }
    }
    match running.udp.zip(running.udp_key) {
        Some((udp, key)) => row("udp", &udp.to_string(), &address_with_key(udp, key)),
        None => row("udp", "off", ""),
    }
    row("scripts", &scripts(config, &running.scripts), "");
    if arena {
        let found = elsewhere(running.http);
        let tokens = tokens(config);
        row("try", &format!("kaosnet bots --clients 100 --match arena --secs 10{found}{tokens}"), "");
    }
}

/// What a client is given so that it believes this server only: to be copied.
fn address_with_key(udp: SocketAddr, key: PublicKey) -> String {
    // Where all addresses are open, only people know which of them clients reach.
    let server = if udp.ip().is_unspecified() { format!("HOST:{}", udp.port()) } else { udp.to_string() };
    format!("kaos://{server}#{key}")
}

/// The server that `bots` would not find by itself: it looks at 127.0.0.1:7350.
fn elsewhere(http: SocketAddr) -> String {
    let mut reached = http;
    if http.ip().is_unspecified() {
        reached.set_ip(if http.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    if reached == SocketAddr::from((Ipv4Addr::LOCALHOST, 7350)) {
        return String::new();
    }
    format!(" --server http://{reached}")
}

/// What lets `bots` in where names are refused: tokens, made with the same key.
fn tokens(config: &Config) -> String {
    if config.anonymous() {
        return String::new();
    }
    if config.session.key.is_some() || config.server.data == Config::default().server.data {
        return " --tokens".to_owned();
    }
    format!(" --tokens --data {}", config.server.data.display())
}

fn scripts(config: &Config, scripts: &Summary) -> String {
    let dir = config.server.scripts.display();
    if !config.server.scripts.exists() {
        return format!("{dir}/  is not there: relayed rooms only");
    }
    let many =
        |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
    format!(
        "{dir}/  {}, {}, {}, {}",
        many(scripts.modules.len(), "module", "modules"),
        many(scripts.matches.len(), "match", "matches"),
        many(scripts.rpcs.len(), "rpc", "rpcs"),
        many(scripts.before.len() + scripts.after.len(), "hook", "hooks"),
    )
}

fn farewell(stopped: &Stopped) -> String {
    let journal = match stopped.recorded {
        Some(true) => ", journal flushed",
        Some(false) => ", journal incomplete",
        None => "",
    };
    format!(
        "stopping: {} told, {} closed{journal} ({:.1} s)",
        many(stopped.rooms.saturating_sub(stopped.rooms_left), "room"),
        many(stopped.sessions.saturating_sub(stopped.sessions_left), "session"),
        stopped.took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[test]
    fn the_udp_address_can_be_copied() {
        let key: PublicKey = "DYS6X6Tn6Jy5p0U2GbQYYDoCUbQCVhYcd8pC8GxQ3HE".parse().expect("a key");
        for (udp, address) in [
            ("127.0.0.1:7352", "kaos://127.0.0.1:7352#"),
            ("[::1]:7352", "kaos://[::1]:7352#"),
            ("0.0.0.0:9", "kaos://HOST:9#"),
            ("[::]:9", "kaos://HOST:9#"),
        ] {
            let written = address_with_key(udp.parse().expect("an address"), key);
            assert_eq!(written, format!("{address}{key}"));
        }
    }

    #[test]
    fn what_there_is_to_try_finds_the_server_and_is_let_in() {
        for (http, server) in [
            ("127.0.0.1:7350", ""),
            ("0.0.0.0:7350", ""),
            ("127.0.0.1:7360", " --server http://127.0.0.1:7360"),
            ("0.0.0.0:7360", " --server http://127.0.0.1:7360"),
            ("10.0.0.5:7350", " --server http://10.0.0.5:7350"),
            ("[::]:7350", " --server http://[::1]:7350"),
        ] {
            assert_eq!(elsewhere(http.parse().expect("an address")), server);
        }
        let mut config = Config::default();
        assert_eq!(tokens(&config), "");
        config.session.anonymous = Some(false);
        assert_eq!(tokens(&config), " --tokens");
        config.server.data = "elsewhere".into();
        assert_eq!(tokens(&config), " --tokens --data elsewhere");
    }

    #[test]
    fn the_last_line_counts() {
        let stopped = Stopped {
            rooms: 1,
            sessions: 12,
            took: Duration::from_millis(210),
            clean: true,
            recorded: Some(true),
            ..Stopped::default()
        };
        assert_eq!(farewell(&stopped), "stopping: 1 room told, 12 sessions closed, journal flushed (0.2 s)");
    }
    #[test]
    fn what_did_not_end_is_said() {
        let clean = Stopped { clean: true, ..Stopped::default() };
        assert!(left_behind(&clean, None).is_empty());
        let left = Stopped { rooms: 5, rooms_left: 3, sessions: 1, sessions_left: 1, ..Stopped::default() };
        assert_eq!(
            left_behind(&left, None),
            ["3 rooms and 1 session did not end within 5 s: the server ended without"]
        );
        assert_eq!(farewell(&left), "stopping: 2 rooms told, 0 sessions closed (0.0 s)");
        let left = Stopped { sessions: 2, sessions_left: 2, ..Stopped::default() };
        assert_eq!(left_behind(&left, None), ["2 sessions did not end within 5 s: the server ended without"]);
        let cut = Stopped { clean: true, recorded: Some(false), ..Stopped::default() };
        assert_eq!(
            left_behind(&cut, Some(Path::new("run.kj"))),
            ["run.kj is incomplete: it ends before the run does; the log says why"]
        );
        assert!(farewell(&cut).ends_with("closed, journal incomplete (0.0 s)"));
    }

    #[test]
    fn what_a_script_logs_is_one_record_whatever_its_players_are_called() {
        #[derive(Clone, Default)]
        struct Written(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("whole").write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .fmt_fields(plain_fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let name = "eve\n2026-11-21T00:00:00Z ERROR kaosnet: gone \u{1b}[31mred\r";
            tracing::info!(target: "script", source = "hooks", "{name} joined");
            tracing::error!(target: "script", error = %name, "arena.lua:3: bad\n  in match_loop, room 7");
        });
        let text = String::from_utf8(written.0.lock().expect("whole").clone()).expect("text");
        let name = r"eve\n2026-11-21T00:00:00Z ERROR kaosnet: gone \u{1b}[31mred\r";
        let expected = format!(
            " INFO script: {name} joined source=\"hooks\"\nERROR script: arena.lua:3: bad\n  in match_loop, room 7 error={name}\n"
        );
        assert_eq!(text, expected);
    }
}
