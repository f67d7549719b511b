//! What leaves: gathers datagrams for one peer into one send, and keeps what a full socket did not take.

use std::{io, net::SocketAddr};

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

/// See the module.
#[derive(Default)]
pub(super) struct Outbox {
    /// Datagrams to `to`: all `segment` bytes long but the last, which may be shorter. The first `sent` bytes left.
    batch: Vec<u8>,
    to: Option<SocketAddr>,
    segment: usize,
    sent: usize,
    /// The segmented send of this batch was refused.
    is_single: bool,
    /// A datagram that did not fit into the batch begins the next one.
    next: Vec<u8>,
    next_to: Option<SocketAddr>,
    /// The last refusal that was not of length.
    pub(super) error: Option<io::Error>,
    /// The last refusal of a segmented send.
    pub(super) refusal: Option<io::Error>,
}

impl Outbox {
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
        self.sent < self.batch.len() || self.next_to.is_some()
    }

    fn gather(
        &mut self,
        segments_max: usize,
        poll: &mut impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>,
    ) -> bool {
        (self.sent, self.is_single) = (0, false);
        self.to = match self.next_to.take() {
            Some(to) => {
                std::mem::swap(&mut self.batch, &mut self.next);
                Some(to)
            }
            None => poll(&mut self.batch),
        };
        if self.to.is_none() {
            self.batch.clear();
            return false;
        }
        self.segment = self.batch.len();
        for _ in 1..segments_max {
            // The next datagram may be as long as the first; a shorter one was the last.
            let is_full = self.batch.len() + self.segment > BATCH_BYTES_MAX;
            if is_full || !self.batch.len().is_multiple_of(self.segment.max(1)) {
                break;
            }
            let Some(to) = poll(&mut self.next) else { break };
            if Some(to) != self.to || self.next.is_empty() || self.next.len() > self.segment {
                self.next_to = Some(to);
                break;
            }
            self.batch.extend_from_slice(&self.next);
        }
        true
    }

    /// Sends the batch. `false`: the socket is full, and the rest is kept.
    fn flush(&mut self, sink: &impl Sink, counters: &mut Counters) -> bool {
        let Some(to) = self.to else { return true };
        while let Some(rest) = self.batch.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let several = rest.len() > self.segment && !self.is_single && sink.segments_max() > 1;
            let now = if several { rest } else { rest.get(..self.segment).unwrap_or(rest) };
            let result = match several {
                true => sink.send_segments(to, now, self.segment),
                false => sink.send(to, now),
            };
            match result {
                Ok(()) => {
                    counters.writes += 1;
                    counters.datagrams_out += now.len().div_ceil(self.segment.max(1)) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if several => {
                    // Perhaps the card cannot segment, perhaps the path is broken: each datagram will tell.
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
            self.sent += now.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque};

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
