//! The topology file: what people write, read into what the cluster replicates.
//!
//! Reading has two halves. The text becomes tables, where every unknown key, wrong type and wrong
//! unit is an error with its line. Then the tables become a [`Topology`], where everything that
//! only makes sense of several keys together is checked; those errors carry lines too, and all of
//! them are told at once. A file with an error changes nothing anywhere.

mod build;
mod diff;
mod places;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failover::cluster::Voter;
use failover::ids::VoterId;
use failover::topology::Topology;
use wire::config::ConfigError;

pub use diff::{Difference, diff};

/// What a topology file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What the cluster replicates, valid by `failover::policy::validate`.
    pub topology: Topology,
    /// The voters, numbered from 1 in the order of their sites in the file. Three or five.
    pub voters: BTreeMap<VoterId, Voter>,
}

/// Why a topology file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// It cannot be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// It is wrong: everything that is, in the order of the file. Never empty.
    #[error("{}", lines(.0))]
    Wrong(Vec<ConfigError>),
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads a topology file.
///
/// # Errors
/// [`TopologyError`]: each error names file, line, key and what to do.
pub fn read(file: &Path) -> Result<Declared, TopologyError> {
    let text = std::fs::read_to_string(file).map_err(|error| TopologyError::Unreadable {
        file: file.to_owned(),
        reason: format!("cannot be read ({error}); give the path of your topology file"),
    })?;
    parse(file, &text)
}

/// Reads a topology that came from `file`.
///
/// # Errors
/// As [`read`].
pub fn parse(file: &Path, text: &str) -> Result<Declared, TopologyError> {
    let wrong_text = |error| TopologyError::Wrong(vec![error]);
    let tables: tables::File = wire::config::parse(file, text).map_err(wrong_text)?;
    let places = places::Places::of(text);
    let complain = |problems: Vec<build::Problem>| {
        let mut errors: Vec<_> = problems
            .into_iter()
            .map(|problem| (places.find(&problem.key, problem.again), problem))
            .collect();
        errors.sort_by_key(|(span, _)| span.start);
        let at = |(span, problem): (_, build::Problem)| {
            ConfigError::at(file, text, span, &problem.key, &problem.text)
        };
        TopologyError::Wrong(errors.into_iter().map(at).collect())
    };
    let declared = build::build(tables).map_err(complain)?;
    failover::policy::validate(&declared.topology).map_err(|problems| {
        complain(problems.into_iter().map(|p| build::Problem::new(p.key, p.text)).collect())
    })?;
    Ok(declared)
}

#[cfg(test)]
pub(crate) mod tests;
