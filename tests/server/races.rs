//! What happens in one frame: goodbyes with the connection's end, kicks out of a tick, slots that are used again.

use std::collections::BTreeMap;

use kaos_kernel::ids::PeerId;
use kaos_kernel::input::{Claim, Counts, Door, Gone, Identity, Input};
use kaos_kernel::prelude::*;
use kaos_wire::v1;
use kaosnet::testing::{Event, Test, server, server_of};
use serde_json::json;

/// A match whose members order by the game's number what is done to them.
const BOSS: &str = "local M = {}
    function M.match_init() return { state = { left = {} }, tick_rate = 20 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s, ps) for _, p in ipairs(ps) do s.left[p.username] = p.reason end return s end
    function M.match_loop(ctx, s, tick, ms)
      for _, m in ipairs(ms) do
        if m.op == 1 then kaos.session_kick(m.sender.session_id, 'enough') end
        if m.op == 2 then kaos.room_kick(ctx.room_id, m.sender.session_id, 'out') end
        if m.op == 3 then kaos.room_create('child') end
      end
      return s
    end
    return M";

const CHILD: &str = "local M = {}
    function M.match_init(ctx)
      kaos.logger_info('born')
      kaos.room_create('grandchild')
      return { state = {}, tick_rate = 1 }
    end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s) return s end
    return M";

const GRANDCHILD: &str = "local M = {}
    function M.match_init() return { state = {}, tick_rate = 1 } end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s) return s end
    return M";

fn bosses() -> Test {
    server_of([
        ("matches/boss.lua", BOSS),
        ("matches/child.lua", CHILD),
        ("matches/grandchild.lua", GRANDCHILD),
    ])
    .start()
}

/// Work that takes a while.
#[derive(serde::Serialize, serde::Deserialize)]
struct Slow;

impl Job for Slow {
    type Out = ();
    const NAME: &'static str = "slow";
}

fn slow(app: &mut App) {
    app.job(|_: Slow, _: &mut JobContext<'_>| Ok(())).op(
        Op::new("slow.secret").session().price(1),
        async |cx: Call, _: ()| -> Result<String, Fault> {
            cx.job(Slow).await?;
            Ok("for its caller only".to_owned())
        },
    );
}

#[test]
fn an_answer_never_reaches_another_session_that_took_the_place() {
    let mut t = server_of([]).plugins(slow).start();
    let ada = t.connect("ada");
    t.hold_jobs();
    let cid = ada.start_call("slow.secret", &json!(null));
    t.frames(2);
    ada.end();
    t.frames(4);
    let eve = t.connect("eve");
    assert_eq!(eve.session().map(SessionId::slot), ada.session().map(SessionId::slot), "the same place");
    t.release_jobs();
    t.frames(4);
    assert_eq!(eve.answer(cid), None, "the answer was for ada");
    t.replays_equally();
}

#[test]
fn a_match_that_kicks_a_session_hears_of_its_leaving_and_frees_its_seat() {
    let mut t = bosses();
    let (ada, bob) = (t.join("boss", "ada"), t.join("boss", "bob"));
    let entities = t.population().entities;
    bob.send(1, "");
    t.ticks(3);
    assert_eq!((ada.ended(), bob.ended()), (None, Some("kicked".into())));
    assert_eq!(ada.events().pop(), Some(Event::Left(vec![("bob".into(), "kicked".into())])));
    assert_eq!(t.room("boss").state("/left/bob"), "kicked");
    let left = t.population();
    assert_eq!((left.sessions, left.presences), (1, 1));
    let size = t.call(Some("u"), "room.list", json!({})).expect("listed");
    assert_eq!(size.pointer("/0/size"), Some(&json!(1)));
    let eve = t.join("boss", "eve");
    assert_eq!(t.population().entities, entities);
    eve.send(2, "");
    t.ticks(3);
    assert_eq!(eve.ended(), None, "out of the room, not of the server");
    assert_eq!(t.room("boss").members(), ["ada"]);
    assert_eq!(t.room("boss").state("/left/eve"), "kicked");
    t.replays_equally();
}

#[test]
fn a_match_that_a_match_makes_has_its_wishes_done_at_once() {
    let mut t = bosses();
    let ada = t.join("boss", "ada");
    t.logs();
    ada.send(3, "");
    t.run_ms(60);
    assert_eq!(t.population().rooms, 3, "boss, child, and the grandchild that the child ordered");
    assert!(t.logs().iter().any(|log| log.text == "born"));
    t.replays_equally();
}

/// A client's goodbye. One that has things to say waits until they are heard; these here do not.
fn goodbye() -> Vec<u8> {
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::SessionEnd, &v1::SessionEnd::default(), &mut bytes).expect("short");
    bytes
}

#[test]
fn a_goodbye_that_comes_with_the_end_of_its_connection_is_heard() {
    let mut t = bosses();
    let (ada, bob) = (t.join("boss", "ada"), t.join("boss", "bob"));
    bob.send_raw(goodbye());
    bob.drop_connection();
    t.frames(3);
    assert_eq!(ada.events().pop(), Some(Event::Left(vec![("bob".into(), "left".into())])));
    assert_eq!(t.population().sessions, 1);
    t.replays_equally();
}

#[test]
fn what_was_sent_before_a_connection_broke_in_the_same_frame_counts() {
    let mut t = server_of([]).start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let room = ada.create(v1::RoomCreate::default()).expect("made");
    for player in [&ada, &bob] {
        player.join_id(&room).expect("joined");
    }
    bob.send(7, "last words");
    bob.drop_connection();
    t.frames(3);
    assert_eq!(ada.data_of(7), [(1, b"last words".to_vec())]);
    bob.resume().expect("in time");
    t.frames(3);
    assert_eq!(ada.data_of(7), [], "and they do not come twice");
    t.replays_equally();
}

#[test]
fn what_a_member_said_before_it_left_comes_before_its_leaving() {
    let mut t = server_of([]).start();
    let (ada, bob, eve) = (t.connect("ada"), t.connect("bob"), t.connect("eve"));
    let room = ada.create(v1::RoomCreate::default()).expect("made");
    for player in [&ada, &bob] {
        player.join_id(&room).expect("joined");
    }
    ada.events();
    // In one frame: bob speaks and leaves, and eve takes the seat that bob had.
    bob.send(7, "I was bob");
    let leave = v1::RoomLeave { cid: 90, room_id: room.clone() };
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::RoomLeave, &leave, &mut bytes).expect("short");
    bob.send_raw(bytes);
    eve.join_id(&room).expect("joined");
    t.frames(1);
    let expected = [
        Event::Data(1, 7, b"I was bob".to_vec()),
        Event::Left(vec![("bob".into(), "left".into())]),
        Event::Joined(vec!["eve".into()]),
    ];
    assert_eq!(ada.events(), expected);
    assert_eq!(eve.data_of(7), [], "she was not there");
    t.replays_equally();
}

#[test]
fn a_datum_after_a_goodbye_in_the_same_frame_is_nothing() {
    let mut t = bosses();
    let (ada, bob) = (t.join("boss", "ada"), t.join("boss", "bob"));
    bob.send_raw(goodbye());
    bob.send(1, "");
    bob.start_call("room.list", &json!({}));
    bob.send_raw(goodbye());
    t.ticks(3);
    assert_eq!(ada.ended(), None);
    assert_eq!(t.room("boss").state("/left"), json!({ "bob": "left" }));
    assert_eq!(t.population().waiting_calls, 0);
    t.replays_equally();
}

// ---- connections by hand: what no client does ---------------------------------------------------

fn peer(n: u32) -> PeerId {
    PeerId { slot: 1000 + n, generation: 1 }
}

fn open(t: &mut Test, n: u32, claim: Claim) {
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    t.input(Input::Open { peer: peer(n), door: Door::Memory, address });
    t.input(Input::Start { peer: peer(n), claim, fresh: [n as u8; 16], vars: BTreeMap::new() });
}

fn resume(t: &mut Test, n: u32, session: SessionId, token: u32) {
    let received = Counts { control: 0, data: 2 };
    open(t, n, Claim::Resume { session, token: [token as u8; 16], received });
}

fn last_session(t: &mut Test) -> SessionId {
    t.with_server(|server| {
        let ids = server.world().resource::<SessionIndex>().iter().map(|(id, _)| id);
        ids.last().expect("somebody is there")
    })
}

fn peer_of(t: &mut Test, id: SessionId) -> Option<PeerId> {
    t.with_server(|server| {
        let world = server.world();
        let entity = world.session(id)?;
        world.get::<Session>(entity)?.peer
    })
}

/// A session on peer `n`, in the oldest room of `boss`, beside a player.
fn by_hand(t: &mut Test, n: u32) -> SessionId {
    open(t, n, Claim::Anonymous { name: "hand".into() });
    let join = v1::RoomJoin { cid: 1, module: "boss".into(), ..v1::RoomJoin::default() };
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::RoomJoin, &join, &mut bytes).expect("short");
    t.input(Input::Data { peer: peer(n), bytes: bytes.into() });
    t.frames(2);
    last_session(t)
}

#[test]
fn a_resume_whose_connection_breaks_in_the_same_frame_leaves_the_seat_lost() {
    let mut t = bosses();
    let ada = t.join("boss", "ada");
    let hand = by_hand(&mut t, 1);
    t.input(Input::Gone { peer: peer(1), reason: Gone::Closed });
    t.frames(2);
    ada.events();
    resume(&mut t, 2, hand, 1);
    t.input(Input::Gone { peer: peer(2), reason: Gone::Closed });
    t.frames(2);
    assert_eq!(peer_of(&mut t, hand), None);
    assert_eq!(ada.events(), [], "lost before and lost after: nothing changed");
    // The client never saw the new token, so the former one is still good.
    resume(&mut t, 3, hand, 1);
    t.frames(2);
    assert_eq!(peer_of(&mut t, hand), Some(peer(3)));
    assert_eq!(ada.events(), [Event::Changed(vec![("hand".into(), true)])]);
    t.replays_equally();
}

#[test]
fn two_resumes_in_one_frame_leave_the_newer_and_an_old_token_stays_worthless() {
    let mut t = bosses();
    let hand = by_hand(&mut t, 1);
    resume(&mut t, 2, hand, 1);
    resume(&mut t, 3, hand, 1);
    t.frames(2);
    assert_eq!((peer_of(&mut t, hand), t.population().peers), (Some(peer(3)), 1));
    // The token of the connection that was replaced at once was overwritten.
    resume(&mut t, 4, hand, 2);
    t.frames(2);
    assert_eq!(peer_of(&mut t, hand), Some(peer(3)));
    // Once something was heard on the newest connection, the former token is worthless.
    let beat = v1::Heartbeat::default();
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::Heartbeat, &beat, &mut bytes).expect("short");
    t.input(Input::Data { peer: peer(3), bytes: bytes.into() });
    t.frames(2);
    resume(&mut t, 5, hand, 1);
    t.frames(2);
    assert_eq!(peer_of(&mut t, hand), Some(peer(3)));
    resume(&mut t, 6, hand, 3);
    t.frames(2);
    assert_eq!((peer_of(&mut t, hand), t.population().peers), (Some(peer(6)), 1));
    t.replays_equally();
}

#[test]
fn a_session_that_is_ending_cannot_be_resumed() {
    let mut t = bosses();
    let hand = by_hand(&mut t, 1);
    t.input(Input::Data { peer: peer(1), bytes: goodbye().into() });
    t.frames(1);
    resume(&mut t, 2, hand, 1);
    t.frames(3);
    assert_eq!((t.population().sessions, t.population().peers), (0, 0));
    t.replays_equally();
}

#[test]
fn what_came_in_the_frame_of_the_time_out_keeps_the_connection() {
    let mut t = bosses();
    let hand = by_hand(&mut t, 1);
    // Ten seconds without a word, as when the machine slept; then everything comes at once.
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::Heartbeat, &v1::Heartbeat::default(), &mut bytes).expect("short");
    t.run_ms(9_999);
    for _ in 0..8 {
        t.input(Input::Data { peer: peer(1), bytes: bytes.clone().into() });
        t.frames(1);
    }
    assert_eq!(peer_of(&mut t, hand), Some(peer(1)));
    t.run_ms(9_900);
    assert_eq!(peer_of(&mut t, hand), Some(peer(1)));
    t.run_ms(200);
    assert_eq!(peer_of(&mut t, hand), None, "and silence loses it ten seconds later");
    t.replays_equally();
}

#[test]
fn a_login_that_replaces_another_ends_it_and_a_full_server_ends_nobody() {
    let user = |name: &str| {
        Claim::User(Identity { user_id: name.into(), username: name.into(), ..Identity::default() })
    };
    let mut t = server_of([]).set("session.replace", true).start();
    open(&mut t, 1, user("ada"));
    t.frames(2);
    let first = last_session(&mut t);
    open(&mut t, 2, user("ada"));
    t.frames(3);
    assert_ne!(last_session(&mut t), first);
    assert_eq!((t.population().sessions, t.population().peers), (1, 1));
    let full = |s: &mut Settings| {
        s.set("session.replace", true);
        s.set("limit.sessions_max", 1);
    };
    let mut t = server_of([]).settings(full).start();
    open(&mut t, 1, user("ada"));
    t.frames(2);
    let first = last_session(&mut t);
    open(&mut t, 2, user("ada"));
    t.frames(3);
    assert_eq!((last_session(&mut t), t.population().peers), (first, 1), "who is in stays in");
    t.replays_equally();
}

#[test]
fn a_crowd_that_goes_at_once_is_told_in_few_messages() {
    let settings = |s: &mut Settings| {
        s.set("limit.address_starts_burst", 100_000);
        s.set("session.seat_ms", 1000);
    };
    let mut t = server("scripts").settings(settings).skipping().start();
    let ada = t.connect("ada");
    let room = ada.create(v1::RoomCreate { max_players: 400, ..v1::RoomCreate::default() }).expect("made");
    ada.join_id(&room).expect("joined");
    let crowd: Vec<_> = (0..300).map(|n| t.connect(&format!("p{n}"))).collect();
    for player in &crowd {
        player.join_id(&room).expect("joined");
    }
    ada.events();
    for player in &crowd {
        player.drop_connection();
    }
    t.run_ms(100);
    let sizes = |events: Vec<Event>| -> Vec<usize> {
        events
            .into_iter()
            .map(|event| match event {
                Event::Changed(list) => list.len(),
                Event::Left(list) => list.len(),
                _ => 0,
            })
            .collect()
    };
    assert_eq!(sizes(ada.events()), [128, 128, 44]);
    t.run_ms(1100);
    assert_eq!(sizes(ada.events()), [128, 128, 44]);
    assert_eq!(t.population().sessions, 1);
    t.replays_equally();
}
