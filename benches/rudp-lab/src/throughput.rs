//! `rudp-lab throughput`: how many small reliable messages get through when there are always more.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use kaos_rudp::{Micros, io::Options};

use crate::{
    figures::{median, short},
    gauge::{Used, measure},
    line::Line,
    scale::Scale,
    stack::{Delivery, Host, Stack},
    stacks::{
        enet::EnetStack,
        kcp::KcpStack,
        ours::{self, Batched, Ours},
        quinn::{QuinnStack, Ride},
    },
    table::{Table, Target},
};

const MESSAGE_BYTES: usize = 64;

/// The message with this number.
fn message(number: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [7; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Counts messages that arrive, and whether each is the next one.
#[derive(Default)]
struct Ledger {
    count: u64,
    wrong: u64,
}

impl Ledger {
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let is_next = bytes.first_chunk().is_some_and(|number| u64::from_le_bytes(*number) == self.count);
        self.wrong += u64::from(!is_next || bytes.len() != MESSAGE_BYTES);
        self.count += 1;
    }
}

struct InMemory {
    tx: Used,
    rx: Used,
    whole: bool,
    count: usize,
}

/// Both ends in this thread, datagrams handed over by reference in turns of 100 µs of virtual time.
fn in_memory(stack: &dyn Stack, count: u64) -> InMemory {
    let mut now = Micros::from_millis(1_000);
    let here: SocketAddr = ([10, 0, 0, 2], 50_000).into();
    let there: SocketAddr = ([10, 0, 0, 1], 7352).into();
    let mut client = stack.client(now, there, 0, 1);
    let mut server = stack.server(now, there, 4, 2);
    let mut ledger = Ledger::default();
    let mut result =
        InMemory { tx: Used::default(), rx: Used::default(), whole: false, count: count as usize };
    let mut up: Vec<Vec<u8>> = Vec::new();
    let mut down: Vec<Vec<u8>> = Vec::new();
    let (mut spare, mut sent, mut turns) = (Vec::new(), 0, 0u64);
    while ledger.count < count && turns < 4_000_000 {
        turns += 1;
        now += Duration::from_micros(100);
        let is_open = client.connected() > 0 && server.connected() > 0;
        let ((), tx) = measure(|| {
            for bytes in &mut down {
                client.handle(now, there, bytes);
            }
            client.tick(now);
            client.receive(&mut |_| {});
            while is_open && sent < count && client.send(now, 0, &message(sent)) {
                sent += 1;
                // A stack whose queue has no bound is fed as fast as it sends.
                if sent.is_multiple_of(4096) {
                    break;
                }
            }
            client.transmit(now, &mut |_, bytes| up.push(copy(&mut spare, bytes)));
        });
        spare.append(&mut down);
        let ((), rx) = measure(|| {
            for bytes in &mut up {
                server.handle(now, here, bytes);
            }
            server.tick(now);
            server.receive(&mut |bytes| ledger.take(bytes));
            server.transmit(now, &mut |_, bytes| down.push(copy(&mut spare, bytes)));
        });
        spare.append(&mut up);
        if is_open {
            result.tx += tx;
            result.rx += rx;
        }
    }
    result.whole = ledger.count == count && ledger.wrong == 0;
    result
}

fn copy(spare: &mut Vec<Vec<u8>>, bytes: &[u8]) -> Vec<u8> {
    let mut copy = spare.pop().unwrap_or_default();
    copy.clear();
    copy.extend_from_slice(bytes);
    copy
}

/// Time of the operating system, since both ends run at the same time.
fn clock(begun: Instant) -> Micros {
    Micros(1_000_000 + begun.elapsed().as_micros() as u64)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn instant() -> Instant {
    Instant::now()
}

/// Runs one end on its socket until `turn`, which receives and sends, returns true, or for ten seconds.
fn pump(
    host: &mut dyn Host,
    line: &mut Line,
    begun: Instant,
    mut turn: impl FnMut(&mut dyn Host, Micros) -> bool,
) {
    loop {
        // Only some at a time: timers are due as well.
        let mut moved = line.drain(host, clock(begun), 256);
        let now = clock(begun);
        host.tick(now);
        let is_over = turn(host, now);
        moved += line.flush(host, now);
        if is_over || begun.elapsed() > Duration::from_secs(10) {
            return;
        }
        if moved == 0 {
            std::thread::yield_now();
        }
    }
}

/// Two threads, two sockets. Returns messages a second, and whether all came in order.
fn over_sockets(stack: &(dyn Stack + Sync), count: u64) -> std::io::Result<(f64, bool)> {
    let mut server_line = Line::of(stack, &Options::default())?;
    let mut client_line = Line::of(stack, &Options::client())?;
    let there = server_line.addr()?;
    let begun = instant();
    let is_done = AtomicBool::new(false);
    let (ledger, first, last) = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut server = stack.server(clock(begun), there, 4, 2);
            let mut ledger = Ledger::default();
            let (mut first, mut last) = (None, Micros(0));
            pump(server.as_mut(), &mut server_line, begun, |host, now| {
                let before = ledger.count;
                host.receive(&mut |bytes| ledger.take(bytes));
                if ledger.count > before {
                    first.get_or_insert(now);
                    last = now;
                }
                ledger.count >= count
            });
            is_done.store(true, Ordering::Relaxed);
            (ledger, first.unwrap_or_default(), last)
        });
        let mut client = stack.client(clock(begun), there, 0, 1);
        let mut sent = 0;
        pump(client.as_mut(), &mut client_line, begun, |host, now| {
            host.receive(&mut |_| {});
            let mut room = 4096;
            while room > 0 && host.connected() > 0 && sent < count && host.send(now, 0, &message(sent)) {
                sent += 1;
                room -= 1;
            }
            is_done.load(Ordering::Relaxed)
        });
        server.join().unwrap_or_default()
    });
    let seconds = (last - first).as_secs_f64();
    Ok((ledger.count as f64 / seconds.max(1e-6), ledger.count == count && ledger.wrong == 0))
}

/// Measures in memory and over sockets, prints both tables, gives the targets.
pub(crate) fn throughput(scale: &Scale) -> Vec<Target> {
    let references: [(Box<dyn Stack>, u64); 3] = [
        (Box::new(KcpStack::TURBO), 200_000),
        (Box::new(EnetStack { delivery: Delivery::Ordered }), 200_000),
        (Box::new(QuinnStack::plain(Ride::Stream)), 500_000),
    ];
    let ours = ours::fast();
    let mut table = Table::new(&[
        "",
        "sender ns",
        "receiver ns",
        "M/s, one thread",
        "M/s, a core each",
        "allocs",
        "whole",
    ]);
    let mut targets = Vec::new();
    let mut best = (0.0, String::from("–"));
    let all = references.iter().map(|(stack, count)| (stack.as_ref(), *count));
    let all = all.chain([(&ours as &dyn Stack, 2_000_000)]);
    for (stack, count) in all.filter(|(stack, _)| scale.wants(*stack)) {
        let count = if scale.quick { 5_000 } else { count };
        let runs: Vec<InMemory> =
            (0..if scale.quick { 1 } else { 5 }).map(|_| in_memory(stack, count)).collect();
        let middle = |figure: fn(&InMemory) -> f64| median(runs.iter().map(figure).collect());
        let (tx, rx) = (middle(|run| run.tx.ns(run.count)), middle(|run| run.rx.ns(run.count)));
        let allocations = middle(|run| (run.tx.allocations + run.rx.allocations) as f64 / run.count as f64);
        let whole = runs.iter().filter(|run| run.whole).count();
        let rate = 1e3 / middle(|run| run.tx.ns(run.count) + run.rx.ns(run.count));
        let name = stack.name();
        table.row([
            name.clone(),
            short(tx),
            short(rx),
            short(rate),
            short(1e3 / tx.max(rx)),
            short(allocations),
            format!("{whole} of {}", runs.len()),
        ]);
        if name.contains("kaos") {
            targets.push(Target::least(
                "coalesced reliable 64 B, core to core",
                5.0,
                "M/s",
                rate,
                best.1.clone(),
            ));
        } else if rate > best.0 && whole == runs.len() {
            best = (rate, format!("{} M/s ({name})", short(rate)));
        }
    }
    table.print(
        "Reliable ordered 64-byte messages in memory",
        &["Thread CPU time of each end for each message; both ends in one thread. The second rate is that of the slower end."],
    );
    targets.extend(socket_runs(&ours, scale));
    targets
}

fn socket_runs(ours: &Ours, scale: &Scale) -> Vec<Target> {
    let (runs, count) = if scale.quick { (2, 5_000) } else { (20, 500_000) };
    let mut table = Table::new(&["", "M/s median", "least", "most", "whole"]);
    let mut targets = Vec::new();
    let batched = Batched(ours::fast());
    let stacks: [(&(dyn Stack + Sync), usize); 3] =
        [(&QuinnStack::plain(Ride::Stream), runs.min(5)), (ours, runs), (&batched, runs)];
    let mut best = String::from("–");
    for (stack, runs) in stacks.into_iter().filter(|(stack, _)| scale.wants(*stack)) {
        let mut rates = Vec::new();
        let mut whole = 0;
        for _ in 0..runs {
            if let Ok((rate, is_whole)) = over_sockets(stack, count) {
                rates.push(rate / 1e6);
                whole += usize::from(is_whole);
            }
        }
        let rate = median(rates.clone());
        let name = stack.name();
        table.row([
            name.clone(),
            short(rate),
            short(rates.iter().copied().fold(f64::INFINITY, f64::min)),
            short(rates.iter().copied().fold(0.0, f64::max)),
            format!("{whole} of {runs}"),
        ]);
        match stack.is_batched() {
            true => targets.extend([
                Target::least("reliable 64 B over loopback sockets, GSO", 1.0, "M/s", rate, best.clone()),
                Target::least("runs that are whole, GSO", runs as f64, "", whole as f64, "–".into()),
            ]),
            false if name.contains("kaos") => targets.push(Target::least(
                "runs that are whole, no GSO",
                runs as f64,
                "",
                whole as f64,
                "–".into(),
            )),
            false => best = format!("{} M/s, no GSO ({name})", short(rate)),
        }
    }
    table.print(
        "Reliable ordered 64-byte messages over loopback sockets",
        &[
            "Two threads, `recv_from` and `send_to` of one datagram each, or with *GSO* the batched sockets of \
           `kaos_rudp::io`; the system's buffers, delay-based controller, a queue of 1 MiB and at most 4,096 packets \
           under way. Wall time, so other load on the machine counts. Whole: all messages, once, in order.",
        ],
    );
    targets
}
