//! The frame as a plugin author meets it: order, quiet frames, kicks, stopping.

use kaos_kernel::input::Input;
use kaos_kernel::prelude::*;
use kaos_wire::v1;
use kaosnet::testing::{Event, server, server_of};
use serde_json::json;

#[derive(Resource, Default)]
struct Seen(u64);

fn first(mut seen: ResMut<Seen>) {
    seen.0 += 1;
}

fn second(mut seen: ResMut<Seen>) {
    seen.0 *= 2;
}

#[test]
fn two_systems_without_an_order_stop_the_start_with_one_sentence() {
    let clash = |app: &mut App| {
        app.init_resource::<Seen>().add_systems(Frame, (first, second).in_set(Stage::Match));
    };
    let error = server_of([]).plugins(clash).try_start().err().expect("no order").to_string();
    assert!(error.contains("frames::first`") && error.contains("frames::second`"), "{error}");
    assert!(error.contains("Seen`") && error.contains(".before(…)"), "{error}");
    let ordered = |app: &mut App| {
        app.init_resource::<Seen>().add_systems(Frame, (first, second).chain().in_set(Stage::Match));
    };
    assert!(server_of([]).plugins(ordered).try_start().is_ok());
}

#[test]
fn an_operation_registered_twice_stops_the_start() {
    let twice = |app: &mut App| {
        app.op(Op::new("room.join").price(1), async |_: Call, _: ()| Ok(()));
    };
    let error = server_of([]).plugins(twice).try_start().err().expect("taken").to_string();
    assert!(error.contains("op room.join: registered twice"), "{error}");
}

#[test]
fn a_plugin_that_acts_in_a_quiet_frame_is_named() {
    let noisy = |app: &mut App| {
        app.init_resource::<Seen>().add_systems(Frame, first.in_set(Stage::Match));
    };
    let mut t = server_of([]).plugins(noisy).start();
    t.frames(5);
    let noise = t.with_server(|server| server.noise().to_vec());
    assert!(noise.iter().any(|line| line.contains("frames::first`") && line.contains("Seen`")), "{noise:?}");
}

#[test]
fn a_plugin_on_the_grid_is_quiet_and_runs_when_due() {
    let calm = |app: &mut App| {
        app.init_resource::<Seen>().add_systems(Frame, first.in_set(Stage::Match).run_if(every_ms(1000)));
    };
    for setup in [server_of([]).plugins(calm), server_of([]).plugins(calm).skipping()] {
        let mut t = setup.start();
        t.run_ms(5500);
        assert_eq!(t.with_server(|server| server.world().resource::<Seen>().0), 6);
        t.replays_equally();
    }
}

#[derive(Component, Default)]
struct Strikes(u32);

fn kick_afk(clock: Res<Clock>, mut sessions: Query<(&Session, &mut Strikes)>, mut kicks: Kicks) {
    for (session, mut strikes) in &mut sessions {
        if clock.frame() - session.last_input > clock.frames_in_secs(3) {
            strikes.0 += 1;
            kicks.kick(session.id, "afk");
        }
    }
}

#[test]
fn a_kick_from_a_system_ends_a_session_with_a_reason() {
    let afk = |app: &mut App| {
        app.register_required_components::<Session, Strikes>()
            .add_systems(Frame, kick_afk.in_set(Stage::Match).run_if(every_ms(1000)));
    };
    let mut t = server("scripts").plugins(afk).start();
    let (ada, bob) = (t.join("arena", "ada"), t.join("arena", "bob"));
    // Bob's client sends its heartbeats, and Bob does nothing.
    for _ in 0..5 {
        ada.send(1, [1u8]);
        t.run_ms(1000);
    }
    assert_eq!((ada.ended(), bob.ended()), (None, Some("kicked".into())));
    assert!(ada.events().contains(&Event::Left(vec![("bob".into(), "kicked".into())])));
    t.replays_equally();
}

#[test]
fn stopping_tells_matches_then_clients_then_ends() {
    let source = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 5 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        function M.match_terminate(ctx, s, grace) kaos.broadcast(ctx.room_id, nil, 'bye ' .. grace, nil, { op = 7 }) return s end
        return M";
    let mut t = server_of([("matches/m.lua", source)]).start();
    let ada = t.join("m", "ada");
    t.stop();
    assert!(t.is_stopped());
    assert_eq!(ada.data_of(7), [(65535, b"bye 5".to_vec())]);
    assert_eq!(ada.ended(), Some("stopping".into()));
    assert_eq!(ada.events().pop(), Some(Event::Closed("stopping".into())));
    let left = t.population();
    assert_eq!((left.sessions, left.rooms, left.presences), (0, 0, 0));
    t.replays_equally();
}

#[test]
fn a_stop_ends_few_rooms_in_a_frame() {
    // Every match_terminate uses up its fuel: forty of them in one frame would be forty ticks at once.
    let source = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 5 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        function M.match_terminate(ctx, s, grace) kaos.broadcast(ctx.room_id, nil, 'bye', nil, { op = 7 }) while true do end end
        return M";
    let mut t = server_of([("matches/m.lua", source)]).set("limit.session_rooms_created_max", 40).start();
    let ada = t.join("m", "ada");
    for _ in 1..40 {
        t.run_ms(100);
        ada.create(v1::RoomCreate { module: "m".into(), ..Default::default() }).expect("made");
    }
    assert_eq!(t.population().rooms, 40);
    t.input(Input::Stop { grace_s: 5 });
    let mut left = Vec::new();
    while t.population().rooms > 0 {
        t.frames(1);
        left.push(t.population().rooms);
    }
    assert_eq!(left, [24, 8, 0]);
    while !t.is_stopped() {
        t.frames(1);
    }
    assert_eq!(ada.data_of(7).len(), 1);
    assert_eq!(ada.ended(), Some("stopping".into()));
    let errors = t.logs().iter().filter(|log| log.text.contains("out of fuel: match_terminate")).count();
    assert_eq!(errors, 40);
    t.replays_equally();

    // Where callbacks may use more, fewer end at once.
    for (fuel, at_once) in [(400_000, 4), (1_700_000, 1)] {
        let mut t = server_of([("matches/m.lua", source)]).set("match.fuel", fuel).start();
        let ada = t.join("m", "ada");
        for _ in 1..6 {
            ada.create(v1::RoomCreate { module: "m".into(), ..Default::default() }).expect("made");
        }
        t.input(Input::Stop { grace_s: 5 });
        t.frames(1);
        assert_eq!(t.population().rooms, 6 - at_once);
        t.stop();
        assert!(t.is_stopped());
    }
}

#[test]
fn the_order_of_the_frame_is_the_golden_one() {
    let mut t = server("scripts").start();
    let listing = t.with_server(|server| server.listing());
    let path = "tests/data/frame.txt";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &listing).expect("writable");
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(listing, golden, "UPDATE=1 cargo test rewrites {path}");
}

#[test]
fn seeds_decide_and_nothing_else_does() {
    let run = |seed: u64| {
        let mut t = server("scripts").seed(seed).start();
        let ada = t.join("arena", "ada");
        ada.send(1, [5u8]);
        ada.rpc("echo", "x").expect("answered");
        t.run_ms(1000);
        t.with_server(|server| (server.outputs_hash(), server.state_hash()))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn rate_limits_are_told_and_pass_again() {
    let mut t = server("scripts").start();
    let ada = t.join("arena", "ada");
    let flood = (0..1000).filter(|_| ada.call("room.list", &json!({ "limit": 1 })).is_err()).count();
    assert!(flood > 0, "a thousand calls at once are too many");
    t.run_ms(3000);
    assert!(ada.call("room.list", &json!({ "limit": 1 })).is_ok());
    assert_eq!(ada.ended(), None);
    t.replays_equally();
}

#[test]
fn a_match_that_was_late_is_told_how_many_ticks_were_left_out() {
    let late = "local M = {}
        function M.match_init(ctx) return { state = { told = {}, before = ctx.skipped == nil }, tick_rate = 20 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s, tick)
          if ctx.skipped ~= 0 then s.told[#s.told + 1] = { tick = tick, skipped = ctx.skipped } end
          s.last = tick
          return s
        end
        return M";
    let setup = server_of([("matches/late.lua", late)]).set("room.lag_ticks_max", 5).skipping();
    let mut t = setup.start();
    let _ada = t.join("late", "ada");
    t.run_ms(500);
    let last = t.room("late").state("/last").as_u64().expect("it ticked");
    // The machine was busy with something else for a second.
    t.miss(2000);
    t.run_ms(500);
    let told = t.room("late").state("/told");
    let (tick, skipped) = (told[0]["tick"].as_u64(), told[0]["skipped"].as_u64());
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    assert!(skipped.is_some_and(|skipped| (19..=20).contains(&skipped)), "{told}");
    assert_eq!(tick, skipped.map(|skipped| last + 1 + skipped));
    t.replays_equally();
}
