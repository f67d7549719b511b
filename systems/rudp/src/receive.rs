//! The receiving half of the channels: order, duplicates, reassembly, and the bounds of all that.

mod ordered;
mod parts;
#[cfg(test)]
mod tests;
mod unordered;
mod unreliable;

use self::{ordered::Ordered, unordered::Unordered, unreliable::Unreliable};
use crate::{
    channel::{CHANNELS_MAX, Channel, ChannelKind},
    config::Config,
    error::Violation,
    events::Events,
    peer_id::PeerId,
    pool::Pool,
    timer::{Micros, NEVER},
};

/// What a held piece costs besides its bytes, so that tiny ones are not free.
const PIECE_COST: usize = 64;
/// What a place for a message or a fragment costs, filled or empty.
const SLOT_COST: usize = 32;
/// Ids further ahead than this are not taken in. A correct sender uses half as many.
const IDS_AHEAD_MAX: usize = 8192;
/// In the index of inboxes: no inbox.
const NONE: u8 = u8::MAX;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// Delivered, held, known already, or of no use: its packet may be acknowledged.
    Yes,
    /// No room: its packet must not be acknowledged, so that it comes again.
    No,
}

/// What an inbox may use while it takes in a frame: the bounds, the buffers, and the way to the application.
pub(crate) struct InboxContext<'a> {
    pub(crate) config: &'a Config,
    /// Whose frame it is, and for which channel.
    pub(crate) peer: PeerId,
    pub(crate) channel: Channel,
    pub(crate) events: &'a mut Events,
    pub(crate) pool: &'a mut Pool,
    /// Bytes held for this peer.
    pub(crate) peer_bytes: &'a mut usize,
    /// Bytes held for all peers of the endpoint.
    pub(crate) total_bytes: &'a mut usize,
    /// Counts unreliable messages that came too late or were never complete.
    pub(crate) stale: &'a mut u64,
}

/// Whether a channel can do without a piece for now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing else is delivered before it.
    Awaited,
    /// The sender repeats it, or it may be lost.
    Dispensable,
}

impl Need {
    fn awaited_if(is_next: bool) -> Need {
        if is_next { Need::Awaited } else { Need::Dispensable }
    }
}

impl InboxContext<'_> {
    /// Gives a whole message to the application.
    fn deliver(&mut self, bytes: Vec<u8>) {
        self.events.message(self.peer, self.channel, bytes);
    }

    /// Books `cost`, if there is room. What the channel waits for always gets in: refusing that would stop the channel
    /// for ever. A peer has its share whatever the others hold, or a few peers that never finish anything would starve
    /// all others.
    fn book(&mut self, cost: usize, need: Need) -> bool {
        let (peer, total) = (*self.peer_bytes + cost, *self.total_bytes + cost);
        let fits = peer <= self.config.reassembly_bytes_max
            && (total <= self.config.reassembly_bytes_total_max
                || peer <= self.config.reassembly_bytes_share);
        let is_booked = fits || need == Need::Awaited;
        if is_booked {
            (*self.peer_bytes, *self.total_bytes) = (peer, total);
        }
        is_booked
    }

    fn give_back(&mut self, cost: usize) {
        *self.peer_bytes -= cost;
        *self.total_bytes -= cost;
    }
}

/// A fragment as it stands in its frame.
#[derive(Clone, Copy)]
pub(crate) struct Fragment<'a> {
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

/// All channels of one connection.
pub(crate) struct Receiving {
    /// Of the channels that were used.
    inboxes: Vec<Inbox>,
    /// Where the inbox of each channel is.
    index: [u8; CHANNELS_MAX],
}

/// What one channel has received and not delivered yet.
pub(crate) enum Inbox {
    Unreliable(Unreliable),
    Unordered(Unordered),
    Ordered(Ordered),
}

impl Receiving {
    pub(crate) fn new() -> Receiving {
        Receiving { inboxes: Vec::new(), index: [NONE; CHANNELS_MAX] }
    }

    /// The inbox of a channel, which is made if there is none yet.
    pub(crate) fn inbox(&mut self, config: &Config, channel: Channel) -> Result<&mut Inbox, Violation> {
        let at = &mut self.index[channel.index()];
        if *at == NONE {
            let known = config.channels.get(channel).ok_or(Violation::BadChannel(channel.number()))?;
            *at = self.inboxes.len() as u8;
            self.inboxes.push(match known.kind {
                ChannelKind::Unreliable | ChannelKind::Sequenced => {
                    Inbox::Unreliable(Unreliable::new(known.kind))
                }
                ChannelKind::Unordered => Inbox::Unordered(Unordered::default()),
                ChannelKind::Ordered => Inbox::Ordered(Ordered::default()),
            });
        }
        Ok(&mut self.inboxes[usize::from(*at)])
    }

    /// Nothing came for a long time: gives back what is not in use.
    pub(crate) fn rest(&mut self) {
        for inbox in &mut self.inboxes {
            match inbox {
                Inbox::Unreliable(inbox) => inbox.rest(),
                Inbox::Unordered(inbox) => inbox.rest(),
                Inbox::Ordered(inbox) => inbox.rest(),
            }
        }
        self.inboxes.shrink_to_fit();
    }

    /// When incomplete unreliable messages are given up next.
    pub(crate) fn deadline(&self) -> Micros {
        let deadlines = self.inboxes.iter().filter_map(|inbox| match inbox {
            Inbox::Unreliable(inbox) => inbox.deadline(),
            Inbox::Unordered(_) | Inbox::Ordered(_) => None,
        });
        deadlines.min().unwrap_or(NEVER)
    }

    /// Gives up incomplete unreliable messages whose time is over. Returns how many, and what they cost.
    pub(crate) fn on_timeout(&mut self, now: Micros) -> (u64, usize) {
        let (mut count, mut cost) = (0, 0);
        for inbox in &mut self.inboxes {
            if let Inbox::Unreliable(inbox) = inbox {
                let (more, freed) = inbox.on_timeout(now);
                (count, cost) = (count + more, cost + freed);
            }
        }
        (count, cost)
    }
}

impl Inbox {
    pub(crate) fn is_reliable(&self) -> bool {
        !matches!(self, Inbox::Unreliable(_))
    }

    /// A whole message came in.
    #[inline]
    pub(crate) fn message(
        &mut self,
        id: u16,
        bytes: &[u8],
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        if bytes.len() > cx.config.message_bytes_max {
            return Err(Violation::TooLarge(cx.config.message_bytes_max));
        }
        match self {
            Inbox::Unreliable(inbox) => Ok(inbox.message(id, bytes, cx)),
            Inbox::Unordered(inbox) => inbox.place(id).map_or_else(Ok, |id| inbox.message(id, bytes, cx)),
            Inbox::Ordered(inbox) => inbox.place(id).map_or_else(Ok, |at| inbox.message(at, bytes, cx)),
        }
    }

    /// A fragment came in.
    pub(crate) fn fragment(
        &mut self,
        now: Micros,
        id: u16,
        fragment: Fragment<'_>,
        cx: &mut InboxContext<'_>,
    ) -> Result<Taken, Violation> {
        parts::check(&fragment, self.is_reliable(), cx.config)?;
        match self {
            Inbox::Unreliable(inbox) => inbox.fragment(now, id, fragment, cx),
            Inbox::Unordered(inbox) => inbox.place(id).map_or_else(Ok, |id| inbox.fragment(id, fragment, cx)),
            Inbox::Ordered(inbox) => inbox.place(id).map_or_else(Ok, |at| inbox.fragment(at, fragment, cx)),
        }
    }

    /// The sender gave a message up.
    pub(crate) fn skip(&mut self, id: u16, cx: &mut InboxContext<'_>) -> Result<Taken, Violation> {
        match self {
            Inbox::Unreliable(_) => Err(Violation::BadChannel(cx.channel.number())),
            Inbox::Unordered(inbox) => {
                Ok(inbox.place(id).map_or_else(|taken| taken, |id| inbox.skip(id, cx)))
            }
            Inbox::Ordered(inbox) => Ok(inbox.place(id).map_or_else(|taken| taken, |at| inbox.skip(at, cx))),
        }
    }
}

/// How far after `next` an id on the wire lies. If it is known already, or further ahead than any correct sender goes,
/// the error says what becomes of its frame.
fn place(id: u16, next: u64) -> Result<usize, Taken> {
    match id.wrapping_sub(next as u16) as i16 {
        ..0 => Err(Taken::Yes),
        distance if (distance as usize) < IDS_AHEAD_MAX => Ok(distance as usize),
        _ => Err(Taken::No),
    }
}
