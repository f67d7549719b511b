//! What a session was sent and has not acknowledged: the memory that makes a resume lose nothing.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::ids::PeerId;
use crate::input::Counts;
use crate::output::{Channel, Head, HeadKind, Send};

/// Sessions whose resend buffer may have something for their peer, by slot.
#[derive(Resource, Default)]
pub(crate) struct DirtySessions(pub(crate) Vec<u32>);

/// Whether the client has the SessionStarted of its last resume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastStart {
    /// It has, or there was none.
    Arrived,
    /// The peer may have been lost before it came.
    MayBeLost,
}

/// A numbered message that the client has not acknowledged.
#[derive(Clone, Debug)]
struct Kept {
    seq: u64,
    head: Head,
    body: Bytes,
    /// Whether it is room data, which is dropped first when a lost session's buffer overflows.
    room_data: bool,
}

impl Kept {
    /// Its cost in bytes, that of the row included, so that tiny messages are not free.
    fn cost(&self) -> usize {
        self.head.len() + self.body.len() + size_of::<Kept>()
    }
}

/// One reliable channel of a session: what was sent, what was handed to the transport, what is acknowledged.
#[derive(Default, Debug)]
struct Unacknowledged {
    queue: VecDeque<Kept>,
    /// The sequence number of the newest message.
    sent: u64,
    /// The sequence number of the newest message that was handed to the transport and not refused so far.
    handed: u64,
    /// The transport refused the message after `handed`.
    blocked: bool,
}

impl Unacknowledged {
    fn push(&mut self, head: Head, body: Bytes, room_data: bool) -> usize {
        self.sent += 1;
        let kept = Kept { seq: self.sent, head, body, room_data };
        let cost = kept.cost();
        self.queue.push_back(kept);
        cost
    }

    fn acknowledge(&mut self, count: u64) -> usize {
        let mut freed = 0;
        while let Some(kept) = self.queue.front().filter(|kept| kept.seq <= count) {
            freed += kept.cost();
            self.queue.pop_front();
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue.shrink_to(16);
        }
        freed
    }

    fn hand_over(&mut self, peer: PeerId, channel: Channel, to: &mut Vec<Send>) {
        if self.blocked || self.handed >= self.sent {
            return;
        }
        let from = self.queue.partition_point(|kept| kept.seq <= self.handed);
        for kept in self.queue.range(from..) {
            to.push(Send { peer, channel, seq: kept.seq, head: kept.head.clone(), body: kept.body.clone() });
            self.handed = kept.seq;
        }
    }
}

/// Where a session goes on with a new peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resumed {
    /// The sequence numbers that the next messages follow.
    pub(crate) base: Counts,
    /// How many messages of reliable room data the client lacks that are not kept.
    pub(crate) lost: u64,
    /// How many of these no RoomState has reported yet.
    pub(crate) unstated: u64,
}

/// The two reliable channels of a session.
#[derive(Component, Default, Debug)]
pub(crate) struct ResendBuffer {
    control: Unacknowledged,
    data: Unacknowledged,
    /// The cost of all that is kept.
    pub(crate) bytes: usize,
    /// How many messages of room data the client lacks that a RoomState in the buffer reports.
    stated: u64,
    /// The frame since which the buffer of a connected session is over its bound.
    pub(crate) over_since: Option<u64>,
    /// How many unreliable messages were dropped, because there was no peer or its transport was full.
    pub(crate) superseded: u64,
}

impl ResendBuffer {
    fn channel(&mut self, channel: Channel) -> &mut Unacknowledged {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Data | Channel::Unreliable => &mut self.data,
        }
    }

    /// Numbers and keeps a message.
    pub(crate) fn push(&mut self, channel: Channel, head: Head, body: Bytes, kind: HeadKind) {
        let room_data = matches!(kind, HeadKind::Data { .. });
        self.bytes += self.channel(channel).push(head, body, room_data);
    }

    /// The client has everything up to these numbers. Returns `false`, and changes nothing, for numbers that were never
    /// sent.
    pub(crate) fn acknowledge(&mut self, received: Counts) -> bool {
        if received.control > self.control.sent || received.data > self.data.sent {
            return false;
        }
        self.bytes -= self.control.acknowledge(received.control);
        self.bytes -= self.data.acknowledge(received.data);
        true
    }

    /// Hands over to the transport what it has not been given yet.
    pub(crate) fn hand_over(&mut self, peer: PeerId, to: &mut Vec<Send>) {
        self.control.hand_over(peer, Channel::Control, to);
        self.data.hand_over(peer, Channel::Data, to);
    }

    /// The transport did not take these and what came after them.
    pub(crate) fn blocked(&mut self, control: Option<u64>, data: Option<u64>) {
        for (channel, from) in [(&mut self.control, control), (&mut self.data, data)] {
            if let Some(from) = from {
                channel.handed = channel.handed.min(from.saturating_sub(1));
                channel.blocked = true;
            }
        }
    }

    /// Whether the transport is full.
    pub(crate) fn is_blocked(&self) -> bool {
        self.control.blocked || self.data.blocked
    }

    /// The transport takes messages again.
    pub(crate) fn writable(&mut self) {
        self.control.blocked = false;
        self.data.blocked = false;
    }

    /// A new peer, and what the client has received: everything else that is kept goes out again. `last` says whether
    /// the client knows what it was told at its last resume. `None` when the client claims messages that were never
    /// sent.
    pub(crate) fn resume(&mut self, received: Counts, last: LastStart) -> Option<Resumed> {
        if !self.acknowledge(received) {
            return None;
        }
        let base = self.rewind();
        // What it has not received and is not kept. Everything up to `received` is out of the queue, so `base` is not
        // less. What was dropped after it had been received is not lost.
        let lost = base.data - received.data;
        if last == LastStart::Arrived {
            self.stated = 0;
        }
        let unstated = lost.saturating_sub(self.stated);
        self.stated = lost;
        Some(Resumed { base, lost, unstated })
    }

    /// Everything that is kept goes out again. Returns the sequence numbers that it follows.
    fn rewind(&mut self) -> Counts {
        let base = |channel: &mut Unacknowledged| {
            channel.blocked = false;
            channel.handed = channel.sent - channel.queue.len() as u64;
            // Dropped room data left holes: messages are renumbered without gaps, because both sides
            // count them and no number is sent.
            for (at, kept) in channel.queue.iter_mut().enumerate() {
                kept.seq = channel.handed + 1 + at as u64;
            }
            channel.handed
        };
        self.over_since = None;
        Counts { control: base(&mut self.control), data: base(&mut self.data) }
    }

    /// When the cost is over `bytes_max`: drops room data, the oldest first, down to seven eighths of it, so that
    /// the queue is not gone through again for every message that follows. Returns whether it is within the bound.
    pub(crate) fn drop_room_data(&mut self, bytes_max: usize) -> bool {
        if self.bytes <= bytes_max {
            return true;
        }
        let goal = bytes_max - bytes_max / 8;
        let mut bytes = self.bytes;
        self.data.queue.retain(|kept| {
            let drop = bytes > goal && kept.room_data;
            if drop {
                bytes -= kept.cost();
            }
            !drop
        });
        self.bytes = bytes;
        bytes <= bytes_max
    }

    /// By channel how many messages were sent and how many are kept, for the state hash.
    pub(crate) fn counts(&self) -> [u64; 4] {
        [self.control.sent, self.control.queue.len() as u64, self.data.sent, self.data.queue.len() as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId { slot: 0, generation: 1 };
    const DATA: HeadKind = HeadKind::Data { sender: 0, op: 1 };

    fn keep(messages: u8) -> ResendBuffer {
        let mut resend = ResendBuffer::default();
        for n in 0..messages {
            resend.push(Channel::Data, Head::new(), Bytes::copy_from_slice(&[n]), DATA);
        }
        resend
    }

    fn sent(resend: &mut ResendBuffer) -> Vec<(u64, u8)> {
        let mut sends = Vec::new();
        resend.hand_over(PEER, &mut sends);
        sends.iter().map(|send| (send.seq, send.body[0])).collect()
    }

    #[test]
    fn what_the_transport_refused_goes_out_again_and_nothing_twice() {
        let mut resend = keep(4);
        assert_eq!(sent(&mut resend), [(1, 0), (2, 1), (3, 2), (4, 3)]);
        resend.blocked(None, Some(3));
        assert_eq!(sent(&mut resend), []);
        resend.writable();
        assert_eq!(sent(&mut resend), [(3, 2), (4, 3)]);
        assert_eq!(sent(&mut resend), []);
    }

    #[test]
    fn a_new_peer_gets_what_was_not_acknowledged() {
        let mut resend = keep(4);
        sent(&mut resend);
        let base = Counts { control: 0, data: 3 };
        assert_eq!(resend.resume(base, LastStart::Arrived), Some(Resumed { base, lost: 0, unstated: 0 }));
        assert_eq!(sent(&mut resend), [(4, 3)]);
        assert!(resend.acknowledge(Counts { control: 0, data: 4 }));
        assert_eq!(resend.bytes, 0);
    }

    #[test]
    fn an_overflow_drops_old_room_data_and_says_how_much() {
        let mut resend = keep(4);
        resend.push(Channel::Data, Head::new(), Bytes::from_static(&[9]), HeadKind::Handle);
        let one = resend.bytes / 5;
        assert!(resend.drop_room_data(one * 5 - 1));
        assert_eq!(resend.data.queue.len(), 4, "a little more than must be");
        assert!(resend.drop_room_data(one * 5 / 2));
        let base = Counts { control: 0, data: 3 };
        assert_eq!(
            resend.resume(Counts::default(), LastStart::Arrived),
            Some(Resumed { base, lost: 3, unstated: 3 })
        );
        assert_eq!(sent(&mut resend), [(4, 3), (5, 9)]);
    }

    #[test]
    fn what_was_dropped_and_had_been_received_is_not_lost() {
        let mut resend = keep(8);
        sent(&mut resend);
        let one = resend.bytes / 8;
        assert!(resend.drop_room_data(one * 4));
        let kept = resend.data.queue.len() as u64;
        // The acknowledgement of five was on its way when the connection died.
        let resumed = resend.resume(Counts { control: 0, data: 5 }, LastStart::Arrived).expect("true counts");
        let base = Counts { control: 0, data: 5.max(8 - kept) };
        assert_eq!(resumed, Resumed { base, lost: base.data - 5, unstated: base.data - 5 });
    }

    #[test]
    fn what_was_lost_is_told_until_the_client_was_heard_and_stated_once() {
        let mut resend = keep(8);
        let one = resend.bytes / 8;
        assert!(resend.drop_room_data(one * 4));
        let lost = 8 - resend.data.queue.len() as u64;
        let first = resend.resume(Counts::default(), LastStart::Arrived).expect("true counts");
        assert_eq!((first.lost, first.unstated), (lost, lost));
        // The peer was lost before the client saw anything: the next one is told again, the RoomState is kept.
        let second = resend.resume(Counts::default(), LastStart::MayBeLost).expect("true counts");
        assert_eq!((second.lost, second.unstated), (lost, 0));
        // It saw the second one and is lost again: what it was told is behind it.
        let third = resend.resume(second.base, LastStart::Arrived).expect("true counts");
        assert_eq!((third.lost, third.unstated), (0, 0));
    }

    #[test]
    fn an_acknowledgement_of_the_future_is_refused() {
        let mut resend = keep(1);
        assert!(!resend.acknowledge(Counts { control: 0, data: 2 }));
    }
}
