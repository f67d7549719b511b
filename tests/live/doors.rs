//! Calls and tokens over both sockets, and what a door refuses. What HTTP answers is tested in src/runner.

use kaos_client::{Credentials, connect};
use kaos_gate::credentials::{Claims, mint};

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

#[test]
fn udp_does_not_leave_loopback_until_it_is_encrypted() {
    let mut config = config("open");
    config.udp.address = Some("0.0.0.0:0".parse().expect("an address"));
    let error = kaosnet::runner::start(&config, |_| {}).err().expect("refused").to_string();
    assert!(error.contains("loopback") && error.contains("encrypt"), "{error}");
}
