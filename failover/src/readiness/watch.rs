//! Since when each thing has been as it is, as far as one leader saw it.

use super::{Finding, Level, Looked, Readiness};
use crate::ids::{InstanceId, ServiceId, SiteId};
use crate::time::{Moment, millis};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// What tells one finding from another: everything but its numbers.
type Key = (ServiceId, String, Option<InstanceId>, Option<SiteId>, Level);

/// A leader's memory of what it found. Forgotten with its leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    since: BTreeMap<Key, Moment>,
}

impl Watch {
    /// Takes in what was found of everything just now. What is new and stands in the way is given
    /// back, to be told at once.
    pub fn see(&mut self, all: &[Looked], now: Moment) -> Vec<Finding> {
        let findings = || all.iter().flat_map(|looked| &looked.findings);
        let mut since = BTreeMap::new();
        let mut new = Vec::new();
        for finding in findings() {
            let known = self.since.get(&key(finding)).copied();
            if known.is_none() && finding.level == Level::Blocks {
                new.push(finding.clone());
            }
            since.entry(key(finding)).or_insert(known.unwrap_or(now));
        }
        self.since = since;
        new
    }

    /// Writes into an answer for how long each thing has been so.
    pub fn date(&self, answer: &mut [Readiness], now: Moment) {
        for service in answer {
            let of_checks = service.checks.iter_mut().flat_map(|looked| &mut looked.findings);
            let of_sites = service.sites.iter_mut().flat_map(|site| &mut site.findings);
            for finding in of_checks.chain(of_sites) {
                let since = self.since.get(&key(finding));
                finding.since_ms = since.map(|since| millis(now.since(*since)));
            }
        }
    }
}

fn key(finding: &Finding) -> Key {
    (
        finding.service.clone(),
        finding.check.clone(),
        finding.instance.clone(),
        finding.site.clone(),
        finding.level,
    )
}
