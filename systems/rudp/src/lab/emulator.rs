//! A bad network between one connection and its socket: datagrams are lost and held back, both ways.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::network::{Link, Network};
use crate::timer::Micros;

/// The qualities of an emulated network between clients and their server, for load tests over real sockets. It comes on
/// top of the real network. Many connections share it.
#[derive(Debug)]
pub struct Emulation {
    /// How many of a thousand datagrams are lost, in each direction and independently; 0 to 1,000.
    pub loss_permille: u16,
    /// Round trip, half of it in each direction.
    pub rtt: Duration,
    /// Random delay on top, up to this in each direction. Datagrams overtake each other if it is longer than the gaps
    /// between them.
    pub jitter: Duration,
    /// Everything random follows from it and from the number of the connection.
    pub seed: u64,
    /// Connections that began; below, what became of their datagrams.
    connections: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
}

impl Emulation {
    /// A network with these qualities.
    pub fn new(loss_permille: u16, rtt: Duration, jitter: Duration, seed: u64) -> Arc<Emulation> {
        Arc::new(Emulation {
            loss_permille,
            rtt,
            jitter,
            seed,
            connections: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Datagrams that went in, in both directions, of all connections.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Of these, those that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One connection's network, with its two directions. Knows no socket and no clock.
pub struct Emulator {
    out: Network,
    inward: Network,
    emulation: Arc<Emulation>,
}

/// Stands for this end, which has no address of its own here.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl Emulator {
    /// The network of the next connection of `emulation`.
    pub fn new(emulation: Arc<Emulation>) -> Emulator {
        let link = Link {
            delay: emulation.rtt / 2,
            jitter: emulation.jitter,
            loss: f64::from(emulation.loss_permille) / 1000.0,
            ..Link::default()
        };
        let number = emulation.connections.fetch_add(1, Ordering::Relaxed);
        let seed = emulation.seed.wrapping_add(number.wrapping_mul(2));
        let inward = Network::new(seed.wrapping_add(1), link.clone());
        Emulator { out: Network::new(seed, link), inward, emulation }
    }

    /// Takes a datagram that is to leave for `to`.
    pub fn put_out(&mut self, now: Micros, to: SocketAddr, datagram: &[u8]) {
        Emulator::put(&mut self.out, &self.emulation, now, (HERE, to), datagram);
    }

    /// Takes a datagram that came from the socket.
    pub fn put_in(&mut self, now: Micros, from: SocketAddr, datagram: &[u8]) {
        Emulator::put(&mut self.inward, &self.emulation, now, (from, HERE), datagram);
    }

    fn put(
        network: &mut Network,
        emulation: &Emulation,
        now: Micros,
        (from, to): (SocketAddr, SocketAddr),
        datagram: &[u8],
    ) {
        let before = network.traffic().lost;
        network.send(now, from, to, datagram);
        emulation.sent.fetch_add(1, Ordering::Relaxed);
        emulation.lost.fetch_add(network.traffic().lost - before, Ordering::Relaxed);
    }

    /// Puts the next datagram for the socket into `datagram`, if its time has come. Returns to whom it goes.
    pub fn take_out(&mut self, now: Micros, datagram: &mut Vec<u8>) -> Option<SocketAddr> {
        let delivered = self.out.deliver(now)?;
        datagram.clear();
        datagram.extend_from_slice(&delivered.bytes);
        Some(delivered.to)
    }

    /// The next datagram for the endpoint with its sender, if its time has come.
    pub fn take_in(&mut self, now: Micros) -> Option<(SocketAddr, Vec<u8>)> {
        self.inward.deliver(now).map(|datagram| (datagram.from, datagram.bytes))
    }

    /// When the next datagram has crossed.
    pub fn timeout(&self) -> Option<Micros> {
        [self.out.next_arrival(), self.inward.next_arrival()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_take_half_the_round_trip_and_some_are_lost() {
        let emulation = Emulation::new(100, Duration::from_millis(50), Duration::from_millis(10), 7);
        let mut emulator = Emulator::new(Arc::clone(&emulation));
        let there = SocketAddr::from(([10, 0, 0, 1], 7352));
        for number in 0..1_000u64 {
            emulator.put_out(Micros(number), there, &number.to_le_bytes());
            emulator.put_in(Micros(number), there, &number.to_le_bytes());
        }
        let mut crossed = [0, 0];
        while let Some(at) = emulator.timeout() {
            let mut out = Vec::new();
            let out = emulator.take_out(at, &mut out).map(|to| (to, out));
            for (count, one) in crossed.iter_mut().zip([out, emulator.take_in(at)]) {
                let Some((other, bytes)) = one else { continue };
                assert_eq!(other, there);
                let number = u64::from_le_bytes(bytes.try_into().unwrap());
                assert!((25_000..=35_000).contains(&(at.0 - number)), "{number} at {at:?}");
                *count += 1;
            }
        }
        assert_eq!((emulation.sent(), emulation.lost()), (2_000, 2_000 - crossed[0] - crossed[1]));
        assert!(crossed.iter().all(|count| (850..950).contains(count)), "{crossed:?}");
    }
}
