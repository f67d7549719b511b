//! `kaosnet replay`: a journal, run again on a fresh server.

use std::path::PathBuf;
use std::process::ExitCode;

use kaos_kernel::clock::Quantum;
use kaos_kernel::journal::{Header, Reader};
use serde_json::json;

use super::out::{Out, grouped, now};
use super::{FAILED, Plugins, USAGE, offline, warnings};
use crate::config::Loaded;
use crate::replay::{ReplayError, Replayed, replay};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The journal
    file: PathBuf,
    /// Prints one JSON object: equal, frames, inputs, checks, last_frame, outputs_hash, state_hash, error
    #[arg(long)]
    json: bool,
}

pub(super) fn run(out: &Out, args: &Args, loaded: &Loaded, plugins: &Plugins) -> ExitCode {
    warnings(out, loaded);
    let begun = now();
    let result = match again(args, loaded, plugins) {
        Ok(result) => result,
        Err(why) => {
            if args.json {
                out.line(&json!({"equal": false, "error": why}).to_string());
            } else {
                out.error(&why);
            }
            return ExitCode::from(USAGE);
        }
    };
    let equal = result.is_ok();
    match result {
        Ok(done) if args.json => out.line(
            &json!({
                "equal": true, "frames": done.frames, "inputs": done.inputs, "checks": done.checks,
                "last_frame": done.last_frame, "outputs_hash": format!("{:016x}", done.outputs_hash),
                "state_hash": format!("{:016x}", done.state_hash),
            })
            .to_string(),
        ),
        Err(error) if args.json => out.line(&json!({"equal": false, "error": error.to_string()}).to_string()),
        Ok(done) => out.line(&sentence(&done, begun.elapsed().as_secs_f64())),
        Err(error) => out.error(&error.to_string()),
    }
    if equal { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn sentence(done: &Replayed, secs: f64) -> String {
    let (frames, inputs, checks) = (grouped(done.frames), grouped(done.inputs), grouped(done.checks));
    if done.checks == 0 {
        return format!(
            "{frames} frames, {inputs} inputs: ran, and the journal has no check to compare with"
        );
    }
    format!(
        "{frames} frames, {inputs} inputs: equal at {checks} checks ({secs:.1} s); outputs {:016x}, state {:016x}",
        done.outputs_hash, done.state_hash
    )
}

/// The outer error: it could not begin.
fn again(args: &Args, loaded: &Loaded, plugins: &Plugins) -> Result<Result<Replayed, ReplayError>, String> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).map_err(|error| format!("{file} cannot be read: {error}"))?;
    let (header, _) = Reader::new(&bytes).map_err(|error| format!("{file}: {error}"))?;
    let Header { quantum_us, settings, .. } = header;
    // What the frame was told is in the journal, `dev` too; only scripts and plugins are this server's own.
    let settings = serde_json::from_str(&settings).map_err(|error| {
        format!("{file}: its settings cannot be read ({error}): another version wrote it")
    })?;
    let quantum =
        Quantum::from_us(quantum_us).ok_or_else(|| format!("{file}: no frame takes {quantum_us} µs"))?;
    let config = &loaded.config;
    let server = offline::build(settings, quantum, &config.server.scripts, plugins)
        .map_err(|error| format!("the server cannot be built: {error}"))?;
    match replay(&bytes, server) {
        Err(error @ ReplayError::Foreign { .. }) => Err(format!("{file}: {error}")),
        result => Ok(result),
    }
}
