//! Handshake datagrams: whom an acceptor lets in, and what a connector makes of the answers to its Hello.

use std::{net::SocketAddr, time::Duration};

use super::{ANSWERS_MAX, Endpoint};
use crate::{
    connection::{Connection, Ending},
    cookie::{COOKIE_BYTES, Cookies},
    error::{CloseReason, code},
    events::Event,
    handshake::{self, Answer, Handshake, Offer},
    identity::SecretKey,
    job::HandshakeJob,
    keys::Suite,
    peer_id::{PeerId, SLOTS_MAX, wire_id},
    peers::State,
    timer::Micros,
};

/// How long ago its Accept must have left before a half-open connection may be displaced by a newcomer: an honest
/// client's first packet comes back within a round trip.
const DISPLACED_AFTER: Duration = Duration::from_secs(1);

impl Endpoint {
    pub(super) fn handle_handshake(&mut self, now: Micros, from: SocketAddr, datagram: &mut [u8]) {
        let Some(handshake) = Handshake::parse(datagram) else {
            self.totals.unknown += 1;
            return;
        };
        if let Handshake::Hello { offer, cookie } = &handshake {
            if self.config.accept {
                self.handle_hello(now, from, offer, cookie.as_ref());
            } else {
                self.totals.unknown += 1;
            }
            return;
        }
        let dialed = self.dialed.get(&from).copied();
        let Some((peer, connection)) = dialed.and_then(|peer| Some((peer, self.peers.live(peer)?))) else {
            self.totals.unknown += 1;
            return;
        };
        let mut ending = None;
        match handshake {
            Handshake::Retry { echo, cookie } => connection.on_retry(echo, cookie),
            Handshake::Accept(accept) => {
                let message = handshake::accept_message(datagram);
                if let Some(key) = connection.on_accept(now, &accept, message) {
                    self.totals.connected += 1;
                    self.events.push(Event::Connected { peer, addr: from, server_key: Some(key) });
                }
            }
            Handshake::Refuse { echo, code, reason, body, check } => {
                if connection.on_refuse(echo, body, check) {
                    let reason = reason.to_owned();
                    ending = Some(Ending::Quiet(CloseReason::Refused { code, reason }));
                }
            }
            Handshake::Hello { .. } => {}
        }
        self.settle(now, peer.slot(), ending);
    }

    /// The order of the checks matters. Refusals and cookies come first, since they need no state: nothing is stored or
    /// allocated before the cookie was good. A Hello that was seen before gets its Accept again before anything is
    /// counted against the bounds, or a client that repeats itself would displace others. The limit of an address is
    /// charged last, so that a Hello for which there is no place costs its address nothing.
    fn handle_hello(
        &mut self,
        now: Micros,
        from: SocketAddr,
        offer: &Offer,
        cookie: Option<&[u8; COOKIE_BYTES]>,
    ) {
        let (suite, version) = match self.choice(from, offer) {
            Ok(choice) => choice,
            Err((code, reason)) => return self.refuse(from, offer, code, reason),
        };
        if !cookie.is_some_and(|cookie| self.cookies.check(now, from, &offer.bytes(), cookie)) {
            if self.answer(from, |cookies| Answer::retry(offer, &cookies.make(now, from, &offer.bytes()))) {
                self.totals.retries += 1;
            }
            return;
        }
        let (open, half_open) = match self.accepted.get(&from) {
            Some(known) => (known.open, known.half_open),
            None => (None, None),
        };
        for peer in [open, half_open].into_iter().flatten() {
            if self.peers.live(peer).is_some_and(|connection| connection.is_greeted_again(&offer.echo())) {
                return self.make_ready(peer.slot());
            }
        }
        if let Some(peer) = half_open {
            // The client began anew before its first attempt succeeded.
            self.settle(now, peer.slot(), Some(Ending::Forget));
        }
        let (is_full, is_crowded) = (self.is_full(), self.half_open >= self.config.half_open_max);
        let displaced = if is_full || is_crowded { self.displaceable(now) } else { None };
        if is_full && displaced.is_none() {
            return self.refuse(from, offer, code::FULL, "the server has no place for another connection");
        }
        if self.jobs.len() >= self.config.half_open_max {
            // Drops the jobs of clients that began anew, or gave up, before anybody ran them.
            let peers = &mut self.peers;
            self.jobs.retain(|job| peers.live(job.peer).is_some());
        }
        if (is_crowded && displaced.is_none()) || self.jobs.len() >= self.config.half_open_max {
            self.totals.dropped += 1;
            return;
        }
        if !self.limiter.allows(now, from.ip(), &self.config) {
            self.totals.limited += 1;
            return;
        }
        if let Some(peer) = displaced {
            self.totals.displaced += 1;
            self.settle(now, peer.slot(), Some(Ending::Forget));
        }
        self.accept(now, from, offer, suite, version);
    }

    fn accept(&mut self, now: Micros, from: SocketAddr, offer: &Offer, suite: Suite, version: u8) {
        let (ephemeral, id_random) = (SecretKey::from_bytes(self.random.bytes()), self.random.u32());
        let config = &self.config;
        let mut connection = 0;
        let peer = self.peers.insert(|id| {
            connection = wire_id(id.slot(), id_random);
            State::Live(Box::new(Connection::accept(id, from, now, config, offer.echo(), connection)))
        });
        self.jobs.push_back(HandshakeJob {
            peer,
            identity: self.identity.clone(),
            ephemeral,
            offer: *offer,
            version,
            suite,
            connection,
            key_packets: config.key_packets,
        });
        self.totals.jobs += 1;
        self.accepted.entry(from).or_default().half_open = Some(peer);
        self.half_open += 1;
        if self.begun.len() >= self.config.half_open_max.saturating_mul(2) {
            // Most of them are open by now, behind one that is not.
            let peers = &mut self.peers;
            self.begun.retain(|&peer| peers.live(peer).is_some_and(|connection| connection.is_half_open()));
        }
        self.begun.push_back(peer);
        self.settle(now, peer.slot(), None);
    }

    /// The oldest half-open connection, if its client has had enough time. Only one entry is looked at, so that a Hello
    /// at the bound costs no more than any other.
    fn displaceable(&mut self, now: Micros) -> Option<PeerId> {
        self.tidy_begun();
        let oldest = *self.begun.front()?;
        let left = self.peers.live(oldest)?.accept_left()?;
        (now - left > DISPLACED_AFTER).then_some(oldest)
    }

    /// Forgets the oldest entries that are no longer half-open.
    pub(super) fn tidy_begun(&mut self) {
        while let Some(&oldest) = self.begun.front()
            && !self.peers.live(oldest).is_some_and(|connection| connection.is_half_open())
        {
            self.begun.pop_front();
        }
    }

    /// The suite and version for a connection, or the code and reason of a refusal.
    fn choice(&self, from: SocketAddr, offer: &Offer) -> Result<(Suite, u8), (u16, &'static str)> {
        let ours = (self.config.version_min, self.config.version_max);
        if let Some(refusal) = handshake::version_refusal(ours, offer) {
            return Err(refusal);
        }
        if self.config.plaintext && !from.ip().to_canonical().is_loopback() {
            return Err((
                code::NO_SUITE,
                "this server does not encrypt: it speaks to loopback addresses only",
            ));
        }
        let suite = offer.choose(&self.config).ok_or((
            code::NO_SUITE,
            match self.config.plaintext {
                true => "this server does not encrypt; the client wants to",
                false => "no cipher that both sides allow",
            },
        ))?;
        if offer.channels != handshake::channel_digest(&self.config) {
            return Err((code::CHANNELS, "the client and the server have different channels"));
        }
        Ok((suite, handshake::common_version(ours, offer)))
    }

    fn refuse(&mut self, from: SocketAddr, offer: &Offer, code: u16, reason: &str) {
        if self.answer(from, |_| Answer::refuse(offer, code, reason)) {
            self.totals.refused += 1;
        }
    }

    /// Queues an answer, which is made only if there is room for it. Returns whether there was.
    fn answer(&mut self, to: SocketAddr, make: impl FnOnce(&Cookies) -> Answer) -> bool {
        let has_room = self.answers.len() < ANSWERS_MAX;
        if has_room {
            self.answers.push_back((to, make(&self.cookies)));
        } else {
            self.totals.dropped += 1;
        }
        has_room
    }

    /// Whether there is no place for another connection. Closing connections may take as many slots again; when these
    /// are taken as well, newcomers wait.
    pub(super) fn is_full(&self) -> bool {
        let peers_max = self.config.peers_max;
        self.known + self.half_open >= peers_max || self.peers.len() >= (peers_max * 2).min(SLOTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn peers_max_is_what_was_asked_for_as_far_as_places_can_be_named() {
        for (asked, given) in [(0, 0), (600_000, 600_000), (1 << 20, 1 << 20), (usize::MAX, 1 << 20)] {
            let endpoint = Endpoint::new(Config { peers_max: asked, ..Config::default() }, [1; 32]);
            assert_eq!((endpoint.config.peers_max, endpoint.is_full()), (given, given == 0));
        }
        assert_eq!(Config::PEERS_MAX, 1 << 20);
    }
}
