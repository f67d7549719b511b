//! What the bots found: a table for people, an object for programs.

use std::sync::Arc;

use kaos_client::Emulation;
use serde_json::{Value, json};

use super::super::out::{Out, grouped};
use super::Door;
use super::server::{Bound, Cpu, Lateness};
use super::tally::{Histogram, Tally};

pub(super) struct Report {
    pub(super) door: Door,
    pub(super) clients: u32,
    /// Rooms that were asked for.
    pub(super) rooms: Option<u32>,
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
    /// Everybody played to the end, somebody could hear somebody, nothing was lost, nothing came twice.
    pub(super) fn is_good(&self) -> bool {
        self.wrong().is_empty()
    }

    /// What is wrong with this run, a sentence each.
    fn wrong(&self) -> Vec<String> {
        let Report { tally, clients, .. } = self;
        let mut wrong = Vec::new();
        if tally.joined == 0 {
            wrong.push("nobody came in".to_owned());
        } else if tally.joined < u64::from(*clients) {
            wrong.push(format!("{} of {} bots came in", grouped(tally.joined), grouped(u64::from(*clients))));
        }
        let troubled: u64 = tally.troubles.values().sum();
        if troubled > 0 {
            wrong.push(format!("{} bots had trouble", grouped(troubled)));
        }
        if tally.sent == 0 {
            wrong.push("nothing was sent".to_owned());
        } else if tally.expected == 0 && !self.asked_to_be_alone() {
            wrong.push("nothing could be lost: every bot was alone in its room".to_owned());
        }
        if tally.lost_reliable > 0 && self.relays() {
            wrong.push(format!("{} reliable messages were lost", grouped(tally.lost_reliable)));
        }
        if tally.doubled > 0 {
            wrong.push(format!("{} messages came twice", grouped(tally.doubled)));
        }
        wrong
    }

    /// Did the match pass on what the bots shout? One that never does is another game, and lost nothing.
    fn relays(&self) -> bool {
        let Tally { sent, expected, delivered, troubles, .. } = &self.tally;
        *sent == 0 || *expected == 0 || *delivered > 0 || !troubles.is_empty()
    }

    /// One bot, or a room for each: that nobody hears anybody was asked for.
    fn asked_to_be_alone(&self) -> bool {
        self.clients == 1 || self.rooms.is_some_and(|rooms| rooms >= self.clients)
    }

    /// What a good run does not show.
    fn remark(&self) -> Option<&'static str> {
        if !self.relays() {
            return Some("this match does not relay op 9, what the bots shout. Measured: round trips");
        }
        let alone = self.tally.expected == 0 && self.asked_to_be_alone();
        alone.then_some(if self.clients == 1 {
            "nothing could be lost: one bot has nobody to hear it"
        } else {
            "nothing could be lost: each bot was alone in its room, as asked"
        })
    }

    fn door(&self) -> &'static str {
        match self.door {
            Door::Udp => "udp",
            Door::Ws => "ws",
        }
    }

    pub(super) fn json(&self) -> Value {
        let Report { tally, cpu, lateness, .. } = self;
        let late = |at: fn(&Lateness) -> Bound| match lateness.as_ref().map(at) {
            Some(Bound::AtMost(us)) => Some(us),
            Some(Bound::Over(_)) | None => None,
        };
        let over = lateness.as_ref().and_then(|late| match late.p999 {
            Bound::Over(us) => Some(us),
            Bound::AtMost(_) => None,
        });
        json!({
            "good": self.is_good(), "wrong": self.wrong(), "remark": self.remark(),
            "door": self.door(), "clients": self.clients, "hz": self.hz, "secs": self.secs,
            "joined": tally.joined, "rooms": tally.rooms,
            "sent": tally.sent, "expected": tally.expected, "delivered": tally.delivered,
            "lost_reliable": self.relays().then_some(tally.lost_reliable), "doubled": tally.doubled, "resumed": tally.resumed,
            "p50_us": tally.latency.quantile(0.5), "p99_us": tally.latency.quantile(0.99),
            "p999_us": tally.latency.quantile(0.999), "max_us": tally.latency.max(),
            "rtt_p50_us": tally.round_trip.quantile(0.5), "rtt_p99_us": tally.round_trip.quantile(0.99),
            "rtt_p999_us": tally.round_trip.quantile(0.999),
            "tick_late_p50_us": late(|l| l.p50), "tick_late_p99_us": late(|l| l.p99),
            "tick_late_p999_us": late(|l| l.p999), "tick_late_over_us": over,
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
        if self.relays() {
            row("delivered", &format!("{} of {}", grouped(tally.delivered), grouped(tally.expected)));
            let lost = format!("{} lost, {} doubled", grouped(tally.lost_reliable), grouped(tally.doubled));
            let whole = tally.lost_reliable == 0 && tally.doubled == 0;
            row("reliable", &if whole { out.green(&lost) } else { out.red(&lost) });
        }
        let times = |name: &str, histogram: &Histogram, remark: &str| {
            if histogram.total() > 0 {
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| ms(histogram.quantile(part)));
                row(name, &format!("p50 {p50}   p99 {p99}   p99.9 {p999}   {}", out.dim(remark)));
            }
        };
        times("latency", &tally.latency, "bot to bot, through a tick of the match");
        times("round trip", &tally.round_trip, "to the server's frame and back");
        if let Some(late) = &self.lateness {
            let [p50, p99, p999] = [late.p50, late.p99, late.p999].map(bound);
            row("tick late", &format!("p50 {p50}   p99 {p99}   p99.9 {p999}   {}", out.dim("of the server")));
        }
        let cores = |used: Option<f64>| used.map_or("unknown".to_owned(), |used| format!("{used:.2}"));
        row("cores", &format!("server {}   bots {}", cores(self.cpu.server), cores(self.cpu.bots)));
        if tally.resumed > 0 {
            row("resumed", &grouped(tally.resumed));
        }
        for (reason, number) in &tally.troubles {
            row("trouble", &out.red(&format!("{} bots: {reason}", grouped(*number))));
            // The word stands before many of them already.
            let sentence = tally.sentences.get(reason).map(String::as_str).unwrap_or_default();
            let sentence =
                sentence.strip_prefix(reason).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(sentence);
            sentence.lines().for_each(|line| row("", line));
            if reason == "unauthenticated" {
                row(
                    "",
                    "--tokens signs the bots in, with the key of this configuration (--data names the server's)",
                );
            }
        }
        if let Some(remark) = self.remark() {
            row("remark", remark);
        }
        self.wrong().iter().for_each(|sentence| out.error(sentence));
    }
}

/// Microseconds as `17.3 ms`, `820 µs` or `2 s`.
fn ms(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ if us.is_multiple_of(1_000_000) => format!("{} s", us / 1_000_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtMost(us) => format!("≤ {}", ms(us)),
        Bound::Over(us) => format!("> {}", ms(us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of ten bots in which all is well.
    fn good() -> Report {
        let tally =
            Tally { joined: 10, rooms: 1, sent: 100, expected: 900, delivered: 900, ..Tally::default() };
        let (cpu, lateness) = (Cpu::default(), None);
        Report {
            door: Door::Udp,
            clients: 10,
            rooms: None,
            hz: 10,
            secs: 1,
            emulation: None,
            tally,
            cpu,
            lateness,
        }
    }

    #[test]
    fn a_run_that_did_not_happen_is_not_good() {
        assert_eq!(good().wrong(), [""; 0]);
        type Change = fn(&mut Report);
        let cases: [(&[&str], Change); 8] = [
            (&["nobody came in", "nothing was sent"], |r| r.tally = Tally::default()),
            (&["9 of 10 bots came in"], |r| r.tally.joined = 9),
            (&["2 bots had trouble"], |r| {
                r.tally.troubles.insert("busy".to_owned(), 2);
            }),
            (&["nothing was sent"], |r| (r.tally.sent, r.tally.expected) = (0, 0)),
            (&["nothing could be lost: every bot was alone in its room"], |r| r.tally.expected = 0),
            (&["nothing could be lost: every bot was alone in its room"], |r| {
                (r.tally.expected, r.rooms) = (0, Some(9))
            }),
            (&["3 reliable messages were lost"], |r| r.tally.lost_reliable = 3),
            (&["2 messages came twice"], |r| r.tally.doubled = 2),
        ];
        for (sentences, change) in cases {
            let mut report = good();
            change(&mut report);
            assert_eq!(report.wrong(), sentences);
            assert!(!report.is_good());
            assert_eq!(report.json()["good"], false);
        }
    }

    #[test]
    fn a_match_that_relays_no_shouts_lost_none() {
        let mut report = good();
        (report.tally.delivered, report.tally.lost_reliable) = (0, 900);
        assert_eq!(report.wrong(), [""; 0]);
        assert!(report.remark().is_some_and(|remark| remark.contains("does not relay op 9")));
        assert_eq!(report.json()["lost_reliable"], Value::Null);
        // One that came says that the others should have come, too.
        (report.tally.delivered, report.tally.lost_reliable) = (1, 899);
        assert_eq!(report.wrong(), ["899 reliable messages were lost"]);
    }

    #[test]
    fn who_asked_to_be_alone_is_told_that_nothing_could_be_lost() {
        let mut report = good();
        assert_eq!(report.remark(), None);
        report.tally.expected = 0;
        report.rooms = Some(10);
        assert!(report.is_good());
        assert_eq!(report.remark(), Some("nothing could be lost: each bot was alone in its room, as asked"));
        (report.clients, report.rooms, report.tally.joined) = (1, None, 1);
        assert!(report.is_good());
        assert_eq!(report.remark(), Some("nothing could be lost: one bot has nobody to hear it"));
    }

    #[test]
    fn lateness_beyond_the_last_bucket_has_no_upper_bound() {
        let shown = [Bound::AtMost(250), Bound::AtMost(2_500), Bound::Over(2_000_000)].map(bound);
        assert_eq!(shown, ["≤ 250 µs", "≤ 2.5 ms", "> 2 s"]);
        let mut report = good();
        let (p50, p99, p999) = (Bound::AtMost(100), Bound::AtMost(1000), Bound::Over(2_000_000));
        report.lateness = Some(Lateness { p50, p99, p999 });
        let json = report.json();
        assert_eq!((&json["tick_late_p99_us"], &json["tick_late_p999_us"]), (&json!(1000), &Value::Null));
        assert_eq!(json["tick_late_over_us"], 2_000_000);
    }
}
