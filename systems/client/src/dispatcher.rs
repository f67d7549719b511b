//! Hands the core's events to the futures, rooms and listeners that wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kaos_rudp::Micros;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, oneshot, watch};

use crate::core::Core;
use crate::driver::Handler;
use crate::error::{End, Error, Refusal};
use crate::event::{Answer, Event, RoomEvent, Status};
use crate::listen::Feed;
use crate::queue::Queue;

/// Takes the core's events and hands each to whoever waits for it.
pub(crate) struct Dispatcher {
    /// Who waits for the answer to which request.
    waiting: BTreeMap<u32, oneshot::Sender<Result<Answer, Error>>>,
    rooms: BTreeMap<u16, Arc<Queue>>,
    started: Option<oneshot::Sender<Result<(), End>>>,
    status: watch::Sender<Status>,
    pub(crate) notice: Option<Refusal>,
    pub(crate) resumed: u64,
    pub(crate) lost: u64,
    /// Wakes those that wait for space in the resend buffer.
    pub(crate) writable: Arc<Notify>,
    kept_bytes: usize,
    /// Who listens to which event.
    listeners: BTreeMap<String, Vec<Feed>>,
    /// Events that were dropped because their listener did not keep up.
    pub(crate) missed: u64,
}

type Waiting = oneshot::Receiver<Result<Answer, Error>>;

impl Dispatcher {
    /// `started` learns how the start of the session went.
    pub(crate) fn new(started: oneshot::Sender<Result<(), End>>, status: watch::Sender<Status>) -> Self {
        Dispatcher {
            waiting: BTreeMap::new(),
            rooms: BTreeMap::new(),
            started: Some(started),
            status,
            notice: None,
            resumed: 0,
            lost: 0,
            writable: Arc::new(Notify::new()),
            kept_bytes: 0,
            listeners: BTreeMap::new(),
            missed: 0,
        }
    }

    pub(crate) fn request(
        &mut self,
        core: &mut Core,
        ask: impl FnOnce(&mut Core) -> Result<u32, Error>,
    ) -> Result<Waiting, Error> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(ask(core)?, sender);
        Ok(receiver)
    }

    /// Adds a listener, and removes those that were dropped since.
    pub(crate) fn listen(&mut self, event: &str, feed: Feed) {
        self.listeners.retain(|_, feeds| {
            feeds.retain(|feed| !feed.is_closed());
            !feeds.is_empty()
        });
        self.listeners.entry(event.to_owned()).or_default().push(feed);
    }

    /// The queue of a room that was just joined.
    pub(crate) fn queue(&mut self, handle: u16) -> Arc<Queue> {
        self.rooms.entry(handle).or_default().clone()
    }

    fn answer(&mut self, core: &mut Core, cid: u32, answer: Result<Answer, Error>) {
        let joined = match &answer {
            Ok(Answer::Joined(handle)) => Some(*handle),
            _ => None,
        };
        if let Some(handle) = joined {
            // Before the answer is taken: events of the room may follow at once.
            self.queue(handle);
        }
        let waiting = self.waiting.remove(&cid);
        let taken = waiting.is_some_and(|waiting| waiting.send(answer).is_ok());
        if let Some(handle) = joined.filter(|_| !taken) {
            self.rooms.remove(&handle);
            // Nobody waits for this seat any more. When even the leave cannot be sent, the session's end frees the seat.
            let _ = core.leave(handle);
        }
    }

    fn room_event(&mut self, core: &mut Core, handle: u16, event: RoomEvent) {
        let over = matches!(event, RoomEvent::Closed(_));
        let Some(queue) = self.rooms.get(&handle).cloned() else { return };
        if !queue.push(event) {
            self.rooms.remove(&handle);
            let _ = core.leave(handle);
        } else if over {
            self.rooms.remove(&handle);
        }
    }

    fn push(&mut self, name: &str, body: &Bytes) {
        let Some(feeds) = self.listeners.get_mut(name) else { return };
        let mut missed = 0;
        feeds.retain(|feed| match feed.try_send(body.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                missed += 1;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
        self.missed += missed;
    }
}

impl Handler for Dispatcher {
    fn event(&mut self, _now: Micros, core: &mut Core, event: Event) {
        match event {
            Event::Started => {
                self.status.send_replace(Status::Live);
                if let Some(started) = self.started.take()
                    && started.send(Ok(())).is_err()
                {
                    // Nobody waits for this session any more.
                    core.close(crate::clock::now());
                }
            }
            Event::Lost => {
                self.status.send_replace(Status::Lost);
            }
            Event::Resumed { lost } => {
                self.resumed += 1;
                self.lost += lost;
                self.status.send_replace(Status::Live);
            }
            Event::Answer { cid, answer } => self.answer(core, cid, answer),
            Event::Room { handle, event } => self.room_event(core, handle, event),
            Event::Notice(refusal) => self.notice = Some(refusal),
            Event::Pushed { name, body } => self.push(&name, &body),
            Event::RoundTrip(_) => {}
            Event::Ended(end) => {
                if let Some(started) = self.started.take() {
                    let _ = started.send(Err(end.clone()));
                }
                self.waiting.clear();
                self.listeners.clear();
                self.status.send_replace(Status::Ended(end));
                self.writable.notify_waiters();
            }
        }
    }

    fn turn(&mut self, _now: Micros, core: &mut Core) {
        if core.kept_bytes() < self.kept_bytes {
            self.writable.notify_waiters();
        }
        self.kept_bytes = core.kept_bytes();
    }

    fn next_turn(&self) -> Option<Micros> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{LISTENER_EVENTS_MAX, Listener};

    fn dispatcher() -> Dispatcher {
        Dispatcher::new(oneshot::channel().0, watch::channel(Status::Connecting).0)
    }

    #[test]
    fn a_listener_that_was_dropped_leaves_nothing_behind() {
        let mut dispatcher = dispatcher();
        for _ in 0..100 {
            let (feed, _dropped) = Listener::<u32>::new("never.pushed");
            dispatcher.listen("never.pushed", feed);
        }
        let (feed, _listener) = Listener::<u32>::new("bell.rang");
        dispatcher.listen("bell.rang", feed);
        assert_eq!(dispatcher.listeners.len(), 1);
    }

    #[test]
    fn what_a_listener_is_too_slow_for_is_dropped_and_counted() {
        let mut dispatcher = dispatcher();
        let (feed, mut slow) = Listener::<usize>::new("bell.rang");
        dispatcher.listen("bell.rang", feed);
        for n in 0..LISTENER_EVENTS_MAX + 3 {
            dispatcher.push("bell.rang", &n.to_string().into());
            dispatcher.push("bell.moved", &Bytes::new());
        }
        assert_eq!(dispatcher.missed, 3);
        drop(dispatcher);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let heard = runtime.block_on(async {
            let mut heard = Vec::new();
            while let Some(event) = slow.next().await {
                heard.push(event.expect("a number"));
            }
            heard
        });
        assert_eq!(heard, (0..LISTENER_EVENTS_MAX).collect::<Vec<_>>());
    }
}
