//! `kaosnet ops` and `kaosnet events`: the two tables of this binary, as its plugins filled them.

use std::process::ExitCode;

use kaos_kernel::event::{EventRow, Events};
use kaos_kernel::op::{OpRow, Ops};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_kernel::server::Server;
use serde_json::{Value as Json, json};

use super::out::Out;
use super::{Plugins, USAGE, offline};
use crate::config::Loaded;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Adds what each one is for
    #[arg(long)]
    long: bool,
    /// Prints one JSON array; with the JSON Schema of every request, reply and event
    #[arg(long)]
    json: bool,
}

/// What clients and scripts may call.
pub(super) fn ops(out: &Out, args: &Args, loaded: &Loaded, plugins: &Plugins) -> ExitCode {
    let Some(mut server) = build(out, loaded, plugins) else { return ExitCode::from(USAGE) };
    let table = server.world().resource::<Ops>().0.clone();
    if args.json {
        out.line(&Json::Array(table.rows().iter().map(op_json).collect()).to_string());
        return ExitCode::SUCCESS;
    }
    let head =
        format!("{:<24} {:<8} {:<24} ways to it, beside the call by name", "operation", "for", "price");
    out.line(&out.dim(&head));
    for row in table.rows() {
        let mut ways: Vec<String> = routes(row);
        if let Some(form) = row.op.wire_form() {
            ways.push(format!("opcode {:#04x}", form.opcode));
        }
        ways.extend(script(row).map(|(name, _)| name));
        let (name, auth, price) = (&row.op.name, auth(row), price(row));
        let line = format!("{name:<24} {auth:<8} {price:<24} {}", out.dim(&ways.join("  ")));
        out.line(line.trim_end());
        about(out, args, row.op.about);
    }
    ExitCode::SUCCESS
}

/// What clients may hear.
pub(super) fn events(out: &Out, args: &Args, loaded: &Loaded, plugins: &Plugins) -> ExitCode {
    let Some(mut server) = build(out, loaded, plugins) else { return ExitCode::from(USAGE) };
    let table = server.world().resource::<Events>().0.clone();
    if args.json {
        out.line(&Json::Array(table.rows().iter().map(|row| event_json(row)).collect()).to_string());
        return ExitCode::SUCCESS;
    }
    out.line(&out.dim(&format!("{:<28} {:<12} how it travels", "event", "delivery")));
    for row in table.rows() {
        let how = match row.event.form {
            Some(form) => format!("opcode {:#04x}", form.opcode),
            None => format!("by name, up to {} bytes", row.event.bytes_max),
        };
        let reliable = if is_reliable(row) { "reliable" } else { "unreliable" };
        out.line(&format!("{:<28} {reliable:<12} {}", row.event.name, out.dim(&how)));
        about(out, args, row.event.about);
    }
    ExitCode::SUCCESS
}

/// A server as it would be built, of which nothing runs.
fn build(out: &Out, loaded: &Loaded, plugins: &Plugins) -> Option<Server> {
    let config = &loaded.config;
    match offline::build(config.settings(), config.quantum(), &config.server.scripts, plugins) {
        Ok(server) => Some(server),
        Err(error) => {
            error.0.iter().for_each(|sentence| out.error(sentence));
            None
        }
    }
}

fn about(out: &Out, args: &Args, about: &str) {
    if args.long {
        out.line(&format!("    {}", out.dim(about)));
    }
}

fn auth(row: &OpRow) -> &'static str {
    match row.op.auth {
        Auth::Public => "public",
        Auth::User => "user",
        Auth::Session => "session",
        Auth::Server => "server",
    }
}

fn price(row: &OpRow) -> String {
    row.op.price.map_or("free".to_owned(), |price| price.to_string())
}

fn routes(row: &OpRow) -> Vec<String> {
    row.op.rests().map(|(_, rest)| format!("{} {}", rest.method, rest.path)).collect()
}

/// The function of scripts, and how it is called.
fn script(row: &OpRow) -> Option<(String, &'static str)> {
    let how = match row.op.script {
        ScriptUse::Read => "read",
        ScriptUse::Command => "command",
        ScriptUse::Wait => "wait",
        ScriptUse::Rpc => "rpc",
        ScriptUse::Broadcast | ScriptUse::Never => return None,
    };
    Some((format!("kaos.{}", row.op.script_name()), how))
}

fn is_reliable(row: &EventRow) -> bool {
    row.event.channel != Channel::Unreliable
}

fn op_json(row: &OpRow) -> Json {
    let script = script(row).map(|(name, how)| json!({ "name": name, "use": how, "args": row.op.args }));
    json!({
        "name": row.op.name,
        "about": row.op.about,
        "auth": auth(row),
        "price": price(row),
        "routes": routes(row),
        "opcode": row.op.wire_form().map(|form| form.opcode),
        "script": script,
        "request": row.request.json(),
        "reply": row.reply.json(),
    })
}

fn event_json(row: &EventRow) -> Json {
    json!({
        "name": row.event.name,
        "about": row.event.about,
        "reliable": is_reliable(row),
        "bytes_max": row.event.form.is_none().then_some(row.event.bytes_max),
        "opcode": row.event.form.map(|form| form.opcode),
        "body": row.body.json(),
    })
}
