//! Headers, RoomData, limits and hostile bytes.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use kaos_wire::{
    Channel, ClientMessage, EVERYONE, Opcode, Problem, RoomData, ServerMessage, WireError, agree, counted,
    decode_client, decode_server, encode, encode_raw, encoded_len, limits, messages, prost::Message as _,
    refusal, v1,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use v1::{room_event::Event, session_start::Credentials};

#[test]
fn unreliable_room_data_has_to_fit_a_datagram_at_both_ends() {
    let most = vec![7; limits::UNRELIABLE_DATA_MAX + 1];
    let of = |data| RoomData { handle: 1, index: EVERYONE, op: 2, data };
    let mut out = Vec::new();
    of(&most[1..]).encode_unreliable(&mut out).unwrap();
    assert_eq!(out.len(), 1120);
    let too_long = WireError::UnreliableTooLong { bytes: 1113 };
    assert_eq!(of(&most).encode_unreliable(&mut out), Err(too_long.clone()));
    assert_eq!(out.len(), 1120, "nothing is written");
    out.clear();
    of(&most).encode(&mut out).unwrap();
    let op = Opcode::RoomDataUnreliable as u8;
    assert_eq!(decode_client(op, &out[3..]), Err(too_long.clone()));
    assert_eq!(decode_server(op, &out[3..]), Err(too_long.clone()));
    let sentence =
        "unreliable room data of 1113 bytes is too long: at most 1112 fit into a datagram, send it reliably";
    assert_eq!(too_long.to_string(), sentence);
}

const ROOM: &str = "6f1c2d3e-0000-4000-8000-000000000001";

fn start() -> v1::SessionStart {
    v1::SessionStart {
        protocol_min: 1,
        protocol_max: 1,
        client: "test".into(),
        credentials: Some(Credentials::Anonymous("ada".into())),
        vars: [("colour".to_owned(), "red".to_owned())].into(),
    }
}

/// One message of every kind that a client sends, and one of every kind that a server sends.
fn samples() -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    client_samples(&mut client);
    server_samples(&mut server);
    (client, server)
}

fn client_samples(out: &mut Vec<u8>) {
    let resume = v1::Resume {
        session_id: u64::MAX,
        token: vec![7; 16],
        received: Some(v1::Counts { control: 3, data: u64::MAX }),
    };
    encode(Opcode::SessionStart, &start(), out).unwrap();
    let again = v1::SessionStart { credentials: Some(Credentials::Resume(resume)), ..start() };
    encode(Opcode::SessionStart, &again, out).unwrap();
    encode(Opcode::SessionEnd, &v1::SessionEnd::default(), out).unwrap();
    encode(Opcode::Heartbeat, &v1::Heartbeat { client_time_us: 5, ..Default::default() }, out).unwrap();
    encode(Opcode::RoomCreate, &v1::RoomCreate { cid: 1, module: "arena".into(), ..Default::default() }, out)
        .unwrap();
    encode(Opcode::RoomJoin, &v1::RoomJoin { cid: 2, room_id: ROOM.into(), ..Default::default() }, out)
        .unwrap();
    encode(Opcode::RoomLeave, &v1::RoomLeave { cid: 3, room_id: ROOM.into() }, out).unwrap();
    let data = RoomData { handle: 1, index: EVERYONE, op: 1, data: b"\x05" };
    data.encode(out).unwrap();
    data.encode_unreliable(out).unwrap();
    encode(Opcode::Rpc, &v1::Rpc { cid: 4, id: "echo".into(), payload: vec![1, 2, 3] }, out).unwrap();
    encode(Opcode::Call, &v1::Call { cid: 5, op: "room.list".into(), body: b"{}".to_vec() }, out).unwrap();
}

fn server_samples(out: &mut Vec<u8>) {
    let presence = v1::Presence {
        session_id: 9,
        user_id: "u".into(),
        username: "ada".into(),
        index: 2,
        connected: true,
        reason: String::new(),
    };
    let list = v1::room_event::Presences { presences: vec![presence.clone(); 3] };
    let closed =
        v1::room_event::RoomClosed { code: 0, reason: "ended".into(), message: "It is over.".into() };

    let started =
        v1::SessionStarted { protocol: 1, session_id: 1, resume_token: vec![1; 16], ..Default::default() };
    encode(Opcode::SessionStart, &started, out).unwrap();
    encode(
        Opcode::SessionEnd,
        &v1::SessionEnd { code: 8, reason: "slow_reader".into(), ..Default::default() },
        out,
    )
    .unwrap();
    encode(Opcode::Heartbeat, &v1::Heartbeat { server_time_ms: 1, ..Default::default() }, out).unwrap();
    encode(Opcode::RoomCreate, &v1::RoomCreated { cid: 1, room_id: ROOM.into() }, out).unwrap();
    encode(Opcode::RoomJoin, &v1::RoomJoined { cid: 2, room_id: ROOM.into(), ..Default::default() }, out)
        .unwrap();
    encode(Opcode::RoomLeave, &v1::RoomLeft { cid: 3, room_id: ROOM.into() }, out).unwrap();
    let data = RoomData { handle: 1, index: 2, op: 1, data: b"{}" };
    data.encode(out).unwrap();
    data.encode_unreliable(out).unwrap();
    let state = v1::RoomState { room_id: ROOM.into(), presences: vec![presence], ..Default::default() };
    encode(Opcode::RoomState, &state, out).unwrap();
    for event in [
        Event::Joined(list.clone()),
        Event::Left(list.clone()),
        Event::Closed(closed),
        Event::Label("{}".into()),
        Event::Changed(list),
    ] {
        encode(Opcode::RoomEvent, &v1::RoomEvent { handle: 1, event: Some(event) }, out).unwrap();
    }
    encode(Opcode::RpcResponse, &v1::RpcResponse { cid: 4, payload: vec![1] }, out).unwrap();
    encode(Opcode::Call, &v1::CallReply { cid: 5, body: b"[]".to_vec() }, out).unwrap();
    for op in [Opcode::Error, Opcode::RoomError] {
        encode(op, &v1::Error { cid: 1, code: 5, name: "not_found".into(), ..Default::default() }, out)
            .unwrap();
    }
    for op in [Opcode::Event, Opcode::EventUnreliable] {
        encode(op, &pushed("guestbook.signed"), out).unwrap();
    }
}

fn pushed(name: &str) -> v1::Event {
    v1::Event { name: name.into(), body: b"{\"page\":1}".to_vec() }
}

/// Bytes of the message again, through the types.
fn again(message: ClientMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        ClientMessage::SessionStart(m) => encode(Opcode::SessionStart, &*m, &mut out),
        ClientMessage::SessionEnd(m) => encode(Opcode::SessionEnd, &m, &mut out),
        ClientMessage::Heartbeat(m) => encode(Opcode::Heartbeat, &m, &mut out),
        ClientMessage::RoomCreate(m) => encode(Opcode::RoomCreate, &m, &mut out),
        ClientMessage::RoomJoin(m) => encode(Opcode::RoomJoin, &m, &mut out),
        ClientMessage::RoomLeave(m) => encode(Opcode::RoomLeave, &m, &mut out),
        ClientMessage::RoomData(data) => data.encode(&mut out),
        ClientMessage::RoomDataUnreliable(data) => data.encode_unreliable(&mut out),
        ClientMessage::Rpc(m) => encode(Opcode::Rpc, &m, &mut out),
        ClientMessage::Call(m) => encode(Opcode::Call, &m, &mut out),
    }
    .unwrap();
    out
}

fn again_server(message: ServerMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        ServerMessage::SessionStarted(m) => encode(Opcode::SessionStart, &*m, &mut out),
        ServerMessage::SessionEnd(m) => encode(Opcode::SessionEnd, &m, &mut out),
        ServerMessage::Heartbeat(m) => encode(Opcode::Heartbeat, &m, &mut out),
        ServerMessage::RoomCreated(m) => encode(Opcode::RoomCreate, &m, &mut out),
        ServerMessage::RoomJoined(m) => encode(Opcode::RoomJoin, &m, &mut out),
        ServerMessage::RoomLeft(m) => encode(Opcode::RoomLeave, &m, &mut out),
        ServerMessage::RoomData(data) => data.encode(&mut out),
        ServerMessage::RoomDataUnreliable(data) => data.encode_unreliable(&mut out),
        ServerMessage::RoomState(m) => encode(Opcode::RoomState, &m, &mut out),
        ServerMessage::RoomEvent(m) => encode(Opcode::RoomEvent, &m, &mut out),
        ServerMessage::RpcResponse(m) => encode(Opcode::RpcResponse, &m, &mut out),
        ServerMessage::CallReply(m) => encode(Opcode::Call, &m, &mut out),
        ServerMessage::RoomError(m) => encode(Opcode::RoomError, &m, &mut out),
        ServerMessage::Error(m) => encode(Opcode::Error, &m, &mut out),
        ServerMessage::Event(m) => encode(Opcode::Event, &m, &mut out),
        ServerMessage::EventUnreliable(m) => encode(Opcode::EventUnreliable, &m, &mut out),
    }
    .unwrap();
    out
}

#[test]
fn every_message_survives_the_way_there_and_back() {
    let (client, server) = samples();
    let there: Vec<u8> = messages(&client)
        .flat_map(|message| {
            let (op, payload) = message.unwrap();
            again(decode_client(op, payload).unwrap())
        })
        .collect();
    assert_eq!(there, client);
    let back: Vec<u8> = messages(&server)
        .flat_map(|message| {
            let (op, payload) = message.unwrap();
            again_server(decode_server(op, payload).unwrap())
        })
        .collect();
    assert_eq!(back, server);
}

#[test]
fn a_cut_message_is_told_once_after_the_whole_ones() {
    let mut bytes = vec![0x20, 2, 0, 8, 1];
    bytes.extend([0x30, 9, 0, 1]);
    let found: Vec<_> = messages(&bytes).collect();
    assert_eq!(found, [Ok((0x20, &[8, 1][..])), Err(WireError::Truncated { need: 12, have: 4 })]);
    assert_eq!(messages(&[0x20, 0]).collect::<Vec<_>>(), [Err(WireError::Truncated { need: 3, have: 2 })]);
    assert_eq!(messages(&[]).count(), 0);
}

#[test]
fn too_long_a_payload_writes_nothing() {
    let mut out = vec![1];
    let long = v1::Rpc { cid: 1, id: "echo".into(), payload: vec![0; 65_535] };
    let refused = Err(WireError::TooLong { bytes: 65_547 });
    assert_eq!(encode(Opcode::Rpc, &long, &mut out), refused);
    assert_eq!(encoded_len(&long).map(|_| ()), refused);
    assert_eq!(encode_raw(Opcode::Rpc, &[0; 65_536], &mut out), Err(WireError::TooLong { bytes: 65_536 }));
    let data = vec![0; limits::ROOM_DATA_MAX + 1];
    let room_data = RoomData { handle: 0, index: 0, op: 0, data: &data };
    assert_eq!(room_data.encode(&mut out), Err(WireError::TooLong { bytes: 65_536 }));
    assert_eq!(out, [1]);
    RoomData { data: &data[1..], ..room_data }.encode(&mut out).unwrap();
    assert_eq!(out.len(), 1 + 3 + 65_535);
}

#[test]
fn the_opcode_decides_what_is_counted_and_the_channel() {
    for number in 0..=u8::MAX {
        let Some(op) = Opcode::from_u8(number) else {
            assert_eq!(counted(number), None);
            assert!(!Opcode::ALL.iter().any(|op| *op as u8 == number));
            continue;
        };
        assert_eq!(op as u8, number);
        assert!(Opcode::ALL.contains(&op));
        let (count, channel) = match number {
            0x01..=0x03 => (None, Channel::Control),
            0x16 | 0x33 => (None, Channel::Unreliable),
            0x10..=0x17 => (Some(Channel::Data), Channel::Data),
            _ => (Some(Channel::Control), Channel::Control),
        };
        assert_eq!((counted(number), op.channel()), (count, channel), "{op}");
    }
    assert_eq!(
        (refusal(0x13), refusal(0x1e), refusal(0x20), refusal(0xff)),
        (Opcode::RoomError, Opcode::RoomError, Opcode::Error, Opcode::Error)
    );
}

#[test]
fn versions_agree_or_say_who_is_too_old() {
    assert_eq!(agree(1, 1), Ok(1));
    assert_eq!(agree(0, 9), Ok(1));
    assert_eq!(agree(2, 9), Err("server_too_old"));
    assert_eq!(agree(0, 0), Err("client_too_old"));
    assert_eq!(agree(9, 1), Err("client_too_old"));
}

fn refused(op: Opcode, payload: &impl kaos_wire::prost::Message) -> (u32, &'static str, Problem) {
    match decode_client(op as u8, &payload.encode_to_vec()) {
        Err(WireError::Field { cid, field, problem, .. }) => (cid, field, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_name_the_field_and_the_request() {
    let none = v1::SessionStart { credentials: None, ..start() };
    assert_eq!(refused(Opcode::SessionStart, &none), (0, "credentials", Problem::Missing));
    let long = v1::SessionStart { client: "x".repeat(65), ..start() };
    assert_eq!(refused(Opcode::SessionStart, &long), (0, "client", Problem::Over { is: 65, max: 64 }));
    let vars = (0..17).map(|n| (n.to_string(), String::new())).collect();
    let many = v1::SessionStart { vars, ..start() };
    assert_eq!(refused(Opcode::SessionStart, &many), (0, "vars", Problem::Over { is: 17, max: 16 }));
    let wide = v1::SessionStart { vars: [("k".into(), "v".repeat(1024))].into(), ..start() };
    assert_eq!(refused(Opcode::SessionStart, &wide), (0, "vars", Problem::Over { is: 1025, max: 1024 }));
    let resume = v1::Resume { token: vec![0; 15], ..Default::default() };
    let short = v1::SessionStart { credentials: Some(Credentials::Resume(resume)), ..start() };
    assert_eq!(refused(Opcode::SessionStart, &short), (0, "token", Problem::Size { is: 15, want: 16 }));

    let join = v1::RoomJoin { cid: 7, ..Default::default() };
    assert_eq!(refused(Opcode::RoomJoin, &join), (7, "room_id", Problem::Neither { other: "module" }));
    let bad = v1::RoomJoin { room_id: ROOM.replace('-', "+"), ..join.clone() };
    assert_eq!(refused(Opcode::RoomJoin, &bad), (7, "room_id", Problem::NotUuid));
    let both = v1::RoomJoin { room_id: ROOM.into(), module: "arena".into(), ..join };
    assert_eq!(refused(Opcode::RoomJoin, &both), (7, "room_id", Problem::Both { other: "module" }));
    let rpc = v1::Rpc { cid: 8, ..Default::default() };
    assert_eq!(refused(Opcode::Rpc, &rpc), (8, "id", Problem::Missing));

    assert_eq!(decode_client(0x21, &[]), Err(WireError::WrongWay { op: 0x21 }));
    assert_eq!(decode_server(0x20, &[]), Err(WireError::WrongWay { op: 0x20 }));
    assert_eq!(decode_client(0x7f, &[]), Err(WireError::UnknownOp { op: 0x7f }));
    assert_eq!(decode_client(0x13, &[0; 4]), Err(WireError::ShortRoomData { bytes: 4 }));
    let error = decode_client(0x20, &[0xff; 12]).unwrap_err();
    assert!(matches!(error, WireError::Payload { op: 0x20, .. }) && error.cid() == 0, "{error}");
}

#[test]
fn an_event_has_a_dotted_name_and_a_body_as_long_as_the_message() {
    let read = |name: &str| decode_server(Opcode::Event as u8, &pushed(name).encode_to_vec()).map(|_| ());
    let refused = |problem| Err(WireError::Field { op: 0x32, cid: 0, field: "name", problem });
    assert_eq!(read(&"n".repeat(64)), Ok(()));
    assert_eq!(read("chat.room_2"), Ok(()));
    assert_eq!(read(""), refused(Problem::Missing));
    assert_eq!(read(&"n".repeat(65)), refused(Problem::Over { is: 65, max: 64 }));
    for name in ["Guestbook.signed", "guestbook signed", "guestbook/signed", "gästebuch"] {
        assert_eq!(read(name), refused(Problem::NotName), "{name}");
    }
    for op in [Opcode::Event, Opcode::EventUnreliable] {
        assert_eq!(decode_client(op as u8, &[]), Err(WireError::WrongWay { op: op as u8 }));
    }
    let long = v1::Event { body: vec![b' '; limits::PAYLOAD_MAX - 2 - 4 - 1], ..pushed("n") };
    let mut out = Vec::new();
    assert_eq!(encode(Opcode::Event, &long, &mut out), Ok(()));
    assert_eq!(out.len(), limits::HEADER + limits::PAYLOAD_MAX);
    assert_eq!(decode_server(Opcode::Event as u8, &out[3..]), Ok(ServerMessage::Event(long)));
}

/// 100,000 buffers: random ones, and whole traffic with bits turned, pieces cut, doubled and swapped.
#[test]
fn hostile_bytes_give_typed_errors() {
    let mut dice = ChaCha8Rng::seed_from_u64(9);
    let (client, server) = samples();
    let (mut good, mut bad) = (0_u32, 0_u32);
    for round in 0..100_000_u32 {
        let mut bytes = match round % 3 {
            0 => {
                let mut bytes = vec![0; (dice.next_u32() % 64) as usize];
                dice.fill_bytes(&mut bytes);
                bytes
            }
            1 => client.clone(),
            _ => server.clone(),
        };
        for _ in 0..dice.next_u32() % 6 {
            if bytes.is_empty() {
                break;
            }
            let at = dice.next_u32() as usize % bytes.len();
            match dice.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
                1 => bytes[at] = dice.next_u32() as u8,
                2 => bytes.truncate(at),
                _ => {
                    let piece = bytes[at..].to_vec();
                    bytes.splice(at / 2..at, piece);
                }
            }
        }
        for message in messages(&bytes) {
            let Ok((op, payload)) = message else {
                bad += 1;
                continue;
            };
            match decode_client(op, payload) {
                Ok(message) => {
                    // What was accepted can be written again, and is accepted again.
                    let bytes = again(message);
                    let (op, payload) = messages(&bytes).next().unwrap().unwrap();
                    decode_client(op, payload).unwrap();
                    good += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    bad += 1;
                }
            }
            match decode_server(op, payload) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good > 100_000 && bad > 100_000, "{good} good, {bad} bad");
}

/// Groups inside groups are cut off by prost's recursion limit, not by the stack.
#[test]
fn nesting_is_bounded() {
    let deep = vec![0x5b; 60_000]; // field 11, start group
    assert!(matches!(decode_client(0x20, &deep), Err(WireError::Payload { .. })));
}
