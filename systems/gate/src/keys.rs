//! The key that signs session tokens: given by the configuration, or made at the first start and kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a made key is kept, under the data directory.
const FILE: &str = "keys/session.key";

/// Bytes that a given key has at least: 128 bits of text nobody guesses.
const BYTES_MIN: usize = 16;

/// Keys that everybody knows.
const KNOWN: [&str; 3] = ["defaultencryptionkey", "defaultkey", "defaultrefreshencryptionkey"];

/// Why there is no key: sentences for people.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Anybody could sign with it.
    #[error(
        "`session.key` is one of the default keys that everybody knows: choose another, or leave it out and one is made"
    )]
    Known,
    /// It could be guessed.
    #[error(
        "`session.key` is {0} bytes long: it needs at least {BYTES_MIN}, or leave it out and one is made"
    )]
    Short(usize),
    /// The file cannot be read or written.
    #[error("the session key in {path} cannot be used: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The session key: `given` by the configuration, or from `data/keys/session.key`, which is made with mode
/// 0600 when it is not there. With `dev` any given key will do, also one that everybody knows.
///
/// # Errors
/// See [`KeyError`].
pub fn session_key(data: &Path, given: Option<&str>, dev: bool) -> Result<Vec<u8>, KeyError> {
    if let Some(given) = given {
        if KNOWN.contains(&given) && !dev {
            return Err(KeyError::Known);
        }
        if given.len() < BYTES_MIN && !dev {
            return Err(KeyError::Short(given.len()));
        }
        return Ok(given.into());
    }
    let path = data.join(FILE);
    kept_or_made(&path).map_err(|source| KeyError::File { path, source })
}

fn kept_or_made(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(text) => {
            let key = text.trim_ascii().to_vec();
            if key.len() < BYTES_MIN {
                let sentence = "it is too short for a key; remove the file and a new one is made";
                return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
            }
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

fn make(path: &Path) -> io::Result<Vec<u8>> {
    let random: [u8; 32] = crate::random()?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => {
            writeln!(file, "{key}")?;
            file.sync_all()?;
            Ok(key.into_bytes())
        }
        // Another process was faster: its key is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept_or_made(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kaos-keys-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept_for_oneself() {
        let folder = Folder::new("made");
        let first = session_key(&folder.0, None, false).expect("made");
        assert_eq!(first.len(), 64);
        assert_eq!(session_key(&folder.0, None, false).expect("kept"), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.0.join(FILE)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn known_short_and_broken_keys_are_refused() {
        let folder = Folder::new("refused");
        assert!(matches!(session_key(&folder.0, Some("defaultencryptionkey"), false), Err(KeyError::Known)));
        assert!(session_key(&folder.0, Some("defaultencryptionkey"), true).is_ok());
        assert!(matches!(session_key(&folder.0, Some("short"), false), Err(KeyError::Short(5))));
        fs::create_dir_all(folder.0.join("keys")).expect("folder");
        fs::write(folder.0.join(FILE), "x").expect("written");
        assert!(matches!(session_key(&folder.0, None, false), Err(KeyError::File { .. })));
    }
}
