//! Calls and tokens over both sockets, and what a door refuses. What HTTP answers is tested in src/runner.

use kaos_client::{Credentials, connect};
use kaos_gate::identity::credentials::{Claims, mint};

use super::running::{config, serve};
use super::urls::{udp_url, ws_url};

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
}

#[tokio::test]
async fn udp_may_leave_loopback_and_has_the_same_key_after_a_restart() {
    let mut config = config("open");
    config.udp.address.0 = Some("0.0.0.0:0".parse().expect("an address"));
    config.session.anonymous = Some(true);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let running = serve(&config, |_| {});
        let (udp, key) = (running.udp.expect("open"), running.udp_key.expect("a key"));
        keys.push(key);
        let client =
            connect(&format!("kaos://127.0.0.1:{}#{key}", udp.port()), Credentials::anonymous("ada")).await;
        assert!(client.is_ok());
        running.stop();
    }
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn another_server_than_the_expected_one_is_told_nothing() {
    let running = serve(&config("impostor"), |_| {});
    let other = kaos_rudp::SecretKey::from_bytes([9; 32]).public();
    let url = format!("kaos://{}#{other}", running.udp.expect("open"));
    let error = connect(&url, Credentials::anonymous("ada")).await.err().expect("refused");
    assert!(error.to_string().contains("key"), "{error}");
    assert_eq!(running.stats.sessions.load(std::sync::atomic::Ordering::Relaxed), 0);
}
