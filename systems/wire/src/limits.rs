//! All limits of the protocol in one place, each with its unit and the reason for it.
//!
//! They are part of protocol version 1 and not settings: both ends rely on them. The last three are an exception: they are
//! a server's defaults, which its operator may change, and the values that clients use. All other limits that an operator
//! may change (rates, caps per address, timeouts) belong to the server's configuration alone.

/// Bytes of the message header: opcode u8, payload length u16.
pub const HEADER: usize = 3;

/// Bytes that one payload may have: what its u16 length can say.
pub const PAYLOAD_MAX: usize = u16::MAX as usize;

/// Bytes of the RoomData header: handle u16, index u16, op u8.
pub const ROOM_DATA_HEADER: usize = 5;

/// Bytes of data that one RoomData may carry.
pub const ROOM_DATA_MAX: usize = PAYLOAD_MAX - ROOM_DATA_HEADER;

/// Bytes of data that one RoomDataUnreliable may carry, over every transport: with both headers 1,120, which is
/// what one UDP datagram holds besides keys and acknowledgements. More would have to go in pieces, all of which
/// would have to arrive.
pub const UNRELIABLE_DATA_MAX: usize = 1_112;

/// Bytes of one WebSocket frame: room for the longest message and as much again for what it shares the frame
/// with, and little enough that a thousand connections that send one at once stay under 128 MiB.
pub const WEBSOCKET_FRAME_MAX: usize = 128 * 1024;

/// Bytes of counted messages (header and payload) after which a receiver acknowledges at once, without
/// waiting for its next heartbeat: an eighth of the sender's resend buffer.
pub const ACKNOWLEDGE_AFTER: usize = 32 * 1024;

/// Bytes of `SessionStart.client`: it goes into every log line of the session.
pub const CLIENT_MAX: usize = 64;

/// Bytes of a signed session token: claims with 1 KiB of vars, in base64, with room to spare.
pub const TOKEN_MAX: usize = 4_096;

/// Bytes of an anonymous name; at least one.
pub const ANONYMOUS_MAX: usize = 64;

/// Entries of `SessionStart.vars`.
pub const VARS_MAX: usize = 16;

/// Bytes of all keys and values of `SessionStart.vars` together.
pub const VARS_BYTES_MAX: usize = 1_024;

/// Bytes of a resume token: 128 bits, which nobody guesses.
pub const RESUME_TOKEN: usize = 16;

/// Bytes of a room id: a UUID with its hyphens.
pub const ROOM_ID: usize = 36;

/// Bytes of the name of a match module.
pub const MODULE_MAX: usize = 128;

/// Bytes of `params`, the JSON object for `match_init`.
pub const PARAMS_MAX: usize = 16 * 1024;

/// Bytes of `metadata`, the JSON object for `match_join_attempt`.
pub const METADATA_MAX: usize = 4 * 1024;

/// Bytes of a room label, as Nakama has it.
pub const LABEL_MAX: usize = 2_048;

/// The highest `max_players`: a sender index is a u16 and 65535 means the server.
pub const PLAYERS_MAX: u32 = 65_535;

/// Bytes of the id of an rpc and of the name of an op.
pub const NAME_MAX: usize = 128;

/// Bytes of the name of an event, which is lower-case letters, digits, dots and underscores.
pub const EVENT_NAME_MAX: usize = 64;

/// Bytes of `user_id` and of `username` in a presence.
pub const USER_MAX: usize = 128;

/// Bytes of a reason: one word that a program can match.
pub const REASON_MAX: usize = 64;

/// Bytes of a sentence for people; with a traceback under `--dev`.
pub const MESSAGE_MAX: usize = 8 * 1024;

/// Presences in one RoomState or RoomEvent. At the limits above a presence takes up to 352 bytes, so that 128
/// of them, a label and the rest fit into one payload; further presences follow in RoomEvents.
pub const PRESENCES_MAX: usize = 128;

/// The highest tick rate of a room, per second.
pub const TICK_RATE_MAX: u32 = 128;

/// The largest resend buffer that a server may be set to (`session.resend_bytes`), in bytes. As much may arrive before the
/// SessionStarted of a resume, over a transport whose channels overtake each other.
pub const SERVER_RESEND_MAX: usize = 64 << 20;

/// The beginning of a text: at most `max` bytes, without cutting a character in two.
pub fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

// ---- defaults of a server, and what a client takes for itself ----

/// Size of the resend buffer: bytes of counted messages (header and payload) that wait to be acknowledged; a server's
/// `session.resend_bytes`. At the 30 KiB/s of a busy arena that is eight seconds without a connection.
pub const RESEND_MAX: usize = 256 * 1024;

/// Milliseconds without any message after which an end may take a connection for lost; of a server `session.idle_ms`.
/// Several heartbeats, so that one lost packet or a page that was busy loading does not count: a client waits for two and
/// a second when the server asks for rare ones.
pub const SILENCE_MS: u64 = 10_000;

/// Undecodable messages after which an end closes the session with the reason `protocol`; of a server
/// `limit.bad_messages_max`. A peer with one bug in a rare message survives, one that speaks something else does not.
pub const STRIKES: u32 = 10;

const _: () = assert!(
    PRESENCES_MAX * (12 + 2 * (USER_MAX + 3) + 4 + 2 + REASON_MAX + 2 + 3) + LABEL_MAX + 512 < PAYLOAD_MAX
);
const _: () = assert!(HEADER + PAYLOAD_MAX <= WEBSOCKET_FRAME_MAX);
const _: () = assert!(PARAMS_MAX + METADATA_MAX + LABEL_MAX + MODULE_MAX + 256 < PAYLOAD_MAX);
