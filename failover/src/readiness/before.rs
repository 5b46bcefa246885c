//! How a service stood before a change of primary: the last look at it that the change itself had
//! not touched yet, small enough for an entry of the log.

use super::{Finding, Level, Looked};
use crate::ids::{InstanceId, SiteId};
use crate::time::millis;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// No more findings than this are kept, the worst first.
pub const FINDINGS: usize = 16;
/// No more characters of each.
const CHARACTERS: usize = 200;

/// The last look before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// How long before the change was begun, in milliseconds.
    pub age_ms: u64,
    /// The worst that was found.
    pub level: Level,
    /// What was found, the worst first.
    pub findings: Vec<Known>,
    /// How many more there were.
    #[serde(default)]
    pub more: u64,
}

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The check's name.
    pub check: String,
    /// Whom it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// It mattered only where this site would be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// How bad it was.
    pub level: Level,
    /// What it said.
    pub text: String,
}

impl Before {
    /// What was looked at, so long ago.
    #[must_use]
    pub fn of(looked: &[Looked], age: Duration) -> Self {
        let mut findings: Vec<&Finding> = looked.iter().flat_map(|one| &one.findings).collect();
        findings.sort_by_key(|finding| Reverse(finding.level));
        let more = findings.len().saturating_sub(FINDINGS) as u64;
        let level = looked.iter().map(|one| one.level).max().unwrap_or(Level::Unknown);
        let findings = findings.into_iter().take(FINDINGS).map(|finding| Known {
            check: finding.check.clone(),
            instance: finding.instance.clone(),
            site: finding.site.clone(),
            level: finding.level,
            text: finding.text.chars().take(CHARACTERS).collect(),
        });
        Self { age_ms: millis(age), level, findings: findings.collect(), more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn looked(level: Level, findings: Vec<(Level, &str)>) -> Looked {
        let finding = |(level, text): (Level, &str)| Finding {
            check: "disk-headroom".into(),
            service: "clinic".parse().unwrap(),
            instance: None,
            site: None,
            level,
            text: text.to_string(),
            age_ms: None,
            since_ms: None,
            remedy: "make room".into(),
        };
        let findings = findings.into_iter().map(finding).collect();
        Looked { check: "disk-headroom".into(), about: "room".into(), level, findings }
    }

    #[test]
    fn the_worst_is_kept_and_how_much_is_left_out_is_told() {
        let many = vec![(Level::Warning, "w"); FINDINGS];
        let long = "x".repeat(1_000);
        let all = [
            looked(Level::Good, vec![]),
            looked(Level::Warning, many),
            looked(Level::Blocks, vec![(Level::Unknown, "u"), (Level::Blocks, &long)]),
        ];
        let before = Before::of(&all, Duration::from_millis(1_500));
        assert_eq!((before.age_ms, before.level, before.more), (1_500, Level::Blocks, 2));
        assert_eq!(before.findings.len(), FINDINGS);
        let levels: Vec<Level> = before.findings.iter().take(3).map(|one| one.level).collect();
        assert_eq!(levels, [Level::Blocks, Level::Unknown, Level::Warning]);
        assert_eq!(before.findings[0].text.chars().count(), CHARACTERS);
    }

    #[test]
    fn nothing_looked_at_is_not_good() {
        assert_eq!(Before::of(&[], Duration::ZERO).level, Level::Unknown);
    }
}
