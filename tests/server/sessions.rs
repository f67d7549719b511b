//! Sessions: resume, lost messages, silence, slow readers, and that nothing stays of those who went.

use kaos_kernel::settings::Settings;
use kaosnet::testing::{Event, Player, Setup, Test, server, server_of};

/// A match that counts what it hears of each name and says it back.
const ECHO: &str = "local M = {}
    function M.match_init() return { state = { heard = {}, left = {} }, tick_rate = 20, label = 'echo' } end
    function M.match_join(ctx, s) return s end
    function M.match_leave(ctx, s, ps) for _, p in ipairs(ps) do s.left[p.username] = p.reason end return s end
    function M.match_loop(ctx, s, tick, ms)
      for _, m in ipairs(ms) do
        local list = s.heard[m.sender.username] or {}
        s.heard[m.sender.username] = list
        list[#list + 1] = m.data
        kaos.broadcast(ctx.room_id, nil, m.data, nil, { op = 2 })
      end
      return s
    end
    return M";

/// A match that counts what it hears and what is missing of it.
const COUNT: &str = "local M = {}
    function M.match_init() return { state = { heard = 0, last = -1, gaps = 0 }, tick_rate = 10 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s, _, ms)
      for i = 1, #ms do
        local n = tonumber(ms[i].data)
        if n ~= s.last + 1 then s.gaps = s.gaps + 1 end
        s.heard, s.last = s.heard + 1, n
      end
      return s
    end
    return M";

fn numbers(data: Vec<(u16, Vec<u8>)>) -> Vec<u32> {
    data.into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).parse().expect("a number")).collect()
}

fn heard(t: &Test, name: &str) -> Vec<String> {
    let list = t.room("echo").state(&format!("/heard/{name}"));
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn say(player: &Player, from: u32, to: u32) {
    for n in from..to {
        player.send(1, n.to_string());
    }
}

#[test]
fn a_lost_connection_comes_back_to_its_seat_with_every_message_once_and_in_order() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    say(&ada, 0, 10);
    t.run_ms(200);
    bob.drop_connection();
    say(&ada, 10, 40);
    t.run_ms(1000);
    let mut said = numbers(ada.data_of(2));
    assert!(ada.events().contains(&Event::Changed(vec![("bob".into(), false)])));
    // Bob speaks into a dead connection: his client keeps it.
    say(&bob, 0, 5);
    t.run_ms(2000);
    bob.resume().expect("within the seat's time");
    t.run_ms(200);
    say(&ada, 40, 50);
    say(&bob, 5, 8);
    t.run_ms(500);
    let ada_said: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(heard(&t, "ada"), ada_said);
    assert_eq!(heard(&t, "bob"), (0..8).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(numbers(bob.data_of(2)).len(), 58);
    said.extend(numbers(ada.data_of(2)));
    assert_eq!(said, (0..40).chain(0..5).chain(40..50).chain(5..8).collect::<Vec<u32>>());
    assert_eq!(t.room("echo").state("/left"), serde_json::json!({}), "nobody left");
    t.replays_equally();
}

#[test]
fn the_same_test_is_the_same_run_whether_quiet_frames_are_skipped_or_not() {
    let run = |setup: Setup| {
        let mut t = setup.seed(5).start();
        let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
        say(&ada, 0, 10);
        t.run_ms(2500);
        bob.drop_connection();
        t.run_ms(1300);
        bob.resume().expect("within the seat's time");
        ada.send_raw(vec![9, 0, 0]);
        t.run_ms(2500);
        bob.end();
        t.run_ms(1000);
        let hashes = t.with_server(|server| (server.outputs_hash(), server.state_hash()));
        (t.journal(), hashes)
    };
    let echo = || server_of([("matches/echo.lua", ECHO)]);
    let (journal, hashes) = run(echo());
    assert_eq!(run(echo()), (journal, hashes));
    assert_eq!(run(echo().skipping()).1, hashes);
}

#[test]
fn what_a_client_had_received_is_not_lost_though_the_keep_dropped_it() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).set("session.resend_bytes", 8 * 1024).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    bob.stop_acknowledging();
    say(&ada, 0, 40);
    t.run_ms(500);
    assert_eq!(bob.data_of(2).len(), 40, "received and not acknowledged");
    bob.drop_connection();
    say(&ada, 40, 80);
    t.run_ms(500);
    bob.events();
    bob.resume().expect("within the seat's time");
    t.run_ms(500);
    let events = bob.events();
    let came = events.iter().filter(|event| matches!(event, Event::Data(..))).count() as u64;
    let lost: u64 =
        events.iter().map(|event| if let Event::State(state) = event { state.lost } else { 0 }).sum();
    assert_eq!(lost + came, 40);
    assert!(came > 0 && lost < 40, "{lost} lost, {came} came");
    t.replays_equally();
}

#[test]
fn what_a_client_said_while_it_was_away_arrives_whatever_a_rooms_inbox_holds() {
    let mut t = server_of([("matches/count.lua", COUNT)]).set("match.fuel", 10_000_000).skipping().start();
    let (ada, bob) = (t.join("count", "ada"), t.join("count", "bob"));
    ada.drop_connection();
    // 240 a second, which a session may send, for the 30 s that its seat waits.
    say(&ada, 0, 7200);
    t.run_ms(29_000);
    ada.resume().expect("within the seat's time");
    t.run_ms(1000);
    assert_eq!(t.room("count").state(""), serde_json::json!({ "heard": 7200, "last": 7199, "gaps": 0 }));
    assert_eq!((ada.ended(), bob.ended()), (None, None));
    assert!(!ada.events().iter().any(|event| matches!(event, Event::Refused(_))), "and nothing was refused");
    t.replays_equally();
}

#[test]
fn a_second_resume_soon_after_the_first_loses_nothing_either() {
    let mut t = server_of([("matches/count.lua", COUNT)]).set("match.fuel", 10_000_000).skipping().start();
    let ada = t.join("count", "ada");
    ada.drop_connection();
    t.frames(1);
    ada.resume().expect("within the seat's time");
    ada.drop_connection();
    say(&ada, 0, 1500);
    // What is sent again arrives five seconds after the first resume.
    t.frames(9998);
    ada.resume().expect("within the seat's time");
    t.run_ms(1000);
    assert_eq!(t.room("count").state(""), serde_json::json!({ "heard": 1500, "last": 1499, "gaps": 0 }));
    t.replays_equally();
}

#[test]
fn a_seat_that_waits_too_long_is_given_up_and_its_token_is_worthless() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).set("session.seat_ms", 2000).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    let before = t.population();
    bob.drop_connection();
    t.run_ms(1900);
    assert_eq!(t.room("echo").members(), ["ada", "bob"]);
    t.run_ms(200);
    assert_eq!(t.room("echo").members(), ["ada"]);
    assert_eq!(t.room("echo").state("/left/bob"), "disconnected");
    assert_eq!(ada.events().pop(), Some(Event::Left(vec![("bob".into(), "disconnected".into())])));
    assert_eq!(bob.resume(), Err("cannot_resume".into()));
    assert_eq!(t.population().sessions, before.sessions - 1);
    t.replays_equally();
}

#[test]
fn a_resume_takes_the_session_from_a_connection_that_still_lives() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).start();
    let ada = t.join("echo", "ada");
    let peers = t.population().peers;
    ada.resume().expect("another door");
    t.run_ms(100);
    assert_eq!(t.population().peers, peers, "the old connection is closed");
    say(&ada, 0, 3);
    t.run_ms(200);
    assert_eq!(numbers(ada.data_of(2)), [0, 1, 2]);
    t.replays_equally();
}

#[test]
fn a_keep_that_overflows_drops_room_data_and_says_so() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).set("session.resend_bytes", 16 * 1024).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    t.run_ms(1500);
    bob.events();
    bob.drop_connection();
    for round in 0..20 {
        say(&ada, round * 20, round * 20 + 20);
        t.run_ms(200);
    }
    bob.resume().expect("within the seat's time");
    t.run_ms(300);
    let events = bob.events();
    let lost: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::State(state) => Some(state.lost),
            _ => None,
        })
        .collect();
    let data = events.iter().filter(|event| matches!(event, Event::Data(..))).count() as u64;
    assert_eq!(lost.len(), 1, "one fresh state: {events:?}");
    assert!(lost[0] > 0);
    assert_eq!(lost[0] + data, 400, "what was lost and what came are all there was");
    t.replays_equally();
}

#[test]
fn a_connection_that_starts_no_session_is_closed_after_five_seconds() {
    let mut t = server_of([]).start();
    let stranger = t.stranger();
    t.run_ms(4_990);
    assert_eq!(stranger.ended(), None);
    t.run_ms(20);
    assert_eq!(stranger.ended(), Some("timed_out".into()));
    // The bound is a setting, and each connection has its own time.
    let mut t = server_of([]).set("session.start_ms", 100).start();
    let first = t.stranger();
    t.run_ms(60);
    let second = t.stranger();
    t.run_ms(60);
    assert_eq!((first.ended(), second.ended()), (Some("timed_out".into()), None));
    t.run_ms(60);
    assert_eq!(second.ended(), Some("timed_out".into()));
    t.replays_equally();
}

#[test]
fn a_silent_client_is_lost_and_keeps_its_seat_for_a_while() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    bob.play_dead();
    t.run_ms(10_500);
    assert!(ada.events().contains(&Event::Changed(vec![("bob".into(), false)])));
    assert_eq!(bob.ended(), Some("timed_out".into()));
    assert_eq!(t.room("echo").members(), ["ada", "bob"], "the seat is held");
    t.run_ms(30_000);
    assert_eq!(t.room("echo").members(), ["ada"]);
    t.replays_equally();
}

#[test]
fn a_reader_that_acknowledges_nothing_is_closed_as_slow() {
    let flood = "local M = {}
        local big = ('x'):rep(1000)
        function M.match_init() return { state = {}, tick_rate = 20 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s) kaos.broadcast(ctx.room_id, nil, big) return s end
        return M";
    let settings = |s: &mut Settings| {
        s.set("session.resend_bytes", 32 * 1024);
        s.set("session.slow_reader_ms", 2000);
        s.set("session.idle_ms", 60_000);
    };
    let mut t = server_of([("matches/flood.lua", flood)]).settings(settings).start();
    let (ada, bob) = (t.join("flood", "ada"), t.join("flood", "bob"));
    bob.stop_acknowledging();
    t.run_ms(8000);
    assert_eq!(bob.ended(), Some("slow_reader".into()));
    assert_eq!(ada.ended(), None);
    t.replays_equally();
}

#[test]
fn goodbye_gives_the_seat_up_at_once() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    bob.end();
    t.run_ms(100);
    assert_eq!(t.room("echo").members(), ["ada"]);
    assert_eq!(ada.events().pop(), Some(Event::Left(vec![("bob".into(), "left".into())])));
    t.replays_equally();
}

#[test]
fn a_thousand_that_die_in_rounds_leave_nothing_behind() {
    let settings = |s: &mut Settings| {
        s.set("session.seat_ms", 500);
        s.set("room.empty_ms", 500);
        s.set("limit.address_starts", 100_000);
        s.set("limit.address_starts_burst", 100_000);
        s.set("limit.address_peers_max", 100_000);
    };
    let mut t = server("scripts").settings(settings).skipping().start();
    let empty = t.population();
    for round in 0..20 {
        let players: Vec<Player> = (0..50).map(|n| t.join("arena", &format!("r{round}p{n}"))).collect();
        t.run_ms(300);
        for player in &players {
            player.drop_connection();
        }
        t.run_ms(3000);
        assert_eq!(t.population(), empty, "after round {round}");
    }
    t.replays_equally();
}

#[test]
fn the_anonymous_are_different_users_whatever_they_call_themselves() {
    let mut t = server_of([]).set("limit.user_sessions_max", 1).start();
    let (ada, other) = (t.connect("ada"), t.connect("ada"));
    assert_eq!((ada.ended(), other.ended()), (None, None));
    t.replays_equally();
}

#[test]
fn a_connection_that_died_unnoticed_under_traffic_is_lost_and_not_slow() {
    let mut t = server_of([("matches/echo.lua", ECHO)]).set("session.resend_bytes", 8 * 1024).start();
    let (ada, bob) = (t.join("echo", "ada"), t.join("echo", "bob"));
    t.run_ms(1500);
    // As UDP dies: the server's messages go nowhere and nothing is heard.
    bob.play_dead();
    for round in 0..30 {
        say(&ada, round * 20, round * 20 + 20);
        t.run_ms(100);
    }
    assert!(ada.events().contains(&Event::Changed(vec![("bob".into(), false)])), "the seat is held");
    bob.resume().expect("and can be taken again");
    t.run_ms(200);
    let events = bob.events();
    let lost = events.iter().find_map(|event| match event {
        Event::State(state) if state.lost > 0 => Some(state.lost),
        _ => None,
    });
    let came = events.iter().filter(|event| matches!(event, Event::Data(..))).count() as u64;
    assert_eq!(lost.map(|lost| lost + came), Some(600), "what was lost and what came are all there was");
    t.replays_equally();
}
