//! Every setting of the frame, with unit, default, range and reason; and in `section` those that plugins bring.

pub mod section;

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::call::CallSettings;
use crate::limit::LimitSettings;
use crate::room::RoomSettings;
use crate::script::MatchSettings;
use crate::session::SessionSettings;

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

/// The node.
#[derive(Resource, Clone, PartialEq, Eq, Debug)]
pub struct NodeSettings {
    /// Its name, 1 to 64 bytes; shown to clients and scripts.
    pub node: String,
    /// Are clients told the errors of scripts?
    pub dev: bool,
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
