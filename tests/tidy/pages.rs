//! Public pages: their links lead somewhere, their tables say what the code says, their words are plain.

use std::collections::BTreeSet;

use super::{files, none, read, root};

/// Pages for readers.
const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Words that say nothing, or that something is missing.
const WORDS: &[(&str, &str)] = &[
    ("blazing", "give the figure and how it was measured"),
    ("lightning-fast", "give the figure and how it was measured"),
    ("cutting-edge", "say what it does"),
    ("state-of-the-art", "say what it does"),
    ("world-class", "say what it does"),
    ("best-in-class", "say what it does"),
    ("enterprise-grade", "say what it does"),
    ("battle-tested", "say which test"),
    ("seamless", "say what happens"),
    ("effortless", "say what one has to do"),
    ("revolutionary", "say what it does"),
    ("game-changing", "say what it does"),
    ("supercharge", "say what it does"),
    ("utilize", "use"),
    ("leverage", "use"),
    ("todo:", "finish it or leave it out"),
    ("tbd", "finish it or leave it out"),
    ("coming soon", "say what is there now"),
    ("lorem ipsum", "write it"),
];

fn pages() -> Vec<String> {
    let markdown = |name: &str| name.ends_with(".md");
    let mut pages: Vec<String> = PAGES.map(str::to_owned).into();
    pages.extend(files("systems", markdown).into_iter().chain(files("assets", markdown)));
    pages
}

/// The targets of a page's links, as they are written, without those to other sites.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        if code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.is_empty() {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// A heading as the name that a link gives it: lower case, spaces become dashes, the rest but letters goes.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter_map(|letter| match letter {
            ' ' | '-' => Some('-'),
            letter if letter.is_alphanumeric() || letter == '_' => Some(letter.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for page in pages() {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&read(&page)) {
            let (path, heading) = link.split_once('#').map_or((link.as_str(), None), |(p, h)| (p, Some(h)));
            let target = if path.is_empty() { page.clone() } else { format!("{folder}/{path}") };
            let target = target.trim_start_matches('/');
            if !root().join(target).exists() {
                found.push(format!("{page}: the link `{link}` leads to {target}, which is not there"));
            } else if let Some(heading) = heading.filter(|_| target.ends_with(".md")) {
                let there = read(target).lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                if !there {
                    found.push(format!("{page}: {target} has no heading for the link `{link}`"));
                }
            }
        }
    }
    none(&found);
}

/// The page on what must never happen would be worth nothing if a test that it names were gone.
#[test]
fn tests_that_a_page_names_are_there() {
    let page = read("systems/rudp/README.md");
    let code: String =
        files("systems/rudp", |name| name.ends_with(".rs")).iter().map(|name| read(name)).collect();
    let named: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect();
    let tests: Vec<&str> = named
        .into_iter()
        .filter(|name| name.matches('_').count() >= 4 && !name.contains([' ', '(', ':']))
        .collect();
    assert!(tests.len() > 20, "the page names tests: {tests:?}");
    let gone = tests.iter().filter(|name| !code.contains(&format!("fn {name}(")));
    none(
        &gone
            .map(|name| format!("systems/rudp/README.md names the test {name}, which is not there"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn words_are_plain() {
    let mut found = Vec::new();
    for page in pages() {
        for (number, line) in read(&page).lines().enumerate() {
            let lower = line.to_lowercase();
            for (word, instead) in WORDS.iter().filter(|(word, _)| has_word(&lower, word)) {
                found.push(format!("{page}:{}: \"{word}\": {instead}", number + 1));
            }
        }
    }
    none(&found);
}

/// Does the word, or one that begins with it, stand in the line?
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric()))
}

/// The rows of a page's table whose first cell is a number: the cells, without back quotes.
fn rows(page: &str, number: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>())
        .filter(|cells| cells.first().is_some_and(|cell| number(cell)))
        .collect()
}

#[test]
fn the_page_and_the_kernel_have_the_same_faults() {
    // `Full = 10 "full" http 409 grpc 8 "no seat is free";`
    let source = read("systems/kernel/src/fault.rs");
    let in_code: BTreeSet<(String, String, String)> = source
        .lines()
        .filter_map(|line| {
            let (_, row) = line.split_once(" = ")?;
            let mut words = row.split_whitespace();
            let code = words.next().filter(|code| code.parse::<u16>().is_ok())?;
            let word = words.next()?.trim_matches('"');
            let http = words.next().filter(|word| *word == "http").and_then(|_| words.next())?;
            Some((code.to_owned(), word.to_owned(), http.to_owned()))
        })
        .collect();
    let page = read("assets/proto/README.md");
    let errors =
        page.split("\n## Errors").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let on_page: BTreeSet<(String, String, String)> = rows(errors, |cell| cell.parse::<u16>().is_ok())
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone(), cells[2].clone()))
        .collect();
    assert!(in_code.len() > 20, "fault.rs is written in another way now: {in_code:?}");
    let mut found = Vec::new();
    for (code, word, http) in in_code.difference(&on_page) {
        found.push(format!(
            "assets/proto/README.md, Errors: no row `| {code} | `{word}` | {http} |`, as fault.rs has it"
        ));
    }
    for (code, word, http) in on_page.difference(&in_code) {
        found.push(format!("systems/kernel/src/fault.rs: no fault {code} `{word}` with HTTP {http}, as the protocol page has it"));
    }
    none(&found);
}

#[test]
fn the_page_and_the_codec_have_the_same_opcodes() {
    let in_code: BTreeSet<String> = read("systems/wire/src/table.rs")
        .lines()
        .filter_map(|line| line.split_once(" = 0x")?.1.split_once(','))
        .map(|(number, _)| format!("0x{number}"))
        .collect();
    let on_page: BTreeSet<String> = rows(&read("assets/proto/README.md"), |cell| cell.starts_with("0x"))
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    assert!(in_code.len() >= 10, "table.rs is written in another way now: {in_code:?}");
    assert_eq!(in_code, on_page, "systems/wire/src/table.rs (left) and assets/proto/README.md (right)");
}

#[test]
fn licences_are_there() {
    for (path, begins) in [("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")] {
        let text = read(path);
        assert!(text.trim_start().starts_with(begins), "{path} does not begin with `{begins}`");
        assert!(text.contains("The KaosNet contributors"), "{path} does not say whose it is");
    }
}

#[test]
fn the_readme_gives_two_commands_and_ci_runs_them() {
    let readme = read("README.md");
    let ci = read(".ci/run");
    for command in ["cargo run --release", "cargo test"] {
        assert!(
            readme.lines().any(|line| line.trim() == command),
            "README.md does not show `{command}` on a line of its own"
        );
    }
    assert!(ci.contains("cargo test"), ".ci/run does not run the README's tests");
    assert!(ci.contains("cargo build --release"), ".ci/run does not build what `cargo run --release` runs");
}

/// What the README shows in Rust, each from a file that is compiled and run, in the order of the page.
const SHOWN: [&str; 2] = ["src/examples/game_server.rs", "tests/server/samples.rs"];

#[test]
fn what_the_readme_shows_in_rust_is_code_that_runs() {
    let readme = read("README.md");
    let mut shown = readme.split("\n```rust").skip(1).map(|block| {
        let code = block.split("\n```").next().unwrap_or_default();
        code.split_once('\n').map_or("", |(_, code)| code)
    });
    for path in SHOWN {
        let code = shown.next().unwrap_or_default();
        assert!(
            code.len() > 100 && read(path).contains(code),
            "README.md: this is not in {path}, copy it again:\n{code}"
        );
    }
    assert_eq!(shown.next(), None, "README.md: name the file in `SHOWN` that this is taken from");
}

#[cfg(test)]
mod the_check_itself {
    use super::{anchor, has_word, links, rows};

    #[test]
    fn links_and_headings_are_read() {
        let text = "[a](b.md#c) and [d](https://e.f/)\n```\n[g](h)\n```\n[i](#j)";
        assert_eq!(links(text), ["b.md#c", "#j"]);
        assert_eq!(anchor("## In one minute"), "in-one-minute");
        assert_eq!(anchor("### `kaos.*`, in short"), "kaos-in-short");
    }

    #[test]
    fn words_are_found_at_their_beginning_only() {
        assert!(has_word("a blazing thing", "blazing"));
        assert!(has_word("seamlessly", "seamless"));
        assert!(!has_word("unseamless", "seamless"));
    }

    #[test]
    fn tables_are_read() {
        assert_eq!(
            rows("| 3 | `invalid` | 400 |\n| code |", |cell| cell == "3"),
            [["3", "invalid", "400", ""]]
        );
    }
}
