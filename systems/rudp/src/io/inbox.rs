//! What comes in: one read of many datagrams, taken apart again.

use std::{
    array,
    io::{self, IoSliceMut},
    net::SocketAddr,
};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use super::{Counters, Intake, backend::System};

/// No datagram of the transport is longer. Longer ones may be cut, since no tag fits them then.
const PLAIN_BYTES: usize = 2048;

/// The longest read, a coalesced one included, plus two cache lines: slots at a distance of a power of two would all
/// compete for the same few lines of the cache.
const SLOT_BYTES: usize = 65_536 + 128;

/// See the module.
pub(super) struct Inbox {
    /// `reads` slots, or a single short one without batches. The system zeroes it, so that what no datagram reaches
    /// takes no memory.
    buffer: Vec<u8>,
    reads: usize,
    metas: Vec<RecvMeta>,
}

impl Inbox {
    pub(super) fn plain() -> Inbox {
        Inbox { buffer: vec![0; PLAIN_BYTES], reads: 1, metas: Vec::new() }
    }

    pub(super) fn batched(reads: usize) -> Inbox {
        let reads = reads.clamp(1, BATCH_SIZE);
        Inbox { buffer: vec![0; reads * SLOT_BYTES], reads, metas: vec![RecvMeta::default(); reads] }
    }

    /// Reads until the socket is empty or `max` datagrams have come, which the last read may exceed.
    pub(super) fn receive<S: System>(
        &mut self,
        system: &S,
        state: Option<&UdpSocketState>,
        max: usize,
        counters: &mut Counters,
        mut take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<Intake> {
        let mut datagrams = 0;
        while datagrams < max {
            let read = match state {
                Some(state) => self.read(system, state, &mut take),
                None => self.read_one(system, &mut take),
            };
            match read {
                Ok((came, is_last)) => {
                    datagrams += came;
                    counters.reads += 1;
                    counters.datagrams_in += came as u64;
                    // A system that reports readiness only once must be asked until it says no.
                    if is_last && !S::TELLS_ONCE {
                        return Ok(Intake { datagrams, more: false });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Intake { datagrams, more: false });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Intake { datagrams, more: true })
    }

    /// One call: how many datagrams, and whether it found the socket empty after them.
    fn read<S: System>(
        &mut self,
        system: &S,
        state: &UdpSocketState,
        take: &mut impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<(usize, bool)> {
        let Inbox { buffer, reads, metas } = self;
        let mut slots = buffer.chunks_exact_mut(SLOT_BYTES);
        let mut slots: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let slots = slots.get_mut(..*reads).unwrap_or_default();
        let filled = system.reading(|socket| state.recv(socket, slots, metas))?;
        let mut came = 0;
        for (slot, meta) in slots.iter_mut().zip(metas).take(filled) {
            let Some(bytes) = slot.get_mut(..meta.len) else { continue };
            // An empty datagram counts as well: it kept us busy.
            came += bytes.len().div_ceil(meta.stride.max(1)).max(1);
            bytes.chunks_mut(meta.stride.max(1)).for_each(|datagram| take(meta.addr, datagram));
        }
        Ok((came, filled < *reads))
    }

    fn read_one<S: System>(
        &mut self,
        system: &S,
        take: &mut impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<(usize, bool)> {
        let (length, from) = match system.recv_from(&mut self.buffer) {
            // Some systems refuse a datagram that is too long instead of cutting it. It was not one of ours.
            Err(error) if quinn_udp::is_msg_size_err(&error) => return Ok((1, false)),
            other => other?,
        };
        if let Some(datagram) = self.buffer.get_mut(..length) {
            take(from, datagram);
        }
        Ok((1, false))
    }
}
