//! WebSocket connections on streams in memory and virtual time.

use super::*;

#[test]
fn frames_end_between_messages() {
    let mut bytes = Vec::new();
    for _ in 0..5 {
        kaos_wire::encode_raw(kaos_wire::Opcode::RoomData, &[0; 50_000], &mut bytes).expect("short");
    }
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (frame, after) = rest.split_at(batch(rest));
        frames.push(frame.len());
        rest = after;
    }
    assert_eq!(frames, [100_006, 100_006, 50_003]);
}

/// A frame as clients send it, masked with zeros.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    match u8::try_from(payload.len()).ok().filter(|len| *len < 126) {
        Some(len) => bytes.push(0x80 | len),
        None => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn start() -> Vec<u8> {
    let credentials = Some(kaos_wire::v1::session_start::Credentials::Anonymous("ada".into()));
    let start =
        kaos_wire::v1::SessionStart { protocol_min: 1, protocol_max: 1, credentials, ..Default::default() };
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::SessionStart, &start, &mut bytes).expect("short");
    frame(0x82, &bytes)
}

fn server() -> Server {
    Server {
        bridge: Arc::new(Bridge::new().expect("a descriptor")),
        credentials: Arc::new(Credentials::new(b"", true)),
        stats: Arc::default(),
    }
}

/// What a connection that sends `bytes` gets, and the events that wait for the frame then.
async fn sent(server: &Server, bytes: Vec<u8>) -> (Vec<u8>, Vec<SocketEvent>) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let serving = serve(there, server, IpAddr::from([127, 0, 0, 1]));
    let client = async {
        let (mut from, mut to) = tokio::io::split(here);
        let write = async {
            // The server may close before it has read everything.
            let _ = to.write_all(&bytes).await;
            let _ = to.shutdown().await;
        };
        let mut answer = Vec::new();
        let (_, read) = tokio::join!(write, from.read_to_end(&mut answer));
        read.expect("memory does not fail");
        answer
    };
    let ((), answer) = tokio::join!(serving, client);
    let mut drained = crate::bridge::Drained::default();
    server.bridge.drain(0, &mut drained);
    (answer, drained.events)
}

#[tokio::test(start_paused = true)]
async fn the_first_empty_frame_is_the_last_that_is_read() {
    let server = server();
    let (answer, events) = sent(&server, [start(), frame(0x82, b"").repeat(100_000)].concat()).await;
    assert!(matches!(
        &events[..],
        [
            SocketEvent::Open(_),
            SocketEvent::Start(..),
            SocketEvent::Data(_, bytes, crate::bridge::MESSAGE_WEIGHT),
            SocketEvent::Gone(_, Gone::Protocol)
        ] if bytes.is_empty()
    ));
    // A SessionEnd with the fault, and the close with 1002.
    assert_eq!(answer[0], 0x82);
    let (op, _) = kaos_wire::messages(&answer[2..]).next().expect("one").expect("whole");
    assert_eq!(op, kaos_wire::Opcode::SessionEnd as u8);
    assert!(answer.windows(4).any(|close| close[0] == 0x88 && close[2..] == [0x03, 0xea]), "{answer:?}");
}

/// The close code in what a connection got.
fn close_of(answer: &[u8]) -> Option<u16> {
    let close = answer.windows(4).rfind(|close| close[0] == 0x88)?;
    Some(u16::from_be_bytes([close[2], close[3]]))
}

#[tokio::test(start_paused = true)]
async fn pings_pongs_and_fragments_have_a_rate() {
    let message = {
        let mut bytes = Vec::new();
        kaos_wire::encode_raw(kaos_wire::Opcode::Heartbeat, &[], &mut bytes).expect("short");
        frame(0x82, &bytes)
    };
    let first = frame(0x02, b"");
    for extra in [frame(0x89, b""), frame(0x8a, &[b'x'; 125]), frame(0x00, b"")] {
        // A fragment needs a beginning, which is one too.
        let fragments = if extra[0] == 0 { first.clone() } else { Vec::new() };
        for (number, code) in [(1023, 1000), (100_000, 1008)] {
            let server = server();
            let mut bytes = [start(), fragments.clone(), extra.repeat(number)].concat();
            if extra[0] != 0 {
                bytes.extend(&message);
            }
            let (answer, events) = sent(&server, bytes).await;
            assert_eq!(close_of(&answer), Some(code), "{number} of {:#x}", extra[0]);
            let data = events.iter().any(|event| matches!(event, SocketEvent::Data(..)));
            assert_eq!(data, code == 1000 && extra[0] != 0);
        }
    }
    let server = server();
    let (answer, _) = sent(&server, [start(), frame(0x8a, &[0; 126])].concat()).await;
    assert_eq!(close_of(&answer), Some(1002), "a pong that is too long");
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_and_frames_in_a_row_let_others_have_their_turn() {
    let server = server();
    let (answer, _) = sent(&server, [start(), frame(0x89, b"hi")].concat()).await;
    assert!(answer.windows(4).any(|pong| pong == [0x8a, 2, b'h', b'i']), "{answer:?}");
    // All of them lie in the stream before it is read.
    let (mut here, there) = tokio::io::duplex(1 << 16);
    here.write_all(&[start(), frame(0x8a, b"").repeat(1000)].concat()).await.expect("room");
    here.shutdown().await.expect("memory does not fail");
    let turns = std::cell::Cell::new(0);
    let others = async {
        loop {
            turns.set(turns.get() + 1);
            yield_now().await;
        }
    };
    tokio::select! {
        () = serve(there, &server, IpAddr::from([127, 0, 0, 1])) => {}
        () = others => {}
    }
    assert!(turns.get() >= 1000 / 64, "{} turns", turns.get());
}
