//! The sample scripts, played: each is also what a reader copies first.

use kaosnet::testing::{Event, server, server_of};
use serde_json::{Value as Json, json};

#[test]
fn two_shots_kill() {
    let mut t = kaosnet::testing::server("scripts").seed(7).start();
    let (ada, _bob) = (t.join("arena", "ada"), t.join("arena", "bob"));
    ada.send(2, b"fire");
    t.ticks(1);
    ada.send(2, b"fire");
    t.ticks(1);
    assert_eq!(t.room("arena").state("/players/bob/alive"), false);
    t.replays_equally(); // same inputs, fresh server: same outputs, same state
}

#[test]
fn the_readmes_first_match_counts() {
    let readme = include_str!("../../README.md");
    let lua =
        readme.split("```lua\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a match in Lua");
    let mut t = server_of([("matches/counter.lua", lua)]).start();
    let (ada, bob) = (t.join("counter", "ada"), t.join("counter", "bob"));
    ada.send(1, "up");
    t.ticks(2);
    bob.send(1, "up");
    t.ticks(2);
    let said = [(65535, b"ada made it 1".to_vec()), (65535, b"bob made it 2".to_vec())];
    assert_eq!((ada.data_of(0), bob.data_of(0)), (said.to_vec(), said.to_vec()));
    t.replays_equally();
}

#[test]
fn movement_in_the_arena_is_held_inside() {
    let mut t = server("scripts").start();
    let ada = t.join("arena", "ada");
    ada.send(1, [127u8]);
    t.ticks(200);
    assert_eq!(t.room("arena").state("/players/ada/x"), 1000);
    ada.send(1, [(-5i8).to_le_bytes()[0]]);
    t.ticks(10);
    let x = t.room("arena").state("/players/ada/x").as_i64().expect("a place");
    assert!((945..=960).contains(&x), "{x}");
    let states = ada.data_of(1);
    assert!(states.len() > 190, "one state a tick: {}", states.len());
    t.replays_equally();
}

#[test]
fn an_arena_takes_ten_and_the_eleventh_gets_another() {
    let mut t = server("scripts").start();
    let players: Vec<_> = (0..11).map(|n| t.join("arena", &format!("p{n}"))).collect();
    t.ticks(2);
    assert_eq!(t.population().rooms, 2);
    let labels = t.call(Some("u"), "room.list", json!({ "label": { "open": true } })).expect("listed");
    assert_eq!(labels.as_array().map(Vec::len), Some(1));
    drop(players);
    t.replays_equally();
}

#[test]
fn the_arena_relays_shouts_and_echoes() {
    let mut t = server("scripts").start();
    let (ada, bob) = (t.join("arena", "ada"), t.join("arena", "bob"));
    ada.send(9, "hello");
    ada.send(3, "ping");
    t.ticks(2);
    assert_eq!(bob.data_of(9), [(0, b"hello".to_vec())]);
    assert_eq!(ada.data_of(3).len(), 1);
    assert_eq!(bob.data_of(3), []);
    t.replays_equally();
}

#[test]
fn tic_tac_toe_is_played_to_the_end_and_refuses_illegal_moves() {
    let mut t = server("scripts").start();
    let (ada, bob) = (t.join("tictactoe", "ada"), t.join("tictactoe", "bob"));
    t.ticks(2);
    let before = t.room("tictactoe").state("");
    // Bob is not on turn: nothing changes but what he is told.
    bob.events();
    bob.send(1, json!({ "cell": 1 }).to_string());
    t.ticks(2);
    let told: Vec<Event> = bob.events();
    assert!(told.iter().any(|event| matches!(event, Event::Data(..))), "he is told why: {told:?}");
    assert_eq!(t.room("tictactoe").state("/board"), before.pointer("/board").cloned().unwrap_or_default());
    for (player, cell) in [(&ada, 1), (&bob, 4), (&ada, 2), (&bob, 5), (&ada, 3)] {
        player.send(1, json!({ "cell": cell }).to_string());
        t.ticks(2);
    }
    let state = t.room("tictactoe").state("");
    assert!(state.to_string().contains("ada"), "{state}");
    t.replays_equally();
}

#[test]
fn the_echo_script_answers_over_every_door() {
    let mut t = server("scripts").start();
    let ada = t.connect("ada");
    assert_eq!(ada.rpc("echo", "hi").expect("answered"), b"hi");
    let reply = t.call(Some("u"), "rpc", json!({ "id": "echo", "payload": "hi" })).expect("answered");
    assert_eq!(reply, json!({ "payload": "hi" }));
    let reply = ada.call("rpc", &json!({ "id": "echo", "payload": "hi" })).expect("answered");
    assert_eq!(reply.get("payload"), Some(&Json::from("hi")));
    let missing = ada.rpc("ehco", "hi").expect_err("not there");
    assert_eq!(missing.message, "no script registers an rpc `ehco`. Did you mean `echo`?");
    t.replays_equally();
}
