//! The expensive half of accepting a connection, which may run on any thread: two Diffie-Hellman exchanges.

use std::{fmt, sync::Arc};

use crate::{
    handshake::{Accept, Offer, PROLOGUE, Parameters, put_accept},
    identity::{PublicKey, SecretKey},
    keys::{Keys, Side, Suite},
    noise::respond,
    peer_id::PeerId,
};

/// The static key of an acceptor.
pub(crate) struct Identity {
    pub(crate) secret: SecretKey,
    pub(crate) public: PublicKey,
}

/// A key exchange that a client with a proved address asks for. [`Endpoint::poll_job`](crate::Endpoint::poll_job) gives
/// it, [`Endpoint::finish_job`](crate::Endpoint::finish_job) takes what [`run`](Self::run) makes of it. If a job is
/// dropped, the client's attempt times out.
pub struct HandshakeJob {
    pub(crate) peer: PeerId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) ephemeral: SecretKey,
    pub(crate) offer: Offer,
    pub(crate) version: u8,
    pub(crate) suite: Suite,
    pub(crate) connection: u32,
    pub(crate) key_packets: u64,
}

impl HandshakeJob {
    /// Does the work: some 100 µs of computation, no clock, no randomness, no lock.
    pub fn run(self) -> HandshakeDone {
        let accept = Accept { version: self.version, suite: self.suite, echo: self.offer.echo() };
        let parameters =
            Parameters { version: self.version, suite: self.suite.bit(), connection: self.connection };
        let mut datagram = Vec::with_capacity(128);
        put_accept(&mut datagram, &accept);
        let split = respond(
            self.suite.cipher(),
            PROLOGUE,
            (&self.offer.key, &self.offer.payload()),
            (&self.identity.secret, &self.identity.public),
            &self.ephemeral,
            &parameters.bytes(),
            &mut datagram,
        );
        let made = split.ok().map(|split| {
            let keys = Keys::new(self.suite, Side::Acceptor, &split, self.key_packets);
            (Box::new(keys), datagram.into_boxed_slice())
        });
        HandshakeDone { peer: self.peer, made }
    }
}

impl fmt::Debug for HandshakeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeJob")
            .field("peer", &self.peer)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

/// What a [`HandshakeJob`] leads to.
pub struct HandshakeDone {
    pub(crate) peer: PeerId,
    /// The keys and the Accept; `None` for an offer that no honest client makes.
    pub(crate) made: Option<(Box<Keys>, Box<[u8]>)>,
}

impl fmt::Debug for HandshakeDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeDone").field("peer", &self.peer).finish_non_exhaustive()
    }
}
