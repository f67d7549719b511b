//! Starts servers for tests: free ports, a data folder of their own, the sample scripts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kaos_kernel::prelude::App;
use kaosnet::config::Config;
use kaosnet::runner::{Running, start};

/// A folder under the target directory that no other test uses.
pub(crate) fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{next}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the target directory can be written");
    dir
}

/// The configuration of a test server.
pub(crate) fn config(name: &str) -> Config {
    let mut config = Config::default();
    config.server.data = folder(name);
    config.server.scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts");
    config.http.address = "127.0.0.1:0".parse().expect("an address");
    config.udp.address.0 = Some("127.0.0.1:0".parse().expect("an address"));
    config
}

/// Starts a server with plugins.
pub(crate) fn serve(config: &Config, plugins: impl Fn(&mut App) + Send + 'static) -> Running {
    start(config, plugins).unwrap_or_else(|error| panic!("the server starts: {error}"))
}
