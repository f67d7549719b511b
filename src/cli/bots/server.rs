//! The server that bots play on: a given one, the one on this machine, or one of their own; and its figures.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering;
use std::time::Duration;

use kaos_kernel::limit::LimitSettings;

use super::player::Shared;
use super::{Args, Door};
use crate::cli::Plugins;
use crate::config::{Config, Loaded, UdpAddress};
use crate::runner::{self, Running};

/// The thread that all bots run on.
pub(super) const BOTS_THREAD: &str = "kaos-bots";

/// Where a server is when nobody said it.
const DEFAULT: &str = "127.0.0.1:7350";

/// Bytes of `/metrics` that are read.
const METRICS_BYTES_MAX: u64 = 4 << 20;

/// Where the bots go.
pub(super) struct Target {
    /// What the client takes.
    pub(super) url: String,
    /// The HTTP door, if it is known: for figures.
    http: Option<SocketAddr>,
    ours: Option<(Running, Config)>,
}

impl Target {
    pub(super) fn find(
        args: &Args,
        loaded: &Loaded,
        plugins: Plugins,
        say: impl Fn(&str),
    ) -> Result<Target, String> {
        if let Some(server) = &args.server {
            let (url, http) = given(server, args.door)?;
            return Ok(Target { url, http, ours: None });
        }
        let here: SocketAddr = DEFAULT.parse().map_err(|_| format!("{DEFAULT} is not an address"))?;
        if TcpStream::connect_timeout(&here, Duration::from_secs(1)).is_ok() {
            let (url, http) = given(&format!("http://{DEFAULT}"), args.door)?;
            return Ok(Target { url, http, ours: None });
        }
        say(&format!(
            "no server on {DEFAULT}: one runs in this process, on free ports, with limits that fit"
        ));
        let config = own_config(args, &loaded.config)?;
        crate::cli::serve::log(&config);
        let running = runner::start(&config, move |app| plugins(app))
            .map_err(|error| format!("no server of their own: {error}"))?;
        let url = match (args.door, running.udp.zip(running.udp_key)) {
            (Door::Udp, Some((udp, key))) => format!("kaos://{udp}#{key}"),
            (Door::Udp, None) => return Err("the server of their own has no UDP door".to_owned()),
            (Door::Ws, _) => format!("ws://{}", running.http),
        };
        Ok(Target { url, http: Some(running.http), ours: Some((running, config)) })
    }

    /// Whether the server runs in this process.
    pub(super) fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// The configuration whose key signs the bots' tokens.
    pub(super) fn config(&self, loaded: &Loaded) -> Config {
        self.ours.as_ref().map_or_else(|| loaded.config.clone(), |(_, config)| config.clone())
    }
}

/// The url for the client, and the address of HTTP where the url tells it.
fn given(server: &str, door: Door) -> Result<(String, Option<SocketAddr>), String> {
    let (scheme, rest) = server.split_once("://").unwrap_or(("", server));
    let host = rest.trim_end_matches('/');
    let http = || host.to_socket_addrs().ok().and_then(|mut found| found.next());
    match (scheme, door) {
        ("http", Door::Udp) => Ok((format!("http://{host}"), http())),
        ("http" | "ws" | "", Door::Ws) => Ok((format!("ws://{host}"), http())),
        ("kaos" | "", Door::Udp) => Ok((format!("kaos://{host}"), None)),
        ("kaos" | "ws", _) => {
            Err(format!("--server {server} and --door {door:?} do not fit together").to_lowercase())
        }
        _ => Err(format!(
            "--server {server}: an address is http://host:port, kaos://host:port or ws://host:port"
        )),
    }
}

/// The given configuration on free ports of loopback, with limits that so many clients from one address need.
fn own_config(args: &Args, given: &Config) -> Result<Config, String> {
    let mut config = given.clone();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    config.http.address = free;
    config.udp.address = UdpAddress(Some(free));
    config.session.anonymous = Some(true);
    // A server that runs beside this one may be writing that file.
    config.journal.record = None;
    // Nothing is written to the data folder: the keys live as long as this process.
    let key: [u8; 32] = kaos_gate::random().map_err(|error| format!("no randomness for a key: {error}"))?;
    config.session.key = Some(key.iter().map(|byte| format!("{byte:02x}")).collect());
    let key: [u8; 32] = kaos_gate::random().map_err(|error| format!("no randomness for a key: {error}"))?;
    config.udp.key = Some(key.iter().map(|byte| format!("{byte:02x}")).collect());
    let clients = args.clients.saturating_mul(2).max(1000);
    config.limit.connections_max = config.limit.connections_max.max(clients);
    let raise = |limit: &mut LimitSettings| {
        for rate in [
            &mut limit.address_starts,
            &mut limit.address_starts_burst,
            &mut limit.address_peers_max,
            &mut limit.address_rooms_created_max,
            &mut limit.sessions_max,
        ] {
            *rate = clients.max(*rate);
        }
    };
    config.frame.change(raise).map_err(|wrong| wrong.join("\n"))?;
    if config.log.level == "info" {
        config.log.level = "warn".to_owned();
    }
    Ok(config)
}

/// Cores used, 1.0 being one whole core; `None`: unknown.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Cpu {
    pub(super) bots: Option<f64>,
    pub(super) server: Option<f64>,
}

/// What is known of a duration from buckets, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    /// The upper bound of its bucket.
    AtMost(u64),
    /// It lies beyond the last bucket, which ends here.
    Over(u64),
}

/// How late the server's ticks were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lateness {
    pub(super) p50: Bound,
    pub(super) p99: Bound,
    pub(super) p999: Bound,
}

/// Figures of one moment.
pub(super) struct Figures {
    at_us: u64,
    /// Nanoseconds on the processor.
    bots_ns: Option<u64>,
    server_ns: Option<u64>,
    lateness: Option<Buckets>,
}

/// Cumulated counts by upper bound in microseconds; the last bound is `u64::MAX`.
type Buckets = BTreeMap<u64, u64>;

impl Figures {
    pub(super) fn now(target: &Target) -> Figures {
        let me = std::process::id();
        let bots_ns = processor_ns(me, |thread| thread == BOTS_THREAD);
        let server_ns = if target.is_ours() {
            processor_ns(me, |thread| thread != BOTS_THREAD)
        } else {
            let holder =
                target.http.and_then(|http| kaos_gate::holder(kaos_gate::Protocol::Tcp, http.port()));
            let local = target.http.is_some_and(|http| http.ip().is_loopback());
            holder.filter(|_| local).and_then(|holder| processor_ns(holder.pid, |_| true))
        };
        let lateness =
            target.http.and_then(metrics).and_then(|text| buckets(&text, "kaos_tick_lateness_seconds"));
        Figures { at_us: kaos_client::clock::now().0, bots_ns, server_ns, lateness }
    }

    /// What happened since. The thread of the bots is gone by now: what it used stands in `shared`.
    pub(super) fn finish(self, target: &Target, shared: &Shared) -> (Cpu, Option<Lateness>) {
        let after = Figures::now(target);
        let last = shared.bots_ns.load(Ordering::Relaxed);
        let bots_ns = if last > 0 { Some(last) } else { after.bots_ns };
        let ns = after.at_us.saturating_sub(self.at_us).max(1) * 1000;
        let cores =
            |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?) as f64 / ns as f64);
        let cpu = Cpu { bots: cores(self.bots_ns, bots_ns), server: cores(self.server_ns, after.server_ns) };
        let lateness =
            self.lateness.zip(after.lateness).and_then(|(before, after)| quantiles(&before, &after));
        (cpu, lateness)
    }
}

/// Nanoseconds that the threads of a process have run. Known on Linux only.
pub(super) fn processor_ns(pid: u32, counts: impl Fn(&str) -> bool) -> Option<u64> {
    let mut sum = None;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).ok();
        let Some(name) = read("comm") else { continue };
        if !counts(name.trim()) {
            continue;
        }
        let Some(ran) = read("schedstat") else { continue };
        let ran: u64 = ran.split(' ').next().and_then(|ns| ns.parse().ok())?;
        sum = Some(sum.unwrap_or(0) + ran);
    }
    sum
}

/// `GET /metrics`, as plainly as HTTP goes.
fn metrics(http: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&http, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {http}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// One histogram of the Prometheus text format.
fn buckets(text: &str, name: &str) -> Option<Buckets> {
    let start = format!("{name}_bucket{{le=\"");
    let mut buckets = Buckets::new();
    for line in text.lines() {
        let Some((bound, count)) = line.strip_prefix(&start).and_then(|rest| rest.split_once("\"} ")) else {
            continue;
        };
        let bound = match bound {
            "+Inf" => u64::MAX,
            seconds => (seconds.parse::<f64>().ok()? * 1e6).round() as u64,
        };
        buckets.insert(bound, count.trim().parse().ok()?);
    }
    (!buckets.is_empty()).then_some(buckets)
}

fn quantiles(before: &Buckets, after: &Buckets) -> Option<Lateness> {
    let since: Vec<(u64, u64)> = after
        .iter()
        .map(|(bound, count)| (*bound, count.saturating_sub(before.get(bound).copied().unwrap_or(0))))
        .collect();
    let total = since.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
    let highest = since.iter().rev().map(|(bound, _)| *bound).find(|bound| *bound != u64::MAX).unwrap_or(0);
    let at = |part: f64| {
        let wanted = (total as f64 * part).ceil() as u64;
        let bound = since.iter().find(|(_, count)| *count >= wanted).map_or(u64::MAX, |(bound, _)| *bound);
        if bound == u64::MAX { Bound::Over(highest) } else { Bound::AtMost(bound) }
    };
    Some(Lateness { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_their_own_writes_no_file_that_the_configuration_names() {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            args: Args,
        }
        let typed = <Typed as clap::Parser>::parse_from(["bots"]);
        let mut given = Config::default();
        given.journal.record = Some("data/run.kj".into());
        let config = own_config(&typed.args, &given).expect("made");
        assert_eq!(config.journal.record, None);
    }

    #[test]
    fn addresses_fit_their_doors() {
        let url = |server, door| given(server, door).map(|(url, _)| url);
        assert_eq!(url("http://127.0.0.1:1", Door::Udp).as_deref(), Ok("http://127.0.0.1:1"));
        assert_eq!(url("http://127.0.0.1:1/", Door::Ws).as_deref(), Ok("ws://127.0.0.1:1"));
        assert_eq!(url("127.0.0.1:1", Door::Udp).as_deref(), Ok("kaos://127.0.0.1:1"));
        assert_eq!(url("127.0.0.1:1", Door::Ws).as_deref(), Ok("ws://127.0.0.1:1"));
        assert!(url("kaos://127.0.0.1:1", Door::Ws).is_err());
        assert!(url("https://127.0.0.1:1", Door::Ws).is_err());
    }

    #[test]
    fn lateness_is_read_from_the_difference() {
        let text = |a, b, c| {
            format!(
                "x 1\nt_bucket{{le=\"0.0001\"}} {a}\nt_bucket{{le=\"0.001\"}} {b}\nt_bucket{{le=\"+Inf\"}} {c}\nt_count 9"
            )
        };
        let read = |text: String| buckets(&text, "t").unwrap();
        let (before, after) = (read(text(100, 100, 100)), read(text(199, 1100, 1102)));
        let (most, over) = (Bound::AtMost(1000), Bound::Over(1000));
        assert_eq!(quantiles(&before, &after), Some(Lateness { p50: most, p99: most, p999: over }));
        assert_eq!(quantiles(&after, &after), None);
        assert_eq!(buckets("nothing", "t"), None);
    }
}
