//! The `kaosnet` program: the server as it is shipped, without plugins of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    kaosnet::cli(|_| {})
}
