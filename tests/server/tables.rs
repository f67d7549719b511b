//! Tables that crates have twice since they must not see each other: they say the same.

use kaos_client::fault;
use kaos_kernel::prelude::*;
use kaos_kernel::settings::Section;
use kaos_wire::limits;

#[test]
fn the_client_knows_faults_by_the_servers_numbers_and_words() {
    for known in fault::ALL {
        let row = FaultKind::ALL.iter().find(|kind| u32::from(kind.code()) == known.code);
        assert_eq!(row.map(|kind| kind.name()), Some(known.word), "{}", known.code);
    }
}

#[test]
fn the_defaults_that_clients_are_told_are_the_servers() {
    let (session, limit) = (SessionSettings::default(), LimitSettings::default());
    assert_eq!(session.resend_bytes, limits::RESEND_MAX);
    assert_eq!(session.idle_ms, limits::SILENCE_MS);
    assert_eq!(limit.bad_messages_max, limits::STRIKES);
    let page = include_str!("../../assets/proto/README.md");
    for (row, default) in [
        ("| time to SessionStart | 5 s | `session.start_ms` |", session.start_ms == 5_000),
        (
            "| time between heartbeats | 1 s | `session.heartbeat_ms`, to 30 s |",
            session.heartbeat_ms == 1_000,
        ),
        ("| silence before a connection is lost | 10 s | `session.idle_ms`,", session.idle_ms == 10_000),
    ] {
        assert!(page.contains(row) && default, "{row}");
    }
    let with =
        |resend_bytes| SessionSettings { resend_bytes, ..SessionSettings::default() }.check().is_empty();
    assert!(with(limits::SERVER_RESEND_MAX) && !with(limits::SERVER_RESEND_MAX + 1));
}
