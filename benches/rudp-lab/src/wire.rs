//! `rudp-lab wire`: what a small unreliable message costs in UDP payload.

use std::time::Duration;

use crate::{
    Scale,
    figures::short,
    pipe::Pipe,
    stack::{Delivery, Stack},
    stacks::{
        enet::EnetStack,
        ours::Ours,
        quinn::{QuinnStack, Ride},
        renet::RenetStack,
    },
    table::{Table, Target},
};

/// Measures 64-byte messages, 60 a second each way on a clean link.
pub(crate) fn wire(scale: &Scale) -> Vec<Target> {
    let stacks: [Box<dyn Stack>; 4] = [
        Box::new(EnetStack { delivery: Delivery::Unreliable }),
        Box::new(RenetStack { delivery: Delivery::Unreliable, resend_ms: 300 }),
        Box::new(QuinnStack::plain(Ride::Datagram)),
        Box::new(Ours::plain(Delivery::Unreliable)),
    ];
    let mut table = Table::new(&["", "up B", "down B", "datagrams up", "down", "encrypted"]);
    let mut best = (f64::INFINITY, String::new());
    let mut targets = Vec::new();
    for stack in stacks.iter().filter(|stack| scale.wants(stack.as_ref())) {
        let messages = if scale.quick { 60 } else { 1_200 };
        let name = stack.name();
        let Some((up, down)) = measure(stack.as_ref(), messages, scale.seed) else {
            table.row([name, "no connection".into()]);
            continue;
        };
        let per = |figure: u64| figure as f64 / f64::from(messages);
        let is_open = name.starts_with("enet");
        table.row([
            name.clone(),
            short(per(up.bytes)),
            short(per(down.bytes)),
            short(per(up.datagrams)),
            short(per(down.datagrams)),
            if is_open { "no" } else { "yes" }.into(),
        ]);
        if name.contains("kaos") {
            let up = Target::most("64 B unreliable, up", 96.0, "B", per(up.bytes), best.1.clone());
            let down = Target::most("64 B unreliable, down", 92.0, "B", per(down.bytes), best.1.clone());
            targets = vec![up, down];
        } else if !is_open && per(up.bytes) < best.0 {
            best = (per(up.bytes), format!("{} B ({name})", short(per(up.bytes))));
        }
    }
    table.print(
        "UDP payload of a 64-byte unreliable message",
        &["60 messages a second each way, RTT 50 ms, acknowledgements included; headers of IP and UDP are not."],
    );
    targets
}

fn measure(stack: &dyn Stack, messages: u32, seed: u64) -> Option<(crate::pipe::Flow, crate::pipe::Flow)> {
    let mut pipe = Pipe::connected(stack, None, seed)?;
    let before = (pipe.up, pipe.down);
    let mut next = pipe.next_poll();
    let mut sent = 0;
    while sent < messages {
        pipe.step();
        pipe.receive(&mut |_| {}, &mut |_| {});
        if next <= pipe.now {
            next += Duration::from_micros(16_667);
            pipe.client.send(pipe.now, 0, &[7; 64]);
            pipe.server.send(pipe.now, 0, &[8; 64]);
            sent += 1;
        }
        pipe.transmit();
    }
    Some((pipe.up - before.0, pipe.down - before.1))
}
