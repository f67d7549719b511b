//! What can be set for rates and caps.

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// Rates and caps. Rates refill evenly (GCRA on frame numbers); a burst is what an idle one may send at once.
#[derive(Resource, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Messages a second of one session. Default 240: four a tick at 60 Hz. What is sent beyond it is refused; a
    /// session that sends more than eight times as much (and bursts of eight times `session_messages_burst`) ends.
    pub session_messages: u32,
    /// Messages that a session may send at once. Default 480.
    pub session_messages_burst: u32,
    /// Bytes a second of one session. Default 131072. What is sent beyond it is refused; a session that sends more than
    /// eight times as much (and bursts of eight times `session_bytes_burst`), headers and heartbeats included, ends.
    pub session_bytes: u32,
    /// Bytes that a session may send at once. Default 524288.
    pub session_bytes_burst: u32,
    /// Calls a second over HTTP from one address. Default 200.
    pub address_calls: u32,
    /// Calls that an address may make at once. Default 400.
    pub address_calls_burst: u32,
    /// Session starts a second from one address. Default 50.
    pub address_starts: u32,
    /// Session starts that an address may make at once. Default 300: a hundred local bots pass.
    pub address_starts_burst: u32,
    /// Peers of one address. Default 512.
    pub address_peers_max: u32,
    /// Sessions of one user. Default 8.
    pub user_sessions_max: u32,
    /// Rooms that one session may be in, 1 to 65535. Default 16.
    pub session_rooms_max: u32,
    /// Rooms that one session may have created that still are. Default 16; beyond it it is refused with `busy`. A room
    /// that a script makes is nobody's: only `room.rooms_max` bounds those.
    pub session_rooms_created_max: u32,
    /// The same for all sessions of one address. Default 256.
    pub address_rooms_created_max: u32,
    /// Sessions of this node, held seats included. Default 20000, at most 1048576.
    pub sessions_max: u32,
    /// Messages that cannot be read before a session is closed; one is forgotten in a minute. Default 10. A request that
    /// can be read and asks for something wrong is refused and does not count.
    pub bad_messages_max: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            session_messages: 240,
            session_messages_burst: 480,
            session_bytes: 128 * 1024,
            session_bytes_burst: 512 * 1024,
            address_calls: 200,
            address_calls_burst: 400,
            address_starts: 50,
            address_starts_burst: 300,
            address_peers_max: 512,
            user_sessions_max: 8,
            session_rooms_max: 16,
            session_rooms_created_max: 16,
            address_rooms_created_max: 256,
            sessions_max: 20_000,
            bad_messages_max: 10,
        }
    }
}
