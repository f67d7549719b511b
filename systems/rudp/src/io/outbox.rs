//! What goes out: gathers datagrams for one peer into one send, and keeps what a full socket did not take.

use std::{collections::VecDeque, io, net::SocketAddr};

use super::{Counters, Flow};

/// No segmented send is longer: what an IPv4 packet can carry.
pub(super) const BATCH_BYTES_MAX: usize = 65_507;

/// Where datagrams go.
pub(super) trait Sink {
    /// Datagrams of one send, at least 1. May fall to 1 after an error.
    fn segments_max(&self) -> usize;

    /// Sends `bytes` as datagrams of `segment` bytes each, the last perhaps shorter. All of them or none.
    fn send_segments(&self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()>;

    /// Sends one datagram.
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()>;
}

/// Sends that are gathered before the first of them leaves, so that the transport's code and the system's, each some
/// ten kilobytes of instructions, do not displace each other from the cache for every datagram.
const ROUND: usize = 32;

/// One send.
struct Batch {
    to: SocketAddr,
    /// All of its datagrams together: all `segment` bytes long but the last, which may be shorter.
    bytes: usize,
    segment: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Outbox {
    /// The datagrams of `batches`, one after the other. The first `sent` bytes left.
    buffer: Vec<u8>,
    batches: VecDeque<Batch>,
    sent: usize,
    /// The segmented send of the first batch was refused: its datagrams go one by one.
    is_single: bool,
    /// A datagram for which there was no room, which begins the next round.
    next: Vec<u8>,
    next_to: Option<SocketAddr>,
    /// The last refusal that was not because of length.
    pub(super) error: Option<io::Error>,
    /// The last refusal of a segmented send.
    pub(super) refusal: Option<io::Error>,
}

impl Outbox {
    /// With all the memory that it can ever need, so that a burst adds nothing later.
    pub(super) fn batched() -> Outbox {
        Outbox {
            buffer: Vec::with_capacity(BATCH_BYTES_MAX),
            batches: VecDeque::with_capacity(ROUND),
            ..Outbox::default()
        }
    }

    /// Sends what waits, then all that `poll` gives: it fills its argument with a datagram and says for whom.
    pub(super) fn transmit(
        &mut self,
        sink: &impl Sink,
        counters: &mut Counters,
        mut poll: impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>,
    ) -> Flow {
        loop {
            if !self.flush(sink, counters) {
                counters.blocked += 1;
                return Flow::Blocked;
            }
            if !self.gather(sink.segments_max(), &mut poll) {
                return Flow::Drained;
            }
        }
    }

    /// Whether something waits for a full socket.
    pub(super) fn is_waiting(&self) -> bool {
        !self.batches.is_empty() || self.next_to.is_some()
    }

    /// Fills the buffer anew. Returns whether there was anything.
    fn gather(
        &mut self,
        segments_max: usize,
        poll: &mut impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>,
    ) -> bool {
        self.buffer.clear();
        self.sent = 0;
        while let Some(to) = self.next_to.take().or_else(|| poll(&mut self.next)) {
            let bytes = self.next.len();
            let is_full = self.batches.len() == ROUND;
            if !self.buffer.is_empty() && self.buffer.len() + bytes > BATCH_BYTES_MAX {
                self.next_to = Some(to);
                break;
            }
            match self.batches.back_mut() {
                Some(batch) if batch.takes(to, bytes, segments_max) => batch.bytes += bytes,
                _ if is_full => {
                    self.next_to = Some(to);
                    break;
                }
                _ => self.batches.push_back(Batch { to, bytes, segment: bytes }),
            }
            self.buffer.extend_from_slice(&self.next);
        }
        !self.batches.is_empty()
    }

    /// Sends what was gathered. Returns `false` if the socket is full; the rest is kept then.
    fn flush(&mut self, sink: &impl Sink, counters: &mut Counters) -> bool {
        while let Some(batch) = self.batches.front_mut() {
            let several = batch.bytes > batch.segment && !self.is_single && sink.segments_max() > 1;
            let length = if several { batch.bytes } else { batch.segment.min(batch.bytes) };
            let now = self.buffer.get(self.sent..self.sent + length).unwrap_or_default();
            let result = match several {
                true => sink.send_segments(batch.to, now, batch.segment),
                false => sink.send(batch.to, now),
            };
            match result {
                Ok(()) => {
                    counters.writes += 1;
                    counters.datagrams_out += length.div_ceil(batch.segment.max(1)) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if several => {
                    // Perhaps the card cannot segment, perhaps the path is broken: sending each datagram alone will
                    // tell.
                    self.is_single = true;
                    self.refusal = Some(error);
                    continue;
                }
                Err(error) if quinn_udp::is_msg_size_err(&error) => counters.too_long += 1,
                Err(error) => {
                    counters.refused += 1;
                    self.error = Some(error);
                }
            }
            self.sent += length;
            batch.bytes -= length;
            if batch.bytes == 0 {
                self.batches.pop_front();
                self.is_single = false;
            }
        }
        true
    }
}

impl Batch {
    /// Whether a datagram of this many bytes may be the next: as long as the first, or shorter and then the last.
    fn takes(&self, to: SocketAddr, bytes: usize, segments_max: usize) -> bool {
        let is_open = self.segment > 0 && self.bytes.is_multiple_of(self.segment);
        let is_alike = to == self.to && bytes > 0 && bytes <= self.segment;
        is_open && is_alike && self.bytes / self.segment < segments_max
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A socket that does as it is told: one answer per call, `Ok` after the last.
    struct Told {
        segments_max: RefCell<usize>,
        answers: RefCell<VecDeque<io::Result<()>>>,
        /// Datagrams that left, and the calls as (bytes, segment).
        left: RefCell<Vec<(SocketAddr, Vec<u8>)>>,
        calls: RefCell<Vec<(usize, usize)>>,
    }

    impl Told {
        fn new(segments_max: usize, answers: Vec<io::Result<()>>) -> Told {
            Told {
                segments_max: RefCell::new(segments_max),
                answers: RefCell::new(answers.into()),
                left: RefCell::default(),
                calls: RefCell::default(),
            }
        }

        fn take(&self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
            self.calls.borrow_mut().push((bytes.len(), segment));
            self.answers.borrow_mut().pop_front().unwrap_or(Ok(()))?;
            self.left.borrow_mut().extend(bytes.chunks(segment).map(|bytes| (to, bytes.to_vec())));
            Ok(())
        }
    }

    impl Sink for Told {
        fn segments_max(&self) -> usize {
            *self.segments_max.borrow()
        }

        fn send_segments(&self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
            let result = self.take(to, bytes, segment);
            if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(EIO)) {
                *self.segments_max.borrow_mut() = 1;
            }
            result
        }

        fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
            self.take(to, bytes, bytes.len())
        }
    }

    const EIO: i32 = 5;

    fn addr(port: u16) -> SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, port).into()
    }

    /// Datagrams as (port, length); the bytes count them.
    fn datagrams(shape: &[(u16, usize)]) -> Vec<(SocketAddr, Vec<u8>)> {
        shape.iter().enumerate().map(|(at, (port, len))| (addr(*port), vec![at as u8; *len])).collect()
    }

    struct Run {
        outbox: Outbox,
        counters: Counters,
        waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    }

    impl Run {
        fn new(all: &[(SocketAddr, Vec<u8>)]) -> Run {
            Run {
                outbox: Outbox::default(),
                counters: Counters::default(),
                waiting: all.iter().cloned().collect(),
            }
        }

        fn transmit(&mut self, sink: &Told) -> Flow {
            let waiting = &mut self.waiting;
            self.outbox.transmit(sink, &mut self.counters, |buf| {
                buf.clear();
                let (to, bytes) = waiting.pop_front()?;
                buf.extend_from_slice(&bytes);
                Some(to)
            })
        }
    }

    fn full() -> io::Error {
        io::ErrorKind::WouldBlock.into()
    }

    #[test]
    fn datagrams_for_one_peer_leave_together_and_in_order() {
        let all = datagrams(&[(1, 90), (2, 90), (2, 90), (2, 50), (2, 90), (2, 100), (1, 10), (1, 10)]);
        let (sink, mut run) = (Told::new(64, vec![]), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.left.borrow(), all);
        // A shorter one ends a batch, a longer one and another peer begin one.
        assert_eq!(*sink.calls.borrow(), [(90, 90), (230, 90), (90, 90), (100, 100), (20, 10)]);
        assert_eq!((run.counters.datagrams_out, run.counters.writes), (8, 5));
    }

    #[test]
    fn a_send_has_at_most_so_many_datagrams_and_bytes() {
        let all = datagrams(&[(1, 10); 130]);
        let (sink, mut run) = (Told::new(64, vec![]), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.calls.borrow(), [(640, 10), (640, 10), (20, 10)]);
        assert_eq!(*sink.left.borrow(), all);
        let all = datagrams(&[(1, 1472); 64]);
        let (sink, mut run) = (Told::new(64, vec![]), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.calls.borrow(), [(44 * 1472, 1472), (20 * 1472, 1472)]);
        // Without segmentation each goes by itself.
        let (sink, mut run) = (Told::new(1, vec![]), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.calls.borrow(), [(1472, 1472); 64]);
        assert_eq!(*sink.left.borrow(), all);
    }

    #[test]
    fn a_full_socket_keeps_what_it_met_and_asks_for_no_more() {
        let all = datagrams(&[(1, 30), (1, 30), (1, 20), (2, 40), (3, 40)]);
        for blocked_at in 0..3 {
            let mut answers: Vec<io::Result<()>> = (0..blocked_at).map(|_| Ok(())).collect();
            answers.extend([Err(full()), Err(full())]);
            let (sink, mut run) = (Told::new(64, answers), Run::new(&all));
            assert_eq!(run.transmit(&sink), Flow::Blocked);
            assert!(run.outbox.is_waiting());
            let left = run.waiting.len();
            assert_eq!(run.transmit(&sink), Flow::Blocked, "still full");
            assert_eq!(run.waiting.len(), left);
            assert_eq!(run.transmit(&sink), Flow::Drained);
            assert!(!run.outbox.is_waiting());
            assert_eq!(*sink.left.borrow(), all);
            assert_eq!((run.counters.blocked, run.counters.datagrams_out), (2, 5));
        }
    }

    #[test]
    fn a_refused_segmented_send_goes_datagram_by_datagram() {
        let all = datagrams(&[(1, 30), (1, 30), (1, 30), (1, 20), (1, 20)]);
        let answers = vec![Err(io::Error::from_raw_os_error(EIO)), Ok(()), Err(full())];
        let (sink, mut run) = (Told::new(64, answers), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Blocked);
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.left.borrow(), all);
        assert_eq!(run.outbox.refusal.as_ref().and_then(io::Error::raw_os_error), Some(EIO));
        // Refused for this batch alone, a later one is tried again.
        let answers = vec![Err(io::ErrorKind::NetworkUnreachable.into())];
        let all = datagrams(&[(1, 30), (1, 30), (2, 20), (2, 20)]);
        let (sink, mut run) = (Told::new(64, answers), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.calls.borrow(), [(60, 30), (30, 30), (30, 30), (40, 20)]);
        assert_eq!(*sink.left.borrow(), all);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_datagram_too_long_for_the_path_is_lost_and_no_error() {
        const EMSGSIZE: i32 = 90;
        let all = datagrams(&[(1, 1472), (2, 30), (3, 30)]);
        let answers = vec![
            Err(io::Error::from_raw_os_error(EMSGSIZE)),
            Err(io::ErrorKind::Interrupted.into()),
            Err(io::ErrorKind::PermissionDenied.into()),
        ];
        let (sink, mut run) = (Told::new(64, answers), Run::new(&all));
        assert_eq!(run.transmit(&sink), Flow::Drained);
        assert_eq!(*sink.left.borrow(), all[2..]);
        assert_eq!((run.counters.too_long, run.counters.refused, run.counters.datagrams_out), (1, 1, 1));
        assert_eq!(run.outbox.error.map(|error| error.kind()), Some(io::ErrorKind::PermissionDenied));
    }
}
