//! A panic ends one thing: what a plugin's types, observers and systems do wrong costs the one who asked for it.

use kaos_kernel::ids::PeerId;
use kaos_kernel::input::{Claim, Door, Input};
use kaosnet::prelude::*;
use kaosnet::testing::{Setup, server_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// A plugin's type that cannot read what is shorter than three bytes, and cannot write what is longer than ten.
struct Fragile(String);

impl JsonSchema for Fragile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fragile".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(self.0.len() <= 10, "a defect of the plugin");
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        assert!(text.len() >= 3, "a defect of the plugin");
        Ok(Fragile(text))
    }
}

fn shop() -> Setup {
    let after = "kaos.register_after('shop_buy', function() end)";
    server_of([("hooks.lua", after)]).plugins(|app: &mut App| {
        app.op(Op::new("shop.buy").price(1), async |_: Call, what: Fragile| -> Result<String, Fault> {
            Ok(what.0)
        });
        app.op(Op::new("shop.see").price(1), async |_: Call, what: String| -> Result<Fragile, Fault> {
            Ok(Fragile(what))
        });
    })
}

#[test]
fn a_request_or_reply_that_panics_is_refused_and_every_other_call_is_answered() {
    let mut t = shop().start();
    let (ada, bob) = (t.connect("ada"), t.connect("bob"));
    let word = |result: Result<serde_json::Value, Fault>| result.map_err(|fault| fault.kind.name());
    for (op, bad) in [("shop.buy", "x"), ("shop.see", "a sword of ice")] {
        assert_eq!(word(bob.call(op, &json!("sword"))), Ok(json!("sword")));
        assert_eq!(word(ada.call(op, &json!(bad))), Err("internal"), "{op}");
        assert_eq!(word(t.call(Some("eve"), op, json!(bad))), Err("internal"), "{op} over HTTP");
        assert_eq!(word(bob.call(op, &json!("sword"))), Ok(json!("sword")), "{op}");
        assert_eq!(word(t.call(Some("eve"), op, json!("sword"))), Ok(json!("sword")), "{op} over HTTP");
    }
    // For its after-hook a request is written, too: that this one cannot be is the hook's loss.
    assert_eq!(word(ada.call("shop.buy", &json!("a sword of ice"))), Ok(json!("a sword of ice")));
    assert_eq!((ada.ended(), bob.ended()), (None, None));
    t.replays_equally();
}

fn fragile_to(name: &'static str) -> Setup {
    server_of([]).plugins(move |app: &mut App| {
        app.add_observer(move |on: On<Add<Session>>, sessions: Query<&Session>| {
            let session = sessions.get(on.entity).expect("it was just made");
            assert_ne!(session.identity.username, name, "a defect of the plugin");
        });
    })
}

#[test]
fn an_observer_that_panics_for_one_newcomer_costs_nobody_else_anything() {
    let mut t = fragile_to("eve").start();
    let bob = t.connect("bob");
    let before = t.population();
    let eve = PeerId { slot: 1000, generation: 1 };
    t.input(Input::Open { peer: eve, door: Door::Memory, address: std::net::Ipv4Addr::LOCALHOST.into() });
    let claim = Claim::Anonymous { name: "eve".into() };
    t.input(Input::Start { peer: eve, claim, fresh: [1; 16], vars: Default::default() });
    // In the same frame, behind it.
    bob.call("room.list", &json!({})).expect("bob's call is answered");
    assert_eq!(t.population(), before, "nothing of the half-made session stays");
    let carol = t.connect("carol");
    assert_eq!(carol.ended(), None, "its place is free again");
    assert_eq!(t.population().sessions, before.sessions + 1);
    t.replays_equally();
}

#[test]
fn a_newcomer_whose_observer_panics_is_told_so() {
    let mut t = fragile_to("eve").start();
    assert_eq!(t.connect("eve").ended(), Some("internal".into()));
    t.replays_equally();
}

#[derive(Resource)]
struct Missing(u64);

fn needs_missing(missing: Res<Missing>) {
    assert_eq!(missing.0, 0);
}

fn panics() {
    let none: Option<u32> = std::hint::black_box(None);
    none.expect("a value");
}

#[test]
#[should_panic(expected = "frame 0: system `kaosnet::server::panics::needs_missing` failed: ")]
fn the_kit_fails_with_a_system_that_cannot_run() {
    let setup = server_of([]).plugins(|app: &mut App| {
        app.add_systems(Frame, needs_missing.in_set(Stage::Match));
    });
    setup.start().frames(5);
}

#[test]
#[should_panic(expected = "system `kaosnet::server::panics::panics` failed: ")]
fn the_kit_fails_with_a_system_that_panics() {
    let setup = server_of([]).plugins(|app: &mut App| {
        app.add_systems(Frame, panics.in_set(Stage::Serve));
    });
    setup.start().frames(5);
}

#[test]
fn a_system_that_fails_in_every_frame_is_counted_and_the_server_goes_on() {
    let setup = server_of([]).plugins(|app: &mut App| {
        app.add_systems(Frame, (needs_missing.in_set(Stage::Match), panics.in_set(Stage::Serve)));
    });
    let mut t = setup.tolerating_failures().start();
    t.frames(4);
    let failures = t.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures.iter().all(|failure| failure.contains(" failed 5 times, the last time: ")),
        "{failures:?}"
    );
    assert!(failures[1].contains("it panicked: a value"), "{failures:?}");
    assert_eq!(t.connect("ada").ended(), None);
    t.replays_equally();
}

#[test]
fn a_panic_of_the_servers_own_systems_is_not_swallowed() {
    let mut t = server_of([]).tolerating_failures().start();
    // Core::Match asks what happened to sessions: a world without that is a defect of the server.
    t.with_server(|server| server.world().remove_resource::<Facts<SessionEnding>>().is_some());
    let frame = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| t.frames(1)));
    let panic = frame.expect_err("no server goes on from half a stage");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains("Facts<"), "{text}");
}
