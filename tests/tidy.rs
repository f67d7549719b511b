//! Is the house in order? Who may depend on whom, what source files look like, what public pages say.
//!
//! The rules are tables at the head of each part; a failure names the file or arrow and what to do.

mod circles;
mod pages;
mod sources;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the repository by its path from the root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// Every file below `folder` that `wanted` wants, as paths from the root with `/`, sorted.
///
/// Folders of builds and packages are left out, and so is what begins with a dot.
fn files(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || ["target", "node_modules", "data"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&name) {
                found.push(from_root(&path));
            }
        }
    }
    found.sort();
    found
}

fn from_root(path: &Path) -> String {
    let path = path.strip_prefix(root()).map_or_else(|_| path.to_owned(), PathBuf::from);
    path.to_string_lossy().replace('\\', "/")
}

/// Fails with all findings at once, one a line.
#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n\n{}\n", findings.join("\n"));
}
