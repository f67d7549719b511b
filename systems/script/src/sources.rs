//! The scripts' directory in memory: paths to bytes. Scripts see these and never the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ScriptError;

/// Every source file, by its path inside the scripts' directory, with `/` between folders.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    shown: String,
    files: BTreeMap<String, Arc<[u8]>>,
}

impl Sources {
    /// An empty directory that errors show as `shown`, such as `scripts`.
    pub fn new(shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), files: BTreeMap::new() }
    }

    /// Adds or replaces a file.
    pub fn insert(&mut self, path: impl Into<String>, bytes: impl AsRef<[u8]>) {
        self.files.insert(path.into(), Arc::from(bytes.as_ref()));
    }

    /// The bytes of a file.
    pub fn get(&self, path: &str) -> Option<&Arc<[u8]>> {
        self.files.get(path)
    }

    /// Paths in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The path as errors show it: `scripts/matches/arena.lua`.
    pub fn shown(&self, path: &str) -> String {
        if self.shown.is_empty() { path.to_owned() } else { format!("{}/{path}", self.shown) }
    }

    /// The file of a language that `name` means where scripts require each other: dots and slashes both part folders,
    /// `name.ext` before `name/init.ext`, where `ext` is the language's `extension`. There is no way up and no way out.
    ///
    /// # Errors
    /// A sentence: the name is no module name, or there is no such file.
    pub fn find(&self, name: &str, extension: &str) -> Result<&str, String> {
        let stem = |file: &str| -> Option<String> {
            Some(file.strip_suffix(extension)?.strip_suffix('.')?.to_owned())
        };
        let path = stem(name).unwrap_or_else(|| name.to_owned()).replace('.', "/");
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if name.len() > 200 || !path.split('/').all(plain) {
            return Err(
                "a module name is made of letters, digits, _ and -, with dots between folders".to_owned()
            );
        }
        let candidates = [format!("{path}.{extension}"), format!("{path}/init.{extension}")];
        for candidate in &candidates {
            if let Some((found, _)) = self.files.get_key_value(candidate) {
                return Ok(found);
            }
        }
        let hint = self.hint(name, &path, extension);
        Err(format!(
            "module '{name}' not found: no {}, no {}{hint}",
            self.shown(&candidates[0]),
            self.shown(&candidates[1])
        ))
    }

    /// What `find` says when there is something like `path`: a file of another language, or one in another folder.
    fn hint(&self, name: &str, path: &str, extension: &str) -> String {
        let other = |file: &&String| {
            let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
            file.as_str() == name || stem == path
        };
        if let Some(other) = self.files.keys().find(other) {
            let other = self.shown(other);
            return format!(
                "; {other} is in another language, and only files that end in .{extension} can be required here"
            );
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let near = self.files.keys().find(|file| {
            let file = file.rsplit('/').next().unwrap_or_default();
            file.strip_suffix(extension).and_then(|stem| stem.strip_suffix('.')) == Some(last)
        });
        near.map_or(String::new(), |near| format!("; there is {}", self.shown(near)))
    }
}

/// Something wrong with a script, for people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Diagnostic {
    /// The file, as shown.
    pub file: String,
    /// The line; 0: the whole file.
    pub line: u32,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => write!(f, "{}", self.message),
            (file, 0) => write!(f, "{file}: {}", self.message),
            (file, line) => write!(f, "{file}:{line}: {}", self.message),
        }
    }
}

impl From<ScriptError> for Diagnostic {
    fn from(error: ScriptError) -> Self {
        Diagnostic { file: error.file, line: error.line, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_files_inside() {
        let mut sources = Sources::new("scripts");
        for path in ["lib/combat.lua", "lib/init.lua", "echo.lua"] {
            sources.insert(path, "return 1");
        }
        for (name, path) in [
            ("lib.combat", "lib/combat.lua"),
            ("lib/combat", "lib/combat.lua"),
            ("lib", "lib/init.lua"),
            ("echo.lua", "echo.lua"),
        ] {
            assert_eq!(sources.find(name, "lua"), Ok(path));
        }
        for name in ["../secret", "/etc/passwd", "", "lib..combat", "lib\0combat", "a b", &"x".repeat(201)] {
            assert!(sources.find(name, "lua").unwrap_err().starts_with("a module name"), "{name:?}");
        }
        assert_eq!(
            sources.find("combat", "lua").unwrap_err(),
            "module 'combat' not found: no scripts/combat.lua, no scripts/combat/init.lua; there is scripts/lib/combat.lua"
        );
    }

    #[test]
    fn a_file_of_another_language_is_named() {
        let mut sources = Sources::new("scripts");
        sources.insert("lib/sum.calc", "");
        for name in ["lib.sum", "lib/sum.calc"] {
            let sentence = sources.find(name, "lua").unwrap_err();
            let hint = "; scripts/lib/sum.calc is in another language, and only files that end in .lua can be required here";
            assert!(sentence.ends_with(hint), "{sentence}");
        }
        assert_eq!(sources.find("lib.sum", "calc"), Ok("lib/sum.calc"));
    }
}
