//! The repository keeps its own rules: who may depend on whom, the purity of the law, sizes,
//! words, and that `ARCHITECTURE.md` and the tests say the same.
//!
//! Every test lists all offenders, not the first. A rule that is in the way is changed here, in
//! one visible line, and not at the place that breaks it.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom inside the workspace. Nothing shipped depends on the last two.
const ARROWS: &[(&str, &[&str])] = &[
    ("failover", &[]),
    ("wire", &["failover"]),
    ("orchestrator", &["failover", "wire"]),
    ("agent", &["failover", "wire"]),
    ("dns", &["failover", "wire"]),
    ("scenarios", &["failover", "wire"]),
    ("simulation", &["failover", "wire", "orchestrator", "dns", "scenarios"]),
    ("tests", &["failover", "wire", "orchestrator", "agent", "dns", "scenarios", "simulation"]),
];

/// What the law may use besides the language: a second name here needs a decision record.
const LAW_DEPENDS_ON: &[&str] = &["serde"];

/// The longest file of the law, and the longest of anything else, in lines.
const LINES_OF_LAW: usize = 400;
const LINES: usize = 500;
/// The longest line, in characters.
const COLUMNS: usize = 100;

/// Words that the field uses in several senses, or that name nothing. Whole words only, so that
/// `postmaster` and `hostmaster` are free.
const BANNED_WORDS: &[&str] = &[
    "master", "masters", "slave", "slaves", "node", "nodes", "manager", "helper", "helpers",
    "util", "utils", "arbiter", "stonith", "saga", "workflow",
];

/// Where a banned word is somebody else's term, or part of somebody else's name.
const TERMS_OF_OTHERS: &[&str] =
    &["service manager", "node_id", "hyper_util", "http_body_util", "util-linux", "    master: ["];

/// Names that say nothing about what is in a file.
const BANNED_FILES: &[&str] = &[
    "common", "context", "handler", "helper", "helpers", "manager", "misc", "service", "util",
    "utils",
];

/// Hosts that may stand in an address: the licence's, and those set aside for examples.
const HOSTS: &[&str] = &["www.apache.org", "localhost", "127.0.0.1"];

const KEPT: &str = "### Kept, and by which tests";
const NOT_YET: &str = "### Not yet tested by name";

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the package stands in the workspace's folder").to_owned()
}

/// Every file of the repository: its path relative to the root, and its text where it is text.
fn files() -> BTreeMap<String, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            let name = path.strip_prefix(&root).expect("it is inside").display().to_string();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git") {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(name, text);
            }
        }
    }
    found
}

fn ends(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

fn documents() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| ends(name, "md"))
}

fn rust() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| ends(name, "rs"))
}

fn law() -> impl Iterator<Item = (String, String)> {
    rust().filter(|(name, _)| name.starts_with("failover/src/"))
}

fn none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    command.exec().expect("cargo describes the workspace")
}

/// The lines of `name` that `is_wrong`, as `file:line: text`.
fn lines(name: &str, text: &str, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_wrong(line))
        .map(|(number, line)| format!("{name}:{}: {}", number + 1, line.trim()))
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase)
}

#[test]
fn arrows_between_crates() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut offenders = Vec::new();
    for package in metadata().packages {
        let name = package.name.to_string();
        let Some(may) = allowed.get(name.as_str()) else {
            offenders.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            if dependency.path.is_some() && !may.contains(&other) {
                offenders.push(format!("{name} -> {other}"));
            }
        }
    }
    none("arrows that may not be", &offenders);
}

#[test]
fn the_law_depends_on_nothing_else() {
    let packages = metadata().packages;
    let law = packages.iter().find(|package| package.name == "failover").unwrap();
    let offenders: Vec<String> = law
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
        .filter(|name| !LAW_DEPENDS_ON.contains(&name.as_str()))
        .collect();
    none("the law depends on", &offenders);
}

#[test]
fn the_law_has_no_standard_library() {
    let files = files();
    let library = &files["failover/src/lib.rs"];
    assert!(library.lines().any(|line| line == "#![no_std]"), "failover/src/lib.rs: no #![no_std]");
    let reaches_out = |line: &str| {
        let begins = |at: usize| {
            line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_')
        };
        line.contains("extern crate std") || line.match_indices("std::").any(|(at, _)| begins(at))
    };
    let offenders: Vec<String> =
        law().flat_map(|(name, text)| lines(&name, &text, reaches_out)).collect();
    none("the law reads no clock, file, socket, environment or dice", &offenders);
}

#[test]
fn files_stay_short() {
    let mut offenders = Vec::new();
    for (name, text) in rust() {
        let most = if name.starts_with("failover/src/") { LINES_OF_LAW } else { LINES };
        let count = text.lines().count();
        if count > most {
            offenders.push(format!("{name}: {count} lines, at most {most}"));
        }
    }
    none("files that own more than one idea", &offenders);
}

#[test]
fn lines_stay_short() {
    let offenders: Vec<String> = rust()
        .flat_map(|(name, text)| lines(&name, &text, |line| line.chars().count() > COLUMNS))
        .collect();
    none("lines that are too long", &offenders);
}

#[test]
fn nothing_is_left_over() {
    // In two parts, so that this file does not name what it forbids.
    let marks = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!"));
    let left = |line: &str| marks.iter().any(|mark| line.contains(mark.as_str()));
    let offenders: Vec<String> =
        rust().flat_map(|(name, text)| lines(&name, &text, left)).collect();
    none("left over", &offenders);
}

#[test]
fn every_file_says_what_it_is() {
    let offenders: Vec<String> = rust()
        .filter(|(_, text)| !text.lines().take(3).any(|line| line.starts_with("//!")))
        .map(|(name, _)| name)
        .collect();
    none("files without a first line of their own (//!)", &offenders);
}

#[test]
fn words_have_one_sense() {
    let wrong = |line: &str| {
        let mut rest = line.to_ascii_lowercase();
        for term in TERMS_OF_OTHERS {
            rest = rest.replace(term, "");
        }
        words(&rest).any(|word| BANNED_WORDS.contains(&word.as_str()))
    };
    let mut offenders = Vec::new();
    for (name, text) in rust().filter(|(name, _)| name != "tests/tidy.rs") {
        offenders.extend(lines(&name, &text, wrong));
    }
    none("words that are not used here", &offenders);
}

#[test]
fn file_names_say_something() {
    let vague = |name: &String| {
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let parent = Path::new(name).parent().and_then(Path::file_name).and_then(|n| n.to_str());
        BANNED_FILES.contains(&stem) || parent.is_some_and(|name| BANNED_FILES.contains(&name))
    };
    let offenders: Vec<String> = rust().map(|(name, _)| name).filter(vague).collect();
    none("names that say nothing", &offenders);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("[workspace.dependencies]").unwrap();
    let section = after.split("\n[").next().unwrap();
    let mut commented = false;
    let mut offenders = Vec::new();
    for line in section.lines() {
        if line.trim().is_empty() {
            commented = false;
        } else if line.trim_start().starts_with('#') {
            commented = true;
        } else if !commented {
            offenders.push(line.to_owned());
        }
    }
    none("dependencies without a comment above them", &offenders);
}

#[test]
fn no_place_of_one_machine() {
    // In two parts, so that this file does not name what it forbids.
    let folders = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let places = |line: &str| {
        folders.iter().any(|folder| {
            line.match_indices(folder.as_str()).any(|(at, _)| {
                // What stands behind a letter is a folder inside something else.
                line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '.')
            })
        })
    };
    let offenders: Vec<String> =
        files().iter().flat_map(|(name, text)| lines(name, text, places)).collect();
    none("paths of one machine", &offenders);
}

#[test]
fn no_address_of_a_registry() {
    let foreign = |line: &str| {
        line.match_indices("://").any(|(at, mark)| {
            let scheme = line[..at].ends_with("http") || line[..at].ends_with("https");
            let host: String = line[at + mark.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '-'))
                .collect();
            // No dot: put together while running, or made up in a test.
            let made_up = !host.contains('.') || host.ends_with("example.org");
            scheme && !made_up && !HOSTS.contains(&host.as_str())
        })
    };
    let mut offenders = Vec::new();
    for (name, text) in files().iter().filter(|(name, _)| !name.ends_with("Cargo.lock")) {
        offenders.extend(lines(name, text, foreign));
    }
    none("addresses of the outside", &offenders);
}

/// `fn` names under a test attribute, with the file each is in.
fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (file, text) in rust() {
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[") && (line.contains("#[test]") || line.contains("::test")) {
                is_test = true;
            } else if let Some((_, after)) = line.split_once("fn ").filter(|_| is_test) {
                let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
                found.insert(after[..end.unwrap_or(after.len())].to_owned(), file.clone());
                is_test = false;
            }
        }
    }
    found
}

/// The invariants that a test's name names: `i19_i22_one_state` names I-19 and I-22.
fn named(test: &str) -> impl Iterator<Item = String> {
    test.split('_').filter_map(|part| {
        let number = part.strip_prefix('i')?;
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        (digits.len() == 2).then(|| format!("I-{number}"))
    })
}

/// The rows of the table under a heading: the invariant, and the rest of the row.
fn rows(architecture: &str, heading: &str) -> Vec<(String, String)> {
    let (_, after) =
        architecture.split_once(heading).unwrap_or_else(|| panic!("no heading `{heading}`"));
    after
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| I-")?.split_once('|'))
        .map(|(number, rest)| (format!("I-{}", number.trim()), rest.to_owned()))
        .collect()
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_invariant_is_named_by_a_test() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let tests = tests();
    let kept = rows(&architecture, KEPT);
    assert!(kept.len() > 10, "ARCHITECTURE.md lists the invariants that are kept");
    let by_test: BTreeSet<String> = tests.keys().flat_map(|test| named(test)).collect();
    let mut offenders = Vec::new();
    for (invariant, row) in &kept {
        let listed: Vec<&str> = in_backticks(row).filter(|word| named(word).count() > 0).collect();
        if !by_test.contains(invariant) || listed.is_empty() {
            offenders.push(format!("{invariant} is called kept, and no test names it"));
        }
        for test in listed {
            if !tests.contains_key(test) {
                offenders.push(format!("{invariant}: there is no test `{test}`"));
            } else if !named(test).any(|name| name == *invariant) {
                offenders.push(format!("{invariant}: `{test}` does not name it"));
            }
        }
    }
    for (invariant, _) in rows(&architecture, NOT_YET) {
        if by_test.contains(&invariant) {
            offenders.push(format!("{invariant} is named by a test: list it as kept"));
        }
    }
    let told: BTreeSet<String> = kept.into_iter().map(|(invariant, _)| invariant).collect();
    for invariant in by_test.difference(&told) {
        offenders.push(format!("{invariant} is named by a test: list it as kept"));
    }
    none("ARCHITECTURE.md and the tests differ", &offenders);
}

/// Paths in backticks: whatever begins with a folder of the repository, and bare names of sources.
#[test]
fn every_file_that_is_named_exists() {
    let files = files();
    let top: BTreeSet<&str> =
        files.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let bases: BTreeSet<String> = files.keys().map(|name| base(name)).collect();
    let mut offenders = Vec::new();
    for (document, text) in documents() {
        for word in in_backticks(&text) {
            let is_path = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let inside = word.split_once('/').is_some_and(|(first, _)| top.contains(first));
            let exists = if inside {
                root().join(word.trim_end_matches('/')).exists()
            } else {
                !ends(word, "rs") || bases.contains(&base(word))
            };
            if is_path && !exists {
                offenders.push(format!("{document}: {word}"));
            }
        }
    }
    none("files that are named and do not exist", &offenders);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut offenders = Vec::new();
    for (document, text) in documents() {
        let folder = root().join(&document).parent().map(Path::to_owned).unwrap_or_default();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                offenders.push(format!("{document}: {target}"));
            }
        }
    }
    none("links that lead nowhere", &offenders);
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let names: Vec<String> = files()
        .into_keys()
        .filter_map(|name| Some(name.strip_prefix("docs/decisions/")?.to_owned()))
        .collect();
    let expected: Vec<String> = (1..=names.len()).map(|number| format!("{number:04}-")).collect();
    let fit = names.iter().zip(&expected).all(|(name, number)| name.starts_with(number.as_str()));
    assert!(fit && !names.is_empty(), "decision records: {names:?}");
}
