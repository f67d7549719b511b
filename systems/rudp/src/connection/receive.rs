//! Packets that come in: they are opened, then their acknowledgement and their frames are taken in.

use std::{net::SocketAddr, time::Duration};

use super::{Accepting, Connection, Context, Ending, Stage};
use crate::{
    ack::{Ack, Arrival, Content},
    channel::Channel,
    coding::Reader,
    error::{CloseReason, Violation, code},
    events::Event,
    handshake,
    keys::NUMBER_END,
    packet::{Frame, Header},
    receive::{Fragment, Inbox, InboxContext, Taken},
    timer::Micros,
};

/// A genuine packet: its number is new, and it opened.
pub(crate) struct Genuine<'a> {
    number: u64,
    /// Its number is higher than all before.
    pub(super) is_newest: bool,
    has_ack: bool,
    frames: &'a [u8],
    pub(super) bytes: usize,
}

impl Connection {
    /// Checks the number and decrypts. What does not open changes nothing but a counter.
    pub(crate) fn open<'a>(
        &mut self,
        now: Micros,
        header: &Header,
        datagram: &'a mut [u8],
    ) -> Option<Genuine<'a>> {
        let keys = self.keys.as_mut()?;
        let expected = self.received.expected();
        let number = header.number(expected);
        let bytes = datagram.len();
        let is_fresh = number < NUMBER_END && self.received.arrival(number) == Arrival::Fresh;
        // After three probe time-outs, what a late packet held has long been sent again.
        let opened = if is_fresh {
            keys.open_with(now, || self.recovery.pto() * 3, header, number, datagram).ok()
        } else {
            None
        };
        self.counts.rejected += u64::from(opened.is_none());
        let is_newest = number >= expected;
        Some(Genuine { number, is_newest, has_ack: header.has_ack, frames: opened?, bytes })
    }

    /// The end of the connection, if the keys must not be used any longer.
    pub(crate) fn worn(&self) -> Option<Ending> {
        let is_worn = self.keys.as_ref()?.are_worn(self.recovery.next_number());
        is_worn.then(|| Ending::Tell {
            code: code::KEYS_WORN,
            text: CloseReason::KeysWorn.to_string(),
            reason: CloseReason::KeysWorn,
        })
    }

    /// The first packet of a half-open connection: it is open now.
    pub(crate) fn confirm(&mut self, now: Micros) {
        self.stage = Stage::Open;
        if let Some(Accepting { sent_at, sent: 1, .. }) = self.accept.take().as_deref() {
            self.recovery.rtt.update(now, now - *sent_at, Duration::ZERO);
        }
    }

    /// A genuine packet came from `from`.
    pub(crate) fn on_packet(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Ending> {
        self.silence.on_packet(now - self.last_in);
        self.last_in = now;
        self.counts.packets_in += 1;
        self.counts.bytes_in += packet.bytes as u64;
        match self.on_frames(now, from, packet, cx) {
            Ok(None) => {}
            Ok(ending) => return ending,
            Err(violation) => return Some(Ending::violation(violation)),
        }
        if self.flush.is_some() {
            return self.flushed();
        }
        if self.sending.take_writable(cx.config) {
            cx.events.push(Event::Writable { peer: self.id });
        }
        None
    }

    /// Takes in the acknowledgement, then the frames in their order. If any of it found no room, the packet is not
    /// acknowledged, so that all of it comes again; the ids then tell what was taken already.
    fn on_frames(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Ending>, Violation> {
        let mut reader = Reader::new(packet.frames);
        if packet.has_ack {
            self.on_ack(now, &Ack::decode(&mut reader)?, cx)?;
        }
        let (mut content, mut taken) = (Content::NotEliciting, Taken::Yes);
        while let Some(frame) = Frame::next(&mut reader)? {
            let (kind, result) = match frame {
                Frame::Ping => (Content::Unreliable, Taken::Yes),
                Frame::Challenge(challenge) => {
                    self.path.on_challenge(from, challenge);
                    (Content::NotEliciting, Taken::Yes)
                }
                Frame::Answer(answer) => {
                    self.on_answer(from, &answer, cx.config);
                    (Content::NotEliciting, Taken::Yes)
                }
                Frame::Close { code, reason } => {
                    let reason = handshake::reason_text(reason);
                    return Ok(Some(Ending::Quiet(CloseReason::Remote { code, reason })));
                }
                Frame::Message { channel, id, bytes } => {
                    self.on_channel(channel, cx, |inbox, cx| inbox.message(id, bytes, cx))?
                }
                Frame::Fragment { channel, id, index, count, bytes } => {
                    let fragment = Fragment { index, count, bytes };
                    self.on_channel(channel, cx, |inbox, cx| inbox.fragment(now, id, fragment, cx))?
                }
                Frame::Skip { channel, id } => {
                    self.on_channel(channel, cx, |inbox, cx| inbox.skip(id, cx))?
                }
            };
            content = content.max(kind);
            if result == Taken::No {
                taken = Taken::No;
            }
        }
        match taken {
            Taken::Yes => self.received.insert(now, packet.number, content, cx.config.ack_delay_max),
            Taken::No => self.received.refuse(packet.number),
        }
        Ok(None)
    }

    fn on_ack(&mut self, now: Micros, ack: &Ack, cx: &mut Context<'_>) -> Result<(), Violation> {
        self.on_ack_of_probe(ack);
        if let Some(known) = self.recovery.on_ack(now, ack, &mut self.sending, cx.pool)? {
            self.received.ack_was_seen(known);
        }
        Ok(())
    }

    /// A frame for a channel came in: `take` gives it to the channel's inbox.
    fn on_channel(
        &mut self,
        channel: Channel,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Inbox, &mut InboxContext<'_>) -> Result<Taken, Violation>,
    ) -> Result<(Content, Taken), Violation> {
        let inbox = self.receiving.inbox(cx.config, channel)?;
        let content = if inbox.is_reliable() { Content::Reliable } else { Content::Unreliable };
        let mut cx = InboxContext {
            config: cx.config,
            peer: self.id,
            channel,
            events: cx.events,
            pool: cx.pool,
            peer_bytes: &mut self.reassembly,
            total_bytes: cx.reassembly_total,
            stale: &mut self.counts.stale,
        };
        Ok((content, take(inbox, &mut cx)?))
    }
}
