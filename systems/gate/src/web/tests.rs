//! The HTTP door on streams in memory and virtual time.

use kaos_kernel::server::{Build, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::*;

/// A door that listens nowhere, with what `change` says of it, and what stops it.
fn door(change: impl FnOnce(&mut WebSetup)) -> (Arc<Shared>, watch::Sender<bool>) {
    let server = Server::build(Build::default(), |_| {}).unwrap_or_else(|error| panic!("{error}"));
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
        call_ms: 1000,
        dev: false,
    };
    change(&mut setup);
    let (stop, stopped) = watch::channel(false);
    (share(setup, stopped).1, stop)
}

/// A connection from `remote` that holds so many bytes each way, and the task that serves it.
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
    assert_eq!(began.elapsed(), crate::impatient::WRITE_TIME);
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
