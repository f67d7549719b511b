//! One operation, many faces: the same request in whatever shape it comes, and the same refusal in the same words.

use kaos_kernel::input::{Body, Identity, RestRequest};
use kaosnet::prelude::*;
use kaosnet::testing::{Test, server_of};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// What is searched for.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Search {
    /// Text in the name.
    #[serde(default)]
    text: String,
    /// At most so many.
    #[schemars(range(min = 1, max = 10))]
    #[serde(default = "ten")]
    limit: u8,
    /// Only these.
    #[serde(default)]
    ids: Vec<String>,
    /// A picture.
    #[serde(default)]
    picture: Blob,
}

fn ten() -> u8 {
    10
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Found(Search);

fn picture(reply: &dyn kaos_kernel::op::Payload) -> Result<Bytes, Fault> {
    let found = reply.as_type::<Found>()?;
    Ok(found.0.picture.0.clone())
}

fn price(reply: &dyn kaos_kernel::op::Payload) -> u32 {
    reply.as_type::<Found>().map_or(0, |found| found.0.ids.len() as u32)
}

fn search(app: &mut App) {
    app.read_op(
        Op::new("thing.search")
            .rest("GET /v1/things/{text}")
            .face(Face::Rest(Rest::new("POST /v1/things").query(&["limit", "ids"])))
            .face(Face::Rest(
                Rest::new("PUT /v1/things/{text}/picture").body(RestBody::Raw("picture")).raw_reply(picture),
            ))
            .price(Price::fixed(1).and_after(price)),
        |_: &World, _: &Caller, search: Search| -> Result<Found, Fault> { Ok(Found(search)) },
    );
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What an operation answers to an HTTP request.
fn http(t: &mut Test, came: RestRequest) -> Result<Bytes, Fault> {
    let identity = Some(Identity { user_id: "u".into(), ..Identity::default() });
    t.call_body(identity, "thing.search", Body::Rest(Box::new(came)))
}

fn json_of(bytes: Result<Bytes, Fault>) -> Json {
    serde_json::from_slice(&bytes.expect("answered")).expect("JSON")
}

#[test]
fn query_path_and_body_make_one_request_by_the_types_of_its_fields() {
    let mut t = server_of([]).plugins(search).start();
    let get = RestRequest {
        face: 0,
        parameters: pairs(&[("text", "5")]),
        query: pairs(&[("ids", "1"), ("ids", "true"), ("limit", "3")]),
        body: Bytes::from_static(b"not looked at"),
    };
    let found = json!({ "text": "5", "limit": 3, "ids": ["1", "true"], "picture": "" });
    assert_eq!(json_of(http(&mut t, get)), found);
    let post = RestRequest {
        face: 1,
        query: pairs(&[("limit", "4")]),
        body: Bytes::from_static(br#"{"text":"x","picture":"hi"}"#),
        ..RestRequest::default()
    };
    let found = json!({ "text": "x", "limit": 4, "ids": [], "picture": "hi" });
    assert_eq!(json_of(http(&mut t, post)), found);
    // Bytes that are no text go in and come out as they are.
    let put = RestRequest {
        face: 2,
        parameters: pairs(&[("text", "x")]),
        query: pairs(&[("limit", "1")]),
        body: Bytes::from_static(&[0xff, 0, 7]),
    };
    assert_eq!(http(&mut t, put), Ok(Bytes::from_static(&[0xff, 0, 7])));
    t.replays_equally();
}

#[test]
fn what_cannot_be_read_is_refused_by_its_field() {
    let mut t = server_of([]).plugins(search).start();
    let get = |query| RestRequest { parameters: pairs(&[("text", "a")]), query, ..RestRequest::default() };
    let post = |query, body: &'static str| RestRequest {
        face: 1,
        query,
        body: Bytes::from_static(body.as_bytes()),
        ..RestRequest::default()
    };
    for (came, sentence) in [
        (get(pairs(&[("limt", "3")])), "there is no field `limt`. Did you mean `limit`?"),
        (get(pairs(&[("limit", "x")])), "`limit` is \"x\", not an integer from 1 to 10"),
        (get(pairs(&[("limit", "3"), ("limit", "4")])), "`limit` is given 2 times"),
        (post(pairs(&[("text", "a")]), ""), "`text` cannot be given in the query string"),
        (
            post(pairs(&[("limit", "3")]), r#"{"limit":3}"#),
            "`limit` is given in the query string and in the body",
        ),
        (post(pairs(&[("limit", "3")]), "[]"), "the body is not JSON object"),
        (post(vec![], "{"), "this is not JSON: EOF while parsing an object at line 1 column 1"),
        (RestRequest { face: 9, ..RestRequest::default() }, "it has no such route"),
    ] {
        let fault = http(&mut t, came).expect_err(sentence);
        assert_eq!(
            (fault.kind, &*fault.message),
            (FaultKind::Invalid, &*format!("thing.search: {sentence}"))
        );
    }
}

#[test]
fn a_wrong_field_is_refused_in_the_same_words_on_every_door() {
    let script = "
        kaos.register_rpc('search', function(_, text)
          local ok, wrong = pcall(kaos.thing_search, kaos.json_decode(text))
          return ok and 'ok' or wrong
        end)";
    let mut t = server_of([("rpcs.lua", script)]).plugins(search).start();
    let ada = t.connect("ada");
    for (request, sentence) in [
        (json!({ "limt": 3 }), "there is no field `limt`. Did you mean `limit`?"),
        (json!({ "limit": 11 }), "`limit` is 11, not an integer from 1 to 10"),
        (json!({ "text": 5 }), "`text` is 5, not text"),
        (json!({ "ids": "a" }), "`ids` is \"a\", not a list"),
    ] {
        let said = format!("thing.search: {sentence}");
        let socket = ada.call("thing.search", &request).expect_err("socket");
        assert_eq!((socket.kind, &*socket.message), (FaultKind::Invalid, &*said));
        let http = t.call(Some("u"), "thing.search", request.clone()).expect_err("HTTP");
        assert_eq!((http.kind, &*http.message), (FaultKind::Invalid, &*said));
        let script = ada.rpc("search", request.to_string()).expect("told");
        let script = String::from_utf8_lossy(&script).into_owned();
        assert!(script.ends_with(&format!("kaos.thing_search: {sentence}")), "{script}");
    }
    t.replays_equally();
}

#[test]
fn what_a_call_looked_at_is_paid_afterwards() {
    let mut t = server_of([])
        .plugins(search)
        .set("limit.session_messages", 10)
        .set("limit.session_messages_burst", 20)
        .start();
    let ada = t.connect("ada");
    let ids: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert!(ada.call("thing.search", &json!({ "ids": ids })).is_ok(), "what is there is enough to begin");
    let fault = ada.call("thing.search", &json!({})).expect_err("in debt");
    assert_eq!(fault.kind, FaultKind::RateLimited);
    assert!((1900..=2300).contains(&fault.retry_ms), "{}", fault.retry_ms);
    t.run_ms(fault.retry_ms.into());
    assert!(ada.call("thing.search", &json!({})).is_ok());
    t.replays_equally();
}

/// A bound that its schema states and the server does not hold.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Patterned {
    #[schemars(regex(pattern = "^a"))]
    name: String,
}

#[test]
fn a_bound_that_nobody_would_hold_is_a_sentence_at_the_start() {
    let wrong = server_of([]).plugins(|app| {
        app.op(Op::new("thing.name").price(1), async |_: Call, named: Patterned| -> Result<String, Fault> {
            Ok(named.name)
        });
    });
    assert_eq!(
        wrong.try_start().err().map(|error| error.to_string()).as_deref(),
        Some(
            "op thing.name: its schema says `pattern`, which is not checked: check it in the handler and leave it out \
             of the type"
        )
    );
}

#[test]
fn an_id_in_a_query_or_path_is_refused_by_its_field() {
    let mut t = server_of([]).start();
    let came = RestRequest { parameters: pairs(&[("room_id", "5")]), ..RestRequest::default() };
    let identity = Some(Identity { user_id: "u".into(), ..Identity::default() });
    let fault = t.call_body(identity, "room.get", Body::Rest(Box::new(came))).expect_err("no id");
    assert_eq!(fault.message, "room.get: `room_id` is \"5\", not a UUID in its 36-character form");
}

/// How many things are bought, as the request says it.
fn asked(request: &dyn kaos_kernel::op::Payload) -> u32 {
    request.as_type::<Search>().map_or(0, |search| search.ids.len() as u32)
}

/// A row that costs what is asked for, and one that costs what its handler finds out.
fn shop(app: &mut App) {
    app.read_op(
        Op::new("thing.buy").rest("POST /v1/buy").price(Price::of(asked)),
        |_: &World, _: &Caller, search: Search| -> Result<usize, Fault> { Ok(search.ids.len()) },
    )
    .op(Op::new("thing.count").price(1), async |cx: Call, search: Search| -> Result<usize, Fault> {
        cx.charge(search.ids.len() as u32);
        Ok(search.ids.len())
    });
}

fn selling() -> kaosnet::testing::Setup {
    server_of([]).plugins(shop).settings(|s| {
        s.set("limit.session_messages", 10);
        s.set("limit.session_messages_burst", 20);
        s.set("limit.address_calls", 10);
        s.set("limit.address_calls_burst", 20);
    })
}

fn things(n: usize) -> Json {
    json!({ "ids": vec!["x"; n] })
}

#[test]
fn a_price_of_the_request_is_taken_before_the_call_begins() {
    let mut t = selling().start();
    let ada = t.connect("ada");
    let buy = |t: &mut Test, over_http: bool, n: usize| match over_http {
        true => t.call(Some("u"), "thing.buy", things(n)),
        false => ada.call("thing.buy", &things(n)),
    };
    for over_http in [false, true] {
        // What a start of a session costs is long paid.
        t.run_ms(4000);
        assert_eq!(buy(&mut t, over_http, 15), Ok(json!(15)));
        let fault = buy(&mut t, over_http, 15).expect_err("it is not there");
        assert_eq!((fault.kind, fault.retry_ms > 500), (FaultKind::RateLimited, true), "{fault:?}");
        t.run_ms(fault.retry_ms.into());
        assert_eq!(buy(&mut t, over_http, 15), Ok(json!(15)), "after the wait that was told");
        // More than may ever be taken at once passes when nothing else is asked for.
        t.run_ms(4000);
        assert_eq!(buy(&mut t, over_http, 500), Ok(json!(500)));
        assert_eq!(buy(&mut t, over_http, 1).expect_err("nothing is left").kind, FaultKind::RateLimited);
    }
    t.replays_equally();
}

#[test]
fn what_a_handler_charges_may_leave_a_debt_and_scripts_pay_nothing() {
    let script =
        "kaos.register_rpc('count', function() return kaos.thing_count{ ids = { 'a', 'b', 'c' } } end)";
    let setup = server_of([("count.lua", script)]).plugins(shop).settings(|s| {
        s.set("limit.session_messages", 10);
        s.set("limit.session_messages_burst", 20);
        s.set("limit.address_calls", 10);
        s.set("limit.address_calls_burst", 20);
    });
    let mut t = setup.start();
    let ada = t.connect("ada");
    t.run_ms(4000);
    for over_http in [false, true] {
        let count = |t: &mut Test, n: usize| match over_http {
            true => t.call(Some("u"), "thing.count", things(n)),
            false => ada.call("thing.count", &things(n)),
        };
        assert_eq!(count(&mut t, 60), Ok(json!(60)));
        let fault = count(&mut t, 0).expect_err("in debt");
        assert_eq!(fault.kind, FaultKind::RateLimited);
        assert!((3900..=4300).contains(&fault.retry_ms), "{}", fault.retry_ms);
        t.run_ms(fault.retry_ms.into());
        assert_eq!(count(&mut t, 0), Ok(json!(0)));
        t.run_ms(4000);
    }
    // An rpc costs 2; what it calls costs nothing.
    for _ in 0..10 {
        assert_eq!(ada.rpc("count", "").expect("answered"), b"3");
    }
    t.replays_equally();
}

#[test]
fn a_row_that_clients_may_call_has_a_price() {
    let without = server_of([]).plugins(|app| {
        app.op(Op::new("thing.free"), async |_: Call, _: ()| Ok(()))
            .op(Op::new("thing.inner").server(), async |_: Call, _: ()| Ok(()));
    });
    assert_eq!(
        without.try_start().err().map(|error| error.to_string()).as_deref(),
        Some(
            "op thing.free: it has no price: say what a call takes of its caller's budget, such as `.price(1)`"
        )
    );
}

#[test]
fn a_route_that_cannot_be_is_a_sentence_at_the_start() {
    let wrong = server_of([]).plugins(|app| {
        let handler = |_: &World, _: &Caller, search: Search| -> Result<Found, Fault> { Ok(Found(search)) };
        let bad = Op::new("thing.bad")
            .rest("GET /v1/things/{name}")
            .rest("FETCH /v1/things")
            .rest("/v1/nothing")
            .rest("GET /v1/twice")
            .rest("GET /v1/twice")
            .price(1);
        let first = Op::new("thing.by_id").rest("GET /v1/by/{ids}").price(1);
        let second = Op::new("thing.by_word").rest("GET /v1/by/{text}").price(1);
        app.read_op(bad, handler).read_op(first, handler).read_op(second, handler);
    });
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    for part in [
        "its request has no field `name`",
        "`FETCH /v1/things` is not a route",
        "`/v1/nothing` is not a route: write `GET /v1/things`",
        "has GET /v1/twice twice",
        "GET /v1/by/{text} belongs to thing.by_id",
    ] {
        assert!(wrong.contains(part), "{part}\n{wrong}");
    }
}
