//! Features hear what happens to sessions: every reader, once each, however seldom it reads.

use kaosnet::prelude::*;
use kaosnet::testing::server_of;
use serde::{Deserialize, Serialize};

#[derive(Resource, Default)]
struct Heard {
    started: usize,
    ended: Vec<(SessionId, &'static str)>,
    lost: usize,
}

/// A feature that has nothing to do with rooms, and looks once a second.
fn listen(
    mut starts: FactReader<SessionStarted>,
    mut changes: FactReader<ConnectionChanged>,
    mut ends: FactReader<SessionEnding>,
    mut heard: ResMut<Heard>,
) {
    heard.started += starts.read().count();
    heard.lost += changes.read().count();
    heard.ended.extend(ends.read().map(|end| (end.session, end.reason)));
}

#[test]
fn a_plugin_that_reads_once_a_second_hears_every_end_exactly_once() {
    for skipping in [false, true] {
        let setup = server_of([]).plugins(|app| {
            app.init_resource::<Heard>()
                .add_systems(Frame, listen.in_set(Stage::Ingest).run_if(every_ms(1000)));
        });
        let mut t = if skipping { setup.skipping() } else { setup }.start();
        let mut expected = Vec::new();
        for round in 0..40 {
            // About two in each second, at all places of it.
            let player = t.connect("ada");
            let session = player.session().expect("started");
            t.frames(137 * round % 900);
            player.end();
            expected.push((session, "left"));
            t.frames(1000);
        }
        let lost = t.connect("bob");
        let session = lost.session().expect("started");
        lost.drop_connection();
        t.run_ms(32_000);
        expected.push((session, "disconnected"));
        let heard = t.with_server(|server| server.world().remove_resource::<Heard>()).expect("it listened");
        assert_eq!(heard.ended, expected, "skipping: {skipping}");
        assert_eq!((heard.started, heard.lost), (expected.len(), 1));
        assert_eq!(t.population().sessions, 0);
    }
}

#[derive(Clone, Copy)]
struct Rang(SessionId);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Echoed {
    frame: u64,
}

#[test]
fn a_reader_in_an_earlier_stage_sees_a_fact_in_the_next_frame_though_nothing_else_asks_for_it() {
    let mut t = server_of([])
        .plugins(|app| {
            app.fact::<Rang>()
                .event::<Echoed>(Event::new("bell.echoed"))
                .op(Op::new("bell.ring").session().price(1), async |cx: Call, _: ()| -> Result<u64, Fault> {
                    let id = cx.session()?.id;
                    Ok(cx.with(|world| {
                        world.resource_mut::<Facts<Rang>>().write(Rang(id));
                        world.resource::<Clock>().frame()
                    }))
                })
                .add_systems(
                    Frame,
                    (|mut rings: FactReader<Rang>, mut push: Push, clock: Res<Clock>| {
                        for Rang(id) in rings.read() {
                            let echoed = Echoed { frame: clock.frame() };
                            push.push(Target::Session(*id), echoed).expect("registered");
                        }
                    })
                    .in_set(Stage::Ingest),
                );
        })
        .start();
    let ada = t.connect("ada");
    let rang = ada.call("bell.ring", &serde_json::Value::Null).expect("rung");
    t.frames(20);
    let echoed = ada.events().into_iter().find_map(|event| match event {
        kaosnet::testing::Event::Pushed(_, body) => body["frame"].as_u64(),
        _ => None,
    });
    assert_eq!(echoed, rang.as_u64().map(|frame| frame + 1));
    t.replays_equally();
}
