//! Writes the journal to a file, on a thread of its own: no frame waits for a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kaos_gate::identity::keys::open_private;

/// Bytes that may wait for the disk. Beyond it recording ends with an error in the log: a journal with a
/// hole in it would be worth nothing.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The way to the file.
pub(super) struct Recorder {
    chunks: Option<Sender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    /// Gives back whether everything that it was handed is in the file.
    thread: Option<JoinHandle<bool>>,
    /// Something was not handed to the thread.
    cut: bool,
}

impl Recorder {
    /// Makes the file, which only the server's user may read since it holds resume tokens, and its folder. A file that
    /// is there already, such as that of a run that crashed, is kept as `<name>.1`; the one before it goes.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        keep_old(path)?;
        let file = open_private(OpenOptions::new().write(true).create(true).truncate(true), path)?;
        let (chunks, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = {
            let waiting = waiting.clone();
            std::thread::Builder::new().name("kaos-journal".to_owned()).spawn(move || {
                let written = write(file, &received, &waiting);
                if let Err(error) = &written {
                    tracing::error!(%error, "the journal cannot be written on: it ends here");
                }
                written.is_ok()
            })?
        };
        Ok(Recorder { chunks: Some(chunks), waiting, thread: Some(thread), cut: false })
    }

    /// Hands over what is to be appended.
    pub(super) fn append(&mut self, chunk: Vec<u8>) {
        let Some(chunks) = &self.chunks else { return };
        let waiting = self.waiting.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len();
        if waiting > WAITING_BYTES_MAX {
            tracing::error!("the disk is too slow for the journal: recording ends here");
            self.chunks = None;
            self.cut = true;
            return;
        }
        if chunks.send(chunk).is_err() {
            // The writer failed and has said so; it says so again at the end.
            self.chunks = None;
        }
    }

    /// Waits until everything is in the file. Is the journal whole?
    pub(super) fn finish(mut self) -> bool {
        self.wait() && !self.cut
    }

    fn wait(&mut self) -> bool {
        self.chunks = None;
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for Recorder {
    /// After a crash, too, what was handed over goes to the file.
    fn drop(&mut self) {
        self.wait();
    }
}

/// Moves a file that is there out of the way. What is no file, such as a pipe, is written to as it is.
fn keep_old(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(old) if old.is_file() && old.len() > 0 => fs::rename(path, old_name(path)),
        // Made anew, so that it gets our mode.
        Ok(old) if old.is_file() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// `run.kj.1` for `run.kj`.
fn old_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
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
    match file.get_ref().sync_all() {
        // What is no file on a disk, such as a pipe, has nothing to wait for.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kaos-recorder-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(path: &Path, text: &str) -> bool {
        let mut recorder = Recorder::start(path).expect("it opens");
        recorder.append(text.into());
        recorder.finish()
    }

    #[test]
    fn the_journal_of_the_run_before_is_kept() {
        let folder = Folder::new("kept");
        let path = folder.0.join("journals/run.kj");
        for text in ["first", "second", "third"] {
            assert!(record(&path, text));
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), "third");
        assert_eq!(fs::read_to_string(old_name(&path)).expect("there"), "second");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("mode");
        let path = folder.0.join("run.kj");
        fs::create_dir_all(&folder.0).expect("made");
        // A file that was there for everybody lends its mode to nobody.
        fs::write(&path, "").expect("written");
        for _ in 0..2 {
            assert!(record(&path, "text"));
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_makes_it_incomplete() {
        assert!(!record(Path::new("/dev/full"), "text"));
        assert!(record(Path::new("/dev/null"), "text"));
    }
}
