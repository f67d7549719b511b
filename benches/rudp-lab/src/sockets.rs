//! `rudp-lab sockets`: what a server costs with its sockets, for each peer and frame.

use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread::Scope,
    time::Duration,
};

use kaos_rudp::{Micros, io::Options};

use crate::{
    figures::{Rounds, median, short},
    gauge::measure,
    line::Line,
    scale::Scale,
    stack::{Delivery, Host, Stack},
    stacks::{
        enet::EnetStack,
        ours::{Batched, Ours},
        quinn::{QuinnStack, Ride},
        raw::Raw,
        renet::RenetStack,
    },
    table::{Table, Target},
};

const FRAME: Duration = Duration::from_micros(16_667);

/// Clients that send before the server reads: fewer than fit into a socket's buffer.
const BATCH: usize = 64;

/// A server in a thread of its own and its clients in the caller's, on loopback sockets. Time is virtual: a frame a
/// round. Only one of the two threads works at a time, so that the server has its caches to itself and nothing
/// overflows.
struct Crowd {
    now: Micros,
    clients: Vec<(Box<dyn Host>, Line)>,
    orders: Sender<Order>,
    states: Receiver<State>,
    state: State,
}

/// A stack's name, its crowd, and microseconds of rx and tx of each round.
type Contest = (String, Crowd, Vec<(f64, f64)>);

/// Whether anybody has something to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talk {
    Message,
    Silence,
}

/// What the server's thread has to do.
enum Order {
    /// Take what the socket has.
    Drain(Micros),
    /// The rest of a frame; with `Talk::Message` every peer is sent one.
    Frame(Micros, Talk),
}

/// The state after that.
#[derive(Clone, Copy, Default)]
struct State {
    connected: usize,
    /// Since the beginning.
    rx: Duration,
    tx: Duration,
}

/// The server's thread, which ends with its orders.
fn serve(host: &mut dyn Host, line: &mut Line, orders: &Receiver<Order>, states: &Sender<State>) {
    let mut state = State::default();
    while let Ok(order) = orders.recv() {
        match order {
            Order::Drain(now) => {
                let (_, used) = measure(|| line.drain(host, now, usize::MAX));
                state.rx += used.cpu;
            }
            Order::Frame(now, talk) => {
                let ((), used) = measure(|| {
                    host.tick(now);
                    host.receive(&mut |_| {});
                });
                state.rx += used.cpu;
                state.connected = host.connected();
                let ((), used) = measure(|| {
                    if talk == Talk::Message {
                        (0..state.connected).for_each(|peer| {
                            host.send(now, peer, &[8; 64]);
                        });
                    }
                    line.flush(host, now);
                });
                state.tx += used.cpu;
            }
        }
        if states.send(state).is_err() {
            return;
        }
    }
}

impl Crowd {
    fn connected<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        stack: &'env (dyn Stack + Sync),
        count: usize,
    ) -> io::Result<Option<Crowd>> {
        let now = Micros::from_millis(1_000);
        let mut line = Line::of(stack, &Options::default())?;
        let addr = line.addr()?;
        let clients = (0..count)
            .map(|index| Ok((stack.client(now, addr, index, 2), Line::of(&Raw, &Options::client())?)))
            .collect::<io::Result<_>>()?;
        let (orders, received) = mpsc::channel();
        let (told, states) = mpsc::channel();
        scope.spawn(move || {
            let mut host = stack.server(now, addr, count, 1);
            serve(host.as_mut(), &mut line, &received, &told);
        });
        let state = State::default();
        let mut crowd = Crowd { now, clients, orders, states, state };
        for _ in 0..200 {
            crowd.frame(Talk::Silence);
            let clients_have = crowd.clients.iter().all(|(client, _)| client.connected() == 1);
            if crowd.state.connected == count && clients_have {
                (0..20).for_each(|_| crowd.frame(Talk::Silence));
                return Ok(Some(crowd));
            }
        }
        Ok(None)
    }

    fn order(&mut self, order: Order) {
        if self.orders.send(order).is_ok()
            && let Ok(state) = self.states.recv()
        {
            self.state = state;
        }
    }

    fn frame(&mut self, talk: Talk) {
        self.now += FRAME;
        let now = self.now;
        let mut clients = std::mem::take(&mut self.clients);
        for batch in clients.chunks_mut(BATCH) {
            for (client, line) in batch {
                line.drain(client.as_mut(), now, usize::MAX);
                client.tick(now);
                client.receive(&mut |_| {});
                if talk == Talk::Message {
                    client.send(now, 0, &[7; 64]);
                }
                line.flush(client.as_mut(), now);
            }
            self.order(Order::Drain(now));
        }
        self.clients = clients;
        self.order(Order::Frame(now, talk));
    }

    /// Microseconds of rx and tx for each peer and frame, over some frames.
    fn round(&mut self, frames: usize) -> (f64, f64) {
        let before = self.state;
        (0..frames).for_each(|_| self.frame(Talk::Message));
        let per = |time: Duration| time.as_secs_f64() * 1e6 / (frames * self.clients.len()) as f64;
        (per(self.state.rx - before.rx), per(self.state.tx - before.tx))
    }
}

/// Lets the process have a socket for each client.
pub(crate) fn raise_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Measures, prints the tables, gives the targets.
pub(crate) fn sockets(scale: &Scale) -> Vec<Target> {
    raise_files();
    let stacks: [Box<dyn Stack + Sync>; 6] = [
        Box::new(Raw),
        Box::new(EnetStack { delivery: Delivery::Unreliable }),
        Box::new(RenetStack { delivery: Delivery::Unreliable, resend_ms: 300 }),
        Box::new(QuinnStack::plain(Ride::Datagram)),
        Box::new(Ours::plain(Delivery::Unreliable)),
        Box::new(Batched(Ours::plain(Delivery::Unreliable))),
    ];
    let counts = if scale.quick { vec![20] } else { vec![100, 1000] };
    counts
        .into_iter()
        .flat_map(|count| std::thread::scope(|scope| with_peers(scope, &stacks, count, scale)))
        .collect()
}

fn with_peers<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    stacks: &'env [Box<dyn Stack + Sync>],
    count: usize,
    scale: &Scale,
) -> Vec<Target> {
    let mut table = Table::new(&["", "rx µs", "tx µs", "peer-tick µs", "of bare", "peers/core at 60 Hz"]);
    let mut contests: Vec<Contest> = Vec::new();
    for (_, stack) in
        stacks.iter().enumerate().filter(|(number, stack)| *number == 0 || scale.wants(stack.as_ref()))
    {
        match Crowd::connected(scope, stack.as_ref(), count) {
            Ok(Some(crowd)) => contests.push((stack.name(), crowd, Vec::new())),
            Ok(None) => table.row([stack.name(), "no connections".into()]),
            Err(error) => table.row([stack.name(), error.to_string()]),
        }
    }
    // All in turns, so that whatever else the machine does affects all of them.
    let (rounds, frames) = if scale.quick { (2, 3) } else { (9, 20_000 / count) };
    for _ in 0..rounds {
        for (_, crowd, figures) in &mut contests {
            figures.push(crowd.round(frames));
        }
    }
    let is_judged = count == 1000 || scale.quick;
    let targets = compare(&contests, count, &mut table);
    table.print(
        &format!("Servers on loopback sockets, {count} peers, 64 bytes unreliable each way in each frame"),
        &["One unconnected socket, `recv_from` and `send_to`; *GSO*: the batched sockets of `kaos_rudp::io`. CPU time of the server's thread, median of the rounds and the least."],
    );
    if is_judged { targets } else { Vec::new() }
}

/// Adds a row for each stack, and returns our targets.
fn compare(contests: &[Contest], count: usize, table: &mut Table) -> Vec<Target> {
    let mut targets = Vec::new();
    // The first in turn, and always there.
    let mut bare: Vec<f64> = Vec::new();
    let mut best: Option<(f64, String)> = None;
    for (name, _, figures) in contests {
        let rx = median(figures.iter().map(|figure| figure.0).collect());
        let tx = median(figures.iter().map(|figure| figure.1).collect());
        let rounds = Rounds(figures.iter().map(|figure| figure.0 + figure.1).collect());
        let whole = rounds.median();
        if bare.is_empty() {
            bare = rounds.0.clone();
        }
        // Round by round, since both had the same other load.
        let of_bare = Rounds(rounds.0.iter().zip(&bare).map(|(whole, bare)| whole / bare).collect());
        table.row([
            name.clone(),
            short(rx),
            short(tx),
            rounds.text(),
            short(of_bare.median()),
            format!("{:.0}", 1e6 / 60.0 / whole),
        ]);
        // On its own sockets, as the server and the clients run it.
        if name.contains("kaos") && name.contains("GSO") {
            let text = best.as_ref().map_or("–", |(_, text)| text).to_owned();
            let what = format!("peer-tick, K={count}");
            targets = vec![
                Target::rounds(format!("{what}, its own sockets"), 5.0, "µs", &rounds, text),
                Target::most(
                    format!("{what}, of bare datagrams"),
                    1.4,
                    "x",
                    of_bare.median(),
                    format!("{} µs (bare)", Rounds(bare.clone()).text()),
                ),
            ];
        } else if (name.starts_with("renet") || name.starts_with("quinn"))
            && best.as_ref().is_none_or(|(least, _)| whole < *least)
        {
            best = Some((whole, format!("{} µs ({name})", short(whole))));
        }
    }
    targets
}
