//! One bad room never touches another: errors, loops, patterns and memory, each beside a healthy neighbour.

use kaos_kernel::settings::Settings;
use kaosnet::testing::{Event, Setup, Test, server_of};

/// Counts its ticks and notes every gap.
const NEIGHBOUR: &str = "local M = {}
    function M.match_init() return { state = { ticks = 0, gaps = 0, last = -1 }, tick_rate = 60 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s, tick)
      s.ticks = s.ticks + 1
      if tick ~= s.last + 1 then s.gaps = s.gaps + 1 end
      s.last = tick
      return s
    end
    return M";

fn bad(work: &str) -> String {
    format!(
        "local M = {{}}
        function M.match_init() return {{ state = {{ n = 0 }}, tick_rate = 20 }} end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s, tick)
          s.n = s.n + 1
          {work}
          return s
        end
        return M"
    )
}

fn beside(
    work: &str,
    settings: impl FnOnce(&mut Settings),
) -> (Test, kaosnet::testing::Player, kaosnet::testing::Player) {
    let source = bad(work);
    let setup: Setup =
        server_of([("matches/neighbour.lua", NEIGHBOUR), ("matches/bad.lua", source.as_str())]);
    let mut t = setup.settings(settings).start();
    let (ada, bob) = (t.join("neighbour", "ada"), t.join("bad", "bob"));
    (t, ada, bob)
}

fn closed(events: Vec<Event>) -> Option<String> {
    events.into_iter().find_map(|event| match event {
        Event::Closed(reason) => Some(reason),
        _ => None,
    })
}

/// A room that fails in every tick: skipped ten times in a row, then ended; the neighbour misses nothing.
fn suffers_alone(work: &str, reason: &str) {
    let (mut t, ada, bob) = beside(work, |_| {});
    t.run_ms(2000);
    assert_eq!(closed(bob.events()).as_deref(), Some(reason), "{work}");
    assert_eq!((ada.ended(), bob.ended()), (None, None), "sockets stay open: {work}");
    let neighbour = t.room("neighbour").state("");
    assert_eq!(neighbour["gaps"], 0, "{work}");
    assert!(neighbour["ticks"].as_u64().is_some_and(|n| n > 115), "{neighbour}");
    let logs: Vec<String> = t.logs().into_iter().map(|log| log.text).collect();
    assert!(logs.iter().any(|text| text.contains("scripts/matches/bad.lua")), "{logs:?}");
    assert!(logs.iter().any(|text| text.contains("the room ends")), "{logs:?}");
    bob.join("neighbour").expect("and its players can go elsewhere");
    t.replays_equally();
}

#[test]
fn a_match_that_throws_suffers_alone() {
    suffers_alone("local nothing; nothing.field = 1", "script_error");
}

#[test]
fn a_match_that_loops_for_ever_suffers_alone() {
    suffers_alone("while true do end", "script_error");
}

#[test]
fn a_match_that_swallows_its_limit_suffers_alone() {
    suffers_alone("while true do pcall(function() while true do end end) end", "script_error");
}

#[test]
fn a_match_that_backtracks_in_a_pattern_suffers_alone() {
    suffers_alone("local _ = ('a'):rep(200):find(('a-'):rep(4) .. 'b')", "script_error");
}

#[test]
fn a_match_that_recurses_without_end_suffers_alone() {
    suffers_alone("local function f() return 1 + f() end f()", "script_error");
}

#[test]
fn a_match_that_eats_memory_ends_at_once() {
    let (mut t, ada, bob) = beside(
        "s.list = s.list or {}; local x = ('x'):rep(1 << 20); for i = 1, 64 do s.list[#s.list + 1] = x .. i end",
        |s| {
            s.set("match.fuel", 50_000_000);
        },
    );
    t.run_ms(1000);
    assert_eq!(closed(bob.events()).as_deref(), Some("out_of_memory"));
    assert_eq!((ada.ended(), bob.ended()), (None, None));
    assert_eq!(t.room("neighbour").state("/gaps"), 0);
    t.replays_equally();
}

#[test]
fn policy_end_ends_the_room_at_the_first_error() {
    let (mut t, _ada, bob) =
        beside("if s.n == 3 then error('enough') end", |s| s.set("match.on_error", "end"));
    t.run_ms(1000);
    assert_eq!(closed(bob.events()).as_deref(), Some("script_error"));
    t.replays_equally();
}

#[test]
fn policy_skip_keeps_the_state_as_the_callback_left_it_and_counts_in_a_row() {
    let (mut t, _ada, bob) = beside("if s.n % 5 ~= 0 then error('odd') end", |_| {});
    t.run_ms(3000);
    assert_eq!(closed(bob.events()), None, "four in a row are not ten");
    let n = t.room("bad").state("/n").as_u64().expect("counted");
    assert!(n >= 58, "every tick ran: {n}");
    let log = t.logs().into_iter().map(|log| log.text).find(|text| text.contains("odd")).expect("written");
    assert!(log.starts_with("scripts/matches/bad.lua:7: odd\n  in match_loop, room "), "{log}");
    assert!(
        log.contains("policy skip (1 of 10 in a row): the callback was abandoned, the room goes on"),
        "{log}"
    );
    t.replays_equally();
}

#[test]
fn a_match_that_cannot_begin_refuses_the_join_and_leaves_no_room() {
    let source = "local M = {}
        function M.match_init() error('not today') end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        return M";
    let mut t = server_of([("matches/never.lua", source)]).start();
    let refused = t.connect("ada").join("never").expect_err("match_init fails");
    assert_eq!(refused.kind.name(), "script");
    assert_eq!(t.population().rooms, 0);
    t.frames(2);
    assert!(t.logs().iter().any(|log| log.text.contains("scripts/matches/never.lua:2: not today")));
    t.replays_equally();
}

#[test]
fn a_match_that_returns_nil_is_over() {
    let (mut t, _ada, bob) = beside("if s.n == 5 then return nil end", |_| {});
    t.run_ms(1000);
    assert_eq!(closed(bob.events()).as_deref(), Some("ended"));
    t.replays_equally();
}

#[test]
fn a_room_that_the_watchdog_found_stuck_ends() {
    let (mut t, _ada, bob) = beside("", |_| {});
    let room = t.room("bad").id();
    t.input(kaos_kernel::input::Input::Stuck { room, ms: 1500 });
    t.frames(2);
    assert_eq!(closed(bob.events()).as_deref(), Some("stuck"));
    t.replays_equally();
}

#[test]
fn scripts_that_do_not_fit_stop_the_start_with_their_place() {
    let build = |path: &str, source: &str| match server_of([(path, source)]).try_start() {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let syntax = build("matches/a.lua", "local x = = 1");
    assert!(syntax.starts_with("scripts/matches/a.lua:1: "), "{syntax}");
    let lacks = build("matches/a.lua", "return { match_init = function() end }");
    assert!(lacks.contains("lacks match_join, match_leave, match_loop"), "{lacks}");
    let unknown = build("a.lua", "kaos.register_rpc('x', function()\n  kaos.room_creat('arena')\nend)");
    assert_eq!(
        unknown,
        "scripts/a.lua:2: there is no `kaos.room_creat`. Did you mean `kaos.room_create`?"
            .replace("`kaos.room_create`", "`room_create`")
    );
    let hook = build("a.lua", "kaos.register_before('room_jion', function(c, m) return m end)");
    assert_eq!(
        hook,
        "scripts/a.lua:1: a script registers a hook before `room_jion`, and no operation or event has that name. \
         Did you mean `room_join`?"
    );
    let idle = build("a.lua", "\nkaos.register_after('room_send', function() end)");
    assert!(
        idle.starts_with("scripts/a.lua:2: a script registers a hook after `room_send`, and only scripts"),
        "{idle}"
    );
    let lost = NEIGHBOUR.replace("local M = {}", "local M = {}\nkaos.register_rpc('x', function() end)");
    let lost = build("matches/a.lua", &lost);
    assert!(
        lost.starts_with("scripts/matches/a.lua:2: register_rpc of `x` in a match has no effect"),
        "{lost}"
    );
    let valid = "kaos.logger_info('see kaos.dev for help') --[[ kaos.creat()
        kaos.creat() ]] if kaos.storage_read then kaos.storage_read('x') end";
    assert_eq!(build("a.lua", valid), "");
    let twice =
        build("a.lua", "kaos.register_rpc('x', function() end)\nkaos.register_rpc('x', function() end)");
    assert!(twice.starts_with("scripts/a.lua:2: "), "{twice}");
}

#[test]
fn a_match_that_broadcasts_without_end_is_stopped_before_it_fills_the_memory() {
    let work = "local big = ('x'):rep(60000); for i = 1, 1000 do kaos.broadcast(ctx.room_id, nil, big) end";
    let (mut t, _ada, bob) = beside(work, |s| s.set("match.fuel", 50_000_000));
    t.run_ms(200);
    let log =
        t.logs().into_iter().map(|log| log.text).find(|text| text.contains("bad.lua")).expect("written");
    assert!(log.contains("one callback may broadcast 4096 times and 4 MiB"), "{log}");
    drop(bob);
    t.replays_equally();
}

#[test]
fn joins_that_fail_end_no_room_however_many_come() {
    let frail = "local M = {}
        function M.match_init() return { state = { n = 0 }, tick_rate = 10 } end
        function M.match_join(_, s, ps) if ps[1].username == 'mal' then error('frail') end return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) s.n = s.n + 1 return s end
        return M";
    let mut t = server_of([("matches/frail.lua", frail)]).start();
    let (ada, mal) = (t.join("frail", "ada"), t.connect("mal"));
    let room = t.room("frail").id().to_string();
    for _ in 0..30 {
        mal.join_id(&room).expect("the room is there");
        mal.leave(&room).expect("in it");
    }
    for _ in 0..12 {
        mal.join_id(&room).expect("the room is there");
        t.run_ms(100);
        mal.leave(&room).expect("in it");
    }
    assert_eq!(closed(ada.events()), None);
    assert!(t.room("frail").state("/n").as_u64().is_some_and(|n| n >= 12), "its ticks run");
    let logs: Vec<String> = t.logs().into_iter().map(|log| log.text).collect();
    assert!(logs.iter().any(|text| text.contains("policy skip: the callback was abandoned")), "{logs:?}");
    t.replays_equally();
}

/// Fails where a client asks it to: when it begins, when somebody comes, in each tick.
const FAILING: &str = "local M = {}
    function M.match_init(ctx, params)
      if params.at == 'init' then local x = nil + 1 end
      local rate = params.at == 'rate' and 500 or 20
      return { state = { at = params.at }, tick_rate = rate }
    end
    function M.match_join_attempt(_, s) if s.at == 'attempt' then error('closed today') end return s, true end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s) if s.at == 'loop' then local x = s.at.b.c end return s end
    return M";

#[test]
fn in_development_and_only_then_clients_are_told_the_errors_of_matches() {
    for dev in [true, false] {
        let setup = server_of([("matches/failing.lua", FAILING)]);
        let mut t = setup.set("dev", dev).set("match.on_error", "end").start();
        for (at, error) in [
            ("init", "scripts/matches/failing.lua:3: attempt to perform arithmetic on a nil value"),
            ("rate", "tick_rate = 500: it is a whole number and goes from 1 to 128"),
            ("attempt", "scripts/matches/failing.lua:7: closed today\n  in match_join_attempt"),
        ] {
            let request = kaos_wire::v1::RoomJoin {
                module: "failing".into(),
                params: format!(r#"{{"at":"{at}"}}"#),
                ..Default::default()
            };
            let refused = t.connect("ada").join_with(request).expect_err("it fails");
            assert_eq!(refused.kind.name(), "script");
            assert_eq!(refused.message.contains(error), dev, "{at}: {refused}");
            assert_eq!(refused.message.contains("the server's log has the details"), !dev, "{at}: {refused}");
        }
        let request = kaos_wire::v1::RoomJoin {
            module: "failing".into(),
            params: r#"{"at":"loop"}"#.into(),
            ..Default::default()
        };
        let eve = t.connect("eve");
        eve.join_with(request).expect("a seat");
        t.run_ms(200);
        let told = eve.closed_because().expect("the room ended");
        assert_eq!(told.contains("scripts/matches/failing.lua:10: attempt to index"), dev, "{told}");
        t.replays_equally();
    }
}

#[test]
fn a_match_that_forgets_to_return_its_state_says_so_in_the_log() {
    let source = bad("").replace("return s\n        end\n        return M", "end\n        return M");
    let mut t = server_of([("matches/bad.lua", source.as_str())]).start();
    let bob = t.join("bad", "bob");
    t.run_ms(200);
    assert_eq!(closed(bob.events()).as_deref(), Some("ended"));
    let logs = t.logs();
    let line =
        logs.iter().find(|log| log.text.starts_with("match_loop returned nil in tick 0")).expect("said");
    assert_eq!(line.level, kaos_kernel::output::Level::Info);
}

#[test]
fn errors_of_different_lines_are_all_written() {
    let (mut t, _ada, _bob) = beside(
        "if s.n % 2 == 0 then\n error('even') end\n if s.n % 3 == 0 then\n error('three') end",
        |_| {},
    );
    t.run_ms(900);
    let logs: Vec<String> = t.logs().into_iter().map(|log| log.text).collect();
    for word in ["even", "three"] {
        assert_eq!(logs.iter().filter(|text| text.contains(word)).count(), 1, "{word}: {logs:?}");
    }
}

#[test]
fn commands_that_fill_the_memory_are_stopped() {
    let work = "local big = ('x'):rep(900000); for i = 1, 10 do kaos.room_send(ctx.room_id, 1, big) end";
    let (mut t, _ada, bob) = beside(work, |s| s.set("match.fuel", 50_000_000));
    t.run_ms(200);
    let log =
        t.logs().into_iter().map(|log| log.text).find(|text| text.contains("bad.lua")).expect("written");
    assert!(log.contains("one callback may give 1024 commands and 4 MiB: go on in the next tick"), "{log}");
    drop(bob);
    t.replays_equally();
}
