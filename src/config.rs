//! The configuration: what was written (defaults, file, environment, flags) becomes one typed [`Config`].
//!
//! Later sources win: defaults < `kaosnet.yaml` (or `--config FILE`) < environment `KAOS_SECTION_KEY` <
//! flags `--section.key value`. A key that does not exist is refused with its place and the nearest name.
//! assets/config/default.yaml lists every key; a test holds it against the defaults here.

mod keys;
mod kubernetes;
mod origin;
mod sources;
mod spelling;
mod yaml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kaos_gate::Proxies;
use kaos_gate::identity::keys::{check_session, check_transport};
use kaos_kernel::call::CallSettings;
use kaos_kernel::clock::Quantum;
use kaos_kernel::limit::LimitSettings;
use kaos_kernel::room::RoomSettings;
use kaos_kernel::script::MatchSettings;
use kaos_kernel::session::SessionSettings;
use kaos_kernel::settings::section::{SectionRows, SettingRow};
use kaos_kernel::settings::{NodeName, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use keys::{Key, keys};
pub use origin::{ConfigError, Origin, Problem};
pub use sources::{Loaded, load};
pub(crate) use spelling::unknown;

/// assets/config/default.yaml: every key with its comment and its default.
pub const DEFAULT_YAML: &str = include_str!("../assets/config/default.yaml");

/// The file that is read from the working directory when no other is named.
pub const FILE_NAME: &str = "kaosnet.yaml";

/// Everything that can be set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Development: scripts' errors with tracebacks go to clients too, known keys are accepted. Default false.
    pub dev: bool,
    /// The folder for keys, journals and whatever else is kept. Default `data`; made when it is missing.
    pub data: PathBuf,
    /// The folder of scripts. Default `scripts`.
    pub scripts: PathBuf,
    /// The node's name, 1 to 64 bytes; shown to clients and scripts. Default `kaos1`.
    pub node: String,
    /// Microseconds in a frame: 250, 500, 1000, 2000 or 4000. Default 500.
    pub quantum_us: u32,
    /// The HTTP door, which is the WebSocket door too.
    pub http: Http,
    /// The UDP door.
    pub udp: Udp,
    /// Sessions and who may start one.
    pub session: Session,
    /// Rooms.
    pub room: RoomSettings,
    /// Matches: the scripts that run in rooms.
    #[serde(rename = "match")]
    pub game: MatchSettings,
    /// Calls of operations.
    pub call: CallSettings,
    /// Rates and caps.
    pub limit: Limit,
    /// The record of all inputs.
    pub journal: JournalConfig,
    /// Figures for Prometheus at `/metrics`.
    pub metrics: Open,
    /// The page at `/`.
    pub playground: Open,
    /// What the server writes about itself.
    pub log: Log,
    /// The sections of this binary's plugins, by name; see [`announce`].
    #[serde(flatten)]
    pub sections: BTreeMap<String, serde_json::Value>,
}

static ANNOUNCED: OnceLock<Vec<SectionRows>> = OnceLock::new();

/// Announces the sections that the plugins of this binary bring, so that files, variables and flags can set them. The command
/// line does it by itself; who [reads](Config::read) a configuration in another way does it before the first. A second
/// announcement changes nothing: a binary has one list of plugins.
pub fn announce(sections: Vec<SectionRows>) {
    let _ = ANNOUNCED.set(sections);
}

/// The key of a plugin, by its dotted path.
pub(crate) fn announced_key(path: &str) -> Option<&'static SettingRow> {
    let (section, name) = path.split_once('.')?;
    let section = announced().iter().find(|one| one.name == section)?;
    section.rows.iter().find(|row| row.name == name)
}

/// default.yaml, and the same for the sections of plugins.
pub(crate) fn defaults_yaml() -> String {
    let mut yaml = DEFAULT_YAML.trim_end().to_owned();
    for section in announced() {
        yaml.push_str(&format!("\n\n{}:", section.name));
        for row in &section.rows {
            yaml.push_str(&format!("\n  # {}\n  {}: {}", row.line(), row.name, row.default));
        }
    }
    yaml
}

/// The sections of plugins.
pub(crate) fn announced() -> &'static [SectionRows] {
    ANNOUNCED.get().map(Vec::as_slice).unwrap_or_default()
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dev: false,
            data: "data".into(),
            scripts: "scripts".into(),
            node: NodeName::default().0,
            quantum_us: u32::try_from(Quantum::default().us()).unwrap_or(500),
            http: Http::default(),
            udp: Udp::default(),
            session: Session::default(),
            room: RoomSettings::default(),
            game: MatchSettings::default(),
            call: CallSettings::default(),
            limit: Limit::default(),
            journal: JournalConfig::default(),
            metrics: Open::default(),
            playground: Open::default(),
            log: Log::default(),
            sections: announced().iter().map(|one| (one.name.to_owned(), one.defaults())).collect(),
        }
    }
}

/// The HTTP door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Where HTTP and WebSocket listen, IPv4 or `[IPv6]`; port 0 takes a free one. Default `127.0.0.1:7350`.
    pub address: SocketAddr,
    /// Origins of pages that may open a WebSocket, beside the server's own. Default none; `*` is any.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed: addresses and networks, such as `10.0.0.0/8`. Default none. Of a
    /// request that comes from one, the last address in that header that is not a trusted proxy's counts for limits.
    /// Nobody who comes through one is local, and names without a token are not let in unless the configuration says so.
    pub trusted_proxies: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            address: SocketAddr::from(([127, 0, 0, 1], 7350)),
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// The UDP door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Udp {
    /// Where UDP listens; `None` (written `off`): it does not. Default `127.0.0.1:7352`.
    #[serde(with = "address_or_off")]
    pub address: Option<SocketAddr>,
    /// The secret half of the key that clients know the server by, 64 hexadecimal digits; `None`: one is made at the
    /// first start and kept in `data/keys`.
    pub key: Option<String>,
}

impl Default for Udp {
    fn default() -> Self {
        Udp { address: Some(SocketAddr::from(([127, 0, 0, 1], 7352))), key: None }
    }
}

/// Sessions and who may start one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Whether a name without a token is enough; `None`: only while every door listens on loopback and no proxy is
    /// trusted.
    pub anonymous: Option<bool>,
    /// The key that signs session tokens (HS256); `None`: one is made at the first start and kept in
    /// `data/keys`. At least 16 bytes.
    pub key: Option<String>,
    /// What the frame is told.
    #[serde(flatten)]
    pub rules: SessionSettings,
}

/// Rates and caps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// TCP connections of the HTTP door, 1 to 1048576. Default 2048; further ones are closed at once.
    pub connections_max: u32,
    /// What the frame is told.
    #[serde(flatten)]
    pub rules: LimitSettings,
}

impl Default for Limit {
    fn default() -> Self {
        Limit { connections_max: 2048, rules: LimitSettings::default() }
    }
}

/// The record of all inputs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalConfig {
    /// What is kept in memory, in bytes. Default 8388608; beyond it the oldest goes. 0: nothing. As long as all since
    /// the start is in it, a panic of the frame thread writes it to `crash.kj` in the data folder.
    pub memory_bytes: usize,
    /// A file that the whole run is written to, for `kaosnet replay`; one that is there is kept as `<name>.1`, and the
    /// one before it goes. Only the server's user may read it. Default none.
    pub record: Option<PathBuf>,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig { memory_bytes: 8 << 20, record: None }
    }
}

/// Something that only loopback may see unless it is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    /// Whether others than loopback may see it. Default false.
    pub open: bool,
}

/// What the server writes about itself, on standard error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or by module: `warn,kaos_gate=debug`. Default `info`.
    pub level: String,
    /// One JSON object a line instead of text. Default false.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), json: false }
    }
}

impl Config {
    /// What the frame is told.
    pub fn settings(&self) -> Settings {
        Settings {
            session: self.session.rules.clone(),
            room: self.room.clone(),
            game: self.game.clone(),
            call: self.call.clone(),
            limit: self.limit.rules.clone(),
            node: NodeName(self.node.clone()),
            dev: self.dev,
            sections: self.sections.clone(),
        }
    }

    /// The length of a frame; [`Config::check`] has refused what is none.
    pub fn quantum(&self) -> Quantum {
        Quantum::from_us(self.quantum_us).unwrap_or_default()
    }

    /// Whether every door listens on loopback only.
    pub fn is_loopback(&self) -> bool {
        let udp = self.udp.address.is_none_or(|address| address.ip().is_loopback());
        udp && self.http.address.ip().is_loopback()
    }

    /// Whether a name without a token is enough to start a session.
    pub fn anonymous(&self) -> bool {
        // Behind a proxy everybody is on loopback.
        self.session.anonymous.unwrap_or_else(|| self.is_loopback() && self.http.trusted_proxies.is_empty())
    }

    /// Where keys are kept that the configuration does not give.
    pub fn keys_dir(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// Checks what types alone do not.
    ///
    /// # Errors
    /// A sentence for each value that cannot be, beginning with its key in back quotes.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut wrong = self.settings().check().err().unwrap_or_default();
        for section in announced() {
            if let Some(Value::Object(values)) = self.sections.get(section.name) {
                wrong.extend(section.wrong(values));
            }
        }
        if Quantum::from_us(self.quantum_us).is_none() {
            wrong.push(format!(
                "`quantum_us` is {}: it is one of 250, 500, 1000, 2000 and 4000",
                self.quantum_us
            ));
        }
        if self.limit.connections_max == 0 || self.limit.connections_max > 1 << 20 {
            wrong.push(format!(
                "`limit.connections_max` is {}: it goes from 1 to 1048576",
                self.limit.connections_max
            ));
        }
        for origin in &self.http.origins {
            let scheme = origin.split_once("://").map(|(scheme, host)| (scheme, host.contains('/')));
            if origin != "*" && !matches!(scheme, Some(("http" | "https", false))) {
                wrong.push(format!(
                    "`http.origins` has `{origin}`: an origin is like https://play.example.com, without a path"
                ));
            }
        }
        if let Err(entry) = Proxies::parse(&self.http.trusted_proxies) {
            wrong.push(no_proxy(entry));
        }
        let session = self.session.key.as_deref().map(|key| check_session(key, self.dev));
        let transport = self.udp.key.as_deref().map(|key| check_transport(key, self.dev));
        wrong.extend(
            [session, transport].into_iter().flatten().filter_map(Result::err).map(|e| e.to_string()),
        );
        if !self.log.level.split(',').all(is_directive) {
            wrong.push(format!(
                "`log.level` is `{}`: it is error, warn, info, debug, trace or off, or for a module \
                 `kaos_gate=debug`, separated by commas",
                self.log.level
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Reads the configuration as a program that is not this command line would: the defaults, `file` if it is
    /// given (else `kaosnet.yaml` if it is there), and the environment.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(file: Option<&Path>) -> Result<Config, ConfigError> {
        load(file, std::env::vars_os(), &[]).map(|loaded| loaded.config)
    }
}

pub(crate) fn no_proxy(entry: &str) -> String {
    format!(
        "`http.trusted_proxies` has `{entry}`: a proxy is an address or a network, like 127.0.0.1 or 10.0.0.0/8"
    )
}

fn is_directive(part: &str) -> bool {
    let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
    ["off", "error", "warn", "info", "debug", "trace"].iter().any(|known| level.eq_ignore_ascii_case(known))
}

/// `off`, or an address.
mod address_or_off {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    // serde's `with` asks for this signature.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(address: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => to.collect_str(address),
            None => to.serialize_str("off"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(from)?;
        if text == "off" {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| D::Error::custom("expected an address such as 127.0.0.1:7352, or `off`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_stay_on_loopback() {
        let config = Config::default();
        assert_eq!(config.check(), Ok(()));
        assert!(config.is_loopback() && config.anonymous());
        assert_eq!(config.settings(), Settings::default());
    }

    #[test]
    fn opening_a_door_ends_anonymous_sessions_unless_said() {
        let mut config = Config::default();
        config.http.address = "0.0.0.0:7350".parse().unwrap();
        assert_eq!(config.check(), Ok(()));
        assert!(!config.anonymous());
        config.session.anonymous = Some(true);
        assert!(config.anonymous());
        let mut proxied = Config::default();
        proxied.http.trusted_proxies = vec!["127.0.0.1".into()];
        assert!(proxied.is_loopback() && !proxied.anonymous(), "a proxy is a door to everybody");
        proxied.session.anonymous = Some(true);
        assert!(proxied.anonymous());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 10] = [
            ("`quantum_us` is 300", |c| c.quantum_us = 300),
            ("`session.key` is a key that everyone knows", |c| c.session.key = Some("DefaultKey".into())),
            ("`session.key` has 5 bytes", |c| c.session.key = Some("short".into())),
            ("`udp.key` is not a key", |c| c.udp.key = Some("zz".into())),
            ("`udp.key` repeats a single byte", |c| c.udp.key = Some("0".repeat(64))),
            ("`room.max_players` is 0", |c| c.room.max_players = 0),
            ("`limit.connections_max` is 0", |c| c.limit.connections_max = 0),
            ("`http.origins` has `example.com`", |c| c.http.origins.push("example.com".into())),
            ("`http.trusted_proxies` has `nginx`", |c| c.http.trusted_proxies.push("nginx".into())),
            ("`log.level` is `loud`", |c| c.log.level = "loud".into()),
        ];
        for (sentence, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let wrong = config.check().expect_err(sentence);
            assert!(wrong.iter().any(|wrong| wrong.starts_with(sentence)), "{sentence}: {wrong:?}");
        }
        let dev = Config {
            dev: true,
            session: Session { key: Some("defaultkey".into()), ..Session::default() },
            ..Config::default()
        };
        assert_eq!(dev.check(), Ok(()));
    }
}
