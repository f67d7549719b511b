//! What can be set for rates and caps.

use crate::ids::SessionId;

/// The most of what has no natural bound.
const MANY: u32 = 1_000_000_000;

crate::settings! {
    /// Rates and caps. Rates refill evenly (GCRA on frame numbers); a burst is what an idle one may send at once.
    pub struct LimitSettings in "limit" {
        /// Messages a second of one session; more are refused. A session that sends eight times as many, and more than
        /// eight times session_messages_burst at once, ends.
        session_messages: u32 = 240, in 1..=MANY;
        /// Messages that a session may send at once.
        session_messages_burst: u32 = 480, in 1..=MANY;
        /// Bytes a second of one session; messages beyond it are refused. A session that sends eight times as much, and
        /// more than eight times session_bytes_burst at once, ends; headers and heartbeats count.
        session_bytes: u32 = 128 * 1024, in 1..=MANY, unit "bytes";
        /// Bytes that a session may send at once. The longest message has to pass, when nothing was sent before.
        session_bytes_burst: u32 = 512 * 1024, in 65_538..=MANY, unit "bytes";
        /// Calls a second over HTTP from one address.
        address_calls: u32 = 200, in 1..=MANY;
        /// Calls that an address may make at once.
        address_calls_burst: u32 = 400, in 1..=MANY;
        /// Sessions that may start in a second from one address.
        address_starts: u32 = 50, in 1..=MANY;
        /// Sessions that an address may start at once.
        address_starts_burst: u32 = 300, in 1..=MANY;
        /// Connections of one address.
        address_peers_max: u32 = 512, in 1..=MANY;
        /// Sessions of one user.
        user_sessions_max: u32 = 8, in 1..=MANY;
        /// Rooms that one session may be in.
        session_rooms_max: u32 = 16, in 1..=65_535;
        /// Rooms created by one session that may exist at once; further ones are refused as busy. Rooms created by
        /// scripts do not count: only room.rooms_max bounds those.
        session_rooms_created_max: u32 = 16, in 1..=MANY, was "limit.session_rooms_made_max";
        /// The same for all sessions of one address.
        address_rooms_created_max: u32 = 256, in 1..=MANY, was "limit.address_rooms_made_max";
        /// Sessions of this node, with those that lost their connection and still have their seats.
        sessions_max: u32 = 20_000, in 1..=SessionId::SLOTS;
        /// Unreadable messages after which a session is closed; one is forgotten each minute. A request that can be read
        /// and asks for something wrong is refused and does not count.
        bad_messages_max: u32 = 10, in 1..=MANY;
    }
}
