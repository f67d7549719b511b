//! `rudp-lab cpu`: what a server's core costs without sockets, in CPU time, allocations and memory.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{Micros, lab::Rng};

use crate::{
    figures::{Rounds, median, short},
    gauge::{Used, measure},
    scale::Scale,
    stack::{Delivery, Host, Stack},
    stacks::{
        enet::EnetStack,
        kcp::KcpStack,
        ours::{self, Ours},
        quinn::{QuinnStack, Ride},
        renet::{CLIENTS_MAX, RenetStack},
    },
    table::{Table, Target, print},
};

const FRAME: Duration = Duration::from_micros(16_667);

const MESSAGE: [u8; 64] = [7; 64];

/// In place of a cipher.
const NO_CIPHER: &str = "none";

/// A heap of datagrams, kept so that putting one there allocates nothing.
#[derive(Default)]
struct Heap {
    data: Vec<u8>,
    /// The other side's address, and where the datagram ends.
    ends: Vec<(SocketAddr, usize)>,
}

impl Heap {
    /// With room for what the handshakes of this many peers have to say at once, so that a server that puts it there
    /// allocates nothing for it.
    fn with_room(peers: usize) -> Heap {
        Heap { data: Vec::with_capacity(peers * 6_000), ends: Vec::with_capacity(peers * 6) }
    }

    fn push(&mut self, addr: SocketAddr, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push((addr, self.data.len()));
    }

    fn drain(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) {
        let mut start = 0;
        for (addr, end) in self.ends.drain(..) {
            each(addr, &mut self.data[start..end]);
            start = end;
        }
        self.data.clear();
    }
}

/// A server and its clients, without a network between them. Only the server's part is measured.
struct Crowd {
    now: Micros,
    server: Box<dyn Host>,
    server_addr: SocketAddr,
    clients: Vec<(Box<dyn Host>, SocketAddr)>,
    up: Heap,
    down: Heap,
    /// What the server used since the beginning.
    rx: Used,
    tx: Used,
    received: usize,
}

fn client_addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 1 + (index >> 16) as u8, (index >> 8) as u8, index as u8], 50_000))
}

fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(v4) => {
            let [_, high, middle, low] = v4.ip().octets();
            usize::from(high - 1) << 16 | usize::from(middle) << 8 | usize::from(low)
        }
        SocketAddr::V6(_) => 0,
    }
}

impl Crowd {
    /// A crowd of `count` clients, which are connected as far as the stack lets them in.
    fn connected(stack: &dyn Stack, count: usize) -> Crowd {
        let now = Micros::from_millis(1_000);
        let server_addr = SocketAddr::from(([10, 0, 0, 1], 7352));
        let mut crowd = Crowd {
            now,
            server: stack.server(now, server_addr, count, 1),
            server_addr,
            clients: (0..count)
                .map(|index| (stack.client(now, server_addr, index, 2), client_addr(index)))
                .collect(),
            up: Heap::default(),
            down: Heap::with_room(count),
            rx: Used::default(),
            tx: Used::default(),
            received: 0,
        };
        for _ in 0..200 {
            crowd.silent_frame();
            if crowd.is_connected() {
                break;
            }
        }
        // Whatever a handshake still has to say.
        (0..20).for_each(|_| crowd.silent_frame());
        crowd
    }

    fn is_connected(&self) -> bool {
        let count = self.clients.len();
        self.server.connected() == count && self.clients.iter().all(|(client, _)| client.connected() == 1)
    }

    /// A frame of 60 Hz in which everyone sends a message to the other side.
    fn frame(&mut self) {
        self.frame_with(Some(&MESSAGE));
    }

    /// A frame in which nobody has anything to say.
    fn silent_frame(&mut self) {
        self.frame_with(None);
    }

    /// The clients, then the server.
    fn frame_with(&mut self, message: Option<&[u8]>) {
        self.now += FRAME;
        let now = self.now;
        let (clients, down, up, server_addr) =
            (&mut self.clients, &mut self.down, &mut self.up, self.server_addr);
        down.drain(|to, bytes| {
            if let Some((client, _)) = clients.get_mut(index_of(to)) {
                client.handle(now, server_addr, bytes);
            }
        });
        for (client, addr) in clients {
            client.tick(now);
            client.receive(&mut |_| {});
            if let Some(message) = message {
                client.send(now, 0, message);
            }
            client.transmit(now, &mut |_, bytes| up.push(*addr, bytes));
        }
        let server = &mut self.server;
        let received = &mut self.received;
        let ((), rx) = measure(|| {
            up.drain(|from, bytes| server.handle(now, from, bytes));
            server.tick(now);
            server.receive(&mut |_| *received += 1);
        });
        let peers = server.connected();
        let ((), tx) = measure(|| {
            if let Some(message) = message {
                for peer in 0..peers {
                    server.send(now, peer, message);
                }
            }
            server.transmit(now, &mut |to, bytes| down.push(to, bytes));
        });
        self.rx += rx;
        self.tx += tx;
    }

    /// Forgets what was measured.
    fn reset(&mut self) {
        (self.rx, self.tx, self.received) = (Used::default(), Used::default(), 0);
    }
}

/// Figures of one stack with a number of peers.
struct Figures {
    rx_ns: Rounds,
    tx_ns: Rounds,
    rx_allocations: f64,
    tx_allocations: f64,
    idle_bytes: f64,
    idle_ns: f64,
    handshake_us: f64,
}

fn figures(stack: &dyn Stack, count: usize, quick: bool) -> Option<Figures> {
    let mut crowd = Crowd::connected(stack, count);
    if !crowd.is_connected() {
        return None;
    }
    let per_peer = |figure: f64| figure / count as f64;
    let handshake_us = per_peer((crowd.rx.cpu + crowd.tx.cpu).as_secs_f64() * 1e6);
    // Three seconds in which nobody has anything to say.
    (0..180).for_each(|_| crowd.silent_frame());
    let idle_bytes = per_peer((crowd.rx.bytes + crowd.tx.bytes) as f64);
    // All are silent. The clients too: nothing arrives.
    let polls = if quick { 5 } else { 30 };
    let mut idle = Vec::new();
    for _ in 0..polls {
        crowd.now += FRAME;
        let (now, server) = (crowd.now, &mut crowd.server);
        let mut sink = 0;
        let ((), used) = measure(|| {
            server.tick(now);
            server.receive(&mut |_| {});
            server.transmit(now, &mut |_, bytes| sink += bytes.len());
        });
        idle.push(used.ns(count));
    }
    let frames = if quick { 5 } else { 60_000 / count.max(60) };
    (0..frames).for_each(|_| crowd.frame());
    let (mut rx, mut tx) = (Vec::new(), Vec::new());
    let (mut rx_allocations, mut tx_allocations) = (0.0, 0.0);
    for _ in 0..9 {
        crowd.reset();
        (0..frames).for_each(|_| crowd.frame());
        let messages = crowd.received;
        rx.push(crowd.rx.ns(messages));
        tx.push(crowd.tx.ns(messages));
        rx_allocations = crowd.rx.allocations as f64 / messages.max(1) as f64;
        tx_allocations = crowd.tx.allocations as f64 / messages.max(1) as f64;
    }
    Some(Figures {
        rx_ns: Rounds(rx),
        tx_ns: Rounds(tx),
        rx_allocations,
        tx_allocations,
        idle_bytes,
        idle_ns: median(idle),
        handshake_us,
    })
}

/// What a flood of first datagrams from invented addresses does to a server.
struct Flood {
    state_bytes: f64,
    reply_ratio: f64,
    ns: f64,
}

fn flood(stack: &dyn Stack, count: usize) -> Flood {
    let now = Micros::from_millis(1_000);
    let server_addr = SocketAddr::from(([10, 0, 0, 1], 7352));
    let mut server = stack.server(now, server_addr, 4096, 1);
    let mut hellos = Heap::default();
    let mut rng = Rng::new(3);
    for index in 0..count {
        let mut client = stack.client(now, server_addr, index, 5);
        client.tick(now + FRAME);
        let from = SocketAddr::from(((rng.next_u64() as u32).to_be_bytes(), 1024 + index as u16));
        let mut is_first = true;
        client.transmit(now + FRAME, &mut |_, bytes| {
            if std::mem::take(&mut is_first) {
                hellos.push(from, bytes);
            }
        });
    }
    let asked = hellos.data.len();
    let mut replied = 0;
    // The first part warms up: after it, buffers and tables that are kept have their size.
    let mut used = Used::default();
    let mut part = Heap::default();
    let mut number = 0;
    let mut all = Vec::new();
    hellos.drain(|from, bytes| all.push((from, bytes.to_vec())));
    for (from, bytes) in &all {
        part.push(*from, bytes);
        number += 1;
        if number % 100 == 0 || number == all.len() {
            let now = now + FRAME * (number / 100 + 2) as u32;
            let ((), some) = measure(|| {
                part.drain(|from, bytes| server.handle(now, from, bytes));
                server.tick(now);
                server.receive(&mut |_| {});
                server.transmit(now, &mut |_, bytes| replied += bytes.len());
            });
            if number > 100 {
                used += some;
            }
        }
    }
    let counted = all.len().saturating_sub(100).max(1);
    Flood {
        state_bytes: used.bytes as f64 / counted as f64,
        reply_ratio: replied as f64 / asked.max(1) as f64,
        ns: used.ns(counted),
    }
}

/// The stacks, each with what encrypts its packets.
fn stacks() -> [(Box<dyn Stack>, &'static str); 6] {
    [
        (Box::new(KcpStack::TURBO), NO_CIPHER),
        (Box::new(EnetStack { delivery: Delivery::Unreliable }), NO_CIPHER),
        (Box::new(EnetStack { delivery: Delivery::Ordered }), NO_CIPHER),
        (Box::new(RenetStack { delivery: Delivery::Unreliable, resend_ms: 300 }), "ChaCha20-Poly1305"),
        (Box::new(QuinnStack::plain(Ride::Datagram)), "AES-128-GCM"),
        (Box::new(Ours::plain(Delivery::Unreliable)), ours::CIPHER),
    ]
}

/// Measures the cores, prints their tables, gives the targets.
pub(crate) fn cpu(scale: &Scale) -> Vec<Target> {
    let counts = if scale.quick { vec![20] } else { vec![100, 1000] };
    let mut targets: Vec<Target> = counts.into_iter().flat_map(|count| cores(scale, count)).collect();
    targets.extend(floods(scale));
    targets
}

fn cores(scale: &Scale, count: usize) -> Vec<Target> {
    let mut table = Table::new(&[
        "",
        "cipher",
        "rx ns",
        "tx ns",
        "rx allocs",
        "tx allocs",
        "idle B",
        "idle ns/poll",
        "handshake µs",
    ]);
    let mut best = Best::default();
    let mut targets = Vec::new();
    for (stack, cipher) in stacks().iter().filter(|(stack, _)| scale.wants(stack.as_ref())) {
        let name = stack.name();
        if name.contains("renet") && count > CLIENTS_MAX {
            continue;
        }
        let Some(figures) = figures(stack.as_ref(), count, scale.quick) else {
            table.row([name, (*cipher).into(), "no connections".into()]);
            continue;
        };
        table.row([
            name.clone(),
            (*cipher).into(),
            figures.rx_ns.text(),
            figures.tx_ns.text(),
            short(figures.rx_allocations),
            short(figures.tx_allocations),
            short(figures.idle_bytes),
            short(figures.idle_ns),
            short(figures.handshake_us),
        ]);
        let is_ours = name.contains("kaos");
        if is_ours && (count == 1000 || scale.quick) {
            targets = core_targets(&figures, count, &best);
        }
        // Stacks without a cipher have no keys and do less, so they do not count.
        if !is_ours && *cipher != NO_CIPHER {
            best.look(&name, &figures);
        }
    }
    table.print(
        &format!("Server cores in memory, {count} peers, a 64-byte message each way at 60 Hz"),
        &["Thread CPU time of the server alone, the median of nine rounds and the least, since other load only adds; allocations by a counting allocator; memory is \
           what the server holds more than it gave back, for each connected peer, after three seconds without messages; an idle poll is `tick`, `receive` and \
           `transmit` with nothing to do, for each peer."],
    );
    targets
}

fn core_targets(figures: &Figures, count: usize, best: &Best) -> Vec<Target> {
    let allocations = figures.rx_allocations + figures.tx_allocations;
    let (rx, tx) = (format!("core rx, K={count}"), format!("core tx, K={count}"));
    vec![
        Target::rounds(rx, 350.0, "ns", &figures.rx_ns, best.text(0, "ns")),
        Target::rounds(tx, 350.0, "ns", &figures.tx_ns, best.text(1, "ns")),
        Target::most("allocations per message, rx and tx", 0.0, "", allocations, best.text(2, "")),
        Target::most("idle peer, memory", 2048.0, "B", figures.idle_bytes, best.text(3, "B")),
        Target::most("idle peer, a poll", 10.0, "ns", figures.idle_ns, best.text(4, "ns")),
        Target::most("handshake, server", 120.0, "µs", figures.handshake_us, best.text(5, "µs")),
    ]
}

/// The best of the references for each column.
#[derive(Default)]
struct Best {
    figures: [Option<(f64, String)>; 6],
}

impl Best {
    fn look(&mut self, name: &str, figures: &Figures) {
        let these = [
            figures.rx_ns.median(),
            figures.tx_ns.median(),
            figures.rx_allocations + figures.tx_allocations,
            figures.idle_bytes,
            figures.idle_ns,
            figures.handshake_us,
        ];
        for (best, figure) in self.figures.iter_mut().zip(these) {
            if best.as_ref().is_none_or(|(least, _)| figure < *least) {
                *best = Some((figure, name.to_owned()));
            }
        }
    }

    fn text(&self, column: usize, unit: &str) -> String {
        match &self.figures[column] {
            Some((figure, name)) => format!("{} {unit} ({name})", short(*figure)),
            None => "–".into(),
        }
    }
}

fn floods(scale: &Scale) -> Vec<Target> {
    let stacks: [Box<dyn Stack>; 5] = [
        Box::new(EnetStack { delivery: Delivery::Ordered }),
        Box::new(RenetStack { delivery: Delivery::Ordered, resend_ms: 300 }),
        Box::new(QuinnStack::plain(Ride::Datagram)),
        Box::new(QuinnStack { retry: true, ..QuinnStack::plain(Ride::Datagram) }),
        Box::new(Ours::plain(Delivery::Ordered)),
    ];
    let mut table = Table::new(&["", "state B", "reply/request", "CPU ns"]);
    let mut targets = Vec::new();
    let mut best: Option<(f64, String)> = None;
    for stack in stacks.iter().filter(|stack| scale.wants(stack.as_ref())) {
        let name = stack.name();
        let floods: Vec<Flood> = (0..if scale.quick { 1 } else { 5 })
            .map(|_| flood(stack.as_ref(), if scale.quick { 200 } else { 2_000 }))
            .collect();
        let middle = |figure: fn(&Flood) -> f64| median(floods.iter().map(figure).collect());
        let (state, ratio, ns) =
            (middle(|flood| flood.state_bytes), middle(|flood| flood.reply_ratio), middle(|flood| flood.ns));
        table.row([name.clone(), short(state), short(ratio), short(ns)]);
        if name.contains("kaos") {
            let best = best.as_ref().map_or("–", |(_, text)| text).to_owned();
            targets = vec![
                Target::most("Hello flood: state for each", 0.0, "B", state, best.clone()),
                Target::most("Hello flood: reply", 1.0, "x", ratio, best.clone()),
                Target::most("Hello flood: CPU for each", 600.0, "ns", ns, best),
            ];
        } else if best.as_ref().is_none_or(|(least, _)| state < *least) {
            let text = format!("{} B, {} x, {} ns ({name})", short(state), short(ratio), short(ns));
            best = Some((state, text));
        }
    }
    table.print(
        "A flood of first datagrams from invented addresses",
        &["For each datagram, after the first hundred: memory that the server keeps, bytes it answers for each byte it got, CPU."],
    );
    print("");
    targets
}
