//! The sending half of the channels: packing, repeats, deadlines, bounds.

use std::time::Duration;

use super::*;
use crate::{
    channel::{ChannelKind, Repeats},
    coding::Reader,
    packet::{FRAGMENT_BYTES, Frame},
};

const MS: Duration = Duration::from_millis(1);
const UNRELIABLE: Channel = Channel::UNRELIABLE;

struct Bench {
    config: Config,
    sending: Sending,
    pool: Pool,
    now: Micros,
    path: PathState,
    number: u64,
}

/// A packet as it was written: what a receiver reads, and what the table of sent packets notes.
struct Packet {
    number: u64,
    bytes: Vec<u8>,
    refs: Vec<PieceRef>,
}

impl Packet {
    fn frames(&self) -> Vec<Frame<'_>> {
        let mut reader = Reader::new(&self.bytes[3..]);
        std::iter::from_fn(|| Frame::next(&mut reader).unwrap()).collect()
    }

    /// Channel and id of each frame.
    fn ids(&self) -> Vec<(u8, u16)> {
        let ids = self.frames().into_iter().map(|frame| match frame {
            Frame::Message { channel, id, .. }
            | Frame::Fragment { channel, id, .. }
            | Frame::Skip { channel, id } => (channel.number(), id),
            _ => panic!(),
        });
        ids.collect()
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Bench {
        let mut config = Config::default();
        change(&mut config);
        let path = PathState { loss_ppm: 0, limited: false, window_bytes: 40_000, rtt: MS * 50 };
        let (sending, pool) = (Sending::new(), Pool::new(0));
        Bench { config, sending, pool, now: Micros::from_millis(1_000), path, number: 0 }
    }

    /// A bench with one more channel.
    fn channel(kind: ChannelKind, change: impl FnOnce(&mut ChannelConfig)) -> (Bench, Channel) {
        let channel = Channel::new(5).unwrap();
        let mut config = ChannelConfig::new(kind);
        change(&mut config);
        let bench = Bench::with(|all| {
            all.channels.set(channel, config);
        });
        (bench, channel)
    }

    fn try_send(&mut self, channel: Channel, bytes: &[u8], options: SendOptions) -> Result<(), SendError> {
        let message = Message { channel, parts: &[bytes], options };
        self.sending.push(self.now, &self.config, &mut self.pool, message)
    }

    fn send(&mut self, channel: Channel, bytes: &[u8]) {
        self.try_send(channel, bytes, SendOptions::default()).unwrap();
    }

    fn send_for(&mut self, lifetime: Duration, channel: Channel, bytes: &[u8]) {
        self.try_send(channel, bytes, SendOptions { lifetime: Some(lifetime) }).unwrap();
    }

    /// The next packet, if anything wants to leave.
    fn packet(&mut self) -> Option<Packet> {
        self.sending.begin(self.now, self.path, &mut self.pool);
        let pending = self.sending.has_pending();
        if !self.sending.wants_repeat(self.now, true) && !pending {
            self.sending.end_round();
            return None;
        }
        Some(self.any_packet())
    }

    /// A packet that leaves even if nothing wants to.
    fn any_packet(&mut self) -> Packet {
        self.sending.begin(self.now, self.path, &mut self.pool);
        let (mut bytes, mut refs, number) = (Vec::new(), VecDeque::new(), self.number);
        self.number += 1;
        let mut writer = Writer::new(&mut bytes, None, number, None, None);
        self.sending.fill(self.now, number, &mut writer, &mut refs, &mut self.pool);
        writer.finish();
        Packet { number, bytes, refs: refs.into() }
    }

    fn ids(&mut self) -> Vec<(u8, u16)> {
        self.packet().map(|packet| packet.ids()).unwrap_or_default()
    }

    fn acked(&mut self, packet: &Packet) {
        packet.refs.iter().for_each(|&piece| self.sending.on_acked(piece, &mut self.pool));
    }

    fn lost(&mut self, packet: &Packet) {
        for &piece in &packet.refs {
            self.sending.on_lost(piece, packet.number);
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.sending.report(&mut stats);
        stats
    }
}

#[test]
fn messages_coalesce_and_go_again_only_for_their_last_packet() {
    let mut bench = Bench::new();
    for text in ["a", "b", "c"] {
        bench.send(Channel::DATA, text.as_bytes());
    }
    let first = bench.packet().unwrap();
    assert_eq!(first.refs.len(), 3);
    assert!(bench.packet().is_none());
    // A probe repeats the first; then packet 0 is found lost as well.
    bench.sending.repeat_oldest(1);
    assert_eq!(bench.packet().unwrap().refs, [first.refs[0]]);
    bench.lost(&first);
    // The others are sent again, together with what was sent again before them.
    assert_eq!(bench.packet().unwrap().refs, [first.refs[1], first.refs[2], first.refs[0]]);
    assert_eq!((bench.stats().retransmitted, bench.stats().repeated), (3, 1));
    bench.acked(&first);
    bench.acked(&first);
    assert!(bench.sending.is_flushed());
    assert_eq!((bench.stats().queued_bytes, bench.sending.unsent_bytes()), (0, 0));
}

#[test]
fn what_was_acknowledged_is_not_sent_again() {
    let mut bench = Bench::new();
    bench.send(Channel::CONTROL, &[1; 3000]);
    assert_eq!(bench.sending.unsent_bytes(), 3000);
    let packets: Vec<_> = (0..3).map(|_| bench.packet().unwrap()).collect();
    assert_eq!(bench.sending.unsent_bytes(), 0);
    packets.iter().for_each(|packet| bench.lost(packet));
    bench.acked(&packets[1]);
    assert_eq!(bench.packet().unwrap().refs, packets[0].refs);
    assert_eq!(bench.packet().unwrap().refs, packets[2].refs);
    assert!(bench.packet().is_none() && !bench.sending.is_flushed());
}

#[test]
fn a_full_queue_blocks_and_half_a_queue_is_writable() {
    let mut bench = Bench::with(|config| config.queue_bytes_max = 1000);
    let too_large = SendError::TooLarge { bytes: 937, max: 936 };
    assert_eq!(bench.try_send(Channel::DATA, &[0; 937], SendOptions::default()), Err(too_large));
    let mut packets = Vec::new();
    for _ in 0..5 {
        bench.send(Channel::DATA, &[0; 136]);
        packets.extend(bench.packet());
    }
    assert!(!bench.sending.take_writable(&bench.config));
    assert_eq!(bench.try_send(Channel::CONTROL, &[], SendOptions::default()), Err(SendError::WouldBlock));
    packets[..2].iter().for_each(|packet| bench.acked(packet));
    assert!(!bench.sending.take_writable(&bench.config));
    bench.acked(&packets[4]);
    assert!(bench.sending.take_writable(&bench.config));
    assert!(!bench.sending.take_writable(&bench.config), "once");
}

#[test]
fn unknown_channels_and_long_messages_are_refused() {
    let mut bench = Bench::new();
    let unknown = Channel::new(17).unwrap();
    let none = SendOptions::default();
    assert_eq!(bench.try_send(unknown, &[], none), Err(SendError::NoSuchChannel(unknown)));
    let too_large = SendError::TooLarge { bytes: 17_921, max: 17_920 };
    assert_eq!(bench.try_send(UNRELIABLE, &[0; 17_921], none), Err(too_large));
    assert_eq!(bench.try_send(UNRELIABLE, &[0; 17_920], none), Ok(()));
    bench.config.message_bytes_max = 500;
    let too_large = SendError::TooLarge { bytes: 501, max: 500 };
    assert_eq!(bench.try_send(UNRELIABLE, &[0; 501], none), Err(too_large));
    assert_eq!(bench.try_send(Channel::DATA, &[0; 501], none), Err(too_large));
}

#[test]
fn channels_of_one_priority_take_turns_and_a_lower_number_goes_first() {
    let [a, b, c] = [10, 4, 20].map(|number| Channel::new(number).unwrap());
    let mut bench = Bench::with(|config| {
        for (channel, priority) in [(a, 3), (b, 3), (c, 0)] {
            config
                .channels
                .set(channel, ChannelConfig { priority, ..ChannelConfig::new(ChannelKind::Ordered) });
        }
    });
    for _ in 0..4 {
        bench.send(a, &[1; 1000]);
        bench.send(b, &[2; 1000]);
    }
    bench.send(c, &[3; 1000]);
    bench.send(Channel::CONTROL, &[4; 1000]);
    let order: Vec<u8> = (0..10).map(|_| bench.ids()[0].0).collect();
    // Channels 0 and 20 have the same priority, then 4 and 10: each is first in every second datagram.
    assert_eq!(order[..2], [0, 20]);
    assert_eq!(order[2..], [4, 10, 4, 10, 4, 10, 4, 10]);
}

#[test]
fn an_unreliable_queue_forgets_its_oldest() {
    let (mut bench, channel) = Bench::channel(ChannelKind::Unreliable, |_| {});
    (bench.config.unreliable_messages_max, bench.config.unreliable_bytes_max) = (4, 2500);
    for byte in 0..6 {
        bench.send(channel, &[byte]);
    }
    assert_eq!(bench.stats().superseded, 2);
    bench.sending.end_round();
    bench.send(channel, &[7; 1120]);
    bench.send(channel, &[8; 1120]);
    assert_eq!(bench.stats().superseded, 4);
    bench.send(channel, &[9; 1120]);
    assert_eq!((bench.stats().superseded, bench.stats().queued_bytes), (7, 2240));
    // Ids are given as messages leave.
    let packet = bench.packet().unwrap();
    assert!(packet.refs.is_empty());
    assert_eq!(packet.frames(), [Frame::Message { channel, id: 0, bytes: &[8; 1120] }]);
}

#[test]
fn newer_sequenced_messages_drop_the_batch_that_was_left_behind() {
    let mut bench = Bench::new();
    for byte in 0..3 {
        bench.send(UNRELIABLE, &[byte; 1100]);
    }
    assert_eq!(bench.stats().superseded, 0, "queued together");
    assert_eq!(bench.ids(), [(2, 0)]);
    // The path takes no more now, and two are left behind.
    bench.sending.end_round();
    bench.send(UNRELIABLE, &[3; 100]);
    assert_eq!(bench.stats().superseded, 2);
    bench.send(UNRELIABLE, &[4; 100]);
    assert_eq!(bench.stats().superseded, 2);
    assert_eq!(bench.ids(), [(2, 1), (2, 2)]);
    // One that is half sent is dropped as well, and its id is used up.
    bench.send(UNRELIABLE, &[5; 3000]);
    assert_eq!(bench.ids(), [(2, 3)]);
    bench.sending.end_round();
    bench.send(UNRELIABLE, &[6]);
    assert_eq!(bench.ids(), [(2, 4)]);
    assert_eq!((bench.stats().superseded, bench.stats().queued_bytes), (3, 0));
}

#[test]
fn unreliable_messages_leave_in_fragments_or_not_at_all() {
    let mut bench = Bench::new();
    bench.send(UNRELIABLE, &[1; 2 * FRAGMENT_BYTES + 600]);
    let packets: Vec<_> = (0..3).map_while(|_| bench.packet()).collect();
    assert_eq!(packets.len(), 3);
    for (index, packet) in packets.iter().enumerate() {
        let bytes = if index == 2 { &[1; 600][..] } else { &[1; FRAGMENT_BYTES] };
        let fragment = Frame::Fragment { channel: UNRELIABLE, id: 0, index: index as u32, count: 3, bytes };
        assert_eq!(packet.frames(), [fragment]);
        assert!(packet.refs.is_empty());
    }
    bench.send_for(MS * 10, UNRELIABLE, &[2; 3000]);
    bench.send_for(MS * 30, UNRELIABLE, &[3]);
    assert_eq!(bench.ids(), [(2, 1)]);
    bench.now += MS * 10;
    assert_eq!(bench.ids(), [(2, 2)], "the rest of message 1 is dropped, message 2 still wanted");
    assert_eq!((bench.stats().expired, bench.packet().is_none()), (1, true));
}

#[test]
fn a_reliable_message_that_expires_becomes_an_order_to_skip_it() {
    let mut bench = Bench::new();
    bench.send_for(MS * 20, Channel::DATA, &[1; 2000]);
    bench.send(Channel::DATA, &[2; 900]);
    bench.send_for(MS * 20, Channel::DATA, &[3; 100]);
    let first = bench.packet().unwrap();
    assert_eq!(bench.sending.expires_at(), bench.now + MS * 20);
    bench.now += MS * 20;
    // Half sent, unsent, unsent: skips are pieces like any others.
    let second = bench.packet().unwrap();
    assert_eq!(second.ids(), [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(second.frames()[2], Frame::Skip { channel: Channel::DATA, id: 2 });
    assert_eq!((bench.stats().expired, bench.stats().queued_bytes), (2, 900 + 3 * 64));
    assert_eq!((bench.sending.expires_at(), bench.sending.unsent_bytes()), (NEVER, 0));
    // What became of the old pieces no longer matters.
    bench.acked(&first);
    bench.lost(&first);
    assert!(bench.packet().is_none());
    bench.lost(&second);
    let third = bench.packet().unwrap();
    assert_eq!(third.refs, second.refs);
    bench.sending.repeat_oldest(10_000);
    assert_eq!(bench.packet().unwrap().refs, second.refs);
    bench.acked(&third);
    bench.acked(&second);
    assert!(bench.sending.is_flushed());
}

#[test]
fn what_arrives_in_time_does_not_expire_and_long_lifetimes_cost_no_memory() {
    let (mut bench, channel) =
        Bench::channel(ChannelKind::Unordered, |channel| channel.lifetime = Some(MS * 60_000));
    for _ in 0..5_000 {
        bench.send(channel, &[1]);
        let packet = bench.packet().unwrap();
        bench.acked(&packet);
    }
    assert!(bench.sending.expiring.len() <= 70, "{}", bench.sending.expiring.len());
    bench.send_for(Duration::MAX, channel, &[1]);
    bench.now += MS * 70_000;
    assert_eq!(bench.ids(), [(5, (5_000u16))]);
    assert_eq!(bench.stats().expired, 0);
}

#[test]
fn a_fixed_repeat_rides_in_the_next_datagram_and_not_after_its_acknowledgement() {
    let (mut bench, channel) =
        Bench::channel(ChannelKind::Ordered, |channel| channel.repeats = Repeats::Fixed(2));
    bench.send(channel, &[1; 200]);
    bench.send(channel, &[2; 201]);
    let first = bench.packet().unwrap();
    assert_eq!(first.ids(), [(5, 0), (5, 1)]);
    assert!(bench.packet().is_none(), "a repeat alone is no reason for a datagram");
    bench.send(channel, &[3]);
    let second = bench.packet().unwrap();
    assert_eq!(second.ids(), [(5, 2), (5, 0)], "over 200 bytes there are no repeats");
    let third = bench.any_packet();
    assert_eq!(third.ids(), [(5, 0), (5, 2)]);
    assert_eq!((bench.stats().repeated, bench.stats().repeated_bytes), (3, 205 + 205 + 6));
    // All packets that carried it must be lost before it is.
    bench.lost(&first);
    assert_eq!(bench.ids(), [(5, 1), (5, 2)]);
    bench.lost(&second);
    assert!(bench.packet().is_none());
    bench.lost(&third);
    assert_eq!(bench.ids(), [(5, 0)]);
    bench.acked(&second);
    bench.lost(&third);
    assert!(bench.any_packet().ids().is_empty());
}

#[test]
fn spaced_repeats_wait_their_time_and_go_alone_only_with_a_tail() {
    for tail in [None, Some(MS * 200)] {
        let (mut bench, channel) = Bench::channel(ChannelKind::Ordered, |channel| {
            (channel.repeats, channel.repeat_spacing) = (Repeats::Fixed(2), MS * 30);
            channel.tail_repeat = tail;
        });
        bench.send(channel, &[1; 64]);
        assert_eq!(bench.ids(), [(5, 0)]);
        bench.now += MS * 29;
        assert!(bench.any_packet().ids().is_empty());
        bench.now += MS;
        assert_eq!(bench.any_packet().ids(), [(5, 0)]);
        bench.now += MS * 39;
        assert!(bench.packet().is_none());
        bench.now += MS;
        assert_eq!(bench.ids().len(), usize::from(tail.is_some()));
    }
}

#[test]
fn the_last_message_is_repeated_alone_when_nothing_follows() {
    let (mut bench, channel) = Bench::channel(ChannelKind::Ordered, |channel| {
        (channel.repeats, channel.tail_repeat) = (Repeats::Fixed(0), Some(MS * 10));
    });
    bench.send(channel, &[1; 64]);
    bench.send(channel, &[2; 64]);
    assert_eq!(bench.ids(), [(5, 0), (5, 1)]);
    assert_eq!(bench.sending.repeats_at(), bench.now + MS * 10);
    bench.now += MS * 10;
    let tail = bench.packet().unwrap();
    assert_eq!(tail.ids(), [(5, 0), (5, 1)]);
    assert_eq!(bench.sending.repeats_at(), NEVER, "once");
    bench.acked(&tail);
    bench.send(channel, &[3]);
    bench.ids();
    bench.now += MS * 5;
    bench.send(UNRELIABLE, &[4]);
    bench.ids();
    assert_eq!(bench.sending.repeats_at(), NEVER, "something followed");
    // Acknowledged in time.
    bench.send(channel, &[5]);
    let packet = bench.packet().unwrap();
    bench.acked(&packet);
    bench.now += MS * 10;
    assert!(bench.packet().is_none());
    assert_eq!(bench.sending.repeats_at(), NEVER);
}

#[test]
fn adaptive_repeats_follow_the_loss_and_stop_when_the_path_is_full() {
    let mut bench = Bench::new();
    bench.send(Channel::DATA, &[1]);
    bench.ids();
    assert!(bench.any_packet().ids().is_empty());
    bench.path.loss_ppm = 5_001;
    bench.send(Channel::DATA, &[2]);
    bench.ids();
    assert_eq!(bench.any_packet().ids(), [(1, 1)]);
    bench.path.limited = true;
    bench.send(Channel::DATA, &[3]);
    bench.ids();
    bench.path.limited = false;
    assert!(bench.any_packet().ids().is_empty());
    bench.send(Channel::DATA, &[4]);
    bench.ids();
    bench.path.limited = true;
    assert!(bench.any_packet().ids().is_empty());
}

#[test]
fn repeats_keep_to_half_of_the_window() {
    let (mut bench, channel) =
        Bench::channel(ChannelKind::Ordered, |channel| channel.repeats = Repeats::Fixed(3));
    bench.path.window_bytes = 6_000;
    let begin = bench.now;
    let mut under_way = VecDeque::new();
    while bench.now < begin + MS * 5_000 {
        for _ in 0..10 {
            bench.send(channel, &[1; 100]);
            under_way.extend(bench.packet());
        }
        while under_way.len() > 100 {
            let oldest = under_way.pop_front().unwrap();
            bench.acked(&oldest);
        }
        bench.now += MS;
    }
    // 3,000 bytes each 50 ms, and the first 3,000 at once.
    let repeated = bench.stats().repeated_bytes;
    assert!((295_000..=303_000).contains(&repeated), "{repeated}");
}
