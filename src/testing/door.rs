//! The door of the test kit: connections in memory, which become inputs of the next frame as those of other doors do.

use bytes::Bytes;
use kaos_client::Micros;
use kaos_gate::identity::credentials::{Claims, Credentials, mint};
use kaos_gate::kaos::handshake::{Handshake, Received};
use kaos_gate::kaos::start::Opening;
use kaos_kernel::clock::Quantum;
use kaos_kernel::fault::Fault;
use kaos_kernel::ids::{PeerId, PeerSlots};
use kaos_kernel::input::{Door, Gone, Input};

/// The key of the session tokens that the door accepts.
const KEY: &[u8] = b"the session key of the test kit!";

/// The beginning of the year 2100, in seconds of Unix time.
const YEAR_2100_S: u64 = 4_102_444_800;

/// Connections that may be open at once: more than any test makes.
const PEERS_MAX: u32 = 1 << 20;

/// Where clients come in.
pub(super) struct MemoryDoor {
    slots: PeerSlots,
    credentials: Credentials,
    quantum_us: u64,
    /// The frame that runs next.
    pub(super) frame: u64,
    /// What it will take.
    pub(super) inputs: Vec<Input>,
}

/// A connection that is open.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    handshake: Handshake,
    /// The resume token of the session that it starts.
    fresh: [u8; 16],
}

impl MemoryDoor {
    pub(super) fn new(quantum: Quantum) -> MemoryDoor {
        MemoryDoor {
            slots: PeerSlots::default(),
            credentials: Credentials::new(KEY, true),
            quantum_us: quantum.us(),
            frame: 0,
            inputs: Vec::new(),
        }
    }

    /// The time of clients: when the next frame is due.
    pub(super) fn now(&self) -> Micros {
        Micros(self.frame * self.quantum_us)
    }

    /// The first frame that is due no earlier than `at`.
    pub(super) fn frame_at(&self, at: Micros) -> u64 {
        at.0.div_ceil(self.quantum_us)
    }

    /// A session token of a user that never expires, as far as a test is concerned.
    pub(super) fn token(&self, user: &str) -> String {
        let claims = Claims { uid: user.to_owned(), exp: YEAR_2100_S, ..Claims::default() };
        match mint(KEY, &claims) {
            Ok(token) => token,
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            Err(fault) => panic!("no token for `{user}`: {fault}"),
        }
    }

    /// Opens a connection for a client; `None` when there are too many. Tokens follow from frame and client, so that the
    /// same test is the same run.
    pub(super) fn open(&mut self, client: u64) -> Option<Connection> {
        let peer = self.slots.open(PEERS_MAX)?;
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        self.inputs.push(Input::Open { peer, door: Door::Memory, address });
        let fresh = (u128::from(self.frame) << 64 | u128::from(client)).to_le_bytes();
        Some(Connection { peer, handshake: Handshake::default(), fresh })
    }

    /// Takes what a client sends at once: one message, or whatever a hostile one makes of it.
    ///
    /// # Errors
    /// Why the door closed the connection.
    pub(super) fn take(&mut self, connection: &mut Connection, bytes: Bytes) -> Result<(), Fault> {
        let Connection { peer, handshake, fresh } = connection;
        let (peer, fresh) = (*peer, *fresh);
        let credentials = &self.credentials;
        match handshake.receive(bytes, |first| Opening::read(first, credentials, || Ok(fresh))) {
            Received::Start(opening) => self.inputs.extend(opening.inputs(peer)),
            Received::Data(bytes) => self.inputs.push(Input::Data { peer, bytes }),
            Received::Empty(bytes, fault) => {
                self.inputs.push(Input::Data { peer, bytes });
                self.close(peer, Gone::Protocol);
                return Err(fault);
            }
            Received::Refused(fault) => {
                self.close(peer, Gone::Local);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// A connection is gone, and the frame hears of it.
    pub(super) fn close(&mut self, peer: PeerId, reason: Gone) {
        self.slots.close(peer);
        self.inputs.push(Input::Gone { peer, reason });
    }

    /// The frame closed a connection.
    pub(super) fn closed(&mut self, peer: PeerId) {
        self.slots.close(peer);
    }
}
