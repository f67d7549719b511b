//! `rudp-lab migrate`: a client's address changes in mid-stream.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::Micros;

use crate::{
    Scale,
    figures::short,
    pipe::Pipe,
    stack::{Delivery, Stack},
    stacks::{
        enet::EnetStack,
        kcp::KcpStack,
        ours::Ours,
        quinn::{QuinnStack, Ride},
        renet::RenetStack,
    },
    table::{Table, Target},
};

/// What a change of address did.
#[derive(Default)]
struct Change {
    lost: usize,
    /// Longest time without a message at the server and at the client, in milliseconds.
    gap_up_ms: f64,
    gap_down_ms: f64,
}

const FRAME: Duration = Duration::from_micros(16_667);

/// Reliable messages each way, 60 a second for four seconds; after one second the client has another address.
fn change(stack: &dyn Stack, new: SocketAddr, seed: u64) -> Option<Change> {
    let mut pipe = Pipe::connected(stack, None, seed)?;
    let begun = pipe.now;
    let mut next = pipe.next_poll();
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut up, mut down) = (Side::new(begun), Side::new(begun));
    let mut is_moved = false;
    while pipe.now < begun + Duration::from_secs(8) {
        pipe.step();
        let now = pipe.now;
        pipe.receive(&mut |bytes| down.arrived(now, bytes), &mut |bytes| up.arrived(now, bytes));
        if !is_moved && now >= begun + Duration::from_secs(1) {
            is_moved = true;
            pipe.client_addr = new;
        }
        if next <= now && now < begun + Duration::from_secs(4) {
            next += FRAME;
            sent_up += usize::from(pipe.client.send(now, 0, &[7; 64]));
            sent_down += usize::from(pipe.server.send(now, 0, &[8; 64]));
        }
        pipe.transmit();
    }
    // Messages that stop for good are a gap without an end.
    let gap = |side: &Side| {
        let is_over = side.last < begun + Duration::from_secs(4);
        if is_over { f64::INFINITY } else { side.gap.as_secs_f64() * 1000.0 }
    };
    Some(Change {
        lost: sent_up - up.count.min(sent_up) + sent_down - down.count.min(sent_down),
        gap_up_ms: gap(&up),
        gap_down_ms: gap(&down),
    })
}

/// What one side has received of the other's messages.
struct Side {
    last: Micros,
    gap: Duration,
    count: usize,
}

impl Side {
    fn new(now: Micros) -> Side {
        Side { last: now, gap: Duration::ZERO, count: 0 }
    }

    fn arrived(&mut self, now: Micros, bytes: &[u8]) {
        if bytes.len() == 64 {
            // The first ones are later by the time that they take.
            if self.count > 0 {
                self.gap = self.gap.max(now - self.last);
            }
            self.last = now;
            self.count += 1;
        }
    }
}

/// Changes the port and then the address, prints the table, gives the targets.
pub(crate) fn migrate(scale: &Scale) -> Vec<Target> {
    let stacks: [Box<dyn Stack>; 7] = [
        Box::new(KcpStack::TURBO),
        Box::new(EnetStack { delivery: Delivery::Ordered }),
        Box::new(RenetStack { delivery: Delivery::Ordered, resend_ms: 300 }),
        Box::new(QuinnStack::plain(Ride::Stream)),
        Box::new(QuinnStack::plain(Ride::Datagram)),
        Box::new(Ours::plain(Delivery::Ordered)),
        Box::new(Ours { label: "unreliable", ..Ours::plain(Delivery::Unreliable) }),
    ];
    let mut table = Table::new(&["", "changed", "lost", "gap at the server ms", "gap at the client ms"]);
    let mut targets = Vec::new();
    // One round trip and one tick; for another address one round trip more, the path's challenge.
    for (what, new, bound) in [
        ("port", SocketAddr::from(([10, 0, 0, 2], 50_001)), 50.0 + 17.0),
        ("address", SocketAddr::from(([10, 0, 0, 3], 50_001)), 100.0 + 17.0),
    ] {
        let mut best = String::from("–");
        for stack in stacks.iter().filter(|stack| scale.wants(stack.as_ref())) {
            let name = stack.name();
            let changes: Vec<Change> =
                scale.seeds().filter_map(|seed| change(stack.as_ref(), new, seed)).collect();
            let lost: usize = changes.iter().map(|change| change.lost).sum();
            let most = |gap: fn(&Change) -> f64| changes.iter().map(gap).fold(0.0, f64::max);
            let (up, down) = (most(|change| change.gap_up_ms), most(|change| change.gap_down_ms));
            table.row([name.clone(), what.into(), lost.to_string(), short(up), short(down)]);
            let ms = up.max(down);
            match name {
                name if name.starts_with("quinn one") => {
                    best = format!("{lost} lost, {} ms ({name})", short(ms));
                }
                name if name.ends_with("unreliable") => {
                    let what = format!("{what} changed: gap, unreliable");
                    targets.push(Target::most(what, bound, "ms", ms, "–".into()));
                }
                name if name.contains("kaos") => targets.extend([
                    Target::most(format!("{what} changed: lost"), 0.0, "", lost as f64, best.clone()),
                    Target::most(format!("{what} changed: gap, ordered"), bound, "ms", ms, best.clone()),
                ]),
                _ => {}
            }
        }
    }
    table.print(
        "The client's address changes",
        &[
            "64-byte messages, 60 a second each way for 4 s, RTT 50 ms, no loss. After 1 s the client's datagrams \
           come from elsewhere, and those to its old address vanish. The worst of all seeds; a gap without a change is 17 ms; `–` is a stream that has ended.",
        ],
    );
    targets
}
