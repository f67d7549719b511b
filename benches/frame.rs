//! What the frame costs without sockets: sessions in arenas that move and shout, on virtual time.
//!
//! `cargo bench --bench frame -- [SESSIONS] [SECONDS]` (1,000 and 10 by default). Prints the time of one
//! thread; compare runs on one machine with each other, and with the line `clock`, which does no work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kaos_kernel::ids::PeerSlots;
use kaos_kernel::input::{Boot, Claim, Door, Input};
use kaos_kernel::output::Outputs;
use kaos_wire::{EVERYONE, Opcode, RoomData, v1};
use kaosnet::testing::server;

/// Messages that each session sends in a second: as many moves as shouts.
const MESSAGES_A_SECOND: u64 = 20;

#[expect(
    clippy::too_many_lines,
    reason = "a measurement from its setup to its figures, read from above to below"
)]
fn main() {
    let number = |at: usize, default: u64| {
        std::env::args().nth(at).and_then(|arg| arg.parse().ok()).unwrap_or(default)
    };
    let (sessions, seconds) = (number(1, 1_000), number(2, 10));
    let setup = server("scripts").skipping().settings(|s| {
        s.set("limit.address_starts_burst", 1_000_000);
        s.set("limit.address_peers_max", 1_000_000);
        s.set("limit.address_rooms_created_max", 1_000_000);
        s.set("session.idle_ms", 600_000);
        s.set("session.resend_bytes", 64 << 20);
    });
    let mut server = setup.build().unwrap_or_else(|error| panic!("{error}"));
    let mut outputs = Outputs::default();
    let mut frame = 0;
    let mut run = |inputs: &mut Vec<Input>, frame: u64| {
        server.frame(frame, inputs, &mut outputs);
        (outputs.sends.len(), server.due())
    };
    run(&mut vec![Input::Boot(Boot { seed: 1, wall_ms: 1_700_000_000_000, node: 1 })], frame);
    let mut slots = PeerSlots::default();
    let mut peers = Vec::new();
    for n in 0..sessions {
        let Some(peer) = slots.open(1 << 20) else { break };
        let claim = Claim::Anonymous { name: format!("p{n}") };
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let mut join = Vec::new();
        let request = v1::RoomJoin { cid: 1, module: "arena".into(), ..v1::RoomJoin::default() };
        let _ = kaos_wire::encode(Opcode::RoomJoin, &request, &mut join);
        let mut inputs = vec![
            Input::Open { peer, door: Door::Memory, address },
            Input::Start { peer, claim, fresh: [0; 16], vars: Default::default() },
            Input::Data { peer, bytes: join.into() },
        ];
        frame += 1;
        run(&mut inputs, frame);
        peers.push(peer);
    }
    let message = |op: u8, data: &[u8]| {
        let mut bytes = Vec::new();
        let _ = RoomData { handle: 0, index: EVERYONE, op, data }.encode(&mut bytes);
        Bytes::from(bytes)
    };
    let (moves, shouts) = (message(1, &[5]), message(9, &[7; 64]));

    let start_frame = frame;
    let end = frame + seconds * 2000;
    let gap = 2000 / MESSAGES_A_SECOND;
    let (mut frames, mut received, mut sent, mut busy, mut worst) =
        (0u64, 0u64, 0u64, Duration::ZERO, Duration::ZERO);
    let mut next = 0;
    let mut inputs = Vec::new();
    let (mut due, whole) = (None::<u64>, now());
    while frame < end {
        frame = due.unwrap_or(frame + 1).clamp(frame + 1, (frame + 1).max(next));
        // Sessions send in turns, a part of them in every frame.
        while next <= frame {
            let turn = next % gap;
            let shout = (next / gap) % 2 == 1;
            for (at, peer) in peers.iter().enumerate().filter(|(at, _)| *at as u64 % gap == turn) {
                black_box(at);
                let bytes = if shout { shouts.clone() } else { moves.clone() };
                inputs.push(Input::Data { peer: *peer, bytes });
            }
            next += 1;
        }
        received += inputs.len() as u64;
        let begin = now();
        let (sends, asked) = run(&mut inputs, frame);
        let took = begin.elapsed();
        due = asked;
        busy += took;
        worst = worst.max(took);
        sent += sends as u64;
        frames += 1;
    }
    let rooms = peers.len().div_ceil(10);
    let per = |n: u64| busy.as_nanos() as f64 / n.max(1) as f64;
    print(&format!(
        "{} sessions in {rooms} arenas, {} virtual seconds in {:.2?}",
        peers.len(),
        (frame - start_frame) / 2000,
        whole.elapsed()
    ));
    print(&format!("frames   {frames:>9}   {:>8.2} µs each, the longest {worst:.1?}", per(frames) / 1000.0));
    print(&format!("in       {received:>9}   {:>8.0} ns each, all work counted", per(received)));
    print(&format!("out      {sent:>9}   {:>8.0} ns each, all work counted", per(sent)));
    print(&format!(
        "one core carries {:.1} such servers",
        (frame - start_frame) as f64 * 500e-6 / busy.as_secs_f64()
    ));
    let begin = now();
    for _ in 0..1000 {
        black_box(now());
    }
    print(&format!("clock               {:>8.0} ns each", begin.elapsed().as_nanos() as f64 / 1000.0));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn print(line: &str) {
    println!("{line}");
}
