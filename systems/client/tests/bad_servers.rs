//! Real sockets with something else than a KaosNet server behind them: each ends in a typed error that says why.

use std::time::Duration;

use kaos_client::{Client, Credentials, Error, Options, connect_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

async fn attempt(url: &str) -> Result<Client, Error> {
    let options = Options { open_timeout: Duration::from_millis(500), ..Options::default() };
    connect_with(url, Credentials::anonymous("ada"), options).await
}

/// A TCP server that reads a request and answers each with `answer`, then closes. Returns its port.
async fn tcp(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            // Until the other side has taken it.
            while matches!(stream.read(&mut request).await, Ok(1..)) {}
        }
    });
    port
}

const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[tokio::test]
async fn nobody_there() {
    // Bound and dropped: the port is free now.
    let port =
        UdpSocket::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("an address").port();
    for scheme in ["kaos", "ws", "http"] {
        let error = attempt(&format!("{scheme}://127.0.0.1:{port}")).await.err().expect(scheme);
        assert_eq!(error.reason(), "unreachable", "{scheme}: {error}");
    }
}

#[tokio::test]
async fn a_udp_port_that_never_answers() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("kaos://{}", silent.local_addr().expect("an address"));
    let error = attempt(&url).await.err().expect("no answer");
    assert_eq!(error.reason(), "unreachable", "{error}");
}

#[tokio::test]
async fn another_web_server() {
    let cases: [(&str, &[u8]); 4] = [
        ("404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ("cannot be read", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("neither UDP nor a WebSocket", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ("", b"220 smtp.example.com ESMTP\r\n"),
    ];
    for (words, answer) in cases {
        let url = format!("http://127.0.0.1:{}", tcp(answer).await);
        let error = attempt(&url).await.err().expect("no KaosNet server");
        assert_eq!(error.reason(), "unreachable", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let url = format!("ws://127.0.0.1:{}", tcp(cases[0].1).await);
    let error = attempt(&url).await.err().expect("no WebSocket").to_string();
    assert!(error.contains("404"), "{error}");
}

#[tokio::test]
async fn a_websocket_that_speaks_something_else() {
    let frame = |bytes: &[u8]| {
        let all = [UPGRADE.as_bytes(), bytes].concat();
        &*Box::leak(all.into_boxed_slice())
    };
    let cases: [(&str, &str, &'static [u8]); 5] = [
        ("text", "unreachable", frame(&[0x81, 2, b'h', b'i'])),
        ("not a message", "protocol", frame(&[0x82, 4, 0x13, 200, 0, 1])),
        ("a frame over the bound", "unreachable", frame(&[0x82, 127, 0, 0, 0, 0, 0, 3, 0, 0])),
        ("a close", "unreachable", frame(&[0x88, 2, 3, 232])),
        ("a goodbye", "busy", frame(&[0x82, 11, 0x02, 8, 0, 8, 14, 18, 4, b'b', b'u', b's', b'y'])),
    ];
    for (name, reason, answer) in cases {
        let url = format!("ws://127.0.0.1:{}", tcp(answer).await);
        let error = attempt(&url).await.err().expect(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
}
