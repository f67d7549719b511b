//! The journal: the inputs of a run, from which a second process makes the same run again.
//!
//! A record is `length u32 | checksum u32 | body`, little-endian; the checksum is the low half of the
//! body's XXH3-64, the body a postcard encoding. The first record is a [`Header`]. Frames in which
//! nothing came in and which ran exactly when they were due are not written: a replay knows of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::input::Input;

/// The first eight bytes of a journal: name and format version.
pub const MAGIC: [u8; 8] = *b"KAOSJ\x00\x00\x01";

/// What a journal was made by. A replay refuses what it is not equal to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The server's version.
    pub version: String,
    /// Microseconds in a frame.
    pub quantum_us: u32,
    /// Every setting of the frame with its value, as one JSON object by key. Secrets are not in it.
    pub settings: String,
    /// Of all scripts' names and bytes.
    pub scripts_hash: u64,
    /// The names of the operations, which say what plugins there are.
    pub ops: Vec<String>,
}

/// One record after the header.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// A frame with inputs, or one that ran later than it was due.
    Frame {
        /// Its number.
        frame: u64,
        /// The frame that ran last before it, 0 when none did. Frames that were due after that one and before
        /// this one were left out, since the runner was late: a replay leaves them out too.
        after: u64,
        /// What came in.
        inputs: Vec<Input>,
    },
    /// What the run had come to after this frame.
    Check {
        /// The last frame that ran.
        frame: u64,
        /// The hash of all outputs so far.
        outputs_hash: u64,
        /// The hash of the state.
        state_hash: u64,
    },
}

/// The newest part of the run, in memory, bounded; and what a file has not been given yet.
#[derive(Debug)]
pub struct Journal {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    complete: bool,
    /// Collects every record for a file when a run is written out as it goes.
    stream: Option<Vec<u8>>,
}

impl Journal {
    /// Keeps at most `bytes_max` bytes in memory: beyond it the oldest records go, and with them the
    /// possibility to replay from memory.
    pub fn new(bytes_max: usize) -> Self {
        Journal { records: VecDeque::new(), bytes: 0, bytes_max, complete: true, stream: None }
    }

    /// Also collects what is written from here on for [`Journal::take_stream`], behind `header`.
    pub fn start_stream(&mut self, header: &Header) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(record(header));
        self.stream = Some(bytes);
    }

    /// What was written since the last time; the caller appends it to its file.
    pub fn take_stream(&mut self) -> Option<Vec<u8>> {
        self.stream.as_mut().filter(|bytes| !bytes.is_empty()).map(std::mem::take)
    }

    /// Adds a record.
    pub fn push(&mut self, what: &Record) {
        let bytes = record(what);
        if let Some(stream) = &mut self.stream {
            stream.extend_from_slice(&bytes);
        }
        self.bytes += bytes.len();
        self.records.push_back(bytes);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.len();
            self.complete = false;
        }
    }

    /// Does it begin with the first frame?
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The whole of it as a file, behind `header`; `None` when the beginning is gone.
    pub fn to_bytes(&self, header: &Header) -> Option<Vec<u8>> {
        if !self.complete {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(record(header));
        for record in &self.records {
            bytes.extend_from_slice(record);
        }
        Some(bytes)
    }
}

fn record<T: Serialize>(body: &T) -> Vec<u8> {
    // Inputs and headers are plain data: postcard writes all of it.
    let body = postcard::to_allocvec(body).unwrap_or_default();
    let mut bytes = Vec::with_capacity(8 + body.len());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&(xxh3_64(&body) as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Why a journal cannot be read on. What came before the damage is good.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JournalError {
    /// Not a journal at all.
    #[error("this is no KaosNet journal: it does not begin with its name")]
    Foreign,
    /// A format that this server does not read.
    #[error("this journal has format {0}; this server reads format 1")]
    Format(u8),
    /// The file ends in the middle of a record.
    #[error("the journal ends in the middle of a record, at byte {at}: it was cut off")]
    Truncated {
        /// Where the record begins.
        at: usize,
    },
    /// A record is not what was written.
    #[error("the journal is damaged at byte {at}: {why}")]
    Damaged {
        /// Where the record begins.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// Reads a journal record by record.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`JournalError`]: no journal, or its header is damaged.
    pub fn new(bytes: &'a [u8]) -> Result<(Header, Reader<'a>), JournalError> {
        let (name, format) = MAGIC.split_at(7);
        match bytes.get(..8) {
            Some(start) if start.starts_with(name) => match start.last() {
                Some(version) if [*version] != *format => return Err(JournalError::Format(*version)),
                _ => {}
            },
            _ => return Err(JournalError::Foreign),
        }
        let mut reader = Reader { bytes, at: 8 };
        let header = reader.body()?.ok_or(JournalError::Truncated { at: 8 })?;
        Ok((header, reader))
    }

    fn body<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, JournalError> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (head, rest) = rest.split_at_checked(8).ok_or(JournalError::Truncated { at })?;
        let number =
            |range| head.get(range).and_then(|b: &[u8]| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (length, checksum) = (number(0..4) as usize, number(4..8));
        let body = rest.get(..length).ok_or(JournalError::Truncated { at })?;
        if xxh3_64(body) as u32 != checksum {
            return Err(JournalError::Damaged { at, why: "a checksum does not match" });
        }
        let value = postcard::from_bytes(body).map_err(|_| JournalError::Damaged {
            at,
            why: "a record cannot be read; another version may have written it",
        })?;
        self.at = at + 8 + length;
        Ok(Some(value))
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.body().transpose();
        if matches!(record, Some(Err(_))) {
            // After damage nothing can be found again: the lengths are not to be trusted.
            self.at = self.bytes.len();
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Boot;

    fn header() -> Header {
        Header {
            version: "0".into(),
            quantum_us: 500,
            settings: "{}".into(),
            scripts_hash: 1,
            ops: vec!["a.b".into()],
        }
    }

    fn sample() -> Vec<u8> {
        let mut journal = Journal::new(1 << 20);
        let boot = Input::Boot(Boot { seed: 1, wall_ms: 2, node: 3 });
        journal.push(&Record::Frame { frame: 0, after: 0, inputs: vec![boot] });
        journal.push(&Record::Check { frame: 9, outputs_hash: 1, state_hash: 2 });
        journal.to_bytes(&header()).expect("complete")
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let (head, reader) = Reader::new(&bytes).expect("a journal");
        assert_eq!(head, header());
        let records: Result<Vec<Record>, JournalError> = reader.collect();
        assert_eq!(records.map(|records| records.len()), Ok(2));
    }

    #[test]
    fn any_damage_is_named_and_nothing_panics() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            match Reader::new(&bytes[..cut]) {
                Ok((_, reader)) => {
                    for record in reader {
                        let _ = record;
                    }
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let whole = Reader::new(&bent)
                .and_then(|(head, reader)| Ok((head, reader.collect::<Result<Vec<_>, _>>()?)));
            assert!(whole.is_err(), "bit {bit} was flipped unseen");
        }
    }

    #[test]
    fn a_full_journal_forgets_its_beginning() {
        let mut journal = Journal::new(64);
        for frame in 0..100 {
            journal.push(&Record::Check { frame, outputs_hash: 0, state_hash: 0 });
        }
        assert!(journal.bytes <= 64);
        assert_eq!(journal.to_bytes(&header()), None);
    }
}
