//! The test kit: a whole server on virtual time, in memory, from a seed. For plugins and for match scripts.
//!
//! ```no_run
//! let mut t = kaosnet::testing::server("scripts").seed(7).start();
//! let ada = t.join("arena", "ada");
//! ada.send(2, b"fire");
//! t.ticks(1);
//! assert_eq!(t.room("arena").state("/players/ada/alive"), true);
//! t.replays_equally();
//! ```
//!
//! The server is the one that runs in production, without its sockets and threads: clients are those of `kaos-client`, over
//! connections in memory, rpcs and jobs run at once, and time moves only when a test moves it. It runs in
//! strict mode: a frame that should have been quiet and changed something fails the test by name. So does a plugin's
//! system that panics or cannot run, in the frame in which it does.

mod client;
mod door;
mod event;
mod filter;
mod jobs;
mod player;
mod run;
mod setup;
mod view;

pub use event::Event;
pub use player::Player;
pub use run::Test;
pub use setup::{Setup, server, server_of};
pub use view::RoomView;
