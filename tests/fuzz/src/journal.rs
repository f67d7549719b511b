//! Journals: whole files, and records whose checksum no longer stands in the way.

use kaos_kernel::journal::{Reader, Record};
use xxhash_rust::xxh3::xxh3_64;

/// A file as it is.
pub(crate) fn file(bytes: &[u8]) {
    if let Ok((_, records)) = Reader::new(bytes) {
        // Each record takes eight bytes at least; after damage there is no further one.
        assert!(records.count() <= bytes.len() / 8 + 1);
    }
}

/// `bytes` as the only record of a file, and as its header.
pub(crate) fn record(bytes: &[u8]) {
    const REAL: &[u8] = include_bytes!("../corpus/journal/real");
    let (name, rest) = REAL.split_at(8);
    let header_bytes = u32::from_le_bytes(rest[..4].try_into().expect("four")) as usize;
    let header = &rest[..8 + header_bytes];
    let sealed = seal(bytes);

    let whole = [name, header, &sealed].concat();
    let (_, records) = Reader::new(&whole).expect("the header is a real one");
    let read: Vec<Result<Record, _>> = records.collect();
    assert_eq!(read.len(), 1, "what can be read is a record, and what cannot is damage");
    drop(Reader::new(&[name, &sealed].concat()));
}

fn seal(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    let checksum = xxh3_64(body) as u32;
    [&length.to_le_bytes()[..], &checksum.to_le_bytes(), body].concat()
}
