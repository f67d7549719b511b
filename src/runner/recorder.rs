//! Writes the journal to a file, on a thread of its own: no frame waits for a disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Bytes that may wait for the disk. Beyond it recording ends with an error in the log: a journal with a
/// hole in it would be worth nothing.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The way to the file.
pub(super) struct Recorder {
    chunks: Option<Sender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Makes the file, or empties it, and its folder.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::create(path)?;
        let (chunks, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = {
            let waiting = waiting.clone();
            std::thread::Builder::new().name("kaos-journal".to_owned()).spawn(move || {
                if let Err(error) = write(file, &received, &waiting) {
                    tracing::error!(%error, "the journal cannot be written on; what is in the file is good");
                }
            })?
        };
        Ok(Recorder { chunks: Some(chunks), waiting, thread: Some(thread) })
    }

    /// Hands over what is to be appended.
    pub(super) fn append(&mut self, chunk: Vec<u8>) {
        let Some(chunks) = &self.chunks else { return };
        let waiting = self.waiting.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len();
        if waiting > WAITING_BYTES_MAX {
            tracing::error!("the disk is too slow for the journal: recording ends here");
            self.chunks = None;
            return;
        }
        // A writer that failed has said so.
        let _ = chunks.send(chunk);
    }
}

impl Drop for Recorder {
    /// Waits until everything is in the file.
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(file: File, chunks: &Receiver<Vec<u8>>, waiting: &AtomicUsize) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(256 * 1024, file);
    while let Ok(chunk) = chunks.recv() {
        file.write_all(&chunk)?;
        // What a crash of the process would lose is only what came within this loop.
        if waiting.fetch_sub(chunk.len(), Ordering::Relaxed) == chunk.len() {
            file.flush()?;
        }
    }
    file.flush()?;
    file.get_ref().sync_all()
}
