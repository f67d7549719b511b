//! Listening to events by name, against an endpoint that speaks just enough of the protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kaos_client::{Client, Credentials, Error, clock, connect};
use kaos_rudp::io::tokio::Driver;
use kaos_rudp::io::{Options, Socket};
use kaos_rudp::{Channel, Config, Endpoint, Event, SecretKey};
use kaos_wire::{ClientMessage, Opcode, decode_client, encode, messages, prost::Message, v1};
use serde::Deserialize;

const OFFERS: &str =
    r#"{"ops": [], "events": [{"name": "guestbook.signed", "about": "…", "reliable": true}]}"#;

#[derive(Deserialize, PartialEq, Debug)]
struct Signed {
    page: u32,
}

/// A session with a server whose answer to `server.describe` is this; `None`: it is of before that operation. The rpc
/// `push` pushes an event and is answered, the rpc `end` ends the session. Returns how often it was asked as well.
async fn session(offers: Option<&'static str>) -> (Client, Arc<AtomicUsize>) {
    let socket =
        Socket::bind("127.0.0.1:0".parse().expect("an address"), &Options::default()).expect("a socket");
    let secret_key = Some(SecretKey::from_bytes([1; 32]));
    let endpoint = Endpoint::new(Config { secret_key, ..Config::server() }, [1; 32]);
    let driver = Driver::new(socket, endpoint).expect("watched");
    let url = format!("kaos://{}", driver.local_addr().expect("an address"));
    let asked = Arc::<AtomicUsize>::default();
    tokio::spawn(serve(driver, offers, asked.clone()));
    (connect(&url, Credentials::anonymous("ada")).await.expect("connects"), asked)
}

async fn serve(mut driver: Driver, offers: Option<&'static str>, asked: Arc<AtomicUsize>) {
    loop {
        let now = clock::now();
        driver.receive(now).expect("received");
        while let Some(event) = driver.endpoint.poll_event() {
            let Event::Message { peer, bytes, .. } = event else { continue };
            for message in messages(&bytes) {
                let (op, payload) = message.expect("whole");
                for answer in answers(decode_client(op, payload).expect("good"), offers, &asked) {
                    driver.endpoint.send(peer, Channel::CONTROL, &[&answer]).expect("sent");
                }
            }
        }
        let _kept = driver.transmit(now);
        let due = driver.endpoint.poll_timeout().unwrap_or(now + Duration::from_secs(1));
        tokio::select! {
            () = driver.ready() => {}
            () = tokio::time::sleep(due.since(clock::now())) => {}
        }
    }
}

fn message(op: Opcode, payload: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(op, payload, &mut bytes).expect("short");
    bytes
}

fn answers(message_in: ClientMessage<'_>, offers: Option<&str>, asked: &AtomicUsize) -> Vec<Vec<u8>> {
    match message_in {
        ClientMessage::SessionStart(_) => {
            let (resume_token, heartbeat_ms) = (vec![7; 16], 1000);
            let started = v1::SessionStarted {
                protocol: 1,
                session_id: 42,
                resume_token,
                heartbeat_ms,
                ..Default::default()
            };
            vec![message(Opcode::SessionStart, &started)]
        }
        ClientMessage::Call(call) => {
            assert_eq!(call.op, "server.describe");
            asked.fetch_add(1, Ordering::Relaxed);
            vec![match offers {
                Some(offers) => message(Opcode::Call, &v1::CallReply { cid: call.cid, body: offers.into() }),
                None => message(
                    Opcode::Error,
                    &v1::Error {
                        cid: call.cid,
                        code: 12,
                        name: "unimplemented".into(),
                        ..Default::default()
                    },
                ),
            }]
        }
        ClientMessage::Rpc(rpc) if rpc.id == "push" => {
            let pushed = v1::Event { name: "guestbook.signed".into(), body: rpc.payload };
            let response = v1::RpcResponse { cid: rpc.cid, payload: Vec::new() };
            vec![message(Opcode::Event, &pushed), message(Opcode::RpcResponse, &response)]
        }
        ClientMessage::Rpc(_) => {
            let end = v1::SessionEnd { code: 25, reason: "kicked".into(), message: String::new() };
            vec![message(Opcode::SessionEnd, &end)]
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn events_are_heard_by_name_and_the_server_is_asked_once_for_its_names() {
    let (client, asked) = session(Some(OFFERS)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody listens yet");
    let (mut first, second) = tokio::join!(
        client.listen::<Signed>("guestbook.signed"),
        client.listen::<Signed>("guestbook.signed")
    );
    let (first, mut second) = (first.as_mut().expect("offered"), second.expect("offered"));
    client.rpc("push", br#"{"page":1}"#).await.expect("pushed");
    client.rpc("push", b"").await.expect("pushed");
    client.rpc("push", br#"{"page":2}"#).await.expect("pushed");
    for listener in [first, &mut second] {
        assert_eq!(listener.next().await, Some(Ok(Signed { page: 1 })));
        assert!(
            matches!(listener.next().await, Some(Err(Error::Json { op, .. })) if op == "guestbook.signed")
        );
        assert_eq!(listener.next().await, Some(Ok(Signed { page: 2 })));
    }
    let error = client.listen::<Signed>("guestbook.sigend").await.expect_err("not offered");
    assert_eq!(error.reason(), "no_such_event");
    let sentence = "the server has no event `guestbook.sigend`. Did you mean `guestbook.signed`?";
    assert_eq!(error.to_string(), sentence);
    let error = client.listen::<Signed>("chat").await.expect_err("not offered");
    assert_eq!(error.to_string(), "the server has no event `chat`; it has guestbook.signed");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_cannot_tell_its_events_is_believed() {
    let (client, asked) = session(None).await;
    for _ in 0..2 {
        client.listen::<Signed>("anything").await.expect("believed");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_listener_ends_with_its_session_and_none_begins_after_it() {
    let (client, _) = session(Some(OFFERS)).await;
    let mut listener = client.listen::<Signed>("guestbook.signed").await.expect("offered");
    client.rpc("end", b"").await.expect_err("ended");
    assert_eq!(listener.next().await, None);
    let error = client.listen::<Signed>("guestbook.signed").await.expect_err("it would wait for ever");
    assert_eq!(error.reason(), "kicked");
}
