//! A smoke run of everything: each command works and prints its tables. Figures are not judged.

use std::process::Command;

fn run(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_rudp-lab")).args(args).output().expect("it runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn everything_runs_and_prints_its_targets() {
    let report = run(&["all", "--quick"]);
    for part in [
        "### A: ",
        "### B: ",
        "### C: ",
        "### D: ",
        "### E: ",
        "### F: ",
        "### 64 KiB: 2 Mbit/s",
        "### The client's address changes",
        "### UDP payload of a 64-byte unreliable message",
        "### Server cores in memory, 20 peers",
        "### A flood of first datagrams",
        "### Servers on loopback sockets, 20 peers",
        "### Reliable ordered 64-byte messages in memory",
        "### Reliable ordered 64-byte messages over loopback sockets",
        "### Targets",
        "| kcp turbo",
        "| enet reliable",
        "| renet ordered, 300 ms",
        "| quinn one stream",
        "| **kaos-rudp** plain",
    ] {
        assert!(report.contains(part), "`{part}` is missing in\n{report}");
    }
    assert!(!report.contains("no connection"), "{report}");
}

#[test]
fn the_same_seeds_give_the_same_report() {
    // Only our own stack: QUIC's certificates, and with them the sizes of its handshake, change with each run.
    let args = ["loss", "AC", "--quick", "--seed", "3", "--only", "kaos"];
    assert_eq!(run(&args), run(&args));
}
