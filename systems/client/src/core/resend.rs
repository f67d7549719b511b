//! The resend buffer: the counted messages of one channel that may have to be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

/// The counted messages of one channel that the server has not acknowledged, oldest first.
#[derive(Default, Debug)]
pub(super) struct ResendBuffer {
    kept: VecDeque<Bytes>,
    /// How many the server has acknowledged: the count of the message before `kept[0]`.
    acknowledged: u64,
    /// How many of `kept` were given to the present connection.
    handed: usize,
}

impl ResendBuffer {
    pub(super) fn push(&mut self, message: Bytes) {
        self.kept.push_back(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The next message for the connection.
    pub(super) fn peek(&self) -> Option<&Bytes> {
        self.kept.get(self.handed)
    }

    pub(super) fn advance(&mut self) {
        self.handed = self.kept.len().min(self.handed + 1);
    }

    /// Drops what is acknowledged; returns its bytes. `None`: the server claims what was never given to it.
    pub(super) fn acknowledge(&mut self, count: u64) -> Option<usize> {
        if count > self.acknowledged + self.handed as u64 {
            return None;
        }
        let mut bytes = 0;
        while self.acknowledged < count {
            bytes += self.kept.pop_front().map_or(0, |message| message.len());
            self.handed = self.handed.saturating_sub(1);
            self.acknowledged += 1;
        }
        Some(bytes)
    }

    /// A new connection: like [`ResendBuffer::acknowledge`], and everything that is left is to be sent again.
    /// `None` also when the server has less than it had acknowledged.
    pub(super) fn rewind(&mut self, count: u64) -> Option<usize> {
        if count < self.acknowledged {
            return None;
        }
        let bytes = self.acknowledge(count)?;
        self.handed = 0;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_resends_what_was_not_received_and_nothing_else() {
        let mut buffer = ResendBuffer::default();
        for message in [&b"1"[..], b"22", b"333"] {
            buffer.push(Bytes::from_static(message));
        }
        buffer.advance();
        buffer.advance();
        assert_eq!(buffer.acknowledge(3), None, "the third was never given away");
        assert_eq!(buffer.acknowledge(1), Some(1));
        assert_eq!(buffer.acknowledge(0), Some(0), "an older acknowledgement is no news");
        assert_eq!(buffer.peek().map(|m| &m[..]), Some(&b"333"[..]));
        assert_eq!(buffer.rewind(0), None, "less than it had acknowledged");
        assert_eq!(buffer.rewind(1), Some(0));
        assert_eq!(buffer.peek().map(|m| &m[..]), Some(&b"22"[..]));
        buffer.advance();
        buffer.advance();
        assert_eq!(buffer.acknowledge(3), Some(5));
        assert!(buffer.is_empty() && buffer.peek().is_none());
    }
}
