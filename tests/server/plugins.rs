//! What a plugin is told at the start when it cannot be meant so, and what the kit compares of it.

use kaosnet::prelude::*;
use kaosnet::testing::server_of;
use serde::Serialize;

#[derive(Resource, Serialize)]
struct Clocked(u64);

/// What a feature keeps and no client sees: the time of this process.
fn read_the_clock(mut clocked: ResMut<Clocked>) {
    #[expect(clippy::disallowed_methods, reason = "a feature that is not deterministic")]
    let now = std::time::SystemTime::now();
    clocked.0 = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
}

#[test]
#[should_panic(expected = "does not replay")]
fn what_a_feature_keeps_is_compared_when_it_says_so() {
    let mut t = server_of([])
        .plugins(|app| {
            app.insert_resource(Clocked(0))
                .hashed::<Clocked>()
                .add_systems(Frame, read_the_clock.in_set(Stage::Match).run_if(every_ms(10)));
        })
        .start();
    t.run_ms(100);
    t.replays_equally();
}

#[test]
fn a_system_in_no_stage_and_an_argument_that_is_no_field_are_sentences_at_the_start() {
    fn lost() {}
    let wrong = server_of([]).plugins(|app| {
        app.add_systems(Frame, lost);
    });
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    assert!(wrong.contains("lost` is in no stage: add `.in_set(Stage::Match)`"), "{wrong}");
    let wrong = server_of([]).plugins(|app| {
        app.op(Op::new("thing.do").args(&["nme"]).price(1), async |_: Call, _: ()| -> Result<(), Fault> {
            Ok(())
        });
    });
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    assert!(wrong.contains("op thing.do: its argument `nme` is not a field of its request"), "{wrong}");
    // A system that clashes with others is told the same, and not each clash.
    let wrong = server_of([]).plugins(|app| {
        fn one(_: &mut World) {}
        app.add_systems(Frame, one);
    });
    let wrong = wrong.try_start().err().expect("refused").0.join("\n");
    assert!(wrong.contains("one` is in no stage") && wrong.lines().count() == 1, "{wrong}");
}

#[test]
fn an_operation_that_is_not_there_is_told_with_the_nearest() {
    let mut t = server_of([]).start();
    let ada = t.connect("ada");
    for fault in [
        ada.call("room.lst", &serde_json::json!({})).expect_err("not there"),
        t.call(Some("ada"), "room.lst", serde_json::json!({})).expect_err("not there"),
    ] {
        assert_eq!(fault.kind, FaultKind::Unimplemented);
        assert!(fault.message.ends_with("Did you mean `room.list`?"), "{fault}");
    }
}
