//! Reads the scripts' directory.

use std::path::Path;

use crate::runtime::Runtimes;
use crate::sources::{Diagnostic, Sources};

/// Bytes of one file; a longer one is refused.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Files in the directory; more are refused.
const FILES_MAX: usize = 10_000;

/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// Extensions of files that lie beside scripts and are none: for editors and people.
const BESIDE: [&str; 4] = ["md", "json", "txt", "luarc"];

/// Reads every script below a directory. A directory that is not there holds no scripts.
///
/// # Errors
/// A file or folder cannot be read, is too large, or has an extension that no runtime takes.
pub(crate) fn read_dir(dir: &Path, runtimes: &Runtimes) -> Result<Sources, Vec<Diagnostic>> {
    let shown = dir.to_string_lossy().trim_end_matches('/').to_owned();
    let mut reader = Reader { runtimes, sources: Sources::new(shown), count: 0, wrong: Vec::new() };
    if dir.exists() {
        reader.folder(dir, "", 0);
    }
    if reader.wrong.is_empty() { Ok(reader.sources) } else { Err(reader.wrong) }
}

/// Reads folders, one below the other.
struct Reader<'a> {
    runtimes: &'a Runtimes,
    sources: Sources,
    /// Scripts so far.
    count: usize,
    wrong: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Reads a folder, whose path inside the directory is `prefix`, and what is below it.
    fn folder(&mut self, dir: &Path, prefix: &str, depth: usize) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return self.fail(dir, format!("cannot be read: {error}")),
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for name in names.into_iter().filter(|name| !name.starts_with('.')) {
            let path = dir.join(&name);
            let inside = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if !path.is_dir() {
                if self.count > FILES_MAX {
                    return;
                }
                self.file(&path, inside, &name);
            } else if depth >= DEPTH_MAX {
                self.fail(&path, format!("folders go {DEPTH_MAX} deep at most"));
            } else {
                self.folder(&path, &inside, depth + 1);
            }
        }
    }

    /// Reads a file, unless it is none of a runtime and may lie there all the same.
    fn file(&mut self, path: &Path, inside: String, name: &str) {
        let beside = name.rsplit_once('.').is_some_and(|(_, extension)| BESIDE.contains(&extension));
        if beside || self.runtimes.pass_over(name) {
            return;
        }
        if let Err(sentence) = self.runtimes.of(name) {
            return self.fail(path, sentence);
        }
        self.count += 1;
        if self.count > FILES_MAX {
            return self.fail(path, format!("there are more than {FILES_MAX} scripts"));
        }
        let size = std::fs::metadata(path).map_or(0, |data| data.len());
        if size > FILE_BYTES_MAX {
            return self.fail(path, format!("has {size} bytes: a script has at most {FILE_BYTES_MAX}"));
        }
        match std::fs::read(path) {
            Ok(bytes) => self.sources.insert(inside, bytes),
            Err(error) => self.fail(path, format!("cannot be read: {error}")),
        }
    }

    fn fail(&mut self, path: &Path, message: String) {
        self.wrong.push(Diagnostic { file: path.to_string_lossy().into_owned(), line: 0, message });
    }
}
