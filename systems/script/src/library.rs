//! The scripts of a server: tried once by the runtimes of their files, and sorted into matches, rpcs and hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaos_kernel::prelude::Fault;
use kaos_kernel::spelling::nearest;

use crate::contract::MatchInit;
use crate::error::{ErrorKind, ScriptError};
use crate::functions::Functions;
use crate::host::Host;
use crate::runtime::{
    Limits, MatchMachine, Opening, Program, RegisterKind, Registered, RuntimeId, Runtimes, ServiceMachine,
};
use crate::sources::{Diagnostic, Sources};

/// Scripts that were read and tried.
pub(crate) struct Library {
    /// Modules that are matches: the name under which rooms are made, and the file.
    pub(crate) matches: BTreeMap<String, String>,
    /// Functions that scripts call.
    pub(crate) functions: Functions,
    /// Of all names and bytes.
    pub(crate) hash: u64,
    /// What the files that are no matches registered, and in which language.
    pub(crate) registered: Vec<(Registered, RuntimeId)>,
    program: Program,
    runtimes: Runtimes,
}

impl Library {
    /// Tries every file once and says what it is.
    ///
    /// # Errors
    /// Every file that no runtime takes or that does not load, every match that lacks a callback, every name that two
    /// files register, every function that is called and not there.
    pub(crate) fn load(
        sources: Sources,
        runtimes: Runtimes,
        functions: Functions,
        limits: Limits,
    ) -> Result<Self, Vec<Diagnostic>> {
        let hash = hash(&sources);
        let program = Program {
            sources: Arc::new(sources),
            functions: functions.names().clone(),
            limits,
            matches: Default::default(),
        };
        let (matches, registered) = (BTreeMap::new(), Vec::new());
        let mut library = Library { matches, functions, hash, registered, program, runtimes };
        let mut wrong = library.foreign_files();
        let mut tried = Vec::new();
        for (_, runtime) in library.runtimes.clone().iter() {
            if library.program.files(runtime).next().is_none() {
                continue;
            }
            let checked = runtime.check(&library.program);
            wrong.extend(checked.wrong);
            tried.extend(checked.registered);
            for path in checked.matches {
                wrong.extend(library.add_match(path));
            }
        }
        wrong.extend(library.idle_in_matches(&tried));
        wrong.sort();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        library.program.matches = library.matches.values().cloned().collect();
        library.register()?;
        Ok(library)
    }

    /// Files that no runtime takes.
    fn foreign_files(&self) -> Vec<Diagnostic> {
        let sources = &self.program.sources;
        let foreign = sources.paths().filter_map(|path| {
            let message = self.runtimes.of(path).err()?;
            Some(Diagnostic { file: sources.shown(path), line: 0, message })
        });
        foreign.collect()
    }

    /// Adds the match of a file, under the file's name. What is wrong with that comes back.
    fn add_match(&mut self, path: String) -> Option<Diagnostic> {
        let name = path.rsplit_once('.').map_or(path.as_str(), |(name, _)| name);
        let name = name.strip_prefix("matches/").unwrap_or(name).to_owned();
        let file = self.program.sources.shown(&path);
        let other = self.matches.insert(name.clone(), path)?;
        let other = self.program.sources.shown(&other);
        let message = format!("the match `{name}` is in {other} already: rename one of the files");
        Some(Diagnostic { file, line: 0, message })
    }

    /// What matches register, which has no effect.
    fn idle_in_matches(&self, registered: &[Registered]) -> Vec<Diagnostic> {
        let sources = &self.program.sources;
        let of_match = |row: &&Registered| self.matches.values().any(|path| sources.shown(path) == row.file);
        let wrong = registered.iter().filter(of_match).map(|row| {
            let (kind, name) = (row.kind.name(), &row.name);
            row.diagnostic(format!(
                "register_{kind} of `{name}` in a match has no effect: rpcs and hooks run on machines without \
                 matches. Move it to a file of its own"
            ))
        });
        wrong.collect()
    }

    /// The files run once more without the matches: notes what rpcs and hooks will find.
    fn register(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        let mut registered: Vec<(Registered, RuntimeId)> = Vec::new();
        for (id, runtime) in self.runtimes.iter() {
            if self.program.service_files(runtime).next().is_none() {
                continue;
            }
            let (machine, _) =
                runtime.services(&self.program, self.hash).map_err(|error| vec![error.into()])?;
            for row in machine.registered() {
                let twice =
                    registered.iter().find(|(other, _)| (other.kind, &other.name) == (row.kind, &row.name));
                if let Some((Registered { file, line, .. }, _)) = twice {
                    let message = format!("'{}' is registered already, at {file}:{line}", row.name);
                    wrong.push(row.diagnostic(message));
                }
                registered.push((row, id));
            }
        }
        registered.sort_by(|(a, _), (b, _)| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        self.registered = registered;
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.program.sources.paths()
    }

    /// Names that are registered as `kind`, in order.
    pub(crate) fn names(&self, kind: RegisterKind) -> impl Iterator<Item = &str> {
        self.registered.iter().filter(move |(row, _)| row.kind == kind).map(|(row, _)| row.name.as_str())
    }

    /// Which runtime runs what is registered under a name.
    pub(crate) fn runtime_of(&self, kind: RegisterKind, name: &str) -> Option<RuntimeId> {
        let found =
            self.registered.binary_search_by(|(row, _)| (row.kind, row.name.as_str()).cmp(&(kind, name)));
        self.registered.get(found.ok()?).map(|(_, runtime)| *runtime)
    }

    /// The runtimes that run something registered as `kind`.
    pub(crate) fn runtimes_of(&self, kind: RegisterKind) -> BTreeSet<RuntimeId> {
        self.registered.iter().filter(|(row, _)| row.kind == kind).map(|(_, runtime)| *runtime).collect()
    }

    /// Which runtime runs an rpc.
    ///
    /// # Errors
    /// `not_found`: none does, with the nearest name.
    pub(crate) fn rpc(&self, id: &str) -> Result<RuntimeId, Fault> {
        self.runtime_of(RegisterKind::Rpc, id).ok_or_else(|| {
            let nearest = nearest(id, self.names(RegisterKind::Rpc).map(str::to_owned));
            Fault::not_found(format!("no script registers an rpc `{id}`{nearest}"))
        })
    }

    /// A machine that rpcs and hooks of a runtime run on, and the fuel that it took to make.
    ///
    /// # Errors
    /// A file failed that did not fail before: it depends on the order of a table or on chance.
    pub(crate) fn services(
        &self,
        runtime: RuntimeId,
        seed: u64,
    ) -> Result<(Box<dyn ServiceMachine>, i64), ScriptError> {
        let runtime = self.runtimes.get(runtime);
        let runtime = runtime.ok_or_else(|| ScriptError::new(ErrorKind::Contract, "no runtime runs this"))?;
        runtime.services(&self.program, seed)
    }

    /// Opens the match of a file.
    ///
    /// # Errors
    /// It failed, or broke the contract.
    pub(crate) fn open(
        &self,
        opening: &Opening<'_>,
        host: &mut dyn Host,
    ) -> Result<(Box<dyn MatchMachine>, MatchInit), ScriptError> {
        let contract = |sentence| ScriptError::contract(self.program.sources.shown(opening.path), sentence);
        let runtime = self.runtimes.of(opening.path).map_err(contract)?;
        let runtime =
            self.runtimes.get(runtime).ok_or_else(|| contract("no runtime runs this".to_owned()))?;
        let (machine, init) = runtime.open(&self.program, opening, host)?;
        init.check().map_err(contract)?;
        Ok((machine, init))
    }
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
