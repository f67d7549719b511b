//! A receiver that looks at its socket once a frame: whole batches between two acknowledgements. Virtual time, fixed
//! seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests, too.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::{
    Channel, Config, Congestion, Endpoint, Event, Micros, Stats,
    lab::{Link, Network},
};

const MS: Duration = Duration::from_millis(1);
const FRAME_60: Duration = Duration::from_micros(16_667);
const FRAME_30: Duration = Duration::from_micros(33_333);

fn hundred_mbit(one_way: Duration) -> Link {
    Link { bytes_per_second: 12_500_000, delay: one_way, queue: MS * 1_000, ..Link::default() }
}

/// The result of a run.
struct Figures {
    /// Bytes a second of payload that arrived, after the first second.
    rate: f64,
    /// The sender's counters.
    stats: Stats,
    /// Datagrams that the network lost on the way to the receiver.
    lost: u64,
    /// The most datagrams that the receiver found at once.
    batch: usize,
    queue_p95: Duration,
}

/// A server that always has something to send and is polled every half millisecond, and a client that is polled once a
/// `frame`: `handle` for everything in its socket, then time, events and datagrams, as the crate's documentation says.
/// Datagrams are lost only on the way to the client.
fn download(link: &Link, frame: Duration, congestion: Congestion, time: Duration) -> Figures {
    let (home, away) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
    let mut network = Network::new(1, Link { loss: 0.0, ..link.clone() });
    network.set_link(home, away, Some(link.clone()));
    // Room for what comes in two round trips behind a gap.
    let patient = Config { reassembly_bytes_max: 8 << 20, ..Config::default() };
    let config = Config { congestion, queue_bytes_max: 4 << 20, ..Config::server() };
    let (mut server, mut client) = (Endpoint::new(config, [1; 32]), Endpoint::new(patient, [2; 32]));
    let mut now = Micros::from_millis(1_000);
    client.connect(now, home, None).unwrap();
    let (mut there, mut inbox, mut buf) = (None, Vec::new(), Vec::new());
    let (mut next_frame, mut batch, mut arrived) = (now, 0, 0);
    let (begin, end) = (now + MS * 1_000, now + MS * 1_000 + time);
    while now < end {
        while let Some(mut datagram) = network.deliver(now) {
            if datagram.to == home {
                server.handle(now, away, &mut datagram.bytes);
            } else {
                inbox.push(datagram.bytes);
            }
        }
        server.run_jobs(now);
        server.handle_timeout(now);
        while let Some(event) = server.poll_event() {
            if let Event::Connected { peer, .. } = event {
                there = Some(peer);
            }
        }
        if let Some(peer) = there {
            while server.send(peer, Channel::DATA, &[&[7; 16_384]]).is_ok() {}
        }
        while let Some(to) = server.poll_transmit(now, &mut buf) {
            network.send(now, home, to, &buf);
        }
        if now >= next_frame {
            next_frame = now + frame;
            batch = batch.max(inbox.len());
            inbox.drain(..).for_each(|mut bytes: Vec<u8>| client.handle(now, home, &mut bytes));
            client.handle_timeout(now);
            while let Some(event) = client.poll_event() {
                if let Event::Message { bytes, .. } = event {
                    arrived += if now > begin { bytes.len() } else { 0 };
                    client.recycle(bytes);
                }
            }
            while let Some(to) = client.poll_transmit(now, &mut buf) {
                network.send(now, away, to, &buf);
            }
        }
        now += Duration::from_micros(500);
    }
    Figures {
        rate: arrived as f64 / time.as_secs_f64(),
        stats: server.stats(there.unwrap()).unwrap(),
        lost: network.traffic().lost,
        batch,
        queue_p95: network.wait(home, away, 95.0),
    }
}

fn print(name: &str, figures: &Figures) {
    let Figures { rate, stats, lost, batch, queue_p95 } = figures;
    println!(
        "{name}: {:.1} Mbit/s, {} found lost of {lost} ({} of them were not), at most {batch} at once, queue p95 {queue_p95:?}",
        rate * 8e-6,
        stats.lost,
        stats.lost_spurious,
    );
}

#[test]
fn a_batch_of_any_length_is_acknowledged_whole() {
    for (one_way, frame) in [(10, FRAME_60), (25, FRAME_30), (25, MS * 66)] {
        let figures = download(&hundred_mbit(MS * one_way), frame, Congestion::Cubic, MS * 3_000);
        print(&format!("{one_way} ms away, each {frame:?}"), &figures);
        assert!(figures.batch > if frame > FRAME_60 { 330 } else { 165 });
        assert_eq!((figures.lost, figures.stats.lost), (0, 0));
    }
}

#[test]
fn of_a_batch_with_losses_little_more_is_sent_again() {
    for (loss, most) in [(0.01, 1.1), (0.05, 1.1), (0.2, 1.2)] {
        let link = Link { loss, ..hundred_mbit(MS * 25) };
        let figures = download(&link, FRAME_30, Congestion::Delay, MS * 3_000);
        print(&format!("{} % lost, each {FRAME_30:?}", loss * 100.0), &figures);
        assert!(figures.stats.lost as f64 <= figures.lost as f64 * most);
    }
}

/// The default controller does not mistake a receiver's frame for a queue, and still keeps the queue of the bottleneck
/// short.
#[test]
fn a_receiver_at_sixty_frames_a_second_gets_the_rate() {
    let slower = |rate| Link { bytes_per_second: rate, ..hundred_mbit(MS * 25) };
    for (link, frame, most) in [
        (hundred_mbit(MS), FRAME_60, MS * 20),
        (hundred_mbit(MS * 10), FRAME_60, MS * 20),
        (hundred_mbit(MS * 25), FRAME_60, MS * 20),
        (hundred_mbit(MS * 25), FRAME_30, MS * 20),
        (slower(1_250_000), FRAME_60, MS * 20),
        (slower(250_000), FRAME_60, MS * 60),
    ] {
        let figures = download(&link, frame, Congestion::Delay, MS * 5_000);
        let rate = link.bytes_per_second as f64;
        print(&format!("{rate} B/s, {:?} away, each {frame:?}", link.delay), &figures);
        assert!(figures.rate >= 0.8 * rate && figures.queue_p95 <= most);
    }
}
