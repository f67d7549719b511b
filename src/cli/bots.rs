//! `kaosnet bots`: many clients play one match, and every message is accounted for.
//!
//! All bots come in first. Then each moves (op 1) and shouts (op 9) reliably at its rate: the number of the run, its own
//! number, a sequence and the time at which the shout was *due*, 20 bytes; the match relays shouts to all its members.
//! Each bot checks the sequence of each other bot of its run in its room: what is missing at the end was lost, what comes twice was
//! doubled. Latency counts from when a shout was due, so a bot that is held up does not hide it; the timers of the bots
//! add up to a millisecond.
//!
//! A run is good, and ends with exit code 0, when every bot came in and played to the end, bots could hear each other,
//! and nothing was lost or doubled. One bot, or a room for each, can lose nothing: the report says so.
//!
//! A bad network can stand between each bot and its socket: it loses datagrams and holds them back, on top of what the
//! real one does.

mod player;
mod report;
mod server;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kaos_client::swarm::{self, Seat};
use kaos_client::{Credentials, Emulation, Options};

use super::out::{Out, grouped, sleep_ms};
use super::{FAILED, Plugins, USAGE, token, warnings};
use crate::config::Loaded;
use player::{Bot, Plan, Shared};
use report::Report;
use server::{Cpu, Target};
use tally::Tally;

/// How long a bot may take to come in, when its turn has come.
const JOIN: Duration = Duration::from_secs(15);

/// How long they listen after the last shout, at most: the last ones have that long to arrive.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Door {
    /// kaos-rudp
    Udp,
    /// WebSocket
    Ws,
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// How many clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// The match module that they join. What they shout (op 9) is counted where the match relays it to its members, as
    /// arena does; of others round trips are measured
    #[arg(long = "match", value_name = "MODULE", default_value = "arena")]
    module: String,
    /// How long they play, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    secs: u64,
    /// Over what they connect
    #[arg(long, value_enum, default_value_t = Door::Udp)]
    door: Door,
    /// Where the server is: http://host:port, kaos://host:port (UDP), ws://host:port, or host:port of the door
    /// [default: http://127.0.0.1:7350; when nobody listens there, a server in this process]
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// In how many rooms, each made before it is joined [default: whatever join-or-create gives]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: Option<u32>,
    /// Shouts a second of each bot, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    hz: u32,
    /// Loses this share of all datagrams, each way, before they reach the network: percent, 0 to 50. UDP only
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "A bad network")]
    loss: Option<u16>,
    /// Adds this to the way there and back, in milliseconds. UDP only
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=5_000), help_heading = "A bad network")]
    rtt: Option<u64>,
    /// Adds up to this to each way, at random, in milliseconds. UDP only
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=1_000), help_heading = "A bad network")]
    jitter: Option<u64>,
    /// What is random in the bad network follows from it, and the number of the run, which tells its bots from those of
    /// another on the same server [default: 1, and a number of the run that nobody else has]
    #[arg(long, help_heading = "A bad network")]
    seed: Option<u64>,
    /// Sign in with tokens, made with the key of this configuration, instead of names
    #[arg(long)]
    tokens: bool,
    /// Prints one JSON object: good, wrong, sent, delivered, lost_reliable, doubled, p50_us, p99_us, p999_us, and more
    #[arg(long)]
    json: bool,
}

/// A percentage as a thousandth, so that 0.5 can be asked for.
fn percent(text: &str) -> Result<u16, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=50.0).contains(&percent) => Ok((percent * 10.0).round() as u16),
        _ => Err("a percentage from 0 to 50, e.g. 5 or 0.5".to_owned()),
    }
}

impl Args {
    /// What tells this run from all others.
    fn run(&self) -> Result<u32, String> {
        // Seeds that differ by little give numbers that differ: the upper half of a product with a large odd number.
        let of_seed = |seed: u64| Ok((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32);
        let random = || kaos_gate::random().map(u32::from_le_bytes);
        self.seed.map_or_else(random, of_seed).map_err(|error| format!("no randomness for this run: {error}"))
    }

    /// The bad network that was asked for.
    fn emulation(&self) -> Result<Option<Arc<Emulation>>, String> {
        if self.loss.is_none() && self.rtt.is_none() && self.jitter.is_none() {
            return Ok(None);
        }
        if self.door == Door::Ws {
            return Err("--loss, --rtt and --jitter act on datagrams: they go with --door udp".to_owned());
        }
        let ms = |value: Option<u64>| Duration::from_millis(value.unwrap_or(0));
        Ok(Some(Emulation::new(
            self.loss.unwrap_or(0),
            ms(self.rtt),
            ms(self.jitter),
            self.seed.unwrap_or(1),
        )))
    }
}

pub(super) fn run(out: &Out, args: &Args, loaded: &Loaded, plugins: Plugins) -> ExitCode {
    warnings(out, loaded);
    let emulation = match args.emulation() {
        Ok(emulation) => emulation,
        Err(why) => {
            out.error(&why);
            return ExitCode::from(USAGE);
        }
    };
    let target = match Target::find(args, loaded, plugins, |text| out.remark(text)) {
        Ok(target) => target,
        Err(why) => {
            out.error(&why);
            return ExitCode::from(USAGE);
        }
    };
    match play(out, args, loaded, &target, emulation) {
        Ok(report) => {
            if args.json {
                out.line(&report.json().to_string());
            } else {
                report.print(out);
            }
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(why) => {
            out.progress("");
            out.error(&why);
            ExitCode::from(FAILED)
        }
    }
}

fn play(
    out: &Out,
    args: &Args,
    loaded: &Loaded,
    target: &Target,
    emulation: Option<Arc<Emulation>>,
) -> Result<Report, String> {
    // Below what one address may start a second, unless the server is ours or the burst is enough.
    let spacing = Duration::from_millis(if target.is_ours() || args.clients <= 250 { 2 } else { 25 });
    let join = JOIN + spacing * args.clients;
    let run = args.run()?;
    let plan = Plan {
        run,
        clients: args.clients,
        module: args.module.clone(),
        rooms: args.rooms,
        hz: args.hz,
        play: Duration::from_secs(args.secs),
        join,
        drain: DRAIN,
    };
    let shared = Arc::new(Shared::new(plan));
    let seats = seats(args, loaded, target, spacing, &shared, run, emulation.as_ref())?;
    let limit = join + Duration::from_secs(args.secs) + DRAIN + Duration::from_secs(30);
    let url = target.url.clone();
    let work = move || swarm::run(&url, seats, limit);
    let thread = std::thread::Builder::new().name(server::BOTS_THREAD.to_owned());
    let thread = thread.spawn(work).map_err(|error| format!("no thread for the bots: {error}"))?;

    let before = watch(out, args, &shared, target, || thread.is_finished());
    let bots = thread.join().map_err(|_| "the bots failed; the reason stands above".to_owned())?;
    let bots =
        bots.map_err(|error| format!("{error}. Start one with `kaosnet`, or name another with --server"))?;
    out.progress("");
    let (cpu, lateness) = before.map_or((Cpu::default(), None), |before| before.finish(target, &shared));
    let tally = Tally::of(bots.into_iter().map(Bot::into_log));
    Ok(Report {
        door: args.door,
        clients: args.clients,
        rooms: args.rooms,
        hz: args.hz,
        secs: args.secs,
        emulation,
        tally,
        cpu,
        lateness,
    })
}

fn seats(
    args: &Args,
    loaded: &Loaded,
    target: &Target,
    spacing: Duration,
    shared: &Arc<Shared>,
    run: u32,
    emulation: Option<&Arc<Emulation>>,
) -> Result<Vec<Seat<Bot>>, String> {
    let seat = |number: u32| {
        let name = format!("bot{run:08x}-{number}");
        let credentials = if args.tokens {
            let (token, _) = token::make(&target.config(loaded), &name, &name, 3600, Default::default())?;
            Credentials::token(token)
        } else {
            Credentials::anonymous(name)
        };
        let options = Options {
            client: "kaosnet bots".to_owned(),
            emulation: emulation.cloned(),
            ..Options::default()
        };
        let start_after = spacing * number;
        Ok(Seat { credentials, options, start_after, bot: Bot::new(number, shared.clone()) })
    };
    (0..args.clients).map(seat).collect()
}

/// Shows how far it is until the bots are done. Returns the figures from when they began to play, if they did.
fn watch(
    out: &Out,
    args: &Args,
    shared: &Shared,
    target: &Target,
    is_done: impl Fn() -> bool,
) -> Option<server::Figures> {
    let mut before = None;
    while !is_done() {
        sleep_ms(if before.is_none() { 10 } else { 100 });
        let joined = shared.joined.load(Ordering::Relaxed);
        let start = shared.start_us.load(Ordering::Relaxed);
        if start == 0 {
            out.progress(&format!("coming in: {joined} of {}", args.clients));
            continue;
        }
        if before.is_none() {
            before = Some(server::Figures::now(target));
        }
        if let Some(ns) = server::processor_ns(std::process::id(), |thread| thread == server::BOTS_THREAD) {
            shared.bots_ns.store(ns, Ordering::Relaxed);
        }
        let (sent, delivered) =
            (shared.sent.load(Ordering::Relaxed), shared.delivered.load(Ordering::Relaxed));
        let secs = kaos_client::clock::now().0.saturating_sub(start) / 1_000_000;
        out.progress(&format!(
            "{joined} play, {} of {} s: {} sent, {} delivered",
            secs.min(args.secs),
            args.secs,
            grouped(sent),
            grouped(delivered)
        ));
    }
    before
}
