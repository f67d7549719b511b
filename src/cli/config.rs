//! `kaosnet config`: every key, its value, and where it was set.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::out::Out;
use super::warnings;
use crate::config::{Loaded, Origin, defaults_yaml};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Prints the defaults as a file with comments, to begin a kaosnet.yaml with
    #[arg(long)]
    defaults: bool,
    /// Adds what each key means
    #[arg(long)]
    long: bool,
    /// Prints one JSON object: by key its value, source, variable and meaning
    #[arg(long)]
    json: bool,
}

pub(super) fn run(out: &Out, args: &Args, loaded: &Loaded) -> ExitCode {
    if args.defaults {
        out.line(&defaults_yaml());
        return ExitCode::SUCCESS;
    }
    warnings(out, loaded);
    let rows = loaded.rows().into_iter().map(|(key, value, origin)| (key, shown(&key.path, value), origin));
    if args.json {
        let object: serde_json::Map<String, Value> = rows
            .map(|(key, value, origin)| {
                let row =
                    json!({"value": value, "source": origin.to_string(), "env": key.env, "doc": key.doc});
                (key.path.clone(), row)
            })
            .collect();
        out.line(&Value::Object(object).to_string());
        return ExitCode::SUCCESS;
    }
    for (key, value, origin) in rows {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let line = format!("{:<32} {value:<24} ", key.path);
        match origin {
            Origin::Default => out.line(&format!("{line}{}", out.dim("default"))),
            set => out.line(&format!("{line}{}", out.green(&set.to_string()))),
        }
        if args.long {
            out.line(&format!("    {}", out.dim(&key.doc)));
        }
    }
    ExitCode::SUCCESS
}

/// Keys are secrets: this output gets into tickets and logs.
fn shown(path: &str, value: Value) -> Value {
    if (path == "session.key" || path == "udp.key") && !value.is_null() {
        Value::from("(set)")
    } else {
        value
    }
}
