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
        if self.recovery.is_unjudged() {
            self.recovery.judge(now, &mut self.sending);
        }
        self.check_black_hole(now);
        let bytes = self.packet_bytes();
        let path = PathState {
            loss_ppm: self.recovery.loss_ppm(),
            limited: self.recovery.is_limited(),
            window_bytes: self.recovery.window_bytes(),
            rtt: self.recovery.rtt.smoothed(),
        };
        self.sending.begin(now, path, pool);
        let is_probe = self.probes > 0;
        // What an address on trial may not be sent waits for its proof and not for the pacer's time.
        let has_pending = bytes > 0 && self.sending.has_pending();
        let may_send = bytes > 0 && (self.recovery.may_send(now, has_pending) || is_probe);
        let wants_repeat = self.sending.wants_repeat(now, may_send);
        let wants_send =
            is_probe || self.ping_due || self.path.has_answers() || wants_repeat || (may_send && has_pending);
        if bytes == 0 {
            self.recovery.on_nothing_to_send();
        }
        if bytes == 0 || (!wants_send && !self.received.is_due(now)) {
            self.sending.end_round();
            return false;
        }
        let Some(keys) = &mut self.keys else { return false };
        let number = self.recovery.next_number();
        // The first packet of a new phase asks for an acknowledgement, or the next change would never come.
        let acked = self.recovery.largest_acked();
        self.ping_due |= keys.change(number, acked) || keys.must_ask(number, acked);
        let ack = if self.received.should_ride(now) { self.received.take_ack(now) } else { None };
        let refs_at = self.recovery.refs_end();
        let connection = (self.side == Side::Connector).then_some(self.wire_id);
        // What is sent to find out why nothing comes back must not be lost to its size.
        let bytes = if is_probe { bytes.min(DATAGRAM_BYTES_BASE) } else { bytes };
        let mut writer =
            Writer::new(out, connection, number, self.recovery.largest_acked(), ack.as_ref()).within(bytes);
        let mut has_answer = false;
        while let Some(answer) = self.path.pop_answer() {
            has_answer |= writer.answer(&answer);
        }
        if may_send {
            self.sending.fill(now, number, &mut writer, self.recovery.refs(), pool);
        }
        if (is_probe || self.ping_due) && !writer.eliciting {
            writer.ping();
            if mem::take(&mut self.silence.is_ping) {
                writer.pad(SILENCE_PING_BYTES);
            }
        }
        if writer.cramped && !is_probe {
            self.mtu.want();
        }
        let eliciting = writer.eliciting;
        if !eliciting && !has_answer && ack.is_none() {
            // An address on trial may not be sent so much.
            self.sending.forgo_repeats(now);
            self.sending.end_round();
            return false;
        }
        keys.seal(number, writer.finish());
        if eliciting {
            self.probes = self.probes.saturating_sub(1);
            self.ping_due = false;
            self.recovery.on_sent(now, out.len(), refs_at, ack.map(|ack| ack.largest));
        } else {
            self.recovery.on_sent_unrecorded();
        }
        true
    }

    /// After a datagram left: whether another `transmit` would send nothing, which holds for most datagrams. Then it does
    /// what that call would have done.
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
        self.recovery.may_send(now, false);
        self.sending.end_round();
        true
    }
}
