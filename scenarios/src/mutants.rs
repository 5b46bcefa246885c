//! Planted bugs: is each of them caught, and how soon?
//!
//! A list of small wrong changes lies in `scenarios/mutants/`: what a tired person might write.
//! Each is made in a copy of the sources, the simulated world is built from it, and what is known
//! to show it, the catalogue and then random disasters are played until an invariant breaks. One
//! that survives means that a check is missing from the oracle, a fault from the world or a
//! scenario from the catalogue. The copy and its build stay in `target/mutants`: the next run
//! compiles only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

mod hunt;

pub use hunt::{Options, run};

/// A planted bug.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// Its name: what the code then does.
    pub name: String,
    /// What is wrong with that, in a sentence.
    pub what: String,
    /// The invariants of which one must be seen to break; `stuck`: a bound on progress.
    pub breaks: Vec<String>,
    /// What is known to show it, played first: scenarios, or `seed 17`.
    #[serde(default)]
    pub shown_by: Vec<String>,
    /// The change.
    #[serde(flatten)]
    pub edit: Edit,
    /// Where two places guard the same: the other one.
    #[serde(default)]
    pub also: Vec<Edit>,
}

/// One change of a text.
#[derive(Clone, Debug, Deserialize)]
pub struct Edit {
    /// Which file, from the root.
    pub file: PathBuf,
    /// What stands there once.
    pub old: String,
    /// What stands there instead.
    pub new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// The root of the sources that this program was built from.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads every list, in the order of their names.
///
/// # Errors
/// A list cannot be read, or two mutants have one name.
pub fn list(root: &Path) -> anyhow::Result<Vec<Mutant>> {
    let folder = root.join("scenarios/mutants");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut mutants: Vec<Mutant> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let read: File =
            toml::from_str(&text).with_context(|| format!("{}: not a list", file.display()))?;
        mutants.extend(read.mutant);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = mutants.iter().find(|mutant| !names.insert(mutant.name.clone())) {
        bail!("two mutants are called `{}`", twice.name);
    }
    Ok(mutants)
}

impl Mutant {
    /// Every file with the bug in it, and its text.
    ///
    /// # Errors
    /// What is to be replaced is not there exactly once: the list is out of date.
    pub fn plant(&self, root: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for edit in std::iter::once(&self.edit).chain(&self.also) {
            let text = match files.remove(&edit.file) {
                Some(text) => text,
                None => std::fs::read_to_string(root.join(&edit.file))
                    .with_context(|| format!("{}: {}", self.name, edit.file.display()))?,
            };
            let (old, new) = (edit.old.trim_end_matches('\n'), edit.new.trim_end_matches('\n'));
            let found = text.matches(old).count();
            ensure!(
                found == 1 && old != new,
                "{}: what it replaces stands {found} times in {}: bring scenarios/mutants up to \
                 date\n{old}",
                self.name,
                edit.file.display()
            );
            files.insert(edit.file.clone(), text.replacen(old, new, 1));
        }
        Ok(files)
    }
}

/// A copy of the sources, in which bugs are planted one after another.
struct Copy {
    root: PathBuf,
    place: PathBuf,
}

impl Copy {
    /// Makes the copy what the sources are. Files that are the same keep their dates, so that
    /// little is compiled again.
    fn new(root: &Path) -> anyhow::Result<Self> {
        let place = root.join("target/mutants/tree");
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git lists the sources")?;
        ensure!(listed.status.success(), "git: {}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8(listed.stdout)?;
        let files: BTreeSet<&str> = text.lines().filter(|file| root.join(file).is_file()).collect();
        ensure!(!files.is_empty(), "{}: git lists no files here", root.display());
        for file in &files {
            copy(&root.join(file), &place.join(file))?;
        }
        remove_others(&place, &place, &files)?;
        Ok(Self { root: root.to_owned(), place })
    }

    /// Everything of ours is compiled anew the next time.
    fn forget(&self) -> anyhow::Result<()> {
        let halves = self.root.join("target/mutants/build/release/incremental");
        std::fs::remove_dir_all(&halves).with_context(|| halves.display().to_string())?;
        for package in ["failover", "wire", "orchestrator", "dns", "scenarios", "simulation"] {
            let file = self.place.join(package).join("src/lib.rs");
            let text = std::fs::read(&file)?;
            std::fs::write(&file, text)?;
        }
        Ok(())
    }

    /// Plants a bug, builds the world with it, and takes it out again.
    fn build(&self, mutant: Option<&Mutant>) -> anyhow::Result<(Output, PathBuf)> {
        // The sources may be edited meanwhile: what was copied in the beginning counts.
        let planted =
            mutant.map(|mutant| mutant.plant(&self.place)).transpose()?.unwrap_or_default();
        let mut before = Vec::new();
        for (file, text) in &planted {
            let file = self.place.join(file);
            before.push((file.clone(), std::fs::read(&file)?));
            std::fs::write(file, text)?;
        }
        let target = self.root.join("target/mutants/build");
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--package", "simulation", "--bin", "baton-sim"])
            .arg("--target-dir")
            .arg(&target)
            .args(quickly())
            .current_dir(&self.place)
            .output()
            .context("cargo builds the copy")?;
        for (file, text) in before {
            std::fs::write(file, text)?;
        }
        Ok((built, target.join("release/baton-sim")))
    }
}

/// Our own crates are built anew for every bug: with little optimisation. The others are as in a
/// release, and built once.
fn quickly() -> Vec<String> {
    let mut settings = vec!["profile.release.incremental=true".to_owned()];
    for package in ["failover", "wire", "orchestrator", "dns", "scenarios", "simulation"] {
        for setting in ["opt-level=1", "debug=false", "codegen-units=64"] {
            settings.push(format!("profile.release.package.{package}.{setting}"));
        }
    }
    settings.into_iter().flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// What is the same already keeps its date: nothing is compiled again for it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(from).with_context(|| from.display().to_string())?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(to, bytes).with_context(|| to.display().to_string())
}

/// What the sources do not have any more must not be there either: a module is found by its file.
fn remove_others(place: &Path, folder: &Path, files: &BTreeSet<&str>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(place, &path, files)?;
        } else if !path.strip_prefix(place)?.to_str().is_some_and(|name| files.contains(name)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
