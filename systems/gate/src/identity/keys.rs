//! The server's keys, one that signs session tokens and one that it is known by over UDP: given by the configuration,
//! or made at the first start and kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use kaos_rudp::PublicKey;
use kaos_rudp::SecretKey;

/// Where made keys are kept, under the data directory.
const FILE: &str = "keys/session.key";
const TRANSPORT_FILE: &str = "keys/transport.key";

/// The fewest bytes of a configured key: 128 bits, which nobody guesses.
const BYTES_MIN: usize = 16;

/// Signing keys that stand in tutorials and other servers' defaults, in any case. Whoever knows one can be anyone.
const KNOWN: [&str; 10] = [
    "defaultkey",
    "defaultencryptionkey",
    "defaultrefreshencryptionkey",
    "defaulthttpkey",
    "changeme",
    "change-me",
    "secret",
    "password",
    "kaosnet",
    "your-256-bit-secret",
];

/// Why there is no key: sentences for people, those about the configuration beginning with their key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Anybody could sign with it.
    #[error(
        "`session.key` is a key that everyone knows. Leave it out: one is made and kept in the data folder; or --dev, \
         to play on this machine"
    )]
    Known,
    /// An empty key is not the same as none.
    #[error("`session.key` is empty: give one, or null, and one is made and kept in the data folder")]
    Empty,
    /// It could be guessed.
    #[error(
        "`session.key` has {0} bytes: it needs at least {BYTES_MIN}. Leave it out: one is made and kept in the data \
         folder"
    )]
    Short(usize),
    /// It cannot be read.
    #[error("`udp.key` is not a key: it needs 64 hexadecimal digits. Leave it out, and one is made")]
    NotHex,
    /// Anybody could be the server.
    #[error("`udp.key` repeats a single byte: choose another key, or leave it out, and one is made")]
    Guessed,
    /// The file cannot be read or written.
    #[error("the key in {path} cannot be used: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where a key came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The configuration.
    Given,
    /// A file of an earlier start.
    Kept,
    /// It was made just now, and is kept.
    Made,
}

/// Checks a `session.key` of the configuration. With `dev` every key passes that is not empty, even one that everybody
/// knows.
///
/// # Errors
/// [`KeyError::Empty`], [`KeyError::Known`], [`KeyError::Short`].
pub fn check_session(given: &str, dev: bool) -> Result<(), KeyError> {
    if given.is_empty() {
        return Err(KeyError::Empty);
    }
    if dev {
        return Ok(());
    }
    if KNOWN.iter().any(|known| given.eq_ignore_ascii_case(known)) {
        return Err(KeyError::Known);
    }
    if given.len() < BYTES_MIN {
        return Err(KeyError::Short(given.len()));
    }
    Ok(())
}

/// Checks a `udp.key` of the configuration: 64 hexadecimal digits, and without `dev` not all of one byte.
///
/// # Errors
/// [`KeyError::NotHex`], [`KeyError::Guessed`].
pub fn check_transport(given: &str, dev: bool) -> Result<(), KeyError> {
    given_transport(given, dev).map(drop)
}

fn given_transport(given: &str, dev: bool) -> Result<SecretKey, KeyError> {
    let key = unhex(given.as_bytes()).ok_or(KeyError::NotHex)?;
    if key.iter().all(|byte| *byte == key[0]) && !dev {
        return Err(KeyError::Guessed);
    }
    Ok(SecretKey::from_bytes(key))
}

/// The session key: `given` by the configuration, see [`check_session`], or from `data/keys/session.key`, which is made
/// with mode 0600 when it is not there. And which of these it was.
///
/// # Errors
/// See [`KeyError`].
pub fn session_key(data: &Path, given: Option<&str>, dev: bool) -> Result<(Vec<u8>, Source), KeyError> {
    if let Some(given) = given {
        check_session(given, dev)?;
        return Ok((given.into(), Source::Given));
    }
    let path = data.join(FILE);
    kept_or_made(&path).map_err(|source| KeyError::File { path, source })
}

/// The secret half of the key that the server is known by over UDP: `given` by the configuration, see
/// [`check_transport`], or from `data/keys/transport.key`, which is made with mode 0600 when it is not there. 64
/// hexadecimal digits either way.
///
/// # Errors
/// See [`KeyError`].
pub fn transport_key(data: &Path, given: Option<&str>, dev: bool) -> Result<SecretKey, KeyError> {
    if let Some(given) = given {
        return given_transport(given, dev);
    }
    let path = data.join(TRANSPORT_FILE);
    let key = kept_or_made(&path).and_then(|(text, _)| {
        let sentence = "it does not have 64 hexadecimal digits; remove the file and a new key is made, which clients do not know";
        unhex(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, sentence))
    });
    key.map(SecretKey::from_bytes).map_err(|source| KeyError::File { path, source })
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut key = [0; 32];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != key.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(key)
}

fn kept_or_made(path: &Path) -> io::Result<(Vec<u8>, Source)> {
    match fs::read(path) {
        Ok(text) => {
            let key = text.trim_ascii().to_vec();
            if key.len() < BYTES_MIN {
                let sentence = "it is too short for a key; remove the file and a new key is made";
                return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
            }
            Ok((key, Source::Kept))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

fn make(path: &Path) -> io::Result<(Vec<u8>, Source)> {
    let random: [u8; 32] = crate::random()?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    match open_private(fs::OpenOptions::new().write(true).create_new(true), path) {
        Ok(mut file) => {
            writeln!(file, "{key}")?;
            file.sync_all()?;
            Ok((key.into_bytes(), Source::Made))
        }
        // Another process was faster: its key counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept_or_made(path),
        Err(error) => Err(error),
    }
}

/// Opens a file that only its owner may read, if this call makes it: keys, and journals, which hold resume tokens.
/// An existing file keeps its permissions.
///
/// # Errors
/// Whatever error the operating system reports.
pub fn open_private(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Makes a folder that only its owner can list. An existing folder keeps its permissions.
fn make_folder(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
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
        let (first, source) = session_key(&folder.0, None, false).expect("made");
        assert_eq!((first.len(), source), (64, Source::Made));
        assert_eq!(session_key(&folder.0, None, false).expect("kept"), (first, Source::Kept));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path| fs::metadata(folder.0.join(path)).expect("there").permissions().mode() & 0o777;
            assert_eq!((mode(FILE), mode("keys")), (0o600, 0o700));
        }
    }

    #[test]
    fn the_transport_key_is_kept_or_given_and_never_a_guess() {
        let folder = Folder::new("transport");
        let made = transport_key(&folder.0, None, false).expect("made");
        assert_eq!(transport_key(&folder.0, None, false).expect("kept").public(), made.public());
        let text: String = made.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(transport_key(&folder.0, Some(&text), false).expect("given").public(), made.public());
        let zeros = "0".repeat(64);
        assert!(matches!(transport_key(&folder.0, Some(&zeros), false), Err(KeyError::Guessed)));
        assert!(transport_key(&folder.0, Some(&zeros), true).is_ok());
        for wrong in ["", "12", &zeros[1..], &zeros.replace('0', "g"), &format!("{zeros}00")] {
            assert!(matches!(transport_key(&folder.0, Some(wrong), true), Err(KeyError::NotHex)), "{wrong}");
        }
        fs::write(folder.0.join(TRANSPORT_FILE), "x".repeat(64)).expect("written");
        assert!(matches!(transport_key(&folder.0, None, false), Err(KeyError::File { .. })));
    }

    #[test]
    fn known_short_and_broken_keys_are_refused() {
        let folder = Folder::new("refused");
        assert!(matches!(session_key(&folder.0, Some("defaultencryptionkey"), false), Err(KeyError::Known)));
        assert!(matches!(session_key(&folder.0, Some("Your-256-Bit-Secret"), false), Err(KeyError::Known)));
        let given = session_key(&folder.0, Some("defaultencryptionkey"), true).expect("given");
        assert_eq!(given, (b"defaultencryptionkey".to_vec(), Source::Given));
        assert!(matches!(session_key(&folder.0, Some(""), true), Err(KeyError::Empty)));
        assert!(matches!(session_key(&folder.0, Some("short"), false), Err(KeyError::Short(5))));
        fs::create_dir_all(folder.0.join("keys")).expect("folder");
        fs::write(folder.0.join(FILE), "x").expect("written");
        assert!(matches!(session_key(&folder.0, None, false), Err(KeyError::File { .. })));
    }
}
