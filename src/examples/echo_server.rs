//! The smallest server: one operation, in Rust, and whatever scripts lie in `scripts/`.
//!
//! ```text
//! cargo run --example echo_server
//! curl -d '{"say":"hi"}' -H 'Content-Type: application/json' http://127.0.0.1:7350/v1/echo
//! ```

use kaosnet::prelude::*;
use serde::{Deserialize, Serialize};

/// What comes in goes out.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Echo {
    say: String,
}

async fn echo(_: Call, request: Echo) -> Result<Echo, Fault> {
    Ok(request)
}

fn main() -> std::process::ExitCode {
    kaosnet::cli(|app| {
        app.op(Op::new("echo").about("Says back what it is told.").rest("POST /v1/echo").price(1), echo);
    })
}
