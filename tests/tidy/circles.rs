//! What inside a crate knows what: subjects that know each other in a circle, and operations that are known by name.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, none, read};

/// The crates of the server and its client, by the folder below `systems`.
const CRATES: [&str; 8] = ["client", "gate", "kernel", "lua", "rooms", "rudp", "script", "wire"];

/// Who knows whom among the subjects of a crate.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// A source without its tests, which stand at its end, and without comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The subjects that a source of the crate names: what stands behind `crate::`, one name or a list in braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0_usize;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && depth == 0 && !c.is_whitespace() => {
                    found.insert(word(list.get(at..).unwrap_or_default()));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// The arrows between the subjects of the crate in `folder`: a subject is a file beside `lib.rs`, with the folder of its
/// name.
fn arrows(folder: &str) -> Arrows {
    let start = format!("systems/{folder}/src/");
    let mut arrows = Arrows::new();
    for path in files(&start, |name| name.ends_with(".rs")) {
        let inside = path.strip_prefix(&start).unwrap_or(&path);
        let subject = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        if subject == "lib" || inside.contains("tests") {
            continue;
        }
        let mut named = named(&code(&read(&path)));
        named.remove(subject);
        arrows.entry(subject.to_owned()).or_default().extend(named);
    }
    let subjects: BTreeSet<_> = arrows.keys().cloned().collect();
    arrows.values_mut().for_each(|named| named.retain(|name| subjects.contains(name)));
    arrows
}

/// Everything that can be reached from a subject.
fn reached(arrows: &Arrows, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(at) = open.pop() {
        for next in arrows.get(&at).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// The circles: largest sets of subjects of which each can be reached from each.
fn circles(arrows: &Arrows) -> BTreeSet<Vec<String>> {
    let reached: BTreeMap<_, _> = arrows.keys().map(|from| (from.clone(), reached(arrows, from))).collect();
    let circle = |from: &String| -> Vec<String> {
        reached[from].iter().filter(|to| reached[*to].contains(from)).cloned().collect()
    };
    arrows.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}

#[test]
fn subjects_know_each_other_in_no_circle() {
    let mut findings = Vec::new();
    for folder in CRATES {
        for circle in circles(&arrows(folder)) {
            findings.push(format!(
                "systems/{folder}: {} know each other in a circle. Move what they share to the one below",
                circle.join(", ")
            ));
        }
    }
    none(&findings);
}

#[test]
fn doors_and_scripts_know_no_operation_by_name() {
    let mut ops = BTreeSet::new();
    for path in files("systems", |name| name.ends_with(".rs")) {
        for rest in code(&read(&path)).split("Op::new(\"").skip(1) {
            ops.insert(rest.split('"').next().unwrap_or_default().to_owned());
        }
    }
    // A name without a dot, as `rpc`, is a word of other things too.
    ops.retain(|op| op.contains('.'));
    assert!(ops.len() > 10, "{} operations found: is this the root?", ops.len());
    let mut findings = Vec::new();
    for folder in ["systems/gate/src", "systems/script/src"] {
        for path in files(folder, |name| name.ends_with(".rs") && name != "tests.rs") {
            let code = code(&read(&path));
            for op in ops.iter().filter(|op| code.contains(&format!("\"{op}\""))) {
                findings.push(format!(
                    "{path} knows `{op}` by name: what it needs of it belongs in the operation's row"
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn a_language_of_scripts_is_known_where_it_is_registered_alone() {
    let mut known = BTreeSet::new();
    for path in files("systems/script/src", |name| name.ends_with(".rs")) {
        let inside = path.contains("/lua/") || path.ends_with("/lua.rs");
        if !inside && named(&code(&read(&path))).contains("lua") {
            known.insert(path);
        }
    }
    assert_eq!(known, BTreeSet::from(["systems/script/src/plugin.rs".to_owned()]));
}

#[test]
fn the_check_reads_names_and_finds_circles() {
    let text = "use crate::a;\nuse crate::{b::{x, y}, c};\n// crate::talk\nfn f() { crate::d::g() }\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}";
    assert_eq!(named(&code(text)), ["a", "b", "c", "d"].map(str::to_owned).into());
    let to = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let arrows: Arrows = [("a", to(&["b"])), ("b", to(&["c"])), ("c", to(&["b"])), ("d", to(&[]))]
        .map(|(name, named)| (name.to_owned(), named))
        .into();
    assert_eq!(circles(&arrows), BTreeSet::from([vec!["b".to_owned(), "c".to_owned()]]));
}
