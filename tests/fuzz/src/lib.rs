//! Fuzz targets for everything that reads a stranger's bytes.
//!
//! A target is a function that takes any bytes and panics when a promise is broken. `tests/fuzz/run` drives one with LLVM's
//! coverage-guided fuzzer; `cargo test -p kaos-fuzz` runs each over its corpus and some thousand mutations of that.
#![forbid(unsafe_code)]

mod journal;
mod mutate;
mod pair;
mod wire;

use std::path::PathBuf;

pub use mutate::mutate;

/// Something that reads a stranger's bytes.
pub struct Target {
    /// Names it on the command line, and its folder in `tests/fuzz/corpus`.
    pub name: &'static str,
    /// What is promised of it, in words.
    pub about: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Longest input that makes sense.
    pub bytes_max: usize,
}

impl Target {
    /// The files of its corpus, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn corpus(&self) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read(path)?));
        }
        files.sort();
        Ok(files)
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "rudp_handshake",
        about: "a handshake datagram",
        run: kaos_rudp::fuzzing::handshake,
        bytes_max: 1500,
    },
    Target {
        name: "rudp_key",
        about: "a public key as text; what reads is written the same",
        run: kaos_rudp::fuzzing::public_key,
        bytes_max: 64,
    },
    Target {
        name: "rudp_packet",
        about: "the header of a packet and the frames behind it",
        run: kaos_rudp::fuzzing::packet,
        bytes_max: 1500,
    },
    Target { name: "rudp_frames", about: "the frames of an opened packet", run: frames, bytes_max: 1500 },
    Target {
        name: "rudp_ack",
        about: "an acknowledgement; what decodes encodes to the same",
        run: kaos_rudp::fuzzing::ack,
        bytes_max: 64,
    },
    Target {
        name: "rudp_pair",
        about: "two endpoints whose network and application do what the bytes say: no reliable message is lost, \
                doubled or out of order, bounds hold, both sides agree on the end",
        run: pair::run,
        bytes_max: 2048,
    },
    Target { name: "wire_client", about: "messages that a client sends", run: wire::client, bytes_max: 4096 },
    Target { name: "wire_server", about: "messages that a server sends", run: wire::server, bytes_max: 4096 },
    Target { name: "journal", about: "a journal file", run: journal::file, bytes_max: 4096 },
    Target {
        name: "journal_record",
        about: "the inside of a journal's record, behind a checksum that is right",
        run: journal::record,
        bytes_max: 1024,
    },
];

fn frames(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    kaos_rudp::fuzzing::frames(bytes, flags & 1 == 1);
}
