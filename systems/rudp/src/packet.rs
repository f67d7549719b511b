//! The byte format of packets in a connection: header and frames. README.md has the same in tables.

mod write;

pub(crate) use self::write::Writer;
use crate::{channel::Channel, coding::Reader, error::Violation, noise::TAG_BYTES, path::Challenge};

/// The protocol version of this crate.
pub const VERSION: u8 = 1;

/// Bytes of the largest datagram on a path that is not known yet, UDP payload. Every IPv6 path carries 1,280 bytes with
/// IP and UDP headers; the Hello, padded to this size, shows that this path does.
pub const DATAGRAM_BYTES_BASE: usize = 1200;

/// Bytes of the largest datagram on any path, UDP payload: what Ethernet carries over IPv4. A buffer for reading from a
/// socket needs this size.
pub const DATAGRAM_BYTES_MAX: usize = 1472;

/// Bytes of the longest message that travels whole, and of a fragment of a longer one: what fits into a datagram of
/// `DATAGRAM_BYTES_BASE` together with the longest header and tag, acknowledgement and frame header (25 + 35 + 11
/// bytes), rounded down. Longer datagrams carry more messages, not longer fragments: a path may shrink while a message
/// is under way.
pub const FRAGMENT_BYTES: usize = 1120;

/// Bytes of the longest message on an unreliable channel: 16 fragments. Each is a datagram that may be lost, and with
/// it the message; over a path that loses 1 % of them, 15 % of messages of that length are lost.
pub const UNRELIABLE_BYTES_MAX: usize = UNRELIABLE_FRAGMENTS_MAX as usize * FRAGMENT_BYTES;

/// Fragments of an unreliable message.
pub(crate) const UNRELIABLE_FRAGMENTS_MAX: u32 = 16;

/// The fewest bytes of a fragment that is not the last of its message. Bounds the number of fragments.
pub(crate) const FRAGMENT_BYTES_MIN: usize = 512;

/// First byte: set for handshake datagrams (`handshake.rs`), clear for packets.
pub(crate) const FLAG_HANDSHAKE: u8 = 0x80;
/// First byte: a connection id follows. Set from connector to acceptor only.
pub(crate) const FLAG_ID: u8 = 0x40;
/// First byte: key phase, see `keys.rs`.
pub(crate) const FLAG_PHASE: u8 = 0x20;
/// First byte: the frames begin with an acknowledgement.
pub(crate) const FLAG_ACK: u8 = 0x10;
/// First byte: reserved, clear.
const FLAGS_RESERVED: u8 = 0x0c;

const FRAME_PADDING: u8 = 0x00;
const FRAME_PING: u8 = 0x01;
const FRAME_CLOSE: u8 = 0x02;
const FRAME_SKIP: u8 = 0x07;
const FRAME_CHALLENGE: u8 = 0x03;
const FRAME_ANSWER: u8 = 0x04;
/// 0x40 to 0x5f message on channel 0 to 31, 0x80 to 0x9f fragment.
const FRAME_MESSAGE: u8 = 0x40;
const FRAME_FRAGMENT: u8 = 0x80;
/// Bit of a message or fragment: it has no length, and ends with the packet.
const FRAME_TO_END: u8 = 0x20;

/// Bytes of the longest close reason.
pub(crate) const REASON_BYTES_MAX: usize = 200;

/// The header of a packet, and where its frames are.
pub(crate) struct Header {
    pub(crate) connection: Option<u32>,
    pub(crate) number_low: u32,
    pub(crate) number_bytes: usize,
    pub(crate) has_ack: bool,
    pub(crate) phase: bool,
    pub(crate) frames_at: usize,
}

/// Bytes of the header of a packet with this first byte.
pub(crate) fn header_bytes(flags: u8) -> usize {
    let id_bytes = if flags & FLAG_ID != 0 { 4 } else { 0 };
    1 + id_bytes + usize::from(flags & 0x03) + 1
}

impl Header {
    /// `None` for what no correct peer sends.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Header> {
        let mut reader = Reader::new(datagram);
        let flags = reader.u8()?;
        if flags & (FLAG_HANDSHAKE | FLAGS_RESERVED) != 0 {
            return None;
        }
        let connection = if flags & FLAG_ID != 0 { Some(reader.u32()?) } else { None };
        let number_bytes = usize::from(flags & 0x03) + 1;
        let mut number_low = [0; 4];
        number_low[..number_bytes].copy_from_slice(reader.take(number_bytes)?);
        if reader.left() < TAG_BYTES {
            return None;
        }
        Some(Header {
            connection,
            number_low: u32::from_le_bytes(number_low),
            number_bytes,
            has_ack: flags & FLAG_ACK != 0,
            phase: flags & FLAG_PHASE != 0,
            frames_at: datagram.len() - reader.left(),
        })
    }

    /// The whole packet number: the one nearest to `expected` with these low bytes.
    pub(crate) fn number(&self, expected: u64) -> u64 {
        let bits = 8 * self.number_bytes as u32;
        let span = 1u64 << bits;
        let candidate = (expected & !(span - 1)) | u64::from(self.number_low);
        if candidate.saturating_add(span / 2) <= expected {
            candidate.saturating_add(span)
        } else if candidate > expected.saturating_add(span / 2) && candidate >= span {
            candidate - span
        } else {
            candidate
        }
    }
}

/// A decoded frame. Acknowledgements are not frames: a flag of the header announces them, and they come first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Ping,
    Close {
        code: u16,
        reason: &'a [u8],
    },
    Challenge(Challenge),
    Answer(Challenge),
    Message {
        channel: Channel,
        id: u16,
        bytes: &'a [u8],
    },
    Fragment {
        channel: Channel,
        id: u16,
        index: u32,
        count: u32,
        bytes: &'a [u8],
    },
    /// A reliable message was given up.
    Skip {
        channel: Channel,
        id: u16,
    },
}

impl<'a> Frame<'a> {
    /// The next frame of `reader`, after any padding; `None` at the end.
    pub(crate) fn next(reader: &mut Reader<'a>) -> Result<Option<Frame<'a>>, Violation> {
        let kind = loop {
            match reader.u8() {
                None => return Ok(None),
                Some(FRAME_PADDING) => {}
                Some(kind) => break kind,
            }
        };
        let frame = match kind {
            FRAME_PING => Some(Frame::Ping),
            FRAME_CLOSE => Frame::close(reader),
            FRAME_SKIP => Frame::skip(reader),
            FRAME_CHALLENGE => reader.array().map(Frame::Challenge),
            FRAME_ANSWER => reader.array().map(Frame::Answer),
            0x40..=0xbf => {
                let (channel, to_end) = (Channel::from_low_bits(kind), kind & FRAME_TO_END != 0);
                if kind < FRAME_FRAGMENT {
                    Frame::message(reader, channel, to_end)
                } else {
                    Frame::fragment(reader, channel, to_end)
                }
            }
            unknown => return Err(Violation::UnknownFrame(unknown)),
        };
        frame.map(Some).ok_or(Violation::Malformed)
    }

    fn close(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
        let code = reader.u16()?;
        let length = reader.u8()?;
        Some(Frame::Close { code, reason: reader.take(usize::from(length))? })
    }

    fn skip(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
        let channel = Channel::new(reader.u8()?)?;
        Some(Frame::Skip { channel, id: reader.u16()? })
    }

    fn message(reader: &mut Reader<'a>, channel: Channel, to_end: bool) -> Option<Frame<'a>> {
        let id = reader.u16()?;
        let bytes = Frame::payload(reader, to_end)?;
        Some(Frame::Message { channel, id, bytes })
    }

    fn fragment(reader: &mut Reader<'a>, channel: Channel, to_end: bool) -> Option<Frame<'a>> {
        let id = reader.u16()?;
        let index = u32::try_from(reader.varint()?).ok()?;
        let count = u32::try_from(reader.varint()?).ok()?;
        let bytes = Frame::payload(reader, to_end)?;
        (count >= 2 && index < count && !bytes.is_empty()).then_some(Frame::Fragment {
            channel,
            id,
            index,
            count,
            bytes,
        })
    }

    /// The bytes of a message or fragment: to the end of the packet, or as many as the length before them says.
    fn payload(reader: &mut Reader<'a>, to_end: bool) -> Option<&'a [u8]> {
        let length = if to_end { reader.left() } else { usize::try_from(reader.varint()?).ok()? };
        reader.take(length)
    }
}

/// The first 200 bytes of `reason` or fewer, cut between characters.
pub(crate) fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;

    fn frames(bytes: &[u8]) -> Result<Vec<Frame<'_>>, Violation> {
        let mut reader = Reader::new(bytes);
        let mut out = Vec::new();
        while let Some(frame) = Frame::next(&mut reader)? {
            out.push(frame);
        }
        Ok(out)
    }

    #[test]
    fn a_frame_gets_its_length_when_another_follows() {
        let texts: [&'static [u8]; 4] = [&[1; 200], &[], &[2; 127], &[3; 128]];
        for count in 1..=texts.len() {
            for padded in [0, 600] {
                let mut out = Vec::new();
                let mut writer = Writer::new(&mut out, None, 1, None, None);
                let mut expected = 3;
                for (id, text) in texts.iter().enumerate().take(count) {
                    let before = writer.room();
                    assert!(writer.message(Channel::DATA, id as u64, text));
                    let length_bytes = if text.len() < 128 { 1 } else { 2 };
                    expected += 3 + length_bytes + text.len();
                    assert_eq!(before - writer.room(), 3 + length_bytes + text.len());
                }
                writer.pad(padded);
                writer.finish();
                let last = if texts[count - 1].len() < 128 { 1 } else { 2 };
                let bytes = if padded > 0 { padded - TAG_BYTES } else { expected - last };
                assert_eq!(out.len(), bytes, "{count} messages, padded to {padded}");
                let message = |(id, bytes): (usize, &&'static [u8])| Frame::Message {
                    channel: Channel::DATA,
                    id: id as u16,
                    bytes,
                };
                let texts: Vec<_> = texts.iter().enumerate().take(count).map(message).collect();
                assert_eq!(frames(&out[3..]).unwrap(), texts);
            }
        }
    }

    #[test]
    fn a_packet_reads_back_and_its_last_frame_needs_no_length() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Some(0x0102_0304), 300, Some(290), None);
        assert!(writer.message(Channel::CONTROL, 5, b"ab"));
        writer.ping();
        assert!(writer.skip(Channel::DATA, 0x2_0304));
        assert!(writer.message(Channel::UNRELIABLE, 0x1_0007, &[9; 200]));
        writer.finish();
        out.extend_from_slice(&[0; TAG_BYTES]);
        let header = Header::parse(&out).unwrap();
        assert_eq!((header.connection, header.number(299), header.has_ack), (Some(0x0102_0304), 300, false));
        // flags, id, number | type, id, length, "ab" | ping | type, channel, id | type, id, 200 bytes
        assert_eq!(out.len(), 1 + 4 + 2 + 6 + 1 + 4 + 3 + 200 + TAG_BYTES);
        assert_eq!(
            frames(&out[header.frames_at..out.len() - TAG_BYTES]).unwrap(),
            [
                Frame::Message { channel: Channel::CONTROL, id: 5, bytes: b"ab" },
                Frame::Ping,
                Frame::Skip { channel: Channel::DATA, id: 0x0304 },
                Frame::Message { channel: Channel::UNRELIABLE, id: 7, bytes: &[9; 200] },
            ]
        );
    }

    #[test]
    fn the_longest_of_everything_fits_into_a_datagram() {
        let mut out = Vec::new();
        let ack = Ack::longest();
        let mut writer = Writer::new(&mut out, Some(1), u64::from(u32::MAX), None, Some(&ack));
        assert!(writer.fragment(Channel::DATA, 1, 60_000, 60_001, &[1; FRAGMENT_BYTES]));
        writer.finish();
        assert!(out.len() + TAG_BYTES <= DATAGRAM_BYTES_BASE);
    }

    #[test]
    fn numbers_decode_to_the_nearest() {
        let header = |low, bytes| Header {
            connection: None,
            number_low: low,
            number_bytes: bytes,
            has_ack: false,
            phase: false,
            frames_at: 0,
        };
        assert_eq!(header(0x9b32, 2).number(0xa82f_30eb), 0xa82f_9b32);
        assert_eq!(header(0xffff, 2).number(0x1_0000), 0xffff);
        assert_eq!(header(0x0001, 2).number(0xffff), 0x1_0001);
        assert_eq!(header(0xffff, 2).number(0), 0xffff);
        assert_eq!(header(3, 1).number(0), 3);
        for expected in [u64::MAX - 1, u64::MAX - 300, u64::from(u32::MAX)] {
            header(0, 4).number(expected);
            header(u32::MAX, 4).number(expected);
        }
    }

    #[test]
    fn impossible_frames_are_violations() {
        assert_eq!(frames(&[0x40, 1]), Err(Violation::Malformed));
        assert_eq!(frames(&[0x40, 1, 0, 5, 1]), Err(Violation::Malformed));
        assert_eq!(frames(&[0x07, 1, 2]), Err(Violation::Malformed));
        assert_eq!(frames(&[0x07, 32, 2, 0]), Err(Violation::Malformed), "no such number");
        assert_eq!(frames(&[0x81, 1, 0, 2, 2, 1, 1]), Err(Violation::Malformed), "index not under count");
        assert_eq!(frames(&[0x81, 1, 0, 0, 2, 0]), Err(Violation::Malformed), "empty fragment");
        assert_eq!(frames(&[0xc0]), Err(Violation::UnknownFrame(0xc0)));
        assert_eq!(frames(&[0x05]), Err(Violation::UnknownFrame(5)));
        assert_eq!(frames(&[2, 1, 0, 9, 1]), Err(Violation::Malformed));
        assert_eq!(
            frames(&[0x40, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Err(Violation::Malformed)
        );
        assert_eq!(frames(&[0; 100]), Ok(vec![]));
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        assert_eq!(cut(&"é".repeat(150)).len(), 200);
        assert_eq!(cut(&format!("x{}", "é".repeat(150))).len(), 199);
    }
}
