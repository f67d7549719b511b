//! Hostile clients: whatever bytes they send, the answer is a typed refusal or silence.

use kaos_gate::kaos::codec::KaosCodec;
use kaos_kernel::codec::{Codec, InboundMessage};
use kaos_kernel::dice::Dice;
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_wire::{Opcode, v1};
use kaosnet::testing::{Event, Test, server, server_of};
use serde_json::json;

fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice, n: usize| (dice.roll() % n.max(1) as u64) as usize;
    let mut bytes = if dice.roll().is_multiple_of(4) {
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
    let mut add = |op: Opcode, bytes: Vec<u8>| {
        let mut out = Vec::new();
        kaos_wire::encode_raw(op, &bytes, &mut out).expect("short");
        all.push(out);
    };
    use kaos_wire::prost::Message;
    add(Opcode::Heartbeat, v1::Heartbeat { client_time_us: 1, ..Default::default() }.encode_to_vec());
    add(
        Opcode::RoomCreate,
        v1::RoomCreate { cid: 1, label: "{\"a\":1}".into(), ..Default::default() }.encode_to_vec(),
    );
    add(
        Opcode::RoomJoin,
        v1::RoomJoin { cid: 2, module: "arena".into(), ..Default::default() }.encode_to_vec(),
    );
    add(Opcode::RoomLeave, v1::RoomLeave { cid: 3, room_id: "0".repeat(36) }.encode_to_vec());
    add(Opcode::RoomData, vec![0, 0, 255, 255, 1, 5]);
    add(Opcode::RoomDataUnreliable, vec![0, 0, 255, 255, 9, 5, 6, 7]);
    add(Opcode::Rpc, v1::Rpc { cid: 4, id: "echo".into(), payload: b"x".to_vec() }.encode_to_vec());
    add(
        Opcode::Call,
        v1::Call { cid: 5, op: "room.list".into(), body: b"{\"limit\":3}".to_vec() }.encode_to_vec(),
    );
    add(Opcode::SessionEnd, v1::SessionEnd::default().encode_to_vec());
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
    let settings = |s: &mut Settings| {
        s.set("session.seat_ms", 100);
        s.set("room.empty_ms", 100);
        s.set("limit.address_starts", 1_000_000);
        s.set("limit.address_starts_burst", 1_000_000);
        s.set("limit.address_peers_max", 1_000_000);
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

#[test]
fn a_client_that_floods_whatever_is_refused_is_closed_and_its_neighbours_play_on() {
    let mut t = server("scripts").start();
    let (ada, mallory) = (t.join("arena", "ada"), t.join("arena", "mallory"));
    let mut bytes = Vec::new();
    for _ in 0..200 {
        kaos_wire::encode_raw(Opcode::RoomDataUnreliable, &[9, 9, 255, 255, 1], &mut bytes).expect("short");
    }
    for _ in 0..15 {
        mallory.send_raw(bytes.clone());
        t.frames(1);
    }
    assert_eq!(mallory.ended(), None, "3,000 at once are refused");
    for _ in 0..30 {
        mallory.send_raw(bytes.clone());
        t.frames(1);
    }
    assert_eq!((ada.ended(), mallory.ended()), (None, Some("rate_limited".into())));
    t.replays_equally();
}

#[test]
fn a_piece_without_a_message_ends_its_session_at_once() {
    let mut t = server("scripts").start();
    let (ada, mallory) = (t.join("arena", "ada"), t.join("arena", "mallory"));
    let before = t.journal().len();
    for _ in 0..100 {
        for _ in 0..1000 {
            mallory.send_raw(Vec::new());
        }
        t.frames(1);
    }
    assert_eq!((ada.ended(), mallory.ended()), (None, Some("protocol".into())));
    let grown = t.journal().len() - before;
    assert!(grown < 64 * 1024, "{grown} bytes");
    t.run_ms(60_000);
    assert_eq!(t.population().sessions, 1);
    t.replays_equally();
}

#[test]
fn a_client_that_floods_bytes_is_closed_whatever_they_are() {
    let data = {
        let mut bytes = Vec::new();
        let data = kaos_wire::RoomData { handle: 9, index: 65535, op: 1, data: &[7; 60_000] };
        data.encode(&mut bytes).expect("short");
        bytes
    };
    // Many heartbeats in one piece count as one message.
    let heartbeats = {
        let mut bytes = Vec::new();
        let heartbeat = v1::Heartbeat { client_time_us: u64::MAX, ..Default::default() };
        for _ in 0..4000 {
            kaos_wire::encode(Opcode::Heartbeat, &heartbeat, &mut bytes).expect("short");
        }
        bytes
    };
    for piece in [data, heartbeats] {
        let mut t = server("scripts").start();
        let (ada, mallory) = (t.join("arena", "ada"), t.join("arena", "mallory"));
        let mut sent = 0;
        while mallory.ended().is_none() {
            // Far fewer messages than make a flood of messages.
            mallory.send_raw(piece.clone());
            sent += piece.len();
            t.run_ms(10);
            assert!(sent < 8 << 20, "the session goes on");
        }
        assert!(sent > 4 << 20, "eight bursts pass, and most of it refused: {sent}");
        assert_eq!((ada.ended(), mallory.ended()), (None, Some("rate_limited".into())));
        t.replays_equally();
    }
}

/// Work that takes a while.
#[derive(serde::Serialize, serde::Deserialize)]
struct Slow;

impl Job for Slow {
    type Out = ();
    const NAME: &'static str = "slow";
}

#[test]
fn one_session_cannot_fill_the_queue_of_waiting_calls() {
    let slow = |app: &mut App| {
        app.job(|_: Slow, _: &mut JobContext<'_>| Ok(()))
            .op(kaos_kernel::op::Op::new("slow").price(1), async |cx: Call, _: ()| -> Result<(), Fault> {
                cx.job(Slow).await
            });
    };
    let mut t = server_of([]).plugins(slow).set("call.session_waiting_max", 4).start();
    let (ada, mallory) = (t.connect("ada"), t.connect("mallory"));
    t.hold_jobs();
    let cids: Vec<u32> = (0..6).map(|_| mallory.start_call("slow", &json!(null))).collect();
    let own = ada.start_call("slow", &json!(null));
    t.frames(3);
    assert_eq!(t.population().waiting_calls, 5);
    let refused: Vec<bool> =
        cids.iter().map(|cid| mallory.answer(*cid).is_some_and(|a| a.is_err())).collect();
    assert_eq!(refused, [false, false, false, false, true, true]);
    t.release_jobs();
    t.frames(3);
    assert_eq!(ada.answer(own), Some(Ok(b"null".to_vec())));
    assert_eq!(t.population().waiting_calls, 0);
    t.hold_jobs();
    let again = mallory.start_call("slow", &json!(null));
    t.frames(3);
    assert_eq!(mallory.answer(again), None, "it waits: those that ended count no more");
    t.replays_equally();
}

#[test]
fn a_resume_gives_no_free_calls() {
    let settings = |s: &mut Settings| {
        s.set("limit.session_messages", 10);
        s.set("limit.session_messages_burst", 20);
    };
    let mut t = server_of([]).settings(settings).start();
    let mallory = t.connect("mallory");
    for _ in 0..5 {
        mallory.resume().expect("it may");
        for _ in 0..6 {
            mallory.create(v1::RoomCreate::default()).ok();
        }
    }
    assert!(t.population().rooms <= 3, "{} rooms", t.population().rooms);
}

#[test]
fn refusals_come_in_the_channel_of_what_they_refuse() {
    let mut t = server("scripts").start();
    let ada = t.join("arena", "ada");
    ada.events();
    let refusals = |events: Vec<Event>| -> Vec<Event> {
        events.into_iter().filter(|event| matches!(event, Event::Refused(_))).collect()
    };
    // A member of a room with a match cannot speak to another behind its back.
    ada.send_to(0, 1, "psst");
    t.frames(2);
    assert_eq!(refusals(ada.events()), [Event::Refused("invalid".into())]);
    // A heartbeat that cannot be read, an opcode that nobody knows, and data without a header.
    let bad: [(&[u8], Channel); 3] = [
        (&[3, 2, 0, 0xff, 0xff], Channel::Control),
        (&[0x7f, 0, 0], Channel::Control),
        (&[0x16, 0, 0], Channel::Data),
    ];
    for (bytes, expected) in bad {
        let ops = t.with_server(|server| server.ops());
        let mut channels = Vec::new();
        let split = KaosCodec::default().decode(&bytes::Bytes::from_static(bytes), &ops, &mut |inbound| {
            if let InboundMessage::Bad { channel, .. } = inbound.message {
                channels.push(channel);
            }
        });
        assert_eq!((split, channels), (Ok(()), vec![expected]), "{bytes:?}");
        ada.send_raw(bytes.to_vec());
        t.frames(2);
        assert_eq!(refusals(ada.events()), [Event::Refused("invalid".into())]);
    }
    t.run_ms(1500);
    assert_eq!(ada.ended(), None, "its acknowledgements are still true");
    t.replays_equally();
}

#[test]
fn asking_for_what_is_not_there_is_no_breach_of_the_protocol() {
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    for _ in 0..20 {
        let unknown = ada.call("no.such.thing", &json!(null)).expect_err("not there");
        assert_eq!(unknown.kind, FaultKind::Unimplemented);
    }
    assert_eq!(ada.ended(), None);
    t.replays_equally();
}

#[test]
fn a_join_that_its_new_room_refuses_leaves_no_room() {
    let never = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 5 } end
        function M.match_join_attempt(_, s) return s, false, 'never' end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        return M";
    let mut t = server_of([("matches/never.lua", never)]).start();
    let ada = t.connect("ada");
    for _ in 0..3 {
        let refused = ada.join("never").expect_err("never");
        assert_eq!((refused.kind, refused.message.as_ref()), (FaultKind::Refused, "never"));
        assert_eq!(t.population().rooms, 0);
    }
    t.replays_equally();
}

#[test]
fn names_of_any_length_are_refused_quickly() {
    let mut t = server("scripts").start();
    let long = "x".repeat(60_000);
    for (op, request) in [
        ("rpc", json!({ "id": long })),
        ("room.create", json!({ "module": long })),
        ("room.create", json!({ "label": long })),
        ("room.list", json!({ "label": long, "module": long })),
    ] {
        let answer = t.call(Some("u"), op, request);
        assert!(op == "room.list" || answer.is_err_and(|fault| fault.kind != FaultKind::Internal), "{op}");
    }
    assert_eq!(t.population().rooms, 0);
}

#[test]
fn bad_arguments_are_refused_for_ever_and_unreadable_messages_are_forgotten_in_time() {
    let mut t = server_of([]).skipping().start();
    let ada = t.connect("ada");
    for _ in 0..30 {
        let refused = ada.call("room.get", &json!({"room_id": "typo"})).expect_err("that is no id");
        assert_eq!(refused.kind, FaultKind::Invalid);
        let refused = ada.join_id("typo").expect_err("nor here");
        assert_eq!(refused.kind, FaultKind::Invalid);
        t.run_ms(1000);
    }
    // One a minute for an hour, then more than are forgiven.
    let unreadable = || ada.send_raw(vec![Opcode::RoomJoin as u8, 2, 0, 0xff, 0xff]);
    for _ in 0..60 {
        unreadable();
        t.run_ms(60_000);
    }
    assert_eq!(ada.ended(), None);
    for _ in 0..9 {
        unreadable();
        t.frames(1);
    }
    assert_eq!(ada.ended(), None, "nine are forgiven");
    unreadable();
    t.frames(1);
    assert_eq!(ada.ended(), Some("protocol".into()));
    t.replays_equally();
}
