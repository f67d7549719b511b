//! Many sessions on one thread: for bots, load and tests. No async in sight of its user.
//!
//! ```no_run
//! use std::time::Duration;
//! use kaos_client::swarm::{Bot, Seat, run};
//! use kaos_client::{Core, CoreEvent, Credentials, Join, Micros, Options};
//!
//! #[derive(Default)]
//! struct Visitor { seen: usize }
//!
//! impl Bot for Visitor {
//!     fn event(&mut self, now: Micros, core: &mut Core, event: CoreEvent) {
//!         match event {
//!             CoreEvent::Started => drop(core.join(Join { module: "arena".into(), ..Join::default() })),
//!             CoreEvent::Room { .. } => self.seen += 1,
//!             _ => {}
//!         }
//!     }
//!     fn wake(&mut self, _: Micros, _: &mut Core) {}
//!     fn next_wake(&self) -> Option<Micros> { None }
//! }
//!
//! let seats = (0..100u32).map(|n| Seat {
//!     credentials: Credentials::anonymous(format!("visitor-{n}")),
//!     options: Options::default(),
//!     start_after: Duration::from_millis(2) * n,
//!     bot: Visitor::default(),
//! });
//! let visitors = run("http://127.0.0.1:7350", seats.collect(), Duration::from_secs(10))?;
//! assert!(visitors.iter().all(|visitor| visitor.seen > 0));
//! # Ok::<(), kaos_client::Error>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use kaos_rudp::Micros;

use crate::client::random;
use crate::clock;
use crate::core::Core;
use crate::credentials::{Credentials, Options};
use crate::door::Door;
use crate::driver::{Handler, Shared, drive};
use crate::error::Error;
use crate::event::Event;
use crate::link::Dialing;

/// One player without a person. Its methods run on the swarm's thread, and must not block.
pub trait Bot: Send + 'static {
    /// Something happened to its session.
    fn event(&mut self, now: Micros, core: &mut Core, event: Event);

    /// It is [`Bot::next_wake`], or later.
    fn wake(&mut self, now: Micros, core: &mut Core);

    /// When to be woken, on the clock of [`clock::now`]; `None`: by events only. Timers
    /// fire within about a millisecond.
    fn next_wake(&self) -> Option<Micros>;
}

/// One session of a swarm.
pub struct Seat<B> {
    /// Who it says it is.
    pub credentials: Credentials,
    /// The knobs of its session.
    pub options: Options,
    /// How long after the swarm's start it connects.
    pub start_after: Duration,
    /// What it does.
    pub bot: B,
}

/// Runs the seats until every session is over, at the latest `limit` after the start: then they are closed, for which
/// they have three seconds. Blocks this thread. Returns the bots, in their order.
///
/// # Errors
/// [`Error::Url`] and [`Error::Unreachable`] when the door cannot be found. Whether a bot came in is for the bot
/// to know.
///
/// # Panics
/// When it is called within a tokio runtime.
pub fn run<B: Bot>(url: &str, seats: Vec<Seat<B>>, limit: Duration) -> Result<Vec<B>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Error::Unreachable { door: url.to_owned(), why: format!("no event loop can be made: {error}") }
    })?;
    runtime.block_on(async {
        let door = Door::find(url).await?;
        let start = clock::now();
        let mut sessions = Vec::with_capacity(seats.len());
        let mut tasks = Vec::with_capacity(seats.len());
        for Seat { credentials, options, start_after, bot } in seats {
            let dialing = Dialing::of(&options);
            let begin = start + start_after;
            let core = Core::new(begin, credentials, options, random());
            let shared = Shared::new(core, Rider { bot: Some(bot) }, door.clone(), dialing);
            sessions.push(shared.clone());
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep_until(clock::instant(begin)).await;
                drive(shared).await;
            }));
        }
        let all = async {
            for task in &mut tasks {
                // A bot that panics has been reported; the others go on.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            for shared in &sessions {
                shared.with(|now, state| state.core.close(now));
            }
            let end = tokio::time::Instant::now() + Duration::from_secs(3);
            for task in &mut tasks {
                if !task.is_finished() && tokio::time::timeout_at(end, &mut *task).await.is_err() {
                    task.abort();
                }
            }
        }
        Ok(sessions.iter().filter_map(take).collect())
    })
}

fn take<B: Bot>(shared: &Arc<Shared<Rider<B>>>) -> Option<B> {
    shared.lock().handler.bot.take()
}

struct Rider<B> {
    /// Taken at the end.
    bot: Option<B>,
}

impl<B: Bot> Handler for Rider<B> {
    fn event(&mut self, now: Micros, core: &mut Core, event: Event) {
        if let Some(bot) = &mut self.bot {
            bot.event(now, core, event);
        }
    }

    fn turn(&mut self, now: Micros, core: &mut Core) {
        if let Some(bot) = &mut self.bot
            && bot.next_wake().is_some_and(|at| at <= now)
        {
            bot.wake(now, core);
        }
    }

    fn next_turn(&self) -> Option<Micros> {
        self.bot.as_ref().and_then(Bot::next_wake)
    }
}
