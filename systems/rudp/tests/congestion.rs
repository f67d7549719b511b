//! What a bottleneck sees: bulk transfers, queues, shares, and paths that change. Virtual time, fixed seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

use std::time::Duration;

use kaos_rudp::{
    Channel, Config, Congestion, Event, PeerId,
    lab::{Link, Node, World},
};

const MS: Duration = Duration::from_millis(1);
const MIB: usize = 1024 * 1024;

fn ten_mbit() -> Link {
    Link { bytes_per_second: 1_250_000, queue: MS * 50, ..Link::default() }
}

fn two_mbit() -> Link {
    Link { bytes_per_second: 250_000, queue: MS * 500, ..Link::default() }
}

/// What one mebibyte cost.
#[derive(Debug)]
struct Bulk {
    time: Duration,
    /// Wire bytes of its direction, and of both, for each byte of payload.
    wire: f64,
    wire_both: f64,
    queue_p95: Duration,
}

/// One mebibyte in messages of 16 KiB, from the first `send` to the arrival of the last.
fn bulk(seed: u64, link: Link, congestion: Congestion) -> Bulk {
    let mut world = World::new(seed, Link::default());
    let client = world.add(Config { congestion, ..Config::default() });
    let server = world.add(Config::server());
    let (here, _) = world.connected(client, server);
    // Each seed begins at another phase of everything.
    world.run_for(MS * 500 + Duration::from_micros(seed * 377));
    world.link = link;
    world.record();
    world.forget_waits();
    let begin = world.now();
    let (mut left, mut missing) = (MIB, MIB);
    while world.now() < begin + MS * 60_000 && missing > 0 {
        while left > 0 && world.endpoint(client).send(here, Channel::DATA, &[&[0; 16_384]]).is_ok() {
            left -= 16_384;
        }
        world.run_for(MS);
        for event in world.take_events(server) {
            if let Event::Message { bytes, .. } = event {
                missing -= bytes.len();
            }
        }
    }
    let time = world.now() - begin;
    let home = world.addr(client);
    let (mut wire, mut both) = (0, 0);
    for (from, _, bytes) in world.take_recorded() {
        wire += if from == home { bytes.len() + 28 } else { 0 };
        both += bytes.len() + 28;
    }
    Bulk {
        time,
        wire: wire as f64 / MIB as f64,
        wire_both: both as f64 / MIB as f64,
        queue_p95: world.wait(client, server, 95.0),
    }
}

fn bulks(name: &str, link: &Link, congestion: Congestion) -> Vec<Bulk> {
    let runs: Vec<Bulk> = (0..8).map(|seed| bulk(seed, link.clone(), congestion)).collect();
    let mean_wire = |figure: fn(&Bulk) -> f64| runs.iter().map(figure).sum::<f64>() / runs.len() as f64;
    let worst = |figure: fn(&Bulk) -> Duration| runs.iter().map(figure).max().unwrap();
    let mean: Duration = runs.iter().map(|run| run.time).sum::<Duration>() / runs.len() as u32;
    println!(
        "{congestion:?}, {name}: {mean:?} (worst {:?}), wire/payload {:.3} ({:.3} both ways), queue p95 {:?}",
        worst(|run| run.time),
        mean_wire(|run| run.wire),
        mean_wire(|run| run.wire_both),
        worst(|run| run.queue_p95),
    );
    runs
}

fn within(runs: &[Bulk], time: Duration, queue_p95: Duration) {
    for run in runs {
        assert!(run.time <= time && run.queue_p95 <= queue_p95, "{run:?}");
    }
    // Losses cost bytes again, and a seed may have more of them than its share.
    assert!(runs.iter().map(|run| run.wire).sum::<f64>() <= 1.08 * runs.len() as f64);
}

#[test]
fn a_mebibyte_is_fast_and_leaves_the_queue_short() {
    let noisy = Link { loss: 0.02, ..ten_mbit() };
    let clean = bulks("10 Mbit/s, 1 BDP", &ten_mbit(), Congestion::Delay);
    let lossy = bulks("10 Mbit/s, 1 BDP, 2 % loss", &noisy, Congestion::Delay);
    let bloat = bulks("2 Mbit/s, 500 ms", &two_mbit(), Congestion::Delay);
    within(&clean, MS * 1_000, MS * 20);
    within(&lossy, MS * 1_150, MS * 20);
    within(&bloat, MS * 4_700, MS * 60);
}

#[test]
fn cubic_gets_a_mebibyte_through_too() {
    let runs = bulks("10 Mbit/s, 1 BDP", &ten_mbit(), Congestion::Cubic);
    runs.iter().for_each(|run| assert!(run.time <= MS * 1_400, "{run:?}"));
    let runs = bulks("2 Mbit/s, 500 ms", &two_mbit(), Congestion::Cubic);
    runs.iter().for_each(|run| assert!(run.time <= MS * 5_000, "{run:?}"));
}

/// A flow that always has something to send, and how much of it arrived.
struct Flow {
    from: Node,
    peer: PeerId,
    there: PeerId,
    arrived: usize,
}

/// Two connections between the same two hosts, whose data share the path from the first to the second. Each side
/// dialled one of them.
fn two_flows(seed: u64, congestion: Congestion) -> (World, Node, [Flow; 2]) {
    let mut world = World::new(seed, Link::default());
    let config = Config { congestion, accept: true, ..Config::default() };
    let (a, b) = (world.add(config.clone()), world.add(config));
    let first = world.connected(a, b);
    let second = world.connected(b, a);
    world.run_for(MS * 200);
    let flow = |(peer, there)| Flow { from: a, peer, there, arrived: 0 };
    (world, b, [flow(first), flow((second.1, second.0))])
}

/// Runs the first `busy` of the flows for a time; returns bytes a second of each.
fn run(world: &mut World, to: Node, flows: &mut [Flow], busy: usize, time: Duration) -> Vec<f64> {
    let end = world.now() + time;
    flows.iter_mut().for_each(|flow| flow.arrived = 0);
    while world.now() < end {
        for flow in &flows[..busy] {
            while world.endpoint(flow.from).send(flow.peer, Channel::DATA, &[&[0; 4_096]]).is_ok() {}
        }
        world.run_for(MS);
        for event in world.take_events(to) {
            if let Event::Message { peer, bytes, .. } = event
                && let Some(flow) = flows.iter_mut().find(|flow| flow.there == peer)
            {
                flow.arrived += bytes.len();
            }
        }
        for flow in flows.iter() {
            world.take_events(flow.from);
        }
    }
    flows.iter().map(|flow| flow.arrived as f64 / time.as_secs_f64()).collect()
}

#[test]
fn two_flows_share_a_bottleneck() {
    for (name, link) in [("10 Mbit/s", ten_mbit()), ("2 Mbit/s", two_mbit())] {
        for seed in 0..5 {
            let (mut world, to, mut flows) = two_flows(seed, Congestion::Delay);
            world.link = link.clone();
            run(&mut world, to, &mut flows, 2, MS * 3_000);
            world.forget_waits();
            let rates = run(&mut world, to, &mut flows, 2, MS * 10_000);
            let (sum, ratio) = (rates[0] + rates[1], rates[0] / rates[1]);
            let wait = world.wait(flows[0].from, to, 95.0);
            println!("{name}, together: {rates:.0?} B/s, ratio {ratio:.2}, queue p95 {wait:?}");
            assert!((0.5..=2.0).contains(&ratio), "{rates:?}");
            assert!(sum >= 0.85 * link.bytes_per_second as f64, "{rates:?}");
        }
    }
}

#[test]
fn a_late_comer_gets_its_share() {
    for (name, link) in [("10 Mbit/s", ten_mbit()), ("2 Mbit/s", two_mbit())] {
        for seed in 0..5 {
            let (mut world, to, mut flows) = two_flows(seed, Congestion::Delay);
            world.link = link.clone();
            run(&mut world, to, &mut flows, 1, MS * 5_000);
            run(&mut world, to, &mut flows, 2, MS * 5_000);
            let rates = run(&mut world, to, &mut flows, 2, MS * 10_000);
            let ratio = rates[0] / rates[1];
            println!("{name}, five seconds later: {rates:.0?} B/s, ratio {ratio:.2}");
            assert!((0.5..=2.0).contains(&ratio), "{rates:?}");
        }
    }
}

#[test]
fn a_rate_that_changes_is_followed() {
    for seed in 0..5 {
        let (mut world, to, mut flows) = two_flows(seed, Congestion::Delay);
        world.link = two_mbit();
        run(&mut world, to, &mut flows, 1, MS * 3_000);
        world.link = ten_mbit();
        let rising = run(&mut world, to, &mut flows, 1, MS * 2_000)[0];
        let risen = run(&mut world, to, &mut flows, 1, MS * 3_000)[0];
        world.link = two_mbit();
        world.forget_waits();
        let falling = run(&mut world, to, &mut flows, 1, MS * 2_000)[0];
        let wait_first = world.wait(flows[0].from, to, 95.0);
        world.forget_waits();
        let fallen = run(&mut world, to, &mut flows, 1, MS * 3_000)[0];
        let wait = world.wait(flows[0].from, to, 95.0);
        println!(
            "2 to 10 Mbit/s: {rising:.0}, {risen:.0} B/s; back: {falling:.0}, {fallen:.0} B/s, queue p95 {wait_first:?}, {wait:?}"
        );
        assert!(rising >= 750_000.0 && risen >= 1_000_000.0, "{rising} {risen}");
        assert!(fallen >= 200_000.0 && wait <= MS * 60, "{fallen} {wait:?}");
    }
}

#[test]
fn who_heeds_the_budget_waits_for_nothing_and_still_gets_the_rate() {
    let mut world = World::new(3, Link::default());
    let (client, server) = world.pair();
    let (here, there) = world.connected(client, server);
    world.link = ten_mbit();
    let now = world.now();
    let first = world.endpoint(client).send_budget(now, here);
    assert!((10_000..14_000).contains(&first), "ten packets, not {first} bytes");
    let begin = world.now();
    let (mut arrived, mut slowest) = (0, Duration::ZERO);
    while world.now() < begin + MS * 5_000 {
        let now = world.now();
        let budget = world.endpoint(client).send_budget(now, here);
        let bytes = now.0.to_le_bytes();
        for _ in 0..budget / 500 {
            world.endpoint(client).send(here, Channel::DATA, &[&bytes, &[0; 492]]).unwrap();
        }
        // What was queued has left by the next tick, or nearly so.
        world.run_for(MS * 16);
        for event in world.take_events(server) {
            if let Event::Message { bytes, .. } = event {
                let sent = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let age = Duration::from_micros(world.now().0 - sent);
                if world.now() > begin + MS * 500 {
                    slowest = slowest.max(age);
                    arrived += bytes.len();
                }
            }
        }
    }
    let rate = arrived as f64 / 4.5;
    println!("by budget: {rate:.0} B/s, oldest message {slowest:?}");
    // 25 ms on the path, up to two ticks until the receiver looks, a tick in the pacer, a few packets in the queue.
    assert!(slowest <= MS * (25 + 32 + 16 + 17), "{slowest:?}");
    assert!(rate >= 1_000_000.0, "{rate}");
    let now = world.now();
    world.endpoint(client).close(now, here, 1, "over");
    assert_eq!(world.endpoint(client).send_budget(now, here), 0);
    assert!(world.endpoint(server).send_budget(now, there) > 0);
}
