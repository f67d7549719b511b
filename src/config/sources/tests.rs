//! What the four sources come to, and what is said about mistakes in them.

use kaos_kernel::room::RoomSettings;

use super::*;
use crate::config::{UdpAddress, defaults_yaml, sections};

fn yaml(text: &str) -> Result<Loaded, Vec<String>> {
    let mut layers = Layers::new(sections(|_| {}));
    layers.file(Path::new("kaosnet.yaml"), text);
    layers.finish(None).map_err(|error| error.0.iter().map(Problem::to_string).collect())
}

fn flags(flags: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let mut layers = Layers::new(sections(|_| {}));
    for (key, value) in flags {
        layers.text(Origin::Flag(format!("--{key}")), key, value);
    }
    layers.finish(None).map_err(|error| error.0.iter().map(Problem::to_string).collect())
}

#[test]
fn the_defaults_as_a_file_change_nothing_and_have_every_key_with_a_comment() {
    let all = sections(|_| {});
    let loaded = yaml(&defaults_yaml(&all)).expect("the defaults hold");
    let again = Config { frame: Settings::default(), ..loaded.config.clone() };
    assert_eq!(again, Config::default());
    assert_eq!(all.whole(&loaded.set), all.whole(&Settings::default()));
    for row in all.rows() {
        let origin = loaded.origin(&row.key);
        assert!(matches!(origin, Origin::File { .. }), "the file has no `{}`", row.key);
        assert!(!row.doc.is_empty(), "`{}` has no comment", row.key);
    }
}

#[test]
fn variables_and_keys_are_one_to_one() {
    let all = sections(|_| {});
    assert_eq!(all.errors(), [""; 0]);
    let names: std::collections::BTreeSet<String> = all.rows().map(|row| variable(&row.key)).collect();
    assert_eq!(names.len(), all.rows().count());
}

#[test]
fn mistakes_are_named_with_file_line_and_the_next_step() {
    let cases = [
        (
            "room:\n  max_player: 3\n",
            "kaosnet.yaml:2: unknown key `room.max_player`. Did you mean `room.max_players`?",
        ),
        ("\nrom:\n  max_players: 3\n", "kaosnet.yaml:2: unknown key `rom`. Did you mean `room`?"),
        (
            "room:\n  max_players: many\n",
            "kaosnet.yaml:2: `room.max_players` is `many`: expected a whole number",
        ),
        ("room:\n  max_players: -1\n", "kaosnet.yaml:2: `room.max_players` is `-1`: expected a whole number"),
        ("dev: maybe\n", "kaosnet.yaml:1: `dev` is `maybe`: expected true or false"),
        ("room: 5\n", "kaosnet.yaml:1: `room` is a section: its keys stand under it, such as `room.create`"),
        (
            "room:\n  create: nobody\n",
            "kaosnet.yaml:2: `room.create` is `nobody`: expected one of `anyone`, `users`, `server`",
        ),
        (
            "http:\n  address: here\n",
            "kaosnet.yaml:2: `http.address` is `here`: expected an address such as 127.0.0.1:7350",
        ),
        (
            "udp:\n  address: here\n",
            "kaosnet.yaml:2: `udp.address` is `here`: expected an address such as 127.0.0.1:7352, or `off`",
        ),
        ("http:\n  origins: {a: 1}\n", "kaosnet.yaml:2: `http.origins` is a mapping: expected a list"),
        ("match:\n\n  errors_max: 0\n", "kaosnet.yaml:3: `match.errors_max` is 0: it goes from 1 to 1000"),
        ("dev: true\ndev: true\n", "kaosnet.yaml:2: `dev` is there twice: leave one of them out"),
        (
            "room:\n  max_players: 2\n  max_players: 3\n",
            "kaosnet.yaml:3: `max_players` is there twice: leave one of them out",
        ),
        (
            "match:\n  on_error: explode\n",
            "kaosnet.yaml:2: `match.on_error` is `explode`: expected `skip` or `end`",
        ),
        (
            "session:\n  keep_bytes: 5\n",
            "kaosnet.yaml:2: `session.keep_bytes` is called `session.resend_bytes` now",
        ),
        (
            "session:\n  key: [hush]\n",
            "kaosnet.yaml:2: `session.key` has another type: expected a text or null",
        ),
        ("- a\n- b\n", "kaosnet.yaml:1: there is no key here: a configuration is keys with their values"),
        ("hello\n", "kaosnet.yaml:1: there is no key here: "),
        ("foo: 1\n", "kaosnet.yaml:1: unknown key `foo`"),
        ("a: [1\n", "kaosnet.yaml:1: this is not YAML: "),
    ];
    for (text, sentence) in cases {
        let wrong = yaml(text).expect_err(sentence);
        assert!(wrong[0].starts_with(sentence), "wanted {sentence}\n   got {}", wrong[0]);
    }
    assert_eq!(yaml("foo: 1\n").expect_err("unknown"), ["kaosnet.yaml:1: unknown key `foo`"]);
}

#[test]
fn all_mistakes_come_at_once() {
    let wrong = yaml("rom: 1\nroom:\n  max_players: x\nquantum_us: 7\n").expect_err("three mistakes");
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

#[test]
fn values_take_the_type_of_their_key() {
    let loaded = flags(&[
        ("session.key", "12345678901234567890"),
        ("session.anonymous", "false"),
        ("http.origins", "https://a.example, https://b.example"),
        ("udp.address", "off"),
        ("room.create", "users"),
        ("journal.record", "data/run.kj"),
        ("data", "7"),
    ])
    .expect("they hold");
    let config = loaded.config;
    assert_eq!(config.session.key.as_deref(), Some("12345678901234567890"));
    assert_eq!(config.session.anonymous, Some(false));
    assert_eq!(config.http.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.udp.address, UdpAddress(None));
    assert_eq!(config.journal.record, Some("data/run.kj".into()));
    assert_eq!(config.server.data, PathBuf::from("7"));

    let loaded = yaml("udp:\n  address: off\nsession:\n  key: 0x1234567890123456\n").expect("they hold");
    assert_eq!(loaded.config.udp.address, UdpAddress(None));
    assert_eq!(loaded.config.session.key.as_deref(), Some("0x1234567890123456"));
}

#[test]
fn an_empty_file_and_empty_sections_change_nothing() {
    for text in ["", "# nothing\n", "http:\nroom:\n"] {
        assert_eq!(yaml(text).expect(text).config, Config::default(), "{text:?}");
    }
}

#[test]
fn later_sources_win_and_are_named() {
    let dir = std::env::temp_dir().join(format!("kaosnet-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("k.yaml");
    std::fs::write(&file, "room:\n  max_players: 2\n  rooms_max: 3\nnode: a\n").unwrap();
    let env = [("KAOS_ROOM_MAX_PLAYERS", "4"), ("KAOS_NODE", "b"), ("HOME", "/"), ("KAOS_OTHER", "1")];
    let env = env.map(|(name, value)| (name.into(), value.into()));
    let loaded = load(sections(|_| {}), Some(&file), env, &[("node".into(), "c".into())]).expect("it holds");
    let room: RoomSettings = loaded.config.frame.section().expect("they have the types");
    assert_eq!((room.rooms_max, room.max_players), (3, 4));
    assert_eq!(loaded.config.node.node, "c");
    assert_eq!(loaded.origin("room.rooms_max").to_string(), format!("{}:3", file.display()));
    assert_eq!(loaded.origin("room.max_players").to_string(), "environment KAOS_ROOM_MAX_PLAYERS");
    assert_eq!(loaded.origin("node").to_string(), "--node");
    assert_eq!(loaded.origin("dev"), &Origin::Default);
    assert_eq!(loaded.warnings.len(), 1);

    let wrong = [("KAOS_ROOM_TICKS".into(), "4".into())];
    let error = load(sections(|_| {}), None, wrong, &[]).expect_err("unknown").to_string();
    assert!(error.starts_with("environment KAOS_ROOM_TICKS: no key belongs"), "{error}");
    let renamed = [("KAOS_SESSION_KEEP_BYTES".into(), "4".into())];
    let error = load(sections(|_| {}), None, renamed, &[]).expect_err("renamed").to_string();
    assert_eq!(
        error,
        "environment KAOS_SESSION_KEEP_BYTES: `session.keep_bytes` is called `session.resend_bytes` now"
    );
    for (name, nearest) in
        [("KAOS_ROOM_TICKRATE", ""), ("KAOS_ROOM_MAXPLAYERS", ". Did you mean `KAOS_ROOM_MAX_PLAYERS`?")]
    {
        let wrong = [(name.to_owned(), "4".to_owned())].map(|(name, value)| (name.into(), value.into()));
        let error = load(sections(|_| {}), None, wrong, &[]).expect_err("unknown").to_string();
        assert_eq!(error, format!("environment {name}: no key belongs to this variable{nearest}"));
    }
    let error =
        load(sections(|_| {}), Some(&dir.join("none.yaml")), [], &[]).expect_err("missing").to_string();
    assert!(error.contains("none.yaml: the configuration cannot be read"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[cfg(unix)]
#[test]
fn variables_that_are_not_utf8_are_named_if_they_are_ours() {
    use std::os::unix::ffi::OsStrExt;
    let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let foreign = [(os(b"LS_\xff"), os(b"x")), (os(b"WHERE"), os(b"/tmp/\xe9"))];
    assert_eq!(load(sections(|_| {}), None, foreign, &[]).expect("not ours").config, Config::default());
    let ours = [(os(b"KAOS_NODE"), os(b"caf\xe9")), (os(b"KAOS_N\xe9"), os(b"x"))];
    let error = load(sections(|_| {}), None, ours, &[]).expect_err("ours").to_string();
    assert_eq!(
        error,
        "environment KAOS_NODE: the value of `node` is not UTF-8\n\
         environment KAOS_N\u{fffd}: the name of this variable is not UTF-8: no key belongs to it"
    );
}

#[test]
fn variables_of_a_kubernetes_service_stop_nothing() {
    // As kubelet makes them for Services `kaos-udp` and `kaos-http`.
    let made = [
        ("KAOS_UDP_SERVICE_HOST", "10.0.0.9"),
        ("KAOS_UDP_SERVICE_PORT", "7352"),
        ("KAOS_UDP_SERVICE_PORT_GAME", "7352"),
        ("KAOS_UDP_PORT", "udp://10.0.0.9:7352"),
        ("KAOS_UDP_PORT_7352_UDP", "udp://10.0.0.9:7352"),
        ("KAOS_UDP_PORT_7352_UDP_PROTO", "udp"),
        ("KAOS_UDP_PORT_7352_UDP_PORT", "7352"),
        ("KAOS_UDP_PORT_7352_UDP_ADDR", "10.0.0.9"),
        ("KAOS_HTTP_PORT_7350_TCP_ADDR", "10.0.0.9"),
    ];
    let loaded = load(sections(|_| {}), None, made.map(|(name, value)| (name.into(), value.into())), &[])
        .expect("no keys");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(made.iter().all(|(name, _)| loaded.warnings[0].contains(name)), "{:?}", loaded.warnings);
    for (name, value) in [("KAOS_HTTP_PORT", "8080"), ("KAOS_UDP_PORT_MAX", "1"), ("KAOS_UDP_HOST", "a")] {
        let error =
            load(sections(|_| {}), None, [(name.into(), value.into())], &[]).expect_err(name).to_string();
        assert!(error.starts_with(&format!("environment {name}: no key belongs")), "{error}");
    }
}

#[test]
fn an_empty_key_is_not_the_wish_for_one_to_be_made() {
    for key in ["session.key", "udp.key"] {
        let wrong = flags(&[(key, "")]).expect_err(key);
        assert!(wrong[0].starts_with(&format!("--{key}: `{key}` is ")), "{wrong:?}");
        assert_eq!(flags(&[(key, "null")]).expect(key).config, Config::default());
    }
    assert!(yaml("session:\n  key: ''\n").is_err());
    assert_eq!(flags(&[("journal.record", "")]).expect("none").config, Config::default());
}
