//! Source files: how they begin, how long they are, and which words have no place in them.

use super::{files, none, read};

/// Where Rust sources are.
const FOLDERS: [&str; 4] = ["src", "systems", "tests", "benches"];

/// Lines after which a file has to say in [`LONG`] what its one subject is.
const LINES_MAX: usize = 1000;

/// Long files that have one subject all the same, and which.
const LONG: &[(&str, &str)] = &[];

/// Crates in which nothing is `unsafe`, by folder: their lib.rs forbids it.
const SAFE: [&str; 8] = [
    ".",
    "systems/rudp",
    "systems/wire",
    "systems/kernel",
    "systems/rooms",
    "systems/gate",
    "systems/client",
    "tests/fuzz",
];

/// Words that have no place in some sources.
struct Ban {
    /// The words, each in two halves, so that this table does not find itself.
    words: &'static [(&'static str, &'static str)],
    /// Paths that begin so.
    within: &'static [&'static str],
    /// Paths among them that may, since they begin so too.
    except: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

/// Sources that run inside a frame.
const FRAME: &[&str] =
    &["systems/kernel/src", "systems/rooms/src", "systems/script/src", "systems/wire/src", "systems/lua/src"];

const BANS: &[Ban] = &[
    Ban {
        words: &[("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X")],
        within: &["src", "systems", "tests", "benches"],
        except: &[],
        instead: "finish it, or leave it out: what is not there is a typed error or a line in an issue",
    },
    Ban {
        words: &[("Hash", "Map"), ("Hash", "Set"), ("Random", "State")],
        within: FRAME,
        except: &[],
        instead: "its order differs by process: use BTreeMap, BTreeSet, a slab, or IndexMap",
    },
    Ban {
        words: &[("Instant::", "now"), ("SystemTime::", "now"), ("thread::", "sleep"), ("getrandom", "::")],
        within: &[
            "systems/kernel/src",
            "systems/rooms/src",
            "systems/script/src",
            "systems/wire/src",
            "systems/rudp/src",
        ],
        except: &[],
        instead: "time and randomness are inputs: `Clock` and `Dice` in a frame, an argument in a state machine",
    },
    Ban {
        words: &[
            ("std::", "net::UdpSocket"),
            ("std::", "net::Tcp"),
            ("std::", "thread"),
            ("std::", "env"),
            ("std::", "process"),
        ],
        within: &["systems/kernel/src", "systems/rooms/src", "systems/wire/src", "systems/rudp/src"],
        // The sockets of rudp, a feature that is off by default.
        except: &["systems/rudp/src/io.rs", "systems/rudp/src/io/"],
        instead: "no socket, thread or environment decides anything in there: doors and the runner bring it in",
    },
    Ban {
        words: &[("std::", "fs")],
        within: &[
            "systems/kernel/src",
            "systems/rooms/src",
            "systems/wire/src",
            "systems/rudp/src",
            "systems/client/src",
        ],
        except: &[],
        instead: "files are read before the first frame, or by a job outside of it",
    },
];

/// What is wrong with one source file.
fn wrong(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A crate may have a page of its own for its documentation.
    if !text.starts_with("//! ") && !text.starts_with("#![doc = include_str!(") {
        found.push(format!(
            "{path}:1: the first line has to be `//! ` and say in one sentence what the file is"
        ));
    }
    if path.ends_with("/mod.rs") {
        found.push(format!(
            "{path}: the file of a module is named for it: {}.rs",
            path.trim_end_matches("/mod.rs")
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX && !LONG.iter().any(|(long, _)| *long == path) {
        found.push(format!(
            "{path}: {lines} lines. Find the second subject and give it a file, or say in LONG (tests/tidy/sources.rs) which \
             one it has"
        ));
    }
    for ban in BANS {
        let applies = |list: &[&str]| list.iter().any(|start| path.starts_with(start));
        if !applies(ban.within) || applies(ban.except) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in
                ban.words.iter().map(|(a, b)| format!("{a}{b}")).filter(|word| code.contains(word.as_str()))
            {
                found.push(format!("{path}:{}: `{word}`: {}", number + 1, ban.instead));
            }
        }
    }
    found
}

#[test]
fn sources_are_in_order() {
    let mut found = Vec::new();
    let mut count = 0;
    for folder in FOLDERS {
        for path in files(folder, |name| name.ends_with(".rs")) {
            found.extend(wrong(&path, &read(&path)));
            count += 1;
        }
    }
    assert!(count > 50, "{count} sources found: is this the root?");
    for (path, _) in LONG {
        if read(path).lines().count() <= LINES_MAX {
            found.push(format!("{path} is in LONG and is not long any more: take it out"));
        }
    }
    for folder in SAFE {
        if !read(&format!("{folder}/src/lib.rs")).contains("\n#![forbid(unsafe_code)]") {
            found.push(format!("{folder}/src/lib.rs does not say `#![forbid(unsafe_code)]`"));
        }
    }
    none(&found);
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_licence() {
    let mut found = Vec::new();
    for path in files("systems", |name| name == "Cargo.toml").into_iter().chain(["Cargo.toml".to_owned()]) {
        let manifest = read(&path);
        for (line, why) in [
            ("[lints]\nworkspace = true", "the workspace's lints hold for every crate"),
            ("license.workspace = true", "one licence for all"),
            ("edition.workspace = true", "one edition for all"),
            ("description = ", "a sentence says what the crate is"),
        ] {
            if !manifest.contains(line) {
                found.push(format!("{path}: `{}` is missing: {why}", line.replace('\n', " ")));
            }
        }
    }
    none(&found);
}

#[cfg(test)]
mod the_check_itself {
    use super::{LINES_MAX, wrong};

    #[test]
    fn a_clean_file_passes() {
        let text = "//! Rooms.\n\n// a Hash".to_owned() + "Map in a comment is talk\nfn f() {}\n";
        assert_eq!(wrong("systems/kernel/src/a.rs", &text), [""; 0]);
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let long = "//! Long.\n".repeat(LINES_MAX + 1);
        for (path, text, finding) in [
            ("src/a.rs", "fn f() {}\n", "src/a.rs:1: the first line"),
            ("src/a/mod.rs", "//! A.\n", "src/a/mod.rs: the file of a module"),
            ("src/a.rs", long.as_str(), "src/a.rs: 1001 lines"),
            ("src/a.rs", concat!("//! A.\nfn f() { to", "do!() }"), concat!("src/a.rs:2: `to", "do!(`")),
            (
                "systems/rooms/src/a.rs",
                concat!("//! A.\n\nuse std::collections::Hash", "Set;"),
                concat!("systems/rooms/src/a.rs:3: `Hash", "Set`"),
            ),
            (
                "systems/rudp/src/a.rs",
                concat!("//! A.\nlet now = Instant::", "now();"),
                concat!("systems/rudp/src/a.rs:2: `Instant::", "now`"),
            ),
        ] {
            let found = wrong(path, text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(finding), "{found:?}");
        }
    }

    #[test]
    fn a_ban_holds_where_it_is_meant_to() {
        let text = concat!("//! A.\nlet now = Instant::", "now();");
        assert_eq!(wrong("systems/gate/src/a.rs", text), [""; 0]);
    }
}
