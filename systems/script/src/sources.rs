//! The scripts' directory in memory: paths to bytes. Scripts see these and never the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// The file that `require(name)` means: dots and slashes both part folders, `name.lua` before
    /// `name/init.lua`. There is no way up and no way out.
    ///
    /// # Errors
    /// A sentence: the name is no module name, or there is no such file.
    pub fn find(&self, name: &str) -> Result<&str, String> {
        let path = name.strip_suffix(".lua").unwrap_or(name).replace('.', "/");
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if name.len() > 200 || !path.split('/').all(plain) {
            return Err(
                "a module name is made of letters, digits, _ and -, with dots between folders".to_owned()
            );
        }
        let candidates = [format!("{path}.lua"), format!("{path}/init.lua")];
        for candidate in &candidates {
            if let Some((found, _)) = self.files.get_key_value(candidate) {
                return Ok(found);
            }
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let near = self
            .files
            .keys()
            .find(|p| p.rsplit('/').next().is_some_and(|f| f.strip_suffix(".lua") == Some(last)));
        let hint = near.map_or(String::new(), |p| format!("; there is {}", self.shown(p)));
        Err(format!(
            "module '{name}' not found: no {}, no {}{hint}",
            self.shown(&candidates[0]),
            self.shown(&candidates[1])
        ))
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
            assert_eq!(sources.find(name), Ok(path));
        }
        for name in ["../secret", "/etc/passwd", "", "lib..combat", "lib\0combat", "a b", &"x".repeat(201)] {
            assert!(sources.find(name).unwrap_err().starts_with("a module name"), "{name:?}");
        }
        assert_eq!(
            sources.find("combat").unwrap_err(),
            "module 'combat' not found: no scripts/combat.lua, no scripts/combat/init.lua; there is scripts/lib/combat.lua"
        );
    }
}
