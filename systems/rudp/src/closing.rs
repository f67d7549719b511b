//! What is left of a connection that this side closed, the closing state of RFC 9000, section 10.2.1: three copies of
//! the close, then nothing.
//!
//! The first copy leaves at once, the others half a probe time-out and a whole one later. Packets that still arrive
//! are answered with another copy, so that a peer whose link lost all three learns of the end from its next packet.

use std::{net::SocketAddr, time::Duration};

use crate::{
    keys::Keys,
    packet::{Header, Writer},
    path::ALLOWANCE_FACTOR,
    timer::Micros,
};

const COPIES: u32 = 3;
/// Answers to late packets, on top of the copies.
const ANSWERS_MAX: u32 = 8;

/// See the module.
pub(crate) struct Closing {
    pub(crate) addr: SocketAddr,
    /// Bytes that `addr` may still be sent, if it has not proved that it receives.
    pub(crate) allowance: usize,
    /// The connection id on the wire. The connector sends it; at the acceptor the connection is found by it.
    pub(crate) connection: u32,
    pub(crate) sends_id: bool,
    pub(crate) keys: Keys,
    pub(crate) next_number: u64,
    pub(crate) largest_acked: Option<u64>,
    /// The number against which the next packet from the other side is decoded.
    pub(crate) expected: u64,
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) started: Micros,
    /// The connection's probe time-out, in microseconds.
    pub(crate) pto_us: u64,
    pub(crate) copies_sent: u32,
    pub(crate) answers: u32,
    pub(crate) is_due: bool,
}

impl Closing {
    pub(crate) fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.is_due {
            return false;
        }
        self.is_due = false;
        let connection = self.sends_id.then_some(self.connection);
        let mut writer = Writer::new(out, connection, self.next_number, self.largest_acked, None);
        writer.close(self.code, &self.reason);
        self.keys.seal(self.next_number, writer.finish());
        self.next_number += 1;
        if self.allowance < out.len() {
            return false;
        }
        self.allowance -= out.len();
        true
    }

    /// A packet from the other side. Only genuine packets are answered, or a forged source would be sent more than it
    /// sent. Answers follow the newest packet to where it came from, with at most three times its bytes.
    pub(crate) fn on_packet(&mut self, now: Micros, from: SocketAddr, header: &Header, datagram: &mut [u8]) {
        let number = header.number(self.expected);
        let overtaken = Duration::from_micros(self.pto_us.saturating_mul(3));
        let allowance = datagram.len() * ALLOWANCE_FACTOR;
        if self.answers == ANSWERS_MAX || self.keys.open(now, overtaken, header, number, datagram).is_err() {
            return;
        }
        if from == self.addr {
            self.allowance = self.allowance.saturating_add(allowance);
        } else if number >= self.expected {
            (self.addr, self.allowance) = (from, allowance);
        } else {
            return;
        }
        self.expected = self.expected.max(number.saturating_add(1));
        self.answers += 1;
        self.is_due = true;
    }

    pub(crate) fn deadline(&self) -> Micros {
        let half_ptos = if self.copies_sent < COPIES { u64::from(self.copies_sent) } else { 6 };
        Micros(self.started.0 + self.pto_us * half_ptos / 2)
    }

    /// Returns whether it is over.
    pub(crate) fn on_timeout(&mut self, now: Micros) -> bool {
        if self.deadline() > now {
            return false;
        }
        if self.copies_sent == COPIES {
            return true;
        }
        self.copies_sent += 1;
        self.is_due = true;
        false
    }
}
