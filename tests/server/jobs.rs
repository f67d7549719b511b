//! Jobs of plugins: work that a call sends out of the frame, and what a replay makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kaos_kernel::output::Log;
use kaos_kernel::prelude::*;
use kaosnet::testing::server_of;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Counts the rooms, and how often anything was counted.
#[derive(Serialize, Deserialize)]
struct Census {
    town: String,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    rooms: usize,
    /// Another number each time: no replay could find it by doing the job.
    nth: u32,
}

impl Job for Census {
    type Out = Counted;
    const NAME: &'static str = "census.count";
    const POOL: &'static str = "census";
}

/// What counting jobs share, outside of every frame.
#[derive(Clone, Default)]
struct Clerks(Arc<AtomicU32>);

impl Plugin for Clerks {
    fn build(&self, app: &mut App) {
        let done = self.0.clone();
        app.pool(Pool::new(Census::POOL).threads(1))
            .job(move |job: Census, cx: &mut JobContext<'_>| {
                let rooms: Vec<serde_json::Value> =
                    serde_json::from_slice(&cx.ask("room.list", Bytes::from_static(b"{}"))?)
                        .map_err(|error| Fault::internal(error.to_string()))?;
                cx.log(Level::Info, "census", format!("{} was counted", job.town));
                Ok(Counted { rooms: rooms.len(), nth: done.fetch_add(1, Ordering::Relaxed) + 1 })
            })
            .op(
                Op::new("census.take").args(&["towns"]).price(1),
                async |cx: Call, towns: Towns| -> Result<Vec<(usize, u32)>, Fault> {
                    // All of them are under way before the first answer.
                    let sent: Vec<_> = towns.towns.into_iter().map(|town| cx.job(Census { town })).collect();
                    let mut counted = Vec::new();
                    for job in sent {
                        let Counted { rooms, nth } = job.await?;
                        counted.push((rooms, nth));
                    }
                    Ok(counted)
                },
            );
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Towns {
    towns: Vec<String>,
}

#[test]
fn jobs_ask_the_frame_write_to_the_log_and_are_done_by_no_replay() {
    let clerks = Clerks::default();
    let plugin = clerks.clone();
    let mut t = server_of([])
        .plugins(move |app| {
            app.add_plugins(plugin.clone());
        })
        .start();
    t.call(Some("u"), "room.create", json!({})).expect("a room");
    let counted = t.call(Some("u"), "census.take", json!({ "towns": ["Ys", "Is"] })).expect("counted");
    assert_eq!(counted, json!([[1, 1], [1, 2]]));
    let line =
        |town| Log { level: Level::Info, source: "census".to_owned(), text: format!("{town} was counted") };
    assert_eq!(t.logs(), [line("Ys"), line("Is")]);
    t.replays_equally();
    assert_eq!(clerks.0.load(Ordering::Relaxed), 2, "the replay did a job");
}
