//! The language of scenarios: one TOML file a disaster.
//!
//! A file has an id, a summary, a setting, steps dated from the moment at which the whole cluster
//! stands, and an outcome. It is played in the simulated world and, where it says so, on real
//! processes; both runners read it through this module, and neither may add to it or pass over
//! part of it. What is unknown is an error with file, line, key and remedy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod expect;
pub mod place;
mod read;
pub mod setting;
pub mod verb;

pub use expect::Expect;
pub use place::{Place, Places, Plane, Planes, Process, Processes};
pub use setting::Setting;
pub use verb::Verb;
/// What is wrong with a scenario: one line with file, line, key and what to do.
pub use wire::config::ConfigError as ScriptError;

/// One disaster and how it must end.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The stem of its file: `SC-01-a-43-second-cut`.
    pub name: String,
    /// Its number: `SC-01`; several files may share one.
    pub id: String,
    /// What happens and what must hold, in a sentence or two.
    pub summary: String,
    /// The real outage: date, who, what.
    pub replays: Option<String>,
    /// Where it is played.
    pub tiers: Vec<Tier>,
    /// The invariants and bounds that it is about, beside I-01 to I-06 that every run checks.
    pub also: Vec<String>,
    /// What it is played on.
    pub setting: Setting,
    /// What is done, in order of time; steps of the same instant in the order of the file.
    pub steps: Vec<Step>,
    /// What holds at the end.
    pub outcome: Expect,
    /// Where it came from.
    pub file: PathBuf,
}

/// One action at its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// After the moment at which the whole cluster stands.
    pub at: Duration,
    /// The same on real processes, where it differs.
    pub live: Option<Duration>,
    /// Only in this tier.
    pub only: Option<Tier>,
    /// What is done.
    pub verb: Verb,
    /// Its line in the file, from 1.
    pub line: u32,
}

/// Where a scenario is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// In the simulated world.
    Sim,
    /// On real processes.
    Live,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ScriptError`]: it cannot be read, or says what cannot be.
    pub fn load(file: &Path) -> Result<Self, ScriptError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            ScriptError::new(file, "", format!("cannot be read: {error}"))
                .with_remedy("name a scenario of `baton-sim list`, or the path of a file")
        })?;
        Self::parse(file, &text)
    }

    /// Reads a text that came from `file`.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn parse(file: &Path, text: &str) -> Result<Self, ScriptError> {
        read::scenario(file, text)
    }

    /// The text of a file that reads as this scenario.
    ///
    /// # Errors
    /// What the writer of TOML says; nothing that was read gives one.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        read::write(self)
    }

    /// Its steps in this tier, each with the time that it has there, in order.
    pub fn steps(&self, tier: Tier) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .steps
            .iter()
            .filter(|step| step.only.is_none_or(|only| only == tier))
            .cloned()
            .collect();
        if tier == Tier::Live {
            for step in &mut steps {
                step.at = step.live.unwrap_or(step.at);
            }
        }
        steps.sort_by_key(|step| step.at);
        steps
    }

    /// Whether it is played in this tier.
    pub fn is_for(&self, tier: Tier) -> bool {
        self.tiers.contains(&tier)
    }
}

/// The folder of the catalogue in the source tree.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue")
}

/// Reads another table that lies beside the scenarios, with the same errors.
///
/// # Errors
/// [`ScriptError`]
pub fn parse_table<T: serde::de::DeserializeOwned>(
    file: &Path,
    text: &str,
) -> Result<T, ScriptError> {
    wire::config::parse(file, text)
}

/// Every scenario of the catalogue, by name.
///
/// # Errors
/// [`ScriptError`]: the first file that cannot be read.
pub fn catalogue() -> Result<Vec<Scenario>, ScriptError> {
    let folder = folder();
    let unreadable =
        |error: std::io::Error| ScriptError::new(&folder, "", format!("cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("SC-") && path.extension().is_some_and(|it| it == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| Scenario::load(file)).collect()
}

/// A scenario by path, by name, or by an id that only one has.
///
/// # Errors
/// [`ScriptError`]: there is none, or several, or its file cannot be read.
pub fn find(name: &str) -> Result<Scenario, ScriptError> {
    let path = Path::new(name);
    if path.extension().is_some_and(|it| it == "toml") {
        return Scenario::load(path);
    }
    let all = catalogue()?;
    let of = |fits: &dyn Fn(&Scenario) -> bool| -> Vec<&Scenario> {
        all.iter().filter(|scenario| fits(scenario)).collect()
    };
    let mut found = of(&|scenario| scenario.name == name);
    if found.is_empty() {
        found = of(&|scenario| scenario.name.starts_with(name));
    }
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(ScriptError::new(path, "", "there is no scenario of this name")
            .with_remedy("name one of `baton-sim list`, or the path of a file")),
        several => {
            let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
            Err(ScriptError::new(path, "", "several scenarios begin like this")
                .with_remedy(format!("name one of {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests;
