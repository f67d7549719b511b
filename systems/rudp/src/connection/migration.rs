//! What a change of path means for a connection: trials, challenges, datagram sizes, and the ping of a connector that
//! suddenly hears nothing.

use std::{mem, net::SocketAddr, time::Duration};

use super::{Connection, receive::Genuine};
use crate::{
    ack::{ACK_DELAY_UNRELIABLE, Ack},
    config::Config,
    keys::Side,
    mtu::Mtu,
    noise::TAG_BYTES,
    packet::Writer,
    path::{Challenge, Change},
    recovery::PathData,
    rtt::Rtt,
    timer::{Micros, NEVER},
};

/// Room for the longest header, acknowledgement and tag. With less, nothing is sent to an address on trial.
pub(super) const PACKET_BYTES_MIN: usize = 96;
/// Bytes of a datagram that holds only a challenge: header to a connector, frame, tag.
const CHALLENGE_PACKET_BYTES: usize = 1 + 4 + 1 + 8 + TAG_BYTES;
/// Bytes of the oldest messages under way that are sent again when packets begin to go elsewhere: perhaps nobody was
/// there to receive them.
const REPEAT_BYTES: usize = 4096;
/// Bytes of a ping after sudden silence: if it comes from a new address, three times as many may go back.
pub(super) const SILENCE_PING_BYTES: usize = 400;
/// Packets that must have come before they count as a stream, whose end is noticed.
const STREAM_PACKETS: u8 = 8;
/// Silence is this many times the longest recent gap.
const SILENCE_GAPS: u32 = 3;
const SILENCE_MIN: Duration = Duration::from_millis(50);
/// Packets with longer gaps are not a stream: the keepalive serves these.
const GAP_MAX: Duration = Duration::from_millis(250);
/// Packets closer than this left together.
const GAP_MIN: Duration = Duration::from_millis(1);

/// What is known of the proven path while an address with another IP is on trial.
pub(super) struct PreviousPath {
    data: PathData,
    mtu: Mtu,
}

/// Notices that a stream of packets broke off. A router that forgot a client's mapping silences the server, which
/// cannot mend that: only a packet from the client makes a new mapping and tells of it.
#[derive(Default)]
pub(super) struct Silence {
    /// The longest recent gap; each packet forgets an eighth of it.
    gap_us: u32,
    /// Packets since the last silence, up to `STREAM_PACKETS`.
    heard: u8,
    /// The next ping is padded.
    pub(super) is_ping: bool,
}

impl Silence {
    pub(super) fn on_packet(&mut self, gap: Duration) {
        if gap >= GAP_MIN {
            self.heard = (self.heard + 1).min(STREAM_PACKETS);
            let gap = gap.min(GAP_MAX * 2).as_micros() as u32;
            self.gap_us = gap.max(self.gap_us - self.gap_us / 8);
        }
    }

    fn deadline(&self, last_in: Micros) -> Option<Micros> {
        let gap = Duration::from_micros(self.gap_us.into());
        let is_stream = self.heard == STREAM_PACKETS && gap <= GAP_MAX;
        is_stream.then(|| last_in + (gap * SILENCE_GAPS).max(SILENCE_MIN))
    }
}

impl Connection {
    // ---- in ----

    /// A genuine packet came from `from`: at the acceptor, its peer may have moved.
    pub(crate) fn locate(
        &mut self,
        now: Micros,
        from: SocketAddr,
        packet: &Genuine<'_>,
        config: &Config,
        random: impl FnOnce() -> [u8; 32],
    ) {
        if self.side == Side::Connector || (from == self.path.proven() && !self.path.is_on_trial()) {
            return;
        }
        let mut pto = self.recovery.pto();
        if from.ip() != self.path.proven().ip() {
            // Nothing is known of that path.
            pto = pto.max(Rtt::default().pto(config.ack_delay_max));
        }
        match self.path.on_packet(now, from, packet.bytes, packet.is_newest, pto, random) {
            Change::Tried => {
                self.restore_previous_path();
                self.sending.repeat_oldest(REPEAT_BYTES);
                if self.path.target().ip() != self.path.proven().ip() {
                    self.begin_new_path(config);
                }
            }
            Change::Returned => {
                self.restore_previous_path();
                self.sending.repeat_oldest(REPEAT_BYTES);
            }
            Change::Refused => self.counts.moves_refused += 1,
            Change::Nothing | Change::Moved(_) => {}
        }
    }

    pub(super) fn on_answer(&mut self, from: SocketAddr, answer: &Challenge, config: &Config) {
        match self.path.on_answer(from, answer) {
            Change::Moved(old) => {
                self.counts.moves += 1;
                if old.ip() != from.ip() && self.previous_path.is_none() {
                    self.begin_new_path(config);
                }
                self.previous_path = None;
            }
            Change::Returned => {
                self.restore_previous_path();
                self.sending.repeat_oldest(REPEAT_BYTES);
            }
            _ => {}
        }
    }

    pub(super) fn on_ack_of_probe(&mut self, ack: &Ack) {
        if self.mtu.probe_number().is_some_and(|number| ack.contains(number)) {
            self.mtu.on_probe_acked();
        }
    }

    /// Begins anew with round trip, window and datagram size, since the path has another end, and keeps what is known
    /// of the previous path.
    fn begin_new_path(&mut self, config: &Config) {
        let mtu = Mtu::new(self.path.target().ip(), config.mtu_max);
        let mtu = mem::replace(&mut self.mtu, mtu);
        self.previous_path = Some(Box::new(PreviousPath { data: self.recovery.begin_path(config), mtu }));
    }

    fn restore_previous_path(&mut self) {
        if let Some(previous) = self.previous_path.take() {
            self.recovery.resume_path(previous.data);
            self.mtu = previous.mtu;
        }
    }

    // ---- time ----

    pub(super) fn migration_deadline(&self) -> Micros {
        let is_waiting =
            self.side == Side::Connector && self.recovery.in_flight_bytes() == 0 && !self.ping_due;
        let silence = if is_waiting { self.silence.deadline(self.last_in) } else { None };
        let path = self.path.deadline().unwrap_or(NEVER).min(self.mtu.deadline().unwrap_or(NEVER));
        silence.unwrap_or(NEVER).min(path)
    }

    pub(super) fn migration_on_timeout(&mut self, now: Micros) {
        self.mtu.on_timeout(now);
        if self.path.on_timeout(now) == Change::Returned {
            self.restore_previous_path();
        }
        let is_waiting = self.side == Side::Connector && self.recovery.in_flight_bytes() == 0;
        if is_waiting && self.silence.deadline(self.last_in).is_some_and(|at| at <= now) {
            // One ping for each silence, which ends with the next packet.
            (self.silence.is_ping, self.silence.heard) = (true, STREAM_PACKETS - 1);
            self.ping_due = true;
        }
    }

    /// After losses were judged.
    pub(super) fn check_black_hole(&mut self, now: Micros) {
        if self.recovery.take_black_hole() {
            self.mtu.on_black_hole(now);
        }
    }

    // ---- out ----

    /// Bytes that the next packet may have; 0 if none may leave.
    pub(super) fn packet_bytes(&self) -> usize {
        let bytes = self.mtu.current().min(self.path.allowance());
        if bytes < PACKET_BYTES_MIN { 0 } else { bytes }
    }

    /// Challenges are sent alone and are not counted as under way: one of the two addresses may well be dead.
    pub(super) fn transmit_challenge(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let (to, challenge) = self.path.pop_challenge(CHALLENGE_PACKET_BYTES)?;
        let keys = self.keys.as_mut()?;
        let number = self.recovery.next_number();
        let connection = (self.side == Side::Connector).then_some(self.wire_id);
        let mut writer = Writer::new(out, connection, number, self.recovery.largest_acked(), None);
        writer.challenge(&challenge);
        keys.seal(number, writer.finish());
        self.recovery.on_sent_unrecorded();
        Some(to)
    }

    /// A padded ping. Its loss says nothing about congestion, so it is not counted as under way either.
    pub(super) fn transmit_mtu_probe(&mut self, now: Micros, out: &mut Vec<u8>) -> bool {
        if self.path.is_on_trial() {
            return false;
        }
        let Some(size) = self.mtu.probe_size(now) else { return false };
        let Some(keys) = &mut self.keys else { return false };
        let number = self.recovery.next_number();
        let connection = (self.side == Side::Connector).then_some(self.wire_id);
        let mut writer =
            Writer::new(out, connection, number, self.recovery.largest_acked(), None).within(size);
        writer.ping();
        writer.pad(size);
        keys.seal(number, writer.finish());
        self.mtu.on_probe_sent(number, now + self.recovery.rtt.pto(ACK_DELAY_UNRELIABLE) * 2);
        self.recovery.on_sent_unrecorded();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    #[test]
    fn a_peer_that_stays_where_it_is_costs_little() {
        let bytes = [
            size_of::<Path>(),
            size_of::<Mtu>(),
            size_of::<Option<Box<PreviousPath>>>(),
            size_of::<Silence>(),
        ];
        println!("path, sizes, previous path, silence: {bytes:?} of {} bytes", size_of::<Connection>());
        assert!(bytes.iter().sum::<usize>() <= 168, "{bytes:?}");
    }
}
