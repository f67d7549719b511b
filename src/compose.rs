//! What every KaosNet server is made of, in the one order in which it fits together: the runner's, the test kit's, and
//! those of `check` and `replay`.

use std::sync::Arc;

use kaos_gate::kaos::codec::KaosCodec;
use kaos_kernel::codec::SessionCodec;
use kaos_kernel::prelude::App;
use kaos_kernel::server::{Build, BuildError, Server};
use kaos_kernel::settings::Sections;
use kaos_script::Scripts;

/// Builds a server: the codec, the rooms, the plugins of whoever builds it, and last the scripts, which have a function
/// for every operation of every plugin.
pub(crate) fn compose(
    build: Build,
    codec: KaosCodec,
    scripts: Scripts,
    plugins: impl FnOnce(&mut App),
) -> Result<Server, BuildError> {
    Server::build(build, |app| {
        app.insert_resource(SessionCodec(Arc::new(codec)));
        app.add_plugins(kaos_rooms::Rooms);
        plugins(app);
        app.add_plugins(scripts);
    })
}

/// What can be set of the frame with these plugins, for reading it before a server is built.
pub(crate) fn sections(plugins: impl FnOnce(&mut App)) -> Sections {
    kaos_kernel::server::sections(|app| {
        app.add_plugins(kaos_rooms::Rooms);
        plugins(app);
    })
}
