//! One operation over real doors: the shapes that other servers' clients send, and one refusal in the same words everywhere.

use std::io::{Read, Write};
use std::net::TcpStream;

use kaos_client::{Credentials, connect};
use kaos_kernel::op::{Payload, Refusal, RestReply, Schema};
use kaosnet::prelude::*;
use kaosnet::runner::Running;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::running::{config, serve};
use super::urls::{udp_url, ws_url};

/// A request of many shapes.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Ask {
    /// From the path.
    id: String,
    /// From a query string, a JSON string or a body.
    payload: String,
    /// A key that comes several times.
    user_ids: Vec<String>,
    /// From the query string, besides a body.
    create: bool,
    #[schemars(range(min = 1, max = 100))]
    limit: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct Answer(Ask);

fn answer(reply: &dyn Payload) -> Result<&Ask, Fault> {
    reply.as_type::<Answer>().map(|answer| &answer.0)
}

/// Bytes as they are.
fn raw(reply: &dyn Payload) -> Result<Bytes, Fault> {
    answer(reply).map(|ask| ask.payload.clone().into())
}

/// What is empty is left out.
fn sparse(reply: &dyn Payload) -> Result<Json, Fault> {
    let Json::Object(mut fields) = json!(answer(reply)?) else { return Err(FaultKind::Internal.into()) };
    fields.retain(|_, value| {
        !matches!(value, Json::Null | Json::Bool(false)) && *value != json!("") && *value != json!([])
    });
    Ok(Json::Object(fields))
}

/// Names in either spelling; what nobody knows is left out.
fn lenient(schema: &Schema, came: Map<String, Json>) -> Result<Map<String, Json>, Fault> {
    let mut fields = Map::new();
    for (name, value) in came {
        let snake: String = name
            .chars()
            .flat_map(|letter| {
                letter.is_ascii_uppercase().then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
            })
            .collect();
        // A list whose name the schema did not know was read as text.
        let listed = snake == "user_ids" && value.is_string();
        if schema.has_field(&snake) {
            fields.insert(snake, if listed { json!([value]) } else { value });
        }
    }
    Ok(fields)
}

/// `{error, message, code}`, with the number and the HTTP status that go with gRPC.
fn grpc(fault: &Fault, _: u16) -> Refusal {
    let code = fault.kind.grpc();
    let status = match code {
        3 | 9 => 400,
        5 => 404,
        16 => 401,
        _ => 500,
    };
    Refusal { status, body: json!({ "error": fault.message, "message": fault.message, "code": code }) }
}

fn ask(app: &mut App) {
    let v2 = |route: &str| {
        Rest::new(route).reply(RestReply::Shaped(sparse)).refusals(grpc).shape(lenient).credential("http_key")
    };
    app.read_op(
        Op::new("legacy.ask")
            .face(Face::Rest(v2("GET /v2/call/{id}")))
            .face(Face::Rest(v2("POST /v2/call/{id}").body(RestBody::Text("payload"))))
            .face(Face::Rest(
                v2("POST /v2/call/{id}")
                    .when("unwrap")
                    .body(RestBody::Raw("payload"))
                    .reply(RestReply::Raw { bytes: raw, content_type: Some("application/json") }),
            ))
            .face(Face::Rest(v2("POST /v2/account")))
            .face(Face::Rest(v2("DELETE /v2/friend")))
            .rest("GET /v1/ask")
            .rest("POST /v1/ask")
            .price(1),
        |_: &World, _: &Caller, ask: Ask| -> Result<Answer, Fault> { Ok(Answer(ask)) },
    );
}

/// Status, head in lower case, and body of a request.
fn http(server: &Running, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.http).expect("it listens");
    let (host, length) = (server.http, body.len());
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn json_of(server: &Running, request: &str, headers: &str, body: &str) -> (u16, Json) {
    let (status, _, body) = http(server, request, headers, body);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[test]
fn the_shapes_that_other_servers_clients_send_can_all_be_faces() {
    let server = serve(&config("shapes"), ask);
    for (request, body, expected) in [
        // A field from the query string; unknown ones are no mistake here.
        ("GET /v2/call/5?payload=7&other=1", "", json!({ "id": "5", "payload": "7" })),
        // A JSON string as the body, or nothing.
        ("POST /v2/call/a", r#""{\"x\":1}""#, json!({ "id": "a", "payload": "{\"x\":1}" })),
        ("POST /v2/call/a", "", json!({ "id": "a" })),
        ("POST /v2/call/a", "null", json!({ "id": "a" })),
        // Query string and body in one request, names in either spelling.
        (
            "POST /v2/account?create=true&payload=",
            r#"{"id":"device-1","userIds":["x"],"unknown":{}}"#,
            json!({ "id": "device-1", "user_ids": ["x"], "create": true }),
        ),
        // A key that is there twice is a list.
        ("DELETE /v2/friend?user_ids=1&user_ids=true", "", json!({ "user_ids": ["1", "true"] })),
        ("DELETE /v2/friend?user_ids=1", "", json!({ "user_ids": ["1"] })),
    ] {
        assert_eq!(json_of(&server, request, "", body), (200, expected), "{request}");
    }
    // Raw bytes both ways, in a content type of the face's own.
    let (status, head, body) = http(&server, "POST /v2/call/a?unwrap", "", "any { bytes");
    assert_eq!((status, body.as_str()), (200, "any { bytes"));
    assert!(head.contains("content-type: application/json"), "{head}");
    // Refusals of the face's shape and status, whoever refuses: the schema, the body's reader, the door.
    let refused = |request: &str, headers: &str, body: &str, status: u16, code: u8| {
        let (got, refusal) = json_of(&server, request, headers, body);
        assert_eq!((got, &refusal["code"]), (status, &json!(code)), "{request}: {refusal}");
        assert_eq!(refusal["error"], refusal["message"], "{refusal}");
        refusal["message"].as_str().unwrap_or_default().to_owned()
    };
    let said = refused("GET /v2/call/5?limit=x", "", "", 400, 3);
    assert_eq!(said, "legacy.ask: `limit` is \"x\", not an integer from 1 to 100");
    assert_eq!(refused("POST /v2/call/a", "", "{}", 400, 3), "legacy.ask: the body is no JSON string");
    assert_eq!(
        refused("POST /v2/account", "", &"x".repeat(300_000), 400, 3),
        "the request body is over the limit of 262144 bytes"
    );
    // Keys are read as what they are, and refused by a server that has none.
    for (request, headers) in [
        ("GET /v2/call/5?http_key=secret", ""),
        ("GET /v2/call/5", "Authorization: Basic ZGVmYXVsdGtleTo=\r\n"),
    ] {
        let said = refused(request, headers, "", 401, 16);
        assert!(said.contains("no such key") && !said.contains("secret"), "{said}");
    }
    assert!(refused("GET /v2/call/5", "Authorization: Digest x\r\n", "", 401, 16).contains("Bearer"));
    server.stop();
}

const SCRIPT: &str = "
kaos.register_rpc('ask', function(_, text)
  local ok, wrong = pcall(kaos.legacy_ask, kaos.json_decode(text))
  return ok and 'ok' or wrong
end)
";

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_request_is_refused_in_the_same_words_over_http_udp_websocket_and_in_a_script() {
    let mut config = config("words");
    config.server.scripts = config.server.data.join("scripts");
    std::fs::create_dir_all(&config.server.scripts).expect("a folder");
    std::fs::write(config.server.scripts.join("ask.lua"), SCRIPT).expect("written");
    let server = serve(&config, ask);
    for (query, request, sentence) in [
        ("paylod=a", json!({ "paylod": "a" }), "there is no field `paylod`. Did you mean `payload`?"),
        ("limit=many", json!({ "limit": "many" }), "`limit` is \"many\", not an integer from 1 to 100"),
        ("limit=0", json!({ "limit": 0 }), "`limit` is 0, not an integer from 1 to 100"),
        ("create=5", json!({ "create": "5" }), "`create` is \"5\", not true or false"),
    ] {
        let said = format!("legacy.ask: {sentence}");
        let own = (400, json!({ "code": 3, "name": "invalid", "message": said }));
        assert_eq!(json_of(&server, &format!("GET /v1/ask?{query}"), "", ""), own);
        assert_eq!(json_of(&server, &format!("POST /v1/ask?{query}"), "", ""), own);
        assert_eq!(json_of(&server, "POST /v1/ask", "", &request.to_string()), own);
        for url in [udp_url(&server), ws_url(&server)] {
            let me = connect(&url, Credentials::anonymous("ada")).await.expect("connects");
            let refused = me.call::<Json>("legacy.ask", &request).await.expect_err("wrong");
            assert!(refused.to_string().contains(&said), "{refused}");
            let script = me.rpc("ask", request.to_string().as_bytes()).await.expect("told");
            let script = String::from_utf8_lossy(&script).into_owned();
            assert!(script.ends_with(&format!("kaos.legacy_ask: {sentence}")), "{script}");
            me.close().await;
        }
    }
    server.stop();
}
