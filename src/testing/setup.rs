//! A test server before its start: its scripts, its plugins, its settings and its seed.

use std::path::PathBuf;
use std::sync::Arc;

use kaos_gate::kaos::codec::KaosCodec;
use kaos_kernel::clock::Quantum;
use kaos_kernel::prelude::*;
use kaos_kernel::server::{Build, BuildError, Server};
use kaos_script::{Scripts, Sources};
use serde_json::Value as Json;

use super::run::Test;
use crate::compose::compose;

/// Adds a plugin; called once for each server that is built.
type Plugins = Arc<dyn Fn(&mut App)>;

/// A server about to start. See [`server`].
#[derive(Clone)]
pub struct Setup {
    scripts: Where,
    pub(super) seed: u64,
    pub(super) settings: Settings,
    pub(super) quantum: Quantum,
    pub(super) strict: bool,
    pub(super) tolerant: bool,
    plugins: Vec<Plugins>,
}

#[derive(Clone)]
enum Where {
    Dir(PathBuf),
    Sources(Sources),
}

/// A test server with the scripts of a directory.
pub fn server(scripts: impl Into<PathBuf>) -> Setup {
    Setup::new(Where::Dir(scripts.into()))
}

/// A test server with scripts in memory: pairs of path and source.
pub fn server_of<'a>(scripts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Setup {
    let mut sources = Sources::new("scripts");
    for (path, source) in scripts {
        sources.insert(path, source);
    }
    Setup::new(Where::Sources(sources))
}

impl Setup {
    fn new(scripts: Where) -> Self {
        Setup {
            scripts,
            seed: 1,
            settings: Settings::default(),
            quantum: Quantum::default(),
            strict: true,
            tolerant: false,
            plugins: Vec::new(),
        }
    }

    /// The seed of everything random. Default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes what was set.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Sets a key of the configuration that the frame is told, such as `room.empty_ms` or `guestbook.pages`. Whether it is
    /// there and takes the value is found out when the server is built.
    pub fn set(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.settings.set(key, value);
        self
    }

    /// Skips quiet frames, as a server in production does, instead of running and watching every one.
    pub fn skipping(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Goes on when systems, run conditions, commands or observers of plugins fail, as a server in production does:
    /// [`Test::failures`] tells of them. Without this the test fails with the frame in which the first one did.
    pub fn tolerating_failures(mut self) -> Self {
        self.tolerant = true;
        self
    }

    /// Adds plugins.
    pub fn plugins(mut self, add: impl Fn(&mut App) + 'static) -> Self {
        self.plugins.push(Arc::new(add));
        self
    }

    /// Builds the server without starting it.
    ///
    /// # Errors
    /// What is wrong with scripts, plugins and settings, as sentences.
    pub fn build(&self) -> Result<Server, BuildError> {
        let build = Build {
            settings: self.settings.clone(),
            quantum: self.quantum,
            journal_bytes_max: usize::MAX,
            strict: self.strict,
        };
        let scripts = match &self.scripts {
            Where::Dir(dir) => Scripts::from_dir(dir),
            Where::Sources(sources) => Scripts::from_sources(sources.clone()),
        };
        compose(build, KaosCodec::default(), scripts, |app| {
            self.plugins.iter().for_each(|add| add(app));
        })
    }

    /// Starts the server.
    ///
    /// # Panics
    /// With the sentences of [`BuildError`] when it cannot be built.
    pub fn start(self) -> Test {
        match self.try_start() {
            Ok(test) => test,
            #[expect(clippy::panic, reason = "a test kit fails tests")]
            Err(error) => panic!("the server cannot be built:\n{error}"),
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Setup::build`].
    pub fn try_start(self) -> Result<Test, BuildError> {
        let server = self.build()?;
        Ok(Test::start(self, server))
    }
}
