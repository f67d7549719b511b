//! The codec against kaos-wire: every message both ways, and bytes that nobody meant.

use bytes::Bytes;
use kaos_kernel::codec::{Codec, Encoded, Form, Inbound, InboundData, InboundMessage, Outbound};
use kaos_kernel::event::{EventForm, Events};
use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::ids::SessionId;
use kaos_kernel::input::Counts;
use kaos_kernel::op::{OpTable, Payload, WireForm};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_kernel::server::{Build, Server};
use kaos_wire::prost::Message;
use kaos_wire::v1::room_event::Event as WireEvent;
use kaos_wire::{ServerMessage, decode_server, messages, v1};
use serde::{Deserialize, Serialize};

use crate::kaos::codec::{KaosCodec, MESSAGES_MAX};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Say {
    text: String,
}

fn parse_rpc(bytes: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let rpc = v1::Rpc::decode(bytes).map_err(|error| Fault::invalid(error.to_string()))?;
    if rpc.id == "refuse" {
        return Err(Fault::invalid("refused"));
    }
    Ok((rpc.cid, Box::new(Say { text: rpc.id })))
}

fn render_rpc(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let say = reply.as_type::<Say>()?;
    Ok(v1::RpcResponse { cid, payload: say.text.clone().into_bytes() }.encode_to_vec())
}

fn parse_leave(bytes: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    let leave = v1::RoomLeave::decode(bytes).map_err(|error| Fault::invalid(error.to_string()))?;
    Ok((leave.cid, Box::new(Say { text: leave.room_id })))
}

fn render_leave(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let say = reply.as_type::<Say>()?;
    Ok(v1::RoomLeft { cid, room_id: say.text.clone() }.encode_to_vec())
}

/// An event of a room.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Renamed {
    label: String,
}

fn render_renamed(body: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let renamed = body.as_type::<Renamed>()?;
    let event = Some(WireEvent::Label(renamed.label.clone()));
    Ok(v1::RoomEvent { handle: 0, event }.encode_to_vec())
}

/// `say` by name only, `rpc` and `room.leave` in binary too.
fn server() -> Server {
    async fn say(_: Call, say: Say) -> Result<Say, Fault> {
        Ok(say)
    }
    let rpc = WireForm {
        channel: Channel::Control,
        opcode: 0x20,
        reply_opcode: 0x21,
        parse: parse_rpc,
        render: render_rpc,
    };
    let leave = WireForm {
        channel: Channel::Data,
        opcode: 0x12,
        reply_opcode: 0x12,
        parse: parse_leave,
        render: render_leave,
    };
    let renamed = EventForm { opcode: 0x15, room: true, render: render_renamed };
    Server::build(Build { journal_bytes_max: 1 << 20, ..Build::default() }, |app| {
        app.op(Op::new("say").price(1), say)
            .op(Op::new("rpc").wire(rpc).price(1), say)
            .op(Op::new("room.leave").wire(leave).price(1), say)
            .event::<Renamed>(Event::new("room.renamed").form(Channel::Data, renamed));
    })
    .expect("builds")
}

fn read(ops: &OpTable, bytes: &[u8]) -> (Vec<Inbound>, Result<(), Fault>) {
    let mut all = Vec::new();
    let bytes = Bytes::copy_from_slice(bytes);
    let result = KaosCodec::default().decode(&bytes, ops, &mut |message| all.push(message));
    (all, result)
}

fn read_one(ops: &OpTable, op: kaos_wire::Opcode, payload: &impl Message) -> Inbound {
    let mut bytes = Vec::new();
    kaos_wire::encode(op, payload, &mut bytes).expect("short");
    let (mut all, result) = read(ops, &bytes);
    assert_eq!((all.len(), result), (1, Ok(())));
    let inbound = all.remove(0);
    assert_eq!(inbound.size, bytes.len());
    inbound
}

#[test]
fn what_clients_send_is_read_and_counted() {
    use kaos_wire::Opcode;
    let server = server();
    let ops = server.ops();
    let received = Some(v1::Counts { control: 3, data: 4 });
    let heartbeat = v1::Heartbeat { client_time_us: 7, received, rtt_us: 9, ..Default::default() };
    let inbound = read_one(&ops, Opcode::Heartbeat, &heartbeat);
    assert_eq!(inbound.counted, None);
    assert!(matches!(
        inbound.message,
        InboundMessage::Heartbeat { client_time_us: 7, received: Counts { control: 3, data: 4 }, rtt_us: 9 }
    ));
    let inbound = read_one(&ops, Opcode::SessionEnd, &v1::SessionEnd::default());
    assert!(matches!((inbound.counted, inbound.message), (None, InboundMessage::End)));

    let rpc = v1::Rpc { cid: 5, id: "echo".into(), payload: vec![1] };
    let inbound = read_one(&ops, Opcode::Rpc, &rpc);
    assert_eq!(inbound.counted, Some(Channel::Control));
    let InboundMessage::Call { cid: 5, op, form: Form::Wire, .. } = inbound.message else {
        panic!("no call")
    };
    assert_eq!(ops.get(op).map(|row| row.op.name.as_str()), Some("rpc"));

    let call = v1::Call { cid: 6, op: "say".into(), body: br#"{"text":"x"}"#.to_vec() };
    let inbound = read_one(&ops, Opcode::Call, &call);
    assert_eq!(inbound.counted, Some(Channel::Control));
    assert!(matches!(inbound.message, InboundMessage::Call { cid: 6, form: Form::Json, .. }));

    let leave = v1::RoomLeave { cid: 8, room_id: "x".into() };
    let inbound = read_one(&ops, Opcode::RoomLeave, &leave);
    assert_eq!(inbound.counted, Some(Channel::Data));
    assert!(matches!(inbound.message, InboundMessage::Call { cid: 8, form: Form::Wire, .. }));
}

#[test]
fn room_data_is_read_in_both_kinds_and_holds_no_frame() {
    let server = server();
    let ops = server.ops();
    let mut bytes = Vec::new();
    let small = kaos_wire::RoomData { handle: 3, index: 65535, op: 7, data: b"hi" };
    small.encode(&mut bytes).expect("short");
    small.encode_unreliable(&mut bytes).expect("short");
    let big = vec![7; 60_000];
    let big = kaos_wire::RoomData { data: &big, ..small };
    big.encode(&mut bytes).expect("short");
    let bytes = Bytes::from(bytes);
    let mut all = Vec::new();
    KaosCodec::default().decode(&bytes, &ops, &mut |message| all.push(message)).expect("whole");
    let counted: Vec<Option<Channel>> = all.iter().map(|inbound| inbound.counted).collect();
    assert_eq!(counted, [Some(Channel::Data), None, Some(Channel::Data)]);
    let reliable: Vec<bool> = all
        .iter()
        .map(|inbound| match &inbound.message {
            InboundMessage::Data(InboundData { handle: 3, to: 65535, op: 7, reliable, .. }) => *reliable,
            _ => panic!("no data"),
        })
        .collect();
    assert_eq!(reliable, [true, false, true]);
    let within = |data: &Bytes| bytes.as_ptr_range().contains(&data.as_ptr());
    let shares: Vec<bool> = all
        .iter()
        .map(|inbound| matches!(&inbound.message, InboundMessage::Data(InboundData { data, .. }) if within(data)))
        .collect();
    assert_eq!(shares, [false, false, true]);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_cid() {
    use kaos_wire::Opcode;
    let server = server();
    let ops = server.ops();
    let bad = |inbound: Inbound| match inbound.message {
        InboundMessage::Bad { cid, fault, .. } => (inbound.counted, cid, fault.kind),
        _ => panic!("it passed"),
    };
    let call = |op: &str, body: &str| v1::Call { cid: 6, op: op.into(), body: body.into() };
    assert_eq!(
        bad(read_one(&ops, Opcode::Call, &call("sya", "{}"))),
        (Some(Channel::Control), 6, FaultKind::Unimplemented)
    );
    assert_eq!(
        bad(read_one(&ops, Opcode::Call, &call("say", "{"))),
        (Some(Channel::Control), 6, FaultKind::Invalid)
    );
    assert_eq!(
        bad(read_one(&ops, Opcode::Call, &call("", ""))),
        (Some(Channel::Control), 6, FaultKind::Invalid)
    );
    let rpc = v1::Rpc { cid: 4, id: "refuse".into(), payload: Vec::new() };
    assert_eq!(bad(read_one(&ops, Opcode::Rpc, &rpc)), (Some(Channel::Control), 4, FaultKind::Invalid));
    let join = v1::RoomJoin { cid: 9, module: "arena".into(), ..Default::default() };
    assert_eq!(
        bad(read_one(&ops, Opcode::RoomJoin, &join)),
        (Some(Channel::Data), 9, FaultKind::Unimplemented)
    );
    let start = v1::SessionStart::default();
    assert_eq!(bad(read_one(&ops, Opcode::SessionStart, &start)).0, None);
    // Unknown, the wrong transport, unreadable, too short.
    for (bytes, counted) in [
        (&[0x77, 0, 0][..], None),
        (&[0x21, 0, 0], Some(Channel::Control)),
        (&[0x30, 1, 0, 0xff], Some(Channel::Control)),
        (&[0x13, 1, 0, 0], Some(Channel::Data)),
    ] {
        let (mut all, result) = read(&ops, bytes);
        assert_eq!(result, Ok(()));
        let (is, _, kind) = bad(all.remove(0));
        assert_eq!((is, kind), (counted, FaultKind::Invalid), "{bytes:?}");
    }
}

#[test]
fn what_cannot_be_split_is_an_error_after_what_could() {
    let server = server();
    let ops = server.ops();
    let (all, result) = read(&ops, &[2, 0, 0, 0x13, 9, 0, 1]);
    assert_eq!(all.len(), 1);
    assert_eq!(result.map_err(|fault| fault.kind), Err(FaultKind::Protocol));
    let many = [2, 0, 0].repeat(MESSAGES_MAX + 1);
    let (all, result) = read(&ops, &many);
    assert_eq!(all.len(), MESSAGES_MAX);
    assert_eq!(result.map_err(|fault| fault.kind), Err(FaultKind::Protocol));
}

#[test]
fn many_heartbeats_at_once_are_the_last_of_them() {
    let server = server();
    let ops = server.ops();
    let mut bytes = Vec::new();
    for n in 1..=100 {
        let heartbeat = v1::Heartbeat { client_time_us: n, ..Default::default() };
        kaos_wire::encode(kaos_wire::Opcode::Heartbeat, &heartbeat, &mut bytes).expect("short");
    }
    let (all, result) = read(&ops, &bytes);
    assert_eq!((all.len(), result), (1, Ok(())));
    assert!(matches!(all[0].message, InboundMessage::Heartbeat { client_time_us: 100, .. }));
}

/// Head and body as one recipient gets them, read by kaos-wire.
fn sent(encoded: &Encoded, handle: u16, then: impl FnOnce(ServerMessage<'_>)) {
    let mut bytes = KaosCodec::default().head(encoded, handle).to_vec();
    assert!(bytes.len() <= 12, "heads stay inline");
    bytes.extend_from_slice(&encoded.body);
    let mut all = messages(&bytes);
    let (op, payload) = all.next().expect("one").expect("whole");
    assert!(all.next().is_none());
    assert_eq!(op, encoded.op);
    let channel = kaos_wire::counted(op);
    assert_eq!(channel.is_some(), encoded.counted);
    if let Some(channel) = channel {
        assert_eq!(encoded.channel, crate::kaos::codec::of_wire(channel));
    }
    then(decode_server(op, payload).expect("readable"));
}

fn encode(server: &Server, message: Outbound) -> Encoded {
    KaosCodec::default().encode(&message, &server.ops()).expect("encodes")
}

#[test]
fn sessions_are_told_what_kaos_wire_reads() {
    let server = server();
    let started = Outbound::Started {
        session: SessionId(77),
        user_id: "u".into(),
        username: "ada".into(),
        resume_token: [3; 16],
        resumed: true,
        received: Counts { control: 1, data: 2 },
        base: Counts { control: 3, data: 4 },
        lost: 5,
        heartbeat_ms: 1000,
        seat_ms: 30_000,
        server_time_ms: 6,
        node: "kaos1".into(),
    };
    sent(&encode(&server, started), 0, |message| {
        let ServerMessage::SessionStarted(started) = message else { panic!("another message") };
        assert_eq!((started.protocol, started.session_id, started.lost), (1, 77, 5));
        assert_eq!(started.resume_token, [3; 16]);
        assert_eq!(started.received, Some(v1::Counts { control: 1, data: 2 }));
        assert_eq!(started.base, Some(v1::Counts { control: 3, data: 4 }));
        assert_eq!((started.heartbeat_ms, started.seat_ms, started.resumed), (1000, 30_000, true));
    });
    let long = Fault::new(FaultKind::Kicked, "ä".repeat(10_000));
    sent(&encode(&server, Outbound::Ended(long)), 0, |message| {
        let ServerMessage::SessionEnd(end) = message else { panic!("another message") };
        assert_eq!((end.code, end.reason.as_str()), (25, "kicked"));
        assert!(!end.message.is_empty());
    });
    let received = Counts { control: 8, data: 9 };
    let heartbeat = Outbound::Heartbeat { client_time_us: 1, received, server_time_ms: 2 };
    sent(&encode(&server, heartbeat), 0, |message| {
        let ServerMessage::Heartbeat(heartbeat) = message else { panic!("another message") };
        assert_eq!((heartbeat.client_time_us, heartbeat.server_time_ms), (1, 2));
        assert_eq!(heartbeat.received, Some(v1::Counts { control: 8, data: 9 }));
    });
}

#[test]
fn answers_travel_in_the_form_and_channel_of_their_requests() {
    let server = server();
    let op = |name: &str| server.ops().by_name(name).expect("there").id;
    let reply = || -> Result<Box<dyn Payload>, Fault> { Ok(Box::new(Say { text: "hi".into() })) };
    let answer =
        |name: &str, form, result| encode(&server, Outbound::Answer { cid: 3, op: op(name), form, result });
    sent(&answer("say", Form::Json, reply()), 0, |message| {
        let ServerMessage::CallReply(reply) = message else { panic!("another message") };
        assert_eq!((reply.cid, reply.body.as_slice()), (3, &br#"{"text":"hi"}"#[..]));
    });
    sent(&answer("rpc", Form::Wire, reply()), 0, |message| {
        assert_eq!(message, ServerMessage::RpcResponse(v1::RpcResponse { cid: 3, payload: b"hi".to_vec() }));
    });
    let left = answer("room.leave", Form::Wire, reply());
    assert_eq!((left.op, left.channel), (0x12, Channel::Data));
    let refused = || Err(Fault::new(FaultKind::Busy, "later").retry_in_ms(50));
    for (name, form, opcode) in [
        ("say", Form::Json, 0x31),
        ("rpc", Form::Wire, 0x31),
        ("room.leave", Form::Wire, 0x17),
        ("room.leave", Form::Json, 0x31),
    ] {
        let encoded = answer(name, form, refused());
        assert_eq!(encoded.op, opcode, "{name} {form:?}");
        sent(&encoded, 0, |message| {
            let (ServerMessage::Error(error) | ServerMessage::RoomError(error)) = message else {
                panic!("another message")
            };
            assert_eq!((error.cid, error.code, error.name.as_str(), error.retry_ms), (3, 14, "busy", 50));
        });
    }
    let refusal =
        |channel| encode(&server, Outbound::Refusal { cid: 0, channel, fault: FaultKind::Invalid.into() });
    assert_eq!((refusal(Channel::Control).op, refusal(Channel::Data).op), (0x31, 0x17));
    let huge = Outbound::Answer {
        cid: 1,
        op: op("say"),
        form: Form::Json,
        result: Ok(Box::new(Say { text: "x".repeat(70_000) })),
    };
    let fault = KaosCodec::default().encode(&huge, &server.ops()).expect_err("too long");
    assert_eq!(fault.kind, FaultKind::Invalid);
}

#[test]
fn room_data_carries_each_recipients_handle() {
    let server = server();
    for handle in [0, 1, 127, 128, 300, 16_383, 16_384, 65_535] {
        for reliable in [true, false] {
            let data = Outbound::Data { sender: 65_535, op: 9, data: Bytes::from_static(b"xyz"), reliable };
            sent(&encode(&server, data), handle, |message| {
                let (is, data) = match message {
                    ServerMessage::RoomData(data) => (true, data),
                    ServerMessage::RoomDataUnreliable(data) => (false, data),
                    _ => panic!("another message"),
                };
                assert_eq!((is, data.handle, data.index, data.op), (reliable, handle, 65_535, 9));
                assert_eq!(data.data, b"xyz");
            });
        }
    }
    let data = |len: usize| Outbound::Data { sender: 0, op: 0, data: vec![0; len].into(), reliable: true };
    assert!(KaosCodec::default().encode(&data(65_530), &server.ops()).is_ok());
    assert!(KaosCodec::default().encode(&data(65_531), &server.ops()).is_err());
}

#[test]
fn an_event_in_its_binary_form_travels_under_its_opcode_and_each_recipients_handle() {
    let mut server = server();
    let row = server.world().resource::<Events>().0.by_name("room.renamed").expect("registered").clone();
    let encoded = encode(&server, Outbound::Event { row, body: Box::new(Renamed { label: "night".into() }) });
    assert_eq!((encoded.op, encoded.channel, encoded.counted), (0x15, Channel::Data, true));
    for handle in [0, 1, 127, 128, 300, 16_383, 16_384, 65_535] {
        sent(&encoded, handle, |message| {
            let ServerMessage::RoomEvent(event) = message else { panic!("another message") };
            assert_eq!(
                (event.handle, event.event),
                (u32::from(handle), Some(WireEvent::Label("night".into())))
            );
        });
    }
}

/// SplitMix64: enough chance for bytes that nobody meant, the same on every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[test]
fn a_hundred_thousand_bent_messages_are_faults_and_nothing_else() {
    use kaos_wire::Opcode;
    let server = server();
    let ops = server.ops();
    let mut good: Vec<Vec<u8>> = Vec::new();
    let mut add = |op: Opcode, payload: &dyn Fn(&mut Vec<u8>) -> Result<(), kaos_wire::WireError>| {
        let mut bytes = Vec::new();
        payload(&mut bytes).expect("short");
        assert_eq!(bytes.first(), Some(&(op as u8)));
        good.push(bytes);
    };
    let heartbeat = v1::Heartbeat {
        client_time_us: 1 << 40,
        received: Some(v1::Counts { control: 3, data: 4 }),
        ..Default::default()
    };
    add(Opcode::Heartbeat, &|to| kaos_wire::encode(Opcode::Heartbeat, &heartbeat, to));
    let join = v1::RoomJoin { cid: 1, module: "arena".into(), params: "{}".into(), ..Default::default() };
    add(Opcode::RoomJoin, &|to| kaos_wire::encode(Opcode::RoomJoin, &join, to));
    let call = v1::Call { cid: 6, op: "say".into(), body: br#"{"text":"x"}"#.to_vec() };
    add(Opcode::Call, &|to| kaos_wire::encode(Opcode::Call, &call, to));
    let rpc = v1::Rpc { cid: 5, id: "echo".into(), payload: vec![1; 40] };
    add(Opcode::Rpc, &|to| kaos_wire::encode(Opcode::Rpc, &rpc, to));
    let data = kaos_wire::RoomData { handle: 0, index: 1, op: 2, data: &[9; 600] };
    add(Opcode::RoomData, &|to| data.encode(to));
    add(Opcode::SessionEnd, &|to| kaos_wire::encode(Opcode::SessionEnd, &v1::SessionEnd::default(), to));

    let mut chance = Chance(7);
    let (mut split, mut bad, mut fine) = (0u32, 0u32, 0u32);
    for _ in 0..100_000 {
        let mut bytes = Vec::new();
        if chance.below(4) == 0 {
            bytes.extend((0..chance.below(200)).map(|_| 0u8));
            bytes.iter_mut().for_each(|byte| *byte = chance.next() as u8);
        } else {
            for _ in 0..=chance.below(3) {
                bytes.extend_from_slice(&good[chance.below(good.len())]);
            }
            for _ in 0..chance.below(4) {
                let at = chance.below(bytes.len());
                match chance.below(4) {
                    0 => bytes[at] ^= 1 << chance.below(8),
                    1 => bytes[at] = chance.next() as u8,
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, chance.next() as u8),
                }
            }
        }
        let (all, result) = read(&ops, &bytes);
        let most = bytes.len() / 3;
        assert!(all.len() <= most, "{} messages of {} bytes", all.len(), bytes.len());
        assert!(all.iter().map(|inbound| inbound.size).sum::<usize>() <= bytes.len());
        split += u32::from(result.is_err());
        for inbound in all {
            match inbound.message {
                InboundMessage::Bad { fault, .. } => {
                    assert!(!fault.message.is_empty());
                    bad += 1;
                }
                InboundMessage::Data(InboundData { data, .. }) => assert!(data.len() <= bytes.len()),
                _ => fine += 1,
            }
        }
    }
    assert!(split > 10_000 && bad > 10_000 && fine > 10_000, "{split} {bad} {fine}");
}
