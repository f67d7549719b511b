//! Arrows between our crates and walls around outer ones, checked against `cargo metadata`.

use std::process::Command;

use super::{none, root};

/// Each crate and those of ours that it may depend on. Arrows point down only, and crates of one floor
/// do not see each other: they meet in kernel's components, messages and operation table.
const ARROWS: &[(&str, &[&str])] = &[
    ("kaos-rudp", &[]),
    ("kaos-wire", &[]),
    ("kaos-lua", &[]),
    ("kaos-kernel", &[]),
    ("kaos-rooms", &["kaos-kernel", "kaos-wire"]),
    ("kaos-script", &["kaos-kernel", "kaos-wire", "kaos-lua"]),
    ("kaos-gate", &["kaos-kernel", "kaos-wire", "kaos-rudp"]),
    ("kaos-client", &["kaos-rudp", "kaos-wire"]),
    ("rudp-lab", &["kaos-rudp"]),
    ("kaos-fuzz", &["kaos-kernel", "kaos-rudp", "kaos-wire"]),
    (
        "kaosnet",
        &[
            "kaos-rudp",
            "kaos-wire",
            "kaos-lua",
            "kaos-kernel",
            "kaos-rooms",
            "kaos-script",
            "kaos-gate",
            "kaos-client",
        ],
    ),
];

/// A wall around outer crates.
struct Wall {
    /// What is behind it; `name*` is every crate whose name begins so.
    outside: &'static [&'static str],
    /// Who may depend on it.
    inside: &'static [&'static str],
    /// Who may depend on it in tests besides.
    tests: &'static [&'static str],
    /// Who may offer it behind a feature that is off by default.
    optional: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        outside: &["bevy", "bevy_*"],
        inside: &["kaos-kernel"],
        tests: &[],
        optional: &[],
        instead: "take what you need from `kaos_kernel::prelude`",
    },
    Wall {
        outside: &["tokio", "tokio-*", "futures*", "async-std", "smol"],
        inside: &["kaos-gate", "kaos-client"],
        tests: &["kaosnet"],
        optional: &["kaos-rudp"],
        instead: "nothing in a frame waits: send a job out of the frame, or let a door do it",
    },
    Wall {
        outside: &["axum*", "hyper*", "http-body*", "tonic*", "tower*", "fastwebsockets", "tungstenite"],
        inside: &["kaos-gate", "kaos-client"],
        tests: &["kaosnet"],
        optional: &[],
        instead: "give the operation a route with `Op::rest`, and the gate will serve it",
    },
    Wall {
        outside: &["socket2", "mio", "polling", "quinn*"],
        inside: &["kaos-gate", "kaos-client", "rudp-lab"],
        tests: &[],
        optional: &["kaos-rudp"],
        instead: "sockets are doors: they belong to kaos-gate or kaos-client, or to `kaos_rudp::io`, which is a feature",
    },
    Wall {
        outside: &["mlua*", "rquickjs*", "oxc*", "wasmtime*"],
        inside: &["kaos-script", "kaos-lua"],
        tests: &[],
        optional: &[],
        instead: "talk to scripts through `kaos_kernel::script`",
    },
    Wall {
        outside: &["lua-src", "cc"],
        inside: &["kaos-lua"],
        tests: &[],
        optional: &[],
        instead: "C code and its build live in kaos-lua alone",
    },
    Wall {
        outside: &["rusqlite", "libsqlite3-sys", "sqlx*", "diesel*", "tokio-postgres", "deadpool*", "redis"],
        inside: &[],
        tests: &[],
        optional: &[],
        instead: "nothing is stored yet: a driver comes with the crate that is the wall around it",
    },
    Wall {
        outside: &["rand", "fastrand", "chrono", "time", "dashmap", "parking_lot", "rayon", "crossbeam*"],
        inside: &[],
        tests: &[],
        optional: &[],
        instead: "randomness is `Dice`, time is `Clock`, and a frame has one thread",
    },
];

/// A package as `cargo metadata` shows it.
struct Package {
    name: String,
    /// It lies beside the tests.
    outside: bool,
    depends: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// Only for the package's own tests.
    test: bool,
    /// Off unless a feature asks for it.
    optional: bool,
}

/// Reads the answer of `cargo metadata --no-deps`.
fn packages(metadata: &str) -> Vec<Package> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).expect("cargo metadata writes JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            outside: text(&package["manifest_path"]).contains("/tests/"),
            depends: list(&package["dependencies"])
                .iter()
                .map(|on| Dependency {
                    name: text(&on["name"]),
                    test: on["kind"] == "dev",
                    optional: on["optional"] == true,
                })
                .collect(),
        })
        .collect()
}

/// A feature from outside is a crate beside the tests: it knows `kaosnet` alone, and in its tests the client. `None`: this
/// is no such crate.
fn from_outside(package: &Package) -> Option<Option<String>> {
    let ours = |on: &&Dependency| on.name.starts_with("kaos");
    if ARROWS.iter().any(|(row, _)| *row == package.name) || !package.outside {
        return None;
    }
    let allowed = |on: &Dependency| on.name == "kaosnet" || on.test && on.name == "kaos-client";
    let wrong = package.depends.iter().filter(ours).find(|on| !allowed(on));
    Some(wrong.map(|on| format!("crate {} lies beside the tests and depends on {}", package.name, on.name)))
}

/// Everything that breaks the two tables, a sentence each.
fn broken(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if let Some(sentence) = from_outside(package) {
            found.extend(sentence);
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(row, _)| *row == name) else {
            found.push(format!(
                "crate {name} has no row in ARROWS (tests/tidy/walls.rs): a new crate is a design change, say there what it may \
                 depend on and in ARCHITECTURE.md what it is the wall around"
            ));
            continue;
        };
        for on in &package.depends {
            let ours = ARROWS.iter().any(|(row, _)| *row == on.name);
            // A crate may see itself in its tests, with another set of features.
            if ours && !allowed.contains(&on.name.as_str()) && !(on.test && on.name == name) {
                found.push(format!(
                    "arrow {name} -> {}: it does not point down. {name} may depend on {} of ours. Move what both need further \
                     down, or let them meet in kernel's components, messages and operation table (ARCHITECTURE.md, Walls)",
                    on.name,
                    if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
                ));
            }
            for wall in WALLS.iter().filter(|wall| wall.outside.iter().any(|pattern| fits(pattern, &on.name)))
            {
                // The tests of what is optional need it, too.
                let optional = (on.optional || on.test) && wall.optional.contains(&name);
                let passes = wall.inside.contains(&name) || on.test && wall.tests.contains(&name) || optional;
                if !passes {
                    found.push(format!(
                        "{name} depends on {}, which only {} may: {}",
                        on.name,
                        if wall.inside.is_empty() { "nobody".to_owned() } else { wall.inside.join(" and ") },
                        wall.instead
                    ));
                }
            }
        }
    }
    found
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn arrows_point_down_and_walls_stand() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let packages = packages(&String::from_utf8_lossy(&answer.stdout));
    assert!(packages.len() >= ARROWS.len(), "cargo metadata shows {} packages only", packages.len());
    none(&broken(&packages));
}

#[cfg(test)]
mod the_check_itself {
    use super::{broken, packages};

    /// A workspace of one package that depends on one other.
    fn findings(package: &str, on: &str, kind: &str) -> Vec<String> {
        broken(&packages(&format!(
            r#"{{"packages": [{{"name": "{package}", "dependencies": [
                {{"name": "serde", "kind": null}}, {{"name": "{on}", "kind": {kind}}}]}}]}}"#
        )))
    }

    #[test]
    fn an_arrow_down_passes() {
        assert_eq!(findings("kaos-rooms", "kaos-kernel", "null"), [""; 0]);
        assert_eq!(findings("kaosnet", "kaos-script", "null"), [""; 0]);
        assert_eq!(findings("kaos-rudp", "kaos-rudp", "\"dev\""), [""; 0]);
    }

    #[test]
    fn an_arrow_up_or_across_is_named() {
        for (package, on) in [
            ("kaos-kernel", "kaos-rooms"),
            ("kaos-kernel", "kaos-wire"),
            ("kaos-rooms", "kaos-script"),
            ("kaos-gate", "kaos-rooms"),
            ("kaos-client", "kaos-kernel"),
            ("kaos-wire", "kaosnet"),
        ] {
            for kind in ["null", "\"build\"", "\"dev\""] {
                let found = findings(package, on, kind);
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].starts_with(&format!("arrow {package} -> {on}: ")), "{found:?}");
            }
        }
    }

    #[test]
    fn a_hole_in_a_wall_is_named_with_what_to_do() {
        for (package, on) in [
            ("kaos-rooms", "bevy_ecs"),
            ("kaos-kernel", "tokio"),
            ("kaos-script", "axum"),
            ("kaos-gate", "mlua"),
            ("kaos-rooms", "rusqlite"),
            ("kaos-kernel", "rand"),
        ] {
            let found = findings(package, on, "null");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{package} depends on {on}, which only ")), "{found:?}");
        }
        assert_eq!(findings("kaos-gate", "tokio", "null"), [""; 0]);
        assert_eq!(findings("kaosnet", "tokio", "\"dev\""), [""; 0]);
        assert_eq!(findings("kaosnet", "tokio", "null").len(), 1);
        assert_eq!(findings("kaos-rudp", "tokio", "null").len(), 1, "not behind a feature");
        assert_eq!(findings("kaos-rudp", "tokio", "null, \"optional\": true"), [""; 0]);
        assert_eq!(findings("kaos-kernel", "rand_chacha", "null"), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_row_is_asked_for_one() {
        let found = findings("kaos-store", "serde", "null");
        assert!(found[0].starts_with("crate kaos-store has no row"), "{found:?}");
    }
}
