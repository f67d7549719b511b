//! The HTTP door on streams in memory and virtual time.

use kaos_kernel::prelude::*;
use kaos_kernel::server::{Build, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::*;
use crate::bridge::link::lock;

/// A door that listens nowhere, with what `change` says of it, and what stops it.
fn door(change: impl FnOnce(&mut WebSetup)) -> (Arc<Shared>, watch::Sender<bool>) {
    async fn say(_: Call, text: String) -> Result<String, Fault> {
        Ok(text)
    }
    let add = |app: &mut App| {
        app.op(Op::new("say").rest("POST /v1/say").price(1), say);
    };
    let server = Server::build(Build::default(), add).unwrap_or_else(|error| panic!("{error}"));
    let mut setup = WebSetup {
        listener: bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port"),
        bridge: Arc::new(Bridge::new().expect("a descriptor")),
        credentials: Arc::new(Credentials::new(b"", true)),
        stats: Arc::default(),
        ops: server.ops(),
        access: Access::default(),
        udp: None,
        node: "kaos1".to_owned(),
        connections_max: 8,
        limits: LimitSettings::default(),
        call_ms: 1000,
        dev: false,
    };
    change(&mut setup);
    let (stop, stopped) = watch::channel(false);
    (share(setup, stopped).1, stop)
}

/// A connection from `remote` that holds so many bytes each transport, and the task that serves it.
fn connected(
    shared: &Arc<Shared>,
    remote: &str,
    bytes: usize,
) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (here, there) = duplex(bytes);
    let remote = remote.parse().expect("an address");
    let connection = Connection::new(shared, remote, 8).expect("room");
    (here, tokio::spawn(requests(there, connection, service(shared))))
}

#[tokio::test]
async fn a_subscriber_with_many_addresses_has_half_of_the_connections_and_no_more() {
    let (shared, _stop) = door(|_| {});
    let connect = |text: &str| Connection::new(&shared, text.parse().expect("an address"), 8);
    let held: Vec<Connection> = (1..=4).map(|n| connect(&format!("2001:db8::{n}")).expect("room")).collect();
    assert!(connect("2001:db8::5").is_none(), "the fifth of one /64");
    assert!(connect("2001:db8:0:1::5").is_some(), "a neighbour");
    drop(held);
    assert!(connect("2001:db8::5").is_some());
    assert!(lock(&shared.connections).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answers_is_closed() {
    let (shared, _stop) = door(|_| {});
    let (mut client, serving) = connected(&shared, "192.0.2.1", 1024);
    let began = Instant::now();
    let asking = tokio::spawn(async move {
        let request = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n";
        while client.write_all(request).await.is_ok() {}
        client
    });
    serving.await.expect("no panic");
    assert_eq!(began.elapsed(), crate::http::write_timeout::WRITE_TIME);
    drop(asking.await);
    assert_eq!(shared.server.stats.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_does_not_read_is_left_to_the_rules_of_sessions() {
    let (shared, _stop) = door(|_| {});
    let (mut client, serving) = connected(&shared, "192.0.2.1", 64);
    let upgrade = b"GET /kaos HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(upgrade).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("answered"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    serving.await.expect("no panic");
    // A ping, whose answer is more than the stream holds.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    client.write_all(&ping).await.expect("written");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(shared.server.stats.connections.load(Ordering::Relaxed), 1);
    drop(client);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(shared.server.stats.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn what_needs_credentials_is_refused_before_its_body_is_read() {
    let (shared, _stop) = door(|setup| setup.credentials = Arc::new(Credentials::new(b"key", false)));
    let (mut client, _serving) = connected(&shared, "192.0.2.1", 1024);
    // A body is announced, and never comes.
    let request = b"POST /v1/say HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
    client.write_all(request).await.expect("written");
    let mut head = [0; 12];
    client.read_exact(&mut head).await.expect("answered");
    assert_eq!(&head, b"HTTP/1.1 401");
    assert!(shared.server.bridge.is_empty(), "the frame hears nothing of it");
}

#[tokio::test(start_paused = true)]
async fn what_an_address_asks_far_beyond_its_rate_does_not_reach_the_frame() {
    let limits = LimitSettings { address_calls: 1, address_calls_burst: 2, ..LimitSettings::default() };
    let (shared, _stop) = door(|setup| setup.limits = limits);
    let mut drained = crate::bridge::Drained::default();
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let (mut client, _serving) = connected(&shared, "192.0.2.1", 1024);
        let request = b"POST /v1/say HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\"\"";
        client.write_all(request).await.expect("written");
        let mut head = [0; 12];
        // Refused at the door, or waiting for a frame that never comes.
        let status = match timeout(Duration::from_millis(1), client.read_exact(&mut head)).await {
            Ok(_) => String::from_utf8_lossy(&head[9..]).into_owned(),
            Err(_) => "waits".to_owned(),
        };
        *statuses.entry(status).or_insert(0) += 1;
        drop(client);
        tokio::task::yield_now().await;
    }
    assert_eq!(statuses, [("429".to_owned(), 96), ("waits".to_owned(), 4)].into());
    shared.server.bridge.drain(0, &mut drained);
    assert_eq!(drained.calls.len(), 4);
}
