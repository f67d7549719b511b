//! The guestbook through every door: over UDP and WebSocket with the Rust client, over HTTP, from Lua; in memory, replayed.

use std::path::PathBuf;

use guestbook::{Guestbook, Left, Line, Signed};
use kaos_client::{Client, Credentials, connect};
use kaosnet::config::Config;
use kaosnet::runner::{Running, start};
use kaosnet::testing::{Event, Setup, server_of};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RPCS: &str = "
    kaos.register_rpc('sign', function(ctx, to)
      local left = kaos.guestbook_sign(to, 'from ' .. ctx.username)
      local book = kaos.guestbook_count()
      return { heard = left.heard, lines = book.lines, most = ctx.settings.guestbook.lines_max }
    end)
    kaos.register_rpc('wave', function(_, to)
      kaos.event_push({ user = to }, 'guestbook.signed', { from = '', to = to, line = 'hello' })
    end)";

fn setup() -> Setup {
    server_of([("rpcs.lua", RPCS)]).plugins(|app| {
        app.add_plugins(Guestbook);
    })
}

fn heard(player: &kaosnet::testing::Player) -> Vec<Json> {
    let events = player.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::Pushed(name, body) if name == "guestbook.signed" => Some(body),
            _ => None,
        })
        .collect()
}

#[test]
fn a_feature_works_in_memory_and_replays_equally() {
    let mut t = setup().set("guestbook.lines_max", 2).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let to = bob.user_id().expect("started");
    let left = ada.call("guestbook.sign", &json!({ "to": to, "line": "hi" }));
    assert_eq!(left, Ok(json!({ "heard": 1 })));
    let from = ada.user_id().expect("started");
    assert_eq!(heard(&bob), [json!({ "from": from, "to": to, "line": "hi" })]);
    let fault = ada.call("guestbook.sign", &json!({ "to": to, "line": "zounds!" })).expect_err("rude");
    assert_eq!(fault.kind.code(), 9, "{fault}");
    let of_rpc = ada.rpc("sign", &to).expect("signed");
    let of_rpc: Json = serde_json::from_slice(&of_rpc).expect("JSON");
    assert_eq!(of_rpc, json!({ "heard": 1, "lines": 2, "most": 2 }));
    ada.rpc("wave", &to).expect("pushed");
    assert_eq!(heard(&bob).len(), 2);
    assert_eq!(
        t.call(Some("u"), "guestbook.sign", json!({ "to": "nobody", "line": "hm" })),
        Ok(json!({ "heard": 0 }))
    );
    let found = t.call(Some("u"), "guestbook.list", json!({})).expect("listed");
    assert_eq!(found.as_array().map(Vec::len), Some(2), "the oldest went: {found}");
    ada.end();
    bob.drop_connection();
    t.run_ms(32_000);
    let count = t.with_server(|server| {
        let world = server.world();
        let ops = kaosnet::prelude::WorldExt::ops(world);
        let row = ops.by_name("guestbook.count").expect("registered");
        let request = row.parse_json(b"").expect("nothing to say");
        let reply = row.read(world, &kaosnet::prelude::Caller::Server, request).expect("counted");
        serde_json::to_value(&*reply).expect("JSON")
    });
    assert_eq!(count, json!({ "lines": 2, "left": { "left": 1, "disconnected": 1 } }));
    t.replays_equally();
}

#[test]
fn a_setting_out_of_range_or_mistyped_stops_the_start() {
    for (key, value, sentence) in [
        ("guestbook.lines_max", json!(0), "`guestbook.lines_max` is 0: it goes from 1 to 10000"),
        (
            "guestbook.lines_max",
            json!("many"),
            "`guestbook.lines_max` is \"many\": expected a whole number from 1 to 10000",
        ),
        (
            "guestbook.line_max",
            json!(5),
            "unknown key `guestbook.line_max`. Did you mean `guestbook.lines_max`?",
        ),
    ] {
        let error = setup().set(key, value).try_start().err().expect(sentence);
        assert_eq!(error.0, [sentence]);
    }
    let error = server_of([]).set("guestbook.lines_max", 5).try_start().err().expect("no plugin");
    assert_eq!(
        error.0,
        ["unknown key `guestbook.lines_max`: no plugin of this server has a section `guestbook`"]
    );
}

fn serve() -> Running {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("guestbook-{}", std::process::id()));
    let scripts = folder.join("scripts");
    std::fs::create_dir_all(&scripts).expect("the target directory can be written");
    std::fs::write(scripts.join("rpcs.lua"), RPCS).expect("the target directory can be written");
    let mut config = Config::default();
    (config.server.data, config.server.scripts) = (folder, scripts);
    config.http.address = "127.0.0.1:0".parse().expect("an address");
    config.udp.address.0 = Some("127.0.0.1:0".parse().expect("an address"));
    let plugins = |app: &mut kaosnet::prelude::App| {
        app.add_plugins(Guestbook);
    };
    start(&config, plugins).unwrap_or_else(|error| panic!("the server starts: {error}"))
}

/// One request over HTTP: the status and the body.
async fn http(running: &Running, head: &str, body: &str) -> (u16, Json) {
    let mut stream = tokio::net::TcpStream::connect(running.http).await.expect("open");
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).expect("JSON"))
}

#[tokio::test(flavor = "current_thread")]
async fn a_feature_works_over_udp_websocket_http_and_lua() {
    let running = serve();
    let (udp, key) = (running.udp.expect("open"), running.udp_key.expect("a key"));
    for url in [format!("kaos://{udp}#{key}"), format!("ws://{}/kaos", running.http)] {
        let (ada, bob) = (player(&url, "ada").await, player(&url, "bob").await);
        let mut signed = bob.listen::<Signed>("guestbook.signed").await.expect("offered");
        let wrong = bob.listen::<Json>("guestbook.sigend").await.expect_err("not offered");
        assert_eq!(wrong.reason(), "no_such_event");
        assert!(wrong.to_string().ends_with("Did you mean `guestbook.signed`?"), "{wrong}");
        let to = bob.identity().user_id;
        let left: Left =
            ada.call("guestbook.sign", &json!({ "to": to, "line": "hi" })).await.expect("signed");
        assert_eq!(left.heard, 1);
        let heard = signed.next().await.expect("alive").expect("a line").0;
        assert_eq!((heard.line.as_str(), heard.from), ("hi", ada.identity().user_id));
        // From Lua, and over HTTP.
        ada.rpc("wave", to.as_bytes()).await.expect("pushed");
        assert_eq!(signed.next().await.expect("alive").expect("a line").0.line, "hello");
        let body = json!({ "to": to, "line": "posted" }).to_string();
        assert_eq!(http(&running, "POST /v1/guestbook", &body).await, (200, json!({ "heard": 1 })));
        let Line { line, .. } = signed.next().await.expect("alive").expect("a line").0;
        assert_eq!(line, "posted");
        let (status, found) = http(&running, &format!("GET /v1/guestbook?to={to}&limit=1"), "").await;
        assert_eq!((status, found[0]["line"].as_str()), (200, Some("posted")));
        let search = json!({ "to": to }).to_string();
        let (status, found) = http(&running, "POST /v1/guestbook/search?limit=2", &search).await;
        assert_eq!((status, found.as_array().map(Vec::len)), (200, Some(2)));
        let (status, wrong) = http(&running, "GET /v1/guestbook?limt=1", "").await;
        let sentence = "guestbook.list: there is no field `limt`. Did you mean `limit`?";
        assert_eq!((status, wrong["message"].as_str()), (400, Some(sentence)));
        ada.close().await;
        bob.close().await;
    }
    running.stop();
    assert!(running.join().expect("ended").clean);
}

async fn player(url: &str, name: &str) -> Client {
    connect(url, Credentials::anonymous(name))
        .await
        .unwrap_or_else(|error| panic!("{name} at {url}: {error}"))
}
