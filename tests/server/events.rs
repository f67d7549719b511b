//! Features speak: an event goes to a session, a user, a room or whatever a feature names, over every door, by its name.

use kaosnet::prelude::*;
use kaosnet::testing::{Event as Heard, Player, server_of};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Rang {
    times: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Moved {
    text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Ring {
    to: Target,
    times: u32,
}

#[derive(Resource, Default)]
struct Party(Vec<SessionId>);

async fn ring(cx: Call, request: Ring) -> Result<usize, Fault> {
    cx.with(|world| push(world, &request.to, Rang { times: request.times })).map(|pushed| pushed.sessions)
}

async fn move_text(cx: Call, bytes: usize) -> Result<usize, Fault> {
    let id = cx.session()?.id;
    let moved = Moved { text: "x".repeat(bytes) };
    cx.with(|world| push(world, &Target::Session(id), moved)).map(|pushed| pushed.sessions)
}

async fn listen(cx: Call, _: ()) -> Result<(), Fault> {
    let id = cx.session()?.id;
    cx.with(|world| world.resource_mut::<Party>().0.push(id));
    Ok(())
}

async fn close(cx: Call, room: RoomId) -> Result<(), Fault> {
    cx.with(|world| kaos_rooms::close_room(world, room, kaos_rooms::RoomClosed::well("over", "")));
    Ok(())
}

/// Pushes from a system, to whoever is in the party, once a second.
fn toll(party: Res<Party>, mut push: Push) {
    if !party.0.is_empty() {
        let to = Target::Named { kind: "party".into(), id: "all".into() };
        push.push(to, Rang { times: 12 }).expect("registered");
    }
}

fn bells(app: &mut App) {
    app.init_resource::<Party>()
        .event::<Rang>(Event::new("bell.rang").about("A bell rang."))
        .event::<Moved>(Event::new("bell.moved").about("A bell moved.").unreliable())
        .target("party", |world, _| world.resource::<Party>().0.clone())
        .op(Op::new("bell.ring").price(1), ring)
        .op(Op::new("bell.move").session().price(1), move_text)
        .op(Op::new("bell.listen").session().price(1), listen)
        .op(Op::new("bell.close").price(1), close)
        .add_systems(Frame, toll.in_set(Stage::Serve).run_if(every_ms(1000)));
}

fn heard(player: &Player) -> Vec<(String, Json)> {
    let events = player.events().into_iter();
    events
        .filter_map(|event| match event {
            Heard::Pushed(name, body) => Some((name, body)),
            _ => None,
        })
        .collect()
}

fn rang(times: u32) -> Vec<(String, Json)> {
    vec![("bell.rang".to_owned(), json!({ "times": times }))]
}

#[test]
fn an_event_reaches_a_session_a_user_a_room_and_what_a_feature_names() {
    let mut t = server_of([]).plugins(bells).start();
    let (ada, bob, eve) = (t.connect("ada"), t.connect("bob"), t.connect("eve"));
    let id = ada.session().expect("started");
    assert_eq!(bob.call("bell.ring", &json!({ "to": { "session": id }, "times": 1 })), Ok(json!(1)));
    assert_eq!((heard(&ada), heard(&bob)), (rang(1), vec![]));
    let user = t.with_server(|server| {
        let world = server.world();
        world.of_session::<Session>(id).map(|session| session.identity.user_id.clone())
    });
    assert_eq!(bob.call("bell.ring", &json!({ "to": { "user": user }, "times": 2 })), Ok(json!(1)));
    assert_eq!(heard(&ada), rang(2));
    let room = bob.create(Default::default()).expect("created");
    for member in [&ada, &bob] {
        member.join_id(&room).expect("joined");
    }
    assert_eq!(eve.call("bell.ring", &json!({ "to": { "room": room }, "times": 3 })), Ok(json!(2)));
    assert_eq!((heard(&ada), heard(&bob), heard(&eve)), (rang(3), rang(3), vec![]));
    ada.call("bell.listen", &Json::Null).expect("in the party");
    t.run_ms(1000);
    assert_eq!((heard(&ada), heard(&bob)), (rang(12), vec![]));
}

#[test]
fn who_is_not_there_gets_nothing_and_the_caller_is_told() {
    let mut t = server_of([]).plugins(bells).start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("bell.ring", &json!({ "to": { "user": "nobody" }, "times": 1 })), Ok(json!(0)));
    let fault =
        ada.call("bell.ring", &json!({ "to": { "named": { "kind": "prty", "id": "" } }, "times": 1 }));
    let fault = fault.expect_err("no such targets");
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(fault.message.contains("Did you mean `party`?"), "{fault}");
    t.replays_equally();
}

#[test]
fn who_is_away_gets_what_is_reliable_when_it_is_back_and_nothing_else() {
    let mut t = server_of([]).plugins(bells).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let to = json!({ "session": ada.session() });
    ada.drop_connection();
    t.frames(1);
    for times in 1..=3 {
        assert_eq!(bob.call("bell.ring", &json!({ "to": to, "times": times })), Ok(json!(1)));
    }
    ada.resume().expect("its seat is held");
    t.frames(2);
    assert_eq!(heard(&ada), [rang(1), rang(2), rang(3)].concat());
    t.replays_equally();
}

#[test]
fn a_body_over_the_bound_of_its_row_is_refused_to_whoever_pushes_it() {
    let mut t = server_of([]).plugins(bells).start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("bell.move", &json!(980)), Ok(json!(1)));
    assert_eq!(heard(&ada).len(), 1);
    let fault = ada.call("bell.move", &json!(2000)).expect_err("too long");
    assert_eq!(fault.kind, FaultKind::Invalid);
    assert!(fault.message.contains("bell.moved") && fault.message.contains("1000"), "{fault}");
    t.replays_equally();
}

#[test]
fn an_event_that_cannot_be_is_a_sentence_at_the_start() {
    let wrong = server_of([]).plugins(|app| {
        app.event::<Rang>(Event::new("bell.rang"))
            .event::<Rang>(Event::new("bell.tolled"))
            .event::<Moved>(Event::new("Bell moved").bytes_max(1 << 20))
            .op(Op::new("bell.rang").price(1), async |_: Call, _: ()| -> Result<(), Fault> { Ok(()) });
    });
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    for part in [
        "is the event bell.rang already",
        "event `Bell moved`: a name is",
        "by 1 to 65000 bytes, not by 1048576",
        "event bell.rang: an operation has this name",
    ] {
        assert!(wrong.contains(part), "{part}\n{wrong}");
    }
}

#[test]
fn what_rooms_tell_is_told_by_rooms_alone() {
    use kaos_kernel::send::push_json;
    use kaos_rooms::RoomClosed;
    let closed = || RoomClosed::well("over", "");
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    let to = Target::Session(ada.session().expect("started"));
    t.with_server(|server| {
        let world = server.world();
        let fault = push_json(world, &to, "room.closed", json!(closed())).expect_err("a script's");
        assert_eq!(fault.kind, FaultKind::Invalid);
        assert!(fault.message.contains("room.closed"), "{fault}");
        let fault = push(world, &to, closed()).expect_err("no room");
        assert_eq!(fault.kind, FaultKind::Internal);
        assert!(fault.message.contains("room.closed"), "{fault}");
    });
    t.frames(2);
    assert_eq!(ada.events(), []);
}

#[test]
fn a_script_hooks_events_of_features_and_of_rooms() {
    let hooks = "
    kaos.register_after('bell_rang', function(ctx, event, to)
      kaos.logger_info('rang ' .. event.times .. ' for ' .. (to.room or to.session or to.user or to.named.kind))
      kaos.event_push(to, 'bell.rang', { times = event.times + 100 })
    end)
    kaos.register_after('room_closed', function(ctx, event, to)
      kaos.logger_info('closed ' .. event.reason .. ' ' .. to.room)
    end)";
    let mut t = server_of([("hooks.lua", hooks)]).plugins(bells).start();
    let ada = t.connect("ada");
    let id = ada.session().expect("started");
    assert_eq!(ada.call("bell.ring", &json!({ "to": { "session": id }, "times": 1 })), Ok(json!(1)));
    t.frames(2);
    // What the hook pushes passes no hook.
    assert_eq!(heard(&ada), [rang(1), rang(101)].concat());
    ada.call("bell.listen", &Json::Null).expect("in the party");
    t.run_ms(1100);
    assert_eq!(heard(&ada), [rang(12), rang(112)].concat());
    let room = ada.create(Default::default()).expect("created");
    ada.join_id(&room).expect("joined");
    ada.call("bell.close", &json!(room)).expect("closed");
    t.frames(2);
    let logged: Vec<String> = t.logs().iter().map(|log| log.text.clone()).collect();
    for line in [format!("rang 1 for {id}"), "rang 12 for party".to_owned(), format!("closed over {room}")] {
        assert_eq!(logged.iter().filter(|text| **text == line).count(), 1, "{line}: {logged:?}");
    }
    t.replays_equally();
}

#[test]
fn a_hook_that_cannot_be_is_a_sentence_at_the_start_and_a_crowd_of_events_is_bounded() {
    let wrong =
        server_of([("hooks.lua", "kaos.register_before('bell_rang', function() end)")]).plugins(bells);
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    assert!(wrong.contains("hooks.lua:1") && wrong.contains("hook it with `kaos.register_after`"), "{wrong}");
    let wrong = server_of([("hooks.lua", "kaos.register_after('bell_rung', function() end)")]).plugins(bells);
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    assert!(wrong.contains("Did you mean `bell_rang`?"), "{wrong}");

    let hooks = "local n = 0
    kaos.register_after('bell_rang', function() n = n + 1 kaos.logger_info('heard ' .. n) end)";
    let mut t = server_of([("hooks.lua", hooks)])
        .plugins(|app| {
            bells(app);
            app.op(Op::new("bell.peal").price(1), async |cx: Call, times: u32| -> Result<(), Fault> {
                for times in 0..times {
                    cx.with(|world| push(world, &Target::User("nobody".into()), Rang { times }))?;
                }
                Ok(())
            });
        })
        .start();
    let ada = t.connect("ada");
    assert_eq!(ada.call("bell.peal", &json!(3000)), Ok(Json::Null));
    let last = t.logs().iter().map(|log| log.text.clone()).collect::<Vec<_>>();
    assert!(last.iter().any(|text| text.starts_with("1976 further events of this frame")), "{last:?}");
    t.replays_equally();
}
