//! One operation, many doors: read, command and wait, from sessions, HTTP, matches, hooks and rpcs.

use std::collections::BTreeMap;

use kaos_kernel::prelude::*;
use kaos_kernel::script::{RpcContext, RunRpc};
use kaosnet::testing::{Setup, server_of};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the operations of this file work on.
#[derive(Resource, Default)]
struct Board(BTreeMap<String, i64>);

/// Work that takes a while.
#[derive(Serialize, Deserialize)]
struct Slow(String);

impl Job for Slow {
    type Out = String;
    const NAME: &'static str = "slow";
}

fn board(app: &mut App) {
    app.init_resource::<Board>()
        .job(|job: Slow, _: &mut JobContext<'_>| Ok(format!("{} done", job.0)))
        .read_op(
            Op::new("board.read").args(&["key"]).price(1),
            |world: &World, _: &Caller, key: BTreeMap<String, String>| -> Result<i64, Fault> {
                let key = key.get("key").cloned().unwrap_or_default();
                Ok(world.resource::<Board>().0.get(&key).copied().unwrap_or(0))
            },
        )
        .op(
            Op::new("board.add").script(ScriptUse::Command).args(&["key", "by"]).price(1),
            async |cx: Call, request: serde_json::Value| -> Result<(), Fault> {
                let key = request.get("key").and_then(|k| k.as_str()).unwrap_or_default().to_owned();
                let by = request.get("by").and_then(serde_json::Value::as_i64).unwrap_or(0);
                cx.with(|world| *world.resource_mut::<Board>().0.entry(key).or_default() += by);
                Ok(())
            },
        )
        .op(
            Op::new("board.wait").args(&["word"]).price(1),
            async |cx: Call, request: serde_json::Value| -> Result<String, Fault> {
                let word = request.get("word").and_then(|k| k.as_str()).unwrap_or_default().to_owned();
                let answer = cx.job(Slow(word)).await?;
                cx.with(|world| *world.resource_mut::<Board>().0.entry("waits".into()).or_default() += 1);
                Ok(answer)
            },
        )
        .op(
            Op::new("board.nest").args(&["id"]).price(1),
            async |cx: Call, request: serde_json::Value| -> Result<String, Fault> {
                let id = request.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
                let rpc = RunRpc { id, payload: Bytes::from_static(b"nest"), context: RpcContext::default() };
                Ok(String::from_utf8_lossy(&cx.job(rpc).await?).into_owned())
            },
        )
        .op(Op::new("board.mine").session().price(1), async |cx: Call, _: ()| -> Result<u64, Fault> {
            cx.job(Slow("x".to_owned())).await?;
            Ok(cx.me(|session: &mut Session| session.started))
        })
        .op(Op::new("board.panic").price(1), async |cx: Call, _: ()| -> Result<(), Fault> {
            cx.with(|world| world.resource_mut::<Board>().0.clear());
            let nothing: Option<()> = std::hint::black_box(None);
            nothing.expect("a defect");
            Ok(())
        })
        .op(Op::new("board.foreign").price(1), async |_: Call, _: ()| -> Result<(), Fault> {
            std::future::pending::<()>().await;
            Ok(())
        });
}

const MATCH: &str = "local M = {}
    function M.match_init() return { state = {}, tick_rate = 10 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(ctx, s, tick, ms)
      for _ in ipairs(ms) do
        s.before = kaos.board_read('match')
        kaos.board_add('match', 5)
        s.frozen = kaos.board_read('match')
        s.refused = select(2, pcall(kaos.board_wait, 'x'))
      end
      return s
    end
    return M";

const HOOKS: &str = "kaos.register_before('board_read', function(ctx, msg)
      if msg.key == 'hooked' then
        kaos.board_add('hook', 1)
        msg.key = 'hook'
        kaos.logger_info('seen ' .. kaos.board_read('hook'))
      end
      if msg.key == 'refused' then return nil, 'not this one' end
      return msg
    end)
    kaos.register_after('board_add', function(ctx, msg) kaos.board_add('after', msg.by) end)
    kaos.register_rpc('ask', function(ctx, payload)
      kaos.board_add('rpc', 2)
      return { read = kaos.board_read('rpc'), waited = kaos.board_wait(payload), name = ctx.username }
    end)";

fn with_board() -> Setup {
    server_of([("matches/reader.lua", MATCH), ("hooks.lua", HOOKS)]).plugins(board)
}

#[test]
fn read_and_command_from_every_caller() {
    let mut t = with_board().start();
    let ada = t.join("reader", "ada");
    // A session, by name and JSON.
    ada.call("board.add", &json!({ "key": "a", "by": 3 })).expect("done");
    assert_eq!(ada.call("board.read", &json!({ "key": "a" })), Ok(json!(3)));
    // HTTP.
    t.call(Some("u"), "board.add", json!({ "key": "a", "by": 4 })).expect("done");
    assert_eq!(t.call(Some("u"), "board.read", json!({ "key": "a" })), Ok(json!(7)));
    assert_eq!(t.call(None, "board.read", json!({})).expect_err("nobody").kind, FaultKind::Unauthenticated);
    // A match: reads see the world as it stood, commands are applied after the stage.
    ada.send(1, "go");
    t.ticks(2);
    let state = t.room("reader").state("");
    assert_eq!((&state["before"], &state["frozen"]), (&json!(0), &json!(0)));
    assert!(state["refused"].as_str().is_some_and(|s| s.contains("call it in an rpc")), "{state}");
    assert_eq!(ada.call("board.read", &json!({ "key": "match" })), Ok(json!(5)));
    // A live hook: changes, commands, refuses.
    assert_eq!(ada.call("board.read", &json!({ "key": "hooked" })), Ok(json!(1)));
    let refused = ada.call("board.read", &json!({ "key": "refused" })).expect_err("by the hook");
    assert_eq!((refused.kind, refused.message.as_ref()), (FaultKind::Refused, "not this one"));
    t.frames(2);
    assert_eq!(
        ada.call("board.read", &json!({ "key": "after" })),
        Ok(json!(7)),
        "after-hooks ran for clients"
    );
    t.replays_equally();
}

/// The plugin that the README shows.
#[path = "../../src/examples/game_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, with a main")]
mod game_server;

#[test]
fn the_readmes_plugin_works_on_every_door_it_names() {
    let rpc = "kaos.register_rpc('afk', function() return { idle = kaos.afk_count() } end)";
    let setup = server_of([("afk.lua", rpc)]).plugins(|app| {
        app.add_plugins(game_server::Afk);
    });
    let mut t = setup.set("afk.seconds", 5).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    for _ in 0..2 {
        t.run_ms(4000);
        assert!(ada.call("afk.count", &json!(null)).is_ok());
    }
    // A socket, HTTP and Lua.
    assert_eq!(ada.call("afk.count", &json!(null)), Ok(json!(1)));
    assert_eq!(t.call(Some("u"), "afk.count", json!(null)), Ok(json!(1)));
    assert_eq!(ada.rpc("afk", "").expect("answered"), b"{\"idle\":1}");
    let route =
        t.with_server(|server| server.ops().by_name("afk.count").and_then(|row| row.op.rest_at(0).cloned()));
    assert_eq!(route.map(|route| route.method + " " + &route.path).as_deref(), Some("GET /v1/afk"));
    for _ in 0..3 {
        t.run_ms(3000);
        assert!(ada.call("afk.count", &json!(null)).is_ok());
    }
    assert_eq!(bob.ended().as_deref(), Some("kicked"));
    assert_eq!(ada.ended(), None);
    t.replays_equally();
}

#[test]
fn an_operation_of_the_calling_session_says_so_to_who_is_none() {
    let rpc = "kaos.register_rpc('mine', function() return select(2, pcall(kaos.board_mine)) end)";
    let mut t = server_of([("mine.lua", rpc)]).plugins(board).start();
    let ada = t.connect("ada");
    assert!(ada.call("board.mine", &json!(null)).is_ok());
    let from_script = String::from_utf8(ada.rpc("mine", "").expect("answered")).expect("text");
    assert!(from_script.contains("this works on the calling session"), "{from_script}");
    assert_eq!(t.call(Some("u"), "board.mine", json!(null)).expect_err("none").kind, FaultKind::NeedsSession);
    let closed = server_of([]).plugins(|app| {
        app.op(
            Op::new("my.own").session().rest("GET /v1/mine").price(1),
            async |_: Call, _: ()| -> Result<(), Fault> { Ok(()) },
        );
    });
    assert_eq!(
        closed.try_start().err().map(|error| error.to_string()).as_deref(),
        Some(
            "op my.own: only a live session may call it, and GET /v1/mine would refuse everyone: \
             leave out `.session()` or `.rest(…)`"
        )
    );
}

#[test]
fn wait_from_a_session_http_and_an_rpc() {
    let mut t = with_board().start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("board.wait", &json!({ "word": "tea" })), Ok(json!("tea done")));
    assert_eq!(t.call(Some("u"), "board.wait", json!({ "word": "tea" })), Ok(json!("tea done")));
    let reply = ada.rpc("ask", "cake").expect("answered");
    let reply: serde_json::Value = serde_json::from_slice(&reply).expect("a table is JSON");
    assert_eq!(reply, json!({ "read": 2, "waited": "cake done", "name": "ada" }));
    t.replays_equally();
}

#[test]
fn a_session_that_goes_while_its_job_is_under_way_harms_nobody() {
    let mut t = with_board().set("session.seat_ms", 0).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    t.hold_jobs();
    ada.start_call("board.wait", &json!({ "word": "x" }));
    ada.start_call("board.mine", &json!(null));
    t.frames(3);
    assert_eq!(t.population().waiting_calls, 2);
    ada.drop_connection();
    t.frames(3);
    assert_eq!(t.population().sessions, 1);
    t.release_jobs();
    t.frames(3);
    assert_eq!(t.population().waiting_calls, 0);
    assert_eq!(
        bob.call("board.read", &json!({ "key": "waits" })),
        Ok(json!(1)),
        "the call went on to its end"
    );
    t.replays_equally();
}

#[test]
fn an_answer_that_comes_while_the_client_is_away_is_there_when_it_resumes() {
    let mut t = with_board().start();
    let ada = t.connect("ada");
    t.hold_jobs();
    let cid = ada.start_call("board.wait", &json!({ "word": "x" }));
    t.frames(3);
    ada.drop_connection();
    t.frames(3);
    t.release_jobs();
    t.run_ms(500);
    ada.resume().expect("in time");
    t.frames(3);
    assert_eq!(ada.answer(cid), Some(Ok(b"\"x done\"".to_vec())));
    t.replays_equally();
}

#[test]
fn a_handler_that_panics_or_waits_for_nothing_is_refused_and_the_server_goes_on() {
    let mut t = with_board().start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("board.panic", &json!(null)).expect_err("a defect").kind, FaultKind::Internal);
    let foreign = ada.call("board.foreign", &json!(null)).expect_err("nothing would wake it");
    assert!(foreign.message.contains("neither a job nor a turn"), "{foreign}");
    assert_eq!(ada.call("board.wait", &json!({ "word": "x" })), Ok(json!("x done")));
    t.replays_equally();
}

#[test]
fn a_job_that_never_answers_ends_its_call_with_a_deadline() {
    let mut t = with_board().set("call.wait_ms", 1000).start();
    let ada = t.connect("ada");
    t.hold_jobs();
    let cid = ada.start_call("board.wait", &json!({ "word": "x" }));
    t.run_ms(1100);
    let answer = ada.answer(cid).expect("answered").expect_err("too late");
    assert_eq!(answer.kind, FaultKind::Deadline);
    assert_eq!(t.population().waiting_calls, 0);
    t.replays_equally();
}

#[test]
fn an_operation_that_is_not_there_is_named() {
    let mut t = with_board().start();
    let ada = t.connect("ada");
    let unknown = ada.call("board.raed", &json!(null)).expect_err("misspelt");
    assert_eq!(unknown.kind, FaultKind::Unimplemented);
    let wrong = ada.call("board.mine", &json!({ "surplus": 1 })).expect_err("takes nothing");
    assert_eq!(wrong.kind, FaultKind::Invalid);
}

#[test]
fn the_variables_of_a_token_reach_an_rpc_without_a_session() {
    let rpc = "kaos.register_rpc('vars', function(ctx) return ctx.vars end)";
    let mut t = server_of([("vars.lua", rpc)]).start();
    let ada = kaos_kernel::input::Identity {
        user_id: "ada".into(),
        username: "ada".into(),
        vars: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
    };
    let answer = t.call_as(Some(ada), "rpc", json!({ "id": "vars" })).expect("answered");
    assert_eq!(answer["payload"], json!(r#"{"team":"red"}"#));
    t.replays_equally();
}

#[test]
fn lists_that_operations_answer_stay_lists_when_they_are_empty() {
    let rpc = "kaos.register_rpc('rooms', function(ctx)
        local rooms = kaos.room_list{ module = 'none' }
        return { rooms = rooms, text = kaos.json_encode({ rooms = rooms }), own = kaos.json_array(), map = {} }
    end)";
    let mut t = server_of([("rooms.lua", rpc)]).start();
    let answer = t.connect("ada").rpc("rooms", "").expect("answered");
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&answer).expect("JSON"),
        json!({ "rooms": [], "text": r#"{"rooms":[]}"#, "own": [], "map": {} })
    );
    t.replays_equally();
}

#[test]
fn the_protocol_page_lists_the_operations_that_clients_may_call_and_no_others() {
    let page = include_str!("../../assets/proto/README.md");
    let table =
        page.split("### Operations").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("there");
    let listed: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`'));
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let mut t = server_of([]).start();
    let ops = t.with_server(|server| server.ops());
    let open = ops.rows().iter().filter(|row| row.op.auth != kaos_kernel::op::Auth::Server);
    let there: Vec<(String, String)> = open
        .map(|row| {
            let route = row.op.rests().next();
            (row.op.name.clone(), route.map(|(_, r)| r.method.clone() + " " + &r.path).unwrap_or_default())
        })
        .collect();
    let there: Vec<(&str, &str)> =
        there.iter().map(|(name, route)| (name.as_str(), route.as_str())).collect();
    assert_eq!(listed, there);
}

#[test]
fn a_join_says_what_it_lacks_and_a_request_without_an_id_is_refused() {
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    let neither = ada.join("").expect_err("names nothing");
    assert_eq!(
        neither.message,
        "field `room_id` of opcode 0x11: it is missing, and so is `module`: give one of them"
    );
    let both = kaos_wire::v1::RoomJoin {
        room_id: "6f1c2d3e-0000-4000-8000-000000000001".into(),
        module: "arena".into(),
        ..Default::default()
    };
    assert!(ada.join_with(both).expect_err("names two").message.contains("`module` is given too"));
    let mut bytes = Vec::new();
    let call = kaos_wire::v1::Call { cid: 0, op: "room.list".into(), body: Vec::new() };
    kaos_wire::encode(kaos_wire::Opcode::Call, &call, &mut bytes).expect("short");
    let rpc = kaos_wire::v1::Rpc { cid: 0, id: "echo".into(), payload: Vec::new() };
    kaos_wire::encode(kaos_wire::Opcode::Rpc, &rpc, &mut bytes).expect("short");
    ada.send_raw(bytes);
    t.frames(3);
    let refused = ada.events();
    let refused = refused.iter().filter(|event| matches!(event, kaosnet::testing::Event::Refused(_))).count();
    assert_eq!(refused, 2);
}

#[test]
fn a_wrong_value_is_named_without_a_place_in_the_json() {
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    let refused = ada.call("room.get", &json!({ "room_id": "here" })).expect_err("no id");
    assert_eq!(refused.kind, FaultKind::Invalid);
    assert_eq!(refused.message, "room.get: `room_id` is \"here\", not a UUID in its 36-character form");
    let refused = ada.call("room.list", &json!({ "limit": "many" })).expect_err("no number");
    assert!(!refused.message.contains(" line "), "{refused}");
}

const NESTED: &str = "local reg = kaos.register_rpc
    reg('inner', function(ctx, p) return p .. '!' .. ctx.user_id .. kaos.board_wait('w') end)
    reg('outer', function(ctx, p) return kaos.rpc('inner', p).payload .. kaos.rpc('inner', 'b').payload end)
    reg('deep', function(ctx, p) return tostring(select(2, pcall(kaos.rpc, 'deep', p)).payload) .. '<' end)
    reg('deepest', function(ctx, p) local ok, e = pcall(kaos.rpc, 'deepest', p) return ok and e.payload or e end)
    reg('fails', function(ctx, p) error('on purpose') end)
    reg('spend', function(ctx, p) while true do kaos.rpc('inner', p) end end)
    reg('nest', function(ctx, p) return kaos.board_nest(p) end)
    reg('wrong', function(ctx, p)
      local said = {}
      for i, f in ipairs({
        function() kaos.rpc('iner', p) end, function() kaos.rpc('fails', p) end, function() kaos.rpc(5, p) end,
        function() kaos.rpc('inner', {}, 1) end, function() kaos.rpc('inner', { a = 1 }) end,
      }) do said[i] = select(2, pcall(f)) end
      return said
    end)";

#[test]
fn an_rpc_that_calls_rpcs_runs_them_in_itself() {
    let mut t = server_of([("rpcs.lua", NESTED)]).plugins(board).start();
    let ada = t.connect("ada");
    let say = |id: &str, payload: &str| match ada.rpc(id, payload) {
        Ok(reply) => String::from_utf8_lossy(&reply).into_owned(),
        Err(fault) => format!("{:?}: {}", fault.kind, fault.message),
    };
    // Each asks the frame meanwhile, and is the server's, not the caller's.
    assert_eq!(say("outer", "a"), "a!w doneb!w done");
    // Through an operation of a plugin that runs one as a job.
    assert_eq!(say("nest", "inner"), "nest!w done");
    assert_eq!(say("nest", "outer"), "nest!w doneb!w done");
    let deepest = say("deepest", "");
    assert!(
        deepest.ends_with("kaos.rpc: rpcs call each other 8 deep at most, and this is one more"),
        "{deepest}"
    );
    // All of it is paid from one account.
    assert_eq!(say("spend", "x"), "Script: the script failed; the server's log has the details");
    let log = t.logs().pop().expect("written").text;
    assert!(log.contains("out of fuel: spend may use 5000000"), "{log}");
    let wrong: Vec<String> = serde_json::from_str(&{
        let reply = ada.rpc("wrong", "x").expect("a list");
        String::from_utf8_lossy(&reply).into_owned()
    })
    .expect("JSON");
    let wrong: Vec<&str> =
        wrong.iter().map(|text| text.rsplit_once("kaos.rpc: ").map_or("?", |(_, s)| s)).collect();
    assert_eq!(
        wrong,
        [
            "no script registers an rpc `iner`. Did you mean `inner`?",
            "the script failed; the server's log has the details",
            "`id` is the name of an rpc, a string",
            "takes 2 arguments at most (id, payload), 3 were given",
            "`payload`: invalid type: map, expected text or bytes",
        ]
    );
    t.replays_equally();
}

#[test]
fn what_a_script_gives_wrongly_is_told_at_its_line() {
    let list = "{
        function() kaos.room_create('nope') end, function() kaos.room_create('reade') end,
        function() kaos.room_create('reader', 5) end, function() kaos.room_create(5) end,
        function() kaos.room_list({ lable = 'x' }) end, function() kaos.room_list({ limit = 'x' }) end,
        function() kaos.room_label('0871d008-1a92-4ebd-878d-5f514056e00b', 5) end,
        function() kaos.room_label('0871d008-1a92-4ebd-878d-5f514056e00b') end,
        function() kaos.room_send('zz', 1, 'x') end,
        function() kaos.uuid(1) end,
      }";
    let wrong = [
        "kaos.room_create: `module`: there is no match module `nope`",
        "kaos.room_create: `module`: there is no match module `reade`. Did you mean `reader`?",
        "kaos.room_create: `params` is 5, not an object",
        "kaos.room_create: `module` is 5, not text",
        "kaos.room_list: there is no field `lable`. Did you mean `label`?",
        "kaos.room_list: `limit` is \"x\", not an integer from 1 to 100",
        "kaos.room_label: `label` is 5, not text or an object",
        "kaos.room_label: `label` is missing",
        "kaos.room_send: `room_id` is \"zz\", not a UUID in its 36-character form",
        "kaos.uuid: takes no arguments",
    ];
    let collect =
        format!("local said = {{}}\nfor i, f in ipairs({list}) do said[i] = select(2, pcall(f)) end");
    let game = MATCH.replace(
        "for _ in ipairs(ms) do",
        &format!("if #ms > 0 then {collect} s.said = said end for _ in ipairs(ms) do"),
    );
    let rpc = format!("kaos.register_rpc('wrong', function() {collect} return said end)");
    let mut t =
        server_of([("matches/reader.lua", game.as_str()), ("rpcs.lua", rpc.as_str())]).plugins(board).start();
    let ada = t.join("reader", "ada");
    ada.send(1, "go");
    t.ticks(2);
    let of_match = t.room("reader").state("/said");
    let of_rpc = serde_json::from_slice(&ada.rpc("wrong", "").expect("a list")).expect("JSON");
    for (said, file) in [(of_match, "matches/reader.lua"), (of_rpc, "rpcs.lua")] {
        for (i, wrong) in wrong.iter().enumerate() {
            let text = said[i].as_str().unwrap_or_default();
            assert!(
                text.starts_with(&format!("scripts/{file}:")) && text.contains(wrong),
                "{file} {i}: {text}"
            );
        }
    }
    t.replays_equally();
}

#[test]
fn hooks_and_rpcs_know_who_calls_and_until_when() {
    let said = "type(ctx.vars) .. (ctx.deadline - ctx.now) .. ctx.username";
    let script = format!(
        "kaos.register_before('board_read', function(ctx, msg) return nil, {said} end)
        kaos.register_rpc('me', function(ctx) return {said} end)"
    );
    let mut t = server_of([("a.lua", script.as_str())]).plugins(board).start();
    let ada = t.connect("ada");
    let refused = ada.call("board.read", &json!({})).expect_err("by the hook");
    assert_eq!(refused.message, "table30000ada");
    assert_eq!(ada.rpc("me", "").expect("answered"), b"table30000ada"[..]);
}

#[test]
fn a_hook_that_never_ends_is_stopped_as_a_callback_is() {
    let script = "kaos.register_before('board_read', function(ctx, msg) while true do end end)";
    let mut t = server_of([("a.lua", script)]).plugins(board).start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("board.read", &json!({})).expect_err("stopped").kind, FaultKind::Script);
    let log = t.logs().pop().expect("written").text;
    assert!(log.contains("may use 100000 and was stopped"), "{log}");
}
