//! What a rehearsal tells: lines in order, and how each service would stand.

use crate::decide::Finding;
use crate::event::{Change, ServiceChange};
use crate::ids::{InstanceId, ServiceId};
use crate::time::{Moment, millis};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What would follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// In order.
    pub lines: Vec<Line>,
    /// How each service would stand at the end.
    pub endings: BTreeMap<ServiceId, Ending>,
    /// Why nothing would happen at all; empty where something may.
    pub refused: Vec<Finding>,
}

/// Something that would happen, or be waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How long after the beginning.
    pub after_ms: u64,
    /// To which service.
    pub service: Option<ServiceId>,
    /// What; a change of state, unless `waits` is set.
    pub text: String,
    /// Something stands in the way: the condition's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// How a service would stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its primary.
    pub primary: Option<InstanceId>,
    /// Whether its commits go on.
    pub writes: bool,
    /// For how long they would not have; `None`: without interruption, or for good.
    pub interrupted_ms: Option<u64>,
    /// How long after the beginning a change of primary was begun; `None`: none was.
    #[serde(default)]
    pub started_ms: Option<u64>,
    /// How long after the beginning the new primary was chosen; `None`: nobody was.
    #[serde(default)]
    pub chosen_ms: Option<u64>,
    /// What still stands in the way.
    pub findings: Vec<Finding>,
}

/// When something of interest happened to each service, the first time.
#[derive(Default)]
pub(super) struct Marks {
    stopped: BTreeMap<ServiceId, Moment>,
    resumed: BTreeMap<ServiceId, Moment>,
    started: BTreeMap<ServiceId, Moment>,
    chosen: BTreeMap<ServiceId, Moment>,
}

impl Marks {
    /// A service's commits go on, or not.
    pub(super) fn writes(&mut self, id: &ServiceId, writes: bool, now: Moment) {
        if !writes {
            self.stopped.entry(id.clone()).or_insert(now);
            self.resumed.remove(id);
        } else if self.stopped.contains_key(id) {
            self.resumed.entry(id.clone()).or_insert(now);
        }
    }

    /// A change took effect.
    pub(super) fn changed(&mut self, change: &Change, now: Moment) {
        let Change::Service { service, change, .. } = change else { return };
        if let ServiceChange::Started { .. } = change {
            self.started.entry(service.clone()).or_insert(now);
        } else if let ServiceChange::PrimaryChosen { .. } = change {
            self.chosen.entry(service.clone()).or_insert(now);
        }
    }

    /// The ending of a service, from what was noted since `began`.
    pub(super) fn ending(
        &self,
        id: &ServiceId,
        began: Moment,
        (primary, writes): (Option<InstanceId>, bool),
        findings: Vec<Finding>,
    ) -> Ending {
        let stopped = self.stopped.get(id).zip(self.resumed.get(id));
        let after = |at: &Moment| millis(at.since(began));
        Ending {
            primary,
            writes,
            interrupted_ms: stopped.map(|(from, to)| millis(to.since(*from))),
            started_ms: self.started.get(id).map(after),
            chosen_ms: self.chosen.get(id).map(after),
            findings,
        }
    }
}
