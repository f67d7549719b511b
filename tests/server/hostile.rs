//! Hostile clients: whatever bytes they send, the answer is a typed refusal or silence.

use kaos_kernel::dice::Dice;
use kaos_wire::{Op, v1};
use kaosnet::testing::{Test, server};

fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice, n: usize| (dice.roll() % n.max(1) as u64) as usize;
    let mut bytes = if dice.roll() % 4 == 0 {
        let length = pick(dice, 200);
        (0..length).map(|_| dice.roll() as u8).collect()
    } else {
        seeds[pick(dice, seeds.len())].clone()
    };
    for _ in 0..pick(dice, 6) {
        if bytes.is_empty() {
            break;
        }
        let at = pick(dice, bytes.len());
        match dice.roll() % 4 {
            0 => bytes[at] = dice.roll() as u8,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, dice.roll() as u8),
            _ => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
        }
    }
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |op: Op, bytes: Vec<u8>| {
        let mut out = Vec::new();
        kaos_wire::encode_raw(op, &bytes, &mut out).expect("short");
        all.push(out);
    };
    use kaos_wire::prost::Message;
    add(Op::Heartbeat, v1::Heartbeat { client_time_us: 1, ..Default::default() }.encode_to_vec());
    add(
        Op::RoomCreate,
        v1::RoomCreate { cid: 1, label: "{\"a\":1}".into(), ..Default::default() }.encode_to_vec(),
    );
    add(Op::RoomJoin, v1::RoomJoin { cid: 2, module: "arena".into(), ..Default::default() }.encode_to_vec());
    add(Op::RoomLeave, v1::RoomLeave { cid: 3, room_id: "0".repeat(36) }.encode_to_vec());
    add(Op::RoomData, vec![0, 0, 255, 255, 1, 5]);
    add(Op::RoomDataUnreliable, vec![0, 0, 255, 255, 9, 5, 6, 7]);
    add(Op::Rpc, v1::Rpc { cid: 4, id: "echo".into(), payload: b"x".to_vec() }.encode_to_vec());
    add(
        Op::Call,
        v1::Call { cid: 5, op: "room.list".into(), body: b"{\"limit\":3}".to_vec() }.encode_to_vec(),
    );
    add(Op::SessionEnd, v1::SessionEnd::default().encode_to_vec());
    all
}

fn storm(t: &mut Test, seed: u64, messages: u32) {
    let mut dice = Dice::of(seed, "hostile", 0);
    let seeds = seeds();
    let mut player = t.connect("mallory");
    for n in 0..messages {
        if player.ended().is_some() {
            player = t.connect(&format!("mallory{n}"));
        }
        player.send_raw(mutated(&mut dice, &seeds));
        if n % 8 == 0 {
            t.frames(1);
        }
    }
}

#[test]
fn random_and_mutated_messages_end_in_refusals_and_nothing_else() {
    let settings = |s: &mut kaos_kernel::settings::Settings| {
        s.session.seat_ms = 100;
        s.room.empty_ms = 100;
        s.limit.address_starts = 1_000_000;
        s.limit.address_starts_burst = 1_000_000;
        s.limit.address_peers_max = 1_000_000;
    };
    let mut t = server("scripts").seed(11).settings(settings).skipping().start();
    let before = t.population();
    let ada = t.join("arena", "ada");
    storm(&mut t, 11, 20_000);
    assert_eq!(ada.ended(), None, "a bystander notices nothing");
    ada.end();
    t.run_ms(60_000);
    assert_eq!(t.population(), before);
    t.replays_equally();
}

#[test]
fn data_before_the_session_start_closes_the_peer() {
    let mut t = server("scripts").start();
    let mut slots = kaos_kernel::ids::PeerSlots::default();
    let peer = slots.open(8).expect("free");
    let peer = kaos_kernel::ids::PeerId { slot: peer.slot + 1000, ..peer };
    t.input(kaos_kernel::input::Input::Open {
        peer,
        door: kaos_kernel::input::Door::Memory,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
    });
    t.input(kaos_kernel::input::Input::Data { peer, bytes: vec![1, 0, 0].into() });
    t.frames(2);
    assert_eq!(t.population().peers, 0);
    t.replays_equally();
}
