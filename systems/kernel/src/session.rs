//! Sessions and peers: a client's logical connection, and the transport that carries it for now.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bevy_ecs::prelude::*;
use smallvec::SmallVec;

use crate::call::FrameOutputs;
use crate::clock::Clock;
use crate::codec::{Outbound, SessionCodec};
use crate::deadline::{DeadlineOf, Deadlines};
use crate::fault::{Fault, FaultKind};
use crate::ids::{PeerId, SessionId, Slab};
use crate::input::{Counts, Door, Identity};
use crate::limit::{Addresses, Gcra};
use crate::op::Ops;
use crate::output::{Channel, Close, Send};
use crate::resend::ResendBuffer;
use crate::room::SessionFacts;

/// A client's logical connection. It outlives a lost peer for `session.seat_ms`.
#[derive(Component, Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who it is.
    pub identity: Identity,
    /// Came without a token?
    pub anonymous: bool,
    /// What the client said of itself when it started.
    pub vars: BTreeMap<String, String>,
    /// Its peer, while it has one.
    pub peer: Option<PeerId>,
    /// The door of its present or last peer.
    pub door: Door,
    /// Where its present or last peer comes from.
    pub address: IpAddr,
    /// The frame in which it began.
    pub started: u64,
    /// The frame in which its player last did something: room data or a call, and no mere heartbeat.
    pub last_input: u64,
    /// The frame of the last thing heard from it, heartbeats included.
    pub last_heard: u64,
    /// Since which frame it has no peer.
    pub lost_since: Option<u64>,
    /// The round trip that the client measured last, in microseconds; 0: unknown.
    pub rtt_us: u32,
    /// It is ending, for this reason.
    pub ending: Option<FaultKind>,
}

/// What a session holds beside what others may see.
#[derive(Component, Debug, Default)]
pub(crate) struct SessionState {
    pub(crate) resume_token: [u8; 16],
    /// The token before: good until something is heard on the peer that was given the new one, since
    /// that peer may be lost before the client knows of it.
    pub(crate) former_token: Option<[u8; 16]>,
    /// The peer that was lost last: what it brought in the frame in which it went still counts.
    pub(crate) lost_peer: Option<PeerId>,
    /// After a resume: bytes that the client may send again without its rate limit, until a frame.
    pub(crate) replay_credit: (usize, u64),
    /// Reliable messages received, by channel.
    pub(crate) received: Counts,
    /// Bytes received since the last acknowledgement went out.
    pub(crate) unacknowledged: usize,
    pub(crate) messages: Gcra,
    pub(crate) bytes: Gcra,
    /// Against messages without end: see `route`.
    pub(crate) flood: Gcra,
    pub(crate) flood_bytes: Gcra,
    /// Messages that could not be read.
    pub(crate) bad_messages: Gcra,
    /// The frame after which the client may be told of its rate limit again: telling is no amplifier.
    pub(crate) told_limited: u64,
}

/// A session's rooms by handle.
///
/// A handle comes again only after all others were used: data under way to a room that just ended must
/// not reach the room that was joined next.
#[derive(Component, Debug, Default)]
pub struct Handles {
    /// By handle. Beside the session and not behind it: every message looks here, and rooms are few.
    rows: SmallVec<[(u16, Entity); 2]>,
    next: u16,
}

impl Handles {
    /// The presence that the session calls by this handle.
    pub fn get(&self, handle: u16) -> Option<Entity> {
        self.find(handle).ok().and_then(|at| self.rows.get(at)).map(|(_, presence)| *presence)
    }

    /// Rooms that the session is in.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// In no room?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The next handle that is free. There always is one while fewer than 65,536 are taken.
    pub fn draw(&mut self) -> u16 {
        while self.find(self.next).is_ok() && self.rows.len() <= usize::from(u16::MAX) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        handle
    }

    /// Gives a handle to a presence.
    pub fn set(&mut self, handle: u16, presence: Entity) {
        match self.find(handle) {
            Ok(at) => {
                if let Some(row) = self.rows.get_mut(at) {
                    row.1 = presence;
                }
            }
            Err(at) => self.rows.insert(at, (handle, presence)),
        }
    }

    /// Takes a handle back.
    pub fn clear(&mut self, handle: u16) {
        if let Ok(at) = self.find(handle) {
            self.rows.remove(at);
        }
    }

    fn find(&self, handle: u16) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&handle, |(handle, _)| *handle)
    }
}

/// A transport connection.
#[derive(Component, Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Which door.
    pub door: Door,
    /// Where it comes from.
    pub address: IpAddr,
    /// The frame in which it opened.
    pub opened: u64,
    /// The session it carries.
    pub session: Option<SessionId>,
    /// Counts for its address: was it admitted?
    pub(crate) admitted: bool,
}

/// Sessions by id.
#[derive(Resource, Default, Debug)]
pub struct SessionIndex {
    pub(crate) slab: Slab,
    /// By slot.
    ids: Vec<Option<SessionId>>,
    len: usize,
    /// Sessions of a user, for the cap and for replacing.
    pub(crate) by_user: BTreeMap<String, Vec<SessionId>>,
    pub(crate) boot: u16,
    pub(crate) node: u8,
}

impl SessionIndex {
    /// The entity of a session.
    pub fn get(&self, id: SessionId) -> Option<Entity> {
        self.ids.get(id.slot() as usize).filter(|current| **current == Some(id))?;
        self.slab.get(id.slot())
    }

    /// The entity of the session in a slot.
    pub fn at(&self, slot: u32) -> Option<Entity> {
        self.slab.get(slot)
    }

    /// Sessions there are, held seats included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No sessions?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, Entity)> + '_ {
        self.ids.iter().flatten().filter_map(|id| Some((*id, self.slab.get(id.slot())?)))
    }

    pub(crate) fn reserve(&mut self, sessions_max: u32) -> Option<SessionId> {
        let (slot, generation) = self.slab.reserve(sessions_max.min(SessionId::SLOTS))?;
        let id = SessionId::new(slot, generation, self.boot, self.node);
        let at = slot as usize;
        if self.ids.len() <= at {
            self.ids.resize(at + 1, None);
        }
        *self.ids.get_mut(at)? = Some(id);
        self.len += 1;
        Some(id)
    }

    pub(crate) fn enter(&mut self, id: SessionId, entity: Entity, user: &str) {
        self.slab.set(id.slot(), entity);
        self.by_user.entry(user.to_owned()).or_default().push(id);
    }

    pub(crate) fn remove(&mut self, id: SessionId, user: &str) {
        if let Some(row) = self.ids.get_mut(id.slot() as usize)
            && *row == Some(id)
        {
            *row = None;
            self.len -= 1;
            self.slab.free(id.slot());
        }
        if let Some(sessions) = self.by_user.get_mut(user) {
            sessions.retain(|other| *other != id);
            if sessions.is_empty() {
                self.by_user.remove(user);
            }
        }
    }
}

/// Peers by id: the doors' slots, so a plain table.
#[derive(Resource, Default, Debug)]
pub(crate) struct PeerIndex {
    rows: Vec<Option<(PeerId, Entity)>>,
    pub(crate) len: usize,
}

impl PeerIndex {
    /// No door gives slots beyond this; an input that claims one is refused.
    const SLOTS_MAX: usize = 1 << 21;

    pub(crate) fn get(&self, id: PeerId) -> Option<Entity> {
        let (current, entity) = self.rows.get(id.slot as usize).copied().flatten()?;
        (current == id).then_some(entity)
    }

    /// May this id be entered? A door gives a slot again only after it said that its peer is gone.
    pub(crate) fn is_free(&self, id: PeerId) -> bool {
        let at = id.slot as usize;
        at < Self::SLOTS_MAX && self.rows.get(at).is_none_or(Option::is_none)
    }

    /// Enters a peer whose place [is free](PeerIndex::is_free).
    pub(crate) fn insert(&mut self, id: PeerId, entity: Entity) {
        if !self.is_free(id) {
            return;
        }
        let at = id.slot as usize;
        if self.rows.len() <= at {
            self.rows.resize(at + 1, None);
        }
        if let Some(row) = self.rows.get_mut(at) {
            *row = Some((id, entity));
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Entity> {
        let entity = self.get(id)?;
        if let Some(row) = self.rows.get_mut(id.slot as usize) {
            *row = None;
            self.len -= 1;
        }
        while self.rows.last().is_some_and(Option::is_none) {
            self.rows.pop();
        }
        Some(entity)
    }
}

/// Sends a message that is not counted, at once and before anything that waits in the keep.
pub(crate) fn send_now(world: &mut World, peer: PeerId, message: &Outbound) {
    let encoded = {
        let ops = world.resource::<Ops>();
        let Some(codec) = world.get_resource::<SessionCodec>() else { return };
        codec.0.encode(message, &ops.0).map(|encoded| (codec.0.head(&encoded, 0), encoded))
    };
    match encoded {
        Ok((head, encoded)) => {
            let send = Send { peer, channel: Channel::Control, seq: 0, head, body: encoded.body };
            world.resource_mut::<FrameOutputs>().0.sends.push(send);
        }
        Err(fault) => tracing::error!(%fault, "a message of the server itself cannot be encoded"),
    }
}

/// Closes a peer after what was sent to it, and forgets it.
pub(crate) fn close_peer(world: &mut World, id: PeerId, kind: Option<FaultKind>) {
    let close = Close {
        peer: id,
        code: kind.map_or(0, FaultKind::code),
        reason: kind.map_or("bye", FaultKind::word),
    };
    world.resource_mut::<FrameOutputs>().0.closes.push(close);
    forget_peer(world, id);
}

/// Forgets a peer that its door has closed.
pub(crate) fn forget_peer(world: &mut World, id: PeerId) -> Option<Peer> {
    let entity = world.resource_mut::<PeerIndex>().remove(id)?;
    let peer = world.entity_mut(entity).take::<Peer>();
    world.despawn(entity);
    world.resource_mut::<Deadlines>().forget(DeadlineOf::Peer(id));
    if let Some(peer) = peer.as_ref().filter(|peer| peer.admitted) {
        world.resource_mut::<Addresses>().close(peer.address);
    }
    peer
}

/// Begins the end of a session: the client is told and its peer closed; rooms hear of it in the next
/// Match stage that begins, and after that the session is gone. A second call changes nothing.
///
/// `fault` is why; `None` means that the client said goodbye.
pub fn end_session(world: &mut World, id: SessionId, fault: Option<Fault>) -> bool {
    let Some(entity) = world.resource::<SessionIndex>().get(id) else { return false };
    let Some(mut session) = world.get_mut::<Session>(entity) else { return false };
    if session.ending.is_some() {
        return false;
    }
    // A goodbye has no fault number; what rooms and logs are told is that the session left.
    let kind = fault.as_ref().map(|fault| fault.kind);
    session.ending = Some(kind.unwrap_or(FaultKind::SessionGone));
    let peer = session.peer.take();
    let reason = kind.map_or("left", leave_word);
    world.resource_mut::<SessionFacts>().news.ending.push((id, reason));
    let clock = world.resource::<Clock>();
    clock.wake_at(clock.frame() + 1);
    if let Some(peer) = peer {
        flush_one(world, entity, peer);
        if let Some(fault) = fault {
            send_now(world, peer, &Outbound::Ended(fault));
        }
        close_peer(world, peer, kind);
    }
    true
}

/// What the other members of a room are told of a session that ends for this fault.
fn leave_word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::TimedOut => "disconnected",
        kind => kind.word(),
    }
}

/// Hands what a session's keep still holds to its peer.
fn flush_one(world: &mut World, entity: Entity, peer: PeerId) {
    let mut sends = Vec::new();
    if let Some(mut resend) = world.get_mut::<ResendBuffer>(entity) {
        resend.hand_over(peer, &mut sends);
    }
    world.resource_mut::<FrameOutputs>().0.sends.append(&mut sends);
}

/// A session lost its peer: its seats are held, or it ends when they are not.
pub(crate) fn lose_peer(world: &mut World, id: SessionId, seat_frames: u64) {
    let Some(entity) = world.resource::<SessionIndex>().get(id) else { return };
    let frame = world.resource::<Clock>().frame();
    let Some(mut session) = world.get_mut::<Session>(entity) else { return };
    let peer = session.peer.take();
    session.lost_since = Some(frame);
    if let Some(mut state) = world.get_mut::<SessionState>(entity) {
        state.lost_peer = peer;
    }
    if seat_frames == 0 {
        end_session(world, id, Some(FaultKind::TimedOut.into()));
        return;
    }
    world.resource_mut::<SessionFacts>().news.connections.push((id, 0));
    world.resource_mut::<Deadlines>().add(DeadlineOf::Session(id), frame + seat_frames);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_go_in_a_circle_and_are_found_while_they_are_taken() {
        let mut handles = Handles::default();
        let presence = Entity::PLACEHOLDER;
        for expected in 0..3 {
            let handle = handles.draw();
            assert_eq!(handle, expected);
            handles.set(handle, presence);
        }
        handles.clear(1);
        handles.clear(1);
        assert_eq!((handles.get(0), handles.get(1), handles.len()), (Some(presence), None, 2));
        for _ in 3..=u16::MAX {
            let handle = handles.draw();
            assert_eq!(handles.get(handle), None, "{handle} is not given again before all others were");
        }
        assert_eq!(handles.draw(), 1, "0 and 2 are still taken");
    }

    #[test]
    fn a_session_is_found_by_its_id_and_by_no_former_one_of_its_slot() {
        let mut index = SessionIndex::default();
        let first = index.reserve(1).expect("a place");
        index.enter(first, Entity::PLACEHOLDER, "ada");
        assert_eq!(index.reserve(1), None);
        index.remove(first, "ada");
        index.remove(first, "ada");
        assert!(index.is_empty() && index.by_user.is_empty());
        let second = index.reserve(1).expect("a place");
        index.enter(second, Entity::PLACEHOLDER, "bob");
        assert_eq!((first.slot(), index.get(first), index.len()), (second.slot(), None, 1));
        assert_eq!(index.iter().map(|(id, _)| id).collect::<Vec<_>>(), [second]);
    }
}
