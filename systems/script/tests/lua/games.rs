//! Matches: the contract, and the shipped samples on it.

use kaos_script::lua::{Game, Vm};
use kaos_script::runtime::Called;
use kaos_script::{Callback, ErrorKind, Left, MatchInit, Message, Presence, ScriptError, Value, show_init};

use super::{Desk, config};

/// `ctx` of a match.
fn ctx() -> Value {
    Value::map([("room_id", Value::text("room")), ("module", Value::text("a")), ("node", Value::text("n1"))])
}

fn begin(text: &str) -> Result<(Game, MatchInit, Desk), ScriptError> {
    begin_at(7, "a.lua", text)
}

fn begin_at(seed: u64, path: &str, text: &str) -> Result<(Game, MatchInit, Desk), ScriptError> {
    let vm = Vm::new(config(seed, &[(path, text)])).unwrap();
    let mut desk = Desk { now_ms: 1000, ..Desk::default() };
    let params = Value::map([("size", Value::Int(3))]);
    let (mut game, begun) = Game::begin(vm, &mut desk, path, &ctx(), &params)?;
    show_init(&mut game, &begun)?;
    Ok((game, begun, desk))
}

fn person(id: u64, name: &str) -> Presence<'_> {
    Presence { session_id: id, user_id: "u", username: name, index: id as u16, reason: None }
}

const BASE: &str = "local M = {}
function M.match_init(ctx, params) return { state = { log = {}, n = params.size }, tick_rate = 10, label = { mode = 'x' }, max_players = 4 } end
function M.match_join(ctx, state, ps) for _, p in ipairs(ps) do state.log[#state.log + 1] = '+' .. p.username .. p.session_id .. p.index end return state end
function M.match_leave(ctx, state, ps) for _, p in ipairs(ps) do state.log[#state.log + 1] = '-' .. p.username .. p.reason end return state end
function M.match_loop(ctx, state, tick, messages)
  for _, m in ipairs(messages) do
    state.log[#state.log + 1] = tick .. (m.sender and m.sender.username or '?') .. m.op .. m.data .. m.tick
    if m.op == 9 then error('told to') end
    if m.op == 8 then return nil end
    state.last = m.sender
  end
  state.now, state.label, state.rate = ctx.now, ctx.label, ctx.tick_rate
  return state
end
";

#[test]
fn accept_is_true_or_false_and_a_reason_in_its_place_lets_nobody_in() {
    for (returned, found) in [("state, 'no'", "a string"), ("state", "nil"), ("state, 1", "a number")] {
        let attempt = format!("function M.match_join_attempt(ctx, state) return {returned} end");
        let (mut game, _, mut desk) = begin(&format!("{BASE} {attempt} return M")).unwrap();
        let before = game.state().unwrap();
        let error = game.join_attempt(&mut desk, person(1, "ada"), &Value::Nil).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "scripts/a.lua: match_join_attempt returned {found} as accept, not true or false: \
                 return state, accept, reason"
            )
        );
        assert_eq!(game.state().unwrap(), before, "what stands in the state's place is not kept");
    }
}

#[test]
fn a_match_lives() {
    let (mut game, begun, mut desk) = begin(&format!(
        "{BASE} function M.match_signal(ctx, state, data) return state, {{ got = data, n = state.n }} end
        function M.match_join_attempt(ctx, state, p, meta) state.asked = p.username return state, meta.ok, 'no ' .. ctx.room_id end
        function M.match_terminate(ctx, state, grace) state.grace = grace return state end return M"
    ))
    .unwrap();
    assert_eq!((begun.tick_rate, begun.max_players), (10, Some(4)));
    assert_eq!(begun.label, Value::map([("mode", Value::text("x"))]));
    let (ada, bob) = (person(1, "ada"), person(2, "bob"));
    let ok = |ok| Value::map([("ok", Value::Bool(ok))]);
    assert_eq!(game.join_attempt(&mut desk, ada, &ok(true)).unwrap(), Ok(()));
    assert_eq!(game.join_attempt(&mut desk, bob, &ok(false)).unwrap(), Err("no room".to_owned()));
    game.join(&mut desk, &[ada, bob]).unwrap();
    let message = |sender, op, data| Message { sender, op, data, tick: 4 };
    let batch = [message(Some(ada), 1, &b"x"[..]), message(None, 2, b""), message(Some(bob), 255, b"y")];
    desk.now_ms = 2000;
    assert_eq!(game.tick(&mut desk, 5, &batch).unwrap().value, Left::Running);
    game.leave(&mut desk, &[Presence { reason: Some("timeout"), ..ada }]).unwrap();
    assert_eq!(
        game.signal(&mut desk, &Value::text("hi")).unwrap(),
        Value::map([("got", Value::text("hi")), ("n", Value::Int(3))])
    );
    game.set_ctx("label", &Value::text("new")).unwrap();
    game.terminate(&mut desk, 9).unwrap();
    game.tick(&mut desk, 6, &[]).unwrap();
    let state = game.state().unwrap();
    let log =
        ["+ada00000000000000011", "+bob00000000000000022", "5ada1x4", "5?24", "5bob255y4", "-adatimeout"];
    assert_eq!(state.get("log"), Some(&Value::List(log.iter().map(Value::text).collect())));
    assert_eq!(state.get("asked").and_then(Value::as_str), Some("bob"));
    assert_eq!(state.get("grace"), Some(&Value::Int(9)));
    assert_eq!(state.get("now"), Some(&Value::Int(2000)));
    assert_eq!(state.get("label"), Some(&Value::text("new")));
    assert_eq!(state.get("rate"), Some(&Value::Int(10)));
    let end = [message(Some(ada), 8, &b""[..])];
    assert_eq!(game.tick(&mut desk, 7, &end).unwrap().value, Left::Ended);
}

#[test]
fn a_callback_that_fails_leaves_what_it_did() {
    let (mut game, _, mut desk) = begin(&format!("{BASE} return M")).unwrap();
    let bad = [Message { sender: None, op: 9, data: b"z", tick: 1 }];
    for tick in 0..3 {
        let error = game.tick(&mut desk, tick, &bad).unwrap_err();
        assert_eq!(error.to_string(), "scripts/a.lua:8: told to");
        assert_eq!(error.traceback, ["[C] in error", "scripts/a.lua:8 in match_loop"]);
    }
    game.tick(&mut desk, 3, &[]).unwrap();
    let state = game.state().unwrap();
    let log = ["0?9z1", "1?9z1", "2?9z1"];
    assert_eq!(state.get("log"), Some(&Value::List(log.iter().map(Value::text).collect())));
    // Without the callbacks that may be missing.
    assert_eq!(game.join_attempt(&mut desk, person(1, "a"), &Value::Nil).unwrap(), Ok(()));
    assert_eq!(game.signal(&mut desk, &Value::Nil).unwrap(), Value::Nil);
    game.terminate(&mut desk, 1).unwrap();
}

#[test]
fn a_sender_has_one_table_until_it_leaves() {
    let text = format!(
        "{BASE} function M.match_loop(ctx, state, tick, messages)
          for _, m in ipairs(messages) do state.same = state.last == m.sender; state.last = m.sender end return state end return M"
    );
    let (mut game, _, mut desk) = begin(&text).unwrap();
    let ada = person(1, "ada");
    let message = [Message { sender: Some(ada), op: 1, data: b"", tick: 0 }];
    let same = |game: &mut Game| game.state().unwrap().get("same").cloned();
    game.join(&mut desk, &[ada]).unwrap();
    game.tick(&mut desk, 0, &message).unwrap();
    game.tick(&mut desk, 1, &message).unwrap();
    assert_eq!(same(&mut game), Some(Value::Bool(true)));
    game.leave(&mut desk, &[ada]).unwrap();
    game.tick(&mut desk, 2, &message).unwrap();
    game.tick(&mut desk, 3, &message).unwrap();
    assert_eq!(same(&mut game), Some(Value::Bool(false)));
}

#[test]
fn contracts_are_checked() {
    let init = |body: &str| {
        BASE.replacen("{ state = { log = {}, n = params.size }, tick_rate = 10, label = { mode = 'x' }, max_players = 4 }", body, 1) + " return M"
    };
    for (text, sentence) in [
        ("return {}".to_owned(), "match_init is missing: a match module returns a table that has it"),
        (
            format!("{BASE} M.match_leave = nil return M"),
            "match_leave is missing: a match module returns a table that has it",
        ),
        (init("nil"), "match_init returned nil, not a table with state and tick_rate"),
        (init("{ tick_rate = 10 }"), "match_init returned no state"),
        (init("{ state = {} }"), "match_init returned no tick_rate from 1 to 128"),
        (
            init("{ state = {}, tick_rate = 129 }"),
            "match_init returned tick_rate = 129: it is a whole number and goes from 1 to 128",
        ),
        (
            init("{ state = {}, tick_rate = 1, label = 5 }"),
            "match_init returned a label that is neither a string nor a table",
        ),
        (
            init("{ state = {}, tick_rate = 1, label = { print } }"),
            "match_init returned a label with a function is not plain data at 1",
        ),
        (
            init("{ state = {}, tick_rate = 1, max_players = 0 }"),
            "match_init returned a max_players that is not a positive integer",
        ),
    ] {
        let error = begin(&text).err().unwrap();
        assert_eq!(error.to_string(), format!("scripts/a.lua: {sentence}"));
        assert_eq!(error.kind, ErrorKind::Contract);
    }
    let mut vm =
        Vm::new(config(1, &[("lib.lua", "return {}"), ("half.lua", "return { match_loop = print }")]))
            .unwrap();
    let mut desk = Desk::default();
    for (path, missing) in
        [("lib.lua", None), ("half.lua", Some(vec!["match_init", "match_join", "match_leave"]))]
    {
        let module = vm.load(&mut desk, path).unwrap().value;
        let has = |callback: Callback| vm.function(&module, callback.name()).map(|found| found.is_some());
        assert_eq!(Callback::missing(has).unwrap(), missing);
    }
}

fn sample(name: &str) -> String {
    let path = format!("{}/../../scripts/matches/{name}.lua", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Plays the arena for a while: hashes, fuel and everything sent, tick by tick.
fn play(seed: u64) -> Vec<(u64, i64, usize)> {
    let (mut game, begun, mut desk) = begin_at(seed, "matches/arena.lua", &sample("arena")).unwrap();
    desk.answer = Some(Ok(Value::List(Vec::new())));
    assert_eq!(begun.tick_rate, 30);
    let names: Vec<String> = (0..10).map(|i| format!("bot{i}")).collect();
    let people: Vec<Presence<'_>> = names.iter().zip(1..).map(|(name, id)| person(id, name)).collect();
    game.join(&mut desk, &people).unwrap();
    let mut log = Vec::new();
    for tick in 0..150_u64 {
        let data = [[tick as u8, 3], [0, 250]];
        let batch: Vec<Message<'_>> = people
            .iter()
            .enumerate()
            .map(|(i, sender)| Message {
                sender: Some(*sender),
                op: if (tick as usize + i).is_multiple_of(17) { 2 } else { 1 },
                data: &data[i % 2],
                tick: tick.cast_signed(),
            })
            .collect();
        let Called { value, fuel } = game.tick(&mut desk, tick, &batch).unwrap();
        assert_eq!(value, Left::Running);
        game.vm().rest(tick);
        log.push((
            game.hash().hash,
            fuel,
            desk.broadcasts.iter().map(|broadcast| broadcast.data.len()).sum(),
        ));
    }
    log
}

#[test]
fn the_arena_plays_the_same_twice() {
    let (first, second) = (play(1), play(1));
    assert_eq!(first, second);
    assert!(first.iter().all(|(_, fuel, _)| *fuel < 20_000), "{:?}", first.iter().map(|(_, f, _)| f).max());
    // Another seed moves tables about, and a sample must not let players see that.
    let states =
        |log: &[(u64, i64, usize)]| log.iter().map(|(hash, _, sent)| (*hash, *sent)).collect::<Vec<_>>();
    assert_eq!(states(&first), states(&play(2)));
}

#[test]
fn tictactoe_begins() {
    let (mut game, begun, mut desk) = begin_at(1, "matches/tictactoe.lua", &sample("tictactoe")).unwrap();
    assert!((1..=128).contains(&begun.tick_rate));
    game.join(&mut desk, &[person(1, "ada")]).unwrap();
    game.tick(&mut desk, 0, &[]).unwrap();
    assert!(matches!(game.state().unwrap(), Value::Map(_)));
}

#[test]
fn a_large_state_leaves_no_room_for_garbage_and_needs_none() {
    // Over half of the limit is live, and every callback leaves garbage.
    let text = "local M = {}
        function M.match_init() local s = {} for i = 1, 72 do s[i] = ('x'):rep(128 * 1024) .. i end
          return { state = s, tick_rate = 10 } end
        local function work(s) for i = 1, 1500 do local p = { x = i, y = i } end return s end
        function M.match_join(_, s) return work(s) end
        function M.match_leave(_, s) return work(s) end
        function M.match_loop(_, s) return work(s) end
        function M.match_signal(_, s) return work(s), 1 end
        function M.match_join_attempt(_, s) return work(s), true end
        return M";
    let (mut game, _, mut desk) = begin(text).unwrap();
    let ada = person(1, "ada");
    for _ in 0..100 {
        assert_eq!(game.join_attempt(&mut desk, ada, &Value::Nil).unwrap(), Ok(()));
        game.join(&mut desk, &[ada]).unwrap();
        game.leave(&mut desk, &[ada]).unwrap();
        game.signal(&mut desk, &Value::Nil).unwrap();
    }
    for tick in 0..200 {
        game.tick(&mut desk, tick, &[]).unwrap();
    }
}

#[test]
fn memory_that_is_full_in_the_middle_of_a_tick_is_told_as_memory() {
    let text = "local M = {}
        function M.match_init() Big = ('x'):rep(100000) local s = {} for i = 1, 120000 do s[i] = { i } end
          return { state = s, tick_rate = 10 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s)
          for i = 1, 30 do local t = Big .. i end
          return s end
        return M";
    let mut config = config(7, &[("a.lua", text)]);
    config.limits.memory_bytes = 12 << 20;
    let mut desk = Desk::default();
    let vm = Vm::new(config).unwrap();
    let mut game = Game::begin(vm, &mut desk, "a.lua", &ctx(), &Value::Nil).unwrap().0;
    let error = game.tick(&mut desk, 1, &[]).unwrap_err();
    assert!(error.to_string().starts_with("scripts/a.lua:7: too little memory: "), "{error}");
    assert_eq!(error.traceback.last().unwrap(), "scripts/a.lua:7 in match_loop");
    assert_eq!(error.kind, ErrorKind::Fuel, "the machine is whole, and the room goes on");
}

#[test]
fn a_callback_that_forgets_the_state_does_not_lose_it() {
    let (mut game, _, mut desk) = begin(&format!(
        "{BASE} function M.match_signal(ctx, state, data) return 'reply' end
        function M.match_join_attempt(ctx, state, p, meta) return false, 'no' end
        function M.match_terminate(ctx, state) return 5 end return M"
    ))
    .unwrap();
    let before = game.state().unwrap();
    let error = game.signal(&mut desk, &Value::Nil).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Contract);
    assert_eq!(
        error.to_string(),
        "scripts/a.lua: match_signal returned a string where the state (a table) comes first: return state, reply"
    );
    let error = game.join_attempt(&mut desk, person(1, "ada"), &Value::Nil).unwrap_err();
    assert_eq!(
        error.message,
        "match_join_attempt returned a boolean where the state (a table) comes first: return state, accept, reason"
    );
    let error = game.terminate(&mut desk, 1).unwrap_err();
    assert_eq!(
        error.message,
        "match_terminate returned a number where the state (a table) comes first: return state"
    );
    assert_eq!(game.state().unwrap(), before);
}

#[test]
fn what_scripts_write_to_presences_is_state() {
    let hash = |team: &str| {
        let text = format!(
            "local M = {{}} function M.match_init() return {{ state = {{}}, tick_rate = 10 }} end
            function M.match_join(_, s, ps) ps[1].team = '{team}' return s end
            function M.match_leave(_, s) return s end function M.match_loop(_, s) return s end return M"
        );
        let (mut game, _, mut desk) = begin(&text).unwrap();
        game.join(&mut desk, &[person(1, "ada")]).unwrap();
        game.hash().hash
    };
    assert_eq!(hash("red"), hash("red"));
    assert_ne!(hash("red"), hash("sea"));
}
