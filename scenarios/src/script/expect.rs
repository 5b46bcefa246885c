//! What must come true, stay true, or hold at the end: every key that is written must hold.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::config::duration::Text;

use super::place::{Places, Processes};

/// A conjunction of conditions and the time they have. As `expect`: within the bound they hold, all
/// at the same instant. As `always`: at every instant from `at` until the bound. As `[outcome]`:
/// within the bound after the last step.
///
/// Beside what is written here the oracle judges every run: nothing acknowledged is missing (I-01),
/// nothing read vanishes (I-02), one primary at a time (I-03), and the rest of the invariants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Expect {
    /// The time they have. Default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Text>,
    /// The same on real processes, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_within: Option<Text>,
    /// The primary of the newest epoch is recorded at one of these sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<Places>,
    /// Promotions since the scenario began, those of the oracle: PostgreSQL left recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotions: Option<u32>,
    /// No more promotions than this since the scenario began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotions_at_most: Option<u32>,
    /// The newest epoch that a voter knows; 1 when the scenario begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// `true`: a client outside, going by the name, was acknowledged a commit that it *began* after
    /// the step's `at` (in `always`: never longer without one than 3 s, or than three pauses of a
    /// writer). `false`: none was
    /// acknowledged after the step's `at` plus 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<bool>,
    /// The same for reads through the name; a read that may be too old is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<bool>,
    /// Every running name server that a client can ask gives the primary of the newest epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_agrees: Option<bool>,
    /// The name servers at these sites answer the writable name with an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_answers: Option<Places>,
    /// One primary, no transition open, every declared instance in the rule, enforced and proven,
    /// streaming; name servers agree; writes are acknowledged; no voter down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
    /// PostgreSQL at these sites serves no client: down, or it admits none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Places>,
    /// `explain` or `status` of the leader names this finding about the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// Neither does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_finding: Option<String>,
    /// A transition is open (`true`), or none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transition: Option<bool>,
    /// The newest transition ended without a change of primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<bool>,
    /// The instances that PostgreSQL is told to wait for stand at exactly these sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Places>,
    /// W of the rule as PostgreSQL is told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<u32>,
    /// At least so many doubtful commits are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubts: Option<u32>,
    /// The tail that the instance at this site lost is kept (I-14).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_kept: Option<Places>,
    /// No voter is led by anyone that a majority follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaderless: Option<bool>,
    /// No more changes of leader than this since the scenario began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elections_at_most: Option<u32>,
    /// So many voters are in the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voters: Option<u32>,
    /// These processes do not run, or refuse to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The longest time between two acknowledged commits of clients outside, since the scenario
    /// began. Only in `[outcome]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_at_most: Option<Text>,
    /// The same on real processes, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_gap_at_most: Option<Text>,
}

/// Processes that do not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Which.
    pub process: Processes,
    /// Where.
    pub site: Places,
}

impl Expect {
    /// Whether no condition is written.
    pub fn is_empty(&self) -> bool {
        Self { within: None, live_within: None, ..self.clone() } == Self::default()
    }

    /// Every place that it names.
    pub fn places(&self) -> Vec<&Places> {
        let named = [&self.primary, &self.dns_answers, &self.fenced, &self.rule, &self.tail_kept];
        let stopped = self.stopped.iter().map(|stopped| &stopped.site);
        named.into_iter().flatten().chain(stopped).collect()
    }

    /// The time they have in this tier.
    pub fn bound(&self, tier: super::Tier) -> std::time::Duration {
        let live = if tier == super::Tier::Live { self.live_within } else { None };
        live.or(self.within).map_or(std::time::Duration::from_secs(10), |text| text.0)
    }

    /// The longest gap between acknowledged commits that is allowed in this tier.
    pub fn gap(&self, tier: super::Tier) -> Option<std::time::Duration> {
        let live = if tier == super::Tier::Live { self.live_gap_at_most } else { None };
        live.or(self.gap_at_most).map(|text| text.0)
    }
}

impl fmt::Display for Expect {
    /// The keys as they are written in the file, without the bounds and without what is
    /// only for real processes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = Self { within: None, live_within: None, live_gap_at_most: None, ..self.clone() };
        let text = toml::to_string(&bare).map_err(|_| fmt::Error)?;
        f.write_str(text.trim().replace('\n', ", ").as_str())
    }
}
