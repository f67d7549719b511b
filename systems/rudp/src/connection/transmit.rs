//! What goes out next, in one datagram.

use std::{mem, net::SocketAddr};

use super::{Connection, Stage, migration::SILENCE_PING_BYTES};
use crate::{
    keys::Side,
    packet::{DATAGRAM_BYTES_BASE, Writer},
    pool::Pool,
    send::PathState,
    timer::Micros,
};

/// What the next packet may hold.
struct Plan {
    /// Bytes of its datagram.
    bytes_max: usize,
    is_probe: bool,
    /// Whether messages may be in it.
    may_send: bool,
}

impl Connection {
    /// Fills `out` with one datagram, if there is one to send now. Returns where to.
    pub(crate) fn transmit(&mut self, now: Micros, out: &mut Vec<u8>, pool: &mut Pool) -> Option<SocketAddr> {
        self.is_asking = false;
        let mut to = self.path.proven();
        let sent = match &mut self.stage {
            Stage::Dialing(dial) => dial.transmit(now, out),
            Stage::HalfOpen(_) => self.transmit_accept(now, out),
            Stage::Open => {
                if let Some(challenged) = self.transmit_challenge(out) {
                    to = challenged;
                    true
                } else {
                    to = self.path.target();
                    self.transmit_packet(now, out, pool) || self.transmit_mtu_probe(now, out)
                }
            }
        };
        if !sent {
            return None;
        }
        self.path.on_sent(to, out.len());
        self.last_out = now;
        self.counts.packets_out += 1;
        self.counts.bytes_out += out.len() as u64;
        Some(to)
    }

    fn transmit_accept(&mut self, now: Micros, out: &mut Vec<u8>) -> bool {
        let Some(accept) = self.accept.as_mut().filter(|accept| accept.is_due) else { return false };
        accept.is_due = false;
        if accept.sent == 0 {
            accept.sent_at = now;
        }
        accept.sent = accept.sent.saturating_add(1);
        out.clear();
        out.extend_from_slice(&accept.bytes);
        true
    }

    fn transmit_packet(&mut self, now: Micros, out: &mut Vec<u8>, pool: &mut Pool) -> bool {
        let Some(plan) = self.plan_packet(now, pool) else {
            self.sending.end_round();
            return false;
        };
        let Some(keys) = &mut self.keys else { return false };
        let number = self.recovery.next_number();
        let acked = self.recovery.largest_acked();
        // Before the ping is written: the first packet of a new phase asks for an acknowledgement, or the next change
        // would never come.
        self.ping_due |= keys.change(number, acked) || keys.must_ask(number, acked);
        let ack = if self.received.should_ride(now) { self.received.take_ack(now) } else { None };
        let pieces_at = self.recovery.pieces_end();
        let connection = (self.side == Side::Connector).then_some(self.wire_id);
        let mut writer = Writer::new(out, connection, number, acked, ack.as_ref()).within(plan.bytes_max);
        // Before the messages, which would leave no room for answers: the other side's trial waits for these.
        let mut has_answer = false;
        while let Some(answer) = self.path.pop_answer() {
            has_answer |= writer.answer(&answer);
        }
        if plan.may_send {
            self.sending.fill(now, number, &mut writer, self.recovery.refs(), pool);
        }
        // After the messages, which ask for an acknowledgement themselves.
        if (plan.is_probe || self.ping_due) && !writer.eliciting {
            writer.ping();
            if mem::take(&mut self.silence.is_ping) {
                writer.pad(SILENCE_PING_BYTES);
            }
        }
        if writer.cramped && !plan.is_probe {
            self.mtu.want();
        }
        let eliciting = writer.eliciting;
        if !eliciting && !has_answer && ack.is_none() {
            // Nothing that wanted to leave fits into what an address on trial may be sent.
            self.sending.forgo_repeats(now);
            self.sending.end_round();
            return false;
        }
        keys.seal(number, writer.finish());
        if eliciting {
            self.probes = self.probes.saturating_sub(1);
            self.ping_due = false;
            self.recovery.on_sent(now, out.len(), pieces_at, ack.map(|ack| ack.largest));
        } else {
            self.recovery.on_sent_unrecorded();
        }
        true
    }

    /// What the next packet may hold; `None` if none is to leave now.
    ///
    /// Each step needs the one before. Losses hand back messages to send, and a black hole among them makes the packet
    /// shorter. Messages that are too old are dropped before anything asks whether one waits. Window and pacer are
    /// asked only if one does, and repeats only once it is known whether messages may be sent.
    fn plan_packet(&mut self, now: Micros, pool: &mut Pool) -> Option<Plan> {
        if self.recovery.is_unjudged() {
            self.recovery.judge(now, &mut self.sending);
        }
        self.check_black_hole(now);
        let bytes_max = self.packet_bytes();
        let path = PathState {
            loss_ppm: self.recovery.loss_ppm(),
            limited: self.recovery.is_limited(),
            window_bytes: self.recovery.window_bytes(),
            rtt: self.recovery.rtt.smoothed(),
        };
        self.sending.begin(now, path, pool);
        if bytes_max == 0 {
            // Messages for an address on trial now wait for its proof, and not for the pacer.
            self.sending.forgo_repeats(now);
            self.recovery.on_nothing_to_send();
            return None;
        }
        let is_probe = self.probes > 0;
        let has_pending = self.sending.has_pending();
        let has_room = if has_pending { self.recovery.may_send(now) } else { self.recovery.on_drained() };
        let may_send = has_room || is_probe;
        let wants_repeat = self.sending.wants_repeat(now, may_send);
        let wants_send =
            is_probe || self.ping_due || self.path.has_answers() || wants_repeat || (may_send && has_pending);
        // A probe finds out why nothing comes back: it must not get lost because of its size.
        let bytes_max = if is_probe { bytes_max.min(DATAGRAM_BYTES_BASE) } else { bytes_max };
        (wants_send || self.received.is_due(now)).then_some(Plan { bytes_max, is_probe, may_send })
    }

    /// After a datagram was sent: whether another `transmit` would send nothing, as is so after most datagrams. If so,
    /// it does what that call would have done.
    pub(crate) fn is_done(&mut self, now: Micros) -> bool {
        let is_quiet = matches!(self.stage, Stage::Open)
            && self.probes == 0
            && !self.ping_due
            && !self.path.is_on_trial()
            && !self.path.has_answers()
            && !self.mtu.is_wanted()
            && !self.received.is_due(now)
            && !self.recovery.is_unjudged()
            && !self.sending.may_repeat();
        if !is_quiet || self.sending.has_pending() {
            return false;
        }
        self.recovery.on_drained();
        self.sending.end_round();
        true
    }
}
