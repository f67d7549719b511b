//! One WebSocket connection as the frame thread and its task share it: a bounded queue out, a byte credit in.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kaos_kernel::fault::FaultKind;
use kaos_kernel::ids::PeerId;
use tokio::sync::{Notify, Semaphore};

/// Bytes that wait for one connection's task; as much again may be under way in it. A message that does not
/// fit is refused to the frame, which keeps it (counted messages) or drops it (all others).
pub(crate) const OUT_BYTES_MAX: usize = 128 * 1024;

/// What messages with [`WhenFull::UseReserve`] may take beyond that.
const RESERVE_BYTES: usize = 16 * 1024;

/// Bytes of one connection that wait for the frame. When they are spent, its socket is not read.
pub(crate) const IN_CREDIT: usize = 256 * 1024;

/// Locks even if a holder panicked: the data behind these locks is whole between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared part of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// Bytes that it may still send before the frame takes some.
    pub(crate) credit: Semaphore,
    /// There is something to write, or to close.
    pub(crate) wake: Notify,
    /// It was told to close: notifies the task, which bounds how long that may take.
    pub(crate) ending: Notify,
    /// Its peer, written and read by the frame thread; 0: none.
    peer: AtomicU64,
    out: Mutex<Out>,
}

#[derive(Default, Debug)]
struct Out {
    bytes: Vec<u8>,
    /// A message was refused: say so when there is room again.
    refused: bool,
    /// The last ping's payload, to be echoed.
    pong: Option<Vec<u8>>,
    close: Option<(u16, String)>,
}

/// What becomes of a message when the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhenFull {
    /// It is refused, and the task says when there is room again: for counted messages, which the frame keeps.
    Retry,
    /// It is refused, and that is all: for data that nobody repeats.
    Drop,
    /// It goes into the reserve: for uncounted control messages, such as a SessionEnd. When that is full too, it is
    /// refused.
    UseReserve,
}

/// What a connection's task has to do next.
pub(crate) struct Work {
    /// A ping to answer.
    pub(crate) pong: Option<Vec<u8>>,
    /// Close after everything else, with a code and a reason.
    pub(crate) close: Option<(u16, String)>,
    /// Tell the frame that there is room again.
    pub(crate) writable: bool,
}

impl Link {
    pub(crate) fn new(address: IpAddr) -> Self {
        Link {
            address,
            credit: Semaphore::new(IN_CREDIT),
            wake: Notify::new(),
            ending: Notify::new(),
            peer: AtomicU64::new(0),
            out: Mutex::default(),
        }
    }

    pub(crate) fn peer(&self) -> Option<PeerId> {
        let bits = self.peer.load(Ordering::Relaxed);
        let peer = PeerId { slot: bits as u32, generation: (bits >> 32) as u32 };
        (bits != 0).then_some(peer)
    }

    /// Generations begin with 1, so no peer is 0.
    pub(crate) fn set_peer(&self, peer: Option<PeerId>) {
        let bits = peer.map_or(0, |peer| u64::from(peer.generation) << 32 | u64::from(peer.slot));
        self.peer.store(bits, Ordering::Relaxed);
    }

    /// Queues a message without waking the task. Returns whether it was taken.
    pub(crate) fn push(&self, parts: &[&[u8]], when_full: WhenFull) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = lock(&self.out);
        let most = match when_full {
            WhenFull::Retry | WhenFull::Drop => OUT_BYTES_MAX,
            WhenFull::UseReserve => OUT_BYTES_MAX + RESERVE_BYTES,
        };
        if out.close.is_some() || out.bytes.len() + len > most {
            out.refused |= when_full == WhenFull::Retry;
            return false;
        }
        for part in parts {
            out.bytes.extend_from_slice(part);
        }
        true
    }

    /// Asks for the close, after what is queued. The first code and reason count.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let mut out = lock(&self.out);
        if out.close.is_none() {
            out.close = Some((code, kaos_wire::limits::cut(reason, 100).to_owned()));
        }
        drop(out);
        self.wake.notify_one();
        self.ending.notify_one();
    }

    /// Answers a ping. Only the newest is answered (RFC 6455 5.5.3).
    pub(crate) fn pong(&self, payload: Vec<u8>) {
        lock(&self.out).pong = Some(payload);
        self.wake.notify_one();
    }

    /// Takes what is queued, in exchange for the empty `bytes`; `None`: nothing to do.
    pub(crate) fn take_work(&self, bytes: &mut Vec<u8>) -> Option<Work> {
        let mut out = lock(&self.out);
        if out.bytes.is_empty() && out.pong.is_none() && out.close.is_none() {
            return None;
        }
        std::mem::swap(&mut out.bytes, bytes);
        let writable = std::mem::take(&mut out.refused) && out.close.is_none();
        Some(Work { pong: out.pong.take(), close: out.close.clone(), writable })
    }
}

/// The WebSocket close code for a fault number. Those without a code of the protocol's own (RFC 6455 7.4.1)
/// are 4000 and the fault number.
pub(crate) fn close_code(fault: u16) -> u16 {
    let is = |kind: FaultKind| kind.code() == fault;
    match fault {
        0 => 1000,
        _ if is(FaultKind::Stopping) => 1001,
        _ if is(FaultKind::Protocol) => 1002,
        _ if is(FaultKind::Internal) => 1011,
        _ if is(FaultKind::Busy) => 1013,
        fault => 4000 + fault.min(999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_says_when_there_is_room() {
        let link = Link::new(IpAddr::from([127, 0, 0, 1]));
        let big = vec![0; 65_538];
        assert!(link.push(&[&big], WhenFull::Retry));
        assert!(!link.push(&[&big], WhenFull::Retry));
        // Smaller ones still fit; a last message goes into the reserve.
        assert!(link.push(&[&[0; 60_000]], WhenFull::Retry));
        assert!(!link.push(&[&[0; 6_000]], WhenFull::Drop));
        assert!(link.push(&[&[0; 6_000]], WhenFull::UseReserve));
        let mut bytes = Vec::new();
        let work = link.take_work(&mut bytes).expect("work");
        assert!(work.writable);
        assert_eq!(bytes.len(), 65_538 + 66_000);
        bytes.clear();
        assert!(link.take_work(&mut bytes).is_none());
        link.close(1000, "bye");
        link.close(1001, "again");
        assert!(!link.push(&[b"late"], WhenFull::UseReserve));
        let work = link.take_work(&mut bytes).expect("work");
        assert_eq!(work.close, Some((1000, "bye".to_owned())));
    }

    #[test]
    fn a_peer_is_remembered() {
        let link = Link::new(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(link.peer(), None);
        let peer = PeerId { slot: 7, generation: u32::MAX };
        link.set_peer(Some(peer));
        assert_eq!(link.peer(), Some(peer));
        link.set_peer(None);
        assert_eq!(link.peer(), None);
    }
}
