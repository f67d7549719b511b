//! Packets that come in: opened first, then their acknowledgement and their frames.

use std::{net::SocketAddr, time::Duration};

use super::{Accepting, Connection, Context, Ending, Stage};
use crate::{
    ack::{Ack, Arrival},
    coding::Reader,
    error::{CloseReason, Violation, code},
    events::Event,
    handshake,
    keys::NUMBER_END,
    packet::{Frame, Header},
    receive::{Budget, Fragment, Taken},
    timer::Micros,
};

/// A genuine packet: its number is fresh and it opened.
pub(crate) struct Genuine<'a> {
    number: u64,
    /// Higher than all before.
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
        // Three probe time-outs: after these a packet that was overtaken has long been sent again.
        let opened = if is_fresh {
            keys.open_with(now, || self.recovery.pto() * 3, header, number, datagram).ok()
        } else {
            None
        };
        self.counts.rejected += u64::from(opened.is_none());
        let is_newest = number >= expected;
        Some(Genuine { number, is_newest, has_ack: header.has_ack, frames: opened?, bytes })
    }

    /// The end, if the keys must not be used any longer.
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

    fn on_frames(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Ending>, Violation> {
        let mut reader = Reader::new(packet.frames);
        if packet.has_ack {
            let ack = Ack::decode(&mut reader)?;
            self.on_ack_of_probe(&ack);
            if let Some(known) = self.recovery.on_ack(now, &ack, &mut self.sending, cx.pool)? {
                self.received.ack_was_seen(known);
            }
        }
        let (mut eliciting, mut reliable, mut taken) = (false, false, Taken::Yes);
        let peer = self.id;
        while let Some(frame) = Frame::next(&mut reader)? {
            eliciting |= !matches!(frame, Frame::Challenge(_) | Frame::Answer(_));
            let mut budget = Budget {
                config: cx.config,
                peer: &mut self.reassembly,
                total: cx.reassembly_total,
                pool: cx.pool,
                stale: &mut self.counts.stale,
            };

            let result = match frame {
                Frame::Ping => Taken::Yes,
                Frame::Challenge(challenge) => {
                    self.path.on_challenge(from, challenge);
                    Taken::Yes
                }
                Frame::Answer(answer) => {
                    self.on_answer(from, &answer, cx.config);
                    Taken::Yes
                }
                Frame::Close { code, reason } => {
                    let reason = handshake::reason_text(reason);
                    return Ok(Some(Ending::Quiet(CloseReason::Remote { code, reason })));
                }
                Frame::Message { channel, id, bytes } => {
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    reliable |= inbox.is_reliable();
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.message(id, bytes, &mut budget, deliver)?
                }
                Frame::Fragment { channel, id, index, count, bytes } => {
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    reliable |= inbox.is_reliable();
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.fragment(now, id, Fragment { index, count, bytes }, &mut budget, deliver)?
                }
                Frame::Skip { channel, id } => {
                    reliable = true;
                    let inbox = self.receiving.inbox(cx.config, channel)?;
                    let deliver = |bytes| cx.events.message(peer, channel, bytes);
                    inbox.skip(channel, id, &mut budget, deliver)?
                }
            };
            if result == Taken::No {
                taken = Taken::No;
            }
        }
        if taken == Taken::Yes {
            self.received.insert(now, packet.number, eliciting, reliable, cx.config.ack_delay_max);
        } else {
            self.received.refuse(packet.number);
        }
        Ok(None)
    }
}
