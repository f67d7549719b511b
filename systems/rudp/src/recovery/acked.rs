//! What an acknowledgement settles.

use std::{collections::VecDeque, time::Duration};

use super::{
    Recovery,
    sent::{Fate, Sent},
};
use crate::{
    ack::Ack,
    congestion::{Acked, Controller},
    error::Violation,
    pool::Pool,
    send::Sending,
    timer::{Micros, NEVER, nanos},
};

/// What one acknowledgement reported for the first time.
struct NewlyAcked {
    /// The largest number that the acknowledgements in these packets reported, plus one; 0 if there were none.
    ack_end: u64,
    /// The number of the newest, and when it was sent.
    newest: Option<(u64, Micros)>,
    /// When the oldest of those was sent that the probe timer ran for.
    oldest_awaited: Option<Micros>,
    /// The round trip, if the largest number is new.
    rtt: Option<Duration>,
    /// Of the packets on this path that had not been found lost: how many, their bytes, and when the oldest was sent.
    packets: u32,
    bytes: usize,
    oldest_at: Micros,
}

impl Default for NewlyAcked {
    fn default() -> NewlyAcked {
        NewlyAcked {
            ack_end: 0,
            newest: None,
            oldest_awaited: None,
            rtt: None,
            packets: 0,
            bytes: 0,
            oldest_at: NEVER,
        }
    }
}

impl NewlyAcked {
    /// Counts a packet that still has its fate from before. Packets come in the order of their numbers.
    fn note(&mut self, packet: &Sent, is_here: bool) {
        self.ack_end = self.ack_end.max(packet.ack_end);
        self.newest = Some((packet.number, packet.at));
        if packet.is_reliable() && packet.fate == Fate::UnderWay {
            self.oldest_awaited = self.oldest_awaited.or(Some(packet.at));
        }
        if is_here && packet.fate != Fate::Lost {
            self.packets += 1;
            self.bytes += usize::from(packet.bytes);
            self.oldest_at = self.oldest_at.min(packet.at);
        }
    }
}

/// The place in the table of the first packet that `ack` may report.
fn first_reported(sent: &VecDeque<Sent>, ack: &Ack) -> usize {
    let lowest = ack.lowest();
    match sent.front() {
        Some(front) if front.number < lowest => sent.partition_point(|packet| packet.number < lowest),
        // Most acknowledgements reach back beyond everything that is under way.
        _ => 0,
    }
}

impl Recovery {
    /// Settles what `ack` reports. The work is bounded by the table, never by the numbers in `ack`. Losses are not
    /// judged here: other acknowledgements may lie unread in the socket.
    ///
    /// Returns the largest number that the other side now knows we have received.
    pub(crate) fn on_ack(
        &mut self,
        now: Micros,
        ack: &Ack,
        sending: &mut Sending,
        pool: &mut Pool,
    ) -> Result<Option<u64>, Violation> {
        if ack.largest >= self.next {
            return Err(Violation::AckOfUnsent { number: ack.largest, next: self.next });
        }
        let mut newly = NewlyAcked::default();
        // By index: for the few packets of an acknowledgement this costs less than a range of the deque's two halves.
        for index in first_reported(&self.sent, ack)..self.sent.len() {
            let packet = &mut self.sent[index];
            if packet.number > ack.largest {
                break;
            }
            if packet.fate == Fate::Acked || !ack.contains(packet.number) {
                continue;
            }
            let is_here = packet.number >= self.path_from;
            if packet.number == ack.largest && is_here {
                // The acknowledgement says how long it was held back for this packet alone.
                let delay = Duration::from_micros(ack.delay_us);
                newly.rtt = Some(self.rtt.update(now, now - packet.at, delay));
            }
            self.black_hole.on_acked(packet.number, packet.bytes.into());
            for &piece in self.pieces.of(packet) {
                sending.on_acked(piece, pool);
            }
            newly.note(packet, is_here);
            if packet.fate == Fate::Lost {
                // It no longer counts as under way since it was found lost.
                self.losses.on_spurious();
            } else {
                self.losses.on_acked();
                self.in_flight.remove(packet, is_here);
            }
            packet.fate = Fate::Acked;
        }
        Ok(self.on_newly_acked(now, ack.largest, &newly))
    }

    /// What follows from an acknowledgement as a whole, once everything in it is settled. The round trip has its sample
    /// by now: the delay of acknowledgements and the controller are both given the new one.
    fn on_newly_acked(&mut self, now: Micros, largest: u64, newly: &NewlyAcked) -> Option<u64> {
        let (number, sent_at) = newly.newest?;
        if let (Some(oldest), Some(_)) = (newly.oldest_awaited, newly.rtt) {
            // The acknowledgement says how long its newest packet waited, but the timer runs for the oldest.
            let held =
                now.nanos_since(oldest).saturating_sub(nanos(self.rtt.smoothed())).min(self.ack_delay_max);
            self.ack_delay = self.ack_delay / 4 * 3 + (self.ack_delay % 4 * 3 + held) / 4;
        }
        if newly.packets > 0 {
            self.control.on_acked(&Acked {
                now,
                packets: newly.packets,
                bytes: newly.bytes,
                number,
                sent_at,
                oldest_at: newly.oldest_at,
                next: self.next,
                rtt: newly.rtt,
                rtt_min: self.rtt.min(),
                rtt_smoothed: self.rtt.smoothed(),
                limited: number < self.limited_end,
            });
        }
        self.acked_end = self.acked_end.max(largest + 1);
        self.probes_unanswered = 0;
        self.unjudged = true;
        newly.ack_end.checked_sub(1)
    }
}
