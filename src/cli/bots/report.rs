//! What the bots found: a table for people, an object for programs.

use std::sync::Arc;

use kaos_client::Emulation;
use serde_json::{Value, json};

use super::super::out::{Out, grouped};
use super::Door;
use super::server::{Cpu, Lateness};
use super::tally::{Histogram, Tally};

pub(super) struct Report {
    pub(super) door: Door,
    pub(super) clients: u32,
    pub(super) hz: u32,
    pub(super) secs: u64,
    /// The bad network that they played over.
    pub(super) emulation: Option<Arc<Emulation>>,
    pub(super) tally: Tally,
    pub(super) cpu: Cpu,
    /// The server's, if it says it.
    pub(super) lateness: Option<Lateness>,
}

impl Report {
    /// Somebody played, nothing was lost, nothing came twice.
    pub(super) fn is_good(&self) -> bool {
        self.tally.joined > 0 && self.tally.lost_reliable == 0 && self.tally.doubled == 0
    }

    fn door(&self) -> &'static str {
        match self.door {
            Door::Udp => "udp",
            Door::Ws => "ws",
        }
    }

    pub(super) fn json(&self) -> Value {
        let Report { tally, cpu, lateness, .. } = self;
        let late = |at: fn(&Lateness) -> u64| lateness.as_ref().map(at);
        json!({
            "door": self.door(), "clients": self.clients, "hz": self.hz, "secs": self.secs,
            "joined": tally.joined, "rooms": tally.rooms,
            "sent": tally.sent, "expected": tally.expected, "delivered": tally.delivered,
            "lost_reliable": tally.lost_reliable, "doubled": tally.doubled, "resumed": tally.resumed,
            "p50_us": tally.latency.quantile(0.5), "p99_us": tally.latency.quantile(0.99),
            "p999_us": tally.latency.quantile(0.999), "max_us": tally.latency.max(),
            "rtt_p50_us": tally.round_trip.quantile(0.5), "rtt_p99_us": tally.round_trip.quantile(0.99),
            "rtt_p999_us": tally.round_trip.quantile(0.999),
            "tick_late_p50_us": late(|l| l.p50_us), "tick_late_p99_us": late(|l| l.p99_us),
            "tick_late_p999_us": late(|l| l.p999_us),
            "link_datagrams": self.emulation.as_ref().map(|link| link.sent()),
            "link_lost": self.emulation.as_ref().map(|link| link.lost()),
            "cpu_bots": cpu.bots, "cpu_server": cpu.server,
            "troubles": tally.troubles,
        })
    }

    pub(super) fn print(&self, out: &Out) {
        let tally = &self.tally;
        out.line(&format!(
            "{} bots over {} in {} rooms, {} s at {} a second each",
            tally.joined,
            self.door(),
            tally.rooms,
            self.secs,
            self.hz
        ));
        let row = |name: &str, what: &str| out.line(&format!("  {name:<10} {what}"));
        if let Some(link) = &self.emulation {
            row(
                "link",
                &format!(
                    "{} % loss each way, {} ms there and back, {} ms jitter: {} of {} datagrams lost",
                    f64::from(link.loss_permille) / 10.0,
                    link.rtt.as_millis(),
                    link.jitter.as_millis(),
                    grouped(link.lost()),
                    grouped(link.sent())
                ),
            );
        }
        row("sent", &grouped(tally.sent));
        row("delivered", &format!("{} of {}", grouped(tally.delivered), grouped(tally.expected)));
        let lost = format!("{} lost, {} doubled", grouped(tally.lost_reliable), grouped(tally.doubled));
        row("reliable", &if self.is_good() { out.green(&lost) } else { out.red(&lost) });
        let times = |name: &str, histogram: &Histogram, remark: &str| {
            if histogram.total() > 0 {
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| ms(histogram.quantile(part)));
                row(name, &format!("p50 {p50}   p99 {p99}   p99.9 {p999}   {}", out.dim(remark)));
            }
        };
        times("latency", &tally.latency, "bot to bot, through a tick of the match");
        times("round trip", &tally.round_trip, "to the server's frame and back");
        if let Some(late) = &self.lateness {
            let [p50, p99, p999] = [late.p50_us, late.p99_us, late.p999_us].map(ms);
            row(
                "tick late",
                &format!("p50 ≤ {p50}   p99 ≤ {p99}   p99.9 ≤ {p999}   {}", out.dim("of the server")),
            );
        }
        let cores = |used: Option<f64>| used.map_or("unknown".to_owned(), |used| format!("{used:.2}"));
        row("cores", &format!("server {}   bots {}", cores(self.cpu.server), cores(self.cpu.bots)));
        if tally.resumed > 0 {
            row("resumed", &grouped(tally.resumed));
        }
        for (reason, number) in &tally.troubles {
            row("trouble", &out.red(&format!("{} bots: {reason}", grouped(*number))));
        }
        if tally.joined == 0 {
            out.error("nobody came in");
        }
    }
}

/// Microseconds as `17.3 ms`, or `820 µs`.
fn ms(us: u64) -> String {
    if us < 1000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1000.0) }
}
