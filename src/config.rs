//! The configuration: what was written (defaults, file, environment, flags) becomes one [`Config`].
//!
//! Later sources win: defaults < `kaosnet.yaml` (or `--config FILE`) < environment `KAOS_SECTION_KEY` <
//! flags `--section.key value`. A key that does not exist is refused with its place and the nearest name.
//!
//! Every key is a row that its owner wrote with `settings!`: `sections` has those of the doors and the process, the kernel
//! and plugins have their own, and `keys` puts all of them into one table. assets/config/default.yaml is made from it.

mod defaults;
mod keys;
mod kubernetes;
mod origin;
mod sections;
mod sources;
mod yaml;

use std::path::{Path, PathBuf};

use kaos_gate::identity::keys::{check_session, check_transport};
use kaos_kernel::clock::Quantum;
use kaos_kernel::prelude::App;
use kaos_kernel::server::own_sections;
use kaos_kernel::settings::{NodeSettings, Section, Sections, Settings};

pub use defaults::defaults_yaml;
use keys::outside;
pub use keys::{sections, variable};
pub use origin::{ConfigError, Origin, Problem};
pub(crate) use sections::no_proxy;
pub use sections::{
    AuthSettings, ConnectionSettings, HttpSettings, JournalSettings, LogSettings, MetricsSettings,
    PlaygroundSettings, ServerSettings, UdpAddress, UdpSettings,
};
pub use sources::{Loaded, load};

/// The file that is read from the working directory when no other is named.
pub const FILE_NAME: &str = "kaosnet.yaml";

/// Everything that can be set: what the process and its doors need, by type, and what the frame alone is told, by key.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// `dev` and `node`: the node, which the frame is told of too.
    pub node: NodeSettings,
    /// `data`, `scripts` and `quantum_us`: the process.
    pub server: ServerSettings,
    /// The HTTP door, which is the WebSocket door too.
    pub http: HttpSettings,
    /// The UDP door.
    pub udp: UdpSettings,
    /// `session.anonymous` and `session.key`: who may start a session.
    pub session: AuthSettings,
    /// `limit.connections_max`.
    pub limit: ConnectionSettings,
    /// The record of all inputs.
    pub journal: JournalSettings,
    /// Figures for Prometheus at `/metrics`.
    pub metrics: MetricsSettings,
    /// The page at `/`.
    pub playground: PlaygroundSettings,
    /// What the server writes about itself.
    pub log: LogSettings,
    /// What was set of all other keys, those of the kernel and of plugins: `config.frame.set("room.empty_ms", 1000)`.
    pub frame: Settings,
}

impl Config {
    /// From what was set, by key.
    ///
    /// # Errors
    /// A sentence for each value of another type, beginning with its key in back quotes. Only keys of the fields above
    /// `frame` are looked at: which others there are is known when a server is built.
    pub fn of(set: &Settings) -> Result<Config, Vec<String>> {
        fn read<S: Section>(set: &Settings, wrong: &mut Vec<String>) -> S {
            set.section().unwrap_or_else(|sentences| {
                wrong.extend(sentences);
                S::default()
            })
        }
        let mut wrong = Vec::new();
        let mut config = Config {
            node: read(set, &mut wrong),
            server: read(set, &mut wrong),
            http: read(set, &mut wrong),
            udp: read(set, &mut wrong),
            session: read(set, &mut wrong),
            limit: read(set, &mut wrong),
            journal: read(set, &mut wrong),
            metrics: read(set, &mut wrong),
            playground: read(set, &mut wrong),
            log: read(set, &mut wrong),
            frame: Settings::default(),
        };
        let own = config.written();
        for (key, value) in set.iter().filter(|(key, _)| own.get(key).is_none()) {
            config.frame.set(key, value.clone());
        }
        if wrong.is_empty() { Ok(config) } else { Err(wrong) }
    }

    /// The fields above `frame`, by key.
    fn written(&self) -> Settings {
        let mut written = Settings::default();
        self.node.write(&mut written);
        self.server.write(&mut written);
        self.http.write(&mut written);
        self.udp.write(&mut written);
        self.session.write(&mut written);
        self.limit.write(&mut written);
        self.journal.write(&mut written);
        self.metrics.write(&mut written);
        self.playground.write(&mut written);
        self.log.write(&mut written);
        written
    }

    /// What the frame is told.
    pub fn settings(&self) -> Settings {
        let mut settings = self.frame.clone();
        self.node.write(&mut settings);
        settings
    }

    /// The length of a frame; [`Config::check`] has refused a number that is not one.
    pub fn quantum(&self) -> Quantum {
        Quantum::from_us(self.server.quantum_us).unwrap_or_default()
    }

    /// Whether every door listens on loopback only.
    pub fn is_loopback(&self) -> bool {
        let udp = self.udp.address.0.is_none_or(|address| address.ip().is_loopback());
        udp && self.http.address.ip().is_loopback()
    }

    /// Whether a name without a token is enough to start a session.
    pub fn anonymous(&self) -> bool {
        // Behind a proxy everybody is on loopback.
        self.session.anonymous.unwrap_or_else(|| self.is_loopback() && self.http.trusted_proxies.is_empty())
    }

    /// Where keys are kept that the configuration does not give.
    pub fn keys_dir(&self) -> PathBuf {
        self.server.data.join("keys")
    }

    /// Checks what types alone do not. What was set for plugins is checked when a server is built.
    ///
    /// # Errors
    /// A sentence for each value that cannot be, beginning with its key in back quotes.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let own = self.written();
        let misplaced = self.frame.iter().filter(|(key, _)| own.get(key).is_some());
        let mut wrong: Vec<String> = misplaced
            .map(|(key, _)| format!("`{key}` is set in `frame`: this key has a field of its own"))
            .collect();
        let mut set = self.frame.clone();
        own.iter().for_each(|(key, value)| set.set(key, value.clone()));
        let known = [outside(), own_sections()];
        wrong.extend(known.iter().flat_map(Sections::iter).flat_map(|section| section.wrong(&set)));
        wrong.extend(self.wrong_keys());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// What is wrong with the keys of sessions and of UDP: known ones are for development.
    fn wrong_keys(&self) -> impl Iterator<Item = String> {
        let dev = self.node.dev;
        let session = self.session.key.as_deref().map(|key| check_session(key, dev));
        let transport = self.udp.key.as_deref().map(|key| check_transport(key, dev));
        let wrong = [session, transport].into_iter().flatten().filter_map(Result::err);
        wrong.map(|error| error.to_string())
    }

    /// Reads the configuration as a program that is not this command line would: the defaults, `file` if it is
    /// given (else `kaosnet.yaml` if it is there), and the environment. `plugins`: those that the server will have, since
    /// their keys can be set as well. They are built as for a server, and nothing is made of it.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(file: Option<&Path>, plugins: impl FnOnce(&mut App)) -> Result<Config, ConfigError> {
        load(sections(plugins), file, std::env::vars_os(), &[]).map(|loaded| loaded.config)
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
    }

    #[test]
    fn default_yaml_is_made_from_the_rows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/config/default.yaml");
        let yaml = defaults_yaml(&sections(|_| {}));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &yaml).expect("it can be written");
        }
        let file = std::fs::read_to_string(path).expect("it can be read");
        assert_eq!(file, yaml, "UPDATE=1 cargo test rewrites assets/config/default.yaml");
    }

    #[test]
    fn what_is_read_from_keys_is_written_to_them() {
        let mut set = sections(|_| {}).whole(&Settings::default());
        assert_eq!(Config::of(&set).map(|config| config.written()), Ok(Config::default().written()));
        let outside = keys::outside();
        for (key, _) in Config::default().written().iter() {
            assert!(outside.row(key).is_some() || ["dev", "node"].contains(&key), "`{key}` has no row");
        }
        set.set("http.address", "127.0.0.1:1");
        set.set("room.empty_ms", 5);
        let config = Config::of(&set).expect("it has the types");
        assert_eq!(config.http.address.port(), 1);
        assert_eq!(config.settings().get("room.empty_ms"), Some(&5.into()));
        assert_eq!(config.settings().get("http.address"), None, "the frame knows no door");
        set.set("udp.address", "here");
        let wrong = ["`udp.address` is \"here\": expected an address such as 127.0.0.1:7352, or `off`"];
        assert_eq!(Config::of(&set).expect_err("no address"), wrong);
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
        let cases: [(&str, Change); 12] = [
            ("`quantum_us` is 300", |c| c.server.quantum_us = 300),
            ("`session.key` is a key that everyone knows", |c| c.session.key = Some("DefaultKey".into())),
            ("`session.key` has 5 bytes", |c| c.session.key = Some("short".into())),
            ("`udp.key` is not a key", |c| c.udp.key = Some("zz".into())),
            ("`udp.key` repeats a single byte", |c| c.udp.key = Some("0".repeat(64))),
            ("`room.max_players` is 0", |c| c.frame.set("room.max_players", 0)),
            ("`node` is a name", |c| c.node.node.clear()),
            ("`http.address` is set in `frame`", |c| c.frame.set("http.address", "127.0.0.1:1")),
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
        let mut dev = Config::default();
        dev.node.dev = true;
        dev.session.key = Some("defaultkey".into());
        assert_eq!(dev.check(), Ok(()));
    }
}
