//! How an endpoint answers strangers, and how its own calls are answered.

use std::net::SocketAddr;

use super::{ANSWERS_MAX, Endpoint, Event};
use crate::{
    connection::{Connection, Ending},
    cookie::{COOKIE_BYTES, Cookies},
    error::{CloseReason, code},
    handshake::{self, Accept, Answer, Handshake, Offer, SUITE_PLAINTEXT},
    peers::{State, wire_id},
    timer::Micros,
};

impl Endpoint {
    pub(super) fn handle_handshake(&mut self, now: Micros, from: SocketAddr, datagram: &[u8]) {
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
                if connection.on_accept(now, &accept, datagram) {
                    self.totals.connected += 1;
                    self.events.push(Event::Connected { peer, addr: from });
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

    /// The order of checks matters: nothing is stored and nothing allocated before the cookie was good.
    fn handle_hello(
        &mut self,
        now: Micros,
        from: SocketAddr,
        offer: &Offer,
        cookie: Option<&[u8; COOKIE_BYTES]>,
    ) {
        if let Some((code, reason)) = self.refusal(offer) {
            return self.refuse(from, offer, code, reason);
        }
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
            if self.peers.live(peer).is_some_and(|connection| connection.is_greeted_again(&offer.random)) {
                return self.make_ready(peer.slot());
            }
        }
        if let Some(peer) = half_open {
            // The client began anew before its first attempt came through.
            self.settle(now, peer.slot(), Some(Ending::Forget));
        }
        if self.is_full() {
            return self.refuse(from, offer, code::FULL, "the server has no place for another connection");
        }
        if self.half_open >= self.config.half_open_max {
            self.totals.dropped += 1;
            return;
        }
        self.accept(now, from, offer);
    }

    fn accept(&mut self, now: Micros, from: SocketAddr, offer: &Offer) {
        let (random, id_random) = (self.random.bytes(), self.random.u32());
        let config = &self.config;
        let peer = self.peers.insert(|id| {
            let accept = Accept {
                version: handshake::common_version((config.version_min, config.version_max), offer),
                suite: SUITE_PLAINTEXT,
                echo: offer.echo(),
                random,
                connection: wire_id(id.slot(), id_random),
            };
            State::Live(Box::new(Connection::accept(id, from, now, config, offer, accept)))
        });
        self.accepted.entry(from).or_default().half_open = Some(peer);
        self.half_open += 1;
        self.settle(now, peer.slot(), None);
    }

    fn refusal(&self, offer: &Offer) -> Option<(u16, &'static str)> {
        handshake::version_refusal((self.config.version_min, self.config.version_max), offer).or_else(|| {
            (offer.suites & SUITE_PLAINTEXT == 0)
                .then_some((code::NO_SUITE, "this server speaks plaintext only"))
        })
    }

    fn refuse(&mut self, from: SocketAddr, offer: &Offer, code: u16, reason: &str) {
        if self.answer(from, |_| Answer::refuse(offer, code, reason)) {
            self.totals.refused += 1;
        }
    }

    /// Queues an answer, made only if there is room for it.
    fn answer(&mut self, to: SocketAddr, make: impl FnOnce(&Cookies) -> Answer) -> bool {
        let has_room = self.answers.len() < ANSWERS_MAX;
        if has_room {
            self.answers.push_back((to, make(&self.cookies)));
        } else {
            self.totals.dropped += 1;
        }
        has_room
    }

    /// Lingering connections may take as many slots again, then newcomers wait.
    pub(super) fn is_full(&self) -> bool {
        self.known + self.half_open >= self.config.peers_max || self.peers.len() >= self.config.peers_max * 2
    }
}
