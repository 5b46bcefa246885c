//! The cluster that a scenario is played on.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::config::duration;
use wire::config::duration::Text;

/// The cluster and its load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Setting {
    /// A preset, or the path of a topology file (relative to the scenario's folder).
    pub topology: Shape,
    /// W of the rule. 1 or 2.
    pub required: u32,
    /// `block` or `single-copy`: what happens when no synchronous standby is left.
    pub on_last_copy: LastCopy,
    /// `default` (500 ms, 2 s, 3 s) or `metro` (100 ms, 400 ms, 1 s).
    pub timing: Profile,
    /// At most one automatic failover in this time; the product's default when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_window: Option<Text>,
    /// How long a switchover may take; the product's default when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switchover_deadline: Option<Text>,
    /// How many services share the cluster. Each has an instance in every data site; steps and
    /// expectations are about all of them.
    pub services: u32,
    /// Foreign name servers that transfer the zone (real processes only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondaries: Vec<Secondary>,
    /// Machines tell what the simulated world has none of (certificates, logins, extensions) as if
    /// all of it were good, so that a drill may begin.
    pub surveyed: bool,
    /// The seed of the simulated run.
    pub seed: u64,
    /// The load.
    pub workload: Workload,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            topology: Shape::ThreeSites,
            required: 1,
            on_last_copy: LastCopy::Block,
            timing: Profile::Default,
            failover_window: None,
            switchover_deadline: None,
            services: 1,
            secondaries: Vec::new(),
            surveyed: false,
            seed: 1,
            workload: Workload::default(),
        }
    }
}

/// The sites and who stands in them. Each site of a preset has a voter and a name server;
/// their names are in [`Shape::sites`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Shape {
    /// Three sites with an instance each: primary and two standbys, both in the rule (`ANY 1`).
    ThreeSites,
    /// Two sites with an instance each and a witness: one standby, in the rule (`FIRST 1`).
    PairAndWitness,
    /// Three sites with an instance each and two witnesses.
    FiveVoters,
    /// An operator's own.
    File(PathBuf),
}

impl From<String> for Shape {
    fn from(text: String) -> Self {
        match text.as_str() {
            "three-sites" => Self::ThreeSites,
            "pair-and-witness" => Self::PairAndWitness,
            "five-voters" => Self::FiveVoters,
            _ => Self::File(text.into()),
        }
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::ThreeSites => "three-sites".into(),
            Shape::PairAndWitness => "pair-and-witness".into(),
            Shape::FiveVoters => "five-voters".into(),
            Shape::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// The sites of the presets, in order of preference.
pub const NAMES: [&str; 5] = ["arezzo", "falkenstein", "roubaix", "vienna", "lugano"];

impl Shape {
    /// The names of a preset's sites in order of preference; `None`: the file knows.
    pub fn sites(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::ThreeSites | Self::PairAndWitness => Some(&NAMES[..3]),
            Self::FiveVoters => Some(&NAMES),
            Self::File(_) => None,
        }
    }

    /// How many of a preset's sites hold data: the first ones.
    pub fn data_sites(&self) -> Option<usize> {
        match self {
            Self::ThreeSites | Self::FiveVoters => Some(3),
            Self::PairAndWitness => Some(2),
            Self::File(_) => None,
        }
    }
}

/// What happens when no synchronous standby is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastCopy {
    /// Commits wait.
    Block,
    /// The service goes on with one copy.
    SingleCopy,
}

/// The timing law's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// 500 ms, 2 s, 500 ms, 3 s.
    Default,
    /// 100 ms, 400 ms, 200 ms, 1 s.
    Metro,
}

/// A foreign name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secondary {
    /// BIND.
    Bind,
    /// Knot DNS.
    Knot,
}

/// Who writes and reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Workload {
    /// Clients that append unique items, each with one commit under way at a time.
    pub writers: u32,
    /// The pause between a writer's commits.
    #[serde(with = "duration")]
    pub every: Duration,
    /// Clients that read the whole list.
    pub readers: u32,
    /// The share of clients that keep an address for half an hour whatever the TTL, in percent.
    pub stubborn: u8,
}

impl Default for Workload {
    fn default() -> Self {
        Self { writers: 2, every: Duration::from_millis(500), readers: 1, stubborn: 0 }
    }
}
