//! What is asked, and of whom: the hypothesis, and the voters as their leader sees them.

use crate::cluster::Cluster;
use crate::decide::{Finding, finding};
use crate::ids::{InstanceId, SiteId, VoterId};
use crate::report::Severity;
use crate::request::Request;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What might happen, or be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Hypothesis {
    /// Everything at a site falls silent at once.
    LoseSite(SiteId),
    /// Nothing passes between two sites any more, in either direction.
    Cut(SiteId, SiteId),
    /// An instance, its agent and its PostgreSQL stop without ending.
    Freeze(InstanceId),
    /// An operator asks for this.
    Ask(Request),
}

/// The voters, as their leader sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    /// Who leads.
    pub leader: VoterId,
    /// Where each stands, and whether it was heard lately: who was not, does not count.
    pub seats: BTreeMap<VoterId, (Option<SiteId>, bool)>,
}

impl Voters {
    /// Whether a majority is left, and whether the leader is, once everything at `lost` is silent.
    pub(super) fn are_left(&self, lost: Option<&SiteId>) -> (bool, bool) {
        let stands = |(site, heard): &(Option<SiteId>, bool)| {
            *heard && lost.is_none_or(|lost| site.as_ref() != Some(lost))
        };
        let left = self.seats.values().filter(|seat| stands(seat)).count();
        let leads = self.seats.get(&self.leader).is_none_or(stands);
        (left * 2 > self.seats.len(), leads)
    }
}

/// What the hypothesis names and nobody declared.
pub(super) fn unknown(cluster: &Cluster, hypothesis: &Hypothesis) -> Option<Finding> {
    let sites = &cluster.topology.sites;
    let missing = |site: &SiteId| {
        let names: Vec<&str> = sites.keys().map(SiteId::as_str).collect();
        let text = format!("no site `{site}`; there are: {}", names.join(", "));
        (!sites.contains_key(site)).then(|| finding("site", Severity::Blocks, None, text))
    };
    match hypothesis {
        Hypothesis::LoseSite(site) => missing(site),
        Hypothesis::Cut(a, b) if a == b => {
            let text = "a site is not cut from itself: name two";
            Some(finding("site", Severity::Blocks, None, text))
        }
        Hypothesis::Cut(a, b) => missing(a).or_else(|| missing(b)),
        Hypothesis::Freeze(id) => {
            let all = cluster.services.values().flat_map(|s| s.spec.instances.keys());
            let names: Vec<&str> = all.map(InstanceId::as_str).collect();
            let text = format!("no instance `{id}`; there are: {}", names.join(", "));
            (!names.contains(&id.as_str()))
                .then(|| finding("instance", Severity::Blocks, None, text))
        }
        Hypothesis::Ask(_) => None,
    }
}
