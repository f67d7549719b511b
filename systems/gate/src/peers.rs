//! The peers of all doors by their numbers, and how each is reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kaos_kernel::ids::{PeerId, PeerSlots};
use kaos_kernel::input::Door;

use crate::bridge::link::Link;
use crate::stats::Stats;

/// How a peer is reached.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// Over the UDP door.
    Udp(kaos_rudp::PeerId),
    /// Over a WebSocket.
    Web(Arc<Link>),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) peer: PeerId,
    pub(crate) transport: Transport,
    /// The first counted message of this batch that was refused, by channel.
    pub(crate) control: Option<u64>,
    pub(crate) data: Option<u64>,
}

/// The peers of all doors by their numbers.
#[derive(Debug)]
pub(crate) struct Slots {
    ids: PeerSlots,
    rows: Vec<Option<Row>>,
    peers_max: u32,
    stats: Arc<Stats>,
}

impl Slots {
    pub(crate) fn new(peers_max: u32, stats: Arc<Stats>) -> Self {
        Slots { ids: PeerSlots::default(), rows: Vec::new(), peers_max, stats }
    }

    fn count(&self, transport: &Transport) -> &std::sync::atomic::AtomicU64 {
        let door = match transport {
            Transport::Udp(_) => Door::Udp,
            Transport::Web(_) => Door::WebSocket,
        };
        &self.stats.door(door).peers
    }

    /// Numbers a new peer; `None` when there are too many.
    pub(crate) fn open(&mut self, transport: Transport) -> Option<PeerId> {
        let peer = self.ids.open(self.peers_max)?;
        self.count(&transport).fetch_add(1, Ordering::Relaxed);
        let at = peer.slot as usize;
        if self.rows.len() <= at {
            self.rows.resize_with(at + 1, || None);
        }
        if let Some(row) = self.rows.get_mut(at) {
            *row = Some(Row { peer, transport, control: None, data: None });
        }
        Some(peer)
    }

    /// Takes the number back.
    pub(crate) fn close(&mut self, peer: PeerId) -> Option<Transport> {
        let row = self.rows.get_mut(peer.slot as usize)?;
        let transport = row.take_if(|row| row.peer == peer)?.transport;
        self.count(&transport).fetch_sub(1, Ordering::Relaxed);
        self.ids.close(peer);
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
        }
        if self.rows.len() * 4 < self.rows.capacity() {
            self.rows.shrink_to(self.rows.len() * 2);
        }
        Some(transport)
    }

    pub(crate) fn get(&mut self, peer: PeerId) -> Option<&mut Row> {
        self.rows.get_mut(peer.slot as usize)?.as_mut().filter(|row| row.peer == peer)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn link() -> Transport {
        Transport::Web(Arc::new(Link::new(IpAddr::from([127, 0, 0, 1]))))
    }

    #[test]
    fn peers_are_numbered_over_all_doors_and_forgotten() {
        let stats = Arc::new(Stats::default());
        let mut slots = Slots::new(2, stats.clone());
        let udp = slots.open(Transport::Udp(kaos_rudp::PeerId::from_bits(1 << 20))).expect("room");
        let web = slots.open(link()).expect("room");
        assert_ne!(udp.slot, web.slot);
        assert!(slots.open(link()).is_none(), "two are the most");
        assert!(matches!(slots.get(udp).map(|row| &row.transport), Some(Transport::Udp(_))));
        assert!(slots.close(udp).is_some());
        assert!(slots.close(udp).is_none(), "twice changes nothing");
        let next = slots.open(link()).expect("room again");
        assert_eq!(next.slot, udp.slot);
        assert!(slots.get(udp).is_none(), "an old number names nobody");
        assert_eq!(stats.door(Door::WebSocket).peers.load(Ordering::Relaxed), 2);
        slots.close(web);
        slots.close(next);
        assert_eq!((slots.rows.len(), slots.rows.capacity()), (0, 0));
        assert_eq!(stats.door(Door::WebSocket).peers.load(Ordering::Relaxed), 0);
        assert_eq!(stats.door(Door::Udp).peers.load(Ordering::Relaxed), 0);
    }
}
