//! Memory under an allocator gauge: clients that die and strangers that send rubbish leave nothing behind.
//!
//! A binary of its own, since the gauge counts every allocation of its process: one test, one server,
//! phases one after the other. Clients that are killed are processes of their own.

#[path = "live/running.rs"]
mod running;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use kaos_kernel::dice::Dice;
use kaos_kernel::prelude::*;
use kaosnet::runner::Running;
use running::{config, serve};

/// Counts the bytes that are allocated now.
struct Gauge;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counter is beside it.
#[allow(unsafe_code, reason = "an allocator is unsafe by its trait")]
unsafe impl GlobalAlloc for Gauge {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BYTES.fetch_add(new_size.cast_signed() - layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static GAUGE: Gauge = Gauge;

/// What the server holds, asked over HTTP of an operation that the test adds.
#[derive(serde::Deserialize, serde::Serialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    entities: usize,
    sessions: usize,
    presences: usize,
    rooms: usize,
}

/// Makes the ECS find room for as many entities as a round has at once, and the 128 that it may keep aside: it
/// never gives their places (24 bytes each) back, and doubles them when chance has it that none is at hand.
fn make_places(world: &mut World) {
    let entities: Vec<Entity> = (0..400).map(|_| world.spawn_empty().id()).collect();
    for entity in entities {
        world.despawn(entity);
    }
}

fn held_op(app: &mut App) {
    make_places(app.world_mut());
    app.read_op(
        Op::new("test.held").public().rest("GET /v1/test/held").price(1),
        |world: &World, _: &Caller, (): ()| -> Result<Held, Fault> {
            Ok(Held {
                entities: world.iter_entities().count(),
                sessions: world.resource::<SessionIndex>().len(),
                presences: world.iter_entities().filter(|entity| entity.contains::<Presence>()).count(),
                rooms: world.resource::<kaos_kernel::world::RoomIndex>().len(),
            })
        },
    );
}

fn held(running: &Running) -> Held {
    let mut stream = TcpStream::connect(running.http).expect("listens");
    let request =
        format!("GET /v1/test/held HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", running.http);
    stream.write_all(request.as_bytes()).expect("takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Waits, at most a minute, until `done` says so: other processes and threads take their time.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        pause(100);
    }
    panic!("{what} did not come in a minute");
}

#[expect(clippy::disallowed_methods, reason = "waits for other processes, whose time is not ours")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Allocated bytes once everything has settled, the lowest of four seconds: connections that were cut are held
/// for some time-outs yet, and the memory of a burst is given back by a frame that runs two seconds later.
fn settled(running: &Running) -> isize {
    let look = |n| {
        pause(100);
        if n % 11 == 10 {
            held(running);
        }
        BYTES.load(Ordering::Relaxed)
    };
    (0..40).map(look).min().unwrap_or(0)
}

/// Allocated bytes come back to the level, two percent more at most: at once, or when all has settled.
/// Returns what they come to.
fn comes_back(what: &str, running: &Running, level: isize) -> isize {
    let mut lowest = isize::MAX;
    for n in 0..200 {
        lowest = lowest.min(BYTES.load(Ordering::Relaxed));
        if lowest <= level + level / 50 {
            return lowest;
        }
        pause(100);
        if n % 11 == 10 {
            held(running);
        }
    }
    panic!("{what}: {lowest} bytes are allocated, the level was {level}");
}

struct Clients(Child);

impl Clients {
    fn start(running: &Running, count: usize, door: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_kaosnet"))
            .args([
                "bots",
                "--clients",
                &count.to_string(),
                "--match",
                "arena",
                "--secs",
                "60",
                "--door",
                door,
            ])
            .args(["--server", &format!("http://{}", running.http)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Clients(child.expect("the binary is there"))
    }
}

impl Drop for Clients {
    /// SIGKILL, as `kill -9` does.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::print_stdout, reason = "its figures are what it is for")]
fn a_thousand_are_killed_in_rounds_of_fifty(running: &Running) {
    let empty = held(running);
    let round = |round: usize| {
        let clients = Clients::start(running, 50, if round.is_multiple_of(2) { "udp" } else { "ws" });
        until("fifty sessions in rooms", || held(running).presences == 50);
        pause(300);
        drop(clients);
        until("the seats to be free", || held(running) == empty);
    };
    // Two rounds, one by each door, in which what the ECS keeps for good finds its size: tables, and lists of what
    // was removed in a frame. They grow with the most that was there or went at once, which `limit.*` bounds.
    (0..2).for_each(round);
    let level = settled(running);
    let mut after = Vec::new();
    for n in 2..20 {
        round(n);
        after.push(comes_back(&format!("round {n}"), running, level));
    }
    println!("1,000 killed in rounds of 50: {level} bytes after the second, then {after:?}");
}

/// Random datagrams, and those of a real connection, changed.
fn rubbish_over_udp(running: &Running, dice: &mut Dice) {
    let server = running.udp.expect("UDP is open");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("possible");
    let hello = hello_of(running);
    for n in 0..100_000u32 {
        let mut datagram = if dice.roll().is_multiple_of(2) { hello.clone() } else { random(dice, 1400) };
        for _ in 0..dice.roll() % 8 {
            change(dice, &mut datagram);
        }
        // A full socket buffer drops it, as the network would.
        let _ = socket.send_to(&datagram, server);
        let mut answer = [0; 2048];
        while socket.recv_from(&mut answer).is_ok() {}
        if n.is_multiple_of(2000) {
            pause(2);
        }
    }
}

/// The first datagram of a real client.
fn hello_of(running: &Running) -> Vec<u8> {
    let mut client = kaos_rudp::Endpoint::new(kaos_rudp::Config::default(), [7; 32]);
    let server = running.udp.expect("UDP is open");
    client.connect(kaos_rudp::Micros(0), server, None).expect("possible");
    let mut datagram = Vec::new();
    client.poll_transmit(kaos_rudp::Micros(0), &mut datagram).expect("a hello");
    datagram
}

fn random(dice: &mut Dice, most: u64) -> Vec<u8> {
    (0..dice.roll() % most).map(|_| dice.roll() as u8).collect()
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = (dice.roll() % bytes.len() as u64) as usize;
    match dice.roll() % 3 {
        0 => bytes[at] = dice.roll() as u8,
        1 => bytes.truncate(at),
        _ => bytes.insert(at, dice.roll() as u8),
    }
}

/// A WebSocket that a test holds by hand.
struct Socket(TcpStream);

impl Socket {
    fn open(http: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect(http).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let request = format!(
            "GET /kaos HTTP/1.1\r\nHost: {http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut head = [0; 512];
        let read = stream.read(&mut head).ok()?;
        head[..read].starts_with(b"HTTP/1.1 101").then_some(Socket(stream))
    }

    /// Sends a masked frame as RFC 6455 wants it; the mask is zero, which is one.
    fn frame(&mut self, opcode: u8, payload: &[u8]) -> bool {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend((long as u16).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).is_ok()
    }
}

/// A SessionStart for a name.
fn session_start(name: &str) -> Vec<u8> {
    let start = kaos_wire::v1::SessionStart {
        protocol_min: 1,
        protocol_max: 1,
        credentials: Some(kaos_wire::v1::session_start::Credentials::Anonymous(name.into())),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::SessionStart, &start, &mut bytes).expect("short");
    bytes
}

fn rubbish_over_websockets(running: &Running, dice: &mut Dice) {
    let mut sent = 0;
    let mut round = 0u32;
    while sent < 100_000 {
        round += 1;
        let Some(mut socket) = Socket::open(running.http) else {
            pause(50);
            continue;
        };
        // Most begin as a client should: what comes after is then read as messages.
        if !dice.roll().is_multiple_of(4) && !socket.frame(2, &session_start(&format!("m{round}"))) {
            continue;
        }
        for _ in 0..200 {
            sent += 1;
            let mut payload = random(dice, 64);
            if !dice.roll().is_multiple_of(3) {
                payload = vec![[0x10, 0x11, 0x13, 0x16, 0x20, 0x30, 0x03][(dice.roll() % 7) as usize]];
                let body = random(dice, 40);
                payload.extend((body.len() as u16).to_le_bytes());
                payload.extend(body);
            }
            let open = match dice.roll() % 50 {
                // Not even a frame.
                0 => socket.0.write_all(&random(dice, 32)).is_ok(),
                1 => socket.frame((dice.roll() % 16) as u8, &payload),
                _ => socket.frame(2, &payload),
            };
            if !open {
                break;
            }
        }
        if round.is_multiple_of(64) {
            pause(20);
        }
    }
}

#[test]
fn nothing_stays_of_clients_that_died_and_strangers_that_sent_rubbish() {
    let mut config = config("gauge");
    config.frame.set("session.seat_ms", 300);
    config.frame.set("session.idle_ms", 2500);
    config.frame.set("room.empty_ms", 300);
    // Full long before the second round, and too short to be seen in the level, whatever its records are.
    config.journal.memory_bytes = 1024;
    config.frame.set("limit.address_starts", 1_000_000);
    config.frame.set("limit.address_starts_burst", 1_000_000);
    config.frame.set("limit.address_calls", 1_000_000);
    config.frame.set("limit.address_calls_burst", 1_000_000);
    let running = serve(&config, held_op);
    let mut dice = Dice::of(5, "rubbish", 0);
    let empty = held(&running);
    a_thousand_are_killed_in_rounds_of_fifty(&running);
    let level = settled(&running);
    rubbish_over_websockets(&running, &mut dice);
    rubbish_over_udp(&running, &mut dice);
    until("the server to be empty again", || held(&running) == empty);
    let after = settled(&running);
    println!("200,000 pieces of rubbish: {level} bytes before, {after} after");
    assert!(after <= level + level / 50, "rubbish left memory behind: {after} bytes, {level} before");
    running.stop();
    assert!(running.join().expect("no crash").clean);
}
