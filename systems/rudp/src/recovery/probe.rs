//! When nothing is heard: how long to wait, and what is sent again then.

use std::time::Duration;

use super::{Fate, Recovery};
use crate::{
    ack::ACK_DELAY_UNRELIABLE,
    congestion::{Controller, PACKET},
    packet::FRAGMENT_BYTES,
    send::Sending,
    timer::{Micros, NEVER, nanos},
};

/// Longest wait between two probes, unless the probe time-out itself is longer: there must be a fair number of them in
/// ten seconds of silence.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// The same for the first [`PROBES_SOON`] probes, unless the probe time-out itself is longer than half of it. It
/// decides how soon a path that works again is noticed, and so how much of a gap players see. RFC 9002 doubles without
/// end; these few probes are fewer bytes than the slowest pace.
const PROBE_SOON_MAX: Duration = Duration::from_millis(250);
/// About two seconds of probes. A peer that is silent for longer is more likely gone than short of a few packets.
const PROBES_SOON: u8 = 8;
impl Recovery {
    /// How long the other side may hold back the awaited acknowledgement, in nanoseconds. For a while after a loss it
    /// acknowledges at once; that while is as long as the loss counts as recent here. At other times it may take the
    /// whole agreed delay, and a shorter wait would repeat what is not lost.
    fn held(&self) -> u64 {
        match self.in_flight.reliable {
            0 => nanos(ACK_DELAY_UNRELIABLE),
            _ if self.losses.is_recent() => self.ack_delay,
            _ => self.ack_delay_max,
        }
    }

    /// In nanoseconds.
    fn probe_delay(&self) -> u64 {
        let pto = self.rtt.pto_nanos(self.held());
        let unanswered = self.probes_unanswered;
        let most = match unanswered < PROBES_SOON {
            true => nanos(PROBE_SOON_MAX).max(pto.saturating_mul(2)).min(nanos(PROBE_MAX)),
            false => nanos(PROBE_MAX),
        };
        // The bound is for the back-off alone: nothing can have come back before the time-out itself.
        pto.saturating_mul(1 << unanswered.min(6)).min(most.max(pto))
    }

    /// When a probe is due, or `NEVER`.
    fn probe_at(&self) -> Micros {
        if self.in_flight.packets == 0 {
            return NEVER;
        }
        // What a probe sent again has a newer packet to wait for. Packets that were probed for count only if no others
        // are left.
        let base = match self.oldest {
            NEVER => self.sent_last.max(self.probed_last),
            oldest if self.probes_unanswered == 0 => oldest,
            oldest => oldest.max(self.probed_last),
        };
        base.after(self.probe_delay())
    }

    /// When to look for losses or to probe; `NEVER` if there is nothing to do.
    pub(crate) fn deadline(&self) -> Micros {
        self.loss_at.min(self.probe_at())
    }

    /// When what the pacer holds back may leave, for which nothing but sending is to be done. `NEVER` if it holds
    /// nothing back.
    pub(crate) fn paced_at(&self) -> Micros {
        self.pacer.deadline()
    }

    /// Returns how many probes to send now. The messages for them are back in `sending`.
    pub(crate) fn on_timeout(&mut self, now: Micros, sending: &mut Sending) -> u8 {
        // Losses first: what is found lost is sent again without a probe, and the probe timer then runs for another
        // packet.
        if self.loss_at <= now {
            self.judge(now, sending);
            return 0;
        }
        if self.probe_at() > now {
            return 0;
        }
        if self.probes_unanswered > 0 {
            self.probed_last = now;
            self.probes_unanswered = self.probes_unanswered.saturating_add(1);
            if self.probes_unanswered == 3 {
                self.control.on_persistent_loss();
            }
            // After a first miss, two probes at once: the second costs little, and another wait would be twice as long.
            sending.repeat_oldest(2 * FRAGMENT_BYTES);
            self.find_oldest();
            return 2;
        }
        // The first time, only what is overdue is sent again, and only one datagram of it.
        let due = Micros(now.0.saturating_sub(self.probe_delay() / 1000));
        let (mut bytes, mut repeats) = (0, false);
        for packet in self.sent.range_mut(self.settled..) {
            let size = usize::from(packet.bytes);
            if packet.at > due || bytes + size > PACKET.max(size) {
                break;
            }
            if packet.fate != Fate::UnderWay || !packet.is_reliable() {
                continue;
            }
            packet.fate = Fate::Probed;
            bytes += size;
            for &piece in self.pieces.of(packet) {
                repeats |= sending.on_lost(piece, packet.number);
            }
        }
        self.find_oldest();
        if bytes > 0 && !repeats {
            // All of it was sent again in later packets, for which the timer runs next.
            return 0;
        }
        self.probed_last = now;
        self.probes_unanswered = 1;
        1
    }
}
