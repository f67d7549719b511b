//! What a live server recorded, another process makes again.

use std::process::Command;
use std::time::Duration;

use kaos_client::{Credentials, connect};

use super::running::{config, folder, serve};
use super::urls::{udp_url, ws_url};

#[tokio::test(flavor = "current_thread")]
async fn a_live_run_over_both_doors_replays_equally_in_another_process() {
    let journal = folder("record").join("run.kj");
    let mut config = config("live");
    config.journal.record = Some(journal.clone());
    let running = serve(&config, |_| {});
    let mut players = Vec::new();
    for n in 0..6 {
        let url = if n % 2 == 0 { udp_url(&running) } else { ws_url(&running) };
        let me = connect(&url, Credentials::anonymous(format!("p{n}"))).await.expect("connects");
        let room = me.join_or_create(if n < 4 { "arena" } else { "tictactoe" }).await.expect("joins");
        me.rpc("echo", b"x").await.expect("answered");
        players.push((me, room));
    }
    for n in 0..60u8 {
        for (_, room) in &mut players {
            room.send(1, &[n]).await.expect("sent");
            let _ = room.send_unreliable(9, &[n]);
            while room.try_next().is_some() {}
        }
        if n == 30 {
            players[0].0.drop_connection();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(players.pop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop();
    let stopped =
        tokio::task::spawn_blocking(move || running.join()).await.expect("joins").expect("no crash");
    assert!(stopped.clean, "{stopped:?}");
    for _ in 0..2 {
        let output = Command::new(env!("CARGO_BIN_EXE_kaosnet"))
            .arg("replay")
            .arg(&journal)
            .args(["--scripts", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts")])
            .output()
            .expect("runs");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("equal"), "{said}");
    }
}
