//! Builds PUC Lua 5.4 from the sources of `lua-src`, with the edits of `edits/` and the additions of `c/`.
//!
//! No Lua source is kept here. The edits are anchored: a piece of text that must occur exactly once, and
//! what stands in its place. When upstream changes an anchor the build stops and names it, so that an edit
//! is never lost in silence.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() {
    if let Err(error) = build() {
        println!("cargo::error=kaos-lua: {error}");
        std::process::exit(1);
    }
}

fn build() -> Outcome<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=edits");
    println!("cargo::rerun-if-changed=c");
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let source = lua_dir(&lua_src_dir(&here)?)?;
    let work = PathBuf::from(var("OUT_DIR")?).join("lua");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    copy_sources(&source, &work)?;
    copy_sources(&here.join("c"), &work)?;
    for edit in sorted(&here.join("edits"), "edit")? {
        apply(&edit, &work)?;
    }
    compile(&work)
}

fn compile(work: &Path) -> Outcome<()> {
    let mut cc = cc::Build::new();
    cc.include(work).warnings(false).std("c11");
    // The interpreter without optimisation is unusable, also in a debug build.
    cc.opt_level(2);
    cc.flag_if_supported("-fno-common");
    // Fused multiply-add would make results depend on the machine.
    cc.flag_if_supported("-ffp-contract=off");
    cc.define("LUA_COMPAT_5_3", None);
    if var("CARGO_CFG_UNIX").is_ok() {
        // POSIX is enough: nothing here loads shared libraries.
        cc.define("LUA_USE_POSIX", None);
    }
    cc.files(sorted(work, "c")?);
    cc.try_compile("kaoslua54")?;
    println!("cargo::rerun-if-env-changed=CC");
    println!("cargo::rerun-if-env-changed=CFLAGS");
    Ok(())
}

/// Applies one file of edits to the source that it is named after.
fn apply(edit: &Path, work: &Path) -> Outcome<()> {
    let name = edit.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let target = work.join(&name);
    let mut text =
        fs::read_to_string(&target).map_err(|e| format!("edits/{name}.edit: cannot read {name}: {e}"))?;
    for (anchor, replacement) in parse(&fs::read_to_string(edit)?, &name)? {
        let found = text.matches(&anchor).count();
        if found != 1 {
            let times = if found == 0 { "is not there" } else { "is there more than once" };
            return Err(
                format!("edits/{name}.edit: the anchor {anchor:?} {times} in {name} of lua-src").into()
            );
        }
        text = text.replacen(&anchor, &replacement, 1);
    }
    fs::write(target, text)?;
    Ok(())
}

/// Reads `<<<` anchor `===` replacement `>>>` blocks; what stands between them says why.
fn parse(text: &str, name: &str) -> Outcome<Vec<(String, String)>> {
    let mut edits = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "<<<" {
            continue;
        }
        let mut take = |end: &str| -> Outcome<String> {
            let mut part = Vec::new();
            for line in lines.by_ref() {
                if line == end {
                    return Ok(part.join("\n"));
                }
                part.push(line);
            }
            Err(format!("edits/{name}.edit: a block has no line `{end}`").into())
        };
        edits.push((take("===")?, take(">>>")?));
    }
    if edits.is_empty() {
        return Err(format!("edits/{name}.edit holds no block").into());
    }
    Ok(edits)
}

/// The folder of the crate `lua-src`, which does not publish it.
///
/// The crate's only public function that fails does so by a panic in its own source file, and a panic
/// knows the path of its file: nothing is run, fetched or locked. `cargo metadata` would need the
/// dependencies of the whole workspace on disk, which a first `cargo run` does not download; it is the
/// second way, for builds that remap paths.
fn lua_src_dir(here: &Path) -> Outcome<PathBuf> {
    if let Some(dir) = by_panic() {
        return Ok(dir);
    }
    by_metadata(here)
        .map_err(|e| format!("cannot find the sources of lua-src: {e}; try `cargo fetch` first").into())
}

fn by_panic() -> Option<PathBuf> {
    let place = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&place);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let (Some(location), Ok(mut place)) = (info.location(), seen.lock()) {
            *place = Some(PathBuf::from(location.file()));
        }
    }));
    // Refused before anything is compiled: there is no such target.
    let refused = std::panic::catch_unwind(|| {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("probe");
        lua_src::Build::new().out_dir(out).target("nowhere").build(lua_src::Version::Lua54)
    });
    std::panic::set_hook(hook);
    let file = place.lock().ok()?.take()?;
    let dir = file.parent()?.parent()?.to_path_buf();
    (refused.is_err() && lua_dir(&dir).is_ok()).then_some(dir)
}

fn by_metadata(here: &Path) -> Outcome<PathBuf> {
    let output = Command::new(var("CARGO")?)
        .args(["metadata", "--offline", "--format-version", "1", "--filter-platform", &var("TARGET")?])
        .arg("--manifest-path")
        .arg(here.join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    let end = format!("lua-src-{}{}Cargo.toml\"", lua_src_version(), std::path::MAIN_SEPARATOR);
    let key = "\"manifest_path\":\"";
    text.match_indices(key)
        .map(|(at, _)| &text[at + key.len()..])
        .filter_map(|rest| rest.find('"').map(|stop| &rest[..=stop]))
        .find(|path| path.ends_with(&end) || path.ends_with("lua-src/Cargo.toml\""))
        .and_then(|path| Path::new(path.trim_end_matches('"')).parent().map(Path::to_path_buf))
        .ok_or_else(|| "cargo metadata does not name it".into())
}

/// As pinned in the workspace's manifest.
fn lua_src_version() -> &'static str {
    "551.1.0"
}

/// The one `lua-5.4.*` folder of the crate.
fn lua_dir(crate_dir: &Path) -> Outcome<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(crate_dir).map_err(|e| format!("{}: {e}", crate_dir.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lua-5.4.")) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => {
            Err(format!("{} holds {} folders named lua-5.4.*, not one", crate_dir.display(), found.len())
                .into())
        }
    }
}

fn copy_sources(from: &Path, to: &Path) -> Outcome<()> {
    for extension in ["c", "h"] {
        for path in sorted(from, extension)? {
            // Read and write, not copy: a registry may keep its files read-only.
            fs::write(to.join(path.file_name().unwrap_or_default()), fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn sorted(dir: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn var(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| format!("cargo did not set {name}").into())
}
