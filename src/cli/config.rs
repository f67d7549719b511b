//! `kaosnet config`: every key, its value, and where it was set.

use std::process::ExitCode;

use kaos_kernel::settings::SettingRow;
use serde_json::{Value, json};

use super::out::Out;
use super::warnings;
use crate::config::{Loaded, Origin, defaults_yaml, variable};

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
        out.line(defaults_yaml(&loaded.sections).trim_end());
        return ExitCode::SUCCESS;
    }
    warnings(out, loaded);
    let rows = loaded.rows().map(|(row, value, origin)| (row, shown(row, value), origin));
    if args.json {
        let object: serde_json::Map<String, Value> = rows
            .map(|(row, value, origin)| {
                let (source, env) = (origin.to_string(), variable(&row.key));
                let object = json!({"value": value, "source": source, "env": env, "doc": row.line()});
                (row.key.clone(), object)
            })
            .collect();
        out.line(&Value::Object(object).to_string());
        return ExitCode::SUCCESS;
    }
    for (row, value, origin) in rows {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let line = format!("{:<32} {value:<24} ", row.key);
        match origin {
            Origin::Default => out.line(&format!("{line}{}", out.dim("default"))),
            set => out.line(&format!("{line}{}", out.green(&set.to_string()))),
        }
        if args.long {
            out.line(&format!("    {}", out.dim(&row.line())));
        }
    }
    ExitCode::SUCCESS
}

/// A secret is not shown: this output gets into tickets and logs.
fn shown(row: &SettingRow, value: Value) -> Value {
    if row.is_secret && !value.is_null() { Value::from("(set)") } else { value }
}
