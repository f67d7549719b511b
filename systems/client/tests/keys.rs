//! Who is trusted: the key of the first server is expected for the rest of the session, and another server is told
//! nothing. Real sockets; the servers are endpoints that speak just enough of the protocol.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kaos_client::{Client, Credentials, End, Error, PublicKey, Status, clock, connect};
use kaos_rudp::io::tokio::Driver;
use kaos_rudp::io::{Options, Socket};
use kaos_rudp::{Channel, Config, Endpoint, Event, SecretKey};
use kaos_wire::{ClientMessage, Opcode, decode_client, encode, messages, v1};
use tokio::task::JoinHandle;

const TOKEN: [u8; 16] = [7; 16];

/// What a server saw.
#[derive(Default)]
struct Seen {
    connected: usize,
    /// The SessionStarts, in their order.
    starts: Vec<v1::SessionStart>,
    /// All messages, whatever they were.
    messages: usize,
    /// Hellos and the like: without one there was nobody to refuse.
    datagrams: u64,
}

/// A server with the secret key `[key; 32]`.
struct Server {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

fn key(number: u8) -> PublicKey {
    SecretKey::from_bytes([number; 32]).public()
}

impl Server {
    fn start(addr: SocketAddr, number: u8) -> Server {
        let socket = Socket::bind(addr, &Options::default()).expect("a socket");
        let secret_key = Some(SecretKey::from_bytes([number; 32]));
        let endpoint = Endpoint::new(Config { secret_key, ..Config::server() }, [number; 32]);
        let driver = Driver::new(socket, endpoint).expect("watched");
        let addr = driver.local_addr().expect("an address");
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(serve(driver, seen.clone()));
        Server { addr, seen, task }
    }

    /// Ends without a goodbye; its port is free then.
    async fn stop(self) {
        self.task.abort();
        let ended = self.task.await.expect_err("it does not end by itself");
        assert!(ended.is_cancelled(), "{ended}");
    }
}

async fn serve(mut driver: Driver, seen: Arc<Mutex<Seen>>) {
    loop {
        let now = clock::now();
        driver.receive(now).expect("received");
        seen.lock().expect("whole").datagrams = driver.counters().datagrams_in;
        while let Some(event) = driver.endpoint.poll_event() {
            let mut seen = seen.lock().expect("whole");
            match event {
                Event::Connected { .. } => seen.connected += 1,
                Event::Message { peer, bytes, .. } => {
                    for message in messages(&bytes) {
                        seen.messages += 1;
                        let (op, payload) = message.expect("a message");
                        let Ok(ClientMessage::SessionStart(start)) = decode_client(op, payload) else {
                            continue;
                        };
                        let resumed =
                            matches!(start.credentials, Some(v1::session_start::Credentials::Resume(_)));
                        seen.starts.push(*start);
                        let started = v1::SessionStarted {
                            protocol: 1,
                            session_id: 42,
                            resume_token: TOKEN.to_vec(),
                            heartbeat_ms: 1000,
                            seat_ms: 30_000,
                            resumed,
                            ..Default::default()
                        };
                        let mut answer = Vec::new();
                        encode(Opcode::SessionStart, &started, &mut answer).expect("short");
                        driver.endpoint.send(peer, Channel::CONTROL, &[&answer]).expect("sent");
                    }
                }
                _ => {}
            }
        }
        let _kept = driver.transmit(now);
        let due = driver.endpoint.poll_timeout().unwrap_or(now + std::time::Duration::from_secs(1));
        tokio::select! {
            () = driver.ready() => {}
            () = tokio::time::sleep(due.since(clock::now())) => {}
        }
    }
}

/// Waits until the session is back for the `times`-th time, or over.
async fn back(client: &mut Client, times: u64) -> Result<(), End> {
    loop {
        if let Status::Ended(end) = client.status() {
            return Err(end);
        }
        if client.resumed().0 >= times {
            return Ok(());
        }
        client.changed().await;
    }
}

fn is_wrong_key(end: &End, addr: SocketAddr, words: &str) {
    assert_eq!((end.code, end.reason.as_str()), (16, "wrong_key"), "{end}");
    for part in [&addr.to_string(), &key(1).to_string(), &key(2).to_string(), words] {
        assert!(end.message.contains(part), "{part}: {end}");
    }
}

#[tokio::test]
async fn who_answered_first_is_expected_and_an_impostor_is_told_nothing() {
    let server = Server::start("127.0.0.1:0".parse().expect("an address"), 1);
    let addr = server.addr;
    let mut client =
        connect(&format!("kaos://{addr}"), Credentials::anonymous("ada")).await.expect("connects");
    assert_eq!(client.server_key(), Some(key(1)));

    client.drop_connection();
    back(&mut client, 1).await.expect("the same server");
    {
        let seen = server.seen.lock().expect("whole");
        assert_eq!((seen.connected, seen.starts.len()), (2, 2));
        let Some(v1::session_start::Credentials::Resume(resume)) = &seen.starts[1].credentials else {
            panic!("no resume: {:?}", seen.starts)
        };
        assert_eq!(resume.token, TOKEN);
    }

    server.stop().await;
    let impostor = Server::start(addr, 2);
    client.drop_connection();
    let end = back(&mut client, 2).await.expect_err("refused");
    is_wrong_key(&end, addr, "another key than before");
    assert_eq!(client.server_key(), Some(key(1)), "what a game would keep");
    {
        let seen = impostor.seen.lock().expect("whole");
        assert!(seen.datagrams > 0, "the impostor was asked");
        assert_eq!((seen.connected, seen.starts.len(), seen.messages), (0, 0, 0));
    }

    // What the game kept refuses it in the next process, too.
    let kept = format!("kaos://{addr}#{}", key(1));
    let Err(Error::Ended(end)) = connect(&kept, Credentials::anonymous("ada")).await else {
        panic!("the impostor was believed")
    };
    is_wrong_key(&end, addr, "another key than was expected");
    assert_eq!(impostor.seen.lock().expect("whole").connected, 0);
    impostor.stop().await;
}

#[tokio::test]
async fn another_door_of_the_session_has_to_have_the_same_key_unless_its_address_names_one() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let (first, second, other) = (Server::start(any, 1), Server::start(any, 1), Server::start(any, 2));
    let url = |server: &Server| format!("kaos://{}", server.addr);
    let client = connect(&url(&first), Credentials::anonymous("ada")).await.expect("connects");
    client.resume_over(&url(&second)).await.expect("the same key");
    client.resume_over(&format!("{}#{}", url(&other), key(2))).await.expect("the application says so");
    assert_eq!(client.server_key(), Some(key(2)));
    let Err(Error::Ended(end)) = client.resume_over(&url(&first)).await else { panic!("it was believed") };
    is_wrong_key(&end, first.addr, "another key than before");
    assert_eq!(first.seen.lock().expect("whole").starts.len(), 1, "only the first");
}
