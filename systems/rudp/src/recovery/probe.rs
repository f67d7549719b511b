//! When nothing is heard: how long that is waited for, and what goes again then.

use std::time::Duration;

use super::{Fate, Recovery};
use crate::{
    ack::ACK_DELAY_UNRELIABLE,
    congestion::{Controller, PACKET},
    packet::FRAGMENT_BYTES,
    send::Sending,
    timer::{Micros, NEVER, nanos},
};

/// Longest wait between two probes, unless the probe time-out itself is longer: ten seconds of silence must hold a fair
/// number of them.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// The same for the first [`PROBES_SOON`] of them, unless the probe time-out itself is longer than half of it: how soon a
/// path that works again is found out, and what the players see of a gap. RFC 9002 doubles without end; these few are
/// fewer bytes than the slowest pace.
const PROBE_SOON_MAX: Duration = Duration::from_millis(250);
/// About two seconds of them. Whoever is silent for longer has more likely gone than lost a few packets.
const PROBES_SOON: u8 = 8;
impl Recovery {
    /// How long the other side may hold back the acknowledgement that is waited for. It acknowledges at once for a
    /// while after a loss; that while is as long as the loss counts as recent here. Without it, it does as
    /// agreed, and a shorter wait would repeat what is not lost.
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
        // Only the back-off has a bound: before the time-out itself nothing can have come back.
        pto.saturating_mul(1 << unanswered.min(6)).min(most.max(pto))
    }

    /// When a probe is due, or `NEVER`.
    fn probe_at(&self) -> Micros {
        if self.in_flight.packets == 0 {
            return NEVER;
        }
        // What went again with a probe has a packet of its own; only when nothing else is left it is waited for.
        let base = match self.oldest {
            NEVER => self.sent_last.max(self.probed_last),
            oldest if self.probes_unanswered == 0 => oldest,
            oldest => oldest.max(self.probed_last),
        };
        base.after(self.probe_delay())
    }

    /// When to look for losses or to probe; `NEVER` if nothing is to be done.
    pub(crate) fn deadline(&self) -> Micros {
        self.loss_at.min(self.probe_at())
    }

    /// When what the pacer held back may leave: nothing to be done but to send. `NEVER` if it holds nothing back.
    pub(crate) fn paced_at(&self) -> Micros {
        self.pacer.deadline()
    }

    /// Returns how many probes to send now. The messages of the oldest packets are back in `sending` for them.
    pub(crate) fn on_timeout(&mut self, now: Micros, sending: &mut Sending) -> u8 {
        // What is found lost goes again without a probe, and the probe timer then runs for another packet.
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
            // After a first miss two probes at once: the second costs little, another wait is twice as long.
            sending.repeat_oldest(2 * FRAGMENT_BYTES);
            self.find_oldest();
            return 2;
        }
        // The first time only what is overdue goes again, one datagram of it.
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
            // All of it went again in later packets, which have times of their own.
            return 0;
        }
        self.probed_last = now;
        self.probes_unanswered = 1;
        1
    }
}
