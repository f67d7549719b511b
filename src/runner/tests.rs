//! Whole servers over real sockets, on ports that are free.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kaos_client::swarm::{Bot, Seat, run};
use kaos_client::{Answer, Core, CoreEvent, Credentials, Event, Join, Micros, Options};
use kaos_gate::identity::credentials::{Claims, mint};
use kaos_kernel::journal::Record;
use kaos_kernel::prelude::*;
use kaos_wire::v1;

use super::*;
use crate::replay::replay;

/// What comes in goes out, to all.
const RELAY: &str = r#"
local M = {}
function M.match_init(ctx, params) return { state = { seen = 0 }, tick_rate = 60, label = "relay" } end
function M.match_join(ctx, state, presences) return state end
function M.match_leave(ctx, state, presences) return state end
function M.match_loop(ctx, state, tick, messages)
  for _, m in ipairs(messages) do
    state.seen = state.seen + 1
    kaos.broadcast(ctx.room_id, nil, m.data)
  end
  return state
end
return M
"#;

const RPCS: &str = r#"
kaos.register_rpc("echo", function(ctx, payload) return payload end)
kaos.register_rpc("rooms", function(ctx, payload) return { rooms = #kaos.room_list({}) } end)
"#;

/// A server's folder, gone when it is dropped.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kaos-runner-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = Home(std::env::temp_dir().join(name));
        fs::create_dir_all(home.0.join("scripts/matches")).expect("a folder");
        fs::write(home.0.join("scripts/matches/relay.lua"), RELAY).expect("written");
        fs::write(home.0.join("scripts/rpcs.lua"), RPCS).expect("written");
        home
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        (config.server.data, config.server.scripts) = (self.0.join("data"), self.0.join("scripts"));
        config.http.address.set_port(0);
        config.udp.address.0 = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn begin(config: &Config) -> Running {
    start(config, |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn end(running: Running) -> Stopped {
    running.stop();
    let stopped = running.join().expect("no crash");
    assert!(stopped.clean, "{stopped:?}");
    stopped
}

/// Status and body of a request.
fn http(server: &Running, request: &str, headers: &str, body: &str) -> (u16, String) {
    let (status, _, body) = raw_http(server, request, headers, body);
    (status, body)
}

fn raw_http(server: &Running, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.http).expect("it listens");
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", server.http) };
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn a_frame_thread_that_panics_is_an_error_with_its_words() {
    let home = Home::new();
    let mut config = home.config();
    config.journal.record = Some(home.0.join("run.kj"));
    // What runs on the frame thread outside of systems: the state is hashed for the journal, at the end too.
    let broken = |app: &mut App| {
        let hashers = &mut app.world_mut().resource_mut::<kaos_kernel::hash::StateHashers>().0;
        hashers.push(|_| panic!("a defect of a plugin"));
    };
    let server = start(&config, broken).unwrap_or_else(|error| panic!("{error}"));
    server.stop();
    assert_eq!(server.join(), Err(Crashed("a defect of a plugin".to_owned())));
}

#[test]
fn http_answers_everything_that_it_promises() {
    let home = Home::new();
    let server = begin(&home.config());
    let (status, body) = http(&server, "GET /v1/connect", "", "");
    let connect: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!(connect["udp"]["address"], server.udp.expect("open").to_string());
    assert_eq!(connect["udp"]["key"], server.udp_key.expect("a key").to_string());
    assert_eq!(
        (connect["websocket"].as_str(), connect["protocol"]["max"].as_u64()),
        (Some("/kaos"), Some(1))
    );

    assert_eq!(http(&server, "GET /healthcheck", "", ""), (200, r#"{"status":"ok"}"#.into()));
    assert_eq!(http(&server, "POST /v1/rpc/echo", "", "hi there"), (200, "hi there".into()));
    assert_eq!(http(&server, "POST /v1/rpc/rooms", "", ""), (200, r#"{"rooms":0}"#.into()));
    let (status, body) = http(&server, "POST /v1/rpc/ehco", "", "");
    assert_eq!((status, body.contains(r#""name":"not_found""#)), (404, true), "{body}");
    assert!(body.contains("Did you mean `echo`?"), "{body}");
    assert_eq!(http(&server, "GET /v1/rooms?limit=10", "", ""), (200, "[]".into()));
    assert_eq!(http(&server, "GET /v1/rooms?limit=0", "", "").0, 400);
    let (status, body) = http(&server, "GET /v1/rooms?limit=many", "", "");
    assert_eq!((status, body.contains(r#""code":3"#)), (400, true), "{body}");

    for path in ["/v1/connect", "/healthcheck", "/metrics", "/kaos"] {
        let (status, head, body) = raw_http(&server, &format!("POST {path}"), "", "{}");
        assert_eq!((status, body.contains(r#""code":12,"#)), (405, true), "{path}: {body}");
        assert!(head.contains("allow: get, head"), "{path}: {head}");
    }

    let (status, head, page) = raw_http(&server, "GET /", "", "");
    assert_eq!((status, page.contains("<canvas")), (200, true), "the playground");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert_eq!(raw_http(&server, "GET /kaosnet.js", "", "").0, 200);
    assert_eq!(http(&server, "GET /nothing", "", "").0, 404);
    let (status, head, _) = raw_http(&server, "DELETE /v1/rooms", "", "");
    assert_eq!((status, head.contains("allow: get")), (405, true), "{head}");
    assert_eq!(http(&server, "POST /v1/rpc/echo", "", &"x".repeat(300_000)).0, 413);

    let (status, text) = http(&server, "GET /metrics", "", "");
    assert_eq!(status, 200);
    assert!(text.contains("kaos_calls_total{op=\"rpc\"}"), "{text}");
    assert!(text.contains("kaos_tick_lateness_seconds_bucket"), "{text}");
    end(server);
}

#[test]
fn pages_names_and_tokens_of_others_are_refused() {
    let home = Home::new();
    let mut config = home.config();
    config.session.anonymous = Some(false);
    config.http.origins = vec!["https://play.example.com".into()];
    let server = begin(&config);
    let rooms = |headers: &str| http(&server, "GET /v1/rooms", headers, "").0;
    assert_eq!(rooms(""), 401);
    assert_eq!(rooms("Authorization: Bearer nonsense\r\n"), 401);
    let claims = Claims { uid: "u".into(), exp: 4_102_444_800, ..Claims::default() };
    let token = mint(&server.key, &claims).expect("made");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(rooms(&bearer), 200);
    assert_eq!(rooms(&format!("{bearer}Origin: https://evil.example\r\n")), 403);
    assert_eq!(rooms(&format!("{bearer}Host: evil.example\r\n")), 403);
    let (status, head, _) =
        raw_http(&server, "GET /v1/rooms", &format!("{bearer}Origin: https://play.example.com\r\n"), "");
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: https://play.example.com"), "{head}");
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let foreign = format!("{upgrade}Origin: https://evil.example\r\n");
    assert_eq!(http(&server, "GET /kaos", &foreign, "").0, 403);
    assert_eq!(http(&server, "GET /kaos", "", "").0, 426);
    end(server);
}

#[test]
fn behind_a_trusted_proxy_limits_are_those_of_whom_it_calls_for() {
    let home = Home::new();
    let mut config = home.config();
    config.frame.set("limit.address_calls", 1);
    // Two lists of rooms.
    config.frame.set("limit.address_calls_burst", 10);
    config.session.anonymous = Some(true);
    let statuses = |config: &Config| {
        let server = begin(config);
        let ask = |request: &str, from: &str| {
            http(&server, request, &format!("X-Forwarded-For: 9.9.9.9, {from}\r\n"), "").0
        };
        let calls = ["203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2"];
        let statuses = calls.map(|from| ask("GET /v1/rooms", from));
        // Whoever comes through a proxy is not local, whether it is trusted or not; nor is the proxy itself.
        let metrics = [ask("GET /metrics", "203.0.113.1"), http(&server, "GET /metrics", "", "").0];
        end(server);
        (statuses, metrics)
    };
    // Without a trusted proxy all of them are one address.
    assert_eq!(statuses(&config), ([200, 200, 429, 429, 429], [403, 200]));
    config.http.trusted_proxies = vec!["127.0.0.0/8".into()];
    assert_eq!(statuses(&config), ([200, 200, 429, 200, 200], [403, 403]));
}

/// Joins a relay, sends numbered messages, and counts what comes back of them.
struct Player {
    room: Option<u16>,
    sent: u32,
    got: Vec<u32>,
    number: u32,
    count: u32,
    /// Bytes of the nth message.
    size: fn(u32) -> usize,
    next: Option<Micros>,
    wrong: Option<String>,
}

impl Player {
    fn new(number: u32, count: u32, size: fn(u32) -> usize) -> Self {
        Player { room: None, sent: 0, got: Vec::new(), number, count, size, next: None, wrong: None }
    }
}

impl Bot for Player {
    fn event(&mut self, now: Micros, core: &mut Core, event: CoreEvent) {
        match event {
            CoreEvent::Started => {
                let join = Join { module: "relay".into(), ..Join::default() };
                core.join(join).expect("asked");
            }
            CoreEvent::Answer { answer: Ok(Answer::Joined(handle)), .. } => {
                self.room = Some(handle);
                self.next = Some(now);
            }
            CoreEvent::Room { event: Event::Data { data, .. }, .. } => {
                let number = |at: usize| data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                let (Some(from), Some(n)) = (number(0), number(4)) else { return };
                if u32::from_le_bytes(from) == self.number {
                    self.got.push(u32::from_le_bytes(n));
                }
                if self.got.len() == self.count as usize {
                    core.close(now);
                }
            }
            CoreEvent::Answer { answer: Err(error), .. } => self.wrong = Some(error.to_string()),
            CoreEvent::Notice(refusal) => self.wrong = Some(format!("{refusal:?}")),
            CoreEvent::Ended(end) if self.got.len() < self.count as usize => {
                self.wrong.get_or_insert(format!("{end:?}"));
            }
            _ => {}
        }
    }

    fn wake(&mut self, now: Micros, core: &mut Core) {
        let Some(room) = self.room.filter(|_| self.sent < self.count) else {
            self.next = None;
            return;
        };
        let mut data = self.number.to_le_bytes().to_vec();
        data.extend(self.sent.to_le_bytes());
        data.resize((self.size)(self.sent), 0);
        self.next = Some(now + Duration::from_millis(8));
        if core.has_room_for(data.len()) {
            core.send(room, 1, &data).expect("room in the keep");
            self.sent += 1;
        }
    }

    fn next_wake(&self) -> Option<Micros> {
        self.next
    }
}

fn play(url: &str, from: u32, players: u32, messages: u32, size: fn(u32) -> usize) {
    let seats = (from..from + players)
        .map(|number| Seat {
            credentials: Credentials::anonymous(format!("player{number}")),
            options: Options::default(),
            start_after: Duration::ZERO,
            bot: Player::new(number, messages, size),
        })
        .collect();
    let expected: Vec<u32> = (0..messages).collect();
    for player in run(url, seats, Duration::from_secs(20)).expect("a door") {
        assert_eq!(player.wrong, None, "player {}", player.number);
        assert_eq!(player.got, expected, "player {}: once and in order", player.number);
    }
}

#[test]
fn both_doors_lose_nothing_and_the_run_can_be_made_again() {
    let home = Home::new();
    let mut config = home.config();
    let journal = home.0.join("journals/run.kj");
    config.journal.record = Some(journal.clone());
    let server = begin(&config);
    let (udp, web) = (server.udp.expect("open"), server.http);
    // Some are longer than a datagram.
    let size = |n| 8 + (n as usize % 7) * 300;
    std::thread::scope(|scope| {
        scope.spawn(|| play(&format!("kaos://{udp}"), 0, 6, 100, size));
        scope.spawn(|| play(&format!("ws://{web}/kaos"), 100, 6, 100, size));
    });
    let stopped = end(server);
    assert!(stopped.took < Duration::from_secs(5), "{stopped:?}");

    let bytes = fs::read(&journal).expect("recorded");
    let bridge = Arc::new(Bridge::new().expect("a descriptor"));
    let again = build(&config, |_| {}, &bridge, &Arc::default(), &channel().0).expect("built");
    let replayed = replay(&bytes, again.server).expect("equal");
    assert!(replayed.checks > 0 && replayed.inputs > 1200, "{replayed:?}");
}

#[test]
fn more_than_a_transport_takes_at_once_arrives_in_the_end() {
    let home = Home::new();
    let mut config = home.config();
    config.frame.set("limit.session_bytes", 1_000_000_000);
    config.frame.set("limit.session_bytes_burst", 1_000_000_000);
    config.frame.set("session.resend_bytes", 8 << 20);
    let server = begin(&config);
    let (udp, web) = (server.udp.expect("open"), server.http);
    let size = |n| 60_000 + n as usize;
    std::thread::scope(|scope| {
        scope.spawn(|| play(&format!("kaos://{udp}"), 0, 2, 60, size));
        scope.spawn(|| play(&format!("ws://{web}/kaos"), 100, 2, 60, size));
    });
    end(server);
}

#[test]
fn a_client_that_never_reads_is_closed_and_told_why() {
    let home = Home::new();
    let mut config = home.config();
    config.frame.set("limit.session_bytes", 1_000_000_000);
    config.frame.set("limit.session_bytes_burst", 1_000_000_000);
    config.frame.set("session.resend_bytes", 64 * 1024);
    config.frame.set("session.slow_reader_ms", 100);
    let server = begin(&config);
    let mut messages = Vec::new();
    let start = v1::SessionStart {
        protocol_min: 1,
        protocol_max: 1,
        credentials: Some(v1::session_start::Credentials::Anonymous("ada".into())),
        ..Default::default()
    };
    kaos_wire::encode(kaos_wire::Opcode::SessionStart, &start, &mut messages).expect("short");
    let mut bytes = frame(0x82, &messages);
    messages.clear();
    let join = v1::RoomJoin { cid: 1, module: "relay".into(), ..Default::default() };
    kaos_wire::encode(kaos_wire::Opcode::RoomJoin, &join, &mut messages).expect("short");
    bytes.extend(frame(0x82, &messages));
    // The first handle of a session is 0 or 1; what names no room is refused.
    for handle in [0, 1].repeat(8) {
        messages.clear();
        let data = kaos_wire::RoomData { handle, index: kaos_wire::EVERYONE, op: 1, data: &[7; 40_000] };
        data.encode(&mut messages).expect("short");
        bytes.extend(frame(0x82, &messages));
    }
    let answer = websocket(&server, &bytes);
    let at = answer.windows(11).rposition(|word| word == b"slow_reader");
    let tail = String::from_utf8_lossy(&answer[answer.len().saturating_sub(200)..]).into_owned();
    assert_eq!(at, Some(answer.len() - 11), "the close's reason is the last that comes: {tail}");
    end(server);
}

#[test]
fn noise_from_strangers_changes_nothing() {
    let home = Home::new();
    let server = begin(&home.config());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let udp = server.udp.expect("open");
    let mut state = 7u64;
    let mut chance = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..chance() % 1400).map(|_| chance() as u8).collect();
        let _ = socket.send_to(&bytes, udp);
    }
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..chance() % 400).map(|_| chance() as u8).collect();
        let mut stream = TcpStream::connect(server.http).expect("it listens");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        websocket(&server, &frame(0x82, &bytes));
    }
    // Players still get everything.
    play(&format!("kaos://{udp}"), 0, 2, 20, |_| 8);
    assert_eq!(http(&server, "GET /healthcheck", "", "").0, 200);
    end(server);
}

#[test]
fn a_stop_tells_players_and_closes_their_connections() {
    struct Waits(Option<String>, std::sync::mpsc::Sender<()>);
    impl Bot for Waits {
        fn event(&mut self, _: Micros, _: &mut Core, event: CoreEvent) {
            match event {
                CoreEvent::Started => {
                    let _ = self.1.send(());
                }
                CoreEvent::Ended(end) => self.0 = Some(end.reason),
                _ => {}
            }
        }
        fn wake(&mut self, _: Micros, _: &mut Core) {}
        fn next_wake(&self) -> Option<Micros> {
            None
        }
    }
    let home = Home::new();
    let server = begin(&home.config());
    let (started, has_started) = channel();
    let urls = [format!("kaos://{}", server.udp.expect("open")), format!("ws://{}/kaos", server.http)];
    std::thread::scope(|scope| {
        for url in &urls {
            let started = started.clone();
            scope.spawn(move || {
                let seat = Seat {
                    credentials: Credentials::anonymous("ada"),
                    options: Options::default(),
                    start_after: Duration::ZERO,
                    bot: Waits(None, started),
                };
                let bots = run(url, vec![seat], Duration::from_secs(20)).expect("a door");
                assert_eq!(bots[0].0.as_deref(), Some("stopping"), "{url}");
            });
        }
        for _ in &urls {
            has_started.recv().expect("started");
        }
        let stopped = end(server);
        assert_eq!(stopped.sessions, 2);
    });
}

#[test]
fn a_room_whose_match_hangs_ends_and_the_server_says_so_meanwhile() {
    #[derive(Resource)]
    struct LetGo(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);
    fn hang(world: &World, _: &Caller, (): ()) -> Result<(), Fault> {
        let _ = world.resource::<LetGo>().0.lock().expect("one thread").recv();
        Ok(())
    }
    let home = Home::new();
    let hangs = RELAY.replace("for _, m", "kaos.hang() for _, m");
    fs::write(home.0.join("scripts/matches/hangs.lua"), hangs).expect("written");
    let rpc = "kaos.register_rpc('open', function() return kaos.room_create('hangs', {}) end)";
    fs::write(home.0.join("scripts/open.lua"), rpc).expect("written");
    let (let_go, wait) = channel();
    let once = std::sync::Mutex::new(Some(wait));
    let server = start(&home.config(), move |app| {
        let wait = once.lock().expect("one thread").take().expect("built once");
        app.insert_resource(LetGo(wait.into())).read_op(Op::new("hang").about("Waits.").server(), hang);
    });
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    std::thread::scope(|scope| {
        // Answered when the frame thread goes on, at the latest.
        let open = scope.spawn(|| http(&server, "POST /v1/rpc/open", "", "").0);
        // Answered beside the frame thread, which is in the first tick of the room. The watchdog says it again when
        // the time has doubled, and has named the room by then.
        let health = std::iter::repeat_with(|| http(&server, "GET /healthcheck", "", "").1);
        let ms = health.take(1_000_000).find_map(|said| {
            let (_, ms) = said.split_once("in one frame for ")?;
            let ms: u64 = ms.split(' ').next()?.parse().ok()?;
            (ms >= 2000).then_some(ms)
        });
        ms.expect("noticed");
        drop(let_go);
        assert_eq!(open.join().expect("no panic"), 200);
    });
    // A request that comes in the frame in which the room ends is served before that: it may still see it, but never a
    // further tick.
    let mut lists = std::iter::repeat_with(|| http(&server, "GET /v1/rooms", "", "").1).take(100);
    let ended = lists.any(|list| {
        assert!(list == "[]" || list.contains(r#""tick":0"#), "it ended before its next tick: {list}");
        list == "[]"
    });
    assert!(ended, "its room ended");
    end(server);
}

/// One WebSocket frame of a client, with a mask of zeros.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends raw bytes over a fresh WebSocket; gives back everything that came until the end.
fn websocket(server: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.http).expect("it listens");
    let host = server.http;
    let upgrade = format!(
        "GET /kaos HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).expect("taken");
    stream.write_all(bytes).expect("taken");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an end");
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    assert!(all.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&all));
    all.split_off(end + 4)
}

#[test]
fn connections_that_break_the_rules_are_told_which() {
    let home = Home::new();
    let server = begin(&home.config());
    let close = |bytes: &[u8]| {
        // The last frame: FIN and Close, its length, the code, the reason.
        let answer = websocket(&server, bytes);
        let at = (0..answer.len()).rev().find(|at| answer[*at] == 0x88).expect("a close");
        u16::from_be_bytes([answer[at + 2], answer[at + 3]])
    };
    assert_eq!(close(&frame(0x81, b"hello")), 1003, "text");
    assert_eq!(close(&frame(0x82, &vec![0; 131_073])), 1009, "too long");
    assert_eq!(close(&frame(0x82, b"\x03\x00\x00")), 1002, "no SessionStart");
    assert_eq!(close(&frame(0x80, b"x")), 1002, "the end of nothing");
    assert_eq!(close(&frame(0x88, &1000u16.to_be_bytes())), 1000, "a goodbye");
    let pieces = [frame(0x02, &vec![0; 100_000]), frame(0x00, &vec![0; 100_000])].concat();
    assert_eq!(close(&pieces), 1009, "too long in pieces");
    end(server);
}

#[test]
fn a_taken_port_is_named_with_who_has_it() {
    let home = Home::new();
    let server = begin(&home.config());
    let other = Home::new();
    let mut config = other.config();
    config.http.address = server.http;
    let sentence = start(&config, |_| {}).err().expect("taken").to_string();
    assert!(sentence.starts_with(&format!("port {} (tcp) is taken\n", server.http.port())), "{sentence}");
    assert!(sentence.contains("or choose another:  kaosnet --http 127.0.0.1:"), "{sentence}");
    if cfg!(target_os = "linux") {
        assert!(sentence.contains(&format!("(pid {})", std::process::id())), "{sentence}");
    }
    let mut config = other.config();
    config.udp.address.0 = server.udp;
    let sentence = start(&config, |_| {}).err().expect("taken").to_string();
    assert!(sentence.contains("(udp) is taken"), "{sentence}");
    end(server);
}

#[test]
fn a_script_that_cannot_be_read_stops_the_start_with_its_place() {
    let home = Home::new();
    fs::write(home.0.join("scripts/matches/broken.lua"), "local x =\n").expect("written");
    let sentence = start(&home.config(), |_| {}).err().expect("broken").to_string();
    assert!(sentence.contains("broken.lua"), "{sentence}");
}

/// A late runner leaves due frames out; a replay has to leave out the same.
#[test]
fn frames_that_were_left_out_stay_left_out_in_a_replay() {
    #[derive(Resource, Default)]
    struct Turns(Vec<u64>);
    fn turn(clock: Res<Clock>, mut turns: ResMut<Turns>) {
        turns.0.push(clock.frame());
        if turns.0.len() < 8 {
            clock.wake_at(clock.frame() + 4);
        }
    }
    let built = || {
        let build = Build { journal_bytes_max: 1 << 20, ..Build::default() };
        let server = Server::build(build, |app| {
            app.init_resource::<Turns>().add_systems(kaos_kernel::frame::Frame, turn.in_set(Stage::Match));
        });
        server.expect("builds")
    };
    let mut first = built();
    let (mut inputs, mut outputs) = (Vec::new(), kaos_kernel::output::Outputs::default());
    let boot = kaos_kernel::input::Boot { seed: 1, wall_ms: 5, node: 1 };
    inputs.push(kaos_kernel::input::Input::Boot(boot));
    // 4 and 8 come when they are due; 12 is left out and 14 runs late; 18 is left out for an input at 19.
    for n in [0, 4, 8, 14, 19, 23, 27] {
        if n == 19 {
            inputs.push(kaos_kernel::input::Input::Wall { ms: 9 });
        }
        first.frame(n, &mut inputs, &mut outputs);
    }
    let header = first.header().clone();
    let bytes = first.journal().to_bytes(&header).expect("complete");
    let (_, records) = kaos_kernel::journal::Reader::new(&bytes).expect("a journal");
    let mut second = built();
    let mut next = 0;
    for record in records {
        let Ok(Record::Frame { frame, after, mut inputs }) = record else { panic!("no frame") };
        while let Some(due) = second.due().map(|due| due.max(next)).filter(|due| *due <= after) {
            second.frame(due, &mut Vec::new(), &mut outputs);
            next = due + 1;
        }
        second.frame(frame, &mut inputs, &mut outputs);
        next = frame + 1;
    }
    second.frame(23, &mut Vec::new(), &mut outputs);
    second.frame(27, &mut Vec::new(), &mut outputs);
    let turns = |server: &mut Server| server.world().resource::<Turns>().0.clone();
    assert_eq!(turns(&mut second), turns(&mut first));
    assert_eq!(replay(&bytes, built()).map(|replayed| replayed.last_frame), Ok(19));
}

/// A server whose observer panics when a room ends, which is more than a frame can go on from.
fn breaks_when_a_room_ends(app: &mut App) {
    app.add_observer(|_: On<Remove<Room>>| panic!("a defect of a plugin"));
    let op = Op::new("brief").public().rest("POST /v1/brief").price(1);
    app.op(op, async |cx: Call, _: ()| -> Result<RoomId, Fault> {
        let spec = kaos_rooms::Spec { ends_empty: true, ..kaos_rooms::Spec::default() };
        cx.with(|world| kaos_rooms::create_room(world, spec))
    });
}

/// Runs until a room that nobody joined has ended, and with it the server.
fn crash(config: &Config) {
    let server = start(config, breaks_when_a_room_ends).unwrap_or_else(|error| panic!("{error}"));
    let (status, body) = http(&server, "POST /v1/brief", "", "");
    assert_eq!(status, 200, "{body}");
    // It ends by itself.
    let _ = server.join();
}

fn replay_panics(config: &Config, journal: &[u8]) {
    let build =
        Build { settings: config.settings(), quantum: config.quantum(), journal_bytes_max: 0, strict: false };
    let scripts = Scripts::from_dir(&config.server.scripts);
    let server = compose(build, KaosCodec::default(), scripts, breaks_when_a_room_ends);
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay(journal, server)));
    let panic = again.expect_err("the run is the same to its end");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a defect of a plugin"));
}

#[test]
fn the_frame_that_ended_the_server_is_in_its_journal() {
    let home = Home::new();
    let mut config = home.config();
    config.frame.set("room.empty_ms", 100);
    let recorded = home.0.join("run.kj");
    config.journal.record = Some(recorded.clone());
    crash(&config);
    replay_panics(&config, &fs::read(recorded).expect("written"));
    assert!(!config.server.data.join("crash.kj").exists(), "the file has it");
}

#[test]
fn the_journal_in_memory_is_written_down_when_the_server_dies_and_for_its_owner_only() {
    let home = Home::new();
    let mut config = home.config();
    config.frame.set("room.empty_ms", 100);
    for _ in 0..2 {
        crash(&config);
        let dumped = config.server.data.join("crash.kj");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&dumped).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        replay_panics(&config, &fs::read(dumped).expect("written"));
    }
}
