//! `rudp-lab loss`: how late messages are on lossy links, and what that costs on the wire.

use std::{collections::BTreeMap, time::Duration};

use kaos_rudp::{Micros, lab::Link};

use crate::{
    Scale,
    figures::short,
    pipe::{Pipe, STEP},
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

/// A way of sending over a link.
struct Scenario {
    letter: char,
    title: &'static str,
    link: fn() -> Link,
    /// Between two ticks of the sender.
    pause: Duration,
    /// Messages in a tick.
    messages: u32,
    /// Length of a run at full scale.
    seconds: u64,
    /// How often both sides are polled; `None`: as often as the stack asks for.
    poll: Option<Duration>,
}

const FRAME: Duration = Duration::from_micros(16_667);

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        letter: 'A',
        title: "5 % loss each way, 60 messages a second",
        link: || Link { loss: 0.05, ..Link::default() },
        pause: FRAME,
        messages: 1,
        seconds: 60,
        poll: None,
    },
    Scenario {
        letter: 'B',
        title: "as A, and both ends are polled at 60 Hz only",
        link: || Link { loss: 0.05, ..Link::default() },
        pause: FRAME,
        messages: 1,
        seconds: 60,
        poll: Some(FRAME),
    },
    Scenario {
        letter: 'C',
        title: "5 % loss in bursts of 3 datagrams (Gilbert-Elliott), 0 to 10 ms jitter, 60 messages a second",
        link: || Link { jitter: Duration::from_millis(10), ..Link::default() }.bursts(0.05, 3),
        pause: FRAME,
        messages: 1,
        seconds: 60,
        poll: None,
    },
    Scenario {
        letter: 'D',
        title: "5 % loss each way, 2 messages a second",
        link: || Link { loss: 0.05, ..Link::default() },
        pause: Duration::from_millis(500),
        messages: 1,
        seconds: 300,
        poll: None,
    },
    Scenario {
        letter: 'E',
        title: "no loss, 60 messages a second",
        link: Link::default,
        pause: FRAME,
        messages: 1,
        seconds: 30,
        poll: None,
    },
    Scenario {
        letter: 'F',
        title: "5 % loss each way, 8 messages in each of 60 ticks a second",
        link: || Link { loss: 0.05, ..Link::default() },
        pause: FRAME,
        messages: 8,
        seconds: 30,
        poll: None,
    },
];

/// Scenarios to run, by letter.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Scenarios, by letter
    #[arg(default_value = "ABCDEF")]
    scenarios: String,
}

impl Args {
    /// All of them.
    pub(crate) fn all() -> Args {
        Args { scenarios: "ABCDEF".into() }
    }
}

struct Figures {
    /// In milliseconds, of all seeds, sorted. Messages that never arrived count as infinitely late.
    latencies: Vec<f64>,
    wire_bytes: f64,
}

impl Figures {
    fn at(&self, percent: f64) -> f64 {
        let rank = (self.latencies.len().saturating_sub(1)) as f64 * percent / 100.0;
        self.latencies.get(rank as usize).copied().unwrap_or(f64::INFINITY)
    }
}

/// One seed of a scenario: latencies in milliseconds, messages, wire bytes of both directions.
fn run_once(stack: &dyn Stack, scenario: &Scenario, seconds: u64, seed: u64) -> (Vec<f64>, u64) {
    let count = Duration::from_secs(seconds).as_micros() / scenario.pause.as_micros();
    let count = count as u64 * u64::from(scenario.messages);
    let Some(mut pipe) = Pipe::connected(stack, scenario.poll, seed) else {
        return (vec![f64::INFINITY; count as usize], 0);
    };
    pipe.network.link = (scenario.link)();
    let before = (pipe.up, pipe.down);
    let mut wire_bytes = None;
    let mut sent_at: BTreeMap<u64, Micros> = BTreeMap::new();
    let mut latencies = Vec::new();
    let (mut made, mut next) = (0u64, 0u64);
    // A host that is polled once a frame sends in that frame.
    let mut tick = pipe.next_poll();
    let mut waiting: Option<[u8; 64]> = None;
    let mut idle = Duration::ZERO;
    // After the last message: up to ten seconds for those that are late.
    while idle < Duration::from_secs(10) && (latencies.len() as u64) < count {
        pipe.step();
        let now = pipe.now;
        pipe.receive(&mut |_| {}, &mut |bytes| {
            if let Some(sent) = bytes.first_chunk().and_then(|n| sent_at.remove(&u64::from_le_bytes(*n))) {
                latencies.push((now - sent).as_secs_f64() * 1000.0);
            }
        });
        if tick <= now && made < count {
            tick += scenario.pause;
            made += u64::from(scenario.messages);
        }
        while next < made {
            let bytes = waiting.take().unwrap_or_else(|| {
                let mut bytes = [7; 64];
                bytes[..8].copy_from_slice(&next.to_le_bytes());
                sent_at.insert(next, now);
                bytes
            });
            if !pipe.client.send(now, 0, &bytes) {
                waiting = Some(bytes);
                break;
            }
            next += 1;
        }
        pipe.transmit();
        if made == count {
            idle += STEP;
        }
        // What follows the last message belongs to it: acknowledgements and repeats.
        if idle >= Duration::from_millis(200) {
            wire_bytes.get_or_insert((pipe.up, pipe.down));
        }
    }
    latencies.resize(count as usize, f64::INFINITY);
    let after = wire_bytes.unwrap_or((pipe.up, pipe.down));
    (latencies, (after.0 - before.0).wire_bytes() + (after.1 - before.1).wire_bytes())
}

fn run(stack: &dyn Stack, scenario: &Scenario, scale: &Scale) -> Figures {
    let seconds = if scale.quick { 2 } else { scenario.seconds };
    let mut latencies = Vec::new();
    let mut wire_bytes = 0;
    for seed in scale.seeds() {
        let (some, bytes) = run_once(stack, scenario, seconds, seed);
        latencies.extend(some);
        wire_bytes += bytes;
    }
    latencies.sort_by(f64::total_cmp);
    Figures { wire_bytes: wire_bytes as f64 / latencies.len().max(1) as f64, latencies }
}

/// The references, with the settings that their users choose.
fn references() -> Vec<Box<dyn Stack>> {
    let renet = |resend_ms| RenetStack { delivery: Delivery::Ordered, resend_ms };
    vec![
        Box::new(KcpStack::CC),
        Box::new(KcpStack::TURBO),
        Box::new(KcpStack::EXTREME),
        Box::new(EnetStack { delivery: Delivery::Ordered }),
        Box::new(renet(300)),
        Box::new(renet(100)),
        Box::new(QuinnStack::plain(Ride::Stream)),
        Box::new(QuinnStack { eager_acks: true, ..QuinnStack::plain(Ride::Stream) }),
        Box::new(QuinnStack::plain(Ride::StreamEach)),
    ]
}

/// Runs the scenarios, prints their tables, gives the targets.
pub(crate) fn loss(scale: &Scale, args: &Args) -> Vec<Target> {
    let mut targets = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| args.scenarios.contains(scenario.letter)) {
        let mut table = Table::new(&["", "p50", "p95", "p99", "p99.9", "wire B/msg"]);
        let mut add = |name: String, figures: &Figures| {
            let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|percent| short(figures.at(percent)));
            table.row([name, p50, p95, p99, p999, short(figures.wire_bytes)]);
        };
        let mut best: Option<(f64, String)> = None;
        for stack in references().iter().filter(|stack| scale.wants(stack.as_ref())) {
            let figures = run(stack.as_ref(), scenario, scale);
            // In the scenario without loss, bytes are what matters.
            let figure = if scenario.letter == 'E' { figures.wire_bytes } else { figures.at(99.0) };
            if best.as_ref().is_none_or(|(least, _)| figure < *least) {
                best = Some((figure, stack.name()));
            }
            add(stack.name(), &figures);
        }
        let best = best.map_or("–".into(), |(figure, name)| format!("{} ({name})", short(figure)));
        for ours in ours::variants().iter().filter(|stack| scale.wants(*stack)) {
            let figures = run(ours, scenario, scale);
            add(ours.name(), &figures);
            targets.extend(target(scenario.letter, ours, &figures, &best));
        }
        table.print(
            &format!("{}: {}", scenario.letter, scenario.title),
            &["Latency one way in ms, RTT 50 ms; wire bytes of both directions with IP and UDP headers. `–`: not delivered."],
        );
    }
    targets
}

/// The targets that a row has to meet.
fn target(letter: char, ours: &Ours, figures: &Figures, best: &str) -> Vec<Target> {
    let p99 = figures.at(99.0);
    let label = ours.label;
    let ms = |bound: f64| Target::most(format!("{letter} p99, {label}"), bound, "ms", p99, best.to_owned());
    let wire = |bound: f64| {
        let what = format!("{letter} wire per message, {label}");
        Target::most(what, bound, "B", figures.wire_bytes, "–".into())
    };
    match (letter, label) {
        ('A', ours::PLAIN) => vec![ms(100.0)],
        ('A', ours::ONE_REPEAT) => vec![ms(50.0), wire(250.0)],
        ('C', ours::PLAIN) => vec![ms(170.0)],
        ('C', ours::SPACED) => vec![ms(125.0)],
        ('D', ours::TAIL) => vec![ms(40.0)],
        ('E', ours::PLAIN) => {
            let what = "E wire per message, plain";
            vec![Target::most(what, 155.0, "B", figures.wire_bytes, best.to_owned())]
        }
        _ => Vec::new(),
    }
}
