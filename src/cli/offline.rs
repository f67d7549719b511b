//! A server without doors, threads or clock: for `check` and `replay`.

use std::path::Path;
use std::sync::Arc;

use kaos_gate::kaos::codec::KaosCodec;
use kaos_gate::stats::Stats;
use kaos_kernel::clock::Quantum;
use kaos_kernel::server::{Build, BuildError, Server};
use kaos_kernel::settings::Settings;
use kaos_script::Scripts;

use super::Plugins;
use crate::compose::compose;

/// What the runner would build, of the same parts in the same order.
pub(super) fn build(
    settings: Settings,
    quantum: Quantum,
    scripts: &Path,
    plugins: &Plugins,
) -> Result<Server, BuildError> {
    let build = Build { settings, quantum, journal_bytes_max: 0, strict: false };
    let scripts = Scripts::from_dir(scripts);
    let codec = KaosCodec::counting(Arc::new(Stats::default()));
    compose(build, codec, scripts, |app| plugins(app))
}
