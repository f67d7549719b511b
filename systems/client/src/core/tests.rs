//! A core against a server that the test speaks for, on virtual time.

use super::*;
use crate::error::Refusal;
use crate::event::Answer;
use kaos_wire::limits::HEADER;
use kaos_wire::{ClientMessage, RoomData, decode_client, messages, prost};

const TOKEN: [u8; 16] = [7; 16];
const ROOM: &str = "6f1c2d3e-0000-4000-8000-000000000001";

struct Fake {
    core: Core,
    now: Micros,
}

fn message(op: Opcode, payload: &impl prost::Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(op, payload, &mut bytes).unwrap();
    bytes
}

fn started() -> v1::SessionStarted {
    v1::SessionStarted {
        protocol: 1,
        session_id: 42,
        user_id: "ada-1".into(),
        username: "ada".into(),
        resume_token: TOKEN.to_vec(),
        heartbeat_ms: 1000,
        seat_ms: 30_000,
        node: "kaos1".into(),
        ..Default::default()
    }
}

fn counts(control: u64, data: u64) -> Option<v1::Counts> {
    Some(v1::Counts { control, data })
}

fn resumed(received: (u64, u64), base: (u64, u64)) -> v1::SessionStarted {
    v1::SessionStarted {
        resumed: true,
        received: counts(received.0, received.1),
        base: counts(base.0, base.1),
        resume_token: vec![8; 16],
        ..started()
    }
}

fn state(handle: u32, lost: u64) -> v1::RoomState {
    let presence =
        v1::Presence { session_id: 42, username: "ada".into(), connected: true, ..Default::default() };
    v1::RoomState {
        handle,
        room_id: ROOM.into(),
        module: "arena".into(),
        tick_rate: 30,
        presences: vec![presence],
        lost,
        ..Default::default()
    }
}

fn data(handle: u16, op: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    RoomData { handle, index: u16::MAX, op, data: bytes }.encode(&mut out).unwrap();
    out
}

impl Fake {
    fn new() -> Fake {
        let now = Micros(1_000_000);
        let mut core = Core::new(now, Credentials::anonymous("ada"), Options::default(), 1);
        assert_eq!(core.poll_action(), Some(Action::Dial));
        core.opened(now);
        Fake { core, now }
    }

    fn live() -> Fake {
        let mut fake = Fake::new();
        fake.take();
        fake.say(Opcode::SessionStart, &started());
        assert_eq!(fake.core.poll_event(), Some(Event::Started));
        fake.take();
        fake
    }

    /// In a room with the handle 3.
    fn joined() -> Fake {
        let mut fake = Fake::live();
        let cid = fake.core.join(Join { module: "arena".into(), ..Join::default() }).unwrap();
        fake.take();
        fake.say(Opcode::RoomState, &state(3, 0));
        fake.say(
            Opcode::RoomJoin,
            &v1::RoomJoined { cid, room_id: ROOM.into(), handle: 3, index: 0, created: true },
        );
        assert_eq!(fake.events(), [Event::Answer { cid, answer: Ok(Answer::Joined(3)) }]);
        fake
    }

    fn hear(&mut self, bytes: Vec<u8>) {
        self.core.receive(self.now, None, &bytes.into());
    }

    fn say(&mut self, op: Opcode, payload: &impl prost::Message) {
        self.hear(message(op, payload));
    }

    fn after(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.core.handle_timeout(self.now);
    }

    /// What the core wants to send, as opcode and payload.
    fn take(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut taken = Vec::new();
        while let Some((channel, bytes)) = self.core.peek() {
            for message in messages(bytes) {
                let (op, payload) = message.expect("whole messages");
                assert_eq!(Opcode::from_u8(op).map(Opcode::channel), Some(channel));
                taken.push((op, payload.to_vec()));
            }
            self.core.advance();
        }
        taken
    }

    /// The same without heartbeats.
    fn sent(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.take().into_iter().filter(|(op, _)| *op != Opcode::Heartbeat as u8).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event()).filter(|e| !matches!(e, Event::RoundTrip(_))).collect()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.core.poll_action()).collect()
    }

    fn resume_request(&mut self) -> v1::Resume {
        let sent = self.take();
        let [(op, payload)] = &sent[..] else { panic!("only SessionStart may leave: {sent:?}") };
        match decode_client(*op, payload) {
            Ok(ClientMessage::SessionStart(start)) => match start.credentials {
                Some(v1::session_start::Credentials::Resume(resume)) => resume,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_starts_and_says_who_it_is() {
    let mut fake = Fake::new();
    assert!(fake.core.rpc("early", b"").is_ok(), "requests may be made before the session is there");
    let sent = fake.take();
    let [(op, payload)] = &sent[..] else { panic!("{sent:?}") };
    let Ok(ClientMessage::SessionStart(start)) = decode_client(*op, payload) else { panic!() };
    assert_eq!(start.credentials, Some(v1::session_start::Credentials::Anonymous("ada".into())));
    assert_eq!((start.protocol_min, start.protocol_max), (1, 1));
    fake.say(Opcode::SessionStart, &started());
    assert_eq!(fake.core.identity().map(|me| me.username.as_str()), Some("ada"));
    let ops: Vec<u8> = fake.take().into_iter().map(|(op, _)| op).collect();
    assert_eq!(ops, [Opcode::Heartbeat as u8, Opcode::Rpc as u8]);
}

#[test]
fn a_refusal_ends_it_with_the_servers_word() {
    let mut fake = Fake::new();
    fake.say(
        Opcode::SessionEnd,
        &v1::SessionEnd { code: 16, reason: "unauthenticated".into(), message: "no".into() },
    );
    assert_eq!(fake.core.end().map(|end| end.reason.as_str()), Some("unauthenticated"));
    assert!(fake.actions().contains(&Action::Hangup));
    let mut fake = Fake::new();
    fake.core.refused(End { code: 16, ..End::own("wrong_key", "another server") });
    assert_eq!(fake.core.end().map(|end| end.reason.as_str()), Some("wrong_key"));
    assert!(fake.actions().contains(&Action::Hangup), "a driver ends at a hangup");
    let mut fake = Fake::new();
    fake.core.closed(fake.now, "nobody listens there");
    // No fault says that, nor the next.
    assert_eq!(fake.core.end().map(|end| (end.code, end.reason.as_str())), Some((0, "unreachable")));
    let mut fake = Fake::live();
    fake.core.options.resume = false;
    fake.core.closed(fake.now, "reset");
    assert_eq!(fake.core.end().map(|end| (end.code, end.reason.as_str())), Some((0, "lost")));
    let mut fake = Fake::new();
    fake.after(5_000);
    assert_eq!(
        fake.core.end().map(|end| end.message.as_str()),
        Some("the server did not answer SessionStart")
    );
}

#[test]
fn what_came_is_acknowledged_and_what_was_acknowledged_is_forgotten() {
    let mut fake = Fake::joined();
    fake.core.send(3, 1, b"x").unwrap();
    let kept = fake.core.kept_bytes();
    assert!(kept > 9, "the join and the data");
    fake.sent();
    fake.hear(data(3, 9, b"abc"));
    fake.after(1000);
    let sent = fake.take();
    let Ok(ClientMessage::Heartbeat(beat)) = decode_client(sent[0].0, &sent[0].1) else { panic!() };
    // RoomState, RoomJoined and the data.
    assert_eq!(beat.received, counts(0, 3));
    fake.now += Duration::from_millis(2);
    let answer =
        v1::Heartbeat { client_time_us: beat.client_time_us, received: counts(0, 2), ..Default::default() };
    fake.say(Opcode::Heartbeat, &answer);
    assert_eq!(fake.core.kept_bytes(), 0);
    assert_eq!(fake.core.rtt(), Some(Duration::from_millis(2)));
    fake.say(Opcode::Heartbeat, &v1::Heartbeat { received: counts(0, 3), ..Default::default() });
    assert_eq!(
        fake.core.end().map(|end| end.reason.as_str()),
        Some("protocol"),
        "it had only two to acknowledge"
    );
}

#[test]
fn much_data_is_acknowledged_at_once() {
    let mut fake = Fake::joined();
    fake.take();
    for _ in 0..5 {
        fake.hear(data(3, 1, &[0; 8000]));
    }
    let sent = fake.take();
    assert_eq!(sent.len(), 1);
    let Ok(ClientMessage::Heartbeat(beat)) = decode_client(sent[0].0, &sent[0].1) else { panic!() };
    assert_eq!((beat.client_time_us, beat.received), (0, counts(0, 7)));
}

#[test]
fn a_resume_sends_again_what_had_not_arrived_and_only_that() {
    let mut fake = Fake::joined();
    fake.say(Opcode::Heartbeat, &v1::Heartbeat { received: counts(0, 1), ..Default::default() });
    fake.core.send(3, 1, b"a").unwrap();
    fake.core.send(3, 2, b"b").unwrap();
    fake.sent();
    let rpc = fake.core.rpc("echo", b"hi").unwrap();
    // Lost; one more is said meanwhile, and what still comes of the old connection is not heard.
    fake.core.closed(fake.now, "reset");
    assert_eq!(fake.events(), [Event::Lost]);
    fake.core.send(3, 3, b"c").unwrap();
    fake.core.send_unreliable(3, 4, b"stale").unwrap();
    fake.hear(data(3, 9, b"late"));
    fake.after(0);
    assert_eq!(fake.actions(), [Action::Dial]);
    fake.core.opened(fake.now);
    let resume = fake.resume_request();
    assert_eq!((resume.session_id, resume.token.as_slice()), (42, &TOKEN[..]));
    assert_eq!(resume.received, counts(0, 2));
    // The first of the two had arrived; the server goes on with its own third.
    fake.say(Opcode::SessionStart, &resumed((0, 2), (0, 2)));
    fake.hear(data(3, 9, b"third"));
    let events = fake.events();
    assert_eq!(events[0], Event::Resumed { lost: 0 });
    assert!(
        matches!(&events[1..], [Event::Room { handle: 3, event: RoomEvent::Data { data, .. } }] if data == "third")
    );
    let sent = fake.sent();
    let said = |op: u8| [&3u16.to_le_bytes()[..], &u16::MAX.to_le_bytes(), &[op]].concat();
    assert_eq!(sent[0].0, Opcode::Rpc as u8);
    assert_eq!(sent[1], (Opcode::RoomData as u8, [said(2), b"b".to_vec()].concat()));
    assert_eq!(sent[2], (Opcode::RoomData as u8, [said(3), b"c".to_vec()].concat()));
    assert_eq!(sent.len(), 3);
    // Requests live on, and the next resume has the new token and the new counts.
    fake.say(Opcode::RpcResponse, &v1::RpcResponse { cid: rpc, payload: b"hi".to_vec() });
    assert_eq!(fake.events(), [Event::Answer { cid: rpc, answer: Ok(Answer::Rpc("hi".into())) }]);
    fake.core.closed(fake.now, "reset");
    fake.after(0);
    fake.core.opened(fake.now);
    let resume = fake.resume_request();
    assert_eq!((resume.token.as_slice(), resume.received), (&[8; 16][..], counts(1, 3)));
}

#[test]
fn loss_is_told_and_the_counts_jump() {
    let mut fake = Fake::joined();
    fake.core.closed(fake.now, "reset");
    fake.after(0);
    fake.core.opened(fake.now);
    fake.take();
    fake.say(Opcode::SessionStart, &v1::SessionStarted { lost: 2000, ..resumed((0, 1), (0, 2002)) });
    fake.hear(data(3, 9, b"newest"));
    fake.say(Opcode::RoomState, &state(3, 2000));
    let events = fake.events();
    assert!(events.contains(&Event::Resumed { lost: 2000 }));
    let told = |e: &Event| matches!(e, Event::Room { handle: 3, event: RoomEvent::State { lost: 2000, .. } });
    assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
    fake.core.closed(fake.now, "reset");
    fake.after(0);
    fake.core.opened(fake.now);
    assert_eq!(fake.resume_request().received, counts(0, 2004));
}

#[test]
fn attempts_come_slower_and_end_with_the_seat() {
    let mut fake = Fake::joined();
    let rpc = fake.core.rpc("echo", b"").unwrap();
    let lost_at = fake.now;
    fake.core.closed(fake.now, "reset");
    let mut pauses = Vec::new();
    while fake.core.end().is_none() {
        let at = fake.core.poll_timeout().expect("something is due");
        let pause = at.since(fake.now);
        fake.now = at;
        fake.core.handle_timeout(at);
        for action in fake.actions() {
            if action == Action::Dial {
                pauses.push(pause.as_millis());
                fake.core.closed(fake.now, "nobody listens there");
            }
        }
    }
    assert_eq!(fake.now.since(lost_at), Duration::from_secs(30));
    assert_eq!(pauses[0], 0);
    for (pause, wanted) in pauses.iter().skip(1).zip([250, 500, 1000, 2000, 2000]) {
        assert!(*pause >= wanted * 3 / 4 && *pause <= wanted * 5 / 4, "{pauses:?}");
    }
    let end = fake.core.end().cloned().unwrap();
    assert_eq!((end.code, end.reason.as_str()), (27, "timed_out"));
    let events = fake.events();
    assert_eq!(events[0], Event::Lost);
    assert_eq!(events[1], Event::Answer { cid: rpc, answer: Err(Error::Ended(end.clone())) });
    assert_eq!(events[2], Event::Room { handle: 3, event: RoomEvent::Closed(end.clone()) });
    assert_eq!(events[3], Event::Ended(end));
}

#[test]
fn silence_is_a_loss_and_a_busy_server_is_asked_again() {
    let mut fake = Fake::live();
    for _ in 0..10 {
        assert!(fake.core.is_live());
        fake.after(1000);
    }
    assert_eq!(fake.events(), [Event::Lost]);
    fake.after(0);
    fake.core.opened(fake.now);
    fake.say(Opcode::SessionEnd, &v1::SessionEnd { code: 14, reason: "busy".into(), message: String::new() });
    assert_eq!(fake.core.end(), None);
    fake.after(400);
    fake.core.opened(fake.now);
    fake.say(
        Opcode::SessionEnd,
        &v1::SessionEnd { code: 22, reason: "cannot_resume".into(), message: String::new() },
    );
    assert_eq!(fake.core.end().map(|end| end.reason.as_str()), Some("cannot_resume"));
}

#[test]
fn rare_heartbeats_make_silence_longer() {
    // (heartbeat_ms of the server, ms of silence that are a loss)
    for (heartbeat_ms, silence) in [(50, 10_000), (4_500, 10_000), (5_000, 11_000), (30_000, 61_000)] {
        let mut fake = Fake::new();
        fake.take();
        fake.say(Opcode::SessionStart, &v1::SessionStarted { heartbeat_ms, ..started() });
        assert_eq!(fake.events(), [Event::Started]);
        let heard = fake.now;
        while fake.core.is_live() {
            fake.now = fake.core.poll_timeout().expect("a heartbeat or the end");
            fake.core.handle_timeout(fake.now);
            fake.take();
        }
        assert_eq!(fake.now.since(heard), Duration::from_millis(silence), "{heartbeat_ms}");
        assert_eq!(fake.events(), [Event::Lost]);
    }
}

#[test]
fn udp_data_may_be_faster_than_the_start() {
    let mut fake = Fake::joined();
    fake.core.closed(fake.now, "reset");
    fake.after(0);
    fake.core.opened(fake.now);
    fake.take();
    fake.core.receive(fake.now, Some(Channel::Data), &data(3, 9, b"early").into());
    let mut stale = Vec::new();
    RoomData { handle: 3, index: 0, op: 1, data: b"stale" }.encode_unreliable(&mut stale).unwrap();
    let event = v1::Event { name: "chat.typing".into(), body: b"1".to_vec() };
    stale.extend(message(Opcode::EventUnreliable, &event));
    fake.core.receive(fake.now, Some(Channel::Unreliable), &stale.into());
    fake.core.receive(
        fake.now,
        Some(Channel::Control),
        &message(Opcode::SessionStart, &resumed((0, 1), (0, 2))).into(),
    );
    let events = fake.events();
    assert!(
        matches!(&events[..], [Event::Lost, Event::Resumed { .. }, Event::Room { event: RoomEvent::Data { data, .. }, .. }] if data == "early"),
        "{events:?}"
    );
    // The largest resend buffer of a server is taken; whatever sends more does not speak this protocol.
    fake.core.closed(fake.now, "reset");
    fake.after(0);
    fake.core.opened(fake.now);
    let long: Bytes = data(3, 9, &[0; 65_000]).into();
    for _ in 0..SERVER_RESEND_MAX / long.len() {
        fake.core.receive(fake.now, Some(Channel::Data), &long);
    }
    assert_eq!(fake.core.end(), None);
    for _ in 0..=RESEND_MAX / long.len() + 1 {
        fake.core.receive(fake.now, Some(Channel::Data), &long);
    }
    assert_eq!(fake.core.end().map(|end| end.reason.as_str()), Some("protocol"));
}

#[test]
fn the_resend_buffer_has_a_bound_and_a_refused_message_leaves_no_trace() {
    let mut fake = Fake::joined();
    let mut sent = 0;
    while fake.core.send(3, 1, &[0; 60_000]).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 4);
    assert_eq!(fake.core.send(3, 1, &[0; 60_000]), Err(Error::KeepFull));
    assert_eq!(fake.core.rpc("echo", &[0; 60_000]), Err(Error::KeepFull));
    assert!(fake.core.send(3, 1, b"small").is_ok());
    assert_eq!(fake.core.send(3, 1, &[0; 65_531]), Err(Error::TooLong { bytes: 65_531, max: 65_530 }));
    assert_eq!(
        fake.core.send_unreliable(3, 1, &[0; 1113]).map_err(|e| e.reason().to_owned()),
        Err("too_long".into())
    );
    assert!(matches!(fake.core.rpc("echo", &[0; 65_536]), Err(Error::TooLong { .. })));
    fake.sent();
    // The join, four of 60,000 and one of 5.
    fake.say(Opcode::Heartbeat, &v1::Heartbeat { received: counts(0, 6), ..Default::default() });
    assert_eq!(fake.core.kept_bytes(), 0);
}

#[test]
fn closing_waits_for_what_was_sent_but_not_for_ever() {
    let mut fake = Fake::joined();
    fake.core.send(3, 1, b"last words").unwrap();
    fake.core.close(fake.now);
    assert!(fake.sent().iter().all(|(op, _)| *op != Opcode::SessionEnd as u8));
    fake.say(Opcode::Heartbeat, &v1::Heartbeat { received: counts(0, 2), ..Default::default() });
    assert_eq!(fake.sent(), [(Opcode::SessionEnd as u8, Vec::new())]);
    assert_eq!(fake.core.end().map(|end| (end.code, end.reason.as_str())), Some((0, "closed")));
    assert_eq!(fake.actions(), [Action::Hangup]);

    let mut fake = Fake::joined();
    fake.core.send(3, 1, b"unheard").unwrap();
    fake.core.close(fake.now);
    while fake.core.end().is_none() {
        let at = fake.core.poll_timeout().unwrap();
        fake.now = at;
        fake.core.handle_timeout(at);
    }
    assert_eq!(fake.now, Micros(2_000_000));
}

#[test]
fn requests_get_one_answer_of_their_kind() {
    let mut fake = Fake::live();
    let rpc = fake.core.rpc("echo", b"").unwrap();
    let call = fake.core.call("room.list", b"").unwrap();
    let join = fake.core.join(Join { room_id: ROOM.into(), ..Join::default() }).unwrap();
    fake.say(Opcode::RoomCreate, &v1::RoomCreated { cid: rpc, room_id: ROOM.into() });
    assert_eq!(fake.events(), [], "not what an rpc answers");
    let refusal =
        v1::Error { cid: join, code: 10, name: "full".into(), message: "no seat".into(), retry_ms: 0 };
    fake.say(Opcode::RoomError, &refusal);
    fake.say(Opcode::Call, &v1::CallReply { cid: call, body: b"[]".to_vec() });
    fake.say(Opcode::RpcResponse, &v1::RpcResponse { cid: rpc, payload: Vec::new() });
    fake.say(Opcode::RpcResponse, &v1::RpcResponse { cid: rpc, payload: Vec::new() });
    fake.say(Opcode::RoomError, &v1::Error { cid: 0, ..refusal.clone() });
    let refusal = Refusal::from(refusal);
    assert_eq!(
        fake.events(),
        [
            Event::Answer { cid: join, answer: Err(Error::Refused(refusal.clone())) },
            Event::Answer { cid: call, answer: Ok(Answer::Call("[]".into())) },
            Event::Answer { cid: rpc, answer: Ok(Answer::Rpc(Bytes::new())) },
            Event::Notice(refusal),
        ]
    );
    for _ in 0..REQUESTS_MAX {
        fake.core.rpc("e", b"").unwrap();
    }
    assert_eq!(fake.core.rpc("e", b"").map_err(|e| e.reason().to_owned()), Err("too_many_requests".into()));
}

#[test]
fn rooms_are_followed() {
    use v1::room_event::{Event as Wire, Presences, RoomClosed};
    let mut fake = Fake::joined();
    let bob = v1::Presence {
        session_id: 43,
        username: "bob".into(),
        index: 5,
        connected: true,
        ..Default::default()
    };
    let list = |p: &v1::Presence| Presences { presences: vec![p.clone()] };
    let event = |event| v1::RoomEvent { handle: 3, event: Some(event) };
    fake.say(Opcode::RoomEvent, &event(Wire::Joined(list(&bob))));
    let mut from_bob = Vec::new();
    RoomData { handle: 3, index: 5, op: 1, data: b"hi" }.encode(&mut from_bob).unwrap();
    fake.hear(from_bob.clone());
    fake.say(Opcode::RoomEvent, &event(Wire::Label("new".into())));
    let away = v1::Presence { connected: false, ..bob.clone() };
    fake.say(Opcode::RoomEvent, &event(Wire::Changed(list(&away))));
    assert_eq!(fake.core.room(3).map(|room| room.members[&5].connected), Some(false));
    fake.say(Opcode::RoomEvent, &event(Wire::Left(list(&v1::Presence { reason: "kicked".into(), ..bob }))));
    assert_eq!(fake.core.room(3).map(|room| (room.label.as_str(), room.members.len())), Some(("new", 1)));
    fake.hear(from_bob);
    let events = fake.events();
    let [_, Event::Room { event: RoomEvent::Data { sender, .. }, .. }, _, _, left, late] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(sender.username(), "bob");
    assert!(matches!(left, Event::Room { event: RoomEvent::Left(who), .. } if who[0].reason == "kicked"));
    assert!(
        matches!(late, Event::Room { event: RoomEvent::Data { sender, .. }, .. } if sender.presence.is_none())
    );
    // Handles that are none: above 65535, or of a room that is not there.
    for handle in [4, 65_535, 65_536, u32::MAX] {
        fake.say(Opcode::RoomEvent, &v1::RoomEvent { handle, event: Some(Wire::Label("x".into())) });
        fake.say(Opcode::RoomState, &state(handle, 0));
    }
    assert_eq!(fake.core.send(4, 1, b"").map_err(|e| e.reason().to_owned()), Err("closed".into()));
    let closed = RoomClosed { code: 15, reason: "script_error".into(), message: "m".into() };
    fake.say(Opcode::RoomEvent, &event(Wire::Closed(closed)));
    assert!(
        matches!(&fake.events()[..], [Event::Room { event: RoomEvent::Closed(end), .. }] if end.reason == "script_error")
    );
    assert_eq!(fake.core.send(3, 1, b"").map_err(|e| e.reason().to_owned()), Err("closed".into()));
}

#[test]
fn states_that_nobody_asked_for_do_not_pile_up() {
    let mut fake = Fake::live();
    fake.core.join(Join { room_id: ROOM.into(), ..Join::default() }).unwrap();
    for handle in 0..9 {
        fake.say(Opcode::RoomState, &state(handle, 0));
    }
    assert_eq!(fake.core.rooms.len(), 1);
    for handle in 0..5 {
        fake.say(Opcode::RoomState, &state(100 + handle, 0));
    }
    assert_eq!(
        fake.core.end().map(|end| end.reason.as_str()),
        Some("protocol"),
        "ten bad messages are enough"
    );
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    type Act = fn(&mut Fake);
    let cases: [(&str, Act); 8] = [
        ("cut off", |fake| fake.hear(vec![0x13, 200, 0, 1])),
        ("wrong channel", |fake| {
            fake.core.receive(fake.now, Some(Channel::Control), &data(3, 1, b"").into())
        }),
        ("new session on resume", |fake| {
            fake.core.closed(fake.now, "");
            fake.after(0);
            fake.core.opened(fake.now);
            fake.say(Opcode::SessionStart, &started());
        }),
        ("acknowledges the future", |fake| {
            fake.core.closed(fake.now, "");
            fake.after(0);
            fake.core.opened(fake.now);
            fake.say(Opcode::SessionStart, &resumed((1, 1), (0, 2)));
        }),
        ("goes back", |fake| {
            fake.core.closed(fake.now, "");
            fake.after(0);
            fake.core.opened(fake.now);
            fake.say(Opcode::SessionStart, &resumed((0, 1), (0, 1)));
        }),
        ("another version", |fake| {
            fake.core.closed(fake.now, "");
            fake.after(0);
            fake.core.opened(fake.now);
            fake.say(Opcode::SessionStart, &v1::SessionStarted { protocol: 2, ..resumed((0, 1), (0, 2)) });
        }),
        ("ten that cannot be read", |fake| {
            for _ in 0..10 {
                fake.hear(vec![0x15, 1, 0, 0xff]);
            }
        }),
        ("ten from the future", |fake| {
            for _ in 0..10 {
                fake.say(
                    Opcode::Heartbeat,
                    &v1::Heartbeat { client_time_us: u64::MAX, ..Default::default() },
                );
            }
        }),
    ];
    for (name, act) in cases {
        let mut fake = Fake::joined();
        fake.sent();
        act(&mut fake);
        assert_eq!(fake.core.end().map(|end| end.reason.as_str()), Some("protocol"), "{name}");
        assert!(fake.actions().contains(&Action::Hangup), "{name}");
        assert!(matches!(fake.events().last(), Some(Event::Ended(_))), "{name}");
    }
}

#[test]
fn a_newer_server_may_say_more() {
    let mut fake = Fake::joined();
    for _ in 0..100 {
        fake.hear(vec![0x77, 2, 0, 1, 2]);
        fake.say(Opcode::RoomEvent, &v1::RoomEvent { handle: 3, event: None });
    }
    assert!(fake.core.is_live());
}

/// A small generator: the same bytes in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn any_bytes_of_a_server_end_in_silence_or_in_a_typed_end() {
    let mut dice = Dice(0x5eed);
    let corpus = [
        message(Opcode::SessionStart, &resumed((0, 1), (0, 2))),
        message(
            Opcode::SessionEnd,
            &v1::SessionEnd { code: 14, reason: "busy".into(), message: "later".into() },
        ),
        message(
            Opcode::Heartbeat,
            &v1::Heartbeat { client_time_us: 5, received: counts(1, 1), ..Default::default() },
        ),
        message(Opcode::RoomState, &state(3, 9)),
        message(
            Opcode::RoomJoin,
            &v1::RoomJoined { cid: 2, room_id: ROOM.into(), handle: 3, index: 9, created: false },
        ),
        message(Opcode::RoomLeave, &v1::RoomLeft { cid: 2, room_id: ROOM.into() }),
        message(Opcode::RpcResponse, &v1::RpcResponse { cid: 2, payload: vec![1; 40] }),
        message(
            Opcode::Error,
            &v1::Error { cid: 2, code: 5, name: "not_found".into(), ..Default::default() },
        ),
        data(3, 1, b"data"),
    ];
    let mut ends = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        let mut fake = Fake::joined();
        let _ = fake.core.rpc("echo", b"x");
        if dice.roll(4) == 0 {
            fake.core.closed(fake.now, "reset");
            fake.after(0);
            fake.core.opened(fake.now);
        }
        for _ in 0..6 {
            let mut bytes = corpus[dice.roll(corpus.len())].clone();
            for _ in 0..dice.roll(4) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, dice.roll(256) as u8),
                }
            }
            // The length is kept true, so that the mutation reaches the payload.
            if dice.roll(4) > 0 && bytes.len() >= HEADER {
                let len = (bytes.len() - HEADER) as u16;
                bytes[1..3].copy_from_slice(&len.to_le_bytes());
            }
            fake.hear(bytes);
            fake.take();
            fake.after(300);
        }
        if let Some(end) = fake.core.end() {
            ends.insert(end.reason.clone());
        }
        assert!(fake.core.events.len() < 64 && fake.core.rooms.len() <= 2);
    }
    assert!(ends.contains("protocol"));
}
