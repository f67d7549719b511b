//! The scripts of a server: read from their directory, tried once, and sorted into matches, rpcs and hooks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kaos_kernel::output::Level;

use crate::functions::{Function, FunctionKind};
use crate::host::{Broadcast, Host, Raised};
use crate::lua::{Config, ErrorKind, Game, Limits, Registered, ScriptError, Vm};
use crate::scan;
use crate::sources::Sources;
use crate::value::Value;

/// Bytes of one file; a longer one is refused.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Files in the directory; more are refused.
const FILES_MAX: usize = 10_000;

/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// What a machine with nothing loaded costs whoever has one made: some 0.2 ms.
const MACHINE_FUEL: i64 = 20_000;

/// Extensions that a runtime takes.
const EXTENSIONS: [&str; 1] = ["lua"];

/// Extensions of files that lie beside scripts and are none: for editors and people.
const BESIDE: [&str; 4] = ["md", "json", "txt", "luarc"];

/// Scripts that were read and tried.
pub struct Library {
    /// The files.
    pub sources: Arc<Sources>,
    /// Modules that are matches: the name under which rooms are made, and the file.
    pub matches: BTreeMap<String, String>,
    /// `kaos.*` beside what every machine has.
    pub functions: Arc<[Function]>,
    /// Of all names and bytes.
    pub hash: u64,
    limits: Limits,
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

impl Registered {
    /// Something wrong with it, at its place.
    pub(crate) fn diagnostic(&self, message: String) -> Diagnostic {
        let (file, line) = self.place.rsplit_once(':').unwrap_or((&self.place, ""));
        match line.parse() {
            Ok(line) => Diagnostic { file: file.to_owned(), line, message },
            Err(_) => Diagnostic { file: self.place.clone(), line: 0, message },
        }
    }
}

impl From<ScriptError> for Diagnostic {
    fn from(error: ScriptError) -> Self {
        Diagnostic { file: error.file, line: error.line, message: error.message }
    }
}

/// Reads every script below a directory. A directory that is not there holds no scripts.
///
/// # Errors
/// A file or folder cannot be read, is too large, or has an extension that no runtime takes.
pub fn read_dir(dir: &Path) -> Result<Sources, Vec<Diagnostic>> {
    let shown = dir.to_string_lossy().trim_end_matches('/').to_owned();
    let mut sources = Sources::new(shown.clone());
    let mut wrong = Vec::new();
    if dir.exists() {
        let mut count = 0;
        walk(dir, "", 0, &mut sources, &mut count, &mut wrong);
    }
    if wrong.is_empty() { Ok(sources) } else { Err(wrong) }
}

fn walk(
    dir: &Path,
    prefix: &str,
    depth: usize,
    sources: &mut Sources,
    count: &mut usize,
    wrong: &mut Vec<Diagnostic>,
) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return fail(wrong, dir, format!("cannot be read: {error}")),
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for name in names.into_iter().filter(|name| !name.starts_with('.')) {
        let path = dir.join(&name);
        let inside = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if path.is_dir() {
            if depth >= DEPTH_MAX {
                fail(wrong, &path, format!("folders go {DEPTH_MAX} deep at most"));
            } else {
                walk(&path, &inside, depth + 1, sources, count, wrong);
            }
            continue;
        }
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        if BESIDE.contains(&extension) || name.ends_with(".d.lua") {
            continue;
        }
        if !EXTENSIONS.contains(&extension) {
            let takes = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
            fail(wrong, &path, format!("no runtime takes this file: scripts end in {takes}"));
            continue;
        }
        *count += 1;
        if *count > FILES_MAX {
            return fail(wrong, &path, format!("there are more than {FILES_MAX} scripts"));
        }
        let size = std::fs::metadata(&path).map_or(0, |data| data.len());
        if size > FILE_BYTES_MAX {
            fail(wrong, &path, format!("has {size} bytes: a script has at most {FILE_BYTES_MAX}"));
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => sources.insert(inside, bytes),
            Err(error) => fail(wrong, &path, format!("cannot be read: {error}")),
        }
    }
}

fn fail(wrong: &mut Vec<Diagnostic>, path: &Path, message: String) {
    wrong.push(Diagnostic { file: path.to_string_lossy().into_owned(), line: 0, message });
}

/// A host for loading: scripts can register and log, and nothing else is there yet.
pub(crate) struct Loading<'a>(pub(crate) &'a mut Vec<(Level, String)>);

impl Host for Loading<'_> {
    fn now_ms(&self) -> i64 {
        0
    }

    fn log(&mut self, level: Level, line: &str) {
        if self.0.len() < 1000 {
            self.0.push((level, line.to_owned()));
        }
    }

    fn broadcast(&mut self, _: Broadcast<'_>) -> Result<(), String> {
        Err("cannot be called while scripts are loaded: there are no rooms yet".to_owned())
    }

    fn call(&mut self, _: usize, _: Vec<Value>, _: &mut i64) -> Result<Value, Raised> {
        Err("cannot be called while scripts are loaded: call it in a function".into())
    }
}

impl Library {
    /// Tries every file once and says what it is.
    ///
    /// # Errors
    /// Every file that does not load, every match that lacks a callback, every name that two files
    /// register, every `kaos.` function that is not there.
    pub(crate) fn load(
        sources: Sources,
        functions: Arc<[Function]>,
        limits: Limits,
    ) -> Result<Self, Vec<Diagnostic>> {
        let hash = hash(&sources);
        let sources = Arc::new(sources);
        let mut library =
            Library { sources: sources.clone(), matches: BTreeMap::new(), functions, hash, limits };
        let mut wrong = Vec::new();
        let mut vm = library.vm(hash).map_err(|error| vec![error.into()])?;
        let mut said = Vec::new();
        for path in sources.paths() {
            let module = match vm.load(&mut Loading(&mut said), path) {
                Ok(called) => called.value,
                Err(error) => {
                    let diagnostic = Diagnostic::from(error.clone());
                    if !wrong.contains(&diagnostic) {
                        wrong.push(diagnostic);
                    }
                    if error.kind == ErrorKind::Memory {
                        return Err(wrong);
                    }
                    continue;
                }
            };
            match Game::missing(&mut vm, &module) {
                Ok(None) => wrong.extend(no_match(&sources, path)),
                Ok(Some(missing)) if missing.is_empty() => {
                    let name = path.strip_suffix(".lua").unwrap_or(path);
                    let name = name.strip_prefix("matches/").unwrap_or(name);
                    if let Some(other) = library.matches.insert(name.to_owned(), path.to_owned()) {
                        let other = sources.shown(&other);
                        let message =
                            format!("the match `{name}` is in {other} already: rename one of the files");
                        wrong.push(Diagnostic { file: sources.shown(path), line: 0, message });
                    }
                }
                Ok(Some(missing)) => {
                    let message = format!(
                        "this match lacks {}: add the function to the table it returns",
                        missing.join(", ")
                    );
                    let line = line_of_return(&sources, path);
                    wrong.push(Diagnostic { file: sources.shown(path), line, message });
                }
                Err(error) => wrong.push(error.into()),
            }
        }
        for row in vm.registered() {
            let file = row.place.rsplit_once(':').map_or("", |(file, _)| file);
            if library.matches.values().any(|path| sources.shown(path) == file) {
                let (kind, name) = (row.kind.name(), &row.name);
                wrong.push(row.diagnostic(format!(
                    "register_{kind} of `{name}` in a match has no effect: rpcs and hooks run on machines without \
                     matches. Move it to a file of its own"
                )));
            }
        }
        wrong.extend(library.unknown_functions());
        wrong.sort();
        if wrong.is_empty() { Ok(library) } else { Err(wrong) }
    }

    /// A machine of these scripts, with nothing loaded.
    ///
    /// # Errors
    /// The memory limit is too small.
    pub(crate) fn vm(&self, seed: u64) -> Result<Vm, ScriptError> {
        let functions = self.functions.iter().map(|function| function.name.clone()).collect();
        Vm::new(Config { seed, limits: self.limits, sources: self.sources.clone(), functions })
    }

    /// A machine with every file loaded that is no match, and what that took of fuel: what rpcs and hooks
    /// run on.
    ///
    /// # Errors
    /// A file failed that did not fail before: it depends on the order of a table or on chance.
    pub(crate) fn service_vm(
        &self,
        seed: u64,
        said: &mut Vec<(Level, String)>,
    ) -> Result<(Vm, i64), ScriptError> {
        let mut vm = self.vm(seed)?;
        let mut fuel = MACHINE_FUEL;
        for path in self.sources.paths() {
            if !self.matches.values().any(|game| game == path) {
                fuel += vm.load(&mut Loading(said), path)?.fuel;
            }
        }
        Ok((vm, fuel))
    }

    /// Calls of `kaos.` functions that no machine has, with the nearest name. A name that a file also looks at
    /// without calling it is passed over: it asks whether the function is there.
    fn unknown_functions(&self) -> Vec<Diagnostic> {
        let Some(known) = self.known_names() else { return Vec::new() };
        let mut wrong = Vec::new();
        for path in self.sources.paths() {
            let uses = scan::uses(self.sources.get(path).map(|bytes| &bytes[..]).unwrap_or_default());
            let asked = |name: &str| uses.iter().any(|other| other.name == name && !other.called);
            for found in &uses {
                if !found.called || known.contains(&found.name) || asked(&found.name) {
                    continue;
                }
                let nearest = kaos_kernel::spelling::nearest(&found.name, known.iter().cloned());
                let message = format!("there is no `kaos.{}`{nearest}", found.name);
                wrong.push(Diagnostic { file: self.sources.shown(path), line: found.line, message });
            }
        }
        wrong
    }

    /// What `kaos` has in a machine, asked of a machine.
    fn known_names(&self) -> Option<Vec<String>> {
        const ASK: &str = "return { names = function() local n = {} for k in pairs(kaos) do n[#n + 1] = k end return n end }";
        let mut sources = Sources::new("");
        sources.insert("names.lua", ASK);
        let functions = self.functions.iter().map(|function| function.name.clone()).collect();
        let config = Config { seed: 0, limits: Limits::default(), sources: Arc::new(sources), functions };
        let mut vm = Vm::new(config).ok()?;
        let mut said = Vec::new();
        let module = vm.load(&mut Loading(&mut said), "names.lua").ok()?.value;
        let names = vm.function(&module, "names").ok()??;
        let called = vm.call(&mut Loading(&mut said), "names", names, &[], 1_000_000).ok()?;
        match called.value.into_iter().next()? {
            Value::List(list) => list.into_iter().map(|name| name.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    }

    /// Rows of the table that scripts may call, for the worker of rpcs.
    pub(crate) fn function(&self, at: usize) -> Option<(&str, &FunctionKind)> {
        self.functions.get(at).map(|function| (function.name.as_str(), &function.kind))
    }
}

/// What lies in matches/ is meant as a match: a file there that returns none was forgotten to be finished.
fn no_match(sources: &Sources, path: &str) -> Option<Diagnostic> {
    path.strip_prefix("matches/")?;
    let message = "this file gives no match: it returns no table with the functions match_init, match_join, \
                   match_leave and match_loop. End it with `return M`, or move it out of matches/";
    let line = line_of_return(sources, path);
    Some(Diagnostic { file: sources.shown(path), line, message: message.to_owned() })
}

/// The line in which a file returns, or should: its last one that is not empty. 0: it has none.
fn line_of_return(sources: &Sources, path: &str) -> u32 {
    let text = sources.get(path).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let lines = || text.lines().zip(1..);
    let returns = lines().filter(|(line, _)| line.starts_with("return")).last();
    let last = || lines().filter(|(line, _)| !line.trim().is_empty()).last();
    returns.or_else(last).map_or(0, |(_, number)| number)
}

fn hash(sources: &Sources) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for path in sources.paths() {
        let bytes = sources.get(path).map(|bytes| &bytes[..]).unwrap_or_default();
        for part in [path.as_bytes(), bytes] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.digest()
}
