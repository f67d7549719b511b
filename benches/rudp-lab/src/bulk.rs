//! `rudp-lab bulk`: a mebibyte through a bottleneck, and what that does to the queue there.

use std::time::Duration;

use kaos_rudp::lab::Link;

use crate::{
    figures::{median, short},
    pipe::{Pipe, STEP},
    scale::Scale,
    stack::{Delivery, Stack},
    stacks::{
        enet::EnetStack,
        kcp::KcpStack,
        ours::{self, Ours},
        quinn::{QuinnStack, Ride},
        renet::RenetStack,
    },
    table::{Table, Target},
};

struct Bottleneck {
    title: &'static str,
    link: Link,
    /// Targets: seconds, milliseconds of queue at the 95th percentile.
    seconds_max: f64,
    queue_ms_max: f64,
}

fn bottlenecks() -> [Bottleneck; 3] {
    let ten_mbit = Link { bytes_per_second: 1_250_000, queue: Duration::from_millis(50), ..Link::default() };
    [
        Bottleneck {
            title: "10 Mbit/s, queue of 50 ms",
            link: ten_mbit.clone(),
            seconds_max: 1.0,
            queue_ms_max: 20.0,
        },
        Bottleneck {
            title: "10 Mbit/s, queue of 50 ms, 2 % loss",
            link: Link { loss: 0.02, ..ten_mbit.clone() },
            seconds_max: 1.15,
            queue_ms_max: 20.0,
        },
        Bottleneck {
            title: "2 Mbit/s, queue of 500 ms",
            link: Link { bytes_per_second: 250_000, queue: Duration::from_millis(500), ..ten_mbit },
            seconds_max: 4.7,
            queue_ms_max: 60.0,
        },
    ]
}

/// The longest that a transfer may take.
const PATIENCE: Duration = Duration::from_secs(60);

const CHUNK_BYTES: usize = 1024;

struct Transfer {
    seconds: f64,
    /// Wire bytes for each byte of payload, of the direction of the data and of both.
    wire: f64,
    wire_both: f64,
    queue_p95_ms: f64,
}

/// `chunks` messages of 1,024 bytes, sent as fast as the stack takes them. Figures are infinite if they do not arrive
/// in a minute.
fn transfer(stack: &dyn Stack, link: &Link, chunks: usize, seed: u64) -> Transfer {
    let lost = Transfer {
        seconds: f64::INFINITY,
        wire: f64::INFINITY,
        wire_both: f64::INFINITY,
        queue_p95_ms: f64::INFINITY,
    };
    let Some(mut pipe) = Pipe::connected(stack, None, seed) else { return lost };
    pipe.network.link = link.clone();
    let before = (pipe.up, pipe.down);
    let begun = pipe.now;
    let (mut sent, mut arrived) = (0, 0);
    while arrived < chunks * CHUNK_BYTES {
        pipe.step();
        pipe.receive(&mut |_| {}, &mut |bytes| arrived += bytes.len());
        while sent < chunks && pipe.client.send(pipe.now, 0, &[7; CHUNK_BYTES]) {
            sent += 1;
        }
        pipe.transmit();
        if pipe.now - begun > PATIENCE {
            let queue_p95 = pipe.network.wait(pipe.client_addr, pipe.server_addr, 95.0);
            return Transfer { queue_p95_ms: queue_p95.as_secs_f64() * 1000.0, ..lost };
        }
    }
    let payload = (chunks * CHUNK_BYTES) as f64;
    let up = (pipe.up - before.0).wire_bytes() as f64;
    let down = (pipe.down - before.1).wire_bytes() as f64;
    let queue_p95 = pipe.network.wait(pipe.client_addr, pipe.server_addr, 95.0);
    Transfer {
        seconds: (pipe.now - begun - STEP).as_secs_f64(),
        wire: up / payload,
        wire_both: (up + down) / payload,
        queue_p95_ms: queue_p95.as_secs_f64() * 1000.0,
    }
}

/// Runs the three bottlenecks, prints their tables, gives the targets.
pub(crate) fn bulk(scale: &Scale) -> Vec<Target> {
    let renet = |resend_ms| RenetStack { delivery: Delivery::Ordered, resend_ms };
    let stacks: [Box<dyn Stack>; 8] = [
        Box::new(KcpStack::CC),
        Box::new(KcpStack::TURBO),
        Box::new(EnetStack { delivery: Delivery::Ordered }),
        Box::new(renet(300)),
        Box::new(renet(100)),
        Box::new(QuinnStack::plain(Ride::Stream)),
        Box::new(ours::cubic()),
        Box::new(Ours::plain(Delivery::Ordered)),
    ];
    let ours = stacks.len() - 1;
    let mut targets = Vec::new();
    for bottleneck in bottlenecks() {
        let chunks = if scale.quick { 64 } else { 1024 };
        let mut table = Table::new(&["", "s", "wire/payload", "of both ways", "queue p95 ms"]);
        let mut best = (f64::INFINITY, String::from("–"));
        for (number, stack) in stacks.iter().enumerate().filter(|(_, stack)| scale.wants(stack.as_ref())) {
            let runs: Vec<Transfer> =
                scale.seeds().map(|seed| transfer(stack.as_ref(), &bottleneck.link, chunks, seed)).collect();
            let middle = |figure: fn(&Transfer) -> f64| median(runs.iter().map(figure).collect());
            let seconds = middle(|run| run.seconds);
            let wire = middle(|run| run.wire);
            let queue = middle(|run| run.queue_p95_ms);
            table.row([
                stack.name(),
                short(seconds),
                short(wire),
                short(middle(|run| run.wire_both)),
                short(queue),
            ]);
            if number != ours {
                if number + 1 < ours && seconds < best.0 {
                    let name = stack.name();
                    best = (seconds, format!("{} s with {} ms ({name})", short(seconds), short(queue)));
                }
                continue;
            }
            let title = bottleneck.title;
            targets.extend([
                Target::most(format!("1 MiB, {title}"), bottleneck.seconds_max, "s", seconds, best.1.clone()),
                Target::most(
                    format!("its queue p95, {title}"),
                    bottleneck.queue_ms_max,
                    "ms",
                    queue,
                    "–".into(),
                ),
                Target::most(format!("its wire/payload, {title}"), 1.08, "", wire, "–".into()),
            ]);
        }
        table.print(
            &format!("{} KiB: {}", chunks, bottleneck.title),
            &["Medians over the seeds; RTT 50 ms. `–`: not there after 60 s."],
        );
    }
    targets
}
