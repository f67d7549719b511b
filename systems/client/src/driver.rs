//! Runs one core over its connections: the only loop of this crate, shared by the async client and the swarm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kaos_rudp::Micros;
use tokio::sync::Notify;

use crate::clock;
use crate::core::{Action, Core};
use crate::door::Door;
use crate::event::Event;
use crate::link::{Dialing, Link};

/// How long the loop sleeps when nothing is due: any moment will do, an event wakes it before.
const IDLE: Duration = Duration::from_secs(3600);

/// Who takes a core's events.
pub(crate) trait Handler: Send + 'static {
    /// Something happened. May use the core; must not block.
    fn event(&mut self, now: Micros, core: &mut Core, event: Event);

    /// Called at each turn of the loop, after the events.
    fn turn(&mut self, now: Micros, core: &mut Core);

    /// When the next turn is wanted.
    fn next_turn(&self) -> Option<Micros>;
}

/// What the loop and the application share.
pub(crate) struct Shared<H> {
    state: Mutex<State<H>>,
    /// Tells the loop that the application did something.
    pub(crate) kick: Notify,
    dialing: Dialing,
}

pub(crate) struct State<H> {
    pub(crate) core: Core,
    pub(crate) handler: H,
    /// Where the next connection goes to.
    pub(crate) door: Door,
    /// Keep the old connection open, unread, until the session is on the next one: so the server never
    /// sees it lost.
    pub(crate) keep_old: bool,
}

impl<H: Handler> Shared<H> {
    pub(crate) fn new(core: Core, handler: H, door: Door, dialing: Dialing) -> Arc<Self> {
        let state = State { core, handler, door, keep_old: false };
        Arc::new(Shared { state: Mutex::new(state), kick: Notify::new(), dialing })
    }

    /// A panic under the lock can only come from a handler; the state is still whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the state, then wakes the loop.
    pub(crate) fn with<T>(&self, f: impl FnOnce(Micros, &mut State<H>) -> T) -> T {
        let result = f(clock::now(), &mut self.lock());
        self.kick.notify_one();
        result
    }
}

/// The connection that is used, and the one that it replaces.
#[derive(Default)]
struct Links {
    link: Option<Link>,
    old: Option<Link>,
}

/// Runs until the session is over and its connection closed.
pub(crate) async fn drive<H: Handler>(shared: Arc<Shared<H>>) {
    let mut links = Links::default();
    loop {
        let now = clock::now();
        let (hangup, next) = turn(now, &shared, &mut links);
        if hangup {
            links.old = None;
            if let Some(link) = links.link.take() {
                link.finish().await;
            }
        }
        let Some(next) = next else { return };
        let link = links.link.as_mut();
        tokio::select! {
            () = ready(link) => {}
            () = shared.kick.notified() => {}
            () = tokio::time::sleep_until(clock::instant(next)) => {}
        }
    }
}

async fn ready(link: Option<&mut Link>) {
    match link {
        Some(link) => link.ready().await,
        None => std::future::pending().await,
    }
}

/// One turn of the loop. Returns whether to hang up, and when the next turn is due; `None`: the session is over.
fn turn<H: Handler>(now: Micros, shared: &Shared<H>, links: &mut Links) -> (bool, Option<Micros>) {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let Links { link, old } = links;
    if let Some(open) = link
        && !open.pump(now, &mut state.core)
    {
        *link = None;
    }
    // Who answered first is expected from now on: a resume must not tell its token to another.
    state.door.expect(state.core.server_key());
    state.core.handle_timeout(now);
    let mut hangup = false;
    loop {
        while let Some(event) = state.core.poll_event() {
            match event {
                Event::Lost if state.keep_old => *old = link.take(),
                Event::Lost => *link = None,
                Event::Resumed { .. } | Event::Ended(_) => {
                    *old = None;
                    state.keep_old = false;
                }
                _ => {}
            }
            state.handler.event(now, &mut state.core, event);
        }
        match state.core.poll_action() {
            None => break,
            Some(Action::Hangup) => hangup = true,
            Some(Action::Dial) => match Link::dial(&state.door, now, &shared.dialing) {
                Ok(dialled) => *link = Some(dialled),
                Err(why) => {
                    *link = None;
                    state.core.closed(now, &why);
                }
            },
        }
    }
    state.handler.turn(now, &mut state.core);
    if let Some(link) = link {
        link.flush(now, &mut state.core);
    }
    // A turn may have ended the session, whose events come with the next one.
    let over = state.core.end().is_some() && hangup;
    let due = [
        state.core.poll_timeout(),
        state.handler.next_turn(),
        link.as_ref().and_then(Link::timeout),
        state.core.end().is_some().then_some(now),
    ];
    let next = due.into_iter().flatten().min().unwrap_or(now + IDLE);
    (hangup, (!over).then_some(next))
}
