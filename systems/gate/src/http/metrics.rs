//! `/metrics`: the counters as Prometheus reads them (text format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use kaos_kernel::input::Door;
use kaos_kernel::op::OpTable;

use crate::stats::{BUCKETS_US, Histogram, Stats, Traffic};

/// The content type of [`render`].
pub(crate) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All counters, as one page.
pub(crate) fn render(stats: &Stats, ops: &OpTable) -> String {
    let mut text = String::with_capacity(8192);
    gauges(&mut text, stats);
    counters(&mut text, stats);
    histograms(&mut text, stats);
    doors(&mut text, stats);
    calls(&mut text, stats, ops);
    text
}

fn gauges(text: &mut String, stats: &Stats) {
    for (name, help, value) in [
        ("kaos_sessions", "Sessions, held seats included.", &stats.sessions),
        ("kaos_rooms", "Rooms.", &stats.rooms),
        ("kaos_entities", "Entities of all kinds, counted about once a second.", &stats.entities),
        ("kaos_jobs", "Jobs that wait or run outside the frame.", &stats.jobs),
        ("kaos_http_connections", "TCP connections of the HTTP door.", &stats.connections),
    ] {
        scalar(text, name, help, "gauge", value);
    }
}

fn counters(text: &mut String, stats: &Stats) {
    for (name, help, value) in [
        ("kaos_frames_total", "Frames that ran.", &stats.frames),
        (
            "kaos_frames_late_total",
            "Frames that ran a whole frame or more after they were due.",
            &stats.frames_late,
        ),
        ("kaos_jobs_refused_total", "Jobs refused, their queue was full.", &stats.jobs_refused),
        (
            "kaos_connections_refused_total",
            "Connections refused, there were too many.",
            &stats.connections_refused,
        ),
        ("kaos_starts_refused_total", "SessionStarts that a door refused.", &stats.starts_refused),
        (
            "kaos_datagrams_unsent_total",
            "Datagrams that the operating system did not take.",
            &stats.datagrams_unsent,
        ),
        ("kaos_journal_bytes_total", "Bytes written to the journal file.", &stats.journal_bytes),
    ] {
        scalar(text, name, help, "counter", value);
    }
}

fn histograms(text: &mut String, stats: &Stats) {
    for (name, help, value) in [
        ("kaos_frame_seconds", "How long a frame took, with handing out its messages.", &stats.frame_time),
        (
            "kaos_frame_lateness_seconds",
            "From the line of the grid to the start of the frame.",
            &stats.frame_lateness,
        ),
        (
            "kaos_tick_lateness_seconds",
            "The same for frames that a room or a timer asked for.",
            &stats.tick_lateness,
        ),
    ] {
        histogram(text, name, help, value);
    }
}

fn calls(text: &mut String, stats: &Stats, ops: &OpTable) {
    head(text, "kaos_calls_total", "Calls of operations through the doors.", "counter");
    for row in ops.rows() {
        let _ = writeln!(text, "kaos_calls_total{{op=\"{}\"}} {}", row.op.name, stats.calls(row.id));
    }
}

// Writing into a String cannot fail.
fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn scalar(text: &mut String, name: &str, help: &str, kind: &str, value: &AtomicU64) {
    head(text, name, help, kind);
    let _ = writeln!(text, "{name} {}", value.load(Ordering::Relaxed));
}

fn histogram(text: &mut String, name: &str, help: &str, histogram: &Histogram) {
    head(text, name, help, "histogram");
    let counts = histogram.counts();
    let mut sum = 0;
    for (bound, count) in BUCKETS_US.iter().zip(counts) {
        sum += count;
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {sum}", *bound as f64 / 1e6);
    }
    let all: u64 = counts.iter().sum();
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {all}");
    let _ = writeln!(text, "{name}_sum {}", histogram.sum_us() as f64 / 1e6);
    let _ = writeln!(text, "{name}_count {all}");
}

fn doors(text: &mut String, stats: &Stats) {
    type Read = fn(&Traffic) -> &AtomicU64;
    let rows: [(&str, &str, &str, Read); 5] = [
        ("kaos_peers", "gauge", "Peers by door.", |traffic| &traffic.peers),
        ("kaos_messages_in_total", "counter", "Messages received by door.", |traffic| &traffic.messages_in),
        ("kaos_messages_out_total", "counter", "Messages sent by door.", |traffic| &traffic.messages_out),
        ("kaos_bytes_in_total", "counter", "Bytes of messages received by door.", |traffic| {
            &traffic.bytes_in
        }),
        ("kaos_bytes_out_total", "counter", "Bytes of messages sent by door.", |traffic| &traffic.bytes_out),
    ];
    for (name, kind, help, read) in rows {
        head(text, name, help, kind);
        for door in [Door::Udp, Door::WebSocket, Door::Http] {
            let value = read(stats.door(door)).load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{door=\"{}\"}} {value}", door.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let stats = Stats::default();
        stats.tick_lateness.add(70);
        stats.tick_lateness.add(5_000_000);
        let text = render(&stats, &OpTable::default());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("two words");
            assert!(name.starts_with("kaos_"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.contains("kaos_tick_lateness_seconds_bucket{le=\"0.0001\"} 1\n"));
        assert!(text.contains("kaos_tick_lateness_seconds_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("kaos_peers{door=\"udp\"} 0\n"));
    }
}
