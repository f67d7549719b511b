//! The server faults that this client reports by itself or acts upon: rows of the table in assets/proto/README.md.

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Its number, from 1.
    pub code: u32,
    /// Its word.
    pub word: &'static str,
}

const fn row(code: u32, word: &'static str) -> Fault {
    Fault { code, word }
}

/// What was to be sent does not fit into a message.
pub const INVALID: Fault = row(3, "invalid");
/// Too many requests; the same may pass later.
pub const RATE_LIMITED: Fault = row(8, "rate_limited");
/// The server has too much to do; the same may pass later.
pub const BUSY: Fault = row(14, "busy");
/// The other end is not who it was expected to be.
pub const UNAUTHENTICATED: Fault = row(16, "unauthenticated");
/// This client is too old for the server.
pub const CLIENT_TOO_OLD: Fault = row(20, "client_too_old");
/// The server is too old for this client.
pub const SERVER_TOO_OLD: Fault = row(21, "server_too_old");
/// The other end broke the protocol.
pub const PROTOCOL: Fault = row(23, "protocol");
/// Events came faster than they were taken.
pub const SLOW_READER: Fault = row(24, "slow_reader");
/// The connection did not come back in time.
pub const TIMED_OUT: Fault = row(27, "timed_out");

/// All of them, by number.
pub const ALL: [Fault; 9] = [
    INVALID,
    RATE_LIMITED,
    BUSY,
    UNAUTHENTICATED,
    CLIENT_TOO_OLD,
    SERVER_TOO_OLD,
    PROTOCOL,
    SLOW_READER,
    TIMED_OUT,
];
