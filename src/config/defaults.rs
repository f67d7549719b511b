//! The defaults as a file with comments, to begin a `kaosnet.yaml` with.

use std::net::SocketAddr;

use kaos_kernel::settings::{Sections, SettingRow};
use serde_json::Value;

/// Columns of a line.
const COLUMNS: usize = 120;

const HEAD: &str = "\
# Every key of KaosNet with its default. Copy what you change into kaosnet.yaml; leave out the rest.
# Each key is also a variable (room.max_players: KAOS_ROOM_MAX_PLAYERS) and a flag (--room.max_players 20).
# Later sources win: defaults, file, environment, flags. `kaosnet config` shows what holds and why.
";

/// Every key with its default, and above it what it means.
pub fn defaults_yaml(sections: &Sections) -> String {
    let mut yaml = HEAD.to_owned();
    let mut before = None;
    for row in sections.rows() {
        if before != Some(row.section) {
            yaml.push('\n');
            if !row.section.is_empty() {
                yaml.push_str(&format!("{}:\n", row.section));
            }
        }
        before = Some(row.section);
        let indent = if row.section.is_empty() { "" } else { "  " };
        push_comment(&mut yaml, indent, row);
        yaml.push_str(&format!("{indent}{}: {}\n", row.name, scalar(&row.default)));
    }
    yaml
}

/// The meaning, in lines that are filled.
fn push_comment(yaml: &mut String, indent: &str, row: &SettingRow) {
    let mut line = format!("{indent}#");
    for word in row.line().split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            yaml.push_str(&line);
            yaml.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    yaml.push_str(&line);
    yaml.push('\n');
}

/// A value in YAML, of which JSON is a part: a text without quotes if nothing else could be meant by it.
fn scalar(value: &Value) -> String {
    match value.as_str() {
        Some(text) if is_plain(text) => text.to_owned(),
        _ => value.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let means_another = ["true", "false", "null", "yes", "no", "on", "y", "n"]
        .iter()
        .any(|known| text.eq_ignore_ascii_case(known));
    (is_word && !means_another) || text.parse::<SocketAddr>().is_ok_and(|address| address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_reads_as_something_else_is_quoted() {
        for plain in ["info", "data", "127.0.0.1:7350", "kaos1", "a/b.kj", "off"] {
            assert_eq!(scalar(&plain.into()), plain);
        }
        for quoted in ["true", "Null", "12", "0x12", "1e5", "a: b", "# a", "*", "", "[::1]:7350", "no"] {
            assert_eq!(scalar(&quoted.into()), Value::from(quoted).to_string());
        }
        assert_eq!(scalar(&Value::Null), "null");
        assert_eq!(scalar(&serde_json::json!(["a", 5])), r#"["a",5]"#);
    }
}
