//! Every setting of the frame, with unit, default, range and reason; and in `section` those that plugins bring.

pub mod section;

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// What the frame is told before it starts; it never changes while the server runs.
#[derive(Resource, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sessions and their connections.
    pub session: SessionSettings,
    /// Rooms.
    pub room: RoomSettings,
    /// Matches: the scripts that run in rooms.
    #[serde(rename = "match")]
    pub game: MatchSettings,
    /// Calls of operations.
    pub call: CallSettings,
    /// Rates and caps.
    pub limit: LimitSettings,
    /// The node's name, 1 to 64 bytes; shown to clients and scripts. Default `kaos1`.
    pub node: NodeName,
    /// What was set for the sections of plugins, by their names; once the server is built, all that holds there.
    pub sections: BTreeMap<String, serde_json::Value>,
    /// Are clients told the errors of scripts? Default false: they may name what players should not know.
    pub dev: bool,
}

/// The node's name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl Default for NodeName {
    fn default() -> Self {
        NodeName("kaos1".to_owned())
    }
}

/// Sessions and their connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// How long a peer may take to its SessionStart, in ms. Default 5000. Bounds what a silent stranger holds.
    pub start_ms: u64,
    /// How often a client sends a heartbeat at least, in ms. Default 1000; also how late an acknowledgement
    /// may be, so it bounds what both sides keep.
    pub heartbeat_ms: u64,
    /// Silence after which a peer counts as lost, in ms. Default 10000. Must exceed twice `heartbeat_ms`, or
    /// one late heartbeat loses a healthy peer.
    pub idle_ms: u64,
    /// How long a lost session's seats wait for it, in ms. Default 30000; 0: not at all.
    pub seat_ms: u64,
    /// Reliable messages kept for a client that has not acknowledged them, in bytes. Default 262144. Beyond
    /// it a lost session's room data is dropped, oldest first, and a connected one has `slow_reader_ms`.
    /// At four times this the session closes at once.
    pub resend_bytes: usize,
    /// How long a connected session may stay over `resend_bytes`, in ms. Default 10000.
    pub slow_reader_ms: u64,
    /// A second login of the same user: `true` replaces the first, `false` lets both be. Default false.
    pub replace: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            start_ms: 5_000,
            heartbeat_ms: 1_000,
            idle_ms: 10_000,
            seat_ms: 30_000,
            resend_bytes: 256 * 1024,
            slow_reader_ms: 10_000,
            replace: false,
        }
    }
}

/// Who may make rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomCreation {
    /// Every session.
    #[default]
    Anyone,
    /// Sessions with a token; the anonymous only join.
    Users,
    /// Scripts and plugins only.
    Server,
}

/// Rooms.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomSettings {
    /// Who may make rooms: `anyone`, `users` or `server`. Default anyone.
    pub create: RoomCreation,
    /// How long a room that a client created may be empty, in ms. Default 30000.
    pub empty_ms: u64,
    /// Seats of a room that does not say, 1 to `seats_max`. Default 64.
    pub max_players: u32,
    /// Seats that a room may have, 1 to 65535. Default 1000; a room that asks for more is not made (`invalid`). Who
    /// joins is told of every member, in up to 352 bytes each, and a session closes at four times
    /// `session.resend_bytes`: from about 2900 seats that has to be raised as well.
    pub seats_max: u32,
    /// Rooms on this node. Default 10000.
    pub rooms_max: u32,
    /// Matches that clients' requests open in one frame, 1 to 10000. Default 4: a match takes half a millisecond and
    /// more to open. What comes beyond waits for the next frames, in the order in which it came. What scripts and the
    /// server open is counted too, and never waits.
    pub frame_openings_max: u32,
    /// Messages that wait for a room's next tick. Default 4096; beyond it senders are refused with `busy`.
    pub inbox_messages: usize,
    /// The same in bytes of data. Default 1048576.
    pub inbox_bytes: usize,
    /// A label as JSON, in bytes. Default 2048, which is also the most that the protocol carries.
    pub label_bytes_max: usize,
    /// Ticks that a late room may run after the other, one a frame, before the rest is left out. Default 4.
    pub lag_ticks_max: u64,
}

impl Default for RoomSettings {
    fn default() -> Self {
        RoomSettings {
            create: RoomCreation::Anyone,
            empty_ms: 30_000,
            max_players: 64,
            seats_max: 1000,
            rooms_max: 10_000,
            frame_openings_max: 4,
            inbox_messages: 4096,
            inbox_bytes: 1 << 20,
            label_bytes_max: 2048,
            lag_ticks_max: 4,
        }
    }
}

/// What happens to a room whose callback failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The callback is abandoned, the state stays as it left it; `errors_max` failed ticks in a row end the room.
    #[default]
    Skip,
    /// The room ends.
    End,
}

/// Matches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchSettings {
    /// `skip` or `end`. Default skip.
    pub on_error: Policy,
    /// With `skip`: failed ticks in a row that end the room, 1 to 1000. Default 10. A tick has failed when match_loop
    /// did; other callbacks that fail are written to the log.
    pub errors_max: u32,
    /// Memory of one room's virtual machine, in bytes. Default 16777216. A room out of memory ends.
    pub memory_bytes: usize,
    /// Fuel of one callback, and of one hook, which run in the frame like them. A unit is counted, not timed: it
    /// takes 2 to 35 ns, whatever the script does, mostly about 5. Default 100000: half a millisecond of usual
    /// work, 3.5 ms of the worst that was found.
    pub fuel: i64,
    /// Fuel of `match_init` and of loading a module. Default 5000000.
    pub fuel_init: i64,
}

impl Default for MatchSettings {
    fn default() -> Self {
        MatchSettings {
            on_error: Policy::Skip,
            errors_max: 10,
            memory_bytes: 16 << 20,
            fuel: 100_000,
            fuel_init: 5_000_000,
        }
    }
}

/// Calls of operations.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallSettings {
    /// Calls of clients that may wait, for jobs or their turn, at a time. Default 10000; beyond it calls are refused with `busy`. What
    /// scripts and plugins call is not counted: it has to pass when clients fill the queue.
    pub waiting_max: u32,
    /// The same for one session. Default 64; so no one session fills the queue for all.
    pub session_waiting_max: u32,
    /// How long a call may wait for its jobs in all, in ms. Default 30000; then it ends with `deadline`.
    pub wait_ms: u64,
    /// Fuel of one rpc with every rpc that it calls, outside of the frame; a unit as in `match.fuel`. Default 5000000.
    pub fuel: i64,
}

impl Default for CallSettings {
    fn default() -> Self {
        CallSettings { waiting_max: 10_000, session_waiting_max: 64, wait_ms: 30_000, fuel: 5_000_000 }
    }
}

/// Rates and caps. Rates refill evenly (GCRA on frame numbers); a burst is what an idle one may send at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

impl Settings {
    /// Checks what types alone do not.
    ///
    /// # Errors
    /// A sentence for each value that is out of range, with the value's path.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        let mut range = |name: &str, value: u64, min: u64, max: u64| {
            if value < min || value > max {
                wrong.push(format!("`{name}` is {value}: it goes from {min} to {max}"));
            }
        };
        let s = &self.session;
        range("session.start_ms", s.start_ms, 100, 60_000);
        range("session.heartbeat_ms", s.heartbeat_ms, 50, 30_000);
        range("session.idle_ms", s.idle_ms, s.heartbeat_ms.saturating_mul(2).saturating_add(1), 600_000);
        range("session.seat_ms", s.seat_ms, 0, 3_600_000);
        range("session.resend_bytes", s.resend_bytes as u64, 4096, 64 << 20);
        range("session.slow_reader_ms", s.slow_reader_ms, 100, 600_000);
        let r = &self.room;
        range("room.empty_ms", r.empty_ms, 0, 86_400_000);
        range("room.seats_max", u64::from(r.seats_max), 1, 65_535);
        range("room.max_players", u64::from(r.max_players), 1, u64::from(r.seats_max));
        range("room.rooms_max", u64::from(r.rooms_max), 1, 1 << 20);
        range("room.frame_openings_max", u64::from(r.frame_openings_max), 1, 10_000);
        range("room.inbox_messages", r.inbox_messages as u64, 1, 1 << 20);
        range("room.inbox_bytes", r.inbox_bytes as u64, 1 << 16, 1 << 30);
        range("room.label_bytes_max", r.label_bytes_max as u64, 2, 2048);
        range("room.lag_ticks_max", r.lag_ticks_max, 1, 128);
        let m = &self.game;
        range("match.errors_max", u64::from(m.errors_max), 1, 1000);
        range("match.memory_bytes", m.memory_bytes as u64, 256 << 10, 1 << 30);
        range("match.fuel", m.fuel.unsigned_abs(), 1000, 10_000_000_000);
        range("match.fuel_init", m.fuel_init.unsigned_abs(), 1000, 10_000_000_000);
        range("call.waiting_max", u64::from(self.call.waiting_max), 1, 1 << 20);
        range("call.session_waiting_max", u64::from(self.call.session_waiting_max), 1, 1 << 20);
        range("call.wait_ms", self.call.wait_ms, 100, 600_000);
        range("call.fuel", self.call.fuel.unsigned_abs(), 1000, 10_000_000_000);
        let l = &self.limit;
        for (name, value) in [
            ("limit.session_messages", l.session_messages),
            ("limit.session_messages_burst", l.session_messages_burst),
            ("limit.session_bytes", l.session_bytes),
            ("limit.address_calls", l.address_calls),
            ("limit.address_calls_burst", l.address_calls_burst),
            ("limit.address_starts", l.address_starts),
            ("limit.address_starts_burst", l.address_starts_burst),
            ("limit.address_peers_max", l.address_peers_max),
            ("limit.user_sessions_max", l.user_sessions_max),
            ("limit.session_rooms_created_max", l.session_rooms_created_max),
            ("limit.address_rooms_created_max", l.address_rooms_created_max),
            ("limit.bad_messages_max", l.bad_messages_max),
        ] {
            range(name, u64::from(value), 1, 1_000_000_000);
        }
        // A message of the greatest length must pass at least when nothing was sent before.
        range("limit.session_bytes_burst", u64::from(l.session_bytes_burst), 65_538, 1_000_000_000);
        range("limit.session_rooms_max", u64::from(l.session_rooms_max), 1, 65_535);
        range("limit.sessions_max", u64::from(l.sessions_max), 1, u64::from(crate::ids::SessionId::SLOTS));
        if self.node.0.is_empty() || self.node.0.len() > 64 {
            wrong.push("`node` is a name of 1 to 64 bytes".to_owned());
        }
        if m.fuel < 0 || m.fuel_init < 0 || self.call.fuel < 0 {
            wrong.push("fuel is a positive number of units".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn values_at_the_ends_of_their_types_are_refused_and_not_reckoned_with() {
        let mut settings = Settings::default();
        settings.session.heartbeat_ms = u64::MAX;
        settings.game.fuel = i64::MIN;
        let wrong = settings.check().expect_err("out of range");
        assert!(wrong.iter().any(|text| text.starts_with("`session.heartbeat_ms` is ")), "{wrong:?}");
    }

    #[test]
    fn an_idle_time_under_two_heartbeats_is_refused_by_name() {
        let mut settings = Settings::default();
        settings.session.idle_ms = 1500;
        let wrong = settings.check().expect_err("too short");
        assert!(wrong[0].starts_with("`session.idle_ms` is 1500"), "{wrong:?}");
    }
}
