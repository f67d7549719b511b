//! Rooms without a script: joining, relaying, leaving, ending.

use kaos_kernel::settings::Settings;
use kaos_wire::v1;
use kaosnet::testing::{Event, Player, server_of};
use serde_json::json;

fn relayed(max_players: u32) -> v1::RoomCreate {
    v1::RoomCreate { max_players, label: "lobby".into(), ..v1::RoomCreate::default() }
}

#[test]
fn join_or_create_finds_a_room_by_its_label_in_any_order_of_fields() {
    let source = "local M = {}
        function M.match_init(ctx, params)
          return { state = {}, tick_rate = 10, label = { mode = params.mode, open = true } }
        end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        return M";
    let mut t = kaosnet::testing::server_of([("matches/modes.lua", source)]).start();
    let join = |t: &mut kaosnet::testing::Test, name: &str, label: &str| {
        let request = kaos_wire::v1::RoomJoin {
            module: "modes".into(),
            params: r#"{"mode":"ctf"}"#.into(),
            label: label.into(),
            ..Default::default()
        };
        t.connect(name).join_with(request).expect("a seat")
    };
    let first = join(&mut t, "ada", r#"{"mode":"ctf","open":true}"#);
    let second = join(&mut t, "bob", r#"{ "open": true, "mode": "ctf" }"#);
    assert_eq!((first.created, second.created), (true, false));
    assert_eq!(first.room_id, second.room_id);
    t.replays_equally();
}

#[test]
fn a_relayed_room_passes_data_on_to_everyone_else_in_order() {
    let mut t = server_of([]).start();
    let (ada, bob, eve) = (t.connect("ada"), t.connect("bob"), t.connect("eve"));
    let room = ada.create(relayed(0)).expect("made");
    for player in [&ada, &bob] {
        player.join_id(&room).expect("joined");
    }
    for n in 0..20u8 {
        ada.send(n, [n]);
    }
    t.frames(2);
    let data: Vec<(u16, u8)> = bob
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Data(sender, op, data) if data == [op] => Some((sender, op)),
            _ => None,
        })
        .collect();
    assert_eq!(data, (0..20).map(|n| (0, n)).collect::<Vec<_>>());
    assert_eq!(ada.data_of(0), [], "a sender does not hear itself");
    assert_eq!(eve.events(), [], "nobody outside hears anything");
    bob.send_to(0, 7, "only ada");
    t.frames(2);
    assert_eq!(ada.data_of(7), [(1, b"only ada".to_vec())]);
    t.replays_equally();
}

#[test]
fn joining_tells_the_room_whole_and_the_others_who_came() {
    let mut t = server_of([]).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let room = ada.create(relayed(2)).expect("made");
    ada.join_id(&room).expect("joined");
    ada.events();
    let joined = bob.join_id(&room).expect("joined");
    assert_eq!((joined.index, joined.created), (1, false));
    assert_eq!(ada.events(), [Event::Joined(vec!["bob".into()])]);
    let [Event::State(state)] = &bob.events()[..] else { panic!("a state comes first") };
    let names: Vec<&str> = state.presences.iter().map(|p| p.username.as_str()).collect();
    assert_eq!((names, state.max_players, state.label.as_str()), (vec!["ada", "bob"], 2, "lobby"));
    let full = t.connect("eve").join_id(&room).expect_err("two seats");
    assert_eq!(full.kind.name(), "full");
    assert_eq!(ada.join_id(&room).expect_err("twice").kind.name(), "exists");
    bob.leave(&room).expect("leaves");
    assert_eq!(ada.events(), [Event::Left(vec![("bob".into(), "left".into())])]);
    t.replays_equally();
}

#[test]
fn a_room_that_a_client_made_ends_when_it_stays_empty() {
    let mut t = server_of([]).set("room.empty_ms", 1000).start();
    let ada = t.connect("ada");
    let room = ada.create(relayed(0)).expect("made");
    t.run_ms(500);
    ada.join_id(&room).expect("in time");
    t.run_ms(3000);
    ada.leave(&room).expect("still there");
    t.run_ms(990);
    assert_eq!(t.population().rooms, 1);
    t.run_ms(20);
    assert_eq!(t.population().rooms, 0);
    assert_eq!(ada.join_id(&room).expect_err("gone").kind.name(), "not_found");
    t.replays_equally();
}

#[test]
fn join_or_create_fills_rooms_before_it_makes_new_ones() {
    let source = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 5, max_players = 2 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        return M";
    let mut t = server_of([("matches/duel.lua", source)]).start();
    let created: Vec<bool> =
        (0..5).map(|n| t.connect(&format!("p{n}")).join("duel").expect("joined").created).collect();
    assert_eq!(created, [true, false, true, false, true]);
    assert_eq!(t.population().rooms, 3);
    let refused = t.connect("eve").join("dual").expect_err("no such match");
    assert_eq!(refused.message, "there is no match module `dual`. Did you mean `duel`?");
    t.replays_equally();
}

#[test]
fn who_may_make_rooms_is_a_setting() {
    for who in ["users", "server"] {
        let mut t = server_of([]).set("room.create", who).start();
        let refused = t.connect("ada").create(relayed(0)).expect_err("anonymous");
        assert_eq!(refused.kind.name(), "denied");
    }
}

#[test]
fn a_list_asks_by_label_and_size() {
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    for (label, joins) in [("{\"mode\":\"a\"}", true), ("{\"mode\":\"b\"}", false), ("text", false)] {
        let room =
            ada.create(v1::RoomCreate { label: label.into(), ..v1::RoomCreate::default() }).expect("made");
        if joins {
            ada.join_id(&room).expect("joined");
        }
    }
    let count = |t: &mut kaosnet::testing::Test, query: serde_json::Value| {
        t.call(Some("u"), "room.list", query).expect("listed").as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(&mut t, serde_json::json!({})), 3);
    assert_eq!(count(&mut t, serde_json::json!({ "label": { "mode": "a" } })), 1);
    assert_eq!(count(&mut t, serde_json::json!({ "label": "text" })), 1);
    assert_eq!(count(&mut t, serde_json::json!({ "min_size": 1 })), 1);
    assert_eq!(count(&mut t, serde_json::json!({ "max_size": 0, "limit": 1 })), 1);
    let wrong = t.call(Some("u"), "room.list", serde_json::json!({ "limit": 0 })).expect_err("out of range");
    assert_eq!(wrong.message, "room.list: `limit` is 0, not an integer from 1 to 100");
}

#[test]
fn unreliable_data_over_its_bound_is_refused_whatever_the_transport() {
    let mut t = server_of([]).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let room = ada.create(relayed(0)).expect("made");
    let handle = ada.join_id(&room).expect("joined").handle as u8;
    bob.join_id(&room).expect("joined");
    let unreliable = |bytes: u16| {
        let length = (bytes + 5).to_le_bytes();
        [&[0x16, length[0], length[1], handle, 0, 0xff, 0xff, 9], &vec![7; usize::from(bytes)][..]].concat()
    };
    ada.send_raw(unreliable(1112));
    t.frames(2);
    assert_eq!(bob.data_of(9).len(), 1);
    // Refused by clients that are ours. Another could do so on a WebSocket, where nothing else would stop it.
    ada.events();
    ada.send_raw(unreliable(1113));
    t.frames(2);
    assert_eq!((ada.events(), bob.data_of(9)), (vec![Event::Refused("invalid".into())], vec![]));
    t.replays_equally();
}

#[test]
fn a_script_that_broadcasts_what_no_transport_carries_is_told_at_its_line() {
    let source = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 20 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s, tick)
          if tick == 1 then kaos.broadcast(ctx.room_id, nil, ('x'):rep(1112), nil, { op = 9, reliable = false }) end
          if tick == 2 then
            kaos.broadcast(ctx.room_id, nil, ('x'):rep(1113), nil, { op = 9, reliable = false })
          end
          return s
        end
        return M";
    let mut t = server_of([("matches/m.lua", source)]).start();
    let ada = t.join("m", "ada");
    t.ticks(5);
    assert_eq!(ada.data_of(9).len(), 1);
    let logs: Vec<String> = t.logs().into_iter().map(|log| log.text).collect();
    let [log] = &logs[..] else { panic!("one error: {logs:?}") };
    let sentence =
        "kaos.broadcast: data has 1113 bytes; it may have 1112 at most when it is not sent reliably";
    assert!(log.starts_with(&format!("scripts/matches/m.lua:8: {sentence}")), "{log}");
    t.replays_equally();
}

#[test]
fn a_room_that_asks_for_more_seats_than_the_server_gives_is_not_made() {
    let source = "local M = {}
        function M.match_init(_, params) return { state = {}, tick_rate = 20, max_players = params.seats } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(_, s) return s end
        return M";
    let mut t = server_of([("matches/m.lua", source)]).set("room.seats_max", 100).start();
    let ada = t.connect("ada");
    let join = |seats: u32| {
        ada.join_with(v1::RoomJoin {
            module: "m".into(),
            params: format!("{{\"seats\":{seats}}}"),
            ..v1::RoomJoin::default()
        })
    };
    let refused = [ada.create(relayed(101)).err(), join(101).err()].map(|fault| fault.expect("refused"));
    for fault in refused {
        assert_eq!(fault.kind.name(), "invalid");
        assert_eq!(fault.message, "max_players is 101: it goes from 1 to 100 (`room.seats_max`)");
    }
    assert_eq!(t.population().rooms, 0);
    ada.create(relayed(100)).expect("made");
    join(100).expect("made");
    t.replays_equally();
}

#[test]
fn a_session_and_an_address_make_so_many_rooms_and_no_more_until_some_end() {
    let settings = |s: &mut Settings| {
        s.set("limit.session_rooms_created_max", 3);
        s.set("limit.address_rooms_created_max", 5);
        s.set("room.empty_ms", 1000);
    };
    let other = "local M = {}
        function M.match_init() return { state = {}, tick_rate = 5 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s, tick)
            if tick == 1 then for _ = 1, 10 do kaos.room_create('') end end
            return s
        end
        return M";
    let mut t = server_of([("matches/other.lua", other)]).settings(settings).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let made: Vec<String> = (0..3).map(|_| ada.create(relayed(0)).expect("made")).collect();
    let refusals = [ada.create(relayed(0)).map(drop), ada.join("other").map(drop)];
    for refusal in refusals.map(|refusal| refusal.expect_err("enough")) {
        assert_eq!(refusal.kind.name(), "busy");
        assert!(refusal.message.contains("3 rooms"), "{refusal}");
    }
    ada.join_id(&made[0]).expect("what is there may be joined");
    bob.create(relayed(0)).expect("made");
    bob.join("other").expect("made");
    let refusal = bob.create(relayed(0)).expect_err("five of one address");
    assert!(refusal.message.contains("5 rooms"), "{refusal}");
    // What a script makes is the server's.
    t.run_ms(900);
    assert_eq!(t.population().rooms, 5 + 10);
    // Two of ada's rooms end, and bob's empty one.
    t.run_ms(2000);
    assert_eq!(t.population().rooms, 2 + 10);
    for _ in 0..2 {
        ada.create(relayed(0)).expect("room again");
    }
    bob.create(relayed(0)).expect("room again");
    ada.create(relayed(0)).expect_err("three again");
    t.replays_equally();
}

/// A match for two that does nothing.
const TWO_SEATS: &str = "local M = {}
    function M.match_init() return { state = {}, tick_rate = 5, max_players = 2 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s) return s end
    return M";

#[test]
fn a_frame_opens_few_matches_for_clients_and_the_rest_in_their_order() {
    let mut t = server_of([("matches/own.lua", TWO_SEATS)]).set("room.frame_openings_max", 4).start();
    let players: Vec<Player> = (0..10).map(|n| t.connect(&format!("p{n}"))).collect();
    let create = json!({ "module": "own" });
    let cids: Vec<Vec<u32>> = (0..3)
        .map(|_| players.iter().map(|player| player.start_call("room.create", &create)).collect())
        .collect();
    let mut answered = Vec::new();
    for frame in 1..=8 {
        t.frames(1);
        assert_eq!(t.population().rooms, 30.min(4 * frame), "frame {frame}");
        for cids in &cids {
            for (at, cid) in cids.iter().enumerate() {
                answered
                    .extend(players[at].answer(*cid).map(|answer| answer.map(|_| *cid * 100 + at as u32)));
            }
        }
    }
    let expected: Vec<_> = cids
        .iter()
        .flat_map(|cids| cids.iter().enumerate().map(|(at, cid)| Ok(*cid * 100 + at as u32)))
        .collect();
    assert_eq!(answered, expected, "in the order in which they were asked for");
    assert_eq!(t.population().waiting_calls, 0);
    t.replays_equally();
}

#[test]
fn who_waited_for_a_room_joins_the_one_that_others_made_meanwhile() {
    let mut t = server_of([("matches/own.lua", TWO_SEATS)]).set("room.frame_openings_max", 1).start();
    let players: Vec<Player> = (0..6).map(|n| t.connect(&format!("p{n}"))).collect();
    let fill = json!({ "module": "own", "max_players": 1 });
    let first = players[0].start_call("room.create", &fill);
    let joins: Vec<u32> =
        players.iter().map(|player| player.start_call("room.join", &json!({ "module": "own" }))).collect();
    t.frames(10);
    assert!(players[0].answer(first).is_some_and(|answer| answer.is_ok()));
    let joined = players.iter().zip(&joins).filter(|(p, cid)| p.answer(**cid).is_some_and(|a| a.is_ok()));
    assert_eq!(joined.count(), 6);
    assert_eq!(t.population().rooms, 3, "two seats each, and none is empty");
    t.replays_equally();
}

#[test]
fn a_match_reads_the_world_as_it_stood_when_the_stage_began_its_own_room_too() {
    let mirror = "local M = {}
        function M.match_init() return { state = { odd = 0, ticks = 0 }, tick_rate = 20 } end
        function M.match_join(_, s) return s end
        function M.match_leave(_, s) return s end
        function M.match_loop(ctx, s, tick)
          if tick > 0 and kaos.room_get(ctx.room_id).tick ~= tick - 1 then s.odd = s.odd + 1 end
          s.ticks = s.ticks + 1
          return s
        end
        return M";
    let mut t = server_of([("matches/mirror.lua", mirror)]).start();
    let _ada = t.join("mirror", "ada");
    t.run_ms(500);
    assert_eq!(t.room("mirror").state("/odd"), 0);
    assert!(t.room("mirror").state("/ticks").as_u64().is_some_and(|n| n >= 9));
    t.replays_equally();
}
