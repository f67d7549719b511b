//! What follows after anything happened to a connection: its place in the queue, or its end.

use std::{collections::BTreeMap, mem, net::SocketAddr};

use super::{Endpoint, FromAddress};
use crate::{connection::Ending, events::Event, keys::Side, peer_id::PeerId, peers::State, timer::Micros};

impl Endpoint {
    /// After anything happened to a connection: ends it, or puts it into the queue. Its deadline is set when it leaves
    /// the queue, once for everything that happens until then.
    pub(super) fn settle(&mut self, now: Micros, slot: u32, ending: Option<Ending>) {
        if let Some(ending) = ending {
            return self.end(now, slot, ending);
        }
        self.make_ready(slot);
    }

    pub(super) fn make_ready(&mut self, slot: u32) {
        if let Some(entry) = self.peers.at(slot)
            && entry.ready_since.is_none()
        {
            entry.ready_since = Some(self.now);
            self.ready.push(entry.id);
        }
    }

    /// Ends a connection. An application that knows it hears of the end at once. If the other side is still to be told,
    /// the connection stays as a closing one, which no longer counts as one of the endpoint's peers.
    fn end(&mut self, now: Micros, slot: u32, ending: Ending) {
        let Some(entry) = self.peers.at(slot) else { return };
        let peer = entry.id;
        let closing = match &mut entry.state {
            State::Closing(closing) => {
                let addr = closing.addr;
                return self.remove(slot, peer, addr);
            }
            State::Live(connection) => {
                let connection = connection.as_mut();
                self.reassembly_total -= mem::take(&mut connection.reassembly);
                if connection.is_half_open() {
                    self.half_open -= 1;
                } else {
                    self.known -= 1;
                }
                let (addr, side) = (connection.path.proven(), connection.side);
                let (reason, closing) = match ending {
                    Ending::Quiet(reason) => (Some(reason), None),
                    Ending::Tell { code, text, reason } => (Some(reason), connection.close(now, code, text)),
                    Ending::Forget => (None, None),
                };
                if let Some(reason) = reason {
                    self.events.push(Event::Closed { peer, reason });
                }
                match closing {
                    Some(closing) => {
                        if side == Side::Acceptor {
                            forget_address(&mut self.accepted, addr, peer);
                        }
                        closing
                    }
                    None => return self.remove(slot, peer, addr),
                }
            }
        };
        entry.state = State::Closing(Box::new(closing));
        self.settle(now, slot, None);
    }

    fn remove(&mut self, slot: u32, peer: PeerId, addr: SocketAddr) {
        forget_address(&mut self.accepted, addr, peer);
        if self.dialed.get(&addr) == Some(&peer) {
            self.dialed.remove(&addr);
        }
        if let Some(mut entry) = self.peers.remove(slot) {
            self.deadlines.cancel(slot, &mut entry.registered);
        }
    }
}

/// A connection is no longer at an address.
pub(super) fn forget_address(
    accepted: &mut BTreeMap<SocketAddr, FromAddress>,
    addr: SocketAddr,
    peer: PeerId,
) {
    let Some(known) = accepted.get_mut(&addr) else { return };
    known.open = known.open.filter(|&open| open != peer);
    known.half_open = known.half_open.filter(|&half_open| half_open != peer);
    if known.open.is_none() && known.half_open.is_none() {
        accepted.remove(&addr);
    }
}
