//! The program as people and scripts meet it: exit codes, sentences, and what goes to which output.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kaosnet-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kaosnet(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kaosnet"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    command.current_dir(&folder.0).env("KAOS_SCRIPTS", scripts).stdin(Stdio::null());
    command
}

fn run(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = kaosnet(folder).args(args).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'), "colours are for terminals");
    (status.code().expect("it ended by itself"), stdout, stderr)
}

/// A server that said `ready`, and what it said before.
struct Served {
    child: Child,
    said: Vec<String>,
    rest: BufReader<std::process::ChildStdout>,
}

impl Served {
    fn start(folder: &Folder, args: &[&str]) -> Served {
        let free = ["serve", "--http.address", "127.0.0.1:0", "--udp.address", "127.0.0.1:0"];
        let mut command = kaosnet(folder);
        let command = command.args(free).args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut rest = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = Vec::new();
        while said.last().is_none_or(|line: &String| !line.starts_with("ready")) {
            let mut line = String::new();
            assert!(rest.read_line(&mut line).expect("text") > 0, "it ended before it was ready: {said:?}");
            said.push(line);
        }
        Served { child, said, rest }
    }

    fn http(&self) -> String {
        let play = self
            .said
            .iter()
            .find_map(|line| line.split_whitespace().find(|word| word.starts_with("http://")));
        play.expect("an address").trim_end_matches('/').to_owned()
    }

    fn end(self) -> String {
        self.end_with(0)
    }

    fn end_with(mut self, code: i32) -> String {
        let kill =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(kill.success());
        let mut last = String::new();
        std::io::Read::read_to_string(&mut self.rest, &mut last).expect("text");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(code), "{last}");
        last
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mistakes_are_one_sentence_and_exit_code_2() {
    let folder = Folder::new("mistakes");
    let file = folder.write("bad.yaml", "node: a\nroom:\n  max_player: 3\n");
    let file = file.to_str().expect("text");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").to_string();
    let cases: [(&[&str], &str); 13] = [
        (&["sevre"], "error: unrecognized subcommand 'sevre'"),
        (
            &["--room.max_player", "3"],
            "error: unknown key `room.max_player`. Did you mean `room.max_players`?",
        ),
        (
            &["--room.max_players", "many"],
            "error: --room.max_players: `room.max_players` is `many`: expected a whole number",
        ),
        (
            &["serve", "--config", file],
            "bad.yaml:3: unknown key `room.max_player`. Did you mean `room.max_players`?",
        ),
        (
            &["--session.key", "defaultkey"],
            "error: --session.key: `session.key` is a key that everyone knows",
        ),
        (&["--udp.key", "zz"], "error: --udp.key: `udp.key` is not a key: it needs 64 hexadecimal digits"),
        (&["--session.key", "", "--dev"], "error: --session.key: `session.key` is empty"),
        (&["--http", &taken, "--udp", "off"], "(tcp) is taken"),
        (&["bots", "--door", "ws", "--rtt", "50"], "they go with --door udp"),
        (&["bots", "--loss", "51"], "a percentage from 0 to 50"),
        (&["replay", "none.kj"], "error: none.kj cannot be read"),
        (&["token", "--user", "ada", "--ttl", "0"], "invalid value '0' for '--ttl"),
        (&["--scripts", "scirpts"], "error: --scripts: `scripts` is `scirpts`: there is no such folder"),
    ];
    for (args, sentence) in cases {
        let (code, stdout, stderr) = run(&folder, args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(sentence), "{args:?}: wanted {sentence}\ngot {stderr}");
    }
}

#[test]
fn check_finds_what_is_wrong_with_scripts_and_says_where() {
    let folder = Folder::new("check");
    let (code, stdout, stderr) = run(&folder, &["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("arena tictactoe"), "{stdout}");
    folder.write("s/a.lua", "local x = 1\nkaos.register_rpc('a', function() kaos.brodcast() end)\n");
    folder.write("s/b.lua", "return {\n  match_init = function() return {}\n");
    let scripts = folder.0.join("s");
    let (code, _, stderr) = run(&folder, &["check", "--scripts", scripts.to_str().expect("text")]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("a.lua:2: there is no `kaos.brodcast`. Did you mean `broadcast`?"), "{stderr}");
    assert!(stderr.contains("b.lua:"), "{stderr}");
    let (code, _, stderr) = run(&folder, &["check", "--udp.key", "zz"]);
    assert_eq!((code, stderr.contains("--udp.key: `udp.key` is not a key")), (1, true), "{stderr}");
    let (code, stdout, _) = run(&folder, &["check", "--json", "--scripts", scripts.to_str().expect("text")]);
    let object: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, object["ok"].as_bool()), (1, Some(false)));
    let lines: Vec<u64> =
        object["problems"].as_array().expect("a list").iter().filter_map(|p| p["line"].as_u64()).collect();
    assert!(lines.contains(&2), "{object}");
}

#[test]
fn check_finds_matches_that_give_no_match_or_a_tick_rate_out_of_range() {
    let folder = Folder::new("matches");
    let module = |init: &str, end: &str| {
        format!(
            "local M = {{}}\nfunction M.match_init(ctx, params)\n  {init}\nend\n\
             function M.match_join(c, s) return s end\nfunction M.match_leave(c, s) return s end\n\
             function M.match_loop(c, s) return s end\n{end}\n"
        )
    };
    folder.write("s/matches/good.lua", &module("return { state = {}, tick_rate = 10 }", "return M"));
    // It needs parameters, which says nothing against it.
    folder.write("s/matches/asks.lua", &module("return { state = {}, tick_rate = params.rate }", "return M"));
    let check = || run(&folder, &["check", "--scripts", "s"]);
    let (code, stdout, stderr) = check();
    assert_eq!(code, 0, "{stdout}{stderr}");
    folder.write("s/matches/fast.lua", &module("return { state = {}, tick_rate = 500 }", "return M"));
    let (code, _, stderr) = check();
    assert_eq!(code, 1);
    assert!(stderr.contains("s/matches/fast.lua:3: match_init returned tick_rate = 500: it is"), "{stderr}");
    folder.write("s/matches/forgot.lua", &module("return { state = {}, tick_rate = 10 }", ""));
    folder.write("s/matches/number.lua", "-- a number\nreturn { match_init = 5 }\n");
    let (code, _, stderr) = check();
    assert_eq!(code, 1);
    assert!(stderr.contains("s/matches/forgot.lua:7: this file gives no match"), "{stderr}");
    assert!(stderr.contains("s/matches/number.lua:2: this file gives no match"), "{stderr}");
}

#[test]
fn config_shows_values_and_where_they_come_from() {
    let folder = Folder::new("config");
    let (_, defaults, _) = run(&folder, &["config", "--defaults"]);
    assert_eq!(defaults, include_str!("../assets/config/default.yaml"));
    folder.write("kaosnet.yaml", "room:\n  max_players: 7\nsession:\n  key: 0123456789abcdef\n");
    let (code, stdout, _) = run(&folder, &["config", "--json", "--node", "b"]);
    let object: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(code, 0);
    assert_eq!(object["room.max_players"]["value"], 7);
    assert_eq!(object["room.max_players"]["source"], "kaosnet.yaml:2");
    assert_eq!(object["node"]["source"], "--node");
    assert_eq!(object["session.key"]["value"], "(set)", "keys are not shown");
}

#[test]
fn a_token_that_no_server_would_take_is_not_made() {
    let folder = Folder::new("token-refused");
    let long = format!("k={}", "x".repeat(3000));
    // Escaped in JSON, a kibibyte becomes six.
    let escaped = format!("k={}", "\u{1}".repeat(1000));
    for (args, word) in [
        (["token", "--user", "ada", "--var", &long], "1024 bytes"),
        (["token", "--user", "ada", "--var", &escaped], "4096"),
        (["token", "--user", "ada", "--name", "a\nb"], "printable"),
    ] {
        let (code, stdout, stderr) = run(&folder, &args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{word}");
        assert!(stderr.contains("no server would take this token") && stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_token_is_good_for_the_server_that_shares_the_folder() {
    let folder = Folder::new("token");
    let (code, token, stderr) = run(&folder, &["token", "--user", "ada", "--name", "Ada"]);
    assert_eq!((code, token.trim().split('.').count()), (0, 3));
    assert!(stderr.contains("made a new key in data/keys: only a server with that data folder"), "{stderr}");
    let (_, _, stderr) = run(&folder, &["token", "--user", "bob"]);
    assert_eq!(stderr, "", "the key is there now");
    let key = std::fs::read(folder.0.join("data/keys/session.key")).expect("it was made and kept");
    let proof =
        kaos_gate::identity::credentials::Credentials::new(key.trim_ascii(), false).token(token.trim());
    let identity = proof.expect("genuine").identity;
    assert_eq!((identity.user_id.as_str(), identity.username.as_str()), ("ada", "Ada"));
}

#[test]
fn a_server_serves_records_and_ends_and_its_journal_replays() {
    let folder = Folder::new("serve");
    let served = Served::start(&folder, &["--journal.record", "run.kj"]);
    let said = served.said.concat();
    assert!(said.starts_with("KaosNet ") && said.contains("loopback only; keys made in data/keys"), "{said}");
    let udp = said.lines().find(|line| line.starts_with("  udp ")).expect("a row for UDP");
    let [_, address, url] = udp.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{udp}") };
    let key =
        url.strip_prefix(&format!("kaos://{address}#")).expect("the address, to be copied with its key");
    assert!(key.parse::<kaos_gate::identity::keys::PublicKey>().is_ok(), "{udp}");
    let lossy = ["udp", "--loss", "5", "--rtt", "50", "--jitter", "10"];
    for door in [&["udp"][..], &["ws"], &lossy] {
        let server = served.http();
        let mut args = vec!["bots", "--clients", "4", "--secs", "1", "--json", "--server", &server, "--door"];
        args.extend(door);
        let (code, stdout, stderr) = run(&folder, &args);
        assert_eq!(code, 0, "{stderr}");
        let object: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((&object["joined"], &object["lost_reliable"]), (&4.into(), &0.into()), "{object}");
        assert_eq!((&object["delivered"], &object["doubled"]), (&object["expected"], &0.into()), "{object}");
        let (sent, lost) = (object["link_datagrams"].as_u64(), object["link_lost"].as_u64());
        if door == lossy {
            let (sent, lost) = (sent.expect("a link"), lost.expect("a link"));
            assert!(lost > 0 && lost * 5 < sent, "{object}");
            // Through the room and back to another: twice half of the round trip.
            assert!(object["p50_us"].as_u64() >= Some(50_000), "{object}");
        } else {
            assert_eq!((sent, lost), (None, None), "{object}");
        }
    }
    let last = served.end();
    assert!(last.starts_with("stopping: "), "{last}");

    let (code, stdout, stderr) = run(&folder, &["replay", "run.kj"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("inputs: equal at "), "{stdout}");
    let mut bytes = std::fs::read(folder.0.join("run.kj")).expect("recorded");
    // The last byte of the record in the middle: a bent length would look like a file that was cut off.
    let (middle, mut at) = (bytes.len() / 2, 8);
    while at < middle {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        at += 8 + length as usize;
    }
    bytes[at - 1] ^= 1;
    std::fs::write(folder.0.join("bent.kj"), bytes).expect("written");
    let (code, _, stderr) = run(&folder, &["replay", "bent.kj"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("damaged at byte"), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_journal_that_cannot_be_written_ends_with_exit_code_1() {
    let folder = Folder::new("full");
    let last = Served::start(&folder, &["--journal.record", "/dev/full"]).end_with(1);
    assert!(last.contains("journal incomplete"), "{last}");
}

#[test]
fn a_journal_of_a_server_in_development_replays_without_being_told() {
    use std::io::{Read, Write};
    let folder = Folder::new("dev");
    folder.write("own/hooks.lua", "kaos.register_before('room_list', function() error('not today') end)");
    let served = Served::start(&folder, &["--dev", "--scripts", "own", "--journal.record", "run.kj"]);
    let address = served.http();
    let mut stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).expect("it listens");
    stream
        .write_all(b"GET /v1/rooms HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("own/hooks.lua:1: not today"), "a client is told: {answer}");
    served.end();
    let (code, stdout, stderr) = run(&folder, &["replay", "run.kj", "--scripts", "own"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("inputs: equal at "), "{stdout}");
}

#[test]
fn the_tables_of_operations_and_events_are_the_golden_ones() {
    let folder = Folder::new("tables");
    for table in ["ops", "events"] {
        let (code, listing, said) = run(&folder, &[table, "--long"]);
        assert_eq!((code, said.as_str()), (0, ""));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{table}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &listing).expect("writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(listing, golden, "UPDATE=1 cargo test rewrites {}", path.display());
        let (code, json, _) = run(&folder, &[table, "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).expect("one array");
        assert_eq!(code, 0);
        for row in rows {
            let name = row["name"].as_str().expect("a name");
            assert!(golden.contains(name) && row["request"].is_object() != row["body"].is_object(), "{row}");
        }
    }
    let wrong = folder.write("scripts/wrong.lua", "x =");
    let scripts = wrong.parent().and_then(Path::to_str).expect("text");
    let (code, _, said) = run(&folder, &["ops", "--scripts", scripts]);
    assert!(code == 2 && said.contains("wrong.lua:1"), "{said}");
}
