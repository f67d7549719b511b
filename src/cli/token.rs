//! `kaosnet token`: a signed session token, with the key of the configuration or of the data folder.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kaos_gate::identity::credentials::{Claims, mint};
use kaos_gate::identity::keys::session_key;
use kaos_wire::limits::TOKEN_MAX;
use serde_json::json;

use super::out::{Out, unix_s};
use super::{USAGE, warnings};
use crate::config::{Config, Loaded};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The user's id, 1 to 128 bytes
    #[arg(long, value_name = "ID")]
    user: String,
    /// The name that others see [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// How long the token is good, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    ttl: u64,
    /// A variable of the session, which scripts read in ctx.vars; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    var: Vec<String>,
    /// Prints one JSON object: token, user_id, username, expires_at
    #[arg(long)]
    json: bool,
}

pub(super) fn run(out: &Out, args: &Args, loaded: &Loaded) -> ExitCode {
    warnings(out, loaded);
    let mut vars = BTreeMap::new();
    for pair in &args.var {
        let Some((key, value)) = pair.split_once('=') else {
            out.error(&format!("--var {pair}: a variable is given as KEY=VALUE"));
            return ExitCode::from(USAGE);
        };
        vars.insert(key.to_owned(), value.to_owned());
    }
    if args.user.is_empty()
        || args.user.len() > 128
        || args.name.as_ref().is_some_and(|name| name.len() > 128)
    {
        out.error("--user and --name have 1 to 128 bytes");
        return ExitCode::from(USAGE);
    }
    let name = args.name.clone().unwrap_or_else(|| args.user.clone());
    let config = &loaded.config;
    let is_new = config.session.key.is_none() && !config.keys_dir().join("session.key").exists();
    let made = make(config, &args.user, &name, args.ttl, vars);
    if is_new && made.is_ok() {
        out.warning(&format!(
            "made a new key in {}: only a server with that data folder takes this token. For one that runs already, \
             give --data with its folder",
            config.keys_dir().display()
        ));
    }
    match made {
        Ok((token, _)) if !args.json => out.line(&token),
        Ok((token, expires_at)) => out.line(
            &json!({"token": token, "user_id": args.user, "username": name, "expires_at": expires_at})
                .to_string(),
        ),
        Err(why) => {
            out.error(&why);
            return ExitCode::from(USAGE);
        }
    }
    ExitCode::SUCCESS
}

/// A token that every server takes, and when it ends in seconds of Unix time. Makes the key when there is none yet, as a server would.
pub(super) fn make(
    config: &Config,
    user: &str,
    name: &str,
    ttl_s: u64,
    vars: BTreeMap<String, String>,
) -> Result<(String, u64), String> {
    let key = session_key(&config.server.data, config.session.key.as_deref(), config.node.dev);
    let (key, _) = key.map_err(|error| error.to_string())?;
    let id: [u8; 32] =
        kaos_gate::random().map_err(|error| format!("no randomness for the token's id: {error}"))?;
    let iat = unix_s();
    let claims = Claims {
        tid: id.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
        uid: user.to_owned(),
        usn: name.to_owned(),
        vrs: vars,
        iat,
        exp: iat.saturating_add(ttl_s),
        ..Claims::default()
    };
    let exp = claims.exp;
    claims.clone().proof().map_err(|fault| format!("no server would take this token: {}", fault.message))?;
    let token = mint(&key, &claims).map_err(|fault| fault.to_string())?;
    if token.len() > TOKEN_MAX {
        return Err(format!(
            "no server would take this token: it has {} bytes, and at most {TOKEN_MAX} are allowed",
            token.len()
        ));
    }
    Ok((token, exp))
}
