//! How an endpoint finds the connection of a packet, and what else a packet may cause: a connection opens, or a peer
//! moves.

use std::net::SocketAddr;

use super::{Endpoint, ending::forget_address};
use crate::{
    connection::{Context, Ending},
    error::{CloseReason, Violation},
    events::Event,
    keys::Side,
    packet::Header,
    peer_id::{PeerId, wire_slot},
    peers::State,
    timer::Micros,
};

impl Endpoint {
    /// Takes in a packet, in an order that lets each step believe the one before: it is found, opened, and only then
    /// does anything change. The first genuine packet opens a half-open connection. Where it came from is settled
    /// before its frames are taken in, because a challenge is answered only where packets go, and because the bytes of
    /// this packet count towards what a new address may be sent.
    pub(super) fn handle_packet(&mut self, now: Micros, from: SocketAddr, datagram: &mut [u8]) {
        let Some((header, slot)) = self.find(from, datagram) else {
            self.totals.unknown += 1;
            return;
        };
        if self.events.bytes > self.config.events_bytes_max {
            // Unopened: what was opened would count as received, and never come again.
            self.totals.overrun += 1;
            return;
        }
        let Some(entry) = self.peers.at(slot) else { return };
        let peer = entry.id;
        let connection = match &mut entry.state {
            State::Live(connection) => connection,
            State::Closing(closing) => {
                closing.on_packet(now, from, &header, datagram);
                return self.make_ready(slot);
            }
        };
        let Some(packet) = connection.open(now, &header, datagram) else {
            if let Some(ending) = connection.worn() {
                self.settle(now, slot, Some(ending));
            }
            return;
        };
        if connection.is_half_open() {
            connection.confirm(now);
            let addr = connection.path.proven();
            self.confirm(now, peer, addr);
        }
        let Some(entry) = self.peers.at(slot) else { return };
        let State::Live(connection) = &mut entry.state else { return };
        let mut cx = Context {
            config: &self.config,
            events: &mut self.events,
            reassembly_total: &mut self.reassembly_total,
            pool: &mut self.pool,
        };
        connection.locate(now, from, &packet, cx.config, || self.random.bytes());
        // Only an address on trial can become the proven one.
        let before = connection.path.is_on_trial().then(|| connection.path.proven());
        let ending = connection.on_packet(now, from, &packet, &mut cx).or_else(|| connection.worn());
        if before.is_none() && ending.is_none() {
            // Most packets end here: the same as `settle`, without looking the connection up again.
            if entry.ready_since.is_none() {
                entry.ready_since = Some(self.now);
                self.ready.push(peer);
            }
            return;
        }
        let after = connection.path.proven();
        if let Some(before) = before.filter(|&before| before != after) {
            self.moved(peer, before, after);
        }
        self.settle(now, slot, ending);
    }

    /// The header of a packet and the slot that it is for: found by its connection id alone, or at a connector by its
    /// address alone.
    fn find(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<(Header, u32)> {
        let header = Header::parse(datagram)?;
        let slot = match header.connection {
            None => self.dialed.get(&from)?.slot(),
            Some(connection) => {
                let slot = wire_slot(connection);
                let is_it = match &self.peers.at(slot)?.state {
                    State::Live(live) => {
                        let may_be = self.config.migration || live.path.proven() == from;
                        live.side == Side::Acceptor && live.wire_id == connection && may_be
                    }
                    State::Closing(closing) => {
                        let may_be = self.config.migration || closing.addr == from;
                        !closing.sends_id && closing.connection == connection && may_be
                    }
                };
                is_it.then_some(slot)?
            }
        };
        Some((header, slot))
    }

    /// A half-open connection has become open. An older connection from the same address is dead.
    fn confirm(&mut self, now: Micros, peer: PeerId, addr: SocketAddr) {
        self.half_open -= 1;
        self.known += 1;
        self.totals.connected += 1;
        let known = self.accepted.entry(addr).or_default();
        known.half_open = None;
        let old = known.open.replace(peer);
        if let Some(old) = old {
            let reason = CloseReason::Protocol(Violation::Replaced);
            self.settle(now, old.slot(), Some(Ending::Quiet(reason)));
        }
        self.events.push(Event::Connected { peer, addr, server_key: None });
    }

    /// A peer has moved to another address. A connection that was at that address before goes on, since it is found by
    /// its id: its peer has moved as well, or is gone.
    fn moved(&mut self, peer: PeerId, from: SocketAddr, to: SocketAddr) {
        forget_address(&mut self.accepted, from, peer);
        self.accepted.entry(to).or_default().open = Some(peer);
        self.totals.moves += 1;
        self.events.push(Event::Moved { peer, addr: to });
    }
}
