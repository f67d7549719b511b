//! HTTP, tokens, and what a door refuses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use kaos_client::{Credentials, connect};
use kaos_gate::credentials::{Claims, mint};

use super::running::{config, serve};
use super::urls::{udp_url, ws_url};

/// One HTTP exchange: status and body.
fn http(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.write_all(request.as_bytes()).expect("takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    http(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    http(address, &(head + body))
}

#[test]
fn http_answers_what_it_promises() {
    let running = serve(&config("http"), |_| {});
    let (status, body) = get(running.http, "/v1/connect");
    assert_eq!(status, 200);
    assert!(
        body.contains(&running.udp.expect("open").to_string()) && body.contains("\"websocket\""),
        "{body}"
    );
    assert_eq!(get(running.http, "/healthcheck").0, 200);
    let (status, metrics) = get(running.http, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE "), "{metrics}");
    let (status, page) = get(running.http, "/");
    assert_eq!(status, 200);
    assert!(page.contains("<canvas"), "the playground");
    assert_eq!(post(running.http, "/v1/rpc/echo", "hi"), (200, "hi".into()));
    let (status, body) = post(running.http, "/v1/rpc/ehco", "hi");
    assert_eq!(status, 404);
    assert!(body.contains("\"not_found\"") && body.contains("Did you mean `echo`?"), "{body}");
    assert_eq!(get(running.http, "/v1/rooms?limit=5"), (200, "[]".into()));
    assert_eq!(get(running.http, "/v1/rooms?limit=0").0, 400);
    assert_eq!(get(running.http, "/nothing").0, 404);
}

#[tokio::test(flavor = "current_thread")]
async fn rpc_and_calls_over_both_sockets() {
    let running = serve(&config("calls"), |_| {});
    for url in [udp_url(&running), ws_url(&running)] {
        let me = connect(&url, Credentials::anonymous("ada")).await.expect("connects");
        assert_eq!(&me.rpc("echo", b"hi").await.expect("answered")[..], b"hi");
        let big = vec![b'x'; 40_000];
        assert_eq!(&me.rpc("echo", &big).await.expect("in fragments")[..], &big[..]);
        let rooms: serde_json::Value = me.call("room.list", &serde_json::json!({})).await.expect("listed");
        assert_eq!(rooms, serde_json::json!([]));
        let unknown =
            me.call::<serde_json::Value>("no.such", &serde_json::json!({})).await.expect_err("unknown");
        assert_eq!(unknown.reason(), "unimplemented");
        me.close().await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_token_opens_every_door_and_a_forged_one_none() {
    let mut config = config("tokens");
    config.session.anonymous = Some(false);
    let running = serve(&config, |_| {});
    // Until the year 2100.
    let claims = Claims { uid: "u-1".into(), usn: "ada".into(), exp: 4_102_444_800, ..Claims::default() };
    let token = mint(&running.key, &claims).expect("minted");
    let forged = mint(b"another key, just as long as it has to be", &claims).expect("minted");
    for url in [udp_url(&running), ws_url(&running)] {
        let me = connect(&url, Credentials::token(&token)).await.expect("let in");
        assert_eq!((me.identity().user_id.as_str(), me.identity().username.as_str()), ("u-1", "ada"));
        let refused = connect(&url, Credentials::token(&forged)).await.err().expect("refused");
        assert_eq!(refused.reason(), "unauthenticated");
        let nobody = connect(&url, Credentials::anonymous("ada")).await.err().expect("refused");
        assert_eq!(nobody.reason(), "unauthenticated");
    }
    let (status, _) = post(running.http, "/v1/rpc/echo", "hi");
    assert_eq!(status, 401);
}

#[test]
fn udp_does_not_leave_loopback_until_it_is_encrypted() {
    let mut config = config("open");
    config.udp.address = Some("0.0.0.0:0".parse().expect("an address"));
    let error = kaosnet::runner::start(&config, |_| {}).err().expect("refused").to_string();
    assert!(error.contains("loopback") && error.contains("encrypt"), "{error}");
}

#[test]
fn a_taken_port_is_one_sentence_with_a_way_out() {
    let running = serve(&config("taken"), |_| {});
    let mut second = config("taken");
    second.http.address = running.http;
    let error = kaosnet::runner::start(&second, |_| {}).err().expect("taken").to_string();
    let port = running.http.port();
    assert!(error.starts_with(&format!("port {port} (tcp) is taken\n")), "{error}");
    assert!(error.contains("or choose another:  kaosnet --http 127.0.0.1:"), "{error}");
}
